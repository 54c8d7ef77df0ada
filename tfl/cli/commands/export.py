"""`tfl export`."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from tyro.conf import Positional

from tfl.artefacts.formats import require_format
from tfl.cli.output import print_lines, print_path
from tfl.cli.progress import show_progress
from tfl.cli.startup import start_keras
from tfl.reports.artefacts import format_parity
from tfl.specs import Artefact


class FormatName(str):
    """The name of a format; the command line offers those that are registered when it is parsed."""

    __slots__ = ()


class QuantizationName(str):
    """The name of a quantization; the command line offers those of the formats that are registered."""

    __slots__ = ()


@dataclass(frozen=True)
class ExportFlags(Artefact):
    """What an exported model is."""

    format: FormatName = FormatName("saved-model")
    """A TensorFlow SavedModel, a `.keras` file, ONNX, LiteRT, OpenVINO IR, or a PyTorch program (`.pt2`)."""
    quantize: QuantizationName = QuantizationName("none")
    """`float16` stores weights in half the room; `int8` (litert alone) computes with them too, calibrated on images."""

    def make_plain(self) -> Artefact:
        """Return the same with plain texts as names."""
        return Artefact(**asdict(self) | {"format": str(self.format), "quantize": str(self.quantize)})


@dataclass(frozen=True)
class Export:
    """Write a model that takes raw images, verified in a fresh process; its folder is the last line."""

    run_folder: Positional[Path]
    """The folder that `tfl train` made."""
    out: Path
    """The folder to make."""
    dataset: str = ""
    """Where the cache's dataset is now, if it has moved."""
    weights: str = ""
    """Where the backbone's weights are now, if they have moved."""
    artefact: ExportFlags = ExportFlags()
    is_resumable: ClassVar[bool] = False

    def run(self) -> None:
        """Export the run and print how far its answers are from training's."""
        artefact = self.artefact.make_plain()
        require_format(artefact)
        start_keras()
        from tfl.artefacts.export import export

        with show_progress() as on_progress:
            parity = export(self.run_folder, self.out, self.dataset, self.weights, artefact, on_progress)
        print_lines(f"{self.artefact.format} {format_parity(parity)}")
        print_path(self.out)
