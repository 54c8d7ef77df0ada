"""Ridge: least squares on one-hot targets with an L2 penalty, in closed form; every penalty from one decomposition."""

import time
from typing import Any

import keras
import numpy as np
import scipy.linalg

from tfl.heads.examples import LabelledFeatures
from tfl.heads.model import compute_logits, dense
from tfl.heads.search import Listeners, Search, choose_trial, trial
from tfl.heads.standard import Basis, compute_basis, compute_moments
from tfl.metrics import fit_temperature
from tfl.specs.recipes import Ridge


def search(
    recipe: Ridge, fitting: LabelledFeatures, val: LabelledFeatures | None = None, listeners: Listeners = Listeners()
) -> Search:
    """Every penalty on the fitting rows, the best on the validation rows.

    With the correlations Q diag(s) Q' of standardised features x, and targets y less their mean, the kernel that
    minimises mean |y - x w|^2 + l2 |w|^2 is Q diag(1 / (s + l2)) Q' x'y / n. Its outputs are shares rather than logits:
    they are divided by the temperature that the validation rows ask for (the fitting rows, without those).
    """
    started = time.perf_counter()
    basis = compute_basis(fitting)
    bias, targets = _projected_targets(fitting, basis)  # (c,), (r, c)
    measured = val or fitting
    projected = basis.scaling.apply(measured.features) @ basis.vectors  # (m, d) @ (d, r)
    trials, outputs = [], []
    for l2 in recipe.l2:
        scores = projected @ (targets / (basis.values + l2)[:, None]).astype(np.float32) + bias  # (m, r) @ (r, c)
        temperature = fit_temperature(scores, measured.labels)
        outputs.append((temperature, scores / np.float32(temperature)))
        trials.append(trial("ridge", {"l2": l2}, started, outputs[-1][1], val))
        listeners.on_trial(trials[-1])
        started = time.perf_counter()
    chosen = choose_trial(trials)
    l2, temperature = recipe.l2[chosen], outputs[chosen][0]
    kernel = basis.vectors @ (targets / (basis.values + l2)[:, None]).astype(np.float32)  # (d, r) @ (r, c)
    head = _head(kernel, bias, basis.scaling, temperature)
    val_logits = None if val is None else compute_logits(head, val.features)
    return Search(head, trials, chosen, val_logits, lambda rows: _refit(rows, l2, temperature))


def _projected_targets(rows: LabelledFeatures, basis: Basis) -> tuple[np.ndarray, np.ndarray]:
    """The weighted mean of the one-hot targets `(c,)`, and Q' x'y / n `(r, c)` of the centred ones."""
    bias, products = _targets(rows, basis.scaling)
    return bias, basis.vectors.T.astype(np.float64) @ products


def _targets(rows: LabelledFeatures, scaling: Any) -> tuple[np.ndarray, np.ndarray]:
    """The weighted mean of the one-hot targets `(c,)`, and x'y / n `(d, c)` of standardised features."""
    weights = rows.weights / rows.weights.sum(dtype=np.float64)  # (n,)
    y = np.zeros((rows.num_rows, rows.num_classes), np.float32)
    y[np.arange(rows.num_rows), rows.labels] = weights
    mean = y.sum(axis=0, dtype=np.float64)  # (c,)
    raw = rows.features.T @ y  # (d, n) @ (n, c)
    column_means = scaling.mean.astype(np.float64)
    return mean.astype(np.float32), (raw - np.outer(column_means, mean)) / scaling.scale[:, None]


def _refit(rows: LabelledFeatures, l2: float, temperature: float) -> keras.Model:
    """One penalty needs no decomposition: a Cholesky factor costs a tenth of it."""
    if rows.num_rows < rows.num_features:
        basis = compute_basis(rows)
        bias, targets = _projected_targets(rows, basis)
        return _head(basis.vectors @ (targets / (basis.values + l2)[:, None]), bias, basis.scaling, temperature)
    scaling = compute_moments(rows).scaling()
    correlations = compute_moments(rows).correlations(scaling)
    correlations[np.diag_indices_from(correlations)] += l2
    bias, products = _targets(rows, scaling)
    kernel = scipy.linalg.solve(correlations, products, assume_a="pos", overwrite_a=True, check_finite=False)
    return _head(kernel, bias, scaling, temperature)


def _head(kernel: np.ndarray, bias: np.ndarray, scaling: Any, temperature: float) -> keras.Model:
    return dense([scaling.folded(kernel / temperature, bias / temperature)])
