"""Two classes told apart at a threshold on the probability of label 1."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from tfl.files.codec import Share
from tfl.metrics.softmax import compute_log_odds


@dataclass(frozen=True)
class ThresholdMetrics:
    """Metrics, in 0..1, of predictions that are label 1 from a threshold on; None if undefined.

    Attributes:
      accuracy: undefined without rows.
      balanced_accuracy: over the labels that have rows; undefined without rows.
      precision: of label 1; undefined if no row has label 1, or none is predicted as 1.
      recall, f1: of label 1; undefined if no row has it.
    """

    threshold: Share
    accuracy: Share | None
    balanced_accuracy: Share | None
    precision: Share | None
    recall: Share | None
    f1: Share | None


def count_at_least(ascending: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return how many sorted values are at least as large as each threshold."""
    return len(ascending) - np.searchsorted(ascending, thresholds)


def fit_decision_threshold(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the threshold on the probability of label 1 that has the best balanced accuracy.

    It is midway between two neighbouring probabilities; of equally good ones it is the nearest to
    0.5. If a label has no rows it is 0.5. Choose it on other rows than those that `measure_at` then
    reports.

    Args:
      logits: `(n, 2)`, finite.
      labels: `(n,)`, 0 or 1.
    """
    probabilities = expit(compute_log_odds(logits))  # (n,)
    negative, positive = (np.sort(probabilities[labels == label]) for label in range(2))
    if not (len(negative) and len(positive)):
        return 0.5
    neighbours = np.concatenate([[0.0], np.unique(probabilities), [1.0]])
    middle = (neighbours[:-1] + neighbours[1:]) / 2
    candidates = np.where(middle > neighbours[:-1], middle, neighbours[1:])  # between adjacent floats there is none
    # (recall + specificity - 1) times both numbers of rows: whole numbers, so that equally good ones are equal
    gain = count_at_least(positive, candidates) * len(negative) - count_at_least(negative, candidates) * len(positive)
    best = candidates[gain == gain.max()]
    return float(best[np.abs(best - 0.5).argmin()])


def measure_at(threshold: float, logits: np.ndarray, labels: np.ndarray) -> ThresholdMetrics:
    """Measure predictions that are label 1 if its probability is at least the threshold.

    Args:
      logits: `(n, 2)`, finite.
      labels: `(n,)`, 0 or 1.
    """
    is_predicted, is_positive = expit(compute_log_odds(logits)) >= threshold, labels == 1  # (n,), (n,)
    num_predicted, num_positive = int(is_predicted.sum()), int(is_positive.sum())
    num_true = int((is_predicted & is_positive).sum())
    is_correct = is_predicted == is_positive  # (n,)
    recalls = [float(is_correct[rows].mean()) for rows in (is_positive, ~is_positive) if rows.any()]
    has_precision = num_positive > 0 and num_predicted > 0
    return ThresholdMetrics(
        threshold=threshold,
        accuracy=float(is_correct.mean()) if len(labels) else None,
        balanced_accuracy=float(np.mean(recalls)) if recalls else None,
        precision=num_true / num_predicted if has_precision else None,
        recall=num_true / num_positive if num_positive else None,
        f1=2 * num_true / (num_predicted + num_positive) if num_positive else None,
    )
