"""What a job would cost in each compute dtype: measured for `auto`, hinted at before a long job in float32."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from tfl import datasets, engine
from tfl.cache import ReusableCaches
from tfl.datasets import Example
from tfl.engine.instructions import list_native_dtypes
from tfl.engine.measuring import MeasuredWay, Rounds, Way, measure_ways
from tfl.engine.survey import DTYPES, find_way_obstacle
from tfl.engine.workload import Workload
from tfl.errors import TflError
from tfl.extraction.extraction import join_adjacent
from tfl.extraction.plan import Plan
from tfl.machine.batching import MAX_BATCH_BYTES
from tfl.specs import AUTO, INT8, FeatureSpec

logger = logging.getLogger(__name__)

NUM_IMAGES = 64  # that every dtype is measured on, in two rounds
ROUNDS = Rounds(least=2, most=2)
LONG_JOB = 5_000  # images, one for each view: minutes in float32 on a processor
WORTH_IT = 1.2  # times as fast as float32: what is nearer to it is not recommended
HINTED = ("bfloat16", INT8)  # float16 is no faster than float32 on a processor (docs/results/float16-cpu.json)


def choose_compute_dtype(features: FeatureSpec) -> FeatureSpec:
    """Return features with float32 in place of `auto`: the content of a cache does not depend on the machine."""
    return replace(features, compute_dtype="float32") if features.compute_dtype == AUTO else features


def log_costs(plan: Plan, typed: FeatureSpec, reusable: ReusableCaches) -> None:
    """Log one line before a job: what each compute dtype would cost, if `auto` was typed; else perhaps a hint."""
    num_missing = sum(shard.num_rows for shard in plan.unfinished.missing())
    held = [min(num_missing, reusable.count_rows(view)) for view in plan.spec.views]
    job = Job(num_missing * len(plan.spec.views), sum(held))
    if not job.num_images:
        return
    if typed.compute_dtype == AUTO:
        _log_measured(plan, typed, job)
    elif typed.compute_dtype == "float32" and job.num_images - job.num_copied > LONG_JOB:
        _log_hint(plan)


class Job(NamedTuple):
    """What is left to do: an image counts once for each view.

    Attributes:
      num_copied: of those, how many are copied from other caches in float32, about.
    """

    num_images: int
    num_copied: int

    def estimate_seconds(self, way: MeasuredWay) -> float:
        """Return the seconds of the whole job in one way; infinite if the way failed."""
        if not way.images_per_second:
            return float("inf")
        num_images = self.num_images - (self.num_copied if way.compute_dtype == "float32" else 0)
        return num_images / way.images_per_second + (way.start_seconds or 0.0) + (way.calibration_seconds or 0.0)


def _log_measured(plan: Plan, typed: FeatureSpec, job: Job) -> None:
    """Measure every dtype that the job's engine can compute in, and log what the job would cost in each."""
    images = list(_read_images(plan))
    if not images:
        return
    name = str(plan.unfinished.making.engine)
    workload = Workload(typed, images, plan.batch_size, plan.dataset.image_shape, plan.backbone)
    measured = measure_ways(workload, list(_list_ways(plan, name)), ROUNDS)
    measured.sort(key=job.estimate_seconds)
    costs = ", ".join(_describe_cost(way, job) for way in measured)
    num_measured = min((way.num_images for way in measured if way.num_images), default=0)
    copied = f" ({job.num_copied:,} of them copied in float32)" if job.num_copied else ""
    logger.info(
        "%s for %s images%s, measured on %d images with %s; float32 is taken%s",
        *(costs, f"{job.num_images:,}", copied, num_measured, name, _advise(measured, job)),
    )


def _advise(measured: Sequence[MeasuredWay], job: Job) -> str:
    """Say how to take the fastest dtype, if it is worth it; `measured` begins with it."""
    seconds = {way.compute_dtype: job.estimate_seconds(way) for way in measured}
    fastest = measured[0].compute_dtype
    if seconds[fastest] * WORTH_IT > seconds["float32"]:
        return ""
    return f"; another only if you name it: --compute-dtype {fastest}"


def _list_ways(plan: Plan, name: str) -> Iterator[Way]:
    """Yield the dtypes that the job's engine would compute in, if they were typed."""
    for dtype in DTYPES:
        try:
            is_same = engine.resolve_engine(plan.settings.engine, dtype) == name
        except TflError:  # it would be refused
            continue
        is_possible = dtype != INT8 or bool(plan.spec.dataset.train_split)  # int8 is calibrated on training images
        if is_same and is_possible and not find_way_obstacle(Way(name, dtype)):
            yield Way(name, dtype)


def _read_images(plan: Plan) -> Iterator[np.ndarray]:
    """Yield the first images that are missing, no more than memory should hold."""
    shard = next(join_adjacent(plan.unfinished.missing()))
    stop = min(shard.stop, shard.start + NUM_IMAGES)
    num_bytes = 0
    for image in datasets.read_rows(plan.dataset, plan.spec.dataset.roles[shard.role], shard.start, stop):
        if isinstance(image, Example):
            yield image.image
            num_bytes += image.image.nbytes
            if num_bytes > MAX_BATCH_BYTES:
                return


def _describe_cost(way: MeasuredWay, job: Job) -> str:
    if way.obstacle:
        return f"{way.compute_dtype}: {way.obstacle}"
    seconds = _round_duration(job.estimate_seconds(way))
    calibration = way.calibration_seconds
    extra = "" if calibration is None else f" (with {_round_duration(calibration)} of calibration)"
    return f"{way.compute_dtype}: about {seconds}{extra}"


def _round_duration(seconds: float) -> str:
    """Return a duration in one unit, in which it is at least 2."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{max(1, round(seconds))} s"


def _log_hint(plan: Plan) -> None:
    """Say that the processor computes in cheaper dtypes too, if an engine could use them."""
    if engine.has_accelerator():
        return
    native = [dtype for dtype in HINTED if dtype in list_native_dtypes()]
    name = engine.openvino.OPENVINO.name
    if plan.unfinished.making.engine == name:
        able = [dtype for dtype in native if not engine.openvino.find_obstacle(dtype)]
        how = ""
    elif plan.settings.engine == "auto" and engine.openvino.lacks_only_package():
        able, how = native, "with OpenVINO (pip install '.[openvino]') "
    else:
        return
    if able:
        logger.info(
            "%sthis processor also computes in %s, often several times as fast: `tfl engines` measures it",
            *(how, " and ".join(able)),
        )
