"""The folder that one training leaves behind: head, spec, history, metrics, pictures."""

import json
import logging
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfl import __version__, engine, head, report, trust
from tfl.cache import Cache, open_cache
from tfl.errors import RunError
from tfl.head import Epoch, Examples, InMemory, Streamed
from tfl.recipes import Reference
from tfl.spec import CacheSpec

logger = logging.getLogger(__name__)

# As read, on the device, and as much again for what else grows.
COPIES_IN_MEMORY = 3


@dataclass(frozen=True)
class Run:
    """A finished training.

    Attributes:
      description: `run.json`: cache, spec, fingerprint, class names, recipe, its settings, versions.
    """

    folder: Path
    description: dict[str, Any]

    @property
    def spec(self) -> CacheSpec:
        """The spec of the cache that the head was trained on."""
        return CacheSpec.from_json(json.dumps(self.description["spec"]))

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label."""
        return tuple(self.description["class_names"])

    @property
    def metrics(self) -> dict[str, Any]:
        """`metrics.json`, as training wrote it: by role."""
        return dict(json.loads((self.folder / "metrics.json").read_text()))

    def load_head(self) -> keras.Model:
        """The trained head, features `(n, d)` to logits `(n, c)`."""
        return head.load(self.folder / "head.keras")

    def open_cache(self) -> Cache:
        """The cache file that the head was trained on.

        Raises:
          RunError: it is gone.
          CacheError: another file has taken its place.
        """
        path = (self.folder / self.description["cache"]).resolve()
        if not path.exists():
            raise RunError(
                f"{self.folder} was trained on {path}, which is gone; put it back, or precompute and train again"
            )
        return open_cache(path, expected=self.spec)


def train(
    cache_path: Path,
    recipe: Reference = Reference(),  # noqa: B008 -- frozen
    name: str = "",
    runs_dir: Path = Path("runs"),
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Path:
    """Train a head on a cache's training rows and leave a run folder; the test rows are read once, at the end.

    Args:
      name: the folder's name in `runs_dir`; empty for one made from cache and recipe, numbered if taken.

    Returns:
      The run folder: `head.keras`, `run.json`, `history.json`, `metrics.json`, `learning_curves.png` and, where the
      cache has test rows, `confusion_matrix.png`.

    Raises:
      RunError: the folder exists, or training diverged.
      CacheError: see `open_cache`; or the cache has no training rows.
    """
    cache = open_cache(cache_path)
    recipe_name = type(recipe).__name__.lower()
    folder = _new_folder(runs_dir, name, cache, recipe_name)
    streamed = _is_streamed(cache)
    model, history = head.fit(
        recipe,
        _training_rows(cache, recipe.batch_size, streamed),
        cache.num_classes,
        _validation_rows(cache, streamed) if "val" in cache.num_rows else None,
        on_epoch,
    )
    metrics = {role: head.measure(model, Streamed(cache, role)) for role in cache.num_rows if role != "train"}
    with tempfile.TemporaryDirectory(dir=runs_dir, prefix=".") as scratch:
        partial = Path(scratch) / folder.name
        partial.mkdir()
        model.save(partial / "head.keras")
        description = {
            "cache": os.path.relpath(cache_path.resolve(), folder.resolve()),
            "fingerprint": cache.spec.fingerprint,
            "spec": asdict(cache.spec),
            "class_names": cache.class_names,
            "recipe": recipe_name,
            "settings": asdict(recipe),
            "streamed": streamed,
            "tfl": __version__,
            "versions": engine.versions(),
            "device": engine.device(),
        }
        _write_json(partial / "run.json", description)
        _write_json(partial / "history.json", history)
        _write_json(partial / "metrics.json", {r: m.to_dict(cache.class_names) for r, m in metrics.items()})
        report.learning_curves(history, folder.name, partial / "learning_curves.png")
        if "test" in metrics:
            test = metrics["test"]
            low, high = test.interval
            title = f"test accuracy {test.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%}, n = {test.num_rows:,})"
            report.confusion_matrix(test, cache.class_names, title, partial / "confusion_matrix.png")
        partial.rename(folder)
    trust.remember(folder / "head.keras", is_own=True)
    return folder


def _is_streamed(cache: Cache) -> bool:
    """Whether the features to train and select on are too large to be held in memory."""
    num_rows = sum(cache.num_rows.get(role, 0) for role in ("train", "val"))
    features = num_rows * cache.num_features * np.dtype(np.float32).itemsize  # bytes, on the device
    available = engine.available_memory()
    if features * COPIES_IN_MEMORY <= available:
        return False
    logger.info(
        "the %s bytes of features in %s do not fit into the memory available (%s bytes): "
        "they are read anew in every epoch, and rows are shuffled by chunk",
        f"{features:,}",
        cache.path,
        f"{available:,}",
    )
    return True


def _training_rows(cache: Cache, batch_size: int, streamed: bool) -> Examples:
    if streamed:
        return Streamed(cache, "train", batch_size)
    rows = cache.read("train")
    return InMemory.on_device(rows.features, rows.labels)


def _validation_rows(cache: Cache, streamed: bool) -> Examples:
    if streamed:
        return Streamed(cache, "val")
    rows = cache.read("val")
    return InMemory(rows.features, rows.labels)


def _new_folder(runs_dir: Path, name: str, cache: Cache, recipe_name: str) -> Path:
    runs_dir.mkdir(parents=True, exist_ok=True)
    if name:
        if Path(name).name != name:
            raise RunError(f"a run's name is one folder name in {runs_dir}, got {name!r}")
        if (runs_dir / name).exists():
            raise RunError(f"there is a run {runs_dir / name} already; choose another --name or remove it")
        return runs_dir / name
    stem = f"{cache.path.stem}-{recipe_name}"
    taken = {path.name for path in runs_dir.iterdir()}
    number = next(n for n in range(1, len(taken) + 2) if f"{stem}-{n}" not in taken)
    return runs_dir / f"{stem}-{number}"


def _write_json(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n")


def open_run(folder: Path) -> Run:
    """A run folder that `train` left.

    Raises:
      RunError: it is not there, or is not such a folder.
    """
    try:
        description = json.loads((folder / "run.json").read_text())
    except OSError as error:
        raise RunError(
            f"{folder} is not a run folder: it has no run.json ({error.strerror}); `tfl train CACHE` makes one"
        ) from error
    except ValueError as error:
        raise RunError(f"{folder / 'run.json'} is not JSON: {error}; train again") from error
    keys = {"cache", "spec", "class_names", "recipe", "settings"}
    if not isinstance(description, dict) or not keys <= set(description):
        raise RunError(f"{folder / 'run.json'} does not describe a run; expected the keys {', '.join(sorted(keys))}")
    return Run(folder, description)


def evaluate(folder: Path) -> dict[str, Any]:
    """Metrics of a run's head on the test rows of its cache, computed again.

    Returns:
      `accuracy` in 0..1, its `accuracy_interval_95`, `num_rows`, `loss` in nats, `accuracy_per_class`, `confusion`.

    Raises:
      RunError, CacheError: the run or its cache is gone or is not what it was, or holds no test rows.
    """
    run = open_run(folder)
    return head.measure(run.load_head(), Streamed(run.open_cache(), "test")).to_dict(run.class_names)
