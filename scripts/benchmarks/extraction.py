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
from quantized import INT8, flags_of_dtype
from record import RESULTS, new_result, write_result
from ways import (
    NAIVE,
    NO_PREALLOCATION,
    Batch,
    Makers,
    Network,
    Way,
    build_backbone,
    is_processor,
    make_int8,
    makers_of_all,
)

QUESTION = "Extraction of ResNet50 features at 224 pixels, by engine and arithmetic"
LIBRARIES = ("keras", "tensorflow", "jax", "jaxlib", "openvino", "torch", "torchvision", "numpy")
SHARD_ROWS = 1024
ACCELERATOR_BATCHES, PROCESSOR_BATCHES = 20, 2
# The command is timed on few images and on more: the difference has no start-up in it.
ACCELERATOR_IMAGES = (2_000, 42_000)
PROCESSOR_IMAGES, PROCESSOR_SECONDS = 128, 30  # few images, and about the seconds that the further ones take


def main(
    dataset: str = "cifar10",
    repeats: int = 5,
    quick: bool = False,
    command_repeats: int = 3,
    command_dtypes: tuple[str, ...] = ("float32", "int8"),
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
      command_dtypes: Arithmetics of the command; the network of int8 is made before anything is timed.
      out: The JSON file to write.
    """
    with environment(NO_PREALLOCATION):
        rates, failed, settings = measure_ways(dataset, repeats, Network(), is_quick=quick)
        commands = compare_with_commands(dataset, command_dtypes, command_repeats, failed)
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
        makers = makers_of_all(network, batch_size, is_quick)
        if is_processor():
            shape = images[0].shape[:2]
            makers["openvino int8"] = functools.partial(make_int8, dataset, network, batch_size, shape)
        ways = working_ways(makers, batches[0], failed)
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


def compare_with_commands(
    dataset: str, dtypes: tuple[str, ...], repeats: int, failed: dict[str, str]
) -> dict[str, dict[str, list[float]]]:
    """Measure the command `tfl precompute` in several arithmetics, and the bare forward pass before and after it."""
    found: dict[str, dict[str, list[float]]] = {}
    for dtype in dtypes if repeats else ():
        compare = functools.partial(compare_with_command, dataset, dtype, repeats, failed)
        for quantity, ways in (attempt(f"command {dtype}", compare, failed) or {}).items():
            found.setdefault(quantity, {}).update(ways)
    return found


def compare_with_command(
    dataset: str, dtype: str, repeats: int, failed: dict[str, str]
) -> dict[str, dict[str, list[float]]]:
    """Measure the command in one arithmetic, and beside it the forward pass that it runs."""
    images, batch_size = read_images(dataset)
    batches = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    few = PROCESSOR_IMAGES if is_processor() else ACCELERATOR_IMAGES[0]
    found: dict[str, list[float]] = {"bare": [], "command": [], "command over bare": [], "start": []}
    with tempfile.TemporaryDirectory() as folder:
        common = ("--dataset", dataset, "--train-split", f"train[:{few}]", "--test-split", "")
        flags = ("--dataset", dataset, *flags_of_dtype(dtype, common, Path(folder)))
        way = make_way_of_command(dataset, dtype, flags[-1], batch_size)
        run_batches(way, batches[:1])
        more = few + round(PROCESSOR_SECONDS * rate_of(way, batches)) if is_processor() else ACCELERATOR_IMAGES[1]
        time_command(flags, few)  # keeps the compiled network
        for _ in range(repeats):
            before = rate_of(way, batches)
            measured = attempt(f"command {dtype}", functools.partial(time_commands, flags, few, more), failed)
            if measured is None:
                break
            rate, start = measured
            bare = (before + rate_of(way, batches)) / 2
            for key, number in zip(found, (bare, rate, rate / bare, start), strict=True):
                found[key].append(number)
            tell(f"{dtype}: the command at {rate:.1f} images/s, bare {bare:.1f}, start {start:.1f} s")
    return {
        "images_per_second_of_command": {f"{key} {dtype}": found[key] for key in ("bare", "command")},
        "command_over_bare": {dtype: found["command over bare"]},
        "start_seconds": {dtype: found["start"]},
    }


def make_way_of_command(dataset: str, dtype: str, last_flag: str, batch_size: int) -> Way:
    """Make the forward pass as the command makes it: its engine, and one size of image if the dataset has one.

    Args:
      last_flag: of the command; for int8 the file of the quantised network.
    """
    from tfl import datasets, engine
    from tfl.backbones.quantized import open_quantized
    from tfl.specs import DatasetSpec

    backbone = build_backbone(dtype, Network())
    if dtype == INT8:
        backbone = backbone.use_quantized(open_quantized(Path(last_flag)))
    image_shape = datasets.open_dataset(DatasetSpec(dataset)).image_shape
    return engine.Forward(backbone, batch_size, engine.resolve_engine("auto", dtype), image_shape).start


def time_commands(flags: tuple[str, ...], few: int, more: int) -> tuple[float, float]:
    """Return the command's images/s from few images to more, and the seconds that it takes beside them."""
    seconds = {count: time_command(flags, count) for count in (few, more)}
    rate = rate_between(seconds)
    return rate, seconds[few] - few / rate


def time_command(flags: tuple[str, ...], count: int) -> float:
    """Return the seconds of the command over the first training images."""
    with tempfile.TemporaryDirectory() as cache:
        slices = ("--train-split", f"train[:{count}]", "--test-split", "")
        command = tfl_command("precompute", *flags, *slices, "--cache-dir", cache)
        return seconds_of(functools.partial(run_command, command))


if __name__ == "__main__":
    tyro.cli(main, config=(tyro.conf.FlagCreatePairsOff,))
