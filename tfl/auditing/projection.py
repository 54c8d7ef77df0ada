"""Features of every row, whitened, and scores of every row by a head that has not seen it; the cache is streamed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from tfl import engine
from tfl.cache import Cache
from tfl.heads.solvers.standardisation import LEAST_EIGENVALUE, Moments, Scaling, decompose
from tfl.specs import ROLES, Role

BLOCK_ROWS = 4096
WHITENING = 0.1  # added to the eigenvalues of the correlations, whose mean is 1
L2_CHOICES = (1.0, 0.3, 0.1, 0.03, 0.01)  # mean squared error + l2 times the squared kernel
LEAST_FREEDOM = 1e-3  # of 1 less a row's leverage


@dataclass(frozen=True)
class Fit:
    """Ridge regression in eigenvectors.

    Attributes:
      vectors: eigenvectors of the correlations, `(d, r)`.
      values: their eigenvalues, `(r,)`, the largest first.
      targets: projected targets `(r, c)`.
      mean: of the targets, `(c,)`.
    """

    scaling: Scaling
    vectors: np.ndarray
    values: np.ndarray
    targets: np.ndarray
    mean: np.ndarray
    num_rows: int

    def compute_kernel(self, l2: float) -> np.ndarray:
        """Return the kernel on projected features, float32 `(r, c)`."""
        return np.asarray(self.targets / (self.values + l2)[:, None], np.float32)

    def whiten(self, projected: np.ndarray, num_columns: int) -> np.ndarray:
        """Return the first columns of projected features `(m, r)`, whitened, as rows of length one."""
        scale = 1 / np.sqrt(self.values[:num_columns] + WHITENING)  # (num_columns,)
        whitened = projected[:, :num_columns] * scale.astype(np.float32)
        norms = np.linalg.norm(whitened, axis=1, keepdims=True)
        return np.asarray(whitened / np.maximum(norms, 1e-12))


@dataclass(frozen=True)
class Rows:
    """Every row of a cache, role after role.

    Attributes:
      ids: `(n,)` bytes.
      labels: int64 `(n,)`.
      roles: the roles with their number of rows, in the rows' order.
      whitened: features of length one, float32 `(n, r)`.
      outputs: share of each class by ridge regression on all other rows, float32 `(n, c)`.
      l2: the penalty of that regression.
      fit: that regression on all rows.
    """

    ids: np.ndarray
    labels: np.ndarray
    roles: dict[Role, int]
    whitened: np.ndarray
    outputs: np.ndarray
    l2: float
    fit: Fit

    @property
    def role_of_row(self) -> np.ndarray:
        """The place of each row's role among `roles`, `(n,)`."""
        return np.repeat(np.arange(len(self.roles)), list(self.roles.values()))


def project_rows(cache: Cache, num_columns: int) -> Rows:
    """Read a cache twice: for the moments of its features, and to project them.

    The scores are ridge regression's on all other rows, in closed form: with the hat matrix's
    diagonal h, an output f becomes (f - h y) / (1 - h). Source: Allen 1974 (PRESS).

    Args:
      num_columns: most columns of the whitened features, those of the largest eigenvalues.
    """
    roles = {role: cache.num_rows[role] for role in ROLES if role in cache.num_rows}
    labels = np.concatenate([cache.read_labels(role) for role in roles])
    fit = _fit(cache, labels)
    num_columns = min(num_columns, len(fit.values))
    l2 = _choose_l2(cache, fit)
    whitened = np.empty((len(labels), num_columns), np.float32)
    outputs = np.empty((len(labels), cache.num_classes), np.float32)
    project, at = make_projection(fit), 0
    for features, labels_of_block in _read_blocks(cache):
        projected = project(features)  # (m, d) to (m, r)
        block = np.s_[at : at + len(features)]
        outputs[block] = _leave_one_out(fit, projected, labels_of_block, l2)
        whitened[block] = fit.whiten(projected, num_columns)
        at += len(features)
    ids = [cache.read_ids(role) for role in roles]
    widest = max(array.dtype.itemsize for array in ids)
    return Rows(
        np.concatenate([array.astype(f"S{widest}") for array in ids]), labels, roles, whitened, outputs, l2, fit
    )


