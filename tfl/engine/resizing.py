"""Resizing single images under JAX, which compiles a function anew for every size of image."""

from typing import Any

import keras
import numpy as np

from tfl.backbones.presentation import window_of
from tfl.engine.record import Compiled
from tfl.specs import FeatureSpec, View


def serves_single_images(spec: FeatureSpec) -> bool:
    """Whether `compile_single_view` serves: under JAX, for resizing that treats both axes alike without padding."""
    is_jax = keras.backend.backend() == "jax"
    return is_jax and spec.resize_mode == "stretch" and spec.interpolation != "nearest"


def compile_single_view(spec: FeatureSpec, view: View) -> Compiled:
    """Compile a view for one image, uint8 `(1, h, w, 3)`, anew for each power of two that holds h and w.

    The image is padded. The weight that falls on the padding goes to the image's own pixels, as at its edges.
    """
    import jax
    from jax import numpy as jnp

    side, top, left = window_of(view, spec.image_size)
    shape = (spec.image_size, spec.image_size, 4)
    translation = -np.array([top, left], np.float32)

    @jax.jit  # type: ignore[untyped-decorator]
    def run(padded: Any, height: Any, width: Any) -> Any:
        is_row = jnp.arange(padded.shape[0]) < height
        is_column = jnp.arange(padded.shape[1]) < width
        is_inside = is_row[:, None, None] & is_column[:, None]  # (h, w, 1)
        pixels = jnp.concatenate([padded, is_inside], axis=-1, dtype=np.float32)  # (h, w, 4)
        scale = side / jnp.array([height, width], np.float32)
        resized = jax.image.scale_and_translate(
            pixels, shape, (0, 1), scale, translation, spec.interpolation, spec.antialias
        )  # (size, size, 4)
        return (resized[..., :3] / resized[..., 3:])[None]  # (1, size, size, 3)

    def present(batch: np.ndarray) -> Any:
        _, height, width, _ = batch.shape
        padded = np.zeros((_round_to_power_of_two(height), _round_to_power_of_two(width), 3), np.uint8)
        padded[:height, :width] = batch[0, :, ::-1] if view == "hflip" else batch[0]
        return run(padded, height, width)

    return present


def _round_to_power_of_two(count: int) -> int:
    """Round up."""
    return 1 << (count - 1).bit_length()
