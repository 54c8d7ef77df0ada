"""The folder that one training leaves behind: head, spec, history, metrics, pictures."""

import errno
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfl import __version__, engine, heads
from tfl.cache import Cache, open_cache
from tfl.errors import RunError
from tfl.files import trust
from tfl.files.paths import expand_user
from tfl.files.scratch import libraries_in_scratch, scratch_folder
from tfl.heads import Epoch, Examples, InMemory, LabelledFeatures, Listeners, Streamed, Trial
from tfl.machine.keras_settings import pin_keras_settings
from tfl.metrics import mcnemar
from tfl.reports import figures, formatting
from tfl.runs import record
from tfl.runs.calibration import Scores
from tfl.specs import CacheSpec, Role, View
from tfl.specs.recipes import Best, Grid, Knn, Logistic, Mlp, Recipe, Reference, Ridge, Selection, recipe_name
from tfl.text import to_file_name

logger = logging.getLogger(__name__)

# As read, on the device, and as much again for what else grows.
COPIES_IN_MEMORY = 3
MANY_SECONDS = 1e9
# At the peak of choosing and refitting, in copies of one view's features: so many, and so many more for each view; what
# does not grow with them comes on top. `scripts/benchmark.py room` holds what is taken against it.
COPIES_TO_CHOOSE: dict[type[Recipe], tuple[float, float]] = {
    Ridge: (1.0, 2.0),
    Logistic: (1.5, 2.0),
    Mlp: (0.5, 2.0),
    Grid: (0.0, 4.0),
    Knn: (4.5, 2.0),
    Best: (3.0, 4.0),
}
WORKING_BYTES = 256 << 20
NUMBERS = re.compile(r"\[\n\s+(-?\d[^][{}\"]*?)\n\s*\]")  # a list of indented JSON; no text in it holds a newline
MAX_CLASSES_SHOWN = 20


