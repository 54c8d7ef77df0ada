"""Milliseconds to resize images to 224 pixels: Keras' own resizing against two matrix products."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from measure import measure_in_turns, seconds_of
from record import RESULTS, new_result, write_result

QUESTION = "Resizing to 224 pixels: Keras' own operation against two matrix products"
LIBRARIES = ("keras", "tensorflow", "jax", "jaxlib", "torch", "numpy")
SIZE = 224
# What is resized, and how many images of it at once.
SHAPES = {
    "photo of 12 megapixels": (1, 3000, 4000),
    "photo of 0.2 megapixels": (32, 375, 500),
    "CIFAR-10": (32, 32, 32),
}
METHODS = (
    ("bilinear", False),
    ("bilinear", True),
    ("bicubic", False),
    ("bicubic", True),
    ("lanczos3", True),
    ("lanczos5", True),
)

Resize = Callable[[Any, str, bool], Any]  # pixels `(n, h, w, 3)`, interpolation, antialias


@dataclass(frozen=True)
class Way:
    """One way to resize one kind of image, compiled."""

    name: str
    resize: Callable[[Any], Any]
    images: np.ndarray

    def run(self) -> np.ndarray:
        """Return the resized images, once they are in main memory."""
        from keras import ops

        return np.asarray(ops.convert_to_numpy(self.resize(self.images)))

    def milliseconds_per_image(self) -> float:
        """Return the wall time of one call, divided by its images."""
        return 1000 * seconds_of(self.run) / len(self.images)


def main(repeats: int = 7, out: Path = RESULTS / "resizing.json") -> None:
    """Time both resizers on every kind of image, in turns, and note how far their pixels differ.

    Args:
      repeats: Turns of all ways.
      out: The JSON file to write.
    """
    import keras

    from tfl import engine

    results: dict[str, dict[str, list[float]]] = {}
    differences: dict[str, dict[str, float]] = {}
    failed: dict[str, str] = {}
    for kind, shape in SHAPES.items():
        images = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
        ways = [make_way(interpolation, antialias, images) for interpolation, antialias in METHODS]
        measures = {way.name: way.milliseconds_per_image for pair in ways for way in pair}
        differences[kind] = {pair[0].name: largest_difference(*pair) for pair in ways}  # compiles them too
        results[f"milliseconds per image, {kind}"] = measure_in_turns(measures, repeats, failed)
    settings = {"size": SIZE, "shapes": SHAPES, "backend": keras.backend.backend(), "device": engine.device_name()}
    findings = {"largest_difference_of_255": differences}
    write_result(out, new_result(QUESTION, results, LIBRARIES, settings=settings, findings=findings, failed=failed))


def make_way(interpolation: str, antialias: bool, images: np.ndarray) -> tuple[Way, Way]:
    """Return Keras' way and ours of one method."""
    name = f"{interpolation}, antialiased" if antialias else interpolation
    resizers: dict[str, Resize] = {"keras": resize_by_keras, "matrix products": resize_by_products}
    keras_way, our_way = (
        Way(f"{name}, {resizer}", compile_resizer(resize, interpolation, antialias), images)
        for resizer, resize in resizers.items()
    )
    return keras_way, our_way


def compile_resizer(resize: Resize, interpolation: str, antialias: bool) -> Callable[[Any], Any]:
    """Return the resizer as `tfl precompute` runs it: a model of images of any size, compiled by its engine."""
    import keras
    from keras import ops

    from tfl import engine

    images = keras.Input((None, None, 3), dtype="uint8", name="images")
    model = keras.Model(images, resize(ops.cast(images, "float32"), interpolation, antialias))
    compiled = engine.compile_model(model, (None, None, None, 3))
    return functools.partial(_call, compiled)


def _call(compiled: Callable[[Any], Any], images: np.ndarray) -> Any:
    from tfl import engine

    with engine.exact_float32():
        return compiled(images)


def resize_by_keras(pixels: Any, interpolation: str, antialias: bool) -> Any:
    """Resize as `keras.ops.image.resize` does."""
    from keras import ops

    return ops.image.resize(
        pixels, (SIZE, SIZE), interpolation=interpolation, antialias=antialias, data_format="channels_last"
    )


def resize_by_products(pixels: Any, interpolation: Any, antialias: bool) -> Any:
    """Resize as `tfl.backbones.resampling` does."""
    from tfl.backbones.resampling import resample

    return resample(pixels, SIZE, interpolation, antialias, "stretch")


def largest_difference(keras_way: Way, our_way: Way) -> float:
    """Return how far two ways' pixels differ at most, of 255."""
    return float(np.abs(keras_way.run() - our_way.run()).max())


if __name__ == "__main__":
    tyro.cli(main)
