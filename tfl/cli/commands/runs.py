"""`tfl runs`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tfl.cli.commands.command import AsJson
from tfl.cli.output import print_json, print_lines, print_path, print_table
from tfl.cli.startup import start_keras
from tfl.errors import RunError, SpecError
from tfl.files import paths
from tfl.reports.runs import RUN_COLUMNS, tabulate_runs


@dataclass(frozen=True)
class Runs:
    """List the runs; train one again from its own record; remove some."""

    runs_dir: Path = Path("runs")
    """Folder of the run folders."""
    reproduce: Path | None = None
    """Train this run again, and say whether its numbers are the same."""
    remove: tuple[Path, ...] = ()
    """Run folders that are no longer wanted."""
    as_json: AsJson = False
    """Print JSON."""
    is_resumable: ClassVar[bool] = False

    def run(self) -> None:
        """Reproduce one run, or remove those that are named and list what is left."""
        if self.reproduce is not None and self.remove:
            raise SpecError("--reproduce and --remove are two commands: give them one after the other")
        paths.require_no_file(self.runs_dir)
        start_keras()
        if self.reproduce is not None:
            _reproduce(self.reproduce)
        else:
            self._list()

    def _list(self) -> None:
        from tfl.runs.folder import remove_run
        from tfl.runs.listing import list_runs

        for folder in self.remove:
            remove_run(folder)
        found = list_runs(self.runs_dir)
        if self.as_json:
            print_json(found)
        elif found:
            print_table(RUN_COLUMNS, tabulate_runs(found))
        else:
            print_lines(f"no runs in {self.runs_dir}; `tfl train CACHE` makes one")


def _reproduce(folder: Path) -> None:
    from tfl.runs.reproduction import reproduce

    again, differences = reproduce(folder)
    if differences:
        raise RunError(f"{again} is not what {folder} was:", *(f"  {line}" for line in differences))
    print_lines(f"every number of {folder} again")
    print_path(again)
