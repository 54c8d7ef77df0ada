"""`tfl compare`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from tyro.conf import Positional

from tfl.cli.commands.command import AsJson
from tfl.cli.output import print_json, print_lines
from tfl.cli.progress import show_progress
from tfl.cli.startup import start_keras
from tfl.heads import Reference


@dataclass(frozen=True)
class Compare:
    """Compare ours with the PyTorch reference on the same images, rows and weights: one table."""

    cache: Positional[Path]
    """The file that `tfl precompute` made."""
    images: int = 64
    """Training images, and as many test images, for the programs that do not cache."""
    epochs: int = 10
    """Epochs of every program."""
    weights: Literal["keras", "torchvision"] = "keras"
    """Weights of the reference: Keras', ported, or torchvision's own, where they are at hand."""
    out: Path | None = None
    """PNG file for the seconds over the epochs."""
    as_json: AsJson = False
    """Print JSON."""
    is_resumable: ClassVar[bool] = False

    def run(self) -> None:
        """Run every program in turns and print the table."""
        start_keras()
        from tfl.comparison.compare import compare
        from tfl.reports.comparison import format_findings

        recipe = Reference(epochs=self.epochs)
        with show_progress() as on_progress:
            found = compare(self.cache, self.images, recipe, self.weights, self.out, on_progress)
        if self.as_json:
            print_json(found)
        else:
            print_lines(*format_findings(found))
