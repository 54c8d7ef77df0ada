"""A head trained on the features of labelled images, as `tfl train` trains one on a cache."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from tfl.heads import Recipe
from tfl.heads.rows import LabelledFeatures
from tfl.heads.selection import compute_class_weights
from tfl.heads.trials import Epoch, Trial
from tfl.machine.keras_settings import pin_keras_settings
from tfl.runs.calibration import Calibration
from tfl.runs.fitting import Trained, train_on_rows
from tfl.runs.history import Choice
from tfl.runs.metrics import RoleMetrics
from tfl.runs.training import calibrate_head
from tfl.sklearn.errors import EstimatorError
from tfl.sklearn.head import FittedHead
from tfl.specs import Selection


@dataclass(frozen=True)
class FittedRun:
    """What a training leaves, without a folder.

    Attributes:
      head: with the temperature inside, if that was asked for.
      validation: metrics of the rows that settings were chosen on; None for recipes without choices.
    """

    recipe: Recipe
    selection: Selection
    class_names: tuple[str, ...]
    head: FittedHead
    calibration: Calibration
    trials: list[Trial]
    chosen: Choice | None
    history: list[Epoch]
    validation: RoleMetrics | None

    @classmethod
    @pin_keras_settings()
    def train(cls, recipe: Recipe, selection: Selection, class_names: tuple[str, ...], rows: LabelledFeatures) -> Self:
        """Train a head on rows.

        Raises:
          EstimatorError: calibration is asked for, and the recipe has no validation rows.
          RunError: training diverged, or there is no row to choose settings on.
        """
        if selection.calibrate and not recipe.has_choices:
            raise EstimatorError(f"calibrate needs validation rows, and the recipe {recipe.name} has none")
        trained = train_on_rows(recipe, rows, selection, class_names)
        trained, calibration = calibrate_head(trained, recipe, selection)
        return cls(
            recipe,
            selection,
            class_names,
            FittedHead(trained.head),
            calibration,
            trained.trials,
            trained.chosen,
            trained.history,
            _measure(trained, calibration, class_names),
        )

    def as_trained(self) -> Trained:
        """Return the head and what was noted while it was trained, as `tfl train` writes it."""
        return Trained(self.head.model, self.trials, self.chosen, self.history)


def _measure(trained: Trained, calibration: Calibration, class_names: tuple[str, ...]) -> RoleMetrics | None:
    if trained.val is None:
        return None
    logits, labels = trained.val
    return calibration.measure([(calibration.apply(logits), labels)], class_names)


def label_features(features: np.ndarray, labels: np.ndarray, num_classes: int, selection: Selection) -> Any:
    """Return features `(n, d)` with their labels `(n,)`, and the weights of the classes."""
    weights = compute_class_weights(np.bincount(labels, minlength=num_classes), selection)
    return LabelledFeatures((features,), labels, num_classes, weights)
