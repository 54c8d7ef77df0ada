"""`tfl fetch`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tyro.conf import Positional

from tfl.cli.output import print_lines
from tfl.cli.startup import start_keras
from tfl.errors import SpecError


@dataclass(frozen=True)
class Fetch:
    """Download datasets and weights, verified by digest."""

    names: Positional[tuple[str, ...]] = ("cifar10", "resnet50")
    """Datasets and backbones."""
    npz: Path | None = None
    """Also write the dataset to this .npz file, for machines without TensorFlow."""
    is_resumable: ClassVar[bool] = False

    def run(self) -> None:
        """Fetch each name and print what is there now."""
        start_keras()
        from tfl.backbones import is_backbone
        from tfl.extraction.fetch import fetch

        sets = [name for name in self.names if not is_backbone(name)]
        if self.npz is not None and len(sets) != 1:
            raise SpecError(f"--npz writes one dataset, got {len(sets)}: {' '.join(sets) or 'none'}")
        for name in self.names:
            print_lines(fetch(name, self.npz if name in sets else None))
