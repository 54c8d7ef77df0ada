"""Our own program of a comparison, `python -m tfl.comparison.tfl_program FOLDER`: precompute and training, in turns."""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from tfl.cache import Cache, open_cache
from tfl.comparison.lockstep import TurnTaker
from tfl.comparison.reference.setup import FIT_REPEATS, Setup
from tfl.extraction.precompute import precompute
from tfl.heads.model import compute_logits
from tfl.heads.rows import LabelledFeatures, read_rows
from tfl.machine.progress import Progress
from tfl.specs import DatasetSpec, Settings
from tfl.specs.training import Selection

ORIGINAL = Selection(views=("original",))  # what the reference sees


def main(folder: str) -> None:
    """Extract features; then train on all rows of the cache, and on the slice."""
    turns, setup = TurnTaker(), Setup.load(Path(folder))
    sliced = _extract(setup, turns) if setup.num_images else None
    cache = open_cache(setup.cache)
    rows, test = read_rows(cache, "train", ORIGINAL), read_rows(cache, "test", ORIGINAL)
    turns.end_turn("read")
    for _ in range(FIT_REPEATS):
        head, history = setup.recipe.fit(rows.stacked(), setup.num_classes)
        losses = [epoch.loss for epoch in history]
        turns.end_turn("fit", setup.recipe.epochs * rows.num_rows, losses=losses)
    correct = {"all": _count_correct(head, test)}
    if sliced is not None:
        correct["slice"] = _train_on_slice(sliced, setup)
    turns.end_turn("score", correct=correct)


def _extract(setup: Setup, turns: TurnTaker) -> Cache:
    """Make a cache of the images, a batch a turn; the last shard and the file are written in a turn of their own."""
    computed = 0

    def on_progress(progress: Progress) -> None:
        nonlocal computed
        count = progress.computed - computed
        if count:
            turns.end_turn("extract" if computed else "start-up", count)
            computed = progress.computed

    dataset = DatasetSpec(str(setup.images_file))
    # The slice may lack a class; both sides are given the same.
    settings = Settings(setup.folder / "cache", batch_size=setup.recipe.batch_size, allow_missing_classes=True)
    path = precompute(setup.features, dataset, settings, on_progress)
    turns.end_turn("keep")
    return open_cache(path)


def _train_on_slice(sliced: Cache, setup: Setup) -> int:
    """Train on the slice, and return how many of its test images are classified correctly."""
    first = slice(setup.num_images)
    rows = read_rows(sliced, "train", ORIGINAL).part(first)
    test = read_rows(sliced, "test", ORIGINAL).part(first)
    head, _ = setup.recipe.fit(rows.stacked(), setup.num_classes)
    return _count_correct(head, test)


def _count_correct(head: keras.Model, rows: LabelledFeatures) -> int:
    predicted = compute_logits(head, rows.features).argmax(axis=1)  # (n,)
    return int(np.sum(predicted == rows.labels))


if __name__ == "__main__":
    main(*sys.argv[1:])
