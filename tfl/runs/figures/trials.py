"""Trials: the validation accuracy of each setting that was tried."""

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tfl.heads.trials import Trial
from tfl.runs.figures.style import plain_text, save
from tfl.runs.history import format_setting
from tfl.text import to_printable

MAX_BARS = 30
BEST_COLOUR, BAR_COLOUR = "#1f77b4", "#b5cde3"


@plain_text
def draw_trials(trials: Sequence[Trial], title: str, path: Path) -> None:
    """Draw the validation accuracy of the best trials, at most thirty, as bars; the best is on top and marked.

    The axis begins shortly below the worst bar.

    Args:
      trials: at least one; those without a validation accuracy are left out.
    """
    measured = [trial for trial in trials if trial.val_accuracy is not None]
    best = sorted(measured, key=lambda trial: (-_get_accuracy(trial), trial.val_loss or 0.0))[:MAX_BARS]
    names = [to_printable(f"{trial.recipe}  {format_setting(trial.setting)}") for trial in best]
    size = (5 + 0.075 * max(map(len, names)), 1.2 + 0.25 * len(best))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    _draw_bars(axes, best, names)
    count = f" (best {len(best)} of {len(trials)})" if len(trials) > len(best) else ""
    axes.set_title(to_printable(title) + count)
    save(figure, path)


def _get_accuracy(trial: Trial) -> float:
    """Return the validation accuracy in %."""
    assert trial.val_accuracy is not None
    return 100 * trial.val_accuracy


def _draw_bars(axes: Axes, trials: Sequence[Trial], names: Sequence[str]) -> None:
    accuracies = list(map(_get_accuracy, trials))
    words = [f"{_get_accuracy(trial):.2f} %, {trial.seconds or 0:,.1f} s" for trial in trials]
    colours = [BEST_COLOUR] + [BAR_COLOUR] * (len(trials) - 1)
    bars = axes.barh(range(len(trials)), accuracies, color=colours)
    texts = axes.bar_label(bars, words, padding=4, fontsize=8)
    axes.set_yticks(range(len(trials)), names, fontsize=8)
    for text in (texts[0], axes.get_yticklabels()[0]):
        text.set_fontweight("bold")
    low, high = _choose_limits(accuracies)
    axes.set(xlim=(low, high), ylim=(len(trials) - 0.4, -0.6), xlabel="validation accuracy (%)")
    axes.set_xticks([tick for tick in axes.get_xticks() if low <= tick <= min(high, 100.01)])
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)


def _choose_limits(accuracies: Sequence[float]) -> tuple[float, float]:
    """Return limits of the axis in %: from below the worst bar to where the words beside the best one have room."""
    worst, best = min(accuracies), max(accuracies)
    low = max(0.0, math.floor(worst - 0.3 * max(best - worst, 1)))
    return low, best + 0.4 * max(best - low, 1)
