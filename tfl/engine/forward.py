"""A backbone made ready to run on batches of one size."""

import importlib.metadata
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from keras import ops

from tfl.backbones import Backbone
from tfl.engine import int8
from tfl.engine.arithmetic import exact_float32
from tfl.engine.engines import compile_model, find_engine
from tfl.engine.kept_models import Facts
from tfl.engine.provenance import describe_engine
from tfl.engine.record import Compiled
from tfl.engine.resizing import compile_single_view, serves_single_images
from tfl.machine.keras_settings import pin_keras_settings
from tfl.specs import View


class Forward:
    """A backbone made ready to run on batches of exactly `batch_size` images.

    Args:
      engine: a name that `resolve_engine` returned, for the network; the Keras backend resizes images.
      image_shape: height and width of all images, if they are the same. An int8 network then
        resizes them itself, if they are small.
      is_kept: whether the compiled network is kept for the next process, if the engine can do that.
    """

    @pin_keras_settings()
    def __init__(
        self,
        backbone: Backbone,
        batch_size: int,
        engine: str = "",
        image_shape: tuple[int, int] | None = None,
        is_kept: bool = True,
    ) -> None:
        self._backbone = backbone
        self._is_kept = is_kept
        self._batch_size = batch_size
        self._views: dict[tuple[View, bool], Compiled] = {}
        self._image_shape = image_shape
        self._engine = engine
        with exact_float32():
            _ = self._from_images or self._network

    @cached_property
    def _network(self) -> Compiled:
        """Pixels `(batch_size, size, size, 3)` to features `(batch_size, d)`."""
        spec = self._backbone.spec
        if self._backbone.quantized is not None:
            return int8.compile_pixels(self._backbone, self._batch_size, self._facts)
        engine = find_engine(self._engine)
        shape = (self._batch_size, spec.image_size, spec.image_size, 3)
        facts = self._facts
        if engine.compile_kept is not None and self._backbone.packages and facts is not None:
            return engine.compile_kept(lambda: self._backbone.network, shape, spec.compute_dtype, facts)
        network = engine.prepare(self._backbone.network, spec.compute_dtype)
        return compile_model(network, shape, self._engine, spec.compute_dtype)

    @property
    def _facts(self) -> Facts | None:
        """Everything that decides the compiled network; None if it is not kept."""
        if not self._is_kept:
            return None
        packages = {name: importlib.metadata.version(name) for name in self._backbone.packages}
        return {
            "features": self._backbone.spec.to_json(),
            "packages": packages,
            **describe_engine(self._engine, self._batch_size),
        }

    @cached_property
    def _from_images(self) -> int8.CompiledViews | None:
        """Resizing and the network as one graph; None where they are two."""
        if self._image_shape is None or not int8.can_compile_images(self._backbone, self._image_shape):
            return None
        return int8.compile_images(self._backbone, self._batch_size, self._image_shape, self._facts)

    def features(self, images: Sequence[np.ndarray], view: View = "original") -> np.ndarray:
        """Return the float32 features `(n, d)` of `n <= batch_size` images under a view.

        Images of one size are resized together, others one by one, by the same function on the device. A
        short batch is padded with copies of its first image, so that every batch runs the same computation.

        Args:
          images: uint8 `(h, w, 3)`, or pixels that `presented` returned.
        """
        return self.start(images, view)()

    def compute_all(self, images: Sequence[np.ndarray], view: View = "original") -> np.ndarray:
        """Return the features `(n, d)` of any number of images, one or more, batch by batch."""
        size = self._batch_size
        batches = [images[start : start + size] for start in range(0, len(images), size)]
        return np.concatenate([self.features(batch, view) for batch in batches])

    @pin_keras_settings()
    def start(self, images: Sequence[np.ndarray], view: View = "original") -> Callable[[], np.ndarray]:
        """Begin with `features`, and return a function that waits for them.

        An accelerator computes in the meantime.
        """
        num_padding = self._batch_size - len(images)
        is_uniform = len({(image.shape, image.dtype) for image in images}) == 1
        with exact_float32():
            if self._from_images is not None and images[0].dtype == np.uint8:
                batch = np.stack([*images, *[images[0]] * num_padding])
                features = self._from_images(batch, view)  # (batch_size, d)
                return lambda: features[: len(images)]
            if len(images) > 1 and is_uniform:
                batch = np.stack([*images, *[images[0]] * num_padding])
                pixels = self._present(batch, view)  # (batch_size, size, size, 3)
            else:
                singly = [self._present(image[None], view) for image in images]
                pixels = ops.concatenate(singly + singly[:1] * num_padding)  # (batch_size, size, size, 3)
            features = self._network(pixels)  # (batch_size, d)
        return lambda: np.asarray(ops.convert_to_numpy(features)[: len(images)])

    @pin_keras_settings()
    def presented(self, image: np.ndarray, view: View = "original") -> np.ndarray:
        """Return the network's pixels of an image, float32 `(size, size, 3)`.

        They take the same memory however large the image is.
        """
        with exact_float32():
            return np.asarray(ops.convert_to_numpy(self._present(image[None], view))[0])

    def _present(self, batch: np.ndarray, view: View) -> Any:
        """Return the network's pixels `(n, size, size, 3)` of uint8 images, or of such pixels themselves."""
        if batch.dtype == np.float32:
            return batch
        return self._compiled_view(view, is_single=len(batch) == 1)(batch)

    def _compiled_view(self, view: View, is_single: bool) -> Compiled:
        """Return the compiled view; it is compiled when the first batch needs it."""
        is_own = is_single and serves_single_images(self._backbone.spec)
        if (view, is_own) not in self._views:
            self._views[view, is_own] = (
                compile_single_view(self._backbone.spec, view)
                if is_own
                else compile_model(self._backbone.build_views((view,)), (None, None, None, 3))
            )
        return self._views[view, is_own]
