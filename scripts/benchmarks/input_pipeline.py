"""Images/s through all of `tfl precompute` but the network: TFDS, .npz, PNG and JPEG files."""

import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from measure import attempt, measure_in_turns, rate_between, seconds_of, tell
from PIL import Image
from record import RESULTS, new_result, write_result

QUESTION = "Input pipeline throughput of precompute, network stubbed out"
LIBRARIES = ("tensorflow-datasets", "tensorflow", "pillow", "numpy", "h5py")
NUM_FEATURES = 2048
# A photograph is tiled from so many images of CIFAR-10: 384 x 512 pixels.
TILES = (12, 16)
# Few images and more of each source: the difference has no opening of the dataset in it.
COUNTS = {
    "TFDS": (1_000, 21_000),
    "npz": (1_000, 21_000),
    "folder of PNG files, 32 x 32": (1_000, 11_000),
    "folder of JPEG files, 512 x 384": (50, 1_050),
}


def main(repeats: int = 5, share: float = 1.0, out: Path = RESULTS / "input_pipeline.json") -> None:
    """Measure how many images/s reach a network that costs nothing: the bound on a fast GPU.

    Args:
      repeats: Turns of all sources.
      share: Share of the images to take; 1 takes 11,000 PNG files and 1,050 JPEG files.
      out: The JSON file to write.
    """
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        counts = {name: (round(few * share), round(more * share)) for name, (few, more) in COUNTS.items()}
        sources = write_sources(folder, counts)
        measures: dict[str, Callable[[], float]] = {
            name: functools.partial(measure_rate, sources[name], *counts[name], folder) for name in sources
        }
        with stubbed_network():
            for name, measure in measures.items():
                attempt(name, measure, failed)
            working = {name: measure for name, measure in measures.items() if name not in failed}
            rates = measure_in_turns(working, repeats, failed)
    settings = {
        "images": {name: more - few for name, (few, more) in counts.items()},
        "batch_size": 256,
    }
    write_result(
        out,
        new_result(QUESTION, {"images_per_second": rates}, LIBRARIES, settings=settings, failed=failed),
    )


def write_sources(folder: Path, counts: dict[str, tuple[int, int]]) -> dict[str, str]:
    """Write CIFAR-10 in each form, and return what `--dataset` is given."""
    from tfl import datasets
    from tfl.specs import DatasetSpec

    source = datasets.open_dataset(DatasetSpec())
    npz, png, jpeg = folder / "cifar10.npz", folder / "png", folder / "jpeg"
    tell("writing cifar10.npz")
    datasets.write_npz(source, npz)
    num_png, num_jpeg = (
        counts["folder of PNG files, 32 x 32"][1],
        counts["folder of JPEG files, 512 x 384"][1],
    )
    num_read = max(num_png, TILES[0] * TILES[1])
    images = [example.image for example in datasets.require_good_images(source.examples("train", 0, num_read))]
    tell(f"writing {num_png:,} PNG and {num_jpeg:,} JPEG files")
    for row in range(num_png):
        Image.fromarray(images[row]).save(_file(png, row, "png"))
    for row in range(num_jpeg):
        Image.fromarray(tile_photograph(images, row)).save(_file(jpeg, row, "jpg"), quality=90)
    places = ("cifar10", str(npz), str(png), str(jpeg))
    return dict(zip(COUNTS, places, strict=True))


def _file(folder: Path, row: int, ending: str) -> Path:
    """Return the path of an image of one of two classes; its folder is made."""
    of_class = folder / "train" / ("odd" if row % 2 else "even")
    of_class.mkdir(parents=True, exist_ok=True)
    return of_class / f"{row}.{ending}"


def tile_photograph(images: Sequence[np.ndarray], first: int) -> np.ndarray:
    """Return an image as large as a photograph: rows of small ones, from the one at `first` on."""
    high, wide = TILES
    chosen = [images[(first + step) % len(images)] for step in range(high * wide)]
    tiles = np.stack(chosen).reshape(high, wide, 32, 32, 3)
    return tiles.swapaxes(1, 2).reshape(high * 32, wide * 32, 3)


@contextmanager
def stubbed_network() -> Iterator[None]:
    """Give `precompute` random features at once; images are still stacked, as for any network."""
    from unittest.mock import patch

    from tfl import engine

    features = np.random.default_rng(0).random((1024, NUM_FEATURES), np.float32)

    def start(self: Any, images: Sequence[np.ndarray], view: str) -> Callable[[], np.ndarray]:
        if len({image.shape for image in images}) == 1:
            np.stack(images)
        return features[: len(images)].copy

    def present(self: Any, image: np.ndarray, view: str) -> np.ndarray:
        return image

    with patch.multiple(engine.Forward, __init__=lambda *_: None, start=start, presented=present):
        yield


def measure_rate(dataset: str, few: int, more: int, folder: Path) -> float:
    """Return the images/s from few images to more."""
    seconds = {count: seconds_of(functools.partial(precompute, dataset, count, folder)) for count in (few, more)}
    return rate_between(seconds)


def precompute(dataset: str, count: int, folder: Path) -> None:
    """Precompute the first rows of a dataset into a cache that is removed at once."""
    from tfl.extraction.precompute import precompute
    from tfl.specs import DatasetSpec, FeatureSpec, Settings

    with tempfile.TemporaryDirectory(dir=folder) as cache:
        spec = DatasetSpec(dataset, f"train[:{count}]", "", "")
        # A slice of a folder in rows may be of one class.
        settings = Settings(cache_dir=Path(cache), batch_size=256, allow_missing_classes=True)
        precompute(FeatureSpec(weights="random"), spec, settings)


if __name__ == "__main__":
    tyro.cli(main)
