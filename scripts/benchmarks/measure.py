"""Measuring: ways in turns, a failure that stops one way alone, fresh processes, peak memory."""

import contextlib
import functools
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

Returned = TypeVar("Returned")
STARTED = time.perf_counter()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported, which would speak beside progress
COMMAND = "import sys; from tfl.cli.main import main; sys.exit(main())"


def tell(text: str) -> None:
    """Write a line of progress to stderr, after the seconds since this process began."""
    print(f"[{time.perf_counter() - STARTED:6.1f} s] {text}", file=sys.stderr, flush=True)


def seconds_of(call: Callable[[], Any]) -> float:
    """Return the wall time of a call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def attempt(name: str, call: Callable[[], Returned], failed: dict[str, str]) -> Returned | None:
    """Return what a call returns; if it fails, note in `failed` why, and return None."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001 -- each engine raises its own
        failed[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        tell(f"{name} is left out: {failed[name]}")
        return None


def measure_in_turns(
    measures: Mapping[str, Callable[[], float]], repeats: int, failed: dict[str, str]
) -> dict[str, list[float]]:
    """Measure every way once, then every way again, so that what disturbs a machine disturbs all alike.

    A way that fails goes into `failed` and out of the result, and the others go on.
    """
    found: dict[str, list[float]] = {name: [] for name in measures}
    for turn in range(repeats):
        for name in list(found):
            number = attempt(name, measures[name], failed)
            if number is None:
                del found[name]
            else:
                found[name].append(number)
                tell(f"{name}, {turn + 1} of {repeats}: {number:.4g}")
    return found


def time_in_turns(calls: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of each call, measured in turns; a failure is raised."""
    measures = {name: functools.partial(seconds_of, call) for name, call in calls.items()}
    failed: dict[str, str] = {}
    seconds = measure_in_turns(measures, repeats, failed)
    if failed:
        raise RuntimeError(f"a benchmark failed: {failed}")
    return seconds


def median_ratio(numbers: list[float], base: list[float]) -> float:
    """Return the median of the ratios of what was measured in the same turn."""
    return statistics.median(number / of_base for number, of_base in zip(numbers, base, strict=True))


def rate_between(seconds: Mapping[int, float]) -> float:
    """Return the images/s from few images to more: start-up is not in it.

    Args:
      seconds: of two numbers of images.

    Raises:
      ValueError: more images took no longer.
    """
    few, more = min(seconds), max(seconds)
    longer = seconds[more] - seconds[few]
    if longer <= 0:
        raise ValueError(f"{more} images took {-longer:.2f} s less than {few}; take more images, or a quiet machine")
    return (more - few) / longer


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the processes that are started inside, and put them back."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def call_in_fresh_process(
    function: Callable[..., Returned], *arguments: Any, variables: Mapping[str, str] | None = None
) -> Returned:
    """Return what a function of a module returns in a new Python, which has imported nothing yet.

    Args:
      variables: of the new process's environment, beside those of this one.

    Raises:
      BrokenProcessPool: the process died; else what the function raised.
    """
    context = multiprocessing.get_context("spawn")
    with environment(variables or {}), ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def tfl_command(*arguments: str | Path) -> list[str]:
    """Return the command line `tfl ARGUMENTS`, by the Python that runs this."""
    return [sys.executable, "-c", COMMAND, *map(str, arguments)]


def run_command(command: list[str], variables: Mapping[str, str] | None = None) -> str:
    """Run a command to its end and return the last line that it wrote to stdout.

    Raises:
      RuntimeError: it failed; the end of what it wrote to stderr.
    """
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, **(variables or {})},
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{_shown(command)} ended with {done.returncode}: {done.stderr.strip()[-600:]}")
    return (done.stdout.strip().splitlines() or [""])[-1]


def peak_bytes_of(command: list[str]) -> int:
    """Return the largest resident size of a command, in bytes.

    A small process's own is a lower bound: Linux counts what a process held before it began the command.
    """
    with tempfile.TemporaryFile() as written:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=written)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            written.seek(0)
            text = written.read().decode(errors="replace").strip()
            raise RuntimeError(f"{_shown(command)} ended with {process.returncode}: {text[-600:]}")
    return usage.ru_maxrss * 1024


def own_peak_bytes() -> int:
    """Return the largest resident size of this process so far, in bytes (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _shown(command: list[str]) -> str:
    words = [word for word in command[1:] if word not in ("-c", COMMAND)]
    return " ".join(words)