@dataclass(frozen=True)
class Run:
    """A finished training.

    Attributes:
      description: `run.json`: cache, spec, fingerprint, class names, recipe, its settings, versions.
      digests: the sha256 of each file as training left it; None for a run from before they were noted.
    """

    folder: Path
    description: dict[str, Any]
    digests: Mapping[str, str] | None = None

    @property
    def spec(self) -> CacheSpec:
        """The spec of the cache that the head was trained on."""
        return record.spec_of(self.description)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label."""
        return tuple(self.description["class_names"])

    @property
    def recipe(self) -> Recipe:
        """The recipe with the settings that it was given."""
        return record.recipe_of(self.description)

    @property
    def selection(self) -> Selection:
        """Which rows, views and classes; those of the days before this was noted had all."""
        return record.selection_of(self.description)

    @property
    def views(self) -> tuple[View, ...]:
        """The views whose features the head takes the mean of."""
        return self.selection.views or self.spec.views

    @property
    def metrics(self) -> dict[str, Any]:
        """`metrics.json`, as training wrote it: by role.

        Raises:
          RunError: the file is gone, has changed, or holds no metrics of this run.
        """
        return record.read_metrics(self._unchanged(record.METRICS), self.class_names)

    @property
    def history(self) -> list[dict[str, Any]]:
        """`history.json`, as training wrote it: by epoch; empty for recipes without epochs.

        Raises:
          RunError: the file is gone, has changed, or holds no epochs.
        """
        is_expected = (self.folder / record.HISTORY).exists() or record.HISTORY in (self.digests or ())
        return record.read_history(self._unchanged(record.HISTORY)) if is_expected else []

    def load_head(self, cache: Cache | None = None) -> keras.Model:
        """Return the trained head, features `(n, d)` to logits `(n, c)`.

        Args:
          cache: whose features it is to be given.

        Raises:
          RunError: the file is gone, has changed, is no head, has not one output for each class, or takes features of
            another length than the cache's.
        """
        path = self._unchanged("head.keras")
        found = heads.load_head(path)
        num_features, num_outputs = found.input_shape[-1], found.output_shape[-1]
        if num_outputs != len(self.class_names):
            raise RunError(
                f"{path} has {num_outputs} outputs, and {self.folder / record.DESCRIPTION} names "
                f"{len(self.class_names)} classes: {_some(self.class_names)}; train again"
            )
        if cache is not None and num_features != cache.num_features:
            raise RunError(
                f"{path} takes {num_features:,} features, and {cache.path} has {cache.num_features:,}; train again"
            )
        return found

    def open_cache(self) -> Cache:
        """Open the cache file that the head was trained on.

        Raises:
          RunError: it is gone, or its classes are not those of the run.
          CacheError: another file has taken its place.
        """
        path = Path(os.path.realpath(self.folder / self.description["cache"]))
        if not _is_file(path):
            raise RunError(
                f"{self.folder} was trained on {path}, which is gone; put it back, or precompute and train again"
            )
        cache = open_cache(path, expected=self.spec)
        self._require_classes(cache)
        return cache

    def _require_classes(self, cache: Cache) -> None:
        """Refuse class names that are not the cache's: a head's outputs are in their order."""
        chosen = self.selection.classes
        heads.select_classes(cache, self.selection)
        if self.class_names != (chosen or cache.class_names):
            expected = "the classes that were selected" if chosen else f"those of {cache.path}"
            raise RunError(
                f"the class_names in {self.folder / record.DESCRIPTION} are not {expected}",
                f"  run:   {_some(self.class_names)}",
                f"  cache: {_some(chosen or cache.class_names)}",
                "The head's outputs are in the cache's order: put training's own run.json back, or train again",
            )

    def _unchanged(self, name: str) -> Path:
        path = self.folder / name
        record.require_unchanged(path, self.digests)
        return path


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long
        return False


def _some(names: tuple[str, ...]) -> str:
    """The first of many names, as Python writes them."""
    words = ", ".join(map(repr, names[:MAX_CLASSES_SHOWN]))
    return words if len(names) <= MAX_CLASSES_SHOWN else f"{words} and {len(names) - MAX_CLASSES_SHOWN} more"


@dataclass
class _Trained:
    """A head, and what was seen of it on the way."""

    head: keras.Model
    trials: list[Trial] = field(default_factory=list)
    chosen: dict[str, Any] | None = None
    history: list[Epoch] = field(default_factory=list)
    is_streamed: bool = False
    val: tuple[np.ndarray, np.ndarray] | None = None
    """Logits `(n, c)` and labels `(n,)` of the validation rows, by the head before it was fitted on them too."""


@pin_keras_settings()
def train(
    cache_path: Path,
    recipe: Recipe = Reference(),  # noqa: B008 -- frozen
    selection: Selection = Selection(),  # noqa: B008
    name: str = "",
    runs_dir: Path = Path("runs"),
    listeners: Listeners = Listeners(),
) -> Path:
    """Train a head on a cache's training rows and leave a run folder; the test rows are read once, at the end.

    Settings are chosen on the cache's val rows or, without those, on a stratified part of the training rows; then the
    head is fitted on all of them. The reference recipe has nothing to choose and trains on all training rows at once.

    Args:
      name: the folder's name in `runs_dir`; empty for one made from cache and recipe, numbered if taken.

    Returns:
      The run folder: `head.keras`, `run.json`, `metrics.json`, and `checksums.json` with the sha256 of every other
      file, which is held against what is read later; `history.json` and `learning_curves.png` of recipes with
      epochs; `trials.json` and `trials.png` where there was a choice; `confusion_matrix.png` where the cache has test
      rows.

    Raises:
      RunError: the folder exists, training diverged, a class is none of the cache's or has too few rows, or the
        features do not fit into memory and the recipe needs them there.
      CacheError: see `open_cache`; or the cache lacks training rows or a view.
    """
    started = time.monotonic()
    cache_path, runs_dir = expand_user(cache_path), expand_user(runs_dir)
    cache = open_cache(cache_path)
    class_names = selection.classes or cache.class_names
    heads.require_selection(cache, selection)
    if selection.calibrate and isinstance(recipe, Reference) and "val" not in cache.num_rows:
        raise RunError("--calibrate needs validation rows; the recipe reference has those of --val-split alone")
    stem = name or f"{to_file_name(cache.path.stem)}-{recipe_name(recipe)}"
    folder = _new_folder(runs_dir, name, stem)
    try:
        if isinstance(recipe, Reference):
            trained = _train_reference(cache, recipe, selection, listeners)
        else:
            trained = _train_chosen(cache, recipe, selection, listeners)
    except Exception as error:
        if not engine.is_out_of_memory(error):
            raise
        raise RunError(
            f"the memory of {engine.device_name()} does not suffice for the recipe {recipe_name(recipe)} on {cache.path} "
            f"({_feature_bytes(cache, len(heads.select_views(cache, selection))):,} bytes of features): take fewer --views, "
            "precompute fewer --layers or a smaller slice"
        ) from error
    scores = Scores() if trained.val is None else Scores.asked_for(*trained.val, is_folded=selection.calibrate)
    if scores.is_folded:
        trained.head = heads.apply_temperature(trained.head, scores.temperature or 1.0)
    heads.require_finite(trained.head, recipe)
    metrics = _metrics(trained, scores, cache, selection)
    _require_finite_loss(metrics, recipe)
    with scratch_folder(runs_dir) as scratch, libraries_in_scratch():
        partial = scratch / folder.name
        partial.mkdir()
        trained.head.save(partial / "head.keras")
        description = {
            "cache": os.path.relpath(cache_path.resolve(), folder.resolve()),
            "fingerprint": cache.spec.fingerprint,
            "spec": asdict(cache.spec),
            "class_names": class_names,
            "recipe": recipe_name(recipe),
            "settings": asdict(recipe),
            "selection": asdict(selection),
            "views": heads.select_views(cache, selection),
            "chosen": trained.chosen,
            **asdict(scores),
            "streamed": trained.is_streamed,
            "seconds": round(time.monotonic() - started, 2),
            "tfl": __version__,
            "versions": engine.library_versions(),
            "device": engine.device_name(),
            "has_checksums": True,
        }
        _write_json(partial / record.DESCRIPTION, description)
        _write_json(partial / record.METRICS, metrics)
        _leave_history(partial, trained, folder.name)
        if "test" in metrics:
            _leave_confusion(partial, metrics["test"], class_names)
        record.write_checksums(partial)
        folder = _left(partial, folder, stem)
    trust.remember(folder / "head.keras", is_own=True)
    return folder


def _require_finite_loss(metrics: dict[str, Any], recipe: Recipe) -> None:
    """Refuse a head whose answers are no numbers."""
    for role, of_role in metrics.items():
        loss = np.nan if of_role["loss"] is None else of_role["loss"]  # metrics say None of NaN
        if of_role["num_rows"] and not np.isfinite(loss):
            raise RunError(
                f"the recipe {recipe_name(recipe)} diverged: the loss on the {role} rows is {loss}, a finite number was "
                f"expected; {heads.ADVICE[type(recipe)]}"
            )


def _left(partial: Path, folder: Path, stem: str) -> Path:
    """The run under its name, or under the next number if another training has left a run of that name meanwhile."""
    while True:
        try:
            return partial.rename(folder)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
        taken, folder = folder, next_free_folder(folder.parent, stem)
        logger.warning("%s has been made meanwhile; this run is %s", taken, folder)


def _leave_history(folder: Path, trained: _Trained, title: str) -> None:
    if trained.history:
        _write_json(folder / record.HISTORY, trained.history)
        figures.draw_learning_curves(trained.history, title, folder / "learning_curves.png")
    if len(trained.trials) > 1:
        _write_json(folder / "trials.json", trained.trials)
        shown = [{**trial, "setting": formatting.format_setting(trial["setting"])} for trial in trained.trials]
        figures.draw_trials(shown, title, folder / "trials.png")


def _leave_confusion(folder: Path, test: dict[str, Any], class_names: tuple[str, ...]) -> None:
    title = f"test accuracy {formatting.format_share(test['accuracy'])} ({formatting.format_interval(test)}, n = {test['num_rows']:,})"
    figures.draw_confusion_matrix(np.asarray(test["confusion"]), class_names, title, folder / "confusion_matrix.png")


def _train_reference(cache: Cache, recipe: Reference, selection: Selection, listeners: Listeners) -> _Trained:
    views, classes = heads.select_views(cache, selection), heads.select_classes(cache, selection)
    val_rows = _rows_of("val", cache, selection)
    num_classes = len(classes) or cache.num_classes
    is_streamed = COPIES_IN_MEMORY * _feature_bytes(cache, len(views)) > engine.available_memory()
    if is_streamed:
        logger.info(
            "the %s bytes of features in %s do not fit into the memory available (%s bytes): "
            "they are read anew in every epoch, and rows are shuffled by chunk",
            f"{_feature_bytes(cache, len(views)):,}",
            cache.path,
            f"{engine.available_memory():,}",
        )
        train_rows: Examples = Streamed(cache, "train", recipe.batch_size, views, classes=classes)
        weights = heads.class_weights(heads.count_rows_by_class(cache, "train", selection), selection)
    else:
        rows = heads.read_rows(cache, "train", selection)
        train_rows, weights = rows.stacked(), rows.class_weights
    has_val = "val" in cache.num_rows
    val = None if not has_val else val_rows if is_streamed else _in_memory(val_rows)
    model, history = heads.fit(recipe, train_rows, num_classes, val, listeners.on_epoch, weights)
    return _Trained(
        model, history=history, is_streamed=is_streamed, val=None if val is None else _logits_and_labels(model, val)
    )


def _in_memory(examples: Examples) -> InMemory:
    features, labels = (np.concatenate(arrays) for arrays in zip(*examples.blocks(), strict=True))
    return InMemory(features, labels)


def _train_chosen(cache: Cache, recipe: Recipe, selection: Selection, listeners: Listeners) -> _Trained:
    require_memory(cache, f"the recipe {recipe_name(recipe)}", selection, COPIES_TO_CHOOSE[type(recipe)])
    fitting, val, everything = _divided(cache, recipe, selection)
    found = heads.search(recipe, fitting, val, listeners)
    assert found.val_logits is not None
    return _Trained(
        found.refit(everything),
        found.trials,
        {**found.trial, "begun": found.begun},
        found.history,
        val=(found.val_logits, val.labels),
    )


def estimate_bytes(cache: Cache, selection: Selection, copies: tuple[float, float]) -> int:
    """Main memory beyond what this process has.

    Args:
      copies: of one view's features, and how many more for each view.
    """
    at_least, for_each_view = copies
    num_views = len(heads.select_views(cache, selection))
    return WORKING_BYTES + int((at_least + for_each_view * num_views) * _feature_bytes(cache, 1))


def require_memory(cache: Cache, what: str, selection: Selection, copies: tuple[float, float]) -> None:
    """Refuse what needs all rows at once where they do not fit.

    Args:
      what: that is refused, in words.
      copies: see `bytes_needed`.

    Raises:
      RunError: how much is needed, and how much there is.
    """
    needed, available = estimate_bytes(cache, selection, copies), engine.available_memory()
    if needed > available:
        raise RunError(
            f"{what} needs about {needed:,} bytes of memory for the features in {cache.path}, and {available:,} are "
            "available; the recipe reference reads them from the file, or precompute fewer --layers or a smaller slice"
        )


def _divided(
    cache: Cache, recipe: Recipe, selection: Selection
) -> tuple[LabelledFeatures, LabelledFeatures, LabelledFeatures]:
    """Fitting rows, validation rows, and both."""
    rows = heads.read_rows(cache, "train", selection)
    if "val" in cache.num_rows:
        val = replace(heads.read_rows(cache, "val", selection), class_weights=rows.class_weights)
        return rows, val, heads.concatenate_rows(rows, val)
    class_names = selection.classes or cache.class_names
    return heads.split_rows(rows, selection.validation_fraction, recipe.seed, class_names)


def _feature_bytes(cache: Cache, num_views: int) -> int:
    """Of the float32 features to train and select on."""
    num_rows = sum(cache.num_rows.get(role, 0) for role in ("train", "val"))
    return num_rows * num_views * cache.num_features * np.dtype(np.float32).itemsize


def _logits_and_labels(model: keras.Model, examples: Examples) -> tuple[np.ndarray, np.ndarray]:
    blocks = [(heads.compute_logits(model, features), labels) for features, labels in examples.blocks()]
    logits, labels = zip(*blocks, strict=True)
    return np.concatenate(logits), np.concatenate(labels)


def _metrics(trained: _Trained, scores: Scores, cache: Cache, selection: Selection) -> dict[str, Any]:
    """By role: of the validation rows as they were when they chose, and of the test rows."""
    class_names = selection.classes or cache.class_names
    metrics = {}
    if trained.val is not None:
        logits, labels = trained.val
        metrics["val"] = scores.metrics([(scores.shipped(logits), labels)], class_names)
    if "test" in cache.num_rows:
        metrics["test"] = scores.metrics(_logits_of_test(trained.head, cache, selection), class_names)
    return metrics


def _logits_of_test(model: keras.Model, cache: Cache, selection: Selection) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """A head's logits and the labels of the test rows, block by block."""
    rows = _rows_of("test", cache, selection)
    return ((heads.compute_logits(model, features), labels) for features, labels in rows.blocks())


