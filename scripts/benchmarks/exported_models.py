"""Size, start, latency, throughput, parity and accuracy of every format of an exported model."""

import contextlib
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from measure import (
    attempt,
    measure_in_turns,
    median_ratio,
    run_command,
    seconds_of,
    tell,
    tfl_command,
)
from record import RESULTS, new_result, write_result

QUESTION = "Exported models: size, start, latency and throughput of each format"
LIBRARIES = (
    "tensorflow",
    "keras",
    "onnxruntime",
    "openvino",
    "ai-edge-litert",
    "torch",
    "tf2onnx",
    "numpy",
)
# Flags of `tfl export`, by what the way is called; ratios are of the first one.
FORMATS: dict[str, tuple[str, ...]] = {
    "saved-model, not folded": ("--no-fold-batch-norm",),
    "saved-model": (),
    "saved-model, float16": ("--quantize", "float16"),
    "keras": ("--format", "keras"),
    "onnx": ("--format", "onnx"),
    "onnx, float16": ("--format", "onnx", "--quantize", "float16"),
    "openvino": ("--format", "openvino"),
    "openvino, float16": ("--format", "openvino", "--quantize", "float16"),
    "litert": ("--format", "litert"),
    "litert, float16": ("--format", "litert", "--quantize", "float16"),
    "litert, int8": ("--format", "litert", "--quantize", "int8"),
    "torch": ("--format", "torch"),
}
BASE = next(iter(FORMATS))
CALLS = {1: 8, 32: 1}  # in one repeat, by batch size
SIDE = 32  # pixels of the images that are sent

LogitsOf = Callable[[np.ndarray], np.ndarray]
Served = Mapping[str, LogitsOf]


def main(
    run: tyro.conf.Positional[Path],
    folder: tyro.conf.Positional[Path],
    formats: tuple[str, ...] = tuple(FORMATS),
    repeats: int = 3,
    accuracy_images: int = 500,
    out: Path = RESULTS / "exported_models.json",
) -> None:
    """Export a run in every format, and measure each in a process of its own, its runtime as it comes.

    Images of 32 pixels go through a pipe, and logits come back. A format that fails is left out.

    Args:
      run: The folder that `tfl train` left.
      folder: Where the exported models stay; one that is there already, of the same run, is not made again.
      formats: Names of ways, such as `onnx` or `litert, int8`.
      repeats: Turns of everything.
      accuracy_images: First test images of CIFAR-10 that accuracy is measured on; 0 for a run on another dataset.
      out: The JSON file to write.
    """
    failed: dict[str, str] = {}
    places: dict[str, Path] = {}
    for name in formats:
        place = folder / name.replace(", ", "-").replace(" ", "-")
        if attempt(name, functools.partial(export_once, run, place, FORMATS[name]), failed):
            places[name] = place
    results = {
        "bytes": {name: [float(count_bytes(place))] for name, place in places.items()},
        "start_seconds": measure_starts(places, repeats, failed),
    }
    findings: dict[str, Any] = {"parity": {name: read_parity(place) for name, place in places.items()}}
    with contextlib.ExitStack() as stack:
        served = {name: stack.enter_context(open_model(place)) for name, place in places.items()}
        for size in CALLS:
            results[f"seconds_of_batch_of_{size}"] = measure_calls(served, size, repeats, failed)
        if accuracy_images:
            findings["accuracy"] = measure_accuracies(served, accuracy_images, failed)
    findings["median_throughput_over_first"] = compare_throughput(results["seconds_of_batch_of_32"])
    settings = {
        "run": run.name,
        "pixels": SIDE,
        "calls_in_a_repeat": CALLS,
        "accuracy_images": accuracy_images,
    }
    write_result(
        out,
        new_result(QUESTION, results, LIBRARIES, settings=settings, findings=findings, failed=failed),
    )


def export_once(run: Path, place: Path, flags: tuple[str, ...]) -> bool:
    """Export unless the same run is there already.

    Raises:
      ValueError: another run was exported there.
    """
    note = place.with_name(f"{place.name}.run")
    whose = str(run.resolve())
    if place.exists():
        found = note.read_text(encoding="utf-8") if note.exists() else "another run"
        if found != whose:
            raise ValueError(f"{place} was exported from {found}; name another folder for {run}")
        return True
    tell(f"exporting {place.name}")
    place.parent.mkdir(parents=True, exist_ok=True)
    run_command(tfl_command("export", run, "--out", place, *flags))
    note.write_text(whose, encoding="utf-8")
    return True


