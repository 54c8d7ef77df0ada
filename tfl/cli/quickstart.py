"""The whole job on a slice of real CIFAR-10, in minutes on two CPU cores."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tfl.artefacts.export import Parity, export
from tfl.extraction.fetch import fetch
from tfl.extraction.precompute import precompute
from tfl.heads.trials import Epoch, Listeners
from tfl.machine.progress import Progress
from tfl.runs.folder import open_run
from tfl.runs.metrics import RoleMetrics
from tfl.runs.training import train
from tfl.specs import DatasetSpec, FeatureSpec, Settings

# Chosen by the time it takes: 5,000 images of 128 pixels are about 80 seconds on two cores, and enough for 85 %.
FEATURES = FeatureSpec(image_size=128)
DATASET = DatasetSpec("tfds:cifar10", train_split="train[:4000]", test_split="test[:1000]")


@dataclass(frozen=True)
class Summary:
    """What a quickstart left and measured.

    Attributes:
      metrics: of the test rows.
      seconds: wall time by stage, in order.
    """

    cache: Path
    run: Path
    saved_model: Path
    metrics: RoleMetrics
    parity: Parity
    seconds: dict[str, float]


def quickstart(
    settings: Settings = Settings(),
    runs_dir: Path = Path("runs"),
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Summary:
    """Fetch CIFAR-10 and ResNet50, cache the features of a slice, train the reference head, and export it.

    After a kill, the same call resumes with the features that are finished.
    """
    seconds: dict[str, float] = {}
    started = time.monotonic()

    def lap(stage: str) -> None:
        nonlocal started
        seconds[stage], started = time.monotonic() - started, time.monotonic()

    fetch(DATASET.dataset)
    fetch(FEATURES.backbone)
    lap("fetch")
    cache = precompute(FEATURES, DATASET, settings, on_progress)
    lap("precompute")
    folder = train(cache, runs_dir=runs_dir, listeners=Listeners(on_epoch))
    lap("train")
    parity = export(folder, folder / "saved_model")
    lap("export")
    return Summary(cache, folder, folder / "saved_model", open_run(folder).metrics["test"], parity, seconds)
