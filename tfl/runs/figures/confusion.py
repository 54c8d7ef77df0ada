"""A confusion matrix: which classes are predicted as which."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tfl.runs.figures.style import plain_text, save
from tfl.text import shorten, to_printable

MAX_LETTERS = 40  # of a class name
MAX_NAMED_CLASSES = 60  # with more there is no room for their names
MAX_COUNTED_CLASSES = 30  # with more there is no room for the counts


@plain_text
def draw_confusion_matrix(confusion: np.ndarray, class_names: Sequence[str], title: str, path: Path) -> None:
    """Draw counts `(c, c)` of label (row) and predicted class (column), shaded by the share of the row."""
    row_sums = np.maximum(confusion.sum(axis=1, keepdims=True), 1)  # (c, 1)
    shares = confusion / row_sums  # (c, c)
    size = 2.5 + 0.55 * min(len(class_names), MAX_NAMED_CLASSES)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="label")
    if len(class_names) <= MAX_NAMED_CLASSES:
        _write_names(axes, class_names)
    if len(class_names) <= MAX_COUNTED_CLASSES:
        _write_counts(axes, confusion, shares)
    axes.set_title(to_printable(title))
    save(figure, path)


def _write_names(axes: Axes, class_names: Sequence[str]) -> None:
    labels = [shorten(to_printable(name), MAX_LETTERS) for name in class_names]
    ticks = range(len(labels))
    axes.set_xticks(ticks, labels, rotation=45, ha="right")
    axes.set_yticks(ticks, labels)


def _write_counts(axes: Axes, confusion: np.ndarray, shares: np.ndarray) -> None:
    for (row, column), count in np.ndenumerate(confusion):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
