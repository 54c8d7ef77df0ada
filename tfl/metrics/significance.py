"""Uncertainty: the interval of a share, and whether two classifiers differ by chance."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr

WILSON_Z_95 = 1.959963984540054  # the 97.5 % quantile of the standard normal distribution


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """Return the 95 % score interval of a proportion; NaN if there are no rows.

    Source: E. B. Wilson 1927, "Probable inference, the law of succession, and statistical
    inference", JASA 22.
    """
    if not total:
        return math.nan, math.nan
    z, share = WILSON_Z_95, correct / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(centre - half, 0.0), min(centre + half, 1.0)


@dataclass(frozen=True)
class McNemar:
    """Two classifiers, a and b, on the same rows.

    Attributes:
      only_a: rows that a alone had right.
      only_b: rows that b alone had right.
      difference: accuracy of a less that of b, in -1..1.
      p_value: exact, two-sided: the chance of a split at least this uneven if each of those rows
        were a's or b's by the toss of a coin.
    """

    only_a: int
    only_b: int
    difference: float
    p_value: float


def mcnemar(correct_a: np.ndarray, correct_b: np.ndarray) -> McNemar:
    """Test whether two classifiers differ, by the rows that one of them alone had right.

    Args:
      correct_a: `(n,)` bool, the rows that a had right; at least one row.
      correct_b: `(n,)` bool, the same for b, in the same order.

    Returns:
      Its `p_value` is 1.0 if no row tells them apart.

    Source: McNemar 1947, "Note on the sampling error of the difference between correlated
    proportions or percentages", Psychometrika 12; with the binomial distribution itself instead of
    its approximation by chi-squared.
    """
    only_a, only_b = int(np.sum(correct_a & ~correct_b)), int(np.sum(correct_b & ~correct_a))
    one_tail = float(bdtr(min(only_a, only_b), only_a + only_b, 0.5))
    return McNemar(only_a, only_b, (only_a - only_b) / len(correct_a), min(2 * one_tail, 1.0))
