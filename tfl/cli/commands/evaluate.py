"""`tfl evaluate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tyro.conf import Positional

from tfl.cli.commands.command import AsJson
from tfl.cli.output import print_json, print_lines
from tfl.cli.startup import start_keras
from tfl.reports.metrics import format_metrics
from tfl.reports.runs import format_run_comparison


@dataclass(frozen=True)
class Evaluate:
    """Print the metrics of a run on its cache's test rows; of two runs, whether they differ by more than chance."""

    run_folder: Positional[Path]
    """The folder that `tfl train` made."""
    other: Positional[Path | None] = None
    """A second run, to compare with the first (McNemar's test)."""
    as_json: AsJson = False
    """Print JSON."""
    is_resumable: ClassVar[bool] = False

    def run(self) -> None:
        """Evaluate one run, or compare two."""
        start_keras()
        from tfl.runs.evaluation import compare_runs, evaluate

        if self.other is None:
            metrics = evaluate(self.run_folder)
            print_json(metrics) if self.as_json else print_lines(*format_metrics(metrics))
        else:
            comparison = compare_runs(self.run_folder, self.other)
            print_json(comparison) if self.as_json else print_lines(*format_run_comparison(comparison))
