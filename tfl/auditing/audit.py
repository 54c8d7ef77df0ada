"""The audit of one cache, from features to findings."""

import logging
import time
from pathlib import Path

import numpy as np

from tfl import datasets
from tfl.artefacts.origin import Origin
from tfl.auditing import duplicates, labels, leaks, odd
from tfl.auditing.images import read_images
from tfl.auditing.memory import choose_columns
from tfl.auditing.neighbours import find_neighbours
from tfl.auditing.projection import project_rows
from tfl.auditing.record import Audit
from tfl.auditing.unlabelled import list_unlabelled, rank_unlabelled
from tfl.cache import Cache, open_cache
from tfl.errors import RunError
from tfl.files.paths import expand_user
from tfl.machine.keras_settings import pin_keras_settings
from tfl.runs.folder import Run, open_run

logger = logging.getLogger(__name__)


@pin_keras_settings()
def audit(
    cache: Path | str,
    run: Path | str | None = None,
    is_all: bool = False,
    dataset: str = "",
    max_memory: float = 0.0,
    unlabelled: Path | str | None = None,
) -> Audit:
    """Find leaked, duplicate, mislabelled and odd images of a cache. Nothing is changed.

    Args:
      run: a run on this cache; its head then judges what leaks do to the accuracy.
      is_all: return every pair of neighbours and the label of every row, not only suspicious ones.
      dataset: where the dataset is now; empty for where `precompute` found it.
      unlabelled: a folder of images without labels, to rank by what a label of theirs would tell.
      max_memory: bound on the arrays in GiB; 0 for three quarters of the memory that is free.

    Raises:
      CacheError: see `open_cache`.
      RunError: all rows are of one class, memory does not suffice, or the run is of another cache.
    """
    started = time.perf_counter()
    opened = open_cache(cache)
    _require_auditable(opened)
    judge = _open_judge(run, opened)
    paths = [] if unlabelled is None else list_unlabelled(Path(unlabelled))
    origin = Origin(opened, dataset)
    rows = project_rows(opened, choose_columns(opened, max_memory))
    _log("features projected to %d columns", rows.whitened.shape[1], started)
    cosines, neighbours = find_neighbours(rows.whitened)
    _log("%d neighbours of every row found", neighbours.shape[1], started)
    images = read_images(origin, rows)
    pairs = duplicates.find_pairs(rows, cosines, neighbours, images)
    _log("%d pairs compared", len(pairs.rows), started)
    probabilities = labels.score_classes(rows, cosines, neighbours)
    is_leaked = None if images is None else duplicates.find_leaked(rows, pairs)
    is_listed = np.ones(len(pairs.rows), bool) if is_all or images is None else pairs.is_one_picture
    return Audit(
        cache=str(opened.path),
        fingerprint=opened.spec.fingerprint,
        folder=_find_folder(opened, dataset),
        num_rows=rows.roles,
        has_pixels=images is not None,
        accuracy=float((probabilities.argmax(axis=1) == rows.labels).mean()),
        l2=rows.l2,
        duplicates=duplicates.describe_pairs(rows, pairs.part(np.flatnonzero(is_listed))),
        labels=labels.suspect_labels(rows, probabilities, opened.class_names, is_all),
        odd=odd.find_odd(rows, cosines, images, is_all),
        overlaps=labels.find_overlaps(rows, probabilities, opened.class_names),
        leaks=() if is_leaked is None else leaks.measure_leaks(rows, is_leaked, probabilities, judge),
        label_next=rank_unlabelled(origin, rows, paths) if paths else (),
        seconds=round(time.perf_counter() - started, 2),
    )


def _require_auditable(cache: Cache) -> None:
    """Refuse a cache whose rows are all of one class."""
    present = {label for role in cache.num_rows for label in np.unique(cache.read_labels(role)).tolist()}
    if len(present) < 2:
        only = cache.class_names[present.pop()]
        raise RunError(f"all rows of {cache.path} are of the class {only!r}; an audit compares two classes or more")


def _find_folder(cache: Cache, dataset: str) -> str:
    """Return the folder that the images' ids are paths in; empty if they are none, or it is not here."""
    _, location = datasets.find_source(dataset or cache.provenance.typed.dataset)
    folder = expand_user(location)
    role = next(iter(cache.num_rows))
    first = folder / cache.read_ids(role)[0].decode(errors="replace")
    return str(folder.resolve()) if first.is_file() else ""


def _open_judge(run: Path | str | None, cache: Cache) -> Run | None:
    if run is None:
        return None
    opened = open_run(run)
    leaks.require_same_cache(opened, cache.path)
    return opened


def _log(message: str, number: int, started: float) -> None:
    logger.info(message + ", %.1f s", number, time.perf_counter() - started)
