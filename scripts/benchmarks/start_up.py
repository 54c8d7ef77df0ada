"""Seconds until something happens: imports, `--help`, and the stages of a small `tfl precompute`."""

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
from record import RESULTS, new_result, write_result
from watching import watch_precompute

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
SHARD_ROWS = 32


def main(
    num_images: int = 64,
    dataset: str = "cifar10",
    weights: str = "imagenet",
    image_size: int = 224,
    repeats: int = 3,
    out: Path = RESULTS / "start_up.json",
) -> None:
    """Measure what a command takes before its first image and after its last, in fresh processes.

    Args:
      num_images: Training images of the small precompute.
      dataset: As `tfl precompute` takes it.
      weights: As `tfl precompute` takes them.
      image_size: As `tfl precompute` takes it.
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
        flags = ("--dataset", dataset, "--weights", weights, "--image-size", str(image_size))
        slices = (
            "--train-split",
            f"train[:{num_images}]",
            "--test-split",
            "",
            "--shard-rows",
            str(SHARD_ROWS),
        )
        stages = measure_stages((*flags, *slices, "--allow-missing-classes"), repeats, failed)
    settings = {
        "num_images": num_images,
        "dataset": dataset,
        "image_size": image_size,
        "shard_rows": SHARD_ROWS,
    }
    results = {"seconds": seconds, "precompute_seconds": stages}
    write_result(out, new_result(QUESTION, results, LIBRARIES, settings=settings, failed=failed))


def measure_stages(flags: tuple[str, ...], repeats: int, failed: dict[str, str]) -> dict[str, list[float]]:
    """Measure the stages of the command, first with caches that may be empty, then so many times again."""
    stages: dict[str, list[float]] = {}
    for turn in range(repeats + 1):
        way = "first" if turn == 0 else "again"
        with tempfile.TemporaryDirectory() as folder:
            command = tfl_command("precompute", *flags, "--cache-dir", folder)
            timeline = attempt(way, functools.partial(watch_precompute, command, Path(folder), {}), failed)
        if timeline is None:
            break
        for stage, seconds in {**timeline.stages(), "whole command": timeline.seconds}.items():
            stages.setdefault(f"{way}, {stage}", []).append(seconds)
        tell(f"precompute, {way}: {timeline.seconds:.1f} s")
    return stages


if __name__ == "__main__":
    tyro.cli(main)
