"""Numbers about predictions, in numpy: accuracy with its interval, per class, calibration, thresholds, comparison."""

import functools
import math
import operator
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import bdtr, expit

WILSON_Z_95 = 1.959963984540054  # the 97.5 % quantile of the standard normal distribution
NUM_CALIBRATION_BINS = 15  # Guo et al. 2017, arXiv:1706.04599, section 4
CALIBRATION_EDGES = np.linspace(0, 1, NUM_CALIBRATION_BINS + 1)[1:-1]  # (14,) between bins; a bin holds its upper edge
TEMPERATURE_RANGE = (1e-3, 1e3)


@dataclass(frozen=True)
class Metrics:
    """How a head did on the rows of one role, as counts and sums; those of two blocks of rows add up to those of both.

    Attributes:
      confusion: `(c, c)` counts; row is the label, column the predicted class: the first of the largest logits.
      total_loss: softmax cross-entropy (negative log likelihood) of all rows together, in nats.
      num_in_top_5: rows whose label has one of the five largest logits; of equal logits the first count as larger.
      calibration_bins: `(15, 3)`: of the rows whose largest probability falls into each fifteenth of 0..1 their
        number, the sum of these probabilities, and how many were predicted right.
      scores: of two classes the log odds of label 1 in rows of label 0, and in rows of label 1; else None.
    """

    confusion: np.ndarray
    total_loss: float
    num_in_top_5: int
    calibration_bins: np.ndarray
    scores: tuple[np.ndarray, np.ndarray] | None

    def __add__(self, other: Self) -> "Metrics":
        scores = None
        if self.scores and other.scores:
            negative, positive = (np.concatenate(parts) for parts in zip(self.scores, other.scores, strict=True))
            scores = negative, positive
        return Metrics(
            confusion=self.confusion + other.confusion,
            total_loss=self.total_loss + other.total_loss,
            num_in_top_5=self.num_in_top_5 + other.num_in_top_5,
            calibration_bins=self.calibration_bins + other.calibration_bins,
            scores=scores,
        )

    @property
    def num_rows(self) -> int:
        """Rows measured."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """Share of rows whose largest logit is the label's, in 0..1; NaN without rows."""
        return self._mean(int(self.confusion.trace()))

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson score interval of the accuracy; NaN without rows."""
        return wilson_interval(int(self.confusion.trace()), self.num_rows)

    @property
    def loss(self) -> float:
        """Mean softmax cross-entropy, in nats; NaN without rows."""
        return self._mean(self.total_loss)

    @property
    def balanced_accuracy(self) -> float:
        """Mean of the accuracies per class, over the classes that have rows, in 0..1; NaN without rows."""
        return float(np.nanmean(self.per_class())) if self.num_rows else math.nan

    @property
    def top_5_accuracy(self) -> float | None:
        """Share of rows whose label has one of the five largest logits; None for fewer than six classes."""
        return self._mean(self.num_in_top_5) if len(self.confusion) > 5 else None

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: mean distance of largest probability and accuracy over 15 equal bins, in 0..1.

        It is NaN without rows.

        Source: Guo et al. 2017, arXiv:1706.04599, equation 3.
        """
        _, probability, correct = self.calibration_bins.T  # (15,) each, sums over rows
        return self._mean(float(np.abs(correct - probability).sum()))

    @property
    def roc_auc(self) -> float | None:
        """Area under the receiver operating characteristic, label 1 positive; None unless two classes, both with rows.

        It is the share of pairs, one row of each label, in which label 1 scores higher; equal scores count half.

        Source: Hanley and McNeil 1982, "The meaning and use of the area under a ROC curve", Radiology 143.
        """
        if self.scores is None or not all(map(len, self.scores)):
            return None
        negative, positive = np.sort(self.scores[0]), self.scores[1]
        lower, not_higher = (np.searchsorted(negative, positive, side).mean() for side in ("left", "right"))
        return float((lower + not_higher) / (2 * len(negative)))

    @property
    def average_precision(self) -> float | None:
        """Sum over thresholds of precision times gain in recall, label 1 positive; None as `roc_auc` is.

        Equal scores are one threshold; nothing is interpolated between thresholds.
        """
        if self.scores is None or not all(map(len, self.scores)):
            return None
        negative, positive = map(np.sort, self.scores)
        thresholds, gains = np.unique(positive, return_counts=True)  # the others gain no recall
        num_true, num_false = (_num_at_least(scores, thresholds) for scores in (positive, negative))
        return float((gains * num_true / (num_true + num_false)).sum() / len(positive))

    def _mean(self, total: float) -> float:
        return total / self.num_rows if self.num_rows else math.nan

    def per_class(self) -> np.ndarray:
        """Share of each label's rows that were predicted as it, `(c,)`; NaN for a label without rows."""
        totals = self.confusion.sum(axis=1)  # (c,)
        return np.asarray(
            np.divide(self.confusion.diagonal(), totals, out=np.full(len(totals), np.nan), where=totals > 0)
        )

    def intervals_per_class(self) -> list[tuple[float, float] | None]:
        """The 95 % Wilson interval of each share of `per_class`; None for a label without rows."""
        counts = zip(self.confusion.diagonal().tolist(), self.confusion.sum(axis=1).tolist(), strict=True)
        return [wilson_interval(correct, total) if total else None for correct, total in counts]

    def to_dict(self, class_names: tuple[str, ...]) -> dict[str, Any]:
        """Return the same as plain values for JSON, None for what is undefined.

        `roc_auc` and `average_precision` are there only for two classes.
        """
        per_class = zip(class_names, self.per_class().tolist(), strict=True)
        intervals = zip(class_names, self.intervals_per_class(), strict=True)
        top_5 = self.top_5_accuracy
        of_two_classes = {"roc_auc": self.roc_auc, "average_precision": self.average_precision}
        return {
            "accuracy": none_if_nan(self.accuracy),
            "accuracy_interval_95": list(self.interval) if self.num_rows else None,
            "num_rows": self.num_rows,
            "loss": none_if_nan(self.loss),
            "balanced_accuracy": none_if_nan(self.balanced_accuracy),
            "top_5_accuracy": None if top_5 is None else none_if_nan(top_5),
            "calibration_error": none_if_nan(self.calibration_error),
            **(of_two_classes if len(class_names) == 2 else {}),
            "accuracy_per_class": {name: none_if_nan(share) for name, share in per_class},
            "interval_95_per_class": {name: list(interval) if interval else None for name, interval in intervals},
            "confusion": self.confusion.tolist(),
        }


