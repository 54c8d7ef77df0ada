"""Views, backbone and head joined as they were in training: raw images to a head's answers."""

import logging
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

from tfl import engine
from tfl.artefacts.origin import Origin
from tfl.backbones import Backbone
from tfl.backbones.folding import fold_batch_norm
from tfl.backbones.presentation import build_views
from tfl.machine.keras_settings import pin_keras_settings
from tfl.runs.folder import Run, open_run
from tfl.specs import INT8, MAX_IMAGE_PIXELS, FeatureSpec, View

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelInput:
    """What a model takes: the name, dtype and shape of its one input, the shape without the batch's axis."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


IMAGES = ModelInput("images", "uint8", (None, None, 3))


@dataclass(frozen=True)
class Combined:
    """Raw images to a head's answers, in the parts that exported graphs are made of.

    A head on imported features is the same with `presentation` and `network` that do nothing, see
    `wrap_head`.

    Attributes:
      presentation: uint8 images `(n, h, w, 3)` to float32 pixels, view after view:
        `(v * n, image_size, image_size, 3)`.
      network: those to float32 features `(n, d)`, the mean over the views.
      head: features to logits `(n, c)`.
      max_image_pixels: most pixels (height x width) that an encoded image may claim, where a graph
        decodes it itself.
      compute_dtype: arithmetic of the network, where a format's runtime has to be told it.
      quantized: the backbone whose int8 network computes the features of each view, instead of
        `network`, if `compute_dtype` is int8.
      takes: images, or features.
    """

    presentation: keras.Model
    network: keras.Model
    head: keras.Model
    class_names: tuple[str, ...]
    max_image_pixels: int = MAX_IMAGE_PIXELS
    compute_dtype: str = "float32"
    quantized: Backbone | None = None
    takes: ModelInput = IMAGES

    @property
    def takes_images(self) -> bool:
        """Whether it takes images, and not features."""
        return self.takes == IMAGES

    @property
    @pin_keras_settings()
    def model(self) -> keras.Model:
        """The whole: what it takes to `probabilities (n, c)`, `logits (n, c)` and `class_index (n,)`."""
        images = keras.Input(self.takes.shape, dtype=self.takes.dtype, name=self.takes.name)
        features = self.network(self.presentation(images), training=False)  # (n, d)
        logits = self.head(features)  # (n, c)
        answers = {
            "probabilities": ops.softmax(logits),
            "logits": logits,
            "class_index": ops.argmax(logits, axis=-1),
        }
        model = keras.Model(images, answers, name="tfl")
        model.trainable = False
        return model

    @pin_keras_settings()
    def build_classifier(self) -> keras.Model:
        """Return one Keras model, uint8 `(n, h, w, 3)` to probabilities `(n, c)`.

        Its layers `pixels`, `features`, `logits` and `probabilities` are where it can be sliced.
        """
        images = keras.Input((None, None, 3), dtype="uint8", name="images")
        pixels = layers.Identity(name="pixels")(self.presentation(images))  # (v * n, size, size, 3)
        features = layers.Identity(name="features")(self.network(pixels, training=False))  # (n, d)
        logits = layers.Identity(name="logits")(self.head(features))  # (n, c)
        probabilities = layers.Softmax(name="probabilities")(logits)
        model = keras.Model(images, probabilities, name="tfl")
        model.trainable = False
        return model

    @pin_keras_settings()
    def compute_logits(self, images: np.ndarray) -> np.ndarray:
        """Return logits `(n, c)` of uint8 images `(n, h, w, 3)`, computed in this process."""
        with engine.exact_float32():
            pixels = self.presentation(ops.convert_to_tensor(images))
            if self.quantized is None:
                features = self.network(pixels, training=False)  # (n, d)
            else:
                features = self._compute_int8(np.asarray(pixels), len(images))  # (n, d)
            return np.asarray(ops.convert_to_numpy(self.head(features)))

    @cached_property
    def _int8_network(self) -> engine.Compiled:
        assert self.quantized is not None
        return engine.compile_int8(self.quantized)

    def _compute_int8(self, pixels: np.ndarray, num_images: int) -> np.ndarray:
        """Return features `(n, d)`, the mean over the views, of pixels `(v * n, size, size, 3)`."""
        features = self._int8_network(pixels)  # (v * n, d)
        by_view = features.reshape(-1, num_images, features.shape[-1])  # (v, n, d)
        return np.asarray(by_view.mean(axis=0))


def combine(run: Run, head: keras.Model, built: Backbone) -> Combined:
    """Join a run's head with the backbone and the views that it was trained on."""
    head.trainable = False
    return Combined(
        built.build_views(run.views),
        built.build_view_mean(run.views),
        head,
        run.class_names,
        compute_dtype=built.spec.compute_dtype,
        quantized=built if built.quantized else None,
    )


@pin_keras_settings()
def wrap_head(run: Run, head: keras.Model) -> Combined:
    """Return a run's head alone, in the form that formats carry: it takes `features`, float32 `(n, d)`."""
    head.trainable = False
    takes = ModelInput("features", "float32", (int(head.input_shape[-1]),))
    return Combined(_do_nothing(takes), _do_nothing(takes), head, run.class_names, takes=takes)


def _do_nothing(takes: ModelInput) -> keras.Model:
    features = keras.Input(takes.shape, dtype=takes.dtype, name=takes.name)
    return keras.Model(features, layers.Identity()(features))


def fold(combined: Combined) -> Combined:
    """Return the same model with BatchNormalization folded into convolutions; an int8 network has it folded."""
    if combined.quantized is not None:
        return combined
    return replace(combined, network=fold_batch_norm(combined.network))


def use_portable_resizing(combined: Combined, spec: FeatureSpec, views: tuple[View, ...]) -> Combined:
    """Return the same model with resizing made of operations that every format can carry."""
    return replace(combined, presentation=build_views(spec, views, is_portable=True))


@pin_keras_settings()
def load_model(run_folder: Path | str, weights: str = "") -> keras.Model:
    """Return a run's backbone and head as one Keras model: raw images in, probabilities out.

    The model takes uint8 RGB images `(n, h, w, 3)` in 0..255, of any height and width, and returns
    float32 probabilities `(n, c)`, in the order of the run's class names. It can be called, saved
    and sliced like any Keras model: `keras.Model(model.input, model.get_layer("features").output)`
    returns features. A saved `.keras` file loads without tfl, unless the head is that of the recipe
    `knn`, which votes in a layer of tfl's own.

    Keras has no int8: of a run on int8 features the model has the float32 network, and its answers
    differ a little. A warning says so.

    Args:
      run_folder: the folder that `train` returned.
      weights: where the backbone's weights are now, if not where `precompute` found them.

    Raises:
      ExportError: the weights are not those that the features were made with.
      RunError, CacheError: see `open_run` and `open_cache`.
    """
    run = open_run(run_folder)
    cache = run.open_cache()
    head = run.load_head(cache)
    origin = Origin(cache, weights=weights)
    if cache.spec.features.compute_dtype == INT8:
        logger.warning(
            "%s was trained on int8 features, which Keras cannot compute: this model computes them in float32, and "
            "its answers differ a little from those that were measured; `tfl export --format openvino` has the int8 "
            "network",
            run_folder,
        )
        return combine(run, head, origin.build_in_float32()).build_classifier()
    return combine(run, head, origin.backbone).build_classifier()
