"""SGD with momentum on one Dense layer: the reference recipe, and a grid of settings trained in one pass."""

import itertools
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from tfl import engine
from tfl.errors import RunError
from tfl.heads.examples import Examples, LabelledFeatures, to_device
from tfl.heads.model import compute_logits, dense
from tfl.heads.search import Epoch, Listeners, OnEpoch, Search, choose_trial, silent, trial
from tfl.machine.keras_settings import pin_keras_settings
from tfl.metrics import measure_blocks
from tfl.specs.recipes import Grid, Reference

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setting:
    """What may differ between heads that are trained together."""

    learning_rate: float
    weight_decay: float
    kernel_seed: int


@dataclass(frozen=True)
class _Common:
    """What all heads that are trained together share."""

    num_features: int
    num_classes: int
    batch_size: int
    momentum: float
    settings: tuple[Setting, ...]

    @property
    def num_heads(self) -> int:
        """How many, K."""
        return len(self.settings)


State = tuple[Any, ...]  # kernels (d, K c), biases (K c,), and the velocities of both


@pin_keras_settings()
def fit(
    recipe: Reference,
    train: Examples,
    num_classes: int,
    val: Examples | None = None,
    on_epoch: OnEpoch = silent,
    class_weights: np.ndarray | None = None,
) -> tuple[keras.Model, list[Epoch]]:
    """Train `Dense(num_classes)` on features.

    In every epoch the blocks come in a new order, and so do the rows of each block; one view of each row is drawn.

    Args:
      val: the validation rows, only measured.
      class_weights: what a row of each class counts, `(c,)`; 1 if None.

    Returns:
      The head, features to logits, and one entry an epoch.

    Raises:
      RunError: the loss is no longer finite.
      CacheError: a streamed cache is damaged.
    """
    setting = Setting(recipe.learning_rate, 0.0, recipe.seed)
    common = _Common(train.num_features, num_classes, recipe.batch_size, recipe.momentum, (setting,))
    rng = np.random.default_rng(recipe.seed)
    state = _joined([initial(train.num_features, num_classes, rng)])
    trainer = _Trainer(common, class_weights)
    history = []
    for number in range(1, recipe.epochs + 1):
        started = time.perf_counter()
        state, losses, accuracies = trainer.train_once(train, state, rng)
        epoch = Epoch(epoch=number, loss=float(losses[0]), accuracy=float(accuracies[0]))
        if val is not None:
            epoch |= _validation(state, val)
        epoch["seconds"] = round(time.perf_counter() - started, 3)
        if not math.isfinite(epoch["loss"]):
            raise RunError(f"the loss is {epoch['loss']} in epoch {number} with {recipe}; try a smaller learning_rate")
        history.append(epoch)
        on_epoch(epoch)
    return dense([(state[0], state[1])]), history


def search(
    recipe: Reference,
    fitting: LabelledFeatures,
    val: LabelledFeatures | None = None,
    listeners: Listeners = Listeners(),
) -> Search:
    """The reference as a search of one setting; `val` is only measured."""

    def fitted(rows: LabelledFeatures, on_epoch: OnEpoch = silent) -> tuple[keras.Model, list[Epoch]]:
        return fit(recipe, rows.stacked(), rows.num_classes, None, on_epoch, rows.class_weights)

    started = time.perf_counter()
    head, history = fitted(fitting, listeners.on_epoch)
    val_logits = None if val is None else compute_logits(head, val.features)
    done = trial("reference", {"learning_rate": recipe.learning_rate}, started, val_logits, val)
    listeners.on_trial(done)
    return Search(head, [done], 0, val_logits, lambda rows: fitted(rows)[0], history)


def settings_of(recipe: Grid) -> tuple[Setting, ...]:
    """Every combination, the seed changing fastest."""
    return tuple(
        Setting(*values) for values in itertools.product(recipe.learning_rate, recipe.weight_decay, recipe.kernel_seed)
    )


