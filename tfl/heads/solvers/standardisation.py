"""Standardisation without a copy of the features, and eigenvectors of their correlations."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import scipy.linalg
from keras import ops

from tfl import engine
from tfl.errors import RunError
from tfl.heads.rows import LabelledFeatures
from tfl.machine import batching

Result = TypeVar("Result")
BLOCK_ROWS = 4096
CONSTANT_VARIANCE = 1e-10  # of the squared mean: float32 columns hold 1e-7 of their values
LEAST_EIGENVALUE = 1e-7  # of the largest: float32 sums hold no smaller ones


@dataclass(frozen=True)
class Scaling:
    """Standardisation: (x - mean) / scale, float32 `(d,)` each; constant columns have scale 1."""

    mean: np.ndarray
    scale: np.ndarray

    def apply(self, features: np.ndarray) -> np.ndarray:
        """Return a standardised copy of features `(n, d)`."""
        return np.asarray((features - self.mean) / self.scale)

    def fold(self, kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the kernel `(d, h)` and bias `(h,)` that do on raw features what these do on scaled ones."""
        kernel = kernel / self.scale[:, None]
        return kernel.astype(np.float32), (bias - self.mean @ kernel).astype(np.float32)


@dataclass(frozen=True)
class Moments:
    """Weighted sums over rows, from which mean and correlations follow; two parts' add up.

    Attributes:
      shift: near the mean, float32 `(d,)`. Columns are summed after subtracting it: sums of the
        columns' own products would lose small variances in float32.
      total: sum of the weights.
      first: sum of x - shift, `(d,)`.
      second: sum of the outer products of x - shift, `(d, d)`.
    """

    shift: np.ndarray
    total: float
    first: np.ndarray
    second: np.ndarray

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.shift, self.total + other.total, self.first + other.first, self.second + other.second)

    def compute_scaling(self) -> Scaling:
        """Return mean and standard deviation of each column."""
        offset = self.first / self.total  # (d,), from the shift to the mean
        return _make_scaling(self.shift + offset, self.second.diagonal() / self.total - offset**2)

    def compute_correlations(self, scaling: Scaling) -> np.ndarray:
        """Return the correlations of the columns, float64 `(d, d)`."""
        offset, scale = self.first / self.total, scaling.scale.astype(np.float64)  # (d,), (d,)
        covariance = self.second / self.total  # (d, d)
        covariance -= np.outer(offset, offset)
        covariance /= scale[:, None]
        covariance /= scale
        return covariance


def _make_scaling(mean: np.ndarray, variance: np.ndarray) -> Scaling:
    is_constant = variance <= CONSTANT_VARIANCE * mean**2
    scale = np.sqrt(np.where(is_constant, 1.0, variance))
    return Scaling(mean.astype(np.float32), scale.astype(np.float32))


@dataclass(frozen=True)
class Basis:
    """Eigenvectors of the correlations of standardised features.

    Attributes:
      vectors: float32 `(d, r)`, orthonormal columns; r is at most the smaller of rows and columns.
      values: float64 `(r,)`, in increasing order, positive.
    """

    scaling: Scaling
    vectors: np.ndarray
    values: np.ndarray


def compute_scaling(rows: LabelledFeatures) -> Scaling:
    """Return mean and standard deviation of each column; computed once for the same rows."""

    def make() -> Scaling:
        weights = rows.weights.astype(np.float64)[:, None]  # (n, 1)
        total = weights.sum()
        mean = sum(_map_blocks(rows, lambda x, block: (weights[block] * x).sum(axis=0))) / total
        deviation = _map_blocks(rows, lambda x, block: (weights[block] * (x - mean) ** 2).sum(axis=0))
        return _make_scaling(mean, sum(deviation) / total)

    return rows.remember("scaling", make)


def compute_moments(rows: LabelledFeatures) -> Moments:
    """Return the moments of the rows, computed once: products in float32, added up in float64.

    If the rows were put together from parts, only the moments of parts that have none yet are
    computed.
    """

    def make() -> Moments:
        if not rows.parts:
            return _sum_moments(rows, compute_scaling(rows).mean)
        first, *rest = rows.parts
        moments = compute_moments(first)
        for part in rest:
            moments += _sum_moments(part, moments.shift)
        return moments

    return rows.remember("moments", make)


