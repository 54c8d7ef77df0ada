"""Pictures of runs, and their curves for TensorBoard."""

import contextlib
import itertools
import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from tfl.errors import RunError
from tfl.text import shorten, to_printable

DOTS_PER_INCH = 120
MARKERS = "osD^vPX*"
MAX_BARS = 30
MAX_LETTERS = 40  # of a class name
MAX_CLASSES_APART = 60  # whose names a confusion matrix can show
BEST_COLOUR, BAR_COLOUR = "#1f77b4", "#b5cde3"


@contextlib.contextmanager
def _text_as_it_is() -> Iterator[None]:
    """Draw names as text: "$1_$5" is no formula, and a character that the font lacks is a box without a warning."""
    with rc_context({"text.parse_math": False}), warnings.catch_warnings():
        for message in ("Glyph ", "Matplotlib currently does not support "):
            warnings.filterwarnings("ignore", message, UserWarning)
        yield


text_as_it_is = _text_as_it_is()


@text_as_it_is
def draw_learning_curves(history: Sequence[Any], title: str, path: Path) -> None:
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
        axes.set(xlabel="epoch", ylabel=f"{name} ({unit})", xticks=epochs[:: math.ceil(len(epochs) / 10)])
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(to_printable(title))
    figure.savefig(path, dpi=DOTS_PER_INCH)


@text_as_it_is
def draw_confusion_matrix(confusion: np.ndarray, class_names: Sequence[str], title: str, path: Path) -> None:
    """Counts `(c, c)` of label (row) against predicted class (column), shaded by the share of the row."""
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)  # (c, c)
    size = 2.5 + 0.55 * min(len(class_names), MAX_CLASSES_APART)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(class_names) <= MAX_CLASSES_APART:
        ticks = range(len(class_names))
        labels = [shorten(to_printable(name), MAX_LETTERS) for name in class_names]
        axes.set_xticks(ticks, labels, rotation=45, ha="right")
        axes.set_yticks(ticks, labels)
    axes.set(xlabel="predicted", ylabel="label")
    if len(class_names) <= 30:
        for (row, column), count in np.ndenumerate(confusion):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    axes.set_title(to_printable(title))
    figure.savefig(path, dpi=DOTS_PER_INCH)


