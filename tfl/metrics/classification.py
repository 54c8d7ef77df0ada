"""Metrics of logits against labels, as counts and sums that add up over blocks of rows."""

import functools
import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np

from tfl.metrics.significance import wilson_interval
from tfl.metrics.softmax import compute_log_odds, log_softmax
from tfl.metrics.threshold import count_at_least

NUM_CALIBRATION_BINS = 15  # Guo et al. 2017, arXiv:1706.04599, section 4
CALIBRATION_EDGES = np.linspace(0, 1, NUM_CALIBRATION_BINS + 1)[1:-1]  # (14,) between bins; a bin holds its upper edge


@dataclass(frozen=True)
class Metrics:
    """Counts and sums of a head's answers; those of two blocks of rows add up to those of both.

    Attributes:
      confusion: `(c, c)` counts; the row is the label, the column the predicted class: the first of
        the largest logits.
      total_loss: softmax cross-entropy (negative log likelihood), summed over the rows, in nats.
      num_in_top_5: rows whose label has one of the five largest logits; of equal logits the first
        count as larger.
      calibration_bins: `(15, 3)`. For the rows whose largest probability falls into each fifteenth
        of 0..1: how many they are, the sum of these probabilities, and how many were predicted
        right.
      log_odds: for two classes, the log odds of label 1 in rows of label 0, and in rows of label 1;
        else None.
    """

    confusion: np.ndarray
    total_loss: float
    num_in_top_5: int
    calibration_bins: np.ndarray
    log_odds: tuple[np.ndarray, np.ndarray] | None

    def __add__(self, other: Self) -> "Metrics":
        log_odds = None
        if self.log_odds and other.log_odds:
            negative, positive = (np.concatenate(parts) for parts in zip(self.log_odds, other.log_odds, strict=True))
            log_odds = negative, positive
        return Metrics(
            confusion=self.confusion + other.confusion,
            total_loss=self.total_loss + other.total_loss,
            num_in_top_5=self.num_in_top_5 + other.num_in_top_5,
            calibration_bins=self.calibration_bins + other.calibration_bins,
            log_odds=log_odds,
        )

    @property
    def num_rows(self) -> int:
        """Rows measured."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """Share of rows whose largest logit is the label's, in 0..1; NaN without rows."""
        return self._divide_by_rows(int(self.confusion.trace()))

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson score interval of the accuracy; NaN without rows."""
        return wilson_interval(int(self.confusion.trace()), self.num_rows)

    @property
    def loss(self) -> float:
        """Mean softmax cross-entropy, in nats; NaN without rows."""
        return self._divide_by_rows(self.total_loss)

    @property
    def balanced_accuracy(self) -> float:
        """Mean of the accuracies of the classes that have rows, in 0..1; NaN without rows."""
        return float(np.nanmean(self.per_class())) if self.num_rows else math.nan

    @property
    def top_5_accuracy(self) -> float | None:
        """Share of rows whose label is among the five largest logits; None below six classes."""
        return self._divide_by_rows(self.num_in_top_5) if len(self.confusion) > 5 else None

    @property
    def calibration_error(self) -> float:
        """Expected calibration error, in 0..1; NaN without rows.

        It is the mean distance of largest probability and accuracy over 15 equal bins.

        Source: Guo et al. 2017, arXiv:1706.04599, equation 3.
        """
        _, probability, correct = self.calibration_bins.T  # (15,) each, sums over rows
        return self._divide_by_rows(float(np.abs(correct - probability).sum()))

    @property
    def roc_auc(self) -> float | None:
        """Area under the receiver operating characteristic, label 1 positive, or None.

        It is the share of pairs, one row of each label, in which label 1 has the higher odds; equal
        odds count half. It is None unless there are two classes, both with rows.

        Source: Hanley and McNeil 1982, "The meaning and use of the area under a ROC curve",
        Radiology 143.
        """
        if self.log_odds is None or not all(map(len, self.log_odds)):
            return None
        negative, positive = np.sort(self.log_odds[0]), self.log_odds[1]
        lower, not_higher = (np.searchsorted(negative, positive, side).mean() for side in ("left", "right"))
        return float((lower + not_higher) / (2 * len(negative)))

    @property
    def average_precision(self) -> float | None:
        """Sum over thresholds of precision times gain in recall, label 1 positive, or None.

        It is None if `roc_auc` is. Equal odds are one threshold; nothing is interpolated.
        """
        if self.log_odds is None or not all(map(len, self.log_odds)):
            return None
        negative, positive = map(np.sort, self.log_odds)
        thresholds, gains = np.unique(positive, return_counts=True)  # at other thresholds recall gains nothing
        num_true, num_false = (count_at_least(of_label, thresholds) for of_label in (positive, negative))
        return float((gains * num_true / (num_true + num_false)).sum() / len(positive))

    def _divide_by_rows(self, total: float) -> float:
        return total / self.num_rows if self.num_rows else math.nan

    def per_class(self) -> np.ndarray:
        """Return the share of each label's rows that were predicted right, `(c,)`; NaN without rows."""
        totals = self.confusion.sum(axis=1)  # (c,)
        undefined = np.full(len(totals), np.nan)
        return np.asarray(np.divide(self.confusion.diagonal(), totals, out=undefined, where=totals > 0))

    def intervals_per_class(self) -> list[tuple[float, float] | None]:
        """Return the 95 % Wilson interval of each share of `per_class`; None without rows."""
        counts = zip(self.confusion.diagonal().tolist(), self.confusion.sum(axis=1).tolist(), strict=True)
        return [wilson_interval(correct, total) if total else None for correct, total in counts]


