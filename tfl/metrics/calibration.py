"""Temperature scaling: one number that makes probabilities fit."""

import math

import numpy as np
from scipy.optimize import minimize_scalar

from tfl.metrics.softmax import log_softmax

TEMPERATURE_RANGE = (1e-3, 1e3)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature T, in 0.001..1000, that makes `logits / T` most likely.

    Fit it on rows that the head was not trained on. If all rows are predicted right, the least is
    at T = 0, and the result is one of the small T at which float64 no longer sees any loss.

    Args:
      logits: `(n, c)`, finite.
      labels: `(n,)` integers in 0..c-1.

    Source: Guo et al. 2017, arXiv:1706.04599, section 4.2. The likelihood is concave in 1 / T, so
    that it has one maximum in log T.
    """
    exact, rows = logits.astype(np.float64), np.arange(len(labels))

    def compute_loss(log_temperature: float) -> float:
        return -float(log_softmax(exact / math.exp(log_temperature))[rows, labels].mean())

    bounds = tuple(map(math.log, TEMPERATURE_RANGE))
    return math.exp(minimize_scalar(compute_loss, bounds=bounds, method="bounded").x)
