"""Logits as probabilities, in float64."""

import numpy as np


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return the logarithms of the softmax over the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def compute_log_odds(logits: np.ndarray) -> np.ndarray:
    """Return the log odds of label 1 for logits `(n, 2)`, `(n,)` in float64.

    They order rows as its probability does, and do not saturate at 0 and 1.
    """
    return logits[:, 1].astype(np.float64) - logits[:, 0].astype(np.float64)
