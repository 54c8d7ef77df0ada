"""Resizing single images under JAX, which compiles a function anew for every size of image."""

from typing import Any

import keras
import numpy as np

from tfl.backbones.backbone import window
from tfl.engine.compiled import Compiled
from tfl.specs import FeatureSpec, View


def has_few_shapes(spec: FeatureSpec) -> bool:
    """Whether `present_singly` serves: under JAX, for what is the same along both axes and needs no other pixels."""
    return keras.backend.backend() == "jax" and spec.resize_mode == "stretch" and spec.interpolation != "nearest"


def present_singly(spec: FeatureSpec, view: View) -> Compiled:
    """As `Backbone.presented`, of one image, uint8 `(1, h, w, 3)`; compiled for each power of two that holds h and w.

    The image is padded, and the weight that falls on the padding goes to the image's own pixels, as at its edges.
    """
    import jax
    from jax import numpy as jnp

    side, top, left = window(view, spec.image_size)
    shape = (spec.image_size, spec.image_size, 4)
    translation = -np.array([top, left], np.float32)

    @jax.jit  # type: ignore[untyped-decorator]
    def run(padded: Any, height: Any, width: Any) -> Any:
        inside = (jnp.arange(padded.shape[0]) < height)[:, None, None] & (jnp.arange(padded.shape[1]) < width)[:, None]
        pixels = jnp.concatenate([padded, inside], axis=-1, dtype=np.float32)  # (h, w, 4)
        scale = side / jnp.array([height, width], np.float32)
        shown = jax.image.scale_and_translate(
            pixels, shape, (0, 1), scale, translation, spec.interpolation, spec.antialias
        )
        return (shown[..., :3] / shown[..., 3:])[None]  # (1, size, size, 3)

    def present(batch: np.ndarray) -> Any:
        _, height, width, _ = batch.shape
        padded = np.zeros((_power_of_two(height), _power_of_two(width), 3), np.uint8)
        padded[:height, :width] = batch[0, :, ::-1] if view == "hflip" else batch[0]
        return run(padded, height, width)

    return present


def _power_of_two(count: int) -> int:
    """The least that is not below."""
    return 1 << (count - 1).bit_length()
