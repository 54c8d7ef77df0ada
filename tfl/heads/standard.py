"""Standardised features without a second copy of them, and the eigenvectors of their correlations."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from keras import ops

from tfl import engine
from tfl.errors import RunError
from tfl.heads.examples import LabelledFeatures

BLOCK_ROWS = 4096
CONSTANT_VARIANCE = 1e-10  # of the squared mean: float32 columns hold 1e-7 of their values
LEAST_EIGENVALUE = 1e-7  # of the largest: float32 sums hold no smaller ones


@dataclass(frozen=True)
class Scaling:
    """What standardises features: (x - mean) / scale, float32 `(d,)`; constant columns have scale 1."""

    mean: np.ndarray
    scale: np.ndarray

    def apply(self, features: np.ndarray) -> np.ndarray:
        """Standardised copy of features `(n, d)`."""
        return np.asarray((features - self.mean) / self.scale)

    def folded(self, kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Kernel `(d, h)` and bias `(h,)` on raw features that do what these do on standardised ones."""
        kernel = kernel / self.scale[:, None]
        return kernel.astype(np.float32), (bias - self.mean @ kernel).astype(np.float32)


@dataclass(frozen=True)
class Moments:
    """Weighted sums over rows: of 1, of x - shift `(d,)` and of its outer products `(d, d)`; those of two parts add up.

    Attributes:
      shift: near the mean, float32 `(d,)`: of products of the columns themselves float32 would lose small variances.
    """

    shift: np.ndarray
    total: float
    first: np.ndarray
    second: np.ndarray

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.shift, self.total + other.total, self.first + other.first, self.second + other.second)

    def scaling(self) -> Scaling:
        """Mean and standard deviation of each column."""
        beside = self.first / self.total  # (d,)
        return _scaling(self.shift + beside, self.second.diagonal() / self.total - beside**2)

    def correlations(self, scaling: Scaling) -> np.ndarray:
        """Of the standardised columns, float64 `(d, d)`."""
        beside, scale = self.first / self.total, scaling.scale.astype(np.float64)
        covariance = self.second / self.total
        covariance -= np.outer(beside, beside)
        covariance /= scale[:, None]
        covariance /= scale
        return covariance


def _scaling(mean: np.ndarray, variance: np.ndarray) -> Scaling:
    is_constant = variance <= CONSTANT_VARIANCE * mean**2
    scale = np.sqrt(np.where(is_constant, 1.0, variance))
    return Scaling(mean.astype(np.float32), scale.astype(np.float32))


@dataclass(frozen=True)
class Basis:
    """Eigenvectors of the correlations of standardised features.

    Attributes:
      vectors: float32 `(d, r)`, orthonormal columns; r is the smaller of rows and columns, or less.
      values: float64 `(r,)`, in increasing order, positive.
    """

    scaling: Scaling
    vectors: np.ndarray
    values: np.ndarray


def compute_scaling(rows: LabelledFeatures) -> Scaling:
    """Mean and standard deviation of each column, each row counting what it counts."""

    def make() -> Scaling:
        weights = rows.weights.astype(np.float64)[:, None]
        total = weights.sum()
        pieces = [np.s_[i : i + BLOCK_ROWS] for i in range(0, rows.num_rows, BLOCK_ROWS)]
        mean = sum((weights[p] * rows.features[p]).sum(axis=0) for p in pieces) / total
        variance = sum((weights[p] * (rows.features[p] - mean) ** 2).sum(axis=0) for p in pieces) / total
        return _scaling(mean, variance)

    return rows.remember("scaling", make)  # type: ignore[no-any-return]


def compute_moments(rows: LabelledFeatures) -> Moments:
    """The sums of all rows, formed once; products in float32, added up in float64."""

    def make() -> Moments:
        if not rows.parts:
            return _sums(rows, compute_scaling(rows).mean)
        first, *rest = rows.parts
        of_first = compute_moments(first)
        return sum((_sums(part, of_first.shift) for part in rest), of_first)

    return rows.remember("moments", make)  # type: ignore[no-any-return]


def _sums(rows: LabelledFeatures, shift: np.ndarray) -> Moments:
    d = rows.num_features
    product = engine.compile_function(lambda x, weighted: ops.matmul(ops.transpose(weighted), x))
    total, first, second = 0.0, np.zeros(d), np.zeros((d, d))
    for start in range(0, rows.num_rows, BLOCK_ROWS):
        block = rows.features[start : start + BLOCK_ROWS] - shift  # (m, d)
        weights = rows.weights[start : start + BLOCK_ROWS]  # (m,)
        weighted = block * weights[:, None]
        with engine.exact_float32(), np.errstate(over="ignore", invalid="ignore"):
            second += _array(product(ops.convert_to_tensor(block), ops.convert_to_tensor(weighted)))
        total += float(weights.sum(dtype=np.float64))
        first += weighted.sum(axis=0, dtype=np.float64)
    if not np.isfinite(second).all():
        largest = max(abs(float(rows.features.max())), abs(float(rows.features.min())))
        raise RunError(
            f"the largest feature is {largest:.0e}, and its square is more than float32 holds; the recipes "
            "reference and mlp take such features"
        )
    return Moments(shift, total, first, second)


def compute_basis(rows: LabelledFeatures) -> Basis:
    """The eigenvectors for these rows, found once: of the correlations, or of the rows' products if those are fewer."""
    make = _from_correlations if rows.num_rows >= rows.num_features else _from_products
    return rows.remember("basis", lambda: make(rows))  # type: ignore[no-any-return]


def _from_correlations(rows: LabelledFeatures) -> Basis:
    scaling = compute_moments(rows).scaling()
    # float64 costs twice as much and gains nothing: the sums are of float32 products
    correlations = compute_moments(rows).correlations(scaling).astype(np.float32)
    values, vectors = scipy.linalg.eigh(correlations, overwrite_a=True, check_finite=False, driver="evd")
    is_kept = values > LEAST_EIGENVALUE * values[-1]
    return Basis(scaling, np.ascontiguousarray(vectors[:, is_kept]), values[is_kept].astype(np.float64))


def _from_products(rows: LabelledFeatures) -> Basis:
    """Fewer rows than columns: x = u s v', so the columns' eigenvectors v follow from the rows' u."""
    scaling = compute_scaling(rows)
    weighted = scaling.apply(rows.features) * np.sqrt(rows.weights / rows.weights.sum())[:, None]  # (n, d)
    values, vectors = scipy.linalg.eigh(weighted.astype(np.float64) @ weighted.T)
    is_kept = values > LEAST_EIGENVALUE * values[-1]
    columns = weighted.T @ vectors[:, is_kept] / np.sqrt(values[is_kept])  # (d, r)
    return Basis(scaling, np.ascontiguousarray(columns, np.float32), values[is_kept])


def _array(tensor: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(tensor))
