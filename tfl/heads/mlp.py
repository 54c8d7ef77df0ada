"""A head with hidden layers, trained by Keras' own loop."""

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import scipy.linalg

from tfl import engine
from tfl.errors import RunError
from tfl.heads.examples import LabelledFeatures
from tfl.heads.model import compute_logits, dense
from tfl.heads.search import Epoch, Listeners, OnEpoch, Search, choice_accuracy, silent, trial
from tfl.heads.standard import Scaling, compute_scaling
from tfl.metrics import measure
from tfl.specs.recipes import Mlp


def search(
    recipe: Mlp, fitting: LabelledFeatures, val: LabelledFeatures | None = None, listeners: Listeners = Listeners()
) -> Search:
    """Train, and keep the epoch of the best validation accuracy (the last one without validation rows).

    Refitting goes on with the same schedule for as many epochs as that took.

    Raises:
      RunError: the loss is no longer finite.
    """
    started = time.perf_counter()
    head, history, best = _train(recipe, fitting, val, recipe.epochs, listeners.on_epoch)
    val_logits = None if val is None else compute_logits(head, val.features)
    setting = {
        "hidden": list(recipe.hidden),
        "members": recipe.members,
        "dropout": recipe.dropout,
        "epochs": best,
        "of": recipe.epochs,
    }
    done = trial("mlp", setting, started, val_logits, val)
    listeners.on_trial(done)
    return Search(head, [done], 0, val_logits, lambda rows: _train(recipe, rows, None, best, silent)[0], history)


