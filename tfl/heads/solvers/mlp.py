"""The recipe `mlp`: hidden layers, trained by Keras' own loop."""

import math
import time
from dataclasses import replace
from typing import Any

import keras

from tfl import engine
from tfl.errors import RunError
from tfl.heads.mlp import Mlp
from tfl.heads.model import build_dense, compute_logits
from tfl.heads.rows import LabelledFeatures
from tfl.heads.search import Search, compute_weighted_accuracy, measure_trial
from tfl.heads.solvers.batches import Batches
from tfl.heads.solvers.members import average_members, build_network, get_members
from tfl.heads.solvers.standardisation import Scaling, compute_scaling
from tfl.heads.trials import Epoch, Listeners, OnEpoch, ignore
from tfl.metrics import measure

MIN_BATCH_SIZE = 8
MIN_STEPS = 8  # in an epoch; with few rows batches are smaller


def search(recipe: Mlp, fitting: LabelledFeatures, val: LabelledFeatures | None, listeners: Listeners) -> Search:
    """Train, and keep the epoch of the best validation accuracy; without val rows the last one.

    A refit trains with the same schedule for as many epochs as that took.

    Raises:
      RunError: the loss is no longer finite.
    """
    started = time.perf_counter()
    training = _train(recipe, fitting, val, recipe.epochs, listeners.on_epoch)
    val_logits = None if val is None else compute_logits(training.best_head, val.features)
    setting = {
        "hidden": list(recipe.hidden),
        "members": recipe.members,
        "dropout": recipe.dropout,
        "epochs": training.best_epoch,
        "of": recipe.epochs,
    }
    trial = measure_trial(recipe.name, setting, started, val_logits, val)
    listeners.on_trial(trial)

    def refit(rows: LabelledFeatures) -> keras.Model:
        return _train(recipe, rows, None, training.best_epoch, ignore).best_head

    return Search(training.best_head, [trial], 0, val_logits, refit, training.history)


def _train(
    recipe: Mlp, rows: LabelledFeatures, val: LabelledFeatures | None, epochs: int, on_epoch: OnEpoch
) -> "_Watch":
    """Return the watch of a finished training, with head, kept epoch and history."""
    scaling = compute_scaling(rows)
    network = build_network(recipe, rows)
    batch_size = min(recipe.batch_size, max(MIN_BATCH_SIZE, rows.num_rows // MIN_STEPS))
    batches = Batches(replace(recipe, batch_size=batch_size), rows, scaling)
    network.compile(
        keras.optimizers.AdamW(_make_schedule(recipe, len(batches)), weight_decay=recipe.weight_decay),
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing),
        weighted_metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
    )
    watch = _Watch(recipe, scaling, val, on_epoch)
    with engine.exact_float32():
        network.fit(batches, epochs=epochs, shuffle=False, verbose=0, callbacks=[watch])
    return watch


def _make_schedule(recipe: Mlp, steps_per_epoch: int) -> Any:
    """Return a linear warm-up, then a cosine to zero at the end of all epochs."""
    steps = recipe.epochs * steps_per_epoch
    warmup = math.ceil(recipe.warmup * steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else recipe.learning_rate,
        max(1, steps - warmup),
        warmup_target=recipe.learning_rate if warmup else None,
        warmup_steps=warmup,
    )


class _Watch(keras.callbacks.Callback):  # type: ignore[misc]
    """Measures every epoch, keeps the best one's head, and ends a training that gains nothing."""

    def __init__(self, recipe: Mlp, scaling: Scaling, val: LabelledFeatures | None, on_epoch: OnEpoch) -> None:
        super().__init__()
        self._recipe, self._scaling, self._val, self._on_epoch = recipe, scaling, val, on_epoch
        self._started = 0.0
        self._best = (-1.0, 0.0)  # accuracy and minus the loss
        self.best_epoch = 0
        self.history: list[Epoch] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        number, loss = epoch + 1, float(logs["loss"])
        if not math.isfinite(loss):
            raise RunError(f"the loss is {loss} in epoch {number} with {self._recipe}; {self._recipe.advice}")
        val_accuracy, val_loss = None, None
        if self._val is None:
            self.best_epoch, self.best_head = number, self._build_head()
        else:
            val_accuracy, val_loss = self._choose(number, self._val)
        seconds = round(time.perf_counter() - self._started, 3)
        entry = Epoch(
            epoch=number,
            loss=loss,
            accuracy=float(logs["accuracy"]),
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            seconds=seconds,
        )
        self.history.append(entry)
        self._on_epoch(entry)

    def _choose(self, number: int, val: LabelledFeatures) -> tuple[float, float]:
        """Keep the head if it is the best so far; return its validation accuracy and loss."""
        head = self._build_head()
        logits = compute_logits(head, val.features)
        accuracy, loss = compute_weighted_accuracy(logits, val), measure(logits, val.labels).loss
        if (accuracy, -loss) > self._best:
            self._best = accuracy, -loss
            self.best_epoch, self.best_head = number, head
        elif number - self.best_epoch >= self._recipe.patience:
            self.model.stop_training = True
        return accuracy, loss

    def _build_head(self) -> keras.Model:
        """Return the network so far as a head; its first layer takes raw features."""
        (kernel, bias), *rest = average_members(get_members(self.model))
        return build_dense([self._scaling.fold(kernel, bias), *rest])
