"""Backbone, views and head joined again, as they were in training: raw images to a head's answers."""

from dataclasses import dataclass, replace

import keras
import numpy as np
from keras import ops

from tfl import engine
from tfl.backbones import backbone
from tfl.backbones.folding import fold_batch_norm
from tfl.cache import Cache
from tfl.errors import ExportError
from tfl.files import trust
from tfl.files.paths import expand_user
from tfl.machine.keras_settings import pin_keras_settings
from tfl.runs.run import Run
from tfl.specs import DIGEST_PREFIX, MAX_IMAGE_PIXELS, FeatureSpec, View


@dataclass(frozen=True)
class Combined:
    """Raw images to a head's answers, in the parts that exported graphs are made of.

    Attributes:
      shown: uint8 images `(n, h, w, 3)` to float32 pixels `(v * n, image_size, image_size, 3)`, view after view.
      network: those to float32 features `(n, d)`, the mean over the views.
      head: features to logits `(n, c)`.
      max_image_pixels: most pixels (height x width) that an encoded image may claim, where a graph decodes it itself.
    """

    shown: keras.Model
    network: keras.Model
    head: keras.Model
    class_names: tuple[str, ...]
    max_image_pixels: int = MAX_IMAGE_PIXELS

    @property
    @pin_keras_settings()
    def model(self) -> keras.Model:
        """All of it: uint8 `(n, h, w, 3)` to `probabilities (n, c)`, `logits (n, c)` and `class_index (n,)`."""
        images = keras.Input((None, None, 3), dtype="uint8", name="images")
        logits = self.head(self.network(self.shown(images), training=False))
        answers = {"probabilities": ops.softmax(logits), "logits": logits, "class_index": ops.argmax(logits, axis=-1)}
        model = keras.Model(images, answers, name="tfl")
        model.trainable = False
        return model

    @pin_keras_settings()
    def logits_of(self, images: np.ndarray) -> np.ndarray:
        """Logits `(n, c)` of uint8 images `(n, h, w, 3)`, computed here and now."""
        with engine.exact_float32():
            pixels = self.shown(ops.convert_to_tensor(images))
            return np.asarray(ops.convert_to_numpy(self.head(self.network(pixels, training=False))))


@pin_keras_settings()
def combine(run: Run, cache: Cache, weights: str = "") -> Combined:
    """What a run's head was trained for.

    Args:
      weights: where the backbone's weights are now, if not where `precompute` found them.

    Raises:
      ExportError: the weights are not those of the cache.
    """
    built = same_backbone(cache, weights or found_weights(cache))
    head = run.load_head(cache)
    head.trainable = False
    return Combined(built.shown(run.views), built.over(run.views), head, run.class_names)


def folded(combined: Combined) -> Combined:
    """The same with BatchNormalization folded into convolutions."""
    return replace(combined, network=fold_batch_norm(combined.network))


def portable(combined: Combined, spec: FeatureSpec, views: tuple[View, ...]) -> Combined:
    """The same with resizing of operations that every format can carry."""
    return replace(combined, shown=backbone.shown(spec, views, is_portable=True))


def found_dataset(cache: Cache) -> str:
    """The dataset as it was typed; or by its name, where it was carried as a file that is not here."""
    typed: str = cache.provenance["typed"]["dataset"]
    has_name = not cache.spec.dataset.version.startswith(DIGEST_PREFIX)
    place = cache.spec.dataset.dataset if has_name and not _is_there(typed) else typed
    return place if has_name and not _is_there(place) else _require_own(cache, "dataset", place)


def _is_there(place: str) -> bool:
    return expand_user(place).exists()


def found_weights(cache: Cache) -> str:
    """The weights as they were typed."""
    typed: str = cache.provenance["typed"]["weights"]
    return typed if typed in ("imagenet", "random") else _require_own(cache, "weights", typed)


def _require_own(cache: Cache, what: str, place: str) -> str:
    """A cache from elsewhere does not choose which of this machine's files are opened."""
    if not trust.is_own(cache.path):
        raise ExportError(
            f"{cache.path} was not made here (or has been copied) and says that its {what} is {place}; "
            f"if so, say it as well: --{what} {place}"
        )
    return place


def same_backbone(cache: Cache, weights: str) -> backbone.Backbone:
    """The backbone that a cache's features were made with.

    Raises:
      ExportError: these weights are not its.
    """
    built = backbone.build_backbone(replace(cache.spec.features, weights=weights))
    if built.spec.weights != cache.spec.features.weights:
        raise ExportError(
            f"the weights {weights!r} are not those that the features were made with",
            f"  weights: {cache.spec.features.weights} in the cache, {built.spec.weights} now",
        )
    return built
