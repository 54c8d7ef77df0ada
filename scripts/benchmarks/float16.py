"""Images/s of ResNet50 in float16 and float32 on a processor, by the Keras backend and by OpenVINO."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from measure import attempt, measure_in_turns, median_ratio, seconds_of
from record import RESULTS, new_result, write_result

QUESTION = "Extraction in float16 on a processor: OpenVINO against the Keras backend"
LIBRARIES = ("keras", "tensorflow", "openvino", "numpy")
BATCH_SIZE = 32
SHAPE = (32, 32, 3)  # of the images, as CIFAR-10's; the network's are 224 x 224
ENGINES: tuple[str, ...] = ("keras", "openvino")
DTYPES: tuple[Literal["float32", "float16"], ...] = ("float32", "float16")


def main(repeats: int = 5, out: Path = RESULTS / "float16.json") -> None:
    """Measure the images/s of one batch by each engine and arithmetic, in turns.

    Args:
      repeats: Turns of all ways.
      out: The JSON file to write.
    """
    rng = np.random.default_rng(0)
    images = list(rng.integers(0, 256, (BATCH_SIZE, *SHAPE), dtype=np.uint8))
    failed: dict[str, str] = {}
    measures: dict[str, Callable[[], float]] = {}
    for dtype in DTYPES:
        for option in ENGINES:
            name = f"{option} {dtype}"
            forward = attempt(name, functools.partial(make_ready, option, dtype, images), failed)
            if forward is not None:
                measures[name] = functools.partial(rate_of, forward, images)
    rates = measure_in_turns(measures, repeats, failed)
    findings = {"openvino_over_keras": ratios_of(rates)}
    settings = {"backbone": "resnet50", "weights": "random", "image_size": 224, "batch_size": BATCH_SIZE}
    results = {"images_per_second": rates}
    write_result(out, new_result(QUESTION, results, LIBRARIES, settings=settings, findings=findings, failed=failed))


def make_ready(option: str, dtype: Literal["float32", "float16"], images: Sequence[np.ndarray]) -> Any:
    """Return the forward pass of the network, compiled and run once."""
    from tfl import backbones, engine
    from tfl.specs import FeatureSpec

    name = engine.resolve_engine(option, dtype)
    backbone = backbones.build_backbone(FeatureSpec(weights="random", compute_dtype=dtype))
    forward = engine.Forward(backbone, BATCH_SIZE, name)
    forward.features(images)
    return forward


def rate_of(forward: Any, images: Sequence[np.ndarray]) -> float:
    """Return the images/s of one batch."""
    return len(images) / seconds_of(lambda: forward.features(images))


def ratios_of(rates: dict[str, list[float]]) -> dict[str, float]:
    """Return the median ratio of OpenVINO's rate to the Keras backend's, by arithmetic."""
    ratios: dict[str, float] = {}
    for dtype in DTYPES:
        pair = [rates.get(f"{option} {dtype}") for option in ("openvino", "keras")]
        if all(pair):
            ratios[dtype] = median_ratio(*pair)  # type: ignore[arg-type]
    return ratios


if __name__ == "__main__":
    tyro.cli(main)
