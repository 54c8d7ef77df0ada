"""The recipe `knn`: the nearest training rows by cosine, found once for all settings."""

import time
from typing import Any

import keras
import numpy as np
from keras import ops

from tfl import engine
from tfl.heads.knn import Knn
from tfl.heads.model import LEAST_VOTE, SIMILARITY_BYTES, build_neighbours, normalise
from tfl.heads.rows import LabelledFeatures
from tfl.heads.search import Search, choose_trial, measure_trial
from tfl.heads.trials import Listeners

BLOCK_ROWS = 4096


def search(recipe: Knn, fitting: LabelledFeatures, val: LabelledFeatures | None, listeners: Listeners) -> Search:
    """Vote with every number of neighbours and every temperature, after one search for the most.

    Numbers of neighbours beyond the fitting rows mean all of them.
    """
    started = time.perf_counter()
    counts = sorted({min(k, fitting.num_rows) for k in recipe.neighbours})
    memory, votes = _make_memory(fitting), _make_votes(fitting)
    found = None if val is None else find_nearest(memory, val.features, counts[-1])
    trials, settings, logits = [], [], []
    for k in counts:
        for temperature in recipe.temperature:
            settings.append((k, temperature))
            logits.append(None if found is None else _vote(*found, votes, k, temperature))
            setting = {"neighbours": k, "temperature": temperature}
            trials.append(measure_trial(recipe.name, setting, started, logits[-1], val))
            listeners.on_trial(trials[-1])
            started = time.perf_counter()
    chosen = choose_trial(trials)

    def fit(rows: LabelledFeatures) -> keras.Model:
        return build_neighbours(_make_memory(rows), _make_votes(rows), *settings[chosen])

    return Search(fit(fitting), trials, chosen, logits[chosen], fit)


def _make_memory(rows: LabelledFeatures) -> np.ndarray:
    """Return normalised features `(n, d)`."""
    memory = np.empty_like(rows.features)
    for start in range(0, rows.num_rows, BLOCK_ROWS):
        block = ops.convert_to_tensor(rows.features[start : start + BLOCK_ROWS])  # (m, d)
        memory[start : start + BLOCK_ROWS] = ops.convert_to_numpy(normalise(block))
    return memory


def _make_votes(rows: LabelledFeatures) -> np.ndarray:
    """Return the vote of each row, `(n, c)`: its weight, at its label."""
    votes = np.zeros((rows.num_rows, rows.num_classes), np.float32)
    votes[np.arange(rows.num_rows), rows.labels] = rows.weights
    return votes


def find_nearest(memory: np.ndarray, features: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the k nearest rows of a normalised memory `(m, d)` to each of the features `(n, d)`.

    Returns:
      Their cosines and their places in the memory, `(n, k)` each, nearest first.
    """

    def find_in_block(block: Any, memory: Any) -> Any:
        return ops.top_k(ops.matmul(normalise(block), ops.transpose(memory)), k)  # (b, d) @ (d, m)

    compiled = engine.compile_function(find_in_block)
    on_device = ops.convert_to_tensor(memory)
    block_rows = max(1, SIMILARITY_BYTES // (4 * len(memory)))
    cosines, rows = [], []
    with engine.exact_float32():
        for start in range(0, len(features), block_rows):
            block = ops.convert_to_tensor(features[start : start + block_rows])
            cosines_of_block, rows_of_block = compiled(block, on_device)
            cosines.append(ops.convert_to_numpy(cosines_of_block))
            rows.append(ops.convert_to_numpy(rows_of_block))
    return np.concatenate(cosines), np.concatenate(rows)


def _vote(cosines: np.ndarray, rows: np.ndarray, votes: np.ndarray, k: int, temperature: float) -> np.ndarray:
    """Return the logits `(n, c)` that `Neighbours` gives, from what `find_nearest` found."""
    weights = np.exp((cosines[:, :k] - cosines[:, :1]) / np.float32(temperature))  # (n, k)
    sums = np.zeros((len(cosines), votes.shape[1]), np.float32)
    for place in range(k):
        sums += weights[:, place, None] * votes[rows[:, place]]
    return np.asarray(np.log(sums / sums.sum(axis=1, keepdims=True) + np.float32(LEAST_VOTE)))