def none_if_nan(value: float) -> float | None:
    """Return a number as JSON has it: None where it is undefined, NaN."""
    return None if math.isnan(value) else value


def measure(logits: np.ndarray, labels: np.ndarray) -> Metrics:
    """Metrics of finite logits `(n, c)` against integer labels `(n,)` in 0..c-1."""
    log_probabilities = log_softmax(logits)  # (n, c)
    return Metrics(
        confusion=_confusion(logits, labels),
        total_loss=0.0 - float(log_probabilities[np.arange(len(labels)), labels].sum()),  # 0.0, and never -0.0
        num_in_top_5=int((_ranks(logits, labels) < 5).sum()),
        calibration_bins=_calibration_bins(log_probabilities, logits.argmax(axis=1) == labels),
        scores=_scores(logits, labels) if logits.shape[1] == 2 else None,
    )


def measure_blocks(blocks: Iterable[tuple[np.ndarray, np.ndarray]]) -> Metrics:
    """Metrics of all rows of at least one block, each of logits `(m, c)` and integer labels `(m,)`.

    Only counts and sums are kept of a block; of two classes also a score, 8 bytes a row.
    """
    return functools.reduce(operator.add, (measure(logits, labels) for logits, labels in blocks))


def _confusion(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    num_classes = logits.shape[1]
    predicted = logits.argmax(axis=1)  # (m,)
    return np.bincount(labels * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, -1)


def _ranks(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes stand before the label's, `(n,)`: by larger logit, and of equal ones by smaller index."""
    of_label = np.take_along_axis(logits, labels[:, None], axis=1)  # (n, 1)
    is_earlier = np.arange(logits.shape[1]) < labels[:, None]  # (n, c)
    return np.asarray(((logits > of_label) | ((logits == of_label) & is_earlier)).sum(axis=1))


def _calibration_bins(log_probabilities: np.ndarray, is_correct: np.ndarray) -> np.ndarray:
    largest = np.exp(log_probabilities.max(axis=1))  # (n,)
    bins = np.searchsorted(CALIBRATION_EDGES, largest)  # (n,)
    sums = [np.bincount(bins, weights, NUM_CALIBRATION_BINS) for weights in (None, largest, is_correct)]
    return np.stack(sums, axis=1)  # (15, 3)


def _scores(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    log_odds = _log_odds(logits)
    return log_odds[labels == 0], log_odds[labels == 1]


def _log_odds(logits: np.ndarray) -> np.ndarray:
    """Of label 1, `(n,)` in float64; they order rows as its probability does, and do not saturate at 0 and 1."""
    return logits[:, 1].astype(np.float64) - logits[:, 0].astype(np.float64)


def _num_at_least(ascending: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    return len(ascending) - np.searchsorted(ascending, thresholds)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Logarithms of the softmax over the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion; NaN of no rows.

    Source: E. B. Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22.
    """
    if not total:
        return math.nan, math.nan
    z, share = WILSON_Z_95, correct / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature T, in 0.001..1000, whose `logits / T` have the least negative log likelihood.

    To be fitted on rows that the head was not trained on. Where all rows are predicted right, the least is at T = 0,
    and T is one of those near it at which float64 sees no loss any more.

    Args:
      logits: `(n, c)`, finite; what is to be divided by T.
      labels: `(n,)` integers in 0..c-1.

    Source: Guo et al. 2017, arXiv:1706.04599, section 4.2. The likelihood is concave in 1 / T, so that it has one
    maximum in log T.
    """
    exact, rows = logits.astype(np.float64), np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        return -float(log_softmax(exact / math.exp(log_temperature))[rows, labels].mean())

    bounds = tuple(map(math.log, TEMPERATURE_RANGE))
    return math.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x)


def fit_decision_threshold(logits: np.ndarray, labels: np.ndarray) -> float:
    """The threshold on the probability of label 1 that has the highest balanced accuracy on these rows.

    Midway between two neighbouring probabilities; of equally good ones the nearest to 0.5. It is 0.5 where a label has
    no rows. To be chosen on rows other than those that `measure_at` then reports.

    Args:
      logits: `(n, 2)`, finite.
      labels: `(n,)`, 0 or 1.
    """
    probabilities = expit(_log_odds(logits))  # (n,)
    negative, positive = (np.sort(probabilities[labels == label]) for label in range(2))
    if not (len(negative) and len(positive)):
        return 0.5
    neighbours = np.concatenate([[0.0], np.unique(probabilities), [1.0]])
    middle = (neighbours[:-1] + neighbours[1:]) / 2
    candidates = np.where(middle > neighbours[:-1], middle, neighbours[1:])  # between adjacent floats there is none
    # (recall + specificity - 1) times both numbers of rows: whole numbers, so that equally good ones are equal
    gain = _num_at_least(positive, candidates) * len(negative) - _num_at_least(negative, candidates) * len(positive)
    best = candidates[gain == gain.max()]
    return float(best[np.abs(best - 0.5).argmin()])


def measure_at(threshold: float, logits: np.ndarray, labels: np.ndarray) -> dict[str, float | None]:
    """Return metrics of saying label 1 where its probability is at least the threshold.

    Args:
      logits: `(n, 2)`, finite.
      labels: `(n,)`, 0 or 1.

    Returns:
      `threshold`, `accuracy`, `balanced_accuracy` (over the labels that have rows), and of label 1 `precision`,
      `recall` and `f1`, in 0..1. None where undefined: everything without rows; precision, recall and f1 where no row
      is of label 1; precision where no row is said to be 1.
    """
    said, is_positive = expit(_log_odds(logits)) >= threshold, labels == 1
    num_true, num_said, num_positive = (int(np.sum(rows)) for rows in (said & is_positive, said, is_positive))
    is_correct = said == is_positive  # (n,)
    recalls = [float(is_correct[rows].mean()) for rows in (is_positive, ~is_positive) if rows.any()]
    has_precision = num_positive > 0 and num_said > 0
    return {
        "threshold": threshold,
        "accuracy": float(is_correct.mean()) if len(labels) else None,
        "balanced_accuracy": float(np.mean(recalls)) if recalls else None,
        "precision": num_true / num_said if has_precision else None,
        "recall": num_true / num_positive if num_positive else None,
        "f1": 2 * num_true / (num_said + num_positive) if num_positive else None,
    }


@dataclass(frozen=True)
class McNemar:
    """Two classifiers on the same rows.

    Attributes:
      only_a: rows that a alone had right.
      only_b: rows that b alone had right.
      difference: accuracy of a less that of b, in -1..1.
      p_value: exact, two-sided: the chance of a split at least as uneven where each such row is a's or b's by a coin.
    """

    only_a: int
    only_b: int
    difference: float
    p_value: float

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        return asdict(self)


def mcnemar(correct_a: np.ndarray, correct_b: np.ndarray) -> McNemar:
    """Whether two classifiers differ on the same rows, by the rows that one of them alone had right.

    Args:
      correct_a: `(n,)` bool, whether a had the row right; at least one row.
      correct_b: `(n,)` bool, the same rows in the same order.

    Returns:
      Its `p_value` is 1.0 where no row tells them apart.

    Source: McNemar 1947, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12; with the binomial distribution itself instead of its approximation by chi-squared.
    """
    only_a, only_b = int(np.sum(correct_a & ~correct_b)), int(np.sum(correct_b & ~correct_a))
    one_tail = float(bdtr(min(only_a, only_b), only_a + only_b, 0.5))
    return McNemar(only_a, only_b, (only_a - only_b) / len(correct_a), min(2 * one_tail, 1.0))
