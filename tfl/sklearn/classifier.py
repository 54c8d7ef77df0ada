"""Transfer learning as a classifier of scikit-learn: images and labels in, classes out."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from tfl.sklearn.errors import EstimatorError, raise_value_errors
from tfl.sklearn.extractor import MEMORY_LIMIT, FeatureExtractor, describe_images
from tfl.sklearn.labels import encode_labels, name_classes, require_one_each
from tfl.sklearn.parameters import (
    EXTRACTOR_PARAMETERS,
    SEPARATOR,
    change_settings,
    find_recipe,
    list_settings,
    make_selection,
)

if TYPE_CHECKING:
    from tfl.artefacts.manifest import Parity
    from tfl.heads import Recipe


class TransferClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A frozen pretrained backbone with a head that one of tfl's recipes trains.

    The recipe is a name or a recipe with settings: `"logistic"` or `tfl.Logistic(l2=(0.1,))`. Its
    settings are parameters too, as those of nested estimators are: `set_params(recipe__l2=0.1)`, or
    `{"recipe__l2": [0.01, 0.1]}` in a grid. A setting that lists candidates is chosen on a part of
    the training images, and the head is then fitted on all of them, as `tfl train` does. With one
    candidate it is fitted on all of them at once. The parameters from `backbone` on are those of
    `FeatureExtractor`.

    Args:
      recipe: how the head is trained.
      validation_fraction: share of each class's images that candidates are chosen on.
      class_weight: `balanced` weights every image by the inverse of its class's frequency.
      calibrate: fit a temperature on that share, and put it into the head.

    Attributes:
      classes_: the labels, sorted; of any type.
      extractor_: the `FeatureExtractor` that it was fitted with.
      run_: the trained head, and what was tried and chosen on the way.
    """

    def __init__(
        self,
        recipe: "Recipe | str" = "logistic",
        *,
        validation_fraction: float = 0.1,
        class_weight: str | None = None,
        calibrate: bool = False,
        backbone: str = "resnet50",
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
        self.recipe = recipe
        self.validation_fraction = validation_fraction
        self.class_weight = class_weight
        self.calibrate = calibrate
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

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters; with `deep`, also the recipe's settings as `recipe__<setting>`."""
        parameters: dict[str, Any] = super().get_params(deep=False)
        return {**parameters, **list_settings(self.recipe)} if deep else parameters

    def set_params(self, **parameters: Any) -> Self:
        """Set parameters, and settings of the recipe as `recipe__<setting>`.

        Raises:
          EstimatorError: the recipe has no such setting, or does not take its value.
          ValueError: there is no such parameter.
        """
        prefix = f"recipe{SEPARATOR}"
        settings = {
            name.removeprefix(prefix): parameters.pop(name) for name in list(parameters) if name.startswith(prefix)
        }
        super().set_params(**parameters)
        if settings:
            with raise_value_errors():
                self.recipe = change_settings(self.recipe, settings)
        return self

    def fit(self, X: Any, y: Any) -> Self:
        """Train a head on the features of images.

        Args:
          X: see `FeatureExtractor.transform`.
          y: a label for each image: whole numbers or texts `(n,)`.

        Raises:
          EstimatorError: a parameter, an image or a label does not suit, or training diverged.
        """
        from tfl.sklearn.training import FittedRun, label_features

        with raise_value_errors():
            recipe = find_recipe(self.recipe)
            selection = make_selection(self.validation_fraction, self.class_weight, self.calibrate)
            classes, labels = encode_labels(y)
            names = name_classes(classes)
            extractor = FeatureExtractor(**{name: getattr(self, name) for name in EXTRACTOR_PARAMETERS}).fit(X)
            require_one_each(labels, len(X))
            rows = label_features(extractor.transform(X), labels, len(classes), selection)
            run = FittedRun.train(recipe, selection, names, rows)
        self.extractor_, self.run_, self.classes_ = extractor, run, classes
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable label of each image, `(n,)`."""
        logits = self._compute_logits(X)  # (n, c)
        return np.asarray(self.classes_[logits.argmax(axis=1)])

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities `(n, c)`, in the order of `classes_`; of a temperature with `calibrate`."""
        from tfl.metrics import log_softmax

        return np.asarray(np.exp(log_softmax(self._compute_logits(X))))

    def export(self, path: Path | str, X: Any, format: str = "saved-model", quantize: str = "none") -> "Parity":  # noqa: A002
        """Write the backbone and the head as one model that takes raw images; see `tfl.export`.

        Args:
          path: of a folder that does not exist yet.
          X: some images. A fresh process loads the model, which has to answer for them as the
            features of this process do; else nothing is left in place.
          format, quantize: see `tfl.Artefact`.

        Raises:
          ExportError: see `tfl.export`.
        """
        from tfl.sklearn.exporting import export_run

        check_is_fitted(self)
        with raise_value_errors():
            return export_run(self.run_, self.extractor_, X, Path(path), {"format": format, "quantize": quantize})

    def _compute_logits(self, X: Any) -> np.ndarray:
        """Return the logits of images, `(n, c)`."""
        check_is_fitted(self)
        features = self.extractor_.transform(X)  # (n, d)
        logits: np.ndarray = self.run_.head.compute_logits(features)
        if not np.isfinite(logits).all():
            raise EstimatorError("the logits of an image are not finite; fit again")
        return logits

    def __sklearn_tags__(self) -> Any:
        return describe_images(super().__sklearn_tags__(), requires_fit=True)
