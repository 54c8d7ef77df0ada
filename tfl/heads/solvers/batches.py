"""Training batches of the recipe `mlp`."""

import math

import keras
import numpy as np

from tfl.heads.mlp import Mlp
from tfl.heads.rows import LabelledFeatures
from tfl.heads.solvers.standardisation import Scaling


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Shuffled batches of standardised features, one-hot targets and weights.

    One view of each row is drawn. Pairs of rows are mixed (Zhang et al. 2018, arXiv:1710.09412),
    with one share for the whole batch.
    """

    def __init__(self, recipe: Mlp, rows: LabelledFeatures, scaling: Scaling) -> None:
        super().__init__()
        self._recipe, self._rows, self._scaling = recipe, rows, scaling
        self._rng = np.random.default_rng(recipe.seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        return math.ceil(self._rows.num_rows / self._recipe.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return features `(m, d)`, targets `(m, k, c)`, alike for all members, and weights `(m, 1)`."""
        batch_size = self._recipe.batch_size
        order = self._order[index * batch_size : (index + 1) * batch_size]
        x = self._scaling.apply(self._draw_views(order))  # (m, d)
        y = np.eye(self._rows.num_classes, dtype=np.float32)[self._rows.labels[order]]  # (m, c)
        weights = self._rows.weights[order]  # (m,)
        if self._recipe.mixup:
            x, y, weights = self._mix(x, y, weights)
        return x, np.repeat(y[:, None], self._recipe.members, axis=1), weights[:, None]

    def _draw_views(self, order: np.ndarray) -> np.ndarray:
        """Return the features of these rows, each in a view drawn at random, `(m, d)`."""
        views = self._rows.views
        if len(views) == 1:
            return np.asarray(views[0][order])
        drawn = self._rng.integers(len(views), size=len(order))  # (m,)
        x = np.empty((len(order), self._rows.num_features), np.float32)
        for place, view in enumerate(views):
            x[drawn == place] = view[order[drawn == place]]
        return x

    def _mix(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mix each row of a batch with another one.

        Targets are mixed with their weights, so that a class keeps the share of the loss that its
        weight gives it.
        """
        share = np.float32(self._rng.beta(self._recipe.mixup, self._recipe.mixup))
        other = self._rng.permutation(len(x))
        weighted = y * weights[:, None]  # (m, c)
        mixed = share * x + (1 - share) * x[other]  # (m, d)
        weighted = share * weighted + (1 - share) * weighted[other]  # (m, c)
        weights = weighted.sum(axis=1)  # (m,)
        return mixed, weighted / weights[:, None], weights

    def on_epoch_end(self) -> None:
        """Shuffle the rows anew."""
        self._order = self._rng.permutation(self._rows.num_rows)
