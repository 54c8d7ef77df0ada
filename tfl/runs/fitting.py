"""Fitting a head: the rows that a recipe is given, in memory or from the file, and what it returns."""

import logging
from dataclasses import dataclass, field, replace

import keras
import numpy as np

from tfl import engine
from tfl.cache import Cache
from tfl.heads import Recipe
from tfl.heads.examples import Examples, InMemory, Streamed
from tfl.heads.rows import LabelledFeatures, concatenate_rows, read_rows, split_rows
from tfl.heads.search import search
from tfl.heads.selection import (
    compute_class_weights,
    count_rows_by_class,
    select_classes,
    select_views,
)
from tfl.heads.trials import Epoch, Listeners, Trial
from tfl.runs.history import Choice
from tfl.runs.logits import compute_all_logits, stream_rows
from tfl.runs.memory import count_copied_bytes, count_feature_bytes, require_memory
from tfl.specs.training import Selection

logger = logging.getLogger(__name__)

Parts = tuple[LabelledFeatures, LabelledFeatures, LabelledFeatures]
"""The rows to fit on, the rows to choose on, and both together."""


@dataclass(frozen=True)
class Task:
    """One training that was asked for, on an open cache."""

    cache: Cache
    recipe: Recipe
    selection: Selection
    listeners: Listeners

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes to tell apart, in the order of the head's outputs."""
        return self.selection.classes or self.cache.class_names

    @property
    def feature_bytes(self) -> int:
        """The bytes of the features to train and to choose on, in all selected views."""
        return count_feature_bytes(self.cache, len(select_views(self.cache, self.selection)))


@dataclass(frozen=True)
class Trained:
    """A head, and what was noted while it was trained.

    Attributes:
      val: logits `(n, c)` and labels `(n,)` of the validation rows, by the head before it was
        fitted on them too; None without validation rows.
    """

    head: keras.Model
    trials: list[Trial] = field(default_factory=list)
    chosen: Choice | None = None
    history: list[Epoch] = field(default_factory=list)
    is_streamed: bool = False
    val: tuple[np.ndarray, np.ndarray] | None = None


def train_head(task: Task) -> Trained:
    """Train the head that a task asks for."""
    return _train_chosen(task) if task.recipe.has_choices else _train_at_once(task)


def _train_at_once(task: Task) -> Trained:
    """Train on all training rows, in memory if they fit there; validation rows are only measured."""
    is_streamed = task.recipe.can_stream and not _fits_in_memory(task)
    rows, weights = _stream_training_rows(task) if is_streamed else _read_training_rows(task)
    val = _open_validation_rows(task, is_streamed)
    head, history = task.recipe.fit(rows, len(task.class_names), val, task.listeners, weights)
    return Trained(
        head,
        history=history,
        is_streamed=is_streamed,
        val=None if val is None else compute_all_logits(head, val),
    )


def _fits_in_memory(task: Task) -> bool:
    copies = count_copied_bytes(task.cache, task.selection, task.recipe.memory_copies)
    return copies <= engine.available_memory()


def _read_training_rows(task: Task) -> tuple[Examples, np.ndarray]:
    if not task.recipe.can_stream:
        _require_memory(task)
    rows = read_rows(task.cache, "train", task.selection)
    return rows.stacked(), rows.class_weights


def _stream_training_rows(task: Task) -> tuple[Examples, np.ndarray]:
    cache, selection = task.cache, task.selection
    logger.info(
        "the %s bytes of features in %s do not fit into the memory available (%s bytes): "
        "they are read anew in every epoch, and rows are shuffled by chunk",
        f"{task.feature_bytes:,}",
        cache.path,
        f"{engine.available_memory():,}",
    )
    views, classes = select_views(cache, selection), select_classes(cache, selection)
    counts = count_rows_by_class(cache, "train", selection)
    rows = Streamed(cache, "train", task.recipe.batch_size, views, classes=classes)
    return rows, compute_class_weights(counts, selection)


def _open_validation_rows(task: Task, is_streamed: bool) -> Examples | None:
    if "val" not in task.cache.num_rows:
        return None
    rows = stream_rows(task.cache, "val", task.selection)
    return rows if is_streamed else _read_into_memory(rows)


def _read_into_memory(examples: Examples) -> InMemory:
    features, labels = zip(*examples.blocks(), strict=True)
    return InMemory(np.concatenate(features), np.concatenate(labels))


def train_on_rows(
    recipe: Recipe, rows: LabelledFeatures, selection: Selection, class_names: tuple[str, ...]
) -> Trained:
    """Train a head on rows in memory that no cache holds.

    If there is something to choose or to calibrate, a part of the rows is for that first.

    Args:
      selection: its `validation_fraction` and `calibrate` are used; the weights of the classes are
        those of the rows.

    Raises:
      RunError: training diverged, or there is no row to choose settings on.
    """
    if not recipe.has_choices:
        head, history = recipe.fit(rows.stacked(), rows.num_classes, class_weights=rows.class_weights)
        return Trained(head, history=history)
    if recipe.has_one_setting and not selection.calibrate:
        found = search(recipe, rows, None)
        return Trained(found.head, found.trials, Choice(**vars(found.trial), begun=found.begun), found.history)
    parts = split_rows(rows, selection.validation_fraction, recipe.seed, class_names)
    return _search_rows(recipe, parts, Listeners())


def _train_chosen(task: Task) -> Trained:
    """Choose a setting on validation rows, then fit it on those too."""
    _require_memory(task)
    return _search_rows(task.recipe, _split_rows(task), task.listeners)


def _search_rows(recipe: Recipe, parts: Parts, listeners: Listeners) -> Trained:
    fitting, val, everything = parts
    found = search(recipe, fitting, val, listeners)
    assert found.val_logits is not None
    return Trained(
        found.refit(everything),
        found.trials,
        Choice(**vars(found.trial), begun=found.begun),
        found.history,
        val=(found.val_logits, val.labels),
    )


def _require_memory(task: Task) -> None:
    require_memory(task.cache, f"the recipe {task.recipe.name}", task.selection, task.recipe.memory_copies)


def _split_rows(task: Task) -> Parts:
    cache, selection = task.cache, task.selection
    rows = read_rows(cache, "train", selection)
    if "val" not in cache.num_rows:
        return split_rows(rows, selection.validation_fraction, task.recipe.seed, task.class_names)
    val = replace(read_rows(cache, "val", selection), class_weights=rows.class_weights)
    return rows, val, concatenate_rows(rows, val)