def count_bytes(place: Path) -> int:
    """Return the size of all files of an exported model."""
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())


def read_parity(place: Path) -> Any:
    """Return what the export noted of its parity."""
    for path in sorted(place.rglob("tfl.json")):
        return json.loads(path.read_text(encoding="utf-8")).get("parity")
    return None


def open_model(place: Path) -> contextlib.AbstractContextManager[LogitsOf]:
    """Open an exported model in a fresh process."""
    from tfl.artefacts import formats
    from tfl.artefacts.fresh_process import open_in_fresh_process
    from tfl.artefacts.manifest import read_manifest

    kind = formats.FORMATS[read_manifest(place).artefact.format]
    return open_in_fresh_process(place, kind)


def measure_starts(places: Mapping[str, Path], repeats: int, failed: dict[str, str]) -> dict[str, list[float]]:
    """Measure the seconds from the start of a process to its first logits."""
    measures = {name: functools.partial(seconds_of, functools.partial(start, place)) for name, place in places.items()}
    return measure_in_turns(measures, repeats, failed)


def start(place: Path) -> None:
    """Start a process, and wait for the logits of one image."""
    with open_model(place) as logits_of:
        logits_of(random_images(1))


def random_images(count: int) -> np.ndarray:
    """Return random images, uint8 `(count, 32, 32, 3)`."""
    return np.random.default_rng(0).integers(0, 255, (count, SIDE, SIDE, 3), np.uint8)


def measure_calls(served: Served, size: int, repeats: int, failed: dict[str, str]) -> dict[str, list[float]]:
    """Measure the seconds of a batch in every process; one batch before them is not counted."""
    images = random_images(size)
    measures = {}
    for name, logits_of in served.items():
        attempt(name, functools.partial(logits_of, images), failed)
        if name not in failed:
            measures[name] = functools.partial(seconds_of_call, logits_of, images, CALLS[size])
    return measure_in_turns(measures, repeats, failed)


def seconds_of_call(logits_of: LogitsOf, images: np.ndarray, calls: int) -> float:
    """Return the seconds of one call, the mean of several."""

    def call_often() -> None:
        for _ in range(calls):
            logits_of(images)

    return seconds_of(call_often) / calls


def compare_throughput(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    """Return the median ratio of the first format's seconds to each one's."""
    base = seconds.get(BASE)
    return {name: median_ratio(base, of) for name, of in seconds.items()} if base else {}


def measure_accuracies(served: Served, count: int, failed: dict[str, str]) -> dict[str, float]:
    """Measure each model's accuracy on the first test images of CIFAR-10."""
    images, labels = read_test_images(count)
    accuracies: dict[str, float] = {}
    for name, logits_of in served.items():
        accuracy = attempt(
            f"{name}, accuracy",
            functools.partial(measure_accuracy, logits_of, images, labels),
            failed,
        )
        if accuracy is not None:
            accuracies[name] = accuracy
            tell(f"{name}: accuracy {accuracy:.2%}")
    return accuracies


def read_test_images(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first test images, uint8 `(n, h, w, 3)`, and their labels `(n,)`."""
    from tfl import datasets
    from tfl.specs import DatasetSpec

    source = datasets.open_dataset(DatasetSpec())
    examples = list(datasets.require_good_images(source.examples("test", 0, count)))
    images = np.stack([example.image for example in examples])
    return images, np.asarray([example.label for example in examples])


def measure_accuracy(logits_of: LogitsOf, images: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of images whose largest logit is that of their label."""
    chosen = [logits_of(batch).argmax(axis=1) for batch in batches_of(images)]
    return float((np.concatenate(chosen) == labels).mean())


def batches_of(images: np.ndarray, size: int = 32) -> Iterator[np.ndarray]:
    """Yield the images in batches."""
    for first in range(0, len(images), size):
        yield images[first : first + size]


if __name__ == "__main__":
    tyro.cli(main)
