"""The recipe `logistic`: multinomial logistic regression by L-BFGS."""

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
from tfl.heads.examples import to_tensors
from tfl.heads.logistic import Logistic
from tfl.heads.model import build_dense, compute_logits
from tfl.heads.rows import LabelledFeatures
from tfl.heads.search import Search, choose_trial, measure_trial
from tfl.heads.solvers.standardisation import Basis, compute_basis
from tfl.heads.trials import Listeners, Trial

logger = logging.getLogger(__name__)

MAX_WORSE = 2  # the path ends after so many penalties in a row with less accuracy and more loss than the best
PATH_LOOSENESS = 10.0  # times the tolerance, while a solution is only measured and starts the next one
NUM_CORRECTIONS = 12  # pairs of vectors that L-BFGS keeps


@dataclass
class _Solution:
    """Kernel on standardised features `(d, c)`, bias `(c,)`, and the mean of p (1 - p) there."""

    kernel: np.ndarray
    bias: np.ndarray
    spread: float


def search(recipe: Logistic, fitting: LabelledFeatures, val: LabelledFeatures | None, listeners: Listeners) -> Search:
    """Go from the strongest penalty to the weakest; each starts at the solution of the one before.

    Raises:
      RunError: the loss is no longer finite.
    """
    started = time.perf_counter()
    basis = compute_basis(fitting)
    compute_loss = _make_loss_function(fitting, basis)
    tolerance = recipe.tolerance * (PATH_LOOSENESS if len(recipe.l2) > 1 else 1)
    solution = _start_at_zero(fitting)
    solutions, heads, trials, logits = [], [], [], []
    penalties = sorted(recipe.l2, reverse=True)
    for l2 in penalties:
        solution = _solve(solution, l2, basis, compute_loss, (tolerance, recipe.max_iterations))
        solutions.append(solution)
        heads.append(build_dense([basis.scaling.fold(solution.kernel, solution.bias)]))
        logits.append(None if val is None else compute_logits(heads[-1], val.features))
        trials.append(measure_trial(recipe.name, {"l2": l2}, started, logits[-1], val))
        listeners.on_trial(trials[-1])
        started = time.perf_counter()
        if val is not None and _count_worse(trials) == MAX_WORSE:
            break
    chosen = choose_trial(trials)

    def refit(rows: LabelledFeatures) -> keras.Model:
        # If they span all columns, eigenvectors of the fitting rows only speed the solver up: for a few rows more they
        # serve as well. If there are fewer rows than columns, they span less than those of more rows do.
        own = basis if fitting.num_rows >= rows.num_features else compute_basis(rows)
        limits = (recipe.tolerance, recipe.max_iterations)
        l2 = penalties[chosen]
        solved = _solve(solutions[chosen], l2, own, _make_loss_function(rows, own), limits)
        return build_dense([own.scaling.fold(solved.kernel, solved.bias)])

    return Search(heads[chosen], trials, chosen, logits[chosen], refit)


def _count_worse(trials: list[Trial]) -> int:
    """Return how many trials at the end were worse than the best before, in accuracy and loss."""
    count = 0
    for end in range(len(trials), 0, -1):
        last, best = trials[end - 1], trials[choose_trial(trials[:end])]
        if best is last or not _has_less_loss(best, last):
            break
        count += 1
    return count


def _has_less_loss(first: Trial, second: Trial) -> bool:
    return first.val_loss is not None and second.val_loss is not None and first.val_loss < second.val_loss


def _start_at_zero(rows: LabelledFeatures) -> _Solution:
    c = rows.num_classes
    return _Solution(np.zeros((rows.num_features, c), np.float32), np.zeros(c, np.float32), (1 - 1 / c) / c)


LossFunction = Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray, np.ndarray, float]]


