"""A head as a Keras model, features to logits, built from arrays."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfl import engine
from tfl.errors import RunError
from tfl.machine.keras_settings import pin_keras_settings

SIMILARITY_BYTES = 256 << 20  # most bytes of the cosines between the rows of a block and a memory
LEAST_VOTE = 1e-3  # share of the votes that every class gets beside its neighbours', so that logits stay bounded


@keras.saving.register_keras_serializable("tfl")
class Neighbours(keras.layers.Layer):  # type: ignore[misc]
    """Logits `(n, c)` by the votes of the rows of a memory that are nearest by cosine.

    Source: Wu et al. 2018, arXiv:1805.01978, section 3.4.

    Args:
      num_rows: rows of the memory.
      neighbours: how many of them vote.
      temperature: a vote weighs exp(cosine / temperature), times the weight of its row.
      divisor: divides the logits; 1 as fitted.
    """

    def __init__(
        self, num_rows: int, num_classes: int, neighbours: int, temperature: float, divisor: float = 1.0, **rest: Any
    ) -> None:
        super().__init__(**rest)
        self.num_rows, self.num_classes = num_rows, num_classes
        self.neighbours, self.temperature, self.divisor = neighbours, temperature, divisor

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Add memory, normalised features `(num_rows, d)`, and its votes, `(num_rows, c)`."""
        self.memory = self.add_weight((self.num_rows, shape[-1]), "zeros", name="memory", trainable=False)
        self.votes = self.add_weight((self.num_rows, self.num_classes), "zeros", name="votes", trainable=False)

    def call(self, features: Any) -> Any:
        """Return the logits `(n, c)` of features `(n, d)`."""
        cosines = ops.matmul(normalise(features), ops.transpose(self.memory))  # (n, d) @ (d, rows)
        nearest, rows = ops.top_k(cosines, self.neighbours)  # (n, k), (n, k)
        weights = ops.exp((nearest - nearest[:, :1]) / self.temperature)  # (n, k)
        votes = ops.sum(weights[:, :, None] * ops.take(self.votes, rows, axis=0), axis=1)  # (n, c)
        return ops.log(votes / ops.sum(votes, axis=-1, keepdims=True) + LEAST_VOTE) / self.divisor

    def get_config(self) -> dict[str, Any]:
        """Return sizes and settings."""
        names = ("num_rows", "num_classes", "neighbours", "temperature", "divisor")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def normalise(features: Any) -> Any:
    """Return features scaled to rows of length one; a row of zeros stays."""
    features = ops.cast(features, "float32")
    return features / ops.maximum(ops.sqrt(ops.sum(features * features, axis=-1, keepdims=True)), 1e-12)


@pin_keras_settings()
def build_dense(parameters: Sequence[tuple[Any, Any]]) -> keras.Model:
    """Build a head of Dense layers with ReLU between them.

    Args:
      parameters: kernel `(d, h)` and bias `(h,)` of each layer; the last layer gives the logits.
    """
    arrays = [[ops.convert_to_numpy(array) for array in layer] for layer in parameters]
    num_features = arrays[0][0].shape[0]
    head = build_empty_dense([num_features, *(bias.shape[0] for _, bias in arrays)])
    head.set_weights([array for layer in arrays for array in layer])
    return head


def build_empty_dense(widths: Sequence[int]) -> keras.Model:
    """Build an empty head of Dense layers; widths go from features to classes."""
    num_features, *hidden, num_classes = widths
    layers: list[Any] = [keras.Input((num_features,), name="features")]
    for place, width in enumerate(hidden, 1):
        layers.append(keras.layers.Dense(width, activation="relu", name=f"hidden_{place}"))
    return keras.Sequential([*layers, keras.layers.Dense(num_classes, name="logits")], name="head")


@pin_keras_settings()
def build_neighbours(
    memory: np.ndarray, votes: np.ndarray, num_neighbours: int, temperature: float, divisor: float = 1.0
) -> keras.Model:
    """Build a head that votes; see `Neighbours`.

    Args:
      memory: normalised features `(m, d)`.
      votes: `(m, c)`.
    """
    num_rows, num_classes = votes.shape
    layer = Neighbours(num_rows, num_classes, num_neighbours, float(temperature), float(divisor), name="logits")
    head = build_empty_neighbours(memory.shape[1], layer)
    head.set_weights([memory, votes])
    return head


def build_empty_neighbours(num_features: int, layer: Neighbours) -> keras.Model:
    """Build an empty head of one voting layer."""
    return keras.Sequential([keras.Input((num_features,), name="features"), layer], name="head")


@pin_keras_settings()
def apply_temperature(head: keras.Model, temperature: float) -> keras.Model:
    """Return the same head with its logits divided by a temperature."""
    last = head.layers[-1]
    arrays = [np.asarray(ops.convert_to_numpy(weight)) for weight in head.weights]
    if isinstance(last, Neighbours):
        memory, votes = arrays
        return build_neighbours(memory, votes, last.neighbours, last.temperature, last.divisor * temperature)
    arrays[-2:] = [array / np.float32(temperature) for array in arrays[-2:]]  # kernel and bias of the last layer
    return build_dense(list(zip(arrays[::2], arrays[1::2], strict=True)))


@pin_keras_settings()
def compute_logits(head: keras.Model, features: np.ndarray, block_rows: int = 8192) -> np.ndarray:
    """Return the head's logits `(n, c)` of features `(n, d)`, computed in blocks."""
    last = head.layers[-1]
    if isinstance(last, Neighbours):
        widest = max(last.num_rows, last.neighbours * last.num_classes)  # cosines, or the neighbours' votes
        block_rows = max(1, min(block_rows, SIMILARITY_BYTES // (4 * widest)))
    blocks = []
    with engine.exact_float32():
        for start in range(0, len(features), block_rows):
            block = ops.convert_to_tensor(features[start : start + block_rows], "float32")  # (m, d)
            blocks.append(ops.convert_to_numpy(head(block, training=False)))  # (m, c)
    return np.concatenate(blocks)


def require_finite(head: keras.Model, made_by: str, advice: str) -> None:
    """Refuse a head with weights that are not finite.

    Args:
      made_by: what made the head, in words.
      advice: what to try.

    Raises:
      RunError: which tensor, and how many of its values are not finite.
    """
    for weight in head.weights:
        values = ops.convert_to_numpy(weight)
        num_bad = values.size - int(np.isfinite(values).sum())
        if num_bad:
            raise RunError(
                f"{made_by}: {num_bad:,} of {values.size:,} values of the head's {weight.path} are not finite "
                f"(NaN or infinite); {advice}"
            )
