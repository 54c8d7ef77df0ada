"""The table of this machine: every engine in every compute dtype."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tfl.engine.arithmetic import keep_freed_memory
from tfl.engine.devices import count_threads, default_batch_size, device_name, has_accelerator, round_to_devices
from tfl.engine.engines import ENGINES, find_obstacle, resolve_engine
from tfl.engine.instructions import list_instruction_sets
from tfl.engine.measuring import ROUNDS, MeasuredWay, Rounds, Way, measure_ways
from tfl.engine.provenance import library_versions
from tfl.engine.quantizing import find_obstacle as find_quantizing_obstacle
from tfl.engine.workload import Workload
from tfl.machine.keras_settings import pin_keras_settings
from tfl.specs import INT8, ComputeDtype, FeatureSpec

logger = logging.getLogger(__name__)

DTYPES: tuple[ComputeDtype, ...] = ("float32", "bfloat16", "float16", INT8)
NUM_IMAGES = 32  # generated ones
SHARD_ROWS = 1024  # from which `precompute` derives its batch size


@dataclass(frozen=True)
class Survey:
    """What every engine costs on this machine.

    Attributes:
      instructions: the processor's, that arithmetic depends on; none with an accelerator.
      default: the engine that `tfl precompute` takes in float32.
      ways: those that were measured, the fastest first; then those that cannot serve here.
    """

    device: str
    instructions: tuple[str, ...]
    threads: int
    versions: dict[str, str]
    features: FeatureSpec
    batch_size: int
    default: str
    ways: tuple[MeasuredWay, ...]


@pin_keras_settings()
def survey_engines(features: FeatureSpec, batch_size: int = 0, rounds: Rounds = ROUNDS) -> Survey:
    """Measure every engine in every compute dtype on generated images of the network's own size.

    Args:
      features: the backbone; its compute dtype does not count.
      batch_size: images in one forward pass; 0 for that of `precompute`.

    Raises:
      BackboneError, AssetError: see `build_backbone`.
    """
    batch_size = round_to_devices(batch_size) or default_batch_size(SHARD_ROWS)
    workload = Workload(features, generate_images(features.image_size), batch_size, (features.image_size,) * 2)
    workload.build("float32")  # raises what is wrong with the backbone itself
    obstacles = {way: find_way_obstacle(way) for way in list_ways()}
    serving = [way for way, obstacle in obstacles.items() if not obstacle]
    with keep_freed_memory():  # as `precompute` does
        measured = measure_ways(workload, serving, rounds, _log)
    measured.sort(key=lambda way: -(way.images_per_second or 0.0))
    others = [MeasuredWay(way.engine, way.compute_dtype, obstacle) for way, obstacle in obstacles.items() if obstacle]
    return Survey(
        device=device_name(),
        instructions=() if has_accelerator() else tuple(list_instruction_sets()),
        threads=count_threads(),
        versions=library_versions(),
        features=features,
        batch_size=batch_size,
        default=resolve_engine("auto", "float32"),
        ways=(*measured, *others),
    )


def _log(way: Way) -> None:
    logger.info("measuring %s in %s", way.engine, way.compute_dtype)


def list_ways() -> Iterator[Way]:
    """Yield every engine in every compute dtype."""
    for engine in ENGINES:
        for dtype in DTYPES:
            yield Way(engine, dtype)


def find_way_obstacle(way: Way) -> str:
    """Return the reason why a way cannot serve here; empty if it can."""
    obstacle = find_obstacle(way.engine, way.compute_dtype)
    if obstacle or way.compute_dtype != INT8:
        return obstacle
    return find_quantizing_obstacle()


def generate_images(size: int, seed: int = 0) -> list[np.ndarray]:
    """Return images of noise, uint8 `(size, size, 3)`."""
    rng = np.random.default_rng(seed)
    return list(rng.integers(0, 256, (NUM_IMAGES, size, size, 3), dtype=np.uint8))