def train_grid(
    recipe: Grid, settings: Sequence[Setting], rows: LabelledFeatures
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Train a head for each setting, all in the same pass over the rows.

    Returns:
      Kernel `(d, c)` and bias `(c,)` for each setting; each is the head that is trained alone with it. Of one that
      diverged the values are not finite.
    """
    common = _Common(rows.num_features, rows.num_classes, recipe.batch_size, recipe.momentum, tuple(settings))
    starts = [
        initial(rows.num_features, rows.num_classes, np.random.default_rng(setting.kernel_seed)) for setting in settings
    ]
    state, rng, stacked = _joined(starts), np.random.default_rng(recipe.seed), rows.stacked()
    trainer = _Trainer(common, rows.class_weights)
    for _ in range(recipe.epochs):
        state, _, _ = trainer.train_once(stacked, state, rng)
    kernels, biases = (ops.convert_to_numpy(array) for array in state[:2])
    c = rows.num_classes
    return [(kernels[:, k * c : (k + 1) * c], biases[k * c : (k + 1) * c]) for k in range(len(settings))]


def search_grid(
    recipe: Grid, fitting: LabelledFeatures, val: LabelledFeatures | None = None, listeners: Listeners = Listeners()
) -> Search:
    """Train the whole grid at once and choose on the validation rows; heads that diverged are left out, by name.

    Raises:
      RunError: every setting diverged.
    """
    started = time.perf_counter()
    settings = settings_of(recipe)
    heads, trials, kept = [], [], []
    for setting, parameters in zip(settings, train_grid(recipe, settings, fitting), strict=True):
        if not all(np.isfinite(array).all() for array in parameters):
            logger.warning("diverged, and left out: %s", setting)
            continue
        head = dense([parameters])
        val_logits = None if val is None else compute_logits(head, val.features)
        done = trial("grid", vars(setting), started, val_logits, val)
        done["seconds"] = round(done["seconds"] / len(settings), 3)  # its share of the one pass
        listeners.on_trial(done)
        heads.append((head, val_logits))
        trials.append(done)
        kept.append(setting)
    if not trials:
        raise RunError(f"every setting diverged; try smaller ones than --learning-rate {recipe.learning_rate}")
    chosen = choose_trial(trials)
    setting = kept[chosen]
    head, val_logits = heads[chosen]

    def refit(rows: LabelledFeatures) -> keras.Model:
        return dense(train_grid(recipe, [setting], rows))

    return Search(head, trials, chosen, val_logits, refit)


class _Trainer:
    def __init__(self, common: _Common, class_weights: np.ndarray | None) -> None:
        self._common = common
        self._class_weights = np.ones(common.num_classes, np.float32) if class_weights is None else class_weights
        self._block_function = engine.compile_function(_block_function(common))

    def train_once(
        self, train: Examples, state: State, rng: np.random.Generator
    ) -> tuple[State, np.ndarray, np.ndarray]:
        """One pass over the training rows: the state after it, and the mean loss and accuracy of each head `(K,)`."""
        losses, corrects = np.zeros(self._common.num_heads), np.zeros(self._common.num_heads)
        for features, labels in train.blocks(rng):
            on_device = to_device(features, labels)
            order, is_row = _batches(len(labels), train.num_views, self._common.batch_size, rng)
            counts = ops.convert_to_tensor(self._class_weights)
            with engine.exact_float32():
                state, loss, correct = self._block_function(*on_device, order, is_row, counts, state)
            losses += ops.convert_to_numpy(loss)
            corrects += ops.convert_to_numpy(correct)
            del features, labels, on_device  # let go of this block before the next one is read
        return state, losses / train.num_rows, corrects / train.num_rows


def initial(num_features: int, num_classes: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Kernel as Keras' Dense draws it (Glorot and Bengio 2010, eq. 16), and zero bias.

    Drawn with numpy, so that every backend starts from the same numbers.
    """
    limit = math.sqrt(6 / (num_features + num_classes))
    kernel = rng.uniform(-limit, limit, (num_features, num_classes)).astype(np.float32)
    return kernel, np.zeros(num_classes, np.float32)


def draw_kernels(
    recipe: Reference, num_rows: int, num_features: int, num_classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What chance decides in `fit` on rows in memory of one view, for another program that is to train the same.

    Returns:
      Kernel `(d, c)`, bias `(c,)`, and the order of the rows in each epoch `(epochs, n)`.
    """
    rng = np.random.default_rng(recipe.seed)
    kernel, bias = initial(num_features, num_classes, rng)
    return kernel, bias, np.stack([rng.permutation(num_rows) for _ in range(recipe.epochs)])


def _joined(starts: list[tuple[np.ndarray, np.ndarray]]) -> State:
    """Kernels and biases of K heads side by side, and zero velocities."""
    kernel = np.concatenate([kernel for kernel, _ in starts], axis=1)  # (d, K c)
    bias = np.concatenate([bias for _, bias in starts])  # (K c,)
    return tuple(ops.convert_to_tensor(a) for a in (kernel, bias, np.zeros_like(kernel), np.zeros_like(bias)))


def _batches(num_stored: int, num_views: int, batch_size: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """A shuffled order of the rows `(steps, batch_size)`; the last batch is filled up with rows of weight 0.

    Of `num_views` stored rows of the same image, which stand `num_stored / num_views` rows apart, one is drawn.
    """
    num_rows = num_stored // num_views
    steps = math.ceil(num_rows / batch_size)
    order = np.zeros(steps * batch_size, np.int32)
    order[:num_rows] = rng.permutation(num_rows)
    if num_views > 1:
        order[:num_rows] += num_rows * rng.integers(num_views, size=num_rows, dtype=np.int32)
    is_row = np.arange(len(order)) < num_rows
    shape = (steps, batch_size)
    return ops.convert_to_tensor(order.reshape(shape)), ops.convert_to_tensor(is_row.reshape(shape), "float32")


def _block_function(common: _Common) -> Callable[..., Any]:
    """A function of block, batches and state that runs the batches one after the other.

    The gradient of softmax cross-entropy is written out: d loss / d logits = (p - y) / m over the rows.
    The update is Keras' SGD: w <- w - learning_rate weight_decay w; v <- momentum v - learning_rate g; w <- w + v.
    K heads stand side by side: their columns share the rows and nothing else.
    """
    num_heads, num_classes = common.num_heads, common.num_classes
    learning_rates = _for_each_column([setting.learning_rate for setting in common.settings], num_classes)
    decays = _for_each_column([s.learning_rate * s.weight_decay for s in common.settings], num_classes)
    has_decay = bool(decays.any())

    def run_steps(features: Any, labels: Any, order: Any, is_row: Any, class_weights: Any, state: Any) -> Any:
        rates, shrinkage = ops.convert_to_tensor(learning_rates), ops.convert_to_tensor(decays)  # (K c,)

        def step(i: Any, carry: Any) -> Any:
            (kernel, bias, kernel_velocity, bias_velocity), loss, correct = carry
            rows, counts = order[i], is_row[i]  # (m,), (m,)
            x = ops.take(features, rows, axis=0)  # (m, d)
            label = ops.take(labels, rows, axis=0)  # (m,)
            weights = counts * ops.take(class_weights, label, axis=0)  # (m,)
            y = ops.one_hot(label, num_classes)[:, None, :]  # (m, 1, c)
            logits = ops.reshape(ops.matmul(x, kernel) + bias, (-1, num_heads, num_classes))  # (m, K, c)
            log_p = ops.log_softmax(logits)  # (m, K, c)
            error = (ops.exp(log_p) - y) * (weights / ops.sum(counts))[:, None, None]  # (m, K, c)
            error = ops.reshape(error, (-1, num_heads * num_classes))  # (m, K c)
            kernel_gradient = ops.matmul(ops.transpose(x), error)  # (d, m) @ (m, K c)
            if has_decay:
                kernel, bias = kernel - shrinkage * kernel, bias - shrinkage * bias
            kernel_velocity = common.momentum * kernel_velocity - rates * kernel_gradient
            bias_velocity = common.momentum * bias_velocity - rates * ops.sum(error, axis=0)
            is_correct = ops.cast(ops.equal(ops.argmax(logits, axis=-1), ops.argmax(y, axis=-1)), "float32")  # (m, K)
            return (
                (kernel + kernel_velocity, bias + bias_velocity, kernel_velocity, bias_velocity),
                loss - ops.sum(weights[:, None] * ops.sum(y * log_p, axis=-1), axis=0),
                correct + ops.sum(counts[:, None] * is_correct, axis=0),
            )

        zero = ops.zeros((num_heads,), "float32")
        return ops.fori_loop(0, order.shape[0], step, (state, zero, zero))

    return run_steps


def _for_each_column(values: list[float], num_classes: int) -> np.ndarray:
    """A value of each head for all its columns, `(K c,)`."""
    return np.repeat(np.asarray(values, np.float32), num_classes)


def _validation(state: State, val: Examples) -> Epoch:
    kernel, bias = (ops.convert_to_numpy(parameter) for parameter in state[:2])
    metrics = measure_blocks((features @ kernel + bias, labels) for features, labels in val.blocks())  # (m, c), (m,)
    return Epoch(val_loss=metrics.loss, val_accuracy=metrics.accuracy)
