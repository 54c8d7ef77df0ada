"""Ours as a program, `python -m tfl.comparison.ours FOLDER`, which takes turns: precompute and training as they are."""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from tfl import heads
from tfl.cache import Cache, open_cache
from tfl.comparison.reference.job import FIT_REPEATS, Job
from tfl.extraction.precompute import Progress, precompute
from tfl.machine.lockstep import Turns
from tfl.specs import DatasetSpec, Settings
from tfl.specs.recipes import Selection

ORIGINAL = Selection(views=("original",))  # what the reference sees


def main(folder: str) -> None:
    """Extract features; then train on all of the cache's, and on the slice's."""
    turns, job = Turns(), Job.load(Path(folder))
    sliced = _extract(job, turns) if job.num_images else None
    cache = open_cache(job.cache)
    rows = heads.read_rows(cache, "train", ORIGINAL)
    test = heads.read_rows(cache, "test", ORIGINAL)
    turns.end("read")
    for _ in range(FIT_REPEATS):
        model, history = heads.fit(job.recipe, rows.stacked(), job.num_classes)
        turns.end("fit", job.recipe.epochs * rows.num_rows, losses=[epoch["loss"] for epoch in history])
    correct = {"all": _count_correct(heads.compute_logits(model, test.features), test.labels)}
    if sliced is not None:
        correct["slice"] = _correct_of_slice(sliced, job)
    turns.end("score", correct=correct)


def _extract(job: Job, turns: Turns) -> Cache:
    """A batch a turn; what `precompute` does after the last one, writing the shard and the file, is a turn too."""
    computed = 0

    def on_progress(progress: Progress) -> None:
        nonlocal computed
        if count := progress.computed - computed:
            turns.end("extract" if computed else "start-up", count)
            computed = progress.computed

    dataset = DatasetSpec(str(job.images_file))
    # So few images may lack a class; both sides are given the same.
    settings = Settings(job.folder / "cache", batch_size=job.recipe.batch_size, allow_missing_classes=True)
    path = precompute(job.features, dataset, settings, on_progress)
    turns.end("keep")
    return open_cache(path)


def _correct_of_slice(sliced: Cache, job: Job) -> int:
    rows, test = (heads.read_rows(sliced, role, ORIGINAL).part(slice(job.num_images)) for role in ("train", "test"))
    model, _ = heads.fit(job.recipe, rows.stacked(), job.num_classes)
    return _count_correct(heads.compute_logits(model, test.features), test.labels)


def _count_correct(logits: np.ndarray, labels: np.ndarray) -> int:
    return int((logits.argmax(axis=1) == labels).sum())


if __name__ == "__main__":
    main(*sys.argv[1:])
