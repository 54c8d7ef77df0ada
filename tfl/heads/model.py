"""A head as a Keras model, features to logits: built from arrays, and read from a file that may be a stranger's."""

import itertools
import json
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from tfl import engine
from tfl.backbones.weights import stored_member
from tfl.errors import RunError
from tfl.files import hdf5, trust
from tfl.files.scratch import scratch_folder
from tfl.machine.keras_settings import pin_keras_settings

MAX_CONFIG_BYTES = 1 << 20  # of a head's file
SIMILARITY_BYTES = 256 << 20  # of the cosines that a block of rows may take
LEAST_VOTE = 1e-3  # share of the votes that every class gets beside its neighbours': no logit is out of all bounds


@keras.saving.register_keras_serializable("tfl")
class Neighbours(keras.layers.Layer):  # type: ignore[misc]
    """Logits `(n, c)` by the votes of the rows of a memory that are nearest by cosine.

    Source: Wu et al. 2018, arXiv:1805.01978, section 3.4.

    Args:
      num_rows: rows of the memory.
      neighbours: how many of them vote.
      temperature: a vote weighs exp(cosine / temperature), times what its row counts.
      divisor: of the logits; 1 as fitted.
    """

    def __init__(
        self, num_rows: int, num_classes: int, neighbours: int, temperature: float, divisor: float = 1.0, **rest: Any
    ) -> None:
        super().__init__(**rest)
        self.num_rows, self.num_classes = num_rows, num_classes
        self.neighbours, self.temperature, self.divisor = neighbours, temperature, divisor

    def build(self, shape: tuple[int | None, ...]) -> None:
        """The memory: normalised features `(num_rows, d)` and, for each row, its vote by class `(num_rows, c)`."""
        self.memory = self.add_weight((self.num_rows, shape[-1]), "zeros", name="memory", trainable=False)
        self.votes = self.add_weight((self.num_rows, self.num_classes), "zeros", name="votes", trainable=False)

    def call(self, features: Any) -> Any:
        """Features `(n, d)` to logits `(n, c)`."""
        cosines = ops.matmul(normalised(features), ops.transpose(self.memory))  # (n, d) @ (d, rows)
        nearest, rows = ops.top_k(cosines, self.neighbours)  # (n, k), (n, k)
        weights = ops.exp((nearest - nearest[:, :1]) / self.temperature)  # (n, k)
        votes = ops.sum(weights[:, :, None] * ops.take(self.votes, rows, axis=0), axis=1)  # (n, c)
        return ops.log(votes / ops.sum(votes, axis=-1, keepdims=True) + LEAST_VOTE) / self.divisor

    def get_config(self) -> dict[str, Any]:
        """The sizes and settings."""
        names = ("num_rows", "num_classes", "neighbours", "temperature", "divisor")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def normalised(features: Any) -> Any:
    """Rows of length one; a row of zeros stays."""
    features = ops.cast(features, "float32")
    return features / ops.maximum(ops.sqrt(ops.sum(features * features, axis=-1, keepdims=True)), 1e-12)


@pin_keras_settings()
def dense(parameters: Sequence[tuple[Any, Any]]) -> keras.Model:
    """A head of Dense layers, ReLU between them.

    Args:
      parameters: kernel `(d, h)` and bias `(h,)` of each layer; the last one gives the logits.
    """
    arrays = [[ops.convert_to_numpy(array) for array in layer] for layer in parameters]
    head = _dense_of([arrays[0][0].shape[0], *(bias.shape[0] for _, bias in arrays)])
    head.set_weights([array for layer in arrays for array in layer])
    return head


def parameters_of(head: keras.Model) -> list[tuple[np.ndarray, np.ndarray]]:
    """What `dense` was given."""
    weights = [np.asarray(ops.convert_to_numpy(weight)) for weight in head.weights]
    return list(zip(weights[::2], weights[1::2], strict=True))


def _dense_of(widths: Sequence[int]) -> keras.Model:
    layers: list[Any] = [keras.Input((widths[0],), name="features")]
    layers += [
        keras.layers.Dense(width, activation="relu", name=f"hidden_{i}") for i, width in enumerate(widths[1:-1], 1)
    ]
    return keras.Sequential([*layers, keras.layers.Dense(widths[-1], name="logits")], name="head")


@pin_keras_settings()
def neighbours(memory: np.ndarray, votes: np.ndarray, k: int, temperature: float, divisor: float = 1.0) -> keras.Model:
    """A head that votes: normalised memory `(m, d)`, votes `(m, c)`."""
    layer = Neighbours(len(votes), votes.shape[1], k, float(temperature), float(divisor), name="logits")
    head = _voting(memory.shape[1], layer)
    head.set_weights([memory, votes])
    return head


def _voting(num_features: int, layer: Neighbours) -> keras.Model:
    return keras.Sequential([keras.Input((num_features,), name="features"), layer], name="head")


@pin_keras_settings()
def apply_temperature(head: keras.Model, temperature: float) -> keras.Model:
    """The same head with its logits divided by a temperature."""
    last = head.layers[-1]
    if isinstance(last, Neighbours):
        memory, votes = (ops.convert_to_numpy(weight) for weight in head.weights)
        return neighbours(memory, votes, last.neighbours, last.temperature, last.divisor * temperature)
    *hidden, (kernel, bias) = parameters_of(head)
    return dense([*hidden, (kernel / np.float32(temperature), bias / np.float32(temperature))])


