"""The recipe `grid`: a head for each combination of settings, all in the same pass."""

import itertools
import logging
import time
from collections.abc import Sequence
from dataclasses import replace

import keras
import numpy as np
from keras import ops

from tfl.errors import RunError
from tfl.heads.grid import Grid
from tfl.heads.model import build_dense, compute_logits
from tfl.heads.rows import LabelledFeatures
from tfl.heads.search import Search, choose_trial, measure_trial
from tfl.heads.solvers.sgd import Group, Setting, Trainer, draw_start, join_starts
from tfl.heads.trials import Listeners

logger = logging.getLogger(__name__)


def list_settings(recipe: Grid) -> tuple[Setting, ...]:
    """Return every combination; the seed changes fastest."""
    combinations = itertools.product(recipe.learning_rate, recipe.weight_decay, recipe.kernel_seed)
    return tuple(Setting(*values) for values in combinations)


def train_grid(
    recipe: Grid, settings: Sequence[Setting], rows: LabelledFeatures
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Train a head for each setting, all in the same pass over the rows.

    Returns:
      Kernel `(d, c)` and bias `(c,)` for each setting, the same as if it were trained alone. Those
      of a head that diverged are not finite.
    """
    d, c = rows.num_features, rows.num_classes
    trainer = Trainer(Group(d, rows.class_weights, recipe.batch_size, recipe.momentum, tuple(settings)))
    state = join_starts([draw_start(d, c, np.random.default_rng(setting.kernel_seed)) for setting in settings])
    rng, stacked = np.random.default_rng(recipe.seed), rows.stacked()
    for _ in range(recipe.epochs):
        state, _, _ = trainer.train_epoch(stacked, state, rng)
    kernels, biases = (ops.convert_to_numpy(array) for array in state[:2])  # (d, K c), (K c,)
    columns = [np.s_[k * c : (k + 1) * c] for k in range(len(settings))]
    return [(kernels[:, of_head], biases[of_head]) for of_head in columns]


def search(recipe: Grid, fitting: LabelledFeatures, val: LabelledFeatures | None, listeners: Listeners) -> Search:
    """Train the whole grid at once, and choose; a warning names each head that diverged.

    Raises:
      RunError: every setting diverged.
    """
    started = time.perf_counter()
    settings = list_settings(recipe)
    finite, heads, trials, logits = [], [], [], []
    trained = train_grid(recipe, settings, fitting)
    share_of_pass = round((time.perf_counter() - started) / len(settings), 3)  # seconds
    for setting, parameters in zip(settings, trained, strict=True):
        if not all(np.isfinite(array).all() for array in parameters):
            logger.warning("diverged, and left out: %s", setting)
            continue
        finite.append(setting)
        heads.append(build_dense([parameters]))
        logits.append(None if val is None else compute_logits(heads[-1], val.features))
        trial = measure_trial(recipe.name, vars(setting), started, logits[-1], val)
        trial = replace(trial, seconds=share_of_pass)
        listeners.on_trial(trial)
        trials.append(trial)
    if not trials:
        raise RunError(f"every setting diverged; try smaller ones than --learning-rate {recipe.learning_rate}")
    chosen = choose_trial(trials)

    def refit(rows: LabelledFeatures) -> keras.Model:
        return build_dense(train_grid(recipe, [finite[chosen]], rows))

    return Search(heads[chosen], trials, chosen, logits[chosen], refit)
