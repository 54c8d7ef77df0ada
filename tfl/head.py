"""Recipes that fit a new head, features to logits, on cached features."""

import math
import time
from collections.abc import Callable
from typing import Any, TypedDict

import keras
import numpy as np
from keras import ops

from tfl import engine
from tfl.errors import RunError
from tfl.metrics import measure
from tfl.recipes import Reference


class Epoch(TypedDict, total=False):
    """What one pass over the training rows gave; means are running, over the epoch's batches, as Keras reports."""

    epoch: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    seconds: float


def fit(
    recipe: Reference,
    train: tuple[np.ndarray, np.ndarray],
    num_classes: int,
    val: tuple[np.ndarray, np.ndarray] | None = None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> tuple[keras.Model, list[Epoch]]:
    """Train `Dense(num_classes)` on features.

    Args:
      train: features `(n, d)` and integer labels `(n,)`; the matrix goes to the device once, as one tensor.
      val: the same for the validation rows, only measured.

    Returns:
      The head, features to logits, and one entry an epoch.

    Raises:
      RunError: the loss is no longer finite.
    """
    features, labels = train
    rng = np.random.default_rng(recipe.seed)
    state = _initial(features.shape[1], num_classes, rng)
    epoch_function = engine.compile_function(_epoch_of(recipe, num_classes))
    on_device = (ops.convert_to_tensor(features, "float32"), ops.convert_to_tensor(labels, "int32"))
    history = []
    for number in range(1, recipe.epochs + 1):
        started = time.perf_counter()
        order, is_row = _batches(len(labels), recipe.batch_size, rng)
        with engine.exact_float32():
            state, loss, correct = epoch_function(*on_device, order, is_row, state)
        epoch = Epoch(epoch=number, loss=float(loss) / len(labels), accuracy=float(correct) / len(labels))
        if val is not None:
            epoch |= _validation(state, *val)
        epoch["seconds"] = round(time.perf_counter() - started, 3)
        if not math.isfinite(epoch["loss"]):
            raise RunError(f"the loss is {epoch['loss']} in epoch {number} with {recipe}; try a smaller learning_rate")
        history.append(epoch)
        on_epoch(epoch)
    return _dense(state[0], state[1]), history


def _initial(num_features: int, num_classes: int, rng: np.random.Generator) -> tuple[Any, ...]:
    """Kernel as Keras' Dense draws it (Glorot and Bengio 2010, eq. 16), zero bias, zero velocities.

    Drawn with numpy, so that every backend starts from the same numbers.
    """
    limit = math.sqrt(6 / (num_features + num_classes))
    kernel = rng.uniform(-limit, limit, (num_features, num_classes)).astype(np.float32)
    bias = np.zeros(num_classes, np.float32)
    return tuple(ops.convert_to_tensor(a) for a in (kernel, bias, np.zeros_like(kernel), np.zeros_like(bias)))


def _batches(num_rows: int, batch_size: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """A shuffled order of the rows `(steps, batch_size)`; the last batch is filled up with rows of weight 0."""
    steps = math.ceil(num_rows / batch_size)
    order = np.zeros(steps * batch_size, np.int32)
    order[:num_rows] = rng.permutation(num_rows)
    is_row = np.arange(len(order)) < num_rows
    shape = (steps, batch_size)
    return ops.convert_to_tensor(order.reshape(shape)), ops.convert_to_tensor(is_row.reshape(shape), "float32")


def _epoch_of(recipe: Reference, num_classes: int) -> Callable[..., Any]:
    """One epoch as a single function of tensors, so that a step costs no call from Python.

    With p = softmax(x W + b) and y the one-hot labels, the gradient of the mean cross-entropy of a batch of m rows
    in the logits is (p - y) / m, so in W it is x' (p - y) / m and in b the sum of (p - y) / m over the rows.
    The update is Keras' SGD: v <- momentum v - learning_rate g; w <- w + v.
    """

    def epoch(features: Any, labels: Any, order: Any, is_row: Any, state: Any) -> Any:
        def step(i: Any, carry: Any) -> Any:
            (kernel, bias, kernel_velocity, bias_velocity), loss, correct = carry
            rows, weights = order[i], is_row[i]  # (m,), (m,)
            x = ops.take(features, rows, axis=0)  # (m, d)
            y = ops.one_hot(ops.take(labels, rows, axis=0), num_classes)  # (m, c)
            logits = ops.matmul(x, kernel) + bias  # (m, d) @ (d, c) + (c,)
            log_p = ops.log_softmax(logits)  # (m, c)
            error = (ops.exp(log_p) - y) * (weights / ops.sum(weights))[:, None]  # (m, c)
            kernel_gradient = ops.matmul(ops.transpose(x), error)  # (d, m) @ (m, c)
            kernel_velocity = recipe.momentum * kernel_velocity - recipe.learning_rate * kernel_gradient
            bias_velocity = recipe.momentum * bias_velocity - recipe.learning_rate * ops.sum(error, axis=0)
            is_correct = ops.cast(ops.equal(ops.argmax(logits, axis=-1), ops.argmax(y, axis=-1)), "float32")
            return (
                (kernel + kernel_velocity, bias + bias_velocity, kernel_velocity, bias_velocity),
                loss - ops.sum(weights * ops.sum(y * log_p, axis=-1)),
                correct + ops.sum(weights * is_correct),
            )

        zero = ops.zeros((), "float32")
        return ops.fori_loop(0, order.shape[0], step, (state, zero, zero))

    return epoch


def _validation(state: tuple[Any, ...], features: np.ndarray, labels: np.ndarray) -> Epoch:
    kernel, bias = (ops.convert_to_numpy(parameter) for parameter in state[:2])
    metrics = measure(features @ kernel + bias, labels)  # (n, d) @ (d, c) + (c,)
    return Epoch(val_loss=metrics.loss, val_accuracy=metrics.accuracy)


def _dense(kernel: Any, bias: Any) -> keras.Model:
    num_features, num_classes = kernel.shape
    layers = [keras.Input((num_features,), name="features"), keras.layers.Dense(num_classes, name="logits")]
    head = keras.Sequential(layers, name="head")
    head.set_weights([ops.convert_to_numpy(kernel), ops.convert_to_numpy(bias)])
    return head


def logits_of(head: keras.Model, features: np.ndarray, block_rows: int = 8192) -> np.ndarray:
    """The head's logits `(n, c)` of features `(n, d)`, in blocks."""
    with engine.exact_float32():
        blocks = [
            ops.convert_to_numpy(head(ops.convert_to_tensor(features[i : i + block_rows], "float32"), training=False))
            for i in range(0, len(features), block_rows)
        ]
    return np.concatenate(blocks)
