import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from tfl.errors import RunError
from tfl.heads.trials import Epoch, Trial
from tfl.runs.few_shot_record import FewShotResult
from tfl.runs.figures.confusion import draw_confusion_matrix
from tfl.runs.figures.few_shot import draw_few_shot
from tfl.runs.figures.learning_curves import draw_learning_curves
from tfl.runs.figures.style import DOTS_PER_INCH
from tfl.runs.figures.trials import MAX_BARS, draw_trials
from tfl.runs.metrics import RoleMetrics
from tfl.runs.tensorboard import write_events


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved, in order."""
    figures, save = [], Figure.savefig

    def keep(figure, *args, **kwargs):
        figures.append(figure)
        save(figure, *args, **kwargs)
        figure.set_dpi(DOTS_PER_INCH)
        figure.draw_without_rendering()  # so that extents are those of the file

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def assert_words_stand_inside(figure):
    words = [*figure.axes[0].texts, *figure.axes[0].get_yticklabels(), *figure.axes[0].get_xticklabels()]
    for text in filter(lambda text: text.get_text(), words):
        box = text.get_window_extent()
        assert box.x0 >= 0, text
        assert box.x1 <= figure.bbox.x1, text
    for text in figure.axes[0].texts:
        assert text.get_window_extent().x1 <= figure.axes[0].get_window_extent().x1, text


def shots(recipe, *means):
    return [
        FewShotResult(recipe, count, mean, standard_deviation=0.02, accuracies=[], seconds=1.0)
        for count, mean in zip((1, 10, 1000), means, strict=False)
    ]


def test_shots_picture(drawn, tmp_path):
    results = [*shots("reference", 0.4, 0.6, 0.8), *shots("logistic", 0.5, 0.7)]
    draw_few_shot(results[::-1], "five draws", tmp_path / "shots.png")
    (axes,) = drawn[0].axes
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "10", "1,000"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["logistic", "reference"]
    logistic, reference = (container.lines[0] for container in axes.containers)
    np.testing.assert_allclose(logistic.get_ydata(orig=False), [50, 70])
    np.testing.assert_allclose(reference.get_xdata(orig=False), [1, 10, 1000], rtol=0.02)
    (low, high), *_ = axes.containers[1].lines[2][0].get_segments()
    np.testing.assert_allclose([low[1], high[1]], [38, 42])
    with Image.open(tmp_path / "shots.png") as image:
        assert image.width > 600


def trials(*accuracies):
    return [
        Trial(recipe="reference", setting={"learning_rate": i}, val_accuracy=accuracy, seconds=1.25 + i)
        for i, accuracy in enumerate(accuracies)
    ]


def test_trials_picture_has_the_best_first(drawn, tmp_path):
    draw_trials(trials(0.5, 0.9, 0.7), "trials", tmp_path / "trials.png")
    (axes,) = drawn[0].axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [f"reference  learning_rate {i}" for i in (1, 2, 0)]
    assert axes.yaxis_inverted()
    assert [text.get_text() for text in axes.texts] == ["90.00 %, 2.2 s", "70.00 %, 3.2 s", "50.00 %, 1.2 s"]
    colours = [bar.get_facecolor() for bar in axes.patches]
    assert colours[0] != colours[1] == colours[2]
    assert axes.get_title() == "trials"
    assert_words_stand_inside(drawn[0])


def test_trials_picture_leaves_out_all_but_the_best(drawn, tmp_path):
    draw_trials(trials(*np.linspace(0.8, 0.9, 45)), "trials", tmp_path / "trials.png")
    (axes,) = drawn[0].axes
    assert len(axes.patches) == MAX_BARS
    assert axes.get_title() == "trials (best 30 of 45)"
    boxes = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert all(upper.y0 >= lower.y1 - 1 for upper, lower in pairwise(boxes))  # pixels


@pytest.mark.parametrize("accuracies", [[0.0], [1.0], [1.0, 0.999], [0.93, 0.1], [0.5] * 3])
def test_trials_picture_of_any_accuracies(accuracies, drawn, tmp_path):
    long = [replace(trial, setting={"weight_decay": "0.0001 " * 16}) for trial in trials(*accuracies)]
    for found in (trials(*accuracies), long):
        draw_trials(found, "trials", tmp_path / "trials.png")
        assert_words_stand_inside(drawn[-1])
        assert drawn[-1].axes[0].get_window_extent().width > 200  # pixels
        assert all(0 <= tick <= 100.01 for tick in drawn[-1].axes[0].get_xticks())


HISTORY = [
    Epoch(1, loss=1.5, accuracy=0.5, val_loss=1.25, val_accuracy=0.625, seconds=3.0),
    Epoch(2, loss=0.5, accuracy=0.75, val_loss=0.75, val_accuracy=0.5, seconds=3.0),
]


def read_events(folder):
    import tensorflow as tf

    (path,) = folder.iterdir()
    assert "tfevents" in path.name  # what TensorBoard looks for
    events = [tf.compat.v1.Event.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(path))]
    assert events[0].file_version == "brain.Event:2"
    return [(event.step, value.tag, value.simple_value) for event in events[1:] for value in event.summary.value]


def measured(accuracy, loss):
    return RoleMetrics(accuracy=accuracy, accuracy_interval_95=None, num_rows=8, loss=loss, accuracy_per_class={})


def test_tensorboard_events_read_back(tmp_path):
    metrics = {"val": measured(accuracy=0.5, loss=0.75), "test": measured(accuracy=0.25, loss=2.0)}
    write_events(HISTORY, metrics, tmp_path / "run" / "tensorboard")
    assert read_events(tmp_path / "run" / "tensorboard") == [
        (1, "loss", 1.5),
        (1, "accuracy", 0.5),
        (1, "val_loss", 1.25),
        (1, "val_accuracy", 0.625),
        (2, "loss", 0.5),
        (2, "accuracy", 0.75),
        (2, "val_loss", 0.75),
        (2, "val_accuracy", 0.5),
        (2, "val/accuracy", 0.5),
        (2, "val/loss", 0.75),
        (2, "test/accuracy", 0.25),
        (2, "test/loss", 2.0),
    ]


def test_tensorboard_without_validation_or_epochs(tmp_path):
    write_events([Epoch(1, loss=1.5, accuracy=0.5)], {}, tmp_path / "one")
    assert read_events(tmp_path / "one") == [(1, "loss", 1.5), (1, "accuracy", 0.5)]
    write_events([], {"test": measured(accuracy=0.25, loss=2.0)}, tmp_path / "none")
    assert read_events(tmp_path / "none") == [(0, "test/accuracy", 0.25), (0, "test/loss", 2.0)]


def test_tensorboard_without_tensorflow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(RunError, match="TensorBoard's files need TensorFlow .*; pip install tensorflow"):
        write_events(HISTORY, {}, tmp_path / "tensorboard")
    assert not (tmp_path / "tensorboard").exists()


def test_any_name_is_drawn_as_text_and_without_a_warning(drawn, tmp_path):
    names = ["$x^$", "\x1b[31m\x00", "a\nb\u202e", "犬 \u0628 🐕", "\ud800\udce9", "long " * 100, ""]
    draw_confusion_matrix(np.eye(len(names), dtype=int), names, "run $_{\x07", tmp_path / "confusion.png")
    draw_learning_curves(HISTORY, "$\n\x1b", tmp_path / "curves.png")
    draw_trials([replace(trials(0.5)[0], setting={"$x^\x1b": 1})], "\ud800", tmp_path / "trials.png")
    (axes,) = drawn[0].axes
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert shown[:3] == ["$x^$", "\\x1b[31m\\x00", "a\\nb\\u202e"]
    assert max(map(len, shown)) == 40
    assert axes.get_title() == "run $_{\\x07"
    assert drawn[1].get_suptitle() == "$\\n\\x1b"
