"""Lists of runs."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tfl.errors import RunError
from tfl.files.paths import expand_user
from tfl.heads.trials import SettingValue
from tfl.runs.folder import Run, open_run
from tfl.runs.metrics import Interval

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunSummary:
    """One run in a list of runs; None where the run does not have it.

    Attributes:
      chosen: the setting that validation rows chose.
      cache: name of the cache file.
      classes: how many classes there are.
      views: how many views the head was trained on.
      accuracy: on the test rows.
      interval: the 95 % interval of the accuracy.
    """

    name: str
    recipe: str
    chosen: dict[str, SettingValue] | None
    cache: str
    classes: int
    views: int
    accuracy: float | None
    interval: Interval | None
    val_accuracy: float | None
    seconds: float | None


def list_runs(runs_dir: Path | str) -> list[RunSummary]:
    """Return the finished runs in a folder, by name; other folders are passed over."""
    return list(_summarize_runs(expand_user(runs_dir)))


def _summarize_runs(runs_dir: Path) -> Iterator[RunSummary]:
    for folder in sorted(runs_dir.iterdir()) if runs_dir.is_dir() else []:
        try:
            yield _summarize(open_run(folder))
        except RunError as error:
            logger.info("%s is passed over: %s", folder, str(error).split("\n", maxsplit=1)[0])


def _summarize(run: Run) -> RunSummary:
    record, metrics = run.record, run.metrics
    test, val = metrics.get("test"), metrics.get("val")
    return RunSummary(
        name=run.folder.name,
        recipe=record.recipe,
        chosen=record.chosen.setting if record.chosen else None,
        cache=Path(record.cache).name,
        classes=len(run.class_names),
        views=len(run.views),
        accuracy=test.accuracy if test else None,
        interval=test.accuracy_interval_95 if test else None,
        val_accuracy=val.accuracy if val else None,
        seconds=record.seconds,
    )
