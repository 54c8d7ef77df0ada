"""The findings of an audit as a CSV file, which `precompute --exclude` and a table of images can use."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tfl.auditing.record import Audit
from tfl.errors import SpecError
from tfl.specs import Role

COLUMNS = ("id", "path", "role", "kind", "score", "partner", "suggested")


class Finding(NamedTuple):
    """A row of the file; `kind` is that of a duplicate or of an odd image, or `label`; `path` may be empty."""

    id: str
    path: str
    role: Role
    kind: str
    score: float
    partner: str = ""
    suggested: str = ""


def list_findings(audit: Audit) -> Iterator[Finding]:
    """Yield all findings: duplicates, labels, odd images, each with the most certain first."""

    def path_of(id_: str) -> str:
        return str(Path(audit.folder, id_)) if audit.folder else ""

    for pair in audit.duplicates:
        yield Finding(pair.id, path_of(pair.id), pair.role, pair.kind, pair.score, pair.partner)
    for label in audit.labels:
        yield Finding(label.id, path_of(label.id), label.role, "label", label.score, "", label.suggested)
    for image in audit.odd:
        yield Finding(image.id, path_of(image.id), image.role, image.kind, image.score)


def select_findings(audit: Audit, roles: tuple[Role, ...], kinds: tuple[str, ...], top: int) -> list[Finding]:
    """Return the findings of some roles and kinds (all, if none is named), of each kind the first `top` (0: all)."""
    counts: dict[str, int] = {}
    chosen = []
    for finding in list_findings(audit):
        if (roles and finding.role not in roles) or (kinds and finding.kind not in kinds):
            continue
        counts[finding.kind] = counts.get(finding.kind, 0) + 1
        if not top or counts[finding.kind] <= top:
            chosen.append(finding)
    return chosen


def require_new_table(path: Path) -> None:
    """Refuse a file that exists, or that is no CSV file by its name.

    Raises:
      SpecError: it is.
    """
    if path.suffix.lower() != ".csv":
        raise SpecError(f"--out is a .csv file, got {path}")
    if path.exists() or path.is_symlink():
        raise SpecError(f"{path} exists already; remove it, or name another file with --out")


def write_table(path: Path, findings: list[Finding]) -> None:
    """Write findings as a CSV file in UTF-8 that did not exist before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(findings)
