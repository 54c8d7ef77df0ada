"""Peak memory and seconds of `tfl precompute`, and of its merge alone, on few images and on many."""

import statistics
import tempfile
from pathlib import Path

import tyro
from measure import (
    call_in_fresh_process,
    own_peak_bytes,
    peak_bytes_of,
    seconds_of,
    tell,
    tfl_command,
)
from random_cache import write_random_cache
from record import RESULTS, new_result, write_result

QUESTION = "Peak memory of precompute and merge, 6,000 and 60,000 rows"
LIBRARIES = (
    "keras",
    "tensorflow",
    "jax",
    "torch",
    "openvino",
    "tensorflow-datasets",
    "h5py",
    "numpy",
)
# Of CIFAR-10, by the number of images.
SPLITS = {
    6_000: ("--train-split", "train[:5000]", "--test-split", "test[:1000]"),
    60_000: ("--train-split", "train", "--test-split", "test"),
}


def main(
    image_size: int = 32,
    repeats: int = 3,
    counts: tuple[int, ...] = tuple(SPLITS),
    out: Path = RESULTS / "memory.json",
) -> None:
    """Measure real CIFAR-10 through the real ResNet50, and the merge of 2,048 random features.

    Args:
      image_size: Pixels of the network's input; memory is that of a batch, whatever their number.
      repeats: Turns of both, on each number of images.
      counts: Numbers of images: 6000, 60000, or both.
      out: The JSON file to write.
    """
    peaks: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    for turn in range(repeats):
        for count in counts:
            for name, measure in (("precompute", measure_precompute), ("merge", measure_merge)):
                way = f"{name}, {count} rows"
                with tempfile.TemporaryDirectory() as folder:
                    taken, peak = measure(Path(folder), count, image_size)
                peaks.setdefault(way, []).append(peak)
                seconds.setdefault(way, []).append(taken)
                tell(f"{way}, {turn + 1} of {repeats}: {peak / 1e9:.2f} GB, {taken:.1f} s")
    results = {"peak_bytes": peaks, "seconds": seconds}
    settings = {"backbone": "resnet50", "image_size": image_size, "features": 2048}
    findings = {f"growth_of_{quantity}": compute_growth(of, counts) for quantity, of in results.items()}
    write_result(out, new_result(QUESTION, results, LIBRARIES, settings=settings, findings=findings))


def measure_precompute(folder: Path, count: int, image_size: int) -> tuple[float, float]:
    """Return the seconds and the peak bytes of the command."""
    place = ("--cache-dir", folder)
    command = tfl_command("precompute", "--image-size", str(image_size), *SPLITS[count], *place)
    peaks: list[float] = []
    taken = seconds_of(lambda: peaks.append(peak_bytes_of(command)))
    return taken, peaks[0]


def measure_merge(folder: Path, count: int, image_size: int) -> tuple[float, float]:
    """Return the seconds and the peak bytes of writing random shards and merging them, in a fresh process."""
    return call_in_fresh_process(write_and_measure, folder, count)


def write_and_measure(folder: Path, count: int) -> tuple[float, float]:
    """Write a random cache, and return the seconds and this process's peak bytes."""
    taken = seconds_of(lambda: write_random_cache(folder, count))
    return taken, own_peak_bytes()


def compute_growth(measured: dict[str, list[float]], counts: tuple[int, ...]) -> dict[str, float]:
    """Return the growth of each command's median, from the fewest images to the most."""
    growth = {}
    for name in ("precompute", "merge"):
        fewest = statistics.median(measured[f"{name}, {min(counts)} rows"])
        most = statistics.median(measured[f"{name}, {max(counts)} rows"])
        growth[name] = most / fewest
    return growth


if __name__ == "__main__":
    tyro.cli(main)
