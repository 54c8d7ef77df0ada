"""Learning curves: loss and accuracy by epoch."""

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tfl.heads.trials import Epoch
from tfl.runs.figures.style import plain_text, save
from tfl.text import to_printable

MAX_TICKS = 10
UNITS = {"loss": "nats", "accuracy": "share"}
CURVES = {"": "training (running mean)", "val_": "validation"}  # by the prefix of their fields


@plain_text
def draw_learning_curves(history: Sequence[Epoch], title: str, path: Path) -> None:
    """Draw loss and accuracy by epoch: training and, if there is one, validation.

    Args:
      history: one epoch at least.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), UNITS, strict=True):
        _draw_curves(axes, history, name)
    figure.suptitle(to_printable(title))
    save(figure, path)


def _draw_curves(axes: Axes, history: Sequence[Epoch], name: str) -> None:
    epochs = [entry.epoch for entry in history]
    for prefix, label in CURVES.items():
        values = [getattr(entry, prefix + name) for entry in history]
        if values[0] is not None:
            axes.plot(epochs, values, marker="o", markersize=3, label=label)
    ticks = epochs[:: math.ceil(len(epochs) / MAX_TICKS)]
    axes.set(xlabel="epoch", ylabel=f"{name} ({UNITS[name]})", xticks=ticks)
    axes.grid(alpha=0.3)
    axes.legend()
