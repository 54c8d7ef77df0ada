"""`tfl quickstart`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tfl.cli.output import RowPrinter, print_lines, print_path
from tfl.cli.progress import show_progress
from tfl.cli.startup import start_keras
from tfl.files import paths
from tfl.reports.artefacts import format_parity
from tfl.reports.metrics import format_metrics
from tfl.specs import Settings

FULL_JOB = 'tfl export "$(tfl train "$(tfl precompute)" | tail -1)" --out saved_model'


@dataclass(frozen=True)
class Quickstart:
    """Run the whole job on a slice of real CIFAR-10, in minutes on two CPU cores."""

    settings: Settings = Settings()
    runs_dir: Path = Path("runs")
    """Folder of the run folders."""
    is_resumable: ClassVar[bool] = True

    def run(self) -> None:
        """Run the job and print what it measured."""
        paths.require_no_file(self.settings.cache_dir)
        paths.require_no_file(self.runs_dir)
        start_keras()
        from tfl.cli.quickstart import quickstart

        with show_progress() as on_progress:
            summary = quickstart(self.settings, self.runs_dir, on_progress, RowPrinter().print_record)
        seconds = (f"{stage} {seconds:.1f}" for stage, seconds in summary.seconds.items())
        print_lines("", *format_metrics(summary.metrics), "")
        print_lines(f"seconds     {', '.join(seconds)}")
        print_lines(f"cache       {summary.cache}")
        print_lines(f"confusion   {summary.run / 'confusion_matrix.png'}")
        print_lines(f"SavedModel  {summary.saved_model} {format_parity(summary.parity)}")
        print_lines(f"all 60,000 images at 224 pixels: {FULL_JOB}")
        print_path(summary.run)
