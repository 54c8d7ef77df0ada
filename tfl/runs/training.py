"""Training: a head fitted on a cache's rows, and the run folder that it leaves."""

import errno
import logging
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from tfl import __version__, engine
from tfl.cache import open_cache
from tfl.errors import RunError
from tfl.files import trust
from tfl.files.paths import expand_user
from tfl.files.scratch import redirect_temporary_files, scratch_folder
from tfl.heads import Recipe, Reference
from tfl.heads.model import apply_temperature
from tfl.heads.search import require_finite_head
from tfl.heads.selection import require_selection, select_views
from tfl.heads.trials import Listeners
from tfl.machine.keras_settings import pin_keras_settings
from tfl.runs.calibration import Calibration
from tfl.runs.checksums import RECORD, write_checksums
from tfl.runs.fitting import Task, Trained, train_head
from tfl.runs.folder import HEAD, choose_folder, next_free_folder
from tfl.runs.history import HISTORY, TRIALS
from tfl.runs.json_files import write_json
from tfl.runs.logits import iterate_logits, stream_rows
from tfl.runs.metrics import METRICS, MetricsByRole
from tfl.runs.pictures import draw_run
from tfl.runs.record import RunRecord
from tfl.specs.training import Selection
from tfl.text import to_file_name

logger = logging.getLogger(__name__)


@pin_keras_settings()
def train(
    cache_path: Path | str,
    recipe: Recipe = Reference(),
    selection: Selection = Selection(),
    name: str = "",
    runs_dir: Path | str = Path("runs"),
    listeners: Listeners = Listeners(),
) -> Path:
    """Train a head on a cache's training rows and leave a run folder; the test rows are read once, at the end.

    Settings are chosen on the cache's val rows or, without those, on a stratified part of the
    training rows; then the head is fitted on all of them. The reference recipe has nothing to
    choose and trains on all training rows at once.

    Args:
      name: the folder's name in `runs_dir`; if empty, it is made from cache and recipe, and
        numbered.

    Returns:
      The run folder: `head.keras`, `run.json`, `metrics.json`, and `checksums.json` with the sha256
      of every other file, which is checked whenever a file is read; `history.json` and
      `learning_curves.png` of recipes with epochs; `trials.json` and `trials.png` if there was a
      choice; `confusion_matrix.png` if the cache has test rows.

    Raises:
      RunError: the folder exists, training diverged, a class is none of the cache's or has too few
        rows, or the recipe needs the features in memory and they do not fit.
      CacheError: see `open_cache`; or the cache lacks training rows or a view.
    """
    started = time.monotonic()
    runs_dir = expand_user(runs_dir)
    task = Task(open_cache(expand_user(cache_path)), recipe, selection, listeners)
    _require_possible(task)
    stem = name or f"{to_file_name(task.cache.path.stem)}-{recipe.name}"
    folder = choose_folder(runs_dir, name, stem)
    with _explain_out_of_memory(task):
        trained = train_head(task)
    trained, calibration = calibrate_head(trained, recipe, selection)
    metrics = _measure(task, trained, calibration)
    _require_finite_loss(metrics, recipe)
    record = make_record(task, trained, calibration, folder, time.monotonic() - started)
    with scratch_folder(runs_dir) as scratch, redirect_temporary_files():
        unfinished = write_run(scratch / folder.name, record, trained, metrics)
        folder = _rename(unfinished, folder, stem)
    trust.mark_own(folder / HEAD)
    return folder


def _require_possible(task: Task) -> None:
    """Refuse, before anything is trained, what cannot be trained."""
    require_selection(task.cache, task.selection)
    recipe = task.recipe
    if task.selection.calibrate and not recipe.has_choices and "val" not in task.cache.num_rows:
        raise RunError(f"--calibrate needs validation rows; the recipe {recipe.name} has those of --val-split alone")


