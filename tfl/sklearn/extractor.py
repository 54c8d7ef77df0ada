"""The frozen backbone as a transformer of scikit-learn: images in, features out."""

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin

from tfl.sklearn.errors import EstimatorError, raise_value_errors
from tfl.sklearn.parameters import make_feature_spec, to_plain

if TYPE_CHECKING:
    from tfl.sklearn.network import Network

MEMORY_LIMIT = 1 << 30  # bytes: the features of 125,000 images of a ResNet50


class FeatureExtractor(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A frozen pretrained backbone: images to pooled features, float32 `(n, d)`.

    There is nothing to fit. Features of images that this process has seen before are taken from
    memory: their key is the content of the image, so that every fold and every candidate of a search
    computes each image once. Processes share no memory: with `n_jobs` each computes its own.

    The parameters from `backbone` to `compute_dtype` are those of `tfl.FeatureSpec`; `int8` is not
    offered, for it is quantised on a training split. `engine` and `batch_size` are those of
    `tfl.Settings`.

    Args:
      memory_limit: most bytes of features that the process keeps for later calls; 0 for none.

    Attributes:
      weights_: the digest of the backbone's tensors, once it was fitted. An estimator that was
        pickled refuses to go on with other weights.
    """

    def __init__(
        self,
        backbone: str = "resnet50",
        *,
        weights: str = "imagenet",
        image_size: int = 224,
        resize_mode: str = "stretch",
        interpolation: str = "bilinear",
        antialias: bool = False,
        layers: tuple[str, ...] = ("last",),
        pooling: tuple[str, ...] | str = ("avg",),
        compute_dtype: str = "float32",
        engine: str = "auto",
        batch_size: int = 0,
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.image_size = image_size
        self.resize_mode = resize_mode
        self.interpolation = interpolation
        self.antialias = antialias
        self.layers = layers
        self.pooling = pooling
        self.compute_dtype = compute_dtype
        self.engine = engine
        self.batch_size = batch_size
        self.memory_limit = memory_limit

    def fit(self, X: Any, y: Any = None) -> Self:
        """Load the backbone and note which weights it has; nothing is learnt from the images.

        Args:
          X: see `transform`.
        """
        from tfl.sklearn.images import open_images

        with raise_value_errors():
            open_images(X)
            self.weights_ = self._open_network().spec.weights
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the features of images, float32 `(n, d)`; it need not be fitted.

        Args:
          X: an array `(n, h, w, 3)` or grey `(n, h, w)`, uint8 or float in 0..1 or 0..255; a list of
            such images of several sizes; or a list of paths of image files.

        Raises:
          EstimatorError: a parameter or an image does not suit, or the weights are not those it was
            fitted with.
        """
        from tfl.sklearn.features import compute_features
        from tfl.sklearn.images import open_images

        with raise_value_errors():
            return compute_features(open_images(X), self._open_network(), _require_limit(self.memory_limit))

    def _open_network(self) -> "Network":
        from tfl.sklearn.network import Way, open_network

        parameters = self.get_params(deep=False)
        settings = _check_settings(parameters["engine"], to_plain(parameters["batch_size"]))
        network = open_network(Way(make_feature_spec(parameters), *settings))
        expected = getattr(self, "weights_", network.spec.weights)
        if network.spec.weights != expected:
            raise EstimatorError(
                f"the weights {self.weights!r} are not those that this estimator was fitted with",
                f"  weights: {expected} then, {network.spec.weights} now",
                "bring those weights back, or fit again",
            )
        return network

    @property
    def _n_features_out(self) -> int:
        """Columns of the features, for `get_feature_names_out`."""
        return self._open_network().num_features

    def __sklearn_tags__(self) -> Any:
        tags = describe_images(super().__sklearn_tags__(), requires_fit=False)
        tags.transformer_tags.preserves_dtype = []  # float32, whatever the images are
        return tags


def describe_images(tags: Any, requires_fit: bool) -> Any:
    """Return scikit-learn's tags of an estimator that takes images, or paths of images."""
    tags.requires_fit = requires_fit
    tags.input_tags.two_d_array = False
    tags.input_tags.three_d_array = True
    tags.input_tags.string = True
    return tags


def _check_settings(engine: Any, batch_size: Any) -> tuple[str, int]:
    """Return the engine and the batch size.

    Raises:
      EstimatorError: there is no such engine, or the size is negative.
    """
    from tfl.engine import ENGINES

    known = ("auto", "keras", *(name for name, record in ENGINES.items() if not record.is_backend))
    if engine not in known:
        raise EstimatorError(f"engine is one of {', '.join(known)}, got {engine!r}")
    if type(batch_size) is not int or batch_size < 0:
        raise EstimatorError(f"batch_size is a number of images, 0 or more, got {batch_size!r}")
    return engine, batch_size


def _require_limit(memory_limit: Any) -> int:
    limit = to_plain(memory_limit)
    if type(limit) is not int or limit < 0:
        raise EstimatorError(f"memory_limit is a number of bytes, 0 or more, got {memory_limit!r}")
    return limit
