"""The recipe `reference`: one Dense layer by SGD, on rows in memory or streamed from the cache."""

import math
import time

import keras
import numpy as np
from keras import ops

from tfl.errors import RunError
from tfl.heads.examples import Examples
from tfl.heads.model import build_dense, compute_logits
from tfl.heads.reference import Reference
from tfl.heads.rows import LabelledFeatures
from tfl.heads.search import Search, measure_trial
from tfl.heads.solvers.sgd import Group, Setting, State, Trainer, draw_start, join_starts
from tfl.heads.trials import Epoch, Listeners, OnEpoch, ignore
from tfl.machine.keras_settings import pin_keras_settings
from tfl.metrics import Metrics, measure_blocks


@pin_keras_settings()
def fit(
    recipe: Reference,
    train: Examples,
    num_classes: int,
    val: Examples | None = None,
    on_epoch: OnEpoch = ignore,
    class_weights: np.ndarray | None = None,
) -> tuple[keras.Model, list[Epoch]]:
    """Train `Dense(num_classes)` on features.

    In every epoch the blocks come in a new order, and so do the rows of each block; one view of
    each row is drawn.

    Args:
      val: the validation rows, which are only measured.
      class_weights: weight of a row of each class, `(c,)`; 1 if None.

    Returns:
      The head, features to logits, and one entry an epoch.

    Raises:
      RunError: the loss is no longer finite.
      CacheError: a streamed cache is damaged.
    """
    if class_weights is None:
        class_weights = np.ones(num_classes, np.float32)
    setting = Setting(recipe.learning_rate, 0.0, recipe.seed)
    trainer = Trainer(Group(train.num_features, class_weights, recipe.batch_size, recipe.momentum, (setting,)))
    rng = np.random.default_rng(recipe.seed)
    state = join_starts([draw_start(train.num_features, num_classes, rng)])
    history = []
    for number in range(1, recipe.epochs + 1):
        started = time.perf_counter()
        state, losses, accuracies = trainer.train_epoch(train, state, rng)
        loss, accuracy = float(losses[0]), float(accuracies[0])
        val_metrics = None if val is None else _measure(state, val)
        epoch = Epoch(
            epoch=number,
            loss=loss,
            accuracy=accuracy,
            val_loss=None if val_metrics is None else val_metrics.loss,
            val_accuracy=None if val_metrics is None else val_metrics.accuracy,
            seconds=round(time.perf_counter() - started, 3),
        )
        if not math.isfinite(loss):
            raise RunError(f"the loss is {loss} in epoch {number} with {recipe}; {recipe.advice}")
        history.append(epoch)
        on_epoch(epoch)
    return build_dense([(state[0], state[1])]), history


def _measure(state: State, val: Examples) -> Metrics:
    kernel, bias = (ops.convert_to_numpy(parameter) for parameter in state[:2])  # (d, c), (c,)
    return measure_blocks((features @ kernel + bias, labels) for features, labels in val.blocks())  # (m, c), (m,)


def search(recipe: Reference, fitting: LabelledFeatures, val: LabelledFeatures | None, listeners: Listeners) -> Search:
    """Train on the fitting rows: a search of one setting. The validation rows are only measured."""

    def refit(rows: LabelledFeatures) -> keras.Model:
        head, _ = fit(recipe, rows.stacked(), rows.num_classes, class_weights=rows.class_weights)
        return head

    started = time.perf_counter()
    head, history = fit(recipe, fitting.stacked(), fitting.num_classes, None, listeners.on_epoch, fitting.class_weights)
    val_logits = None if val is None else compute_logits(head, val.features)
    trial = measure_trial(recipe.name, {"learning_rate": recipe.learning_rate}, started, val_logits, val)
    listeners.on_trial(trial)
    return Search(head, [trial], 0, val_logits, refit, history)


def draw_randomness(
    recipe: Reference, num_rows: int, num_features: int, num_classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw what `fit` leaves to chance, so that another program can train the same.

    It is the same for rows in memory with one view.

    Returns:
      Kernel `(d, c)`, bias `(c,)`, and the order of the rows in each epoch, `(epochs, n)`.
    """
    rng = np.random.default_rng(recipe.seed)
    kernel, bias = draw_start(num_features, num_classes, rng)
    orders = [rng.permutation(num_rows) for _ in range(recipe.epochs)]
    return kernel, bias, np.stack(orders)