@contextmanager
def _explain_out_of_memory(task: Task) -> Iterator[None]:
    """Name the recipe and the features where a device runs out of memory."""
    try:
        yield
    except Exception as error:
        if not engine.is_out_of_memory(error):
            raise
        raise RunError(
            f"the memory of {engine.device_name()} does not suffice for the recipe {task.recipe.name} on "
            f"{task.cache.path} ({task.feature_bytes:,} bytes of features): take fewer --views, precompute fewer "
            "--layers or a smaller slice"
        ) from error


# ---- calibration and metrics


def calibrate_head(trained: Trained, recipe: Recipe, selection: Selection) -> tuple[Trained, Calibration]:
    """Return the head to keep, with the temperature inside if that was asked for, and its calibration.

    Raises:
      RunError: the head's weights are not finite.
    """
    calibration = Calibration()
    if trained.val is not None:
        calibration = Calibration.fit(*trained.val, is_temperature_folded=selection.calibrate)
    if calibration.is_temperature_folded and calibration.temperature is not None:
        trained = replace(trained, head=apply_temperature(trained.head, calibration.temperature))
    require_finite_head(trained.head, recipe)
    return trained, calibration


def _measure(task: Task, trained: Trained, calibration: Calibration) -> MetricsByRole:
    """Return metrics of the validation rows, as they were when they chose, and of the test rows."""
    metrics: MetricsByRole = {}
    if trained.val is not None:
        logits, labels = trained.val
        metrics["val"] = calibration.measure([(calibration.apply(logits), labels)], task.class_names)
    if "test" in task.cache.num_rows:
        rows = stream_rows(task.cache, "test", task.selection)
        metrics["test"] = calibration.measure(iterate_logits(trained.head, rows), task.class_names)
    return metrics


def _require_finite_loss(metrics: MetricsByRole, recipe: Recipe) -> None:
    """Refuse a head whose logits are no numbers: its loss is undefined although there are rows."""
    for role, of_role in metrics.items():
        loss = math.nan if of_role.loss is None else of_role.loss
        if of_role.num_rows and not math.isfinite(loss):
            raise RunError(
                f"the recipe {recipe.name} diverged: the loss on the {role} rows is {loss}, a finite number was "
                f"expected; {recipe.advice}"
            )


# ---- the run folder


def make_record(task: Task, trained: Trained, calibration: Calibration, folder: Path, seconds: float) -> RunRecord:
    """Return what a training was made from."""
    cache = task.cache
    return RunRecord(
        cache=os.path.relpath(cache.path.resolve(), folder.resolve()),
        fingerprint=cache.spec.fingerprint,
        spec=cache.spec,
        class_names=task.class_names,
        recipe=task.recipe.name,
        settings=asdict(task.recipe),
        selection=task.selection,
        views=select_views(cache, task.selection),
        chosen=trained.chosen,
        temperature=calibration.temperature,
        is_temperature_folded=calibration.is_temperature_folded,
        decision_threshold=calibration.decision_threshold,
        streamed=trained.is_streamed,
        seconds=round(seconds, 2),
        tfl=__version__,
        versions=engine.library_versions(),
        device=engine.device_name(),
        has_checksums=True,
    )


def write_run(folder: Path, record: RunRecord, trained: Trained, metrics: MetricsByRole) -> Path:
    """Make the folder, write all files of a run into it, and return it."""
    folder.mkdir()
    trained.head.save(folder / HEAD)
    write_json(folder / RECORD, record)
    write_json(folder / METRICS, metrics)
    if trained.history:
        write_json(folder / HISTORY, trained.history)
    if len(trained.trials) > 1:
        write_json(folder / TRIALS, trained.trials)
    draw_run(folder, trained.history, trained.trials, metrics.get("test"))
    write_checksums(folder)
    return folder


def _rename(unfinished: Path, folder: Path, stem: str) -> Path:
    """Give the run its name, or the next number if another training has taken that name meanwhile."""
    while True:
        try:
            return unfinished.rename(folder)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
        taken, folder = folder, next_free_folder(folder.parent, stem)
        logger.warning("%s has been made meanwhile; this run is %s", taken, folder)
