"""What every recipe returns: the settings it tried, the head that validation chose, and how to fit it on everything."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NotRequired, TypedDict

import keras
import numpy as np

from tfl.heads.examples import LabelledFeatures
from tfl.metrics import measure


class Epoch(TypedDict, total=False):
    """What one pass over the training rows gave; means are running, over the epoch's batches, as Keras reports."""

    epoch: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    seconds: float


class Trial(TypedDict):
    """One setting that was tried: on the fitting rows, measured on the validation rows (loss in nats)."""

    recipe: str
    setting: dict[str, Any]
    seconds: float
    val_accuracy: NotRequired[float]
    val_loss: NotRequired[float]


OnEpoch = Callable[[Epoch], None]
OnTrial = Callable[[Trial], None]


def silent(_: Any) -> None:
    """A listener that does nothing."""


@dataclass(frozen=True)
class Listeners:
    """Functions of the caller that are told how far a search is."""

    on_epoch: OnEpoch = silent
    on_trial: OnTrial = silent


@dataclass(frozen=True)
class Search:
    """A recipe carried out.

    Attributes:
      head: fitted on the fitting rows with the chosen setting, features `(n, d)` to logits `(n, c)`.
      trials: every setting tried, in order.
      chosen: which of them.
      val_logits: of the head on the validation rows, `(n, c)`; None without validation rows.
      refit: the head with the chosen setting fitted on the rows given.
      history: one entry an epoch, of recipes that have them.
      begun: how many recipes were carried out, of `best`.
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
        """The chosen one."""
        return self.trials[self.chosen]


def trial(
    recipe: str, setting: dict[str, Any], started: float, val_logits: np.ndarray | None, val: LabelledFeatures | None
) -> Trial:
    """A trial that began at `started`, on `time.perf_counter`'s clock, and gave these logits of the validation rows."""
    done = Trial(recipe=recipe, setting=setting, seconds=round(time.perf_counter() - started, 3))
    if val is not None and val_logits is not None:
        metrics = measure(val_logits, val.labels)
        done |= {"val_accuracy": choice_accuracy(val_logits, val), "val_loss": metrics.loss}
    return done


def choice_accuracy(logits: np.ndarray, val: LabelledFeatures) -> float:
    """Accuracy on validation rows, each counting what its class counts: balanced where the training is."""
    weights = val.weights.astype(np.float64)
    return float(weights[logits.argmax(axis=1) == val.labels].sum() / weights.sum())


def choose_trial(trials: list[Trial]) -> int:
    """The trial of the largest validation accuracy, of the least loss among equals; the last without validation."""
    if "val_accuracy" not in trials[-1]:
        return len(trials) - 1
    return max(range(len(trials)), key=lambda i: (trials[i]["val_accuracy"], -trials[i]["val_loss"]))
