"""`tfl audit`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import Positional, arg

from tfl.cli.commands.command import AsJson
from tfl.cli.output import print_json, print_lines, print_notes, print_table
from tfl.cli.startup import start_keras
from tfl.errors import SpecError
from tfl.reports.audit import (
    DUPLICATE_COLUMNS,
    LABEL_COLUMNS,
    NEXT_COLUMNS,
    format_audit,
    tabulate_duplicates,
    tabulate_labels,
    tabulate_next,
)
from tfl.specs import Role

Kind = Literal["same", "near", "similar", "label", "flat", "tiny", "far"]


@dataclass(frozen=True)
class Audit:
    """Find leaked, duplicate, mislabelled and odd images of a cache; nothing is deleted or changed."""

    cache: Positional[Path]
    """The file that `tfl precompute` made."""
    run_folder: Annotated[Path | None, arg(name="run")] = None
    """A run on this cache: its head judges what leaked images do to the accuracy."""
    dataset: str = ""
    """Where the dataset is now; found by the cache if empty."""
    unlabelled: Path | None = None
    """Folder of images without labels, to rank by what their labels would tell; needs the backbone."""
    max_memory: float = 0.0
    """Bound on the arrays of the audit in GiB; 0 for three quarters of the memory that is free."""
    out: Path | None = None
    """CSV file to write the findings to: id, path, role, kind, score, partner, suggested."""
    roles: tuple[Role, ...] = ()
    """Roles whose images the CSV file lists; all if none is named."""
    kinds: tuple[Kind, ...] = ()
    """Kinds of findings in the CSV file; all if none is named."""
    top: int = 0
    """Findings of each kind in the CSV file, the most certain; 0 for all."""
    show: int = 20
    """Lines of each table that are printed."""
    list_all: Annotated[bool, arg(name="all")] = False
    """Also list every pair of neighbours and the label of every row."""
    as_json: AsJson = False
    """Print JSON."""
    is_resumable: ClassVar[bool] = False

    def run(self) -> None:
        """Audit the cache; print the findings, and write them to a file."""
        if self.top < 0 or self.show < 0 or self.max_memory < 0:
            raise SpecError(
                f"top, show and max_memory are at least 0, got {self.top}, {self.show} and {self.max_memory:g}"
            )
        start_keras()
        from tfl.auditing import table
        from tfl.auditing.audit import audit

        if self.out is not None:
            table.require_new_table(self.out)
        found = audit(self.cache, self.run_folder, self.list_all, self.dataset, self.max_memory, self.unlabelled)
        if self.out is not None:
            chosen = table.select_findings(found, self.roles, self.kinds, self.top)
            table.write_table(self.out, chosen)
            print_notes(f"{len(chosen):,} findings written to {self.out}")
        if self.as_json:
            print_json(found)
            return
        print_lines(*format_audit(found), "")
        print_table(DUPLICATE_COLUMNS, tabulate_duplicates(found, self.show))
        print_lines("")
        print_table(LABEL_COLUMNS, tabulate_labels(found, self.show))
        if found.label_next:
            print_lines("")
            print_table(NEXT_COLUMNS, tabulate_next(found, self.show))
