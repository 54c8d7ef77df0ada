"""A picture of the break-even: cumulative hours over epochs."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from tfl.runs.figures.style import MARKERS, plain_text, save


@plain_text
def draw_break_even(seconds_by_epoch: Mapping[str, Sequence[float]], title: str, path: Path) -> None:
    """Draw cumulative hours over epochs, one line a program: where a line falls below another, that program pays off.

    Args:
      seconds_by_epoch: of each program, the seconds after 0, 1, 2... epochs.
    """
    figure = Figure(figsize=(7, 4.4), layout="constrained")
    axes = figure.subplots()
    for (name, seconds), marker in zip(seconds_by_epoch.items(), itertools.cycle(MARKERS)):
        hours = [each / 3600 for each in seconds]
        axes.plot(
            range(len(hours)),
            hours,
            marker=marker,
            markersize=5,
            label=f"{name}, {hours[-1]:.3g} h",
        )
    axes.set(xlabel="epochs", ylabel="hours since the start", title=title)
    axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, path)