@text_as_it_is
def draw_shots(results: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Accuracy by training images of each class, one line a recipe, error bars of one standard deviation.

    Args:
      results: at least one, with `recipe`, `shots` (images of each class, at least 1), and of the accuracy, in 0..1,
        `mean` and `standard_deviation`.
    """
    figure = Figure(figsize=(7, 4.4), layout="constrained")
    axes = figure.subplots()
    recipes = list(dict.fromkeys(result["recipe"] for result in results))
    for place, (recipe, marker) in enumerate(zip(recipes, itertools.cycle(MARKERS))):
        of_recipe = sorted((r for r in results if r["recipe"] == recipe), key=lambda result: result["shots"])
        aside = 1.02 ** (place - (len(recipes) - 1) / 2)  # so that bars at the same shots stand side by side
        axes.errorbar(
            [aside * result["shots"] for result in of_recipe],
            [100 * result["mean"] for result in of_recipe],
            [100 * result["standard_deviation"] for result in of_recipe],
            marker=marker,
            markersize=5,
            linewidth=1.5,
            capsize=3,
            label=recipe,
        )
    shots = sorted({result["shots"] for result in results})
    axes.set_xscale("log")
    axes.set_xticks(shots, [f"{count:,}" for count in shots])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="training images of each class", ylabel="accuracy (%), mean ± standard deviation", title=title)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=DOTS_PER_INCH)


@text_as_it_is
def draw_trials(trials: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Validation accuracy of the best trials, at most thirty, as bars, the best one on top and marked.

    The axis begins shortly below the worst bar.

    Args:
      trials: at least one, with `recipe`, `setting` (words), `val_accuracy` (finite, 0..1), `seconds` and perhaps
        `val_loss`, which decides among equals.
    """
    best = sorted(trials, key=lambda trial: (-trial["val_accuracy"], trial.get("val_loss", 0.0)))[:MAX_BARS]
    accuracies = [100 * trial["val_accuracy"] for trial in best]
    names = [to_printable(f"{trial['recipe']}  {trial['setting']}") for trial in best]
    words = [f"{accuracy:.2f} %, {trial['seconds']:,.1f} s" for accuracy, trial in zip(accuracies, best, strict=True)]
    figure = Figure(figsize=(5 + 0.075 * max(map(len, names)), 1.2 + 0.25 * len(best)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(range(len(best)), accuracies, color=[BEST_COLOUR] + [BAR_COLOUR] * (len(best) - 1))
    texts = axes.bar_label(bars, words, padding=4, fontsize=8)
    axes.set_yticks(range(len(best)), names, fontsize=8)
    for text in (texts[0], axes.get_yticklabels()[0]):
        text.set_fontweight("bold")
    low, high = _zoomed(accuracies)
    axes.set(xlim=(low, high), ylim=(len(best) - 0.4, -0.6), xlabel="validation accuracy (%)")
    axes.set_xticks([tick for tick in axes.get_xticks() if low <= tick <= min(high, 100.01)])
    axes.set_title(to_printable(title) + (f" (best {len(best)} of {len(trials)})" if len(trials) > len(best) else ""))
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    figure.savefig(path, dpi=DOTS_PER_INCH)


@text_as_it_is
def draw_break_even(by_epoch: Mapping[str, Sequence[float]], title: str, path: Path) -> None:
    """Cumulative hours over epochs, one line a form: where a line crosses another, that form begins to pay.

    Args:
      by_epoch: seconds after 0, 1, 2... epochs.
    """
    figure = Figure(figsize=(7, 4.4), layout="constrained")
    axes = figure.subplots()
    for (form, seconds), marker in zip(by_epoch.items(), itertools.cycle(MARKERS)):
        hours = [each / 3600 for each in seconds]
        axes.plot(range(len(hours)), hours, marker=marker, markersize=5, label=f"{form}, {hours[-1]:.3g} h")
    axes.set(xlabel="epochs", ylabel="hours since the start", title=title)
    axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=DOTS_PER_INCH)


def _zoomed(accuracies: Sequence[float]) -> tuple[float, float]:
    """Limits of an axis in %: from below the worst bar, to where the words beside the best one have room."""
    worst, best = min(accuracies), max(accuracies)
    low = max(0.0, math.floor(worst - 0.3 * max(best - worst, 1)))
    return low, best + 0.4 * max(best - low, 1)


def require_tensorboard() -> None:
    """Refuse before the work where TensorBoard's files cannot be written.

    Raises:
      RunError: TensorFlow is not installed.
    """
    try:
        import tensorflow  # noqa: F401
    except ImportError as error:
        raise RunError(f"TensorBoard's files need TensorFlow ({error}); pip install tensorflow") from error


def write_tensorboard(history: Sequence[Any], metrics: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Write a run's curves and final metrics into `folder`, made if needed, as one file that TensorBoard reads.

    Tags are the keys of `history`, at the step of their epoch, and `ROLE/accuracy` and `ROLE/loss` at the last epoch.
    The records are written as they are, without TensorFlow's summary operations, which would claim a GPU's memory.

    Args:
      history: one mapping an epoch, with `epoch`, `loss`, `accuracy` and perhaps `val_loss`, `val_accuracy`.
      metrics: of each role, with `accuracy` and `loss`.

    Raises:
      RunError: TensorFlow is not installed.
    """
    require_tensorboard()
    import tensorflow as tf

    now = time.time()  # seconds since 1970
    folder.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / f"events.out.tfevents.{int(now)}.tfl")) as writer:
        writer.write(tf.compat.v1.Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
        for step, tag, value in _scalars(history, metrics):
            summary = tf.compat.v1.Summary(value=[tf.compat.v1.Summary.Value(tag=tag, simple_value=value)])
            writer.write(tf.compat.v1.Event(wall_time=now, step=step, summary=summary).SerializeToString())


def _scalars(history: Sequence[Any], metrics: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[int, str, float]]:
    """Step, tag and value of each point."""
    for entry in history:
        for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
            if name in entry:
                yield entry["epoch"], name, entry[name]
    last = history[-1]["epoch"] if history else 0
    for role, of_role in metrics.items():
        for name in ("accuracy", "loss"):
            if of_role[name] is not None:  # undefined: there were no rows
                yield last, f"{role}/{name}", of_role[name]
