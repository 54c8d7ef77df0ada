"""Caches as lines of text: a table of them, and one described."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tfl.reports.columns import pad_names
from tfl.reports.numbers import format_duration

if TYPE_CHECKING:  # the package imports h5py, and `tfl --help` imports this module
    from collections.abc import Sequence

    from tfl.cache import Inspection, NetworkFile, Overview, PartialInspection

MAX_CLASSES_SHOWN = 20
CACHE_COLUMNS = ("cache", "bytes", "made", "holds")
NETWORK_COLUMNS = ("quantised network", "bytes", "computes")


def tabulate_caches(caches: "Sequence[Overview]") -> Iterator[tuple[str, ...]]:
    """Yield the cells of `CACHE_COLUMNS` of each cache."""
    for cache in caches:
        features = cache.spec.features
        made = f"{cache.finished / max(1, sum(cache.rows.values())):.0%}"
        rows = ", ".join(f"{role} {count:,}" for role, count in cache.rows.items())
        columns = "imported" if features.is_imported else f"{' '.join(features.layers)} by {' '.join(features.pooling)}"
        yield cache.name, f"{cache.bytes:,}", made, f"{rows}; {' '.join(cache.spec.views)}; {columns}"


def tabulate_networks(networks: "Sequence[NetworkFile]") -> Iterator[tuple[str, ...]]:
    """Yield the cells of `NETWORK_COLUMNS` of each quantised network."""
    for network in networks:
        yield network.name, f"{network.bytes:,}", ", ".join(network.used_by) or "no cache"


def format_cache(inspection: "Inspection | PartialInspection") -> Iterator[str]:
    """Describe a cache file, or an unfinished one."""
    from tfl.cache import Inspection

    yield f"{inspection.path}: {inspection.bytes:,} bytes, format {inspection.format}"
    yield f"fingerprint  {inspection.fingerprint}"
    for name, part in (("features", inspection.spec.features), ("dataset", inspection.spec.dataset)):
        stated = asdict(part).keys() - part.list_omitted_fields()
        values = {key: getattr(part, key) for key in sorted(stated)}
        yield f"{name:<11}  {', '.join(f'{key} {_format_value(value)}' for key, value in values.items() if value)}"
    yield f"{'views':<11}  {' '.join(inspection.spec.views)}"
    yield from _describe_file(inspection) if isinstance(inspection, Inspection) else _describe_partial(inspection)


def _describe_file(inspection: "Inspection") -> Iterator[str]:
    yield f"{'made':<11}  {_format_making(inspection.provenance)}"
    skipped = inspection.provenance.get("skipped", [])
    reasons = [image["reason"] for image in skipped]
    yield from _format_skipped(reasons, inspection.provenance.get("num_skipped", len(skipped)))
    shape = f"{inspection.num_features:,} {inspection.spec.features.feature_dtype}"
    rows = ", ".join(f"{role} {count:,} x {shape}" for role, count in inspection.rows.items())
    yield f"{'rows':<11}  {rows}"
    yield from _count_classes(inspection)
    yield f"{'checked':<11}  {inspection.checked}"


def _count_classes(inspection: "Inspection") -> Iterator[str]:
    """Yield the rows of each class, by role."""
    class_names = inspection.class_names[:MAX_CLASSES_SHOWN]
    for shown, name in zip(pad_names(class_names), class_names, strict=True):
        counts = (f"{role} {of_role[name]:>7,}" for role, of_role in inspection.class_counts.items())
        yield f"  {shown}  " + "  ".join(counts)
    num_more = len(inspection.class_names) - len(class_names)
    if num_more:
        yield f"  ... and {num_more} more classes (--json lists all)"


def _describe_partial(inspection: "PartialInspection") -> Iterator[str]:
    yield f"{'made with':<11}  {_format_making(inspection.made_with)}"
    yield from _format_skipped([image.reason for image in inspection.skipped], inspection.num_skipped)
    for role, rows in inspection.rows.items():
        share = rows.finished / rows.total
        yield f"{'rows':<11}  {role} {rows.finished:,} of {rows.total:,} finished ({share:.0%})"
    left = "not known yet" if inspection.seconds_left is None else format_duration(inspection.seconds_left)
    yield f"{'time':<11}  {format_duration(inspection.seconds)} so far, {left} left at the same rate"
    state = (
        f"being made by {inspection.held_by}" if inspection.held_by else "not being made; the same command resumes it"
    )
    yield f"{'now':<11}  {state}"


def _format_making(made: dict[str, Any]) -> str:
    """Return in one line how a cache was made, without the images that were skipped."""
    shown = {key: value for key, value in made.items() if key not in ("skipped", "num_skipped") and value != {}}
    return ", ".join(f"{key} {_format_value(value)}" for key, value in shown.items())


def _format_skipped(reasons: list[str], count: int) -> Iterator[str]:
    """Yield the number of images that were skipped, and the reasons for the first of them."""
    if not count:
        return
    yield f"{'left out':<11}  {count:,} bad images:"
    shown = reasons[:MAX_CLASSES_SHOWN]
    yield from (f"  {reason}" for reason in shown)
    if count > len(shown):
        yield f"  ... and {count - len(shown):,} more"


def _format_value(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + " ".join(f"{key} {_format_value(inner)}" for key, inner in value.items()) + ")"
    return " ".join(map(_format_value, value)) if isinstance(value, list | tuple) else str(value)
