"""The recipe `ridge`: least squares in closed form, all penalties from one decomposition."""

import time

import keras
import numpy as np
import scipy.linalg

from tfl.heads.model import build_dense, compute_logits
from tfl.heads.ridge import Ridge
from tfl.heads.rows import LabelledFeatures
from tfl.heads.search import Search, choose_trial, measure_trial
from tfl.heads.solvers.standardisation import Basis, Scaling, compute_basis, compute_moments
from tfl.heads.trials import Listeners
from tfl.metrics import fit_temperature


def search(recipe: Ridge, fitting: LabelledFeatures, val: LabelledFeatures | None, listeners: Listeners) -> Search:
    """Solve for every penalty on the fitting rows, and choose the best on the validation rows.

    With the correlations Q diag(s) Q' of standardised features x, and targets y less their mean,
    the kernel that minimises mean |y - x w|^2 + l2 |w|^2 is Q diag(1 / (s + l2)) Q' x'y / n. Its
    outputs are shares rather than logits: they are divided by the temperature that fits the
    validation rows best (the fitting rows, without those).
    """
    started = time.perf_counter()
    basis = compute_basis(fitting)
    bias, targets = _project_targets(fitting, basis)  # (c,), (r, c)
    measured = val or fitting
    projected = basis.scaling.apply(measured.features) @ basis.vectors  # (m, d) @ (d, r)
    trials, temperatures = [], []
    for l2 in recipe.l2:
        outputs = projected @ _shrink(targets, basis, l2).astype(np.float32) + bias  # (m, r) @ (r, c)
        temperatures.append(fit_temperature(outputs, measured.labels))
        logits = outputs / np.float32(temperatures[-1])
        trials.append(measure_trial(recipe.name, {"l2": l2}, started, logits, val))
        listeners.on_trial(trials[-1])
        started = time.perf_counter()
    chosen = choose_trial(trials)
    l2, temperature = recipe.l2[chosen], temperatures[chosen]
    kernel = basis.vectors @ _shrink(targets, basis, l2).astype(np.float32)  # (d, r) @ (r, c)
    head = _build_head(kernel, bias, basis.scaling, temperature)
    val_logits = None if val is None else compute_logits(head, val.features)
    return Search(head, trials, chosen, val_logits, lambda rows: _refit(rows, l2, temperature))


def _refit(rows: LabelledFeatures, l2: float, temperature: float) -> keras.Model:
    """Fit one penalty. That needs no decomposition: a Cholesky factor costs a tenth of it."""
    if rows.num_rows < rows.num_features:
        basis = compute_basis(rows)
        bias, targets = _project_targets(rows, basis)
        return _build_head(basis.vectors @ _shrink(targets, basis, l2), bias, basis.scaling, temperature)
    moments = compute_moments(rows)
    scaling = moments.compute_scaling()
    correlations = moments.compute_correlations(scaling)  # (d, d)
    correlations[np.diag_indices_from(correlations)] += l2
    bias, targets = _compute_targets(rows, scaling)
    kernel = scipy.linalg.solve(correlations, targets, assume_a="pos", overwrite_a=True, check_finite=False)
    return _build_head(kernel, bias, scaling, temperature)


def _shrink(targets: np.ndarray, basis: Basis, l2: float) -> np.ndarray:
    """Return diag(1 / (s + l2)) Q' x'y / n, `(r, c)`."""
    return np.asarray(targets / (basis.values + l2)[:, None])


def _project_targets(rows: LabelledFeatures, basis: Basis) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted mean of the targets `(c,)`, and Q' x'y / n `(r, c)`."""
    bias, targets = _compute_targets(rows, basis.scaling)
    return bias, basis.vectors.T.astype(np.float64) @ targets


def _compute_targets(rows: LabelledFeatures, scaling: Scaling) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted mean of the targets `(c,)`, and x'y / n `(d, c)`, x standardised."""
    weights = rows.weights / rows.weights.sum(dtype=np.float64)  # (n,)
    y = np.zeros((rows.num_rows, rows.num_classes), np.float32)
    y[np.arange(rows.num_rows), rows.labels] = weights
    mean = y.sum(axis=0, dtype=np.float64)  # (c,)
    raw = rows.features.T @ y  # (d, n) @ (n, c)
    column_means = scaling.mean.astype(np.float64)
    return mean.astype(np.float32), (raw - np.outer(column_means, mean)) / scaling.scale[:, None]


def _build_head(kernel: np.ndarray, bias: np.ndarray, scaling: Scaling, temperature: float) -> keras.Model:
    return build_dense([scaling.fold(kernel / temperature, bias / temperature)])
