"""Multinomial logistic regression by L-BFGS, along a path of L2 penalties."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import scipy.optimize
import threadpoolctl
from keras import ops

from tfl import engine
from tfl.errors import RunError
from tfl.heads.examples import LabelledFeatures, to_device
from tfl.heads.model import compute_logits, dense
from tfl.heads.search import Listeners, Search, choose_trial, trial
from tfl.heads.standard import Basis, compute_basis
from tfl.specs.recipes import Logistic

logger = logging.getLogger(__name__)

WORSE_VALUES = 2  # the path ends after so many penalties in a row with less accuracy and more loss than the best
PATH_LOOSENESS = 10.0  # times the tolerance, where a solution is only measured and warms up the next
MEMORY = 12  # pairs of vectors that L-BFGS keeps


@dataclass
class _Solution:
    """Kernel on standardised features `(d, c)`, bias `(c,)`, and the mean of p (1 - p) there."""

    kernel: np.ndarray
    bias: np.ndarray
    spread: float


def search(
    recipe: Logistic, fitting: LabelledFeatures, val: LabelledFeatures | None = None, listeners: Listeners = Listeners()
) -> Search:
    """Penalties from the strongest to the weakest, each begun at the solution of the one before.

    Raises:
      RunError: the loss is no longer finite.
    """
    started = time.perf_counter()
    basis = compute_basis(fitting)
    loss_of = _loss_function(fitting, basis)
    solution = _zero(fitting)
    trials, heads, worse = [], [], 0
    for l2 in sorted(recipe.l2, reverse=True):
        loosely = recipe.tolerance * (PATH_LOOSENESS if len(recipe.l2) > 1 else 1)
        solution = _solve(solution, l2, basis, loss_of, (loosely, recipe.max_iterations))
        head = dense([basis.scaling.folded(solution.kernel, solution.bias)])
        val_logits = None if val is None else compute_logits(head, val.features)
        trials.append(trial("logistic", {"l2": l2}, started, val_logits, val))
        heads.append((head, solution, val_logits))
        listeners.on_trial(trials[-1])
        started = time.perf_counter()
        best = trials[choose_trial(trials)]
        is_worse = val is not None and best is not trials[-1] and best["val_loss"] < trials[-1]["val_loss"]
        worse = worse + 1 if is_worse else 0
        if worse == WORSE_VALUES:
            break
    chosen = choose_trial(trials)
    head, solution, val_logits = heads[chosen]
    l2 = trials[chosen]["setting"]["l2"]

    def refit(rows: LabelledFeatures) -> keras.Model:
        # Where they span all columns, eigenvectors of the fitting rows only speed the solver up: for a few rows more
        # they serve as well. Fewer rows than columns span less than more rows do.
        own = basis if fitting.num_rows >= rows.num_features else compute_basis(rows)
        limits = (recipe.tolerance, recipe.max_iterations)
        solved = _solve(solution, l2, own, _loss_function(rows, own), limits)
        return dense([own.scaling.folded(solved.kernel, solved.bias)])

    return Search(head, trials, chosen, val_logits, refit)


def _zero(rows: LabelledFeatures) -> _Solution:
    c = rows.num_classes
    return _Solution(np.zeros((rows.num_features, c), np.float32), np.zeros(c, np.float32), (1 - 1 / c) / c)


LossFunction = Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray, np.ndarray, float]]


def _loss_function(rows: LabelledFeatures, basis: Basis) -> LossFunction:
    """Coefficients of eigenvectors `(r, c)` and bias `(c,)` to the weighted mean cross-entropy and its gradients.

    The kernel on standardised features is `basis.vectors` times the coefficients. The fourth value is the mean of
    p (1 - p) over rows and classes.
    """
    weights = rows.weights / rows.weights.sum(dtype=np.float64)
    x, labels = to_device(rows.features, rows.labels)
    w = ops.convert_to_tensor(weights.astype(np.float32))  # (n,)
    scaled = tuple(ops.convert_to_tensor(a) for a in (basis.vectors, basis.scaling.mean, basis.scaling.scale))

    def loss_and_gradients(x: Any, labels: Any, w: Any, scaled: Any, inner: Any, bias: Any) -> Any:
        vectors, mean, scale = scaled  # (d, r), (d,), (d,)
        kernel = ops.matmul(vectors, inner) / scale[:, None]  # (d, c), on the features as they are
        log_p = ops.log_softmax(ops.matmul(x, kernel) + (bias - ops.matmul(mean, kernel)))  # (n, c)
        p, y = ops.exp(log_p), ops.one_hot(labels, rows.num_classes)  # (n, c)
        error = (p - y) * w[:, None]  # (n, c)
        loss = -ops.sum(w * ops.sum(y * log_p, axis=-1))
        bias_gradient = ops.sum(error, axis=0)  # (c,)
        # The small matrices are transposed, not the features and the eigenvectors.
        gradient = (ops.matmul(ops.transpose(error), x) - bias_gradient[:, None] * mean) / scale  # (c, d)
        return loss, ops.matmul(gradient, vectors), bias_gradient, ops.mean(p * (1 - p))

    compiled = engine.compile_function(loss_and_gradients)

    def loss_of(inner: np.ndarray, bias: np.ndarray) -> tuple[float, np.ndarray, np.ndarray, float]:
        variables = (ops.convert_to_tensor(array, "float32") for array in (inner, bias))
        with engine.exact_float32():
            values = compiled(x, labels, w, scaled, *variables)
        loss, gradient, bias_gradient, spread = (np.asarray(ops.convert_to_numpy(value)) for value in values)
        return float(loss), gradient.T, bias_gradient, float(spread)

    return loss_of


def _solve(start: _Solution, l2: float, basis: Basis, loss_of: LossFunction, limits: tuple[float, int]) -> _Solution:
    """Minimise mean cross-entropy + l2 / 2 |kernel|^2, beginning at `start`.

    The variables are v with kernel = Q diag(1 / sqrt(a s + l2)) v, where Q diag(s) Q' are the correlations of the
    features and a the mean of p (1 - p): the Hessian in v is then near the identity, and some ten to thirty steps do
    what takes hundreds in the kernel itself. (The solution lies in the span of Q where that is of the rows' own.)

    Args:
      limits: largest component of the gradient in v, and number of steps, at which to stop.
    """
    num_classes = len(start.bias)
    shrink = 1 / np.sqrt(start.spread * basis.values + l2)[:, None]  # (r, 1)
    bias_shrink = 1 / np.sqrt(start.spread)
    split = len(basis.values) * num_classes
    last: dict[str, Any] = {}

    def unpacked(v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        inner = shrink * v[:split].reshape(-1, num_classes)  # (r, c): the kernel in eigenvectors
        return inner, v[split:] * bias_shrink

    def objective(v: np.ndarray) -> tuple[float, np.ndarray]:
        inner, bias = unpacked(v)
        loss, gradient, bias_gradient, last["spread"] = loss_of(inner, bias)
        if not np.isfinite(loss):
            raise RunError(f"the loss is {loss} with l2 {l2}; try larger ones: --l2")
        in_v = np.concatenate([(shrink * (gradient + l2 * inner)).ravel(), bias_gradient * bias_shrink])
        return loss + l2 / 2 * float((inner**2).sum()), in_v

    first = np.concatenate([(basis.vectors.T @ start.kernel / shrink).ravel(), start.bias / bias_shrink])
    options = {"maxiter": limits[1], "maxcor": MEMORY, "gtol": limits[0], "ftol": 1e-9}
    with threadpoolctl.threadpool_limits(1, "blas"):  # its many products of vectors are too short to be shared
        found = scipy.optimize.minimize(objective, first.astype(float), jac=True, method="L-BFGS-B", options=options)
    if found.nit >= limits[1]:
        logger.warning("l2 %g: not converged after %d iterations (--max-iterations)", l2, found.nit)
    inner, bias = unpacked(found.x)
    logger.debug("l2 %g: %d iterations, %d evaluations, %s", l2, found.nit, found.nfev, found.message)
    return _Solution(basis.vectors @ inner.astype(np.float32), bias.astype(np.float32), last["spread"])
