"""The findings of an audit as lines of text and tables."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from tfl.reports.numbers import format_share

if TYPE_CHECKING:  # `tfl --help` imports this module: nothing that takes long
    from tfl.auditing.record import Audit, Leak

DUPLICATE_COLUMNS = ("image", "same picture as", "kind", "score")
LABEL_COLUMNS = ("image", "label", "suggested", "score")
NEXT_COLUMNS = ("label next", "perhaps", "score")
MAX_ODD = 5  # of each kind


def format_audit(audit: "Audit") -> Iterator[str]:
    """Describe what an audit found, in counts."""
    counts = ", ".join(f"{count:,} {role}" for role, count in audit.num_rows.items())
    yield f"{audit.cache}: {counts} images, {audit.seconds:.1f} s"
    if not audit.has_pixels:
        yield "the images were not looked at: every pair is `similar`, by features alone, and leaks are not counted"
    yield from _count_duplicates(audit)
    for leak in audit.leaks:
        yield _format_leak(leak)
    suspicious = round(sum(audit.num_rows.values()) * (1 - audit.accuracy))
    yield (
        f"{suspicious:,} labels that the other images contradict (the scores agree with the labels of "
        f"{format_share(audit.accuracy)} of the images)"
    )
    for overlap in audit.overlaps[:MAX_ODD]:
        yield f"  {overlap.first} and {overlap.second}: {overlap.num_rows:,} images, {overlap.share:.2%} of both"
    yield from _list_odd(audit)


def _count_duplicates(audit: "Audit") -> Iterator[str]:
    counts = Counter((pair.kind, pair.role, pair.partner_role) for pair in audit.duplicates)
    if not counts:
        yield "no duplicates"
    for (kind, role, partner_role), count in counts.items():
        yield f"{count:,} pairs `{kind}`, {role} and {partner_role}"


def _format_leak(leak: "Leak") -> str:
    judge = leak.judged_by or "the audit's own scores"
    text = f"{leak.num_leaked:,} of {leak.num_rows:,} {leak.role} images are training images too; accuracy of {judge}: "
    text += format_share(leak.accuracy)
    if leak.accuracy_without is not None:
        text += f" with them, {format_share(leak.accuracy_without)} without"
    return text


def _list_odd(audit: "Audit") -> Iterator[str]:
    counts = Counter(image.kind for image in audit.odd)
    for kind, count in counts.items():
        of_kind = [f"{image.role} {image.id}" for image in audit.odd if image.kind == kind]
        yield f"{count:,} images {kind}: {', '.join(of_kind[:MAX_ODD])}{' ...' if count > MAX_ODD else ''}"


def tabulate_duplicates(audit: "Audit", count: int) -> Iterator[tuple[str, ...]]:
    """Yield the cells of `DUPLICATE_COLUMNS` of the first pairs."""
    for pair in islice(audit.duplicates, count):
        kind = f"{pair.kind}, mirrored" if pair.is_mirrored else pair.kind
        yield f"{pair.role} {pair.id}", f"{pair.partner_role} {pair.partner}", kind, f"{pair.score:.3f}"


def tabulate_labels(audit: "Audit", count: int) -> Iterator[tuple[str, ...]]:
    """Yield the cells of `LABEL_COLUMNS` of the first labels."""
    for label in islice(audit.labels, count):
        yield f"{label.role} {label.id}", label.given, label.suggested, f"{label.score:.3f}"


def tabulate_next(audit: "Audit", count: int) -> Iterator[tuple[str, ...]]:
    """Yield the cells of `NEXT_COLUMNS` of the first unlabelled images."""
    for image in islice(audit.label_next, count):
        yield image.path, image.suggested, f"{image.score:.3f}"