def _train(
    recipe: Mlp, rows: LabelledFeatures, val: LabelledFeatures | None, epochs: int, on_epoch: OnEpoch
) -> tuple[keras.Model, list[Epoch], int]:
    """The head, one entry an epoch, and the number of the epoch whose weights were kept."""
    scaling = compute_scaling(rows)
    network = _network(recipe, rows)
    size = min(recipe.batch_size, max(8, rows.num_rows // 8))  # of few rows, several steps an epoch all the same
    batches = _Batches(replace(recipe, batch_size=size), rows, scaling)
    network.compile(
        keras.optimizers.AdamW(_schedule(recipe, len(batches)), weight_decay=recipe.weight_decay),
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing),
        weighted_metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
    )
    watch = _Watch(recipe, scaling, val, on_epoch)
    with engine.exact_float32():
        network.fit(batches, epochs=epochs, shuffle=False, verbose=0, callbacks=[watch])
    return watch.best_head, watch.history, watch.best_epoch


def _network(recipe: Mlp, rows: LabelledFeatures) -> keras.Model:
    """Standardised features `(n, d)` to the members' logits `(n, k, c)`, every random number from the recipe's seed."""
    seeds = iter(range(recipe.seed * 1000, (recipe.seed + 1) * 1000))
    features = keras.Input((rows.num_features,))
    kept = keras.layers.Dropout(recipe.dropout / 2, seed=next(seeds))(features)
    members = [_member(recipe, rows.num_classes, seeds)(kept) for _ in range(recipe.members)]
    return keras.Model(features, keras.ops.stack(members, axis=1))


def _member(recipe: Mlp, num_classes: int, seeds: Iterator[int]) -> keras.Sequential:
    layers: list[Any] = []
    for width in recipe.hidden:
        kernel = keras.initializers.HeUniform(seed=next(seeds))
        layers.append(keras.layers.Dense(width, activation="relu", kernel_initializer=kernel))
        layers.append(keras.layers.Dropout(recipe.dropout, seed=next(seeds)))
    kernel = keras.initializers.GlorotUniform(seed=next(seeds))
    return keras.Sequential([*layers, keras.layers.Dense(num_classes, kernel_initializer=kernel)])


def _parameters(network: keras.Model) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    """Kernel and bias of each Dense layer of each member."""
    to_numpy = keras.ops.convert_to_numpy
    return [
        [
            (to_numpy(layer.kernel), to_numpy(layer.bias))
            for layer in member.layers
            if isinstance(layer, keras.layers.Dense)
        ]
        for member in network.layers
        if isinstance(member, keras.Sequential)
    ]


def _mean_of(members: list[list[tuple[np.ndarray, np.ndarray]]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """The Dense layers of one network whose logits are the mean of the members': hidden units side by side."""
    first, *middle, last = (tuple(zip(*layers, strict=True)) for layers in zip(*members, strict=True))
    return [
        (np.concatenate(first[0], axis=1), np.concatenate(first[1])),
        *((scipy.linalg.block_diag(*kernels), np.concatenate(biases)) for kernels, biases in middle),
        (np.concatenate(last[0]) / np.float32(len(members)), np.mean(last[1], axis=0)),
    ]


def _schedule(recipe: Mlp, steps_per_epoch: int) -> Any:
    """Linear warm-up, then a cosine to zero at the end of all epochs."""
    steps = recipe.epochs * steps_per_epoch
    warmup = math.ceil(recipe.warmup * steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else recipe.learning_rate,
        max(1, steps - warmup),
        warmup_target=recipe.learning_rate if warmup else None,
        warmup_steps=warmup,
    )


class _Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Shuffled batches of standardised features, one-hot targets and weights; a view of each row drawn, pairs mixed.

    Mixing (Zhang et al. 2018, arXiv:1710.09412) takes one share for the whole batch.
    """

    def __init__(self, recipe: Mlp, rows: LabelledFeatures, scaling: Scaling) -> None:
        super().__init__()
        self._recipe, self._rows, self._scaling = recipe, rows, scaling
        self._rng = np.random.default_rng(recipe.seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        return math.ceil(self._rows.num_rows / self._recipe.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Features `(m, d)`, targets `(m, k, c)`, the same for each member, and weights `(m, 1)`."""
        size = self._recipe.batch_size
        order = self._order[index * size : (index + 1) * size]
        x = self._scaling.apply(self._drawn(order))  # (m, d)
        y = np.eye(self._rows.num_classes, dtype=np.float32)[self._rows.labels[order]]  # (m, c)
        weights = self._rows.weights[order]  # (m,)
        if self._recipe.mixup:
            share = np.float32(self._rng.beta(self._recipe.mixup, self._recipe.mixup))
            other = self._rng.permutation(len(order))
            # Targets as they count, so that a class's share of the loss is what its weight says.
            x, counted = (share * a + (1 - share) * a[other] for a in (x, y * weights[:, None]))
            weights = counted.sum(axis=1)
            y = counted / weights[:, None]
        return x, np.repeat(y[:, None], self._recipe.members, axis=1), weights[:, None]

    def _drawn(self, order: np.ndarray) -> np.ndarray:
        views = self._rows.views
        if len(views) == 1:
            return np.asarray(views[0][order])
        chosen = self._rng.integers(len(views), size=len(order))
        x = np.empty((len(order), self._rows.num_features), np.float32)
        for i, view in enumerate(views):
            x[chosen == i] = view[order[chosen == i]]
        return x

    def on_epoch_end(self) -> None:
        """A new order."""
        self._order = self._rng.permutation(self._rows.num_rows)


class _Watch(keras.callbacks.Callback):  # type: ignore[misc]
    """Measures each epoch on the validation rows, keeps the best one's head, and ends a training that gains nothing."""

    def __init__(self, recipe: Mlp, scaling: Scaling, val: LabelledFeatures | None, on_epoch: OnEpoch) -> None:
        super().__init__()
        self._recipe, self._scaling, self._val, self._on_epoch = recipe, scaling, val, on_epoch
        self._started = 0.0
        self._best = (-1.0, 0.0)
        self.best_epoch = 0
        self.history: list[Epoch] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        entry = Epoch(epoch=epoch + 1, loss=float(logs["loss"]), accuracy=float(logs["accuracy"]))
        if not math.isfinite(entry["loss"]):
            raise RunError(
                f"the loss is {entry['loss']} in epoch {epoch + 1} with {self._recipe}; try a smaller learning_rate"
            )
        if self._val is None:
            self._keep(epoch)
        else:
            head = self._head()
            logits = compute_logits(head, self._val.features)
            score = choice_accuracy(logits, self._val), -measure(logits, self._val.labels).loss
            entry |= Epoch(val_loss=-score[1], val_accuracy=score[0])
            if score > self._best:
                self._best = score
                self._keep(epoch, head)
            elif epoch + 1 - self.best_epoch >= self._recipe.patience:
                self.model.stop_training = True
        entry["seconds"] = round(time.perf_counter() - self._started, 3)
        self.history.append(entry)
        self._on_epoch(entry)

    def _keep(self, epoch: int, head: keras.Model | None = None) -> None:
        self.best_epoch = epoch + 1
        self.best_head = head or self._head()

    def _head(self) -> keras.Model:
        """The network so far, the standardisation folded into its first layer."""
        (kernel, bias), *rest = _mean_of(_parameters(self.model))
        return dense([self._scaling.folded(kernel, bias), *rest])