def _read_blocks(cache: Cache) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield all rows of all roles in their order, features in float32."""
    for role in ROLES:
        if role in cache.num_rows:
            for features, labels in cache.blocks(role, BLOCK_ROWS):
                yield features.astype(np.float32, copy=False), labels


def _fit(cache: Cache, labels: np.ndarray) -> Fit:
    """Sum moments and targets over all rows, and decompose the correlations."""
    d, c, n = cache.num_features, cache.num_classes, len(labels)
    multiply = engine.compile_function(lambda first, second: ops.matmul(ops.transpose(first), second))
    shift: np.ndarray | None = None
    first, second, of_class = np.zeros(d), np.zeros((d, d)), np.zeros((d, c))
    for features, labels_of_block in _read_blocks(cache):
        shift = features.mean(axis=0) if shift is None else shift  # (d,)
        shifted = features - shift  # (m, d)
        with engine.exact_float32():
            on_device = ops.convert_to_tensor(shifted)
            second += np.asarray(ops.convert_to_numpy(multiply(on_device, on_device)))  # (d, d)
        one_hot = np.eye(c, dtype=np.float32)[labels_of_block]  # (m, c)
        of_class += shifted.T @ one_hot  # (d, m) @ (m, c)
        first += shifted.sum(axis=0, dtype=np.float64)
    assert shift is not None, "a cache has rows"
    moments = Moments(shift, float(n), first, second)
    scaling = moments.compute_scaling()
    values, vectors = decompose(moments.compute_correlations(scaling).astype(np.float32))
    is_kept = values > LEAST_EIGENVALUE * values[-1]
    values, vectors = values[is_kept][::-1].astype(np.float64), np.ascontiguousarray(vectors[:, is_kept][:, ::-1])
    mean = np.bincount(labels, minlength=c) / n  # (c,)
    covariance = (of_class - np.outer(first, mean)) / n / scaling.scale[:, None]  # (d, c)
    return Fit(scaling, vectors, values, vectors.T.astype(np.float64) @ covariance, mean, n)


def make_projection(fit: Fit) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from features `(m, d)` to their coordinates `(m, r)` in the eigenvectors."""
    mean, scale, vectors = map(ops.convert_to_tensor, (fit.scaling.mean, fit.scaling.scale, fit.vectors))
    compiled = engine.compile_function(lambda block: ops.matmul((block - mean) / scale, vectors))

    def project(features: np.ndarray) -> np.ndarray:
        with engine.exact_float32():
            return np.asarray(ops.convert_to_numpy(compiled(ops.convert_to_tensor(features))))

    return project


def _choose_l2(cache: Cache, fit: Fit) -> float:
    """Return the penalty with the least squared error left out, on the first block of every role."""
    project, errors = make_projection(fit), np.zeros(len(L2_CHOICES))
    for role in cache.num_rows:
        features, labels = next(cache.blocks(role, BLOCK_ROWS))
        projected = project(features.astype(np.float32, copy=False))
        targets = np.eye(len(fit.mean), dtype=np.float32)[labels]
        for place, l2 in enumerate(L2_CHOICES):
            errors[place] += ((_leave_one_out(fit, projected, labels, l2) - targets) ** 2).sum()
    return L2_CHOICES[int(errors.argmin())]


def _leave_one_out(fit: Fit, projected: np.ndarray, labels: np.ndarray, l2: float) -> np.ndarray:
    """Return the outputs `(m, c)` for rows, each by the regression on all others."""
    outputs = projected @ fit.compute_kernel(l2) + fit.mean.astype(np.float32)  # (m, r) @ (r, c)
    leverage = (1 + projected**2 @ (1 / (fit.values + l2)).astype(np.float32)) / fit.num_rows  # (m,)
    free = np.maximum(1 - leverage, LEAST_FREEDOM)[:, None]
    targets = np.eye(len(fit.mean), dtype=np.float32)[labels]
    return np.asarray((outputs - leverage[:, None] * targets) / free, np.float32)


def to_probabilities(outputs: np.ndarray, temperature: float) -> np.ndarray:
    """Return probabilities `(n, c)` of regression outputs."""
    scaled = outputs / np.float32(temperature)
    scores: Any = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(scores / scores.sum(axis=1, keepdims=True))