def _rows_of(role: Role, cache: Cache, selection: Selection) -> Streamed:
    """The rows to measure on: views averaged, classes chosen."""
    views, classes = heads.select_views(cache, selection), heads.select_classes(cache, selection)
    return Streamed(cache, role, views=views, is_averaged=True, classes=classes)


def _new_folder(runs_dir: Path, name: str, stem: str) -> Path:
    runs_dir.mkdir(parents=True, exist_ok=True)
    if name:
        if Path(name).name != name or to_file_name(name) != name:
            raise RunError(f"a run's name is one folder name in {runs_dir}, of printable characters, got {name!r}")
        if (runs_dir / name).exists():
            raise RunError(f"there is a run {runs_dir / name} already; choose another --name or remove it")
        return runs_dir / name
    return next_free_folder(runs_dir, stem)


def next_free_folder(folder: Path, stem: str) -> Path:
    """The first of `<stem>-1`, `<stem>-2`... that is not there yet."""
    taken = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    return folder / next(f"{stem}-{n}" for n in range(1, len(taken) + 2) if f"{stem}-{n}" not in taken)


def _write_json(path: Path, values: Any) -> None:
    """Write indented JSON, each list of numbers on one line: a confusion matrix has a line for each class."""
    text = json.dumps(values, indent=2)
    text = NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text)
    path.write_text(text + "\n", encoding="utf-8")


