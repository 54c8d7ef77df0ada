"""The pictures in a run folder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfl.heads.trials import Epoch, Trial
from tfl.runs.figures.confusion import draw_confusion_matrix
from tfl.runs.figures.learning_curves import draw_learning_curves
from tfl.runs.figures.trials import draw_trials
from tfl.runs.metrics import RoleMetrics


def draw_run(
    folder: Path,
    history: Sequence[Epoch],
    trials: Sequence[Trial],
    test: RoleMetrics | None,
) -> None:
    """Draw learning curves, trials and confusion matrix into a run folder, each if there is something to show."""
    if history:
        draw_learning_curves(history, folder.name, folder / "learning_curves.png")
    if len(trials) > 1:
        draw_trials(trials, folder.name, folder / "trials.png")
    if test is not None:
        confusion, names = np.asarray(test.confusion), list(test.accuracy_per_class)
        draw_confusion_matrix(confusion, names, _describe_accuracy(test), folder / "confusion_matrix.png")


def _describe_accuracy(test: RoleMetrics) -> str:
    if test.accuracy is None or test.accuracy_interval_95 is None:
        return "test accuracy undefined (no rows)"
    low, high = test.accuracy_interval_95
    interval = f"95 % interval {low:.2%} to {high:.2%}"
    return f"test accuracy {test.accuracy:.2%} ({interval}, n = {test.num_rows:,})"
