"""Recipes that fit a new head, features to logits, on cached features."""

import json
import math
import os
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, TypedDict

import keras
import numpy as np
from keras import ops

from tfl import engine, hdf5, trust
from tfl.cache import Cache
from tfl.errors import RunError
from tfl.metrics import Metrics, measure_blocks
from tfl.recipes import Reference
from tfl.spec import Role

MAX_CONFIG_BYTES = 1 << 20  # of a head's file
BLOCK_BYTES = 64 << 20  # of float32 features: what streaming holds once as read and once on the device


class Epoch(TypedDict, total=False):
    """What one pass over the training rows gave; means are running, over the epoch's batches, as Keras reports."""

    epoch: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    seconds: float


class Examples(Protocol):
    """Labelled features, given in blocks of rows, over and over."""

    @property
    def num_rows(self) -> int:
        """Rows of all blocks together."""

    @property
    def num_features(self) -> int:
        """The d of `(n, d)`."""

    def blocks(self, rng: np.random.Generator | None = None) -> Iterator[tuple[Any, Any]]:
        """Features `(m, d)` and integer labels `(m,)`; every row once, which rows in which block by chance of `rng`."""


class InMemory:
    """All rows as one block."""

    def __init__(self, features: Any, labels: Any) -> None:
        self.num_rows, self.num_features = (int(size) for size in features.shape)
        self._block = features, labels

    @classmethod
    def on_device(cls, features: np.ndarray, labels: np.ndarray) -> Self:
        """The whole matrix as one tensor, moved to the device once for all epochs."""
        return cls(*_to_device(features, labels))

    def blocks(self, rng: np.random.Generator | None = None) -> Iterator[tuple[Any, Any]]:
        """The one block, always the same."""
        yield self._block


