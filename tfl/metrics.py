"""Numbers about predictions, in numpy: accuracy with its interval, per class, confusion."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

WILSON_Z_95 = 1.959963984540054  # the 97.5 % quantile of the standard normal distribution


@dataclass(frozen=True)
class Metrics:
    """How a head did on the rows of one role.

    Attributes:
      accuracy: share of rows whose largest logit is the label's, in 0..1.
      interval: its 95 % Wilson score interval.
      loss: mean softmax cross-entropy, in nats.
      confusion: `(c, c)` counts; row is the label, column the predicted class.
    """

    num_rows: int
    accuracy: float
    interval: tuple[float, float]
    loss: float
    confusion: np.ndarray

    def per_class(self) -> np.ndarray:
        """Share of each label's rows that were predicted as it, `(c,)`; NaN for a label without rows."""
        totals = self.confusion.sum(axis=1)  # (c,)
        return np.asarray(
            np.divide(self.confusion.diagonal(), totals, out=np.full(len(totals), np.nan), where=totals > 0)
        )

    def to_dict(self, class_names: tuple[str, ...]) -> dict[str, Any]:
        """The same as plain values for JSON."""
        per_class = zip(class_names, self.per_class().tolist(), strict=True)
        return {
            "accuracy": self.accuracy,
            "accuracy_interval_95": list(self.interval),
            "num_rows": self.num_rows,
            "loss": self.loss,
            "accuracy_per_class": {name: None if math.isnan(share) else share for name, share in per_class},
            "confusion": self.confusion.tolist(),
        }


def measure(logits: np.ndarray, labels: np.ndarray) -> Metrics:
    """Metrics of logits `(n, c)` against integer labels `(n,)`."""
    return measure_blocks([(logits, labels)])


def measure_blocks(blocks: Iterable[tuple[np.ndarray, np.ndarray]]) -> Metrics:
    """Metrics of all rows of at least one block, each of logits `(m, c)` and integer labels `(m,)`.

    Only counts and a sum are kept of a block.
    """
    confusion, loss = np.zeros((), np.int64), 0.0
    for logits, labels in blocks:
        confusion = confusion + _confusion(logits, labels)  # (c, c)
        loss -= float(log_softmax(logits)[np.arange(len(labels)), labels].sum())
    correct, num_rows = int(confusion.trace()), int(confusion.sum())
    return Metrics(
        num_rows=num_rows,
        accuracy=correct / num_rows,
        interval=wilson_interval(correct, num_rows),
        loss=loss / num_rows,
        confusion=confusion,
    )


def _confusion(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    num_classes = logits.shape[1]
    predicted = logits.argmax(axis=1)  # (m,)
    return np.bincount(labels * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, -1)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Logarithms of the softmax over the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion.

    Source: E. B. Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22.
    """
    z, share = WILSON_Z_95, correct / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(centre - half, 0.0), min(centre + half, 1.0)
