"""Evaluation of runs: metrics computed again, and two runs compared."""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tfl.errors import RunError
from tfl.machine.keras_settings import pin_keras_settings
from tfl.metrics import mcnemar
from tfl.runs.folder import Run, open_run
from tfl.runs.logits import compute_all_logits, iterate_logits, stream_rows
from tfl.runs.metrics import RoleMetrics

logger = logging.getLogger(__name__)


@pin_keras_settings()
def evaluate(folder: Path | str) -> RoleMetrics:
    """Compute metrics of a run's head on the test rows of its cache.

    Raises:
      RunError, CacheError: the run or its cache is gone or was changed, or the cache has no test
        rows.
    """
    run = open_run(folder)
    cache = run.open_cache()
    blocks = iterate_logits(run.load_head(cache), stream_rows(cache, "test", run.selection))
    return run.record.calibration.measure(blocks, run.class_names)


# ---- two runs


@dataclass(frozen=True)
class RunComparison:
    """The result of McNemar's test between two runs on the same test rows; see `tfl.metrics.McNemar`.

    Attributes:
      a, b: the run folders.
      accuracy: of each, by `a` and `b`.
    """

    a: str
    b: str
    num_rows: int
    accuracy: dict[str, float]
    only_a: int
    only_b: int
    difference: float
    p_value: float


@pin_keras_settings()
def compare_runs(first: Path | str, second: Path | str) -> RunComparison:
    """Compare two runs by McNemar's test on the test rows that both have, matched by id.

    Raises:
      RunError: they are of different datasets, or have no test rows in common; and see `evaluate`.
    """
    runs = open_run(first), open_run(second)
    _require_same_dataset(*runs)
    _warn_of_other_classes(*runs)
    of_first, of_second = map(_find_correct_rows, runs)
    shared = sorted(of_first.keys() & of_second.keys())
    if not shared:
        raise RunError(f"{first} and {second} have no test rows in common: their ids differ")
    a = np.asarray([of_first[id_] for id_ in shared])  # (n,)
    b = np.asarray([of_second[id_] for id_ in shared])  # (n,)
    accuracy = {"a": float(a.mean()), "b": float(b.mean())}
    return RunComparison(str(first), str(second), len(shared), accuracy, **asdict(mcnemar(a, b)))


def _require_same_dataset(first: Run, second: Run) -> None:
    datasets = [run.spec.dataset.images for run in (first, second)]
    if datasets[0] != datasets[1]:
        raise RunError(f"{first.folder} and {second.folder} are of different datasets: {datasets[0]} and {datasets[1]}")


def _warn_of_other_classes(first: Run, second: Run) -> None:
    if set(first.class_names) != set(second.class_names):
        logger.warning(
            "one run has %d classes and the other %d: they are compared on the test rows that both have",
            len(first.class_names),
            len(second.class_names),
        )


def _find_correct_rows(run: Run) -> dict[bytes, bool]:
    """Return, by id, whether a run's head classifies each test row correctly."""
    cache = run.open_cache()
    rows = stream_rows(cache, "test", run.selection)
    logits, labels = compute_all_logits(run.load_head(cache), rows)
    ids = cache.read_ids("test")
    if rows.classes:
        ids = ids[np.isin(cache.read_labels("test"), rows.classes)]
    is_correct = logits.argmax(axis=1) == labels  # (n,)
    return dict(zip(ids.tolist(), is_correct.tolist(), strict=True))