@dataclass(frozen=True)
class Streamed:
    """Rows of a cache's role, read anew in every pass; memory is that of a block, however many rows there are.

    Attributes:
      batch_size: blocks hold a multiple of it, so that only the last batch of a pass is short.
    """

    cache: Cache
    role: Role
    batch_size: int = 1

    @property
    def num_rows(self) -> int:
        """Rows of the role; 0 for one that the cache does not have, which `blocks` refuses."""
        return self.cache.num_rows.get(self.role, 0)

    @property
    def num_features(self) -> int:
        """Columns of its features."""
        return self.cache.num_features

    def blocks(self, rng: np.random.Generator | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Blocks of nearly equal size, of about `BLOCK_BYTES` at most; see `Cache.blocks`.

        Equal, because a short last block would hold few chunks: where images are stored class by class, few classes,
        and the epoch would end with them: on CIFAR-10 sorted by class that cost 2 to 7 points of test accuracy (n = 3).
        """
        largest = max(1, BLOCK_BYTES // (np.dtype(np.float32).itemsize * self.num_features))
        num_blocks = max(1, math.ceil(self.num_rows / largest))
        num_batches = max(1, math.ceil(self.num_rows / (num_blocks * self.batch_size)))  # of one block
        return self.cache.blocks(self.role, num_batches * self.batch_size, rng)


def fit(
    recipe: Reference,
    train: Examples,
    num_classes: int,
    val: Examples | None = None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> tuple[keras.Model, list[Epoch]]:
    """Train `Dense(num_classes)` on features.

    In every epoch the blocks come in a new order, and so do the rows of each block.

    Args:
      val: the validation rows, only measured.

    Returns:
      The head, features to logits, and one entry an epoch.

    Raises:
      RunError: the loss is no longer finite.
      CacheError: a streamed cache is damaged.
    """
    rng = np.random.default_rng(recipe.seed)
    state = _initial(train.num_features, num_classes, rng)
    block_function = engine.compile_function(_block_function(recipe, num_classes))
    history = []
    for number in range(1, recipe.epochs + 1):
        started = time.perf_counter()
        state, epoch = _train_once(block_function, train, recipe.batch_size, state, rng)
        epoch = Epoch(epoch=number, **epoch)
        if val is not None:
            epoch |= _validation(state, val)
        epoch["seconds"] = round(time.perf_counter() - started, 3)
        if not math.isfinite(epoch["loss"]):
            raise RunError(f"the loss is {epoch['loss']} in epoch {number} with {recipe}; try a smaller learning_rate")
        history.append(epoch)
        on_epoch(epoch)
    return _dense(state[0], state[1]), history


def _train_once(
    block_function: Callable[..., Any], train: Examples, batch_size: int, state: Any, rng: np.random.Generator
) -> tuple[Any, Epoch]:
    """One pass over the training rows: the state after it, and its means."""
    loss, correct = 0.0, 0.0
    for features, labels in train.blocks(rng):
        on_device = _to_device(features, labels)
        order, is_row = _batches(len(labels), batch_size, rng)
        with engine.exact_float32():
            state, block_loss, block_correct = block_function(*on_device, order, is_row, state)
        loss, correct = loss + float(block_loss), correct + float(block_correct)
        del features, labels, on_device  # let go of this block before the next one is read
    return state, Epoch(loss=loss / train.num_rows, accuracy=correct / train.num_rows)


def _to_device(features: Any, labels: Any) -> tuple[Any, Any]:
    """The same as tensors; those that are there already stay."""
    return ops.convert_to_tensor(features, "float32"), ops.convert_to_tensor(labels, "int32")


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


def _block_function(recipe: Reference, num_classes: int) -> Callable[..., Any]:
    """The steps over one block as a single function of tensors, so that a step costs no call from Python.

    With p = softmax(x W + b) and y the one-hot labels, the gradient of the mean cross-entropy of a batch of m rows
    in the logits is (p - y) / m, so in W it is x' (p - y) / m and in b the sum of (p - y) / m over the rows.
    The update is Keras' SGD: v <- momentum v - learning_rate g; w <- w + v.
    """

    def run_steps(features: Any, labels: Any, order: Any, is_row: Any, state: Any) -> Any:
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

    return run_steps


def _validation(state: tuple[Any, ...], val: Examples) -> Epoch:
    kernel, bias = (ops.convert_to_numpy(parameter) for parameter in state[:2])
    metrics = measure_blocks((features @ kernel + bias, labels) for features, labels in val.blocks())  # (m, c), (m,)
    return Epoch(val_loss=metrics.loss, val_accuracy=metrics.accuracy)


def measure(head: keras.Model, examples: Examples) -> Metrics:
    """Metrics of a head on labelled features."""
    return measure_blocks((logits_of(head, features), labels) for features, labels in examples.blocks())


def _dense(kernel: Any, bias: Any) -> keras.Model:
    num_features, num_classes = kernel.shape
    layers = [keras.Input((num_features,), name="features"), keras.layers.Dense(num_classes, name="logits")]
    head = keras.Sequential(layers, name="head")
    head.set_weights([ops.convert_to_numpy(kernel), ops.convert_to_numpy(bias)])
    return head


def load(path: Path) -> keras.Model:
    """The head in a `.keras` file, features `(n, d)` to logits `(n, c)`.

    Keras' own loader makes whatever a file names. Here the file decides two widths and the values: a head is built by
    this module, and only its tensors are read, from HDF5 that has been looked through.

    Raises:
      RunError: it is no such file, or not of a Dense layer alone.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive, tempfile.TemporaryDirectory() as scratch:
            stamp = trust.Stamp.of(os.fstat(file.fileno()))
            layers = json.loads(_member(archive, "config.json", MAX_CONFIG_BYTES))["config"]["layers"]
            num_features, num_classes = _widths(layers)
            weights = Path(scratch) / "model.weights.h5"
            weights.write_bytes(_member(archive, weights.name, stamp.num_bytes))
            if 4 * num_features * num_classes > weights.stat().st_size:
                raise RunError(f"a kernel of {num_features} x {num_classes} does not fit into it")
            if not trust.is_known_as(stamp):
                hdf5.require_harmless(weights, RunError)
            head = _dense(np.zeros((num_features, num_classes), np.float32), np.zeros(num_classes, np.float32))
            head.load_weights(weights)
    except MemoryError:
        raise
    except Exception as error:  # of damaged files zipfile, json and Keras raise a dozen kinds of exception
        raise RunError(f"{path} cannot be loaded: {error}; train again") from error
    trust.remember(path, stamp)
    return head


def _member(archive: zipfile.ZipFile, name: str, max_bytes: int) -> bytes:
    """A member that is stored as it is, as Keras stores it: a compressed one may be any size."""
    member = archive.getinfo(name)
    if member.file_size > max_bytes:
        raise RunError(f"its member {name} has {member.file_size:,} bytes; at most {max_bytes:,} are read")
    if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
        raise RunError(f"its member {name} is compressed")
    return archive.read(member)


def _widths(layers: Any) -> tuple[int, int]:
    """The numbers of features and classes of a head's layers, which are an input and a Dense layer."""
    names = [str(layer["class_name"]) for layer in layers]
    if names != ["InputLayer", "Dense"]:
        raise RunError(f"its layers are {', '.join(names)[:80]}; expected one Dense")
    shape, dense = layers[0]["config"]["batch_shape"], layers[1]["config"]
    units, activation = dense["units"], dense["activation"]
    if activation != "linear" or not (len(shape) == 2 and shape[1] > 0 and units > 0):
        raise RunError(f"its Dense layer is of {shape} to {units}, {activation}; expected logits")
    return int(shape[1]), int(units)


def logits_of(head: keras.Model, features: np.ndarray, block_rows: int = 8192) -> np.ndarray:
    """The head's logits `(n, c)` of features `(n, d)`, in blocks."""
    with engine.exact_float32():
        blocks = [
            ops.convert_to_numpy(head(ops.convert_to_tensor(features[i : i + block_rows], "float32"), training=False))
            for i in range(0, len(features), block_rows)
        ]
    return np.concatenate(blocks)
