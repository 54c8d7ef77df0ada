"""A backbone that is run on batches of one size."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfl.backbones.backbone import Backbone
from tfl.backbones.folding import convert_to_float32, fold_batch_norm
from tfl.engine.arithmetic import exact_float32
from tfl.engine.compiled import Compiled, compile_model
from tfl.engine.machine import OPENVINO, has_accelerator
from tfl.engine.memory import keep_freed_memory
from tfl.engine.resizing import has_few_shapes, present_singly
from tfl.machine.keras_settings import pin_keras_settings
from tfl.specs import View


class Forward:
    """A backbone made ready to run on batches of exactly `batch_size` images.

    Args:
      engine: of `chosen`, for the network; images are resized by the Keras backend.
    """

    @pin_keras_settings()
    def __init__(self, backbone: Backbone, batch_size: int, engine: str = "") -> None:
        spec = backbone.spec
        self._backbone = backbone
        self._batch_size = batch_size
        self._presented: dict[tuple[View, bool], Compiled] = {}
        if not has_accelerator():
            keep_freed_memory()
        with exact_float32():
            shape = (batch_size, spec.image_size, spec.image_size, 3)
            network = _prepared(backbone.network, engine, spec.compute_dtype)
            self._network = compile_model(network, shape, engine, spec.compute_dtype)

    def features(self, images: Sequence[np.ndarray], view: View = "original") -> np.ndarray:
        """Float32 `(n, d)` features of `n <= batch_size` images, each presented as `view` says.

        Images of one size are resized together, of differing sizes one by one, by the same function on the device.
        A short batch is padded with copies of its first image, so that every batch runs the same computation.

        Args:
          images: uint8 `(h, w, 3)`, or what `presented` made of such.
        """
        return self.start(images, view)()

    @pin_keras_settings()
    def start(self, images: Sequence[np.ndarray], view: View = "original") -> Callable[[], np.ndarray]:
        """Begin with `features`; what is returned waits for them. An accelerator is at work in the meantime."""
        spare = self._batch_size - len(images)
        with exact_float32():
            if len(images) > 1 and len({(image.shape, image.dtype) for image in images}) == 1:
                pixels = self._shown(np.stack([*images, *[images[0]] * spare]), view)
            else:
                shown = [self._shown(image[None], view) for image in images]
                pixels = ops.concatenate(shown + shown[:1] * spare)  # (batch_size, size, size, 3)
            features = self._network(pixels)
        return lambda: np.asarray(ops.convert_to_numpy(features)[: len(images)])

    @pin_keras_settings()
    def presented(self, image: np.ndarray, view: View = "original") -> np.ndarray:
        """What the network is shown of an image, float32 `(size, size, 3)`: as large however large the image is."""
        with exact_float32():
            return np.asarray(ops.convert_to_numpy(self._shown(image[None], view))[0])

    def _shown(self, batch: np.ndarray, view: View) -> Any:
        """Pixels for the network, `(n, size, size, 3)`, of uint8 images or of what has been presented before."""
        return batch if batch.dtype == np.float32 else self._present(view, len(batch) == 1)(batch)

    def _present(self, view: View, is_single: bool) -> Compiled:
        """Compiled when the first batch needs it."""
        is_own = is_single and has_few_shapes(self._backbone.spec)
        if (view, is_own) not in self._presented:
            self._presented[view, is_own] = (
                present_singly(self._backbone.spec, view)
                if is_own
                else compile_model(self._backbone.presented(view), (None, None, None, 3))
            )
        return self._presented[view, is_own]


def _prepared(network: keras.Model, engine: str, compute_dtype: str) -> keras.Model:
    """The network as an engine takes it.

    OpenVINO takes the float32 network for every dtype and is told the arithmetic: it cannot run layers that Keras built
    for another (OpenVINO 2026.4.1: "cpu_convert can't convert from: f32 precision to: dynamic").
    TensorFlow and OpenVINO fold BatchNormalization themselves; where an engine would carry it out, it is folded here.
    """
    runner = engine or keras.backend.backend()
    if runner == OPENVINO:
        return network if compute_dtype == "float32" else convert_to_float32(network)
    return network if runner == "tensorflow" else fold_batch_norm(network)
