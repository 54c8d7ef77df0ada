"""Votes of the nearest training rows by cosine."""

import time
from typing import Any

import keras
import numpy as np
from keras import ops

from tfl import engine
from tfl.heads.examples import LabelledFeatures
from tfl.heads.model import LEAST_VOTE, SIMILARITY_BYTES, neighbours, normalised
from tfl.heads.search import Listeners, Search, choose_trial, trial
from tfl.specs.recipes import Knn


def search(
    recipe: Knn, fitting: LabelledFeatures, val: LabelledFeatures | None = None, listeners: Listeners = Listeners()
) -> Search:
    """Every number of neighbours with every temperature, from one search for the most neighbours.

    Numbers of neighbours beyond the fitting rows mean all of them.
    """
    started = time.perf_counter()
    counts = sorted({min(k, fitting.num_rows) for k in recipe.neighbours})
    memory, votes = _memory(fitting), _votes(fitting)
    found = None if val is None else nearest(memory, val.features, counts[-1])
    trials, settings, logits = [], [], []
    for k in counts:
        for temperature in recipe.temperature:
            settings.append((k, temperature))
            logits.append(None if found is None else _voted(*found, votes, k, temperature))
            trials.append(trial("knn", {"neighbours": k, "temperature": temperature}, started, logits[-1], val))
            listeners.on_trial(trials[-1])
            started = time.perf_counter()
    chosen = choose_trial(trials)
    k, temperature = settings[chosen]

    def fitted(rows: LabelledFeatures) -> keras.Model:
        return neighbours(_memory(rows), _votes(rows), k, temperature)

    return Search(fitted(fitting), trials, chosen, logits[chosen], fitted)


def _memory(rows: LabelledFeatures) -> np.ndarray:
    """Normalised features `(n, d)`."""
    memory = np.empty_like(rows.features)
    for i in range(0, rows.num_rows, 4096):
        memory[i : i + 4096] = ops.convert_to_numpy(normalised(ops.convert_to_tensor(rows.features[i : i + 4096])))
    return memory


def _votes(rows: LabelledFeatures) -> np.ndarray:
    """What each row votes for, `(n, c)`: its label, as much as it counts."""
    votes = np.zeros((rows.num_rows, rows.num_classes), np.float32)
    votes[np.arange(rows.num_rows), rows.labels] = rows.weights
    return votes


def nearest(memory: np.ndarray, features: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and rows of the k nearest of a normalised memory `(m, d)`, both `(n, k)`, nearest first, in blocks."""

    def block_function(block: Any, memory: Any) -> Any:
        return ops.top_k(ops.matmul(normalised(block), ops.transpose(memory)), k)

    compiled = engine.compile_function(block_function)
    on_device = ops.convert_to_tensor(memory)
    block_rows = max(1, SIMILARITY_BYTES // (4 * len(memory)))
    with engine.exact_float32():
        blocks = [
            compiled(ops.convert_to_tensor(features[i : i + block_rows]), on_device)
            for i in range(0, len(features), block_rows)
        ]
    cosines, rows = zip(*blocks, strict=True)
    return tuple(np.concatenate([ops.convert_to_numpy(b) for b in blocks]) for blocks in (cosines, rows))  # type: ignore[return-value]


def _voted(cosines: np.ndarray, rows: np.ndarray, votes: np.ndarray, k: int, temperature: float) -> np.ndarray:
    """What `Neighbours` answers, from its search: logits `(n, c)`."""
    weights = np.exp((cosines[:, :k] - cosines[:, :1]) / np.float32(temperature))  # (n, k)
    sums = np.zeros((len(cosines), votes.shape[1]), np.float32)
    for place in range(k):
        sums += weights[:, place, None] * votes[rows[:, place]]
    return np.asarray(np.log(sums / sums.sum(axis=1, keepdims=True) + np.float32(LEAST_VOTE)))
