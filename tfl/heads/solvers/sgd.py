"""SGD with momentum on Dense layers: one head, or many side by side in the same pass."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from tfl import engine
from tfl.heads.examples import Examples, to_tensors

State = tuple[Any, ...]  # kernels (d, K c), biases (K c,), and the velocities of both


@dataclass(frozen=True)
class Setting:
    """The settings that may differ between heads that are trained together."""

    learning_rate: float
    weight_decay: float
    kernel_seed: int


@dataclass(frozen=True)
class Group:
    """Heads that are trained together: what they share, and the setting of each.

    Attributes:
      class_weights: weight of a row of each class, float32 `(c,)`.
    """

    num_features: int
    class_weights: np.ndarray
    batch_size: int
    momentum: float
    settings: tuple[Setting, ...]

    @property
    def num_heads(self) -> int:
        """Number of heads, K."""
        return len(self.settings)

    @property
    def num_classes(self) -> int:
        """Number of classes, c."""
        return len(self.class_weights)


class Trainer:
    """Trains a group of heads, one epoch a call."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._train_block = engine.compile_function(_make_block_function(group))

    def train_epoch(
        self, train: Examples, state: State, rng: np.random.Generator
    ) -> tuple[State, np.ndarray, np.ndarray]:
        """Pass once over the training rows.

        Returns:
          The state afterwards, and the mean loss and accuracy of each head, `(K,)` each.
        """
        losses, corrects = np.zeros(self._group.num_heads), np.zeros(self._group.num_heads)
        for features, labels in train.blocks(rng):
            on_device = to_tensors(features, labels)
            order, is_row = _shuffle_batches(len(labels), train.num_views, self._group.batch_size, rng)
            class_weights = ops.convert_to_tensor(self._group.class_weights)
            with engine.exact_float32():
                state, loss, correct = self._train_block(*on_device, order, is_row, class_weights, state)
            losses += ops.convert_to_numpy(loss)
            corrects += ops.convert_to_numpy(correct)
            del features, labels, on_device  # let go of this block before the next one is read
        return state, losses / train.num_rows, corrects / train.num_rows


def draw_start(num_features: int, num_classes: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw a kernel as Keras' Dense does, and return it with a bias of zeros.

    Source: Glorot and Bengio 2010, eq. 16. It is drawn with numpy, so that every backend starts
    from the same numbers.
    """
    limit = math.sqrt(6 / (num_features + num_classes))
    kernel = rng.uniform(-limit, limit, (num_features, num_classes)).astype(np.float32)
    return kernel, np.zeros(num_classes, np.float32)


def join_starts(starts: list[tuple[np.ndarray, np.ndarray]]) -> State:
    """Return the state of K heads side by side at their start; velocities are zero."""
    kernel = np.concatenate([kernel for kernel, _ in starts], axis=1)  # (d, K c)
    bias = np.concatenate([bias for _, bias in starts])  # (K c,)
    arrays = kernel, bias, np.zeros_like(kernel), np.zeros_like(bias)
    return tuple(map(ops.convert_to_tensor, arrays))


def _shuffle_batches(num_stored: int, num_views: int, batch_size: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """Return a shuffled order of a block's rows, and whether each place holds one.

    Both are `(steps, batch_size)`.

    The last batch is filled up with places that hold none. `num_views` stored rows of the same
    image stand `num_stored / num_views` rows apart; one of them is drawn.
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


def _make_block_function(group: Group) -> Callable[..., Any]:
    """Return a function of block, batches and state that runs one step for each batch.

    The gradient of softmax cross-entropy is written out: d loss / d logits = (p - y) / m over the
    rows. The update is Keras' SGD: w <- w - learning_rate weight_decay w; v <- momentum v -
    learning_rate g; w <- w + v. K heads stand side by side: their columns share the rows and
    nothing else.
    """
    num_heads, num_classes = group.num_heads, group.num_classes
    learning_rates = _repeat_for_classes([s.learning_rate for s in group.settings], num_classes)
    decays = _repeat_for_classes([s.learning_rate * s.weight_decay for s in group.settings], num_classes)
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
            kernel_velocity = group.momentum * kernel_velocity - rates * kernel_gradient
            bias_velocity = group.momentum * bias_velocity - rates * ops.sum(error, axis=0)
            is_correct = ops.cast(ops.equal(ops.argmax(logits, axis=-1), ops.argmax(y, axis=-1)), "float32")  # (m, K)
            return (
                (kernel + kernel_velocity, bias + bias_velocity, kernel_velocity, bias_velocity),
                loss - ops.sum(weights[:, None] * ops.sum(y * log_p, axis=-1), axis=0),
                correct + ops.sum(counts[:, None] * is_correct, axis=0),
            )

        zero = ops.zeros((num_heads,), "float32")
        return ops.fori_loop(0, order.shape[0], step, (state, zero, zero))

    return run_steps


def _repeat_for_classes(values: list[float], num_classes: int) -> np.ndarray:
    """Return each head's value once for each of its columns, `(K c,)`."""
    return np.repeat(np.asarray(values, np.float32), num_classes)