def none_if_nan(value: float | None) -> float | None:
    """Return None for NaN, which JSON lacks, and any other number as it is."""
    return None if value is None or math.isnan(value) else value


def measure(logits: np.ndarray, labels: np.ndarray) -> Metrics:
    """Measure finite logits `(n, c)` against integer labels `(n,)` in 0..c-1."""
    log_probabilities = log_softmax(logits)  # (n, c)
    return Metrics(
        confusion=_count_confusion(logits, labels),
        total_loss=0.0 - float(log_probabilities[np.arange(len(labels)), labels].sum()),  # 0.0, and never -0.0
        num_in_top_5=int((_rank_labels(logits, labels) < 5).sum()),
        calibration_bins=_sum_calibration_bins(log_probabilities, logits.argmax(axis=1) == labels),
        log_odds=_split_log_odds(logits, labels) if logits.shape[1] == 2 else None,
    )


def measure_blocks(blocks: Iterable[tuple[np.ndarray, np.ndarray]]) -> Metrics:
    """Measure all rows of at least one block, each of logits `(m, c)` and integer labels `(m,)`.

    Only counts and sums are kept of a block and, for two classes, the log odds: 8 bytes a row.
    """
    return functools.reduce(operator.add, (measure(logits, labels) for logits, labels in blocks))


def _count_confusion(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    num_classes = logits.shape[1]
    predicted = logits.argmax(axis=1)  # (m,)
    return np.bincount(labels * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, -1)


def _rank_labels(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return how many classes come before the label's, `(n,)`: larger logits, then smaller indices."""
    of_label = np.take_along_axis(logits, labels[:, None], axis=1)  # (n, 1)
    is_earlier = np.arange(logits.shape[1]) < labels[:, None]  # (n, c)
    return np.asarray(((logits > of_label) | ((logits == of_label) & is_earlier)).sum(axis=1))


def _sum_calibration_bins(log_probabilities: np.ndarray, is_correct: np.ndarray) -> np.ndarray:
    largest = np.exp(log_probabilities.max(axis=1))  # (n,)
    bins = np.searchsorted(CALIBRATION_EDGES, largest)  # (n,)
    sums = [np.bincount(bins, weights, NUM_CALIBRATION_BINS) for weights in (None, largest, is_correct)]
    return np.stack(sums, axis=1)  # (15, 3)


def _split_log_odds(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the log odds of label 1 in rows of label 0, and in rows of label 1."""
    log_odds = compute_log_odds(logits)
    return log_odds[labels == 0], log_odds[labels == 1]
