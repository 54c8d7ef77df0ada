"""Ways to compute features, measured on this machine: all are made ready, then run in turns.

In turns, because other programs slow a machine down: what disturbs one way then disturbs all alike.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tfl.engine.devices import has_accelerator
from tfl.engine.engines import find_engine
from tfl.engine.forward import Forward
from tfl.engine.instructions import list_native_dtypes
from tfl.engine.quantizing import BATCH_SIZE, NUM_IMAGES
from tfl.engine.workload import Workload
from tfl.errors import TflError
from tfl.machine import memory
from tfl.specs import ComputeDtype
from tfl.text import to_one_line

TURN_IMAGES = 32  # of a turn, or one batch if that is larger
ACCELERATOR_BATCHES = 4  # of a turn: an accelerator computes one while the next ones are prepared
SLOW_BATCH_SECONDS = 20.0  # a way that would take longer for a batch is measured on single images
CALIBRATION_PASSES = 2  # measuring ranges on an image takes about as long as so many forward passes in float32
MAX_REASON = 150  # characters


@dataclass(frozen=True)
class Way:
    """One way to compute features.

    Attributes:
      engine: a name of `ENGINES`.
    """

    engine: str
    compute_dtype: ComputeDtype


@dataclass(frozen=True)
class Rounds:
    """How often every way takes its turn: `least` times, then up to `most` times while `seconds` last."""

    least: int = 3
    most: int = 7
    seconds: float = 20.0


ROUNDS = Rounds()


@dataclass(frozen=True)
class MeasuredWay:
    """What one way costs on this machine, or why it has no numbers.

    Attributes:
      obstacle: why it cannot serve here, or how it failed; empty if it was measured.
      images_per_second: the median of `rates`.
      rates: images/s in each round.
      num_images: how many images the rates were measured on.
      memory_bytes: main memory that it took beyond what the process held before, the network
        included; None where the system does not tell.
      start_seconds: from the network that Keras built to the first batch's features.
      calibration_seconds: for int8, what quantising the network once takes, about.
    """

    engine: str
    compute_dtype: ComputeDtype
    obstacle: str = ""
    images_per_second: float | None = None
    rates: tuple[float, ...] = ()
    num_images: int = 0
    memory_bytes: int | None = None
    start_seconds: float | None = None
    calibration_seconds: float | None = None


def measure_ways(
    workload: Workload,
    ways: Sequence[Way],
    rounds: Rounds = ROUNDS,
    on_start: Callable[[Way], None] = lambda way: None,
) -> list[MeasuredWay]:
    """Make every way ready and run all of them in turns; a way that fails is left out of the turns.

    All of them are in memory at the same time.

    Args:
      on_start: called before a way is made ready.
    """
    runners = [_Runner(workload, way) for way in ways]
    for way, runner in zip(ways, runners, strict=True):
        on_start(way)
        runner.attempt(runner.start)
    started = time.perf_counter()
    for index in range(rounds.most):
        if index >= rounds.least and time.perf_counter() - started > rounds.seconds:
            break
        for runner in runners if index % 2 == 0 else reversed(runners):
            runner.attempt(runner.take_turn)
    measured = [runner.describe() for runner in runners]
    return [_extend_calibration(each, measured) for each in measured]


def _extend_calibration(way: MeasuredWay, measured: Sequence[MeasuredWay]) -> MeasuredWay:
    """Return the way with the seconds of calibrating on `NUM_IMAGES` images, as `precompute` does."""
    rates = [each.images_per_second for each in measured if each.compute_dtype == "float32"]
    fastest = max((rate for rate in rates if rate), default=None)
    if way.calibration_seconds is None or fastest is None:
        return way
    more = CALIBRATION_PASSES * (NUM_IMAGES - BATCH_SIZE) / fastest
    return replace(way, calibration_seconds=way.calibration_seconds + more)


class _Runner:
    """One way while it is measured."""

    def __init__(self, workload: Workload, way: Way) -> None:
        self._workload = workload
        self._way = way
        self._forward: Forward | None = None
        self._batch_size = workload.batch_size
        self._num_batches = max(1, math.ceil(TURN_IMAGES / workload.batch_size))
        if has_accelerator():
            self._num_batches = max(self._num_batches, ACCELERATOR_BATCHES)
        self._measured = MeasuredWay(way.engine, way.compute_dtype)
        self._rates: list[float] = []
        self._num_taken = 0

    def attempt(self, call: Callable[[], None]) -> None:
        """Call, unless the way has failed; note a failure instead of raising it."""
        if self._measured.obstacle:
            return
        try:
            call()
        except Exception as error:  # noqa: BLE001 -- each engine raises its own
            lines = str(error).splitlines() or [""]
            kind = "" if isinstance(error, TflError) else f"{type(error).__name__}: "
            reason = to_one_line(kind + lines[0], MAX_REASON)
            self._measured = replace(self._measured, obstacle=f"failed: {reason}")
            self._forward = None

    def start(self) -> None:
        """Build and compile the network, and run a first batch."""
        way = self._way
        calibration_seconds = self._workload.build(way.compute_dtype)
        if self._is_slow():
            self._batch_size, self._num_batches = 1, 1
        before = memory.reset_peak()
        started = time.perf_counter()
        self._forward = self._workload.compile(way.engine, way.compute_dtype, self._batch_size)
        self._run(1)
        start_seconds = time.perf_counter() - started
        peak = memory.read_peak()
        self._measured = replace(
            self._measured,
            memory_bytes=None if before is None or peak is None else max(0, peak - before),
            start_seconds=start_seconds,
            calibration_seconds=calibration_seconds,
        )
        self._run(1)  # the second batch may still compile something

    def _is_slow(self) -> bool:
        """Whether a batch would take very long: a backend may have no kernels for a narrow dtype on a processor.

        Where the processor has instructions for the dtype, nothing is tried.
        """
        way = self._way
        if not find_engine(way.engine).is_backend or has_accelerator():
            return False
        if way.compute_dtype in ("float32", *list_native_dtypes()):
            return False
        self._forward = self._workload.compile(way.engine, way.compute_dtype, 1)
        for _ in range(2):
            started = time.perf_counter()
            self._forward.features(self._workload.take(1))
            seconds = time.perf_counter() - started
        return seconds * self._batch_size > SLOW_BATCH_SECONDS

    def take_turn(self) -> None:
        """Compute the batches of one turn."""
        started = time.perf_counter()
        self._run(self._num_batches)
        num_images = self._num_batches * self._batch_size
        self._rates.append(num_images / (time.perf_counter() - started))

    def _run(self, num_batches: int) -> None:
        """Compute batches, each of the images after those of the batch before."""
        assert self._forward is not None
        waiting = []
        for _ in range(num_batches):
            waiting.append(self._forward.start(self._workload.take(self._batch_size, self._num_taken)))
            self._num_taken += self._batch_size
        for wait in waiting:
            wait()

    def describe(self) -> MeasuredWay:
        """Return what has been measured."""
        if self._measured.obstacle:
            return self._measured
        return replace(
            self._measured,
            images_per_second=statistics.median(self._rates),
            rates=tuple(self._rates),
            num_images=len(self._rates) * self._num_batches * self._batch_size,
        )
