"""Searches: fit every setting of a recipe, choose one on validation rows, refit it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np

from tfl.heads import model
from tfl.heads.recipe import Recipe
from tfl.heads.rows import LabelledFeatures
from tfl.heads.trials import Epoch, Listeners, Trial
from tfl.machine.keras_settings import pin_keras_settings
from tfl.metrics import measure


@dataclass(frozen=True)
class Search:
    """The result of a recipe.

    Attributes:
      head: features `(n, d)` to logits `(n, c)`, fitted on the fitting rows with the chosen setting.
      trials: every setting that was tried, in order.
      chosen: index of the chosen trial.
      val_logits: logits of `head` on the validation rows, `(n, c)`; None without validation rows.
      refit: fits the chosen setting on other rows, and returns the head.
      history: one entry an epoch, of recipes that have epochs.
      begun: how many recipes were begun: more than one under `best`.
    """

    head: keras.Model
    trials: list[Trial]
    chosen: int
    val_logits: np.ndarray | None
    refit: Callable[[LabelledFeatures], keras.Model]
    history: list[Epoch] = field(default_factory=list)
    begun: int = 1

    @property
    def trial(self) -> Trial:
        """The chosen trial."""
        return self.trials[self.chosen]


@pin_keras_settings()
def search(
    recipe: Recipe, fitting: LabelledFeatures, val: LabelledFeatures | None, listeners: Listeners = Listeners()
) -> Search:
    """Run a recipe, and check its head.

    Args:
      val: the rows to choose on; without them the recipe's last setting is taken, so it should have
        one only.

    Raises:
      RunError: training diverged, or the head is not finite; or `best` has no validation rows.
    """
    found = recipe.search(fitting, val, listeners)
    require_finite_head(found.head, recipe)

    @pin_keras_settings()
    def refit(rows: LabelledFeatures) -> keras.Model:
        return require_finite_head(found.refit(rows), recipe)

    return replace(found, refit=refit)


def require_finite_head(head: keras.Model, recipe: Recipe) -> keras.Model:
    """Return the head that a recipe made, if all its weights are numbers.

    Raises:
      RunError: its weights are not; the message says which, how many, and what to try.
    """
    model.require_finite(head, f"the recipe {recipe.name} diverged", recipe.advice)
    return head


def measure_trial(
    recipe: str,
    setting: Mapping[str, Any],
    started: float,
    val_logits: np.ndarray | None,
    val: LabelledFeatures | None,
) -> Trial:
    """Return the trial of a setting that began at `started`, on the clock of `time.perf_counter`.

    Args:
      val_logits: the logits that it gave the validation rows, `(n, c)`.
    """
    trial = Trial(recipe=recipe, setting=dict(setting), seconds=round(time.perf_counter() - started, 3))
    if val is None or val_logits is None:
        return trial
    accuracy, loss = compute_weighted_accuracy(val_logits, val), measure(val_logits, val.labels).loss
    return replace(trial, val_accuracy=accuracy, val_loss=loss)


def compute_weighted_accuracy(logits: np.ndarray, val: LabelledFeatures) -> float:
    """Return the accuracy on validation rows, weighed by class: balanced if the training is."""
    weights = val.weights.astype(np.float64)
    return float(weights[logits.argmax(axis=1) == val.labels].sum() / weights.sum())


def choose_trial(trials: list[Trial]) -> int:
    """Return the index of the trial with the best validation accuracy; of equals, the least loss.

    Without validation rows it is the last one.
    """
    if trials[-1].val_accuracy is None:
        return len(trials) - 1
    ranks = [rank_trial(trial) for trial in trials]
    return ranks.index(max(ranks))


def rank_trial(trial: Trial) -> tuple[float, float]:
    """Return a key that is larger for a better trial that was measured on validation rows."""
    assert trial.val_accuracy is not None
    assert trial.val_loss is not None
    return trial.val_accuracy, -trial.val_loss
