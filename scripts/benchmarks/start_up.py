"""Seconds until something happens: imports, `--help`, and the stages of a small `tfl precompute`.

The first command of an arithmetic finds no compiled network, and keeps one for those after it.
"""

import functools
import sys
import tempfile
from pathlib import Path

import tyro
from measure import (
    attempt,
    environment,
    measure_in_turns,
    run_command,
    seconds_of,
    tell,
    tfl_command,
)
from quantized import flags_of_dtype
from record import RESULTS, new_result, write_result
from watching import watch_precompute

from tfl.files.user_folders import home_folder

QUESTION = "Seconds to start: imports, help, and the stages of a small precompute"
LIBRARIES = (
    "keras",
    "tensorflow",
    "jax",
    "torch",
    "openvino",
    "tensorflow-datasets",
    "tyro",
    "numpy",
    "h5py",
)
PROGRAMS = {
    "python": "",
    "import tfl": "import tfl",
    "import numpy": "import numpy",
    "import keras": "import keras",
}
NUM_IMAGES = 64
SHARD_ROWS = 32  # as many as a batch holds: the first shard is the first batch
KEPT = "openvino"  # the folder of compiled networks in tfl's home


def main(
    dataset: str = "cifar10",
    weights: str = "imagenet",
    image_size: int = 224,
    compute_dtypes: tuple[str, ...] = ("float32", "int8"),
    repeats: int = 3,
    out: Path = RESULTS / "start_up.json",
) -> None:
    """Measure what a command takes before its first image and after its last, in fresh processes.

    Args:
      dataset: As `tfl precompute` takes it.
      weights: As `tfl precompute` takes them.
      image_size: As `tfl precompute` takes it.
      compute_dtypes: As `tfl precompute` takes them; the network of int8 is made before anything is timed.
      repeats: Turns of everything; one before them fills the caches, and is `first`.
      out: The JSON file to write.
    """
    failed: dict[str, str] = {}
    programs = {name: [sys.executable, "-c", program] for name, program in PROGRAMS.items()}
    commands = {
        **programs,
        "tfl --help": tfl_command("--help"),
        "tfl train --help": tfl_command("train", "--help"),
    }
    measures = {
        name: functools.partial(seconds_of, functools.partial(run_command, command))
        for name, command in commands.items()
    }
    with environment({"TF_CPP_MIN_LOG_LEVEL": "3"}):
        measure_in_turns(measures, 1, failed)
        seconds = measure_in_turns(measures, repeats, failed)
        network = ("--dataset", dataset, "--weights", weights, "--image-size", str(image_size))
        flags = (*network, "--train-split", f"train[:{NUM_IMAGES}]", "--test-split", "")
        stages: dict[str, list[float]] = {}
        for dtype in compute_dtypes:
            measure = functools.partial(measure_dtype, dtype, flags, repeats, failed)
            stages |= attempt(dtype, measure, failed) or {}
    settings = {
        "num_images": NUM_IMAGES,
        "dataset": dataset,
        "image_size": image_size,
        "shard_rows": SHARD_ROWS,
    }
    results = {"seconds": seconds, "precompute_seconds": stages}
    write_result(out, new_result(QUESTION, results, LIBRARIES, settings=settings, failed=failed))


def measure_dtype(dtype: str, flags: tuple[str, ...], repeats: int, failed: dict[str, str]) -> dict[str, list[float]]:
    """Measure the stages of the command in an arithmetic; in tfl's home no compiled network is kept at first."""
    with tempfile.TemporaryDirectory() as folder:
        of_dtype = flags_of_dtype(dtype, flags, make_folder(folder, "network"))
        home = make_folder(folder, "home")
        borrow_home(home)
        further = ("--shard-rows", str(SHARD_ROWS), "--allow-missing-classes")
        with environment({"TFL_HOME": str(home)}):
            return measure_stages(dtype, (*flags, *of_dtype, *further), repeats, failed)


def make_folder(parent: str, name: str) -> Path:
    """Make a folder in another."""
    folder = Path(parent, name)
    folder.mkdir()
    return folder


def borrow_home(home: Path) -> None:
    """Link everything in tfl's home into another one, except compiled networks."""
    for entry in home_folder().iterdir():
        if entry.name != KEPT:
            (home / entry.name).symlink_to(entry)


def measure_stages(dtype: str, flags: tuple[str, ...], repeats: int, failed: dict[str, str]) -> dict[str, list[float]]:
    """Measure the stages of the command, the first time and then so many times again."""
    stages: dict[str, list[float]] = {}
    for turn in range(repeats + 1):
        way = f"{dtype}, first" if turn == 0 else f"{dtype}, again"
        with tempfile.TemporaryDirectory() as folder:
            command = tfl_command("precompute", *flags, "--cache-dir", folder)
            timeline = attempt(way, functools.partial(watch_precompute, command, Path(folder), {}), failed)
        if timeline is None:
            break
        to_first_batch = {"to the first batch": timeline.shards[0][0]} if timeline.shards else {}
        seconds_of_stages = {**to_first_batch, **timeline.stages(), "whole command": timeline.seconds}
        for stage, seconds in seconds_of_stages.items():
            stages.setdefault(f"{way}, {stage}", []).append(seconds)
        tell(f"precompute, {way}: {seconds_of_stages}")
    return stages


if __name__ == "__main__":
    tyro.cli(main)
