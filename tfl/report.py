"""Pictures of a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tfl.metrics import Metrics

DOTS_PER_INCH = 120


def learning_curves(history: Sequence[Any], title: str, path: Path) -> None:
    """Loss and accuracy by epoch, training and, where there is one, validation.

    Args:
      history: one mapping an epoch, with `epoch`, `loss`, `accuracy` and perhaps `val_loss`, `val_accuracy`.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    epochs = [entry["epoch"] for entry in history]
    for axes, name, unit in zip(figure.subplots(1, 2), ("loss", "accuracy"), ("nats", "share"), strict=True):
        for key, label in ((name, "training (running mean)"), (f"val_{name}", "validation")):
            if key in history[0]:
                axes.plot(epochs, [entry[key] for entry in history], marker="o", markersize=3, label=label)
        axes.set(xlabel="epoch", ylabel=f"{name} ({unit})", xticks=epochs if len(epochs) <= 20 else epochs[::10])
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=DOTS_PER_INCH)


def confusion_matrix(metrics: Metrics, class_names: Sequence[str], title: str, path: Path) -> None:
    """Counts of label (row) against predicted class (column), shaded by the share of the row."""
    shares = metrics.confusion / np.maximum(metrics.confusion.sum(axis=1, keepdims=True), 1)  # (c, c)
    size = 2.5 + 0.55 * len(class_names)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(class_names))
    axes.set_xticks(ticks, class_names, rotation=45, ha="right")
    axes.set_yticks(ticks, class_names)
    axes.set(xlabel="predicted", ylabel="label")
    if len(class_names) <= 30:
        for (row, column), count in np.ndenumerate(metrics.confusion):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    axes.set_title(title)
    figure.savefig(path, dpi=DOTS_PER_INCH)