def _sum_moments(rows: LabelledFeatures, shift: np.ndarray) -> Moments:
    d = rows.num_features
    multiply = engine.compile_function(lambda x, weighted: ops.matmul(ops.transpose(weighted), x))
    first, second = np.zeros(d), np.zeros((d, d))

    def weigh(features: np.ndarray, block: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        shifted = features - shift  # (m, d)
        weighted = shifted * rows.weights[block, None]  # (m, d)
        return shifted, weighted, weighted.sum(axis=0, dtype=np.float64)

    for shifted, weighted, sums in _map_blocks(rows, weigh):
        with engine.exact_float32(), np.errstate(over="ignore", invalid="ignore"):
            second += _to_numpy(multiply(ops.convert_to_tensor(shifted), ops.convert_to_tensor(weighted)))
        first += sums
    total = float(rows.weights.sum(dtype=np.float64))
    if not np.isfinite(second).all():
        largest = max(abs(float(rows.features.max())), abs(float(rows.features.min())))
        raise RunError(
            f"the largest feature is {largest:.0e}, and its square is more than float32 holds; the recipes "
            "reference and mlp take such features"
        )
    return Moments(shift, total, first, second)


def _map_blocks(rows: LabelledFeatures, work: Callable[[np.ndarray, slice], Result]) -> Iterator[Result]:
    """Yield what `work` returns for the features `(m, d)` of each block of rows, in order; threads share the blocks."""
    blocks = [slice(start, start + BLOCK_ROWS) for start in range(0, rows.num_rows, BLOCK_ROWS)]
    num_bytes = BLOCK_ROWS * rows.num_features * np.dtype(np.float64).itemsize
    return batching.parallel_map(lambda block: work(rows.features[block], block), blocks, lambda block: num_bytes)


def compute_basis(rows: LabelledFeatures) -> Basis:
    """Return the eigenvectors for these rows, computed once.

    They come from the correlations `(d, d)` or, if there are fewer rows than columns, from the
    rows' products `(n, n)`.
    """
    make = _decompose_correlations if rows.num_rows >= rows.num_features else _decompose_products
    return rows.remember("basis", lambda: make(rows))


def _decompose_correlations(rows: LabelledFeatures) -> Basis:
    moments = compute_moments(rows)
    scaling = moments.compute_scaling()
    # float64 costs twice as much and gains nothing: the sums are of float32 products
    correlations = moments.compute_correlations(scaling).astype(np.float32)
    values, vectors = decompose(correlations)
    is_kept = values > LEAST_EIGENVALUE * values[-1]
    return Basis(scaling, np.ascontiguousarray(vectors[:, is_kept]), values[is_kept].astype(np.float64))


def decompose(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvalues, ascending, and eigenvectors of a symmetric float32 matrix `(d, d)`, which is overwritten."""
    if engine.has_accelerator():
        with engine.exact_float32():
            values, vectors = ops.linalg.eigh(ops.convert_to_tensor(matrix))
        return _to_numpy(values), _to_numpy(vectors)
    values, vectors = scipy.linalg.eigh(matrix, overwrite_a=True, check_finite=False, driver="evd")
    return values, vectors


def _decompose_products(rows: LabelledFeatures) -> Basis:
    """Decompose fewer rows than columns: x = u s v', so that v follows from the rows' u."""
    scaling = compute_scaling(rows)
    weighted = scaling.apply(rows.features) * np.sqrt(rows.weights / rows.weights.sum())[:, None]  # (n, d)
    values, vectors = scipy.linalg.eigh(weighted.astype(np.float64) @ weighted.T)
    is_kept = values > LEAST_EIGENVALUE * values[-1]
    columns = weighted.T @ vectors[:, is_kept] / np.sqrt(values[is_kept])  # (d, r)
    return Basis(scaling, np.ascontiguousarray(columns, np.float32), values[is_kept])


def _to_numpy(tensor: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(tensor))
