"""A few-shot study: accuracy by the number of training images per class."""

import itertools
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from tfl.runs.few_shot_record import FewShotResult
from tfl.runs.figures.style import MARKERS, plain_text, save

SHIFT = 1.02  # factor between the recipes' error bars, so that they stand side by side


@plain_text
def draw_few_shot(results: Sequence[FewShotResult], title: str, path: Path) -> None:
    """Draw accuracy by training images per class: one line a recipe, error bars of one standard deviation."""
    figure = Figure(figsize=(7, 4.4), layout="constrained")
    axes = figure.subplots()
    recipes = list(dict.fromkeys(result.recipe for result in results))
    middle = (len(recipes) - 1) / 2
    for place, (recipe, marker) in enumerate(zip(recipes, itertools.cycle(MARKERS))):
        of_recipe = [result for result in results if result.recipe == recipe]
        _draw_recipe(axes, of_recipe, marker, SHIFT ** (place - middle))
    _mark_shots(axes, sorted({result.shots for result in results}))
    axes.set(
        xlabel="training images of each class",
        ylabel="accuracy (%), mean ± standard deviation",
        title=title,
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    save(figure, path)


def _draw_recipe(axes: Axes, results: Sequence[FewShotResult], marker: str, shift: float) -> None:
    ordered = sorted(results, key=lambda result: result.shots)
    axes.errorbar(
        [shift * result.shots for result in ordered],
        [100 * result.mean for result in ordered],
        [100 * result.standard_deviation for result in ordered],
        marker=marker,
        markersize=5,
        linewidth=1.5,
        capsize=3,
        label=ordered[0].recipe,
    )


def _mark_shots(axes: Axes, shots: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(shots, [f"{count:,}" for count in shots])
    axes.xaxis.set_minor_locator(NullLocator())