def open_run(folder: Path) -> Run:
    """Open a run folder that `train` left.

    Raises:
      RunError: it is not there, is not such a folder, or its `run.json` has changed since.
    """
    folder = expand_user(folder)
    digests = record.read_checksums(folder)
    return Run(folder, record.read_description(folder, digests), digests)


@pin_keras_settings()
def evaluate(folder: Path) -> dict[str, Any]:
    """Metrics of a run's head on the test rows of its cache, computed again.

    Returns:
      `accuracy` in 0..1, its `accuracy_interval_95`, `num_rows`, `loss` in nats, and what else `Metrics.to_dict` gives;
      where training had validation rows, `calibration` (error and loss before and after their temperature) and, of two
      classes, `at_threshold`.

    Raises:
      RunError, CacheError: the run or its cache is gone or is not what it was, or holds no test rows.
    """
    run = open_run(folder)
    scores = Scores(**{each.name: run.description.get(each.name, each.default) for each in fields(Scores)})
    cache = run.open_cache()
    blocks = _logits_of_test(run.load_head(cache), cache, run.selection)
    return scores.metrics(blocks, run.class_names)


@pin_keras_settings()
def compare_runs(first: Path, second: Path) -> dict[str, Any]:
    """McNemar's test between two runs on the test rows that both were given, matched by id.

    Returns:
      `num_rows`, `accuracy` of each, and `only_a`, `only_b`, `difference`, `p_value` of `metrics.McNemar`.

    Raises:
      RunError: they are of different datasets, or have no test rows in common; and see `evaluate`.
    """
    runs = [open_run(folder) for folder in (first, second)]
    datasets = [run.spec.dataset.images for run in runs]
    if datasets[0] != datasets[1]:
        raise RunError(f"{first} and {second} are of different datasets: {datasets[0]} and {datasets[1]}")
    if len({frozenset(run.class_names) for run in runs}) > 1:
        counts = " and ".join(str(len(run.class_names)) for run in runs)
        logger.warning(
            "they tell %s classes apart: compared on the rows of those that both know, a task of one of them", counts
        )
    of_first, of_second = (_is_correct_by_id(run) for run in runs)
    shared = sorted(of_first.keys() & of_second.keys())
    if not shared:
        raise RunError(f"{first} and {second} have no test rows in common: their ids differ")
    a, b = (np.asarray([by_id[id_] for id_ in shared]) for by_id in (of_first, of_second))
    accuracy = {"a": float(a.mean()), "b": float(b.mean())}
    return {"a": str(first), "b": str(second), "num_rows": len(shared), "accuracy": accuracy, **mcnemar(a, b).to_dict()}


