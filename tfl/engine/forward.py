"""A backbone that is run on batches of one size."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from tfl.backbone import Backbone
from tfl.engine.arithmetic import exact_float32
from tfl.engine.compiled import Compiled, compile_model
from tfl.engine.machine import OPENVINO
from tfl.folding import fold_batch_norm
from tfl.spec import View


class Forward:
    """A backbone made ready to run on batches of exactly `batch_size` images.

    Args:
      engine: of `chosen`, for the network; images are resized by the Keras backend.
    """

    def __init__(self, backbone: Backbone, batch_size: int, engine: str = "") -> None:
        spec = backbone.spec
        self._backbone = backbone
        self._batch_size = batch_size
        self._presented: dict[View, Compiled] = {}
        with exact_float32():
            shape = (batch_size, spec.image_size, spec.image_size, 3)
            self._network = compile_model(_folded(backbone.network, engine), shape, engine, spec.compute_dtype)

    def features(self, images: Sequence[np.ndarray], view: View = "original") -> np.ndarray:
        """Float32 `(n, d)` features of `n <= batch_size` uint8 images `(h, w, 3)`, each presented as `view` says.

        Images of one size are resized together, of differing sizes one by one, by the same function on the device.
        A short batch is padded with copies of its first image, so that every batch runs the same computation.
        """
        padded = [*images, *[images[0]] * (self._batch_size - len(images))]
        is_uniform = len({image.shape for image in images}) == 1
        batches = [np.stack(padded)] if is_uniform else [image[None] for image in padded]
        with exact_float32():
            presented = [self._present(view)(batch) for batch in batches]
            pixels = presented[0] if is_uniform else ops.concatenate(presented)  # (batch_size, size, size, 3)
            return np.asarray(ops.convert_to_numpy(self._network(pixels))[: len(images)])

    def _present(self, view: View) -> Compiled:
        """Compiled when the first batch needs it."""
        if view not in self._presented:
            self._presented[view] = compile_model(self._backbone.presented(view), (None, None, None, 3))
        return self._presented[view]


def _folded(network: keras.Model, engine: str) -> keras.Model:
    """Without BatchNormalization where the engine would carry it out: TensorFlow and OpenVINO fold it themselves."""
    return network if (engine or keras.backend.backend()) in ("tensorflow", OPENVINO) else fold_batch_norm(network)