@pin_keras_settings()
def load_head(path: Path) -> keras.Model:
    """The head in a `.keras` file, features `(n, d)` to logits `(n, c)`.

    Keras' own loader makes whatever a file names. Here the file decides widths and values: a head is built by this
    module, and only its tensors are read, from HDF5 that has been looked through.

    Raises:
      RunError: it is no such file, or not of layers that a recipe makes.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive, scratch_folder() as scratch:
            stamp = trust.Stamp.of(os.fstat(file.fileno()))
            layers = json.loads(stored_member(archive, "config.json", MAX_CONFIG_BYTES))["config"]["layers"]
            weights = scratch / "model.weights.h5"
            weights.write_bytes(stored_member(archive, weights.name, stamp.num_bytes))
            if not trust.is_known_as(stamp):
                hdf5.require_harmless(weights, RunError)
            head = _described(layers, weights.stat().st_size // np.dtype(np.float32).itemsize)
            with hdf5.without_locks():
                head.load_weights(weights)
            require_finite(head, "it holds no numbers", "its training diverged")
    except MemoryError:
        raise
    except Exception as error:  # of damaged files zipfile, json and Keras raise a dozen kinds of exception
        raise RunError(f"{path} cannot be loaded: {error}; train again") from error
    trust.remember(path, stamp)
    return head


def require_finite(head: keras.Model, made_by: str, advice: str) -> None:
    """Refuse a head with weights that are no numbers.

    Args:
      made_by: what made the head, in words.
      advice: what to try.

    Raises:
      RunError: which tensor, and how many of its values are not finite.
    """
    for weight in head.weights:
        values = ops.convert_to_numpy(weight)
        if num_bad := values.size - int(np.isfinite(values).sum()):
            raise RunError(
                f"{made_by}: {num_bad:,} of {values.size:,} values of the head's {weight.path} are not finite "
                f"(NaN or infinite); {advice}"
            )


def _described(layers: Any, num_values: int) -> keras.Model:
    """The head of these layers, with no values yet; refused if it needs more than the file holds."""
    names = [str(layer["class_name"]) for layer in layers]
    shape = layers[0]["config"].get("batch_shape") if layers else None
    num_features = shape[1] if isinstance(shape, list) and len(shape) == 2 else 0
    if names[:1] != ["InputLayer"] or not _is_size(num_features):
        raise RunError(f"its layers are {', '.join(names)[:80]} on {shape}; expected features (n, d)")
    configs = [layer["config"] for layer in layers[1:]]
    if names[1:] == ["Neighbours"]:
        return _described_neighbours(num_features, configs[0], num_values)
    if not configs or set(names[1:]) != {"Dense"}:
        raise RunError(f"its layers are {', '.join(names)[:80]}; expected Dense layers, or Neighbours")
    return _described_dense(num_features, configs, num_values)


def _described_dense(num_features: int, configs: list[Any], num_values: int) -> keras.Model:
    widths = [num_features, *(config["units"] for config in configs)]
    activations = [config["activation"] for config in configs]
    if activations != ["relu"] * (len(configs) - 1) + ["linear"] or not all(map(_is_size, widths)):
        raise RunError(f"its Dense layers are of widths {widths}, {activations}; expected relu, and logits at the end")
    needed = sum((before + 1) * after for before, after in itertools.pairwise(widths))
    if needed > num_values:
        raise RunError(f"Dense layers of widths {widths} do not fit into it")
    return _dense_of(widths)


def _described_neighbours(num_features: int, config: Any, num_values: int) -> keras.Model:
    num_rows, num_classes, k = (config[name] for name in ("num_rows", "num_classes", "neighbours"))
    temperature, divisor = config["temperature"], config["divisor"]
    is_sound = all(map(_is_size, (num_rows, num_classes, k))) and k <= num_rows
    if not is_sound or not all(type(value) is float and value > 0 for value in (temperature, divisor)):
        raise RunError(
            f"its memory has {num_rows} rows, {k} neighbours, temperature {temperature} and divisor {divisor}"
        )
    if num_rows * (num_features + num_classes) > num_values:
        raise RunError(f"a memory of {num_rows} x {num_features} does not fit into it")
    return _voting(num_features, Neighbours(num_rows, num_classes, k, temperature, divisor, name="logits"))


def _is_size(value: Any) -> bool:
    return type(value) is int and value > 0


@pin_keras_settings()
def compute_logits(head: keras.Model, features: np.ndarray, block_rows: int = 8192) -> np.ndarray:
    """The head's logits `(n, c)` of features `(n, d)`, in blocks."""
    last = head.layers[-1]
    if isinstance(last, Neighbours):
        widest = max(last.num_rows, last.neighbours * last.num_classes)  # cosines, or the neighbours' votes
        block_rows = max(1, min(block_rows, SIMILARITY_BYTES // (4 * widest)))
    with engine.exact_float32():
        blocks = [
            ops.convert_to_numpy(head(ops.convert_to_tensor(features[i : i + block_rows], "float32"), training=False))
            for i in range(0, len(features), block_rows)
        ]
    return np.concatenate(blocks)