def _is_correct_by_id(run: Run) -> dict[bytes, bool]:
    cache, selection = run.open_cache(), run.selection
    rows = _rows_of("test", cache, selection)
    logits, labels = _logits_and_labels(run.load_head(cache), rows)
    ids = cache.read_ids("test")
    if rows.classes:
        ids = ids[np.isin(cache.read_labels("test"), rows.classes)]
    return dict(zip(ids.tolist(), (logits.argmax(axis=1) == labels).tolist(), strict=True))


def list_runs(runs_dir: Path) -> list[dict[str, Any]]:
    """What the finished runs in a folder are, by name; folders that are no runs are passed over.

    Returns:
      For each `name`, `recipe`, `chosen` (its setting), `cache`, `classes` (how many), `views`, `accuracy` on the test
      rows and its `interval`, `val_accuracy`, `seconds`; None for what it does not have.
    """
    listed = []
    runs_dir = expand_user(runs_dir)
    for folder in sorted(runs_dir.iterdir()) if runs_dir.is_dir() else []:
        try:
            listed.append(_listed(open_run(folder)))
        except RunError as error:
            logger.info("%s is passed over: %s", folder, str(error).split("\n", maxsplit=1)[0])
    return listed


def _listed(run: Run) -> dict[str, Any]:
    metrics, chosen = run.metrics, run.description.get("chosen")
    test = metrics.get("test", {})
    return {
        "name": run.folder.name,
        "recipe": run.description["recipe"],
        "chosen": chosen and chosen["setting"],
        "cache": Path(run.description["cache"]).name,
        "classes": len(run.class_names),
        "views": len(run.views),
        "accuracy": test.get("accuracy"),
        "interval": test.get("accuracy_interval_95"),
        "val_accuracy": metrics.get("val", {}).get("accuracy"),
        "seconds": run.description.get("seconds"),
    }


