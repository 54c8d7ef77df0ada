"""Run folders: opened, removed, and named."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import keras

from tfl.cache import Cache, open_cache
from tfl.errors import RunError
from tfl.files.paths import expand_user
from tfl.heads import Recipe
from tfl.heads.loading import load_head
from tfl.heads.selection import select_classes
from tfl.heads.trials import Epoch
from tfl.runs.checksums import RECORD, read_checksums, require_unchanged
from tfl.runs.history import HISTORY, read_history
from tfl.runs.metrics import METRICS, MetricsByRole, read_metrics
from tfl.runs.record import RunRecord, read_run_record
from tfl.specs import CacheSpec, View
from tfl.specs.training import Selection
from tfl.text import to_file_name

HEAD = "head.keras"
MAX_CLASSES_SHOWN = 20


@dataclass(frozen=True)
class Run:
    """A finished training, opened.

    Attributes:
      record: what `run.json` says.
      digests: the sha256 of each file after training; None for a run from before they were noted.
    """

    folder: Path
    record: RunRecord
    digests: Mapping[str, str] | None = None

    @property
    def spec(self) -> CacheSpec:
        """The spec of the cache that the head was trained on."""
        return self.record.spec

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label."""
        return self.record.class_names

    @property
    def recipe(self) -> Recipe:
        """The recipe with the settings that it was given."""
        return self.record.decode_recipe()

    @property
    def selection(self) -> Selection:
        """The rows, views and classes that the head was trained on."""
        return self.record.selection

    @property
    def views(self) -> tuple[View, ...]:
        """The views whose mean features the head takes."""
        return self.selection.views or self.spec.views

    @property
    def metrics(self) -> MetricsByRole:
        """The metrics that training measured, by role.

        Raises:
          RunError: the file is gone, was changed, or holds no metrics of this run.
        """
        return read_metrics(self._require_unchanged(METRICS), self.class_names)

    @property
    def history(self) -> list[Epoch]:
        """The epochs of the training; empty for recipes without epochs.

        Raises:
          RunError: the file is gone, was changed, or holds no epochs.
        """
        is_expected = (self.folder / HISTORY).exists() or HISTORY in (self.digests or ())
        return read_history(self._require_unchanged(HISTORY)) if is_expected else []

    def load_head(self, cache: Cache | None = None) -> keras.Model:
        """Return the trained head, features `(n, d)` to logits `(n, c)`.

        Args:
          cache: the cache whose features the head will be given; None skips the check of their
            length.

        Raises:
          RunError: the file is gone, was changed or is no head, has not one output for each class,
            or takes features of another length than the cache's.
        """
        path = self._require_unchanged(HEAD)
        head = load_head(path)
        num_features, num_outputs = head.input_shape[-1], head.output_shape[-1]
        if num_outputs != len(self.class_names):
            raise RunError(
                f"{path} has {num_outputs} outputs, and {self.folder / RECORD} names "
                f"{len(self.class_names)} classes: {_list_some(self.class_names)}; train again"
            )
        if cache is not None and num_features != cache.num_features:
            raise RunError(
                f"{path} takes {num_features:,} features, and {cache.path} has {cache.num_features:,}; train again"
            )
        return head

    def open_cache(self) -> Cache:
        """Open the cache file that the head was trained on.

        Raises:
          RunError: the file is gone, or its classes are not those of the run.
          CacheError: another file has taken its place.
        """
        path = Path(os.path.realpath(self.folder / self.record.cache))
        if not _is_file(path):
            raise RunError(
                f"{self.folder} was trained on {path}, which is gone; put it back, or precompute and train again"
            )
        cache = open_cache(path, expected=self.spec)
        self._require_classes(cache)
        return cache

    def _require_classes(self, cache: Cache) -> None:
        """Refuse class names that are not the cache's: the head's outputs are in the cache's order."""
        selected = self.selection.classes
        select_classes(cache, self.selection)  # raises for a class that the cache lacks
        if self.class_names != (selected or cache.class_names):
            expected = "the classes that were selected" if selected else f"those of {cache.path}"
            raise RunError(
                f"the class_names in {self.folder / RECORD} are not {expected}",
                f"  run:   {_list_some(self.class_names)}",
                f"  cache: {_list_some(selected or cache.class_names)}",
                "The head's outputs are in the cache's order: restore the run.json that training wrote, or train again",
            )

    def _require_unchanged(self, name: str) -> Path:
        """Return the path of one of the run's files."""
        path = self.folder / name
        require_unchanged(path, self.digests)
        return path


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # the name is too long
        return False


def _list_some(names: tuple[str, ...]) -> str:
    """Return the first of many names, as Python writes them."""
    shown = ", ".join(map(repr, names[:MAX_CLASSES_SHOWN]))
    num_more = len(names) - MAX_CLASSES_SHOWN
    return f"{shown} and {num_more} more" if num_more > 0 else shown


def open_run(folder: Path | str) -> Run:
    """Open a run folder that `train` left.

    Raises:
      RunError: it is not there, is no run folder, or its `run.json` was changed after training.
    """
    folder = expand_user(folder)
    digests = read_checksums(folder)
    return Run(folder, read_run_record(folder, digests), digests)


def remove_run(folder: Path) -> None:
    """Remove a run folder.

    Raises:
      RunError: the folder is no run folder.
    """
    shutil.rmtree(open_run(folder).folder)


def choose_folder(runs_dir: Path, name: str, stem: str) -> Path:
    """Return the folder for a new run; `runs_dir` is made.

    Args:
      name: of the folder; if empty, the next free number after `stem`.

    Raises:
      RunError: `name` is no folder name, or is taken.
    """
    runs_dir.mkdir(parents=True, exist_ok=True)
    if not name:
        return next_free_folder(runs_dir, stem)
    if Path(name).name != name or to_file_name(name) != name:
        raise RunError(f"a run's name is one folder name in {runs_dir}, of printable characters, got {name!r}")
    if (runs_dir / name).exists():
        raise RunError(f"there is a run {runs_dir / name} already; choose another --name or remove it")
    return runs_dir / name


def next_free_folder(folder: Path, stem: str) -> Path:
    """Return the first of `<stem>-1`, `<stem>-2`... that is not there yet."""
    taken = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    number = 1
    while f"{stem}-{number}" in taken:
        number += 1
    return folder / f"{stem}-{number}"