def _make_loss_function(rows: LabelledFeatures, basis: Basis) -> LossFunction:
    """Return a function of coefficients `(r, c)` and bias `(c,)`: mean loss and its gradients.

    The kernel on standardised features is `basis.vectors` times the coefficients. The function's
    fourth value is the mean of p (1 - p) over rows and classes.
    """
    weights = rows.weights / rows.weights.sum(dtype=np.float64)  # (n,)
    x, labels = to_tensors(rows.features, rows.labels)
    w = ops.convert_to_tensor(weights.astype(np.float32))  # (n,)
    constants = tuple(map(ops.convert_to_tensor, (basis.vectors, basis.scaling.mean, basis.scaling.scale)))

    def compute(x: Any, labels: Any, w: Any, constants: Any, coefficients: Any, bias: Any) -> Any:
        vectors, mean, scale = constants  # (d, r), (d,), (d,)
        kernel = ops.matmul(vectors, coefficients) / scale[:, None]  # (d, c), on raw features
        log_p = ops.log_softmax(ops.matmul(x, kernel) + (bias - ops.matmul(mean, kernel)))  # (n, c)
        p, y = ops.exp(log_p), ops.one_hot(labels, rows.num_classes)  # (n, c)
        error = (p - y) * w[:, None]  # (n, c)
        loss = -ops.sum(w * ops.sum(y * log_p, axis=-1))
        bias_gradient = ops.sum(error, axis=0)  # (c,)
        # The small matrices are transposed, not the features and the eigenvectors.
        gradient = (ops.matmul(ops.transpose(error), x) - bias_gradient[:, None] * mean) / scale  # (c, d)
        return loss, ops.matmul(gradient, vectors), bias_gradient, ops.mean(p * (1 - p))

    compiled = engine.compile_function(compute)

    def compute_loss(coefficients: np.ndarray, bias: np.ndarray) -> tuple[float, np.ndarray, np.ndarray, float]:
        variables = (ops.convert_to_tensor(array, "float32") for array in (coefficients, bias))
        with engine.exact_float32():
            values = compiled(x, labels, w, constants, *variables)
        loss, gradient, bias_gradient, spread = (np.asarray(ops.convert_to_numpy(value)) for value in values)
        return float(loss), gradient.T, bias_gradient, float(spread)

    return compute_loss


def _solve(
    start: _Solution, l2: float, basis: Basis, compute_loss: LossFunction, limits: tuple[float, int]
) -> _Solution:
    """Minimise mean cross-entropy + l2 / 2 |kernel|^2 from `start` on.

    The variables are v with kernel = Q diag(1 / sqrt(a s + l2)) v, where Q diag(s) Q' are the
    correlations of the features and a is the mean of p (1 - p). The Hessian in v is then near the
    identity: ten to thirty steps do what takes hundreds in the kernel itself. (The solution lies in
    the span of Q, because that is the span of the rows.)

    Args:
      limits: stop at this largest component of the gradient in v, and after this number of
        iterations.
    """
    num_classes = len(start.bias)
    shrink = 1 / np.sqrt(start.spread * basis.values + l2)[:, None]  # (r, 1)
    bias_shrink = 1 / np.sqrt(start.spread)
    split = len(basis.values) * num_classes
    last_spread = start.spread

    def unpack(v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        coefficients = shrink * v[:split].reshape(-1, num_classes)  # (r, c): the kernel in eigenvectors
        return coefficients, v[split:] * bias_shrink

    def compute_objective(v: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal last_spread
        coefficients, bias = unpack(v)
        loss, gradient, bias_gradient, last_spread = compute_loss(coefficients, bias)
        if not np.isfinite(loss):
            raise RunError(f"the loss is {loss} with l2 {l2}; try larger ones: --l2")
        in_v = np.concatenate([(shrink * (gradient + l2 * coefficients)).ravel(), bias_gradient * bias_shrink])
        return loss + l2 / 2 * float((coefficients**2).sum()), in_v

    first = np.concatenate([(basis.vectors.T @ start.kernel / shrink).ravel(), start.bias / bias_shrink])
    options = {"maxiter": limits[1], "maxcor": NUM_CORRECTIONS, "gtol": limits[0], "ftol": 1e-9}
    with threadpoolctl.threadpool_limits(1, "blas"):  # its many products of vectors are too short to be shared
        found = scipy.optimize.minimize(
            compute_objective, first.astype(float), jac=True, method="L-BFGS-B", options=options
        )
    if found.nit >= limits[1]:
        logger.warning("l2 %g: not converged after %d iterations (--max-iterations)", l2, found.nit)
    coefficients, bias = unpack(found.x)
    logger.debug("l2 %g: %d iterations, %d evaluations, %s", l2, found.nit, found.nfev, found.message)
    return _Solution(basis.vectors @ coefficients.astype(np.float32), bias.astype(np.float32), last_spread)