def reproduce(folder: Path) -> tuple[Path, list[str]]:
    """Train a run again from its own `run.json`, beside it.

    Returns:
      The new run's folder, and a line for each metric that differs from the old one's; none on the same machine with
      the same versions.

    Raises:
      RunError, CacheError: see `train`.
    """
    run = open_run(expand_user(folder).resolve())
    recipe, old = run.recipe, run.metrics
    if isinstance(recipe, Best):  # what time allowed then, and no other
        recipe = replace(recipe, seconds=MANY_SECONDS, candidates=run.description["chosen"]["begun"])
    selection = run.selection
    if "allow_missing_classes" not in run.description.get("selection", {}):  # of the days when that was a warning
        selection = replace(selection, allow_missing_classes=True)
    again = open_run(train(run.open_cache().path, recipe, selection, runs_dir=run.folder.parent))
    new = again.metrics
    was_streamed, is_streamed = (each.description.get("streamed") for each in (run, again))
    differing = [f"streamed: {was_streamed} before, {is_streamed} now"] if was_streamed != is_streamed else []
    differing += [
        f"{role} {name}: {value} before, {new.get(role, {}).get(name)} now"
        for role, values in old.items()
        for name, value in values.items()
        if new.get(role, {}).get(name) != value
    ]
    return again.folder, differing


def remove_run(folder: Path) -> None:
    """Remove a run folder.

    Raises:
      RunError: it is none.
    """
    shutil.rmtree(open_run(folder).folder)


def write_tensorboard(folder: Path) -> Path:
    """Leave a run's epochs and metrics as TensorBoard logs in it, and return their folder."""
    run = open_run(folder)
    logs = run.folder / "tensorboard"
    figures.write_tensorboard(run.history, run.metrics, logs)
    return logs
