"""Images/s from uint8 pixels to features in main memory: the engines of tfl, naive Keras, PyTorch, in turns."""

import functools
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from measure import (
    attempt,
    environment,
    measure_in_turns,
    median_ratio,
    rate_between,
    run_command,
    seconds_of,
    tell,
    tfl_command,
)
from record import RESULTS, new_result, write_result
from ways import (
    NAIVE,
    NO_PREALLOCATION,
    Batch,
    Makers,
    Network,
    Way,
    is_processor,
    make_engine,
    makers_of_all,
)

QUESTION = "Extraction of ResNet50 features at 224 pixels, by engine and arithmetic"
LIBRARIES = ("keras", "tensorflow", "jax", "jaxlib", "openvino", "torch", "torchvision", "numpy")
SHARD_ROWS = 1024
ACCELERATOR_BATCHES, PROCESSOR_BATCHES = 20, 2
# The command is timed on few images and on more: the difference has no start-up in it.
ACCELERATOR_IMAGES, PROCESSOR_IMAGES = (2_000, 42_000), (128, 640)


def main(
    dataset: str = "cifar10",
    repeats: int = 5,
    quick: bool = False,
    command_repeats: int = 3,
    out: Path = RESULTS / "extraction.json",
) -> None:
    """Measure the images/s of every engine and arithmetic of this machine, of naive Keras, and of PyTorch.

    Every way is given batch after batch, and only then waited for: an accelerator does not wait for the program. A way
    that fails is left out, and the result says why.

    Args:
      dataset: A TFDS name, or an .npz file where there is no TensorFlow.
      repeats: Turns of all ways.
      quick: Leave torch.compile out, which needs more than half a minute to begin.
      command_repeats: Repeats of the whole command `tfl precompute` beside the bare forward pass; 0 for none.
      out: The JSON file to write.
    """
    with environment(NO_PREALLOCATION):
        rates, failed, settings = measure_ways(dataset, repeats, Network(), is_quick=quick)
        commands = compare_with_command(dataset, command_repeats, failed)
    naive = rates.get(NAIVE, [])
    over_naive = {name: median_ratio(of, naive) for name, of in rates.items()} if naive else {}
    results = {"images_per_second": rates, **commands}
    findings = {"median_over_keras_predict": over_naive}
    write_result(
        out,
        new_result(QUESTION, results, LIBRARIES, settings=settings, findings=findings, failed=failed),
    )


def measure_ways(
    dataset: str, repeats: int, network: Network, is_quick: bool = False, num_batches: int = 0
) -> tuple[dict[str, list[float]], dict[str, str], dict[str, Any]]:
    """Return the images/s of each way by turn, the ways that failed, and what was the same for all.

    Args:
      is_quick: leave torch.compile out.
      num_batches: in one turn; 0 for as many as suit the machine.
    """
    from tfl import engine

    images, batch_size = read_images(dataset, num_batches)
    batches = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    failed: dict[str, str] = {}
    with engine.keep_freed_memory():  # as `tfl precompute` does; PyTorch gains by it too
        ways = working_ways(makers_of_all(network, batch_size, is_quick), batches[0], failed)
        measures = {name: functools.partial(rate_of, way, batches) for name, way in ways.items()}
        rates = measure_in_turns(measures, repeats, failed)
    settings = {
        **asdict(network),
        "device": engine.device_name(),
        "batch_size": batch_size,
        "images_in_a_turn": len(images),
    }
    return rates, failed, settings


def read_images(dataset: str, num_batches: int = 0) -> tuple[list[np.ndarray], int]:
    """Return the first training images, uint8 `(h, w, 3)`, as many as some batches hold, and the batch size."""
    from tfl import datasets, engine
    from tfl.specs import DatasetSpec

    batch_size = engine.default_batch_size(SHARD_ROWS)
    count = num_batches or (ACCELERATOR_BATCHES if engine.has_accelerator() else PROCESSOR_BATCHES)
    examples = datasets.open_dataset(DatasetSpec(dataset)).examples("train", 0, count * batch_size)
    return [example.image for example in datasets.require_good_images(examples)], batch_size


def rate_of(way: Way, batches: Sequence[Batch]) -> float:
    """Return the images/s of a way on these batches."""
    return sum(map(len, batches)) / seconds_of(functools.partial(run_batches, way, batches))


def run_batches(way: Way, batches: Sequence[Batch]) -> None:
    """Run every batch, the next begun before the last is waited for."""
    waits = [way(batch) for batch in batches]
    for wait in waits:
        wait()


def working_ways(makers: Makers, batch: Batch, failed: dict[str, str]) -> dict[str, Way]:
    """Return the ways that can be made and run on a batch; note in `failed` why the others cannot."""
    ways: dict[str, Way] = {}
    for maker, make in makers.items():
        tell(f"preparing {maker}")
        for name, way in (attempt(maker, make, failed) or {}).items():
            attempt(name, functools.partial(run_batches, way, [batch]), failed)
            if name not in failed:
                ways[name] = way
    return ways


def compare_with_command(dataset: str, repeats: int, failed: dict[str, str]) -> dict[str, dict[str, list[float]]]:
    """Measure the command `tfl precompute` in float32, and the bare forward pass before and after it."""
    if not repeats:
        return {}
    from tfl import engine

    images, batch_size = read_images(dataset)
    batches = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    name = engine.resolve_engine("auto", "float32")
    way = make_engine(name, "float32", Network(), batch_size)[f"{name} float32"]
    run_batches(way, batches[:1])
    found: dict[str, list[float]] = {
        "bare": [],
        "command": [],
        "command over bare": [],
        "start": [],
    }
    for _ in range(repeats):
        before = rate_of(way, batches)
        measured = attempt("command", functools.partial(time_command, dataset), failed)
        if measured is None:
            break
        rate, start = measured
        bare = (before + rate_of(way, batches)) / 2
        for key, number in zip(found, (bare, rate, rate / bare, start), strict=True):
            found[key].append(number)
        tell(f"the command at {rate:.1f} images/s, bare {bare:.1f}, start {start:.1f} s")
    of_command = {key: found[key] for key in ("bare", "command")}
    return {
        "images_per_second_of_command": of_command,
        "command_over_bare": {"float32": found["command over bare"]},
        "start_seconds": {"float32": found["start"]},
    }


def time_command(dataset: str) -> tuple[float, float]:
    """Return the command's images/s from few images to more, and the seconds that it takes beside them."""
    few, more = PROCESSOR_IMAGES if is_processor() else ACCELERATOR_IMAGES
    seconds = {}
    for count in (few, more):
        with tempfile.TemporaryDirectory() as cache:
            slices = ("--train-split", f"train[:{count}]", "--test-split", "")
            command = tfl_command("precompute", "--dataset", dataset, *slices, "--cache-dir", cache)
            seconds[count] = seconds_of(functools.partial(run_command, command))
    rate = rate_between(seconds)
    return rate, seconds[few] - few / rate


if __name__ == "__main__":
    tyro.cli(main, config=(tyro.conf.FlagCreatePairsOff,))
