import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from conftest import write_npz
from PIL import Image

from tfl import engine
from tfl.cache import CachedRows, Cost, PartialCache, open_cache
from tfl.errors import CacheError, RunError
from tfl.extraction.precompute import precompute
from tfl.files.codec import encode_record
from tfl.heads import Best, Knn, Logistic, Mlp, Reference, Ridge
from tfl.runs.checksums import write_checksums
from tfl.runs.evaluation import compare_runs, evaluate
from tfl.runs.folder import open_run, remove_run
from tfl.runs.json_files import write_json
from tfl.runs.listing import list_runs
from tfl.runs.memory import estimate_bytes
from tfl.runs.reproduction import reproduce
from tfl.runs.tensorboard import write_tensorboard
from tfl.runs.training import train
from tfl.specs import CacheSpec, DatasetSpec, FeatureSpec
from tfl.specs.training import Selection

pytestmark = pytest.mark.usefixtures("tiny_backbone")


@pytest.fixture
def cache(features, dataset, settings):
    return precompute(features, replace(dataset, val_split="train[60:]", train_split="train[:60]"), settings)


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


def test_a_run_folder_is_whole(cache, runs):
    folder = train(cache, Reference(epochs=4, learning_rate=0.1), runs_dir=runs)
    assert folder == runs / f"{cache.stem}-reference-1"
    assert sorted(path.name for path in folder.iterdir()) == [
        "checksums.json",
        "confusion_matrix.png",
        "head.keras",
        "history.json",
        "learning_curves.png",
        "metrics.json",
        "run.json",
    ]
    history = json.loads((folder / "history.json").read_text())
    assert [epoch["epoch"] for epoch in history] == [1, 2, 3, 4]
    assert set(history[0]) == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds"}
    description = json.loads((folder / "run.json").read_text())
    assert description["settings"]["learning_rate"] == 0.1
    assert description["fingerprint"] == open_cache(cache).spec.fingerprint
    assert [path.name for path in runs.iterdir()] == [folder.name]
    for picture in folder.glob("*.png"):
        with Image.open(picture) as image:
            assert image.width > 300


def test_what_does_not_fit_is_streamed_and_said(cache, runs, monkeypatch, caplog):
    in_memory = train(cache, Reference(epochs=10, learning_rate=0.1), runs_dir=runs)
    assert open_run(in_memory).record.streamed is False
    num_bytes = 70 * open_cache(cache).num_features * 4  # of train and val
    monkeypatch.setattr(engine, "available_memory", lambda: 3 * num_bytes - 1)
    with caplog.at_level("INFO"):
        streamed = train(cache, Reference(epochs=10, learning_rate=0.1), runs_dir=runs)
    assert f"the {num_bytes:,} bytes of features in {cache} do not fit into the memory available" in caplog.text
    assert "rows are shuffled by chunk" in caplog.text
    assert open_run(streamed).record.streamed is True
    assert evaluate(streamed) == open_run(streamed).metrics["test"]
    accuracies = [open_run(folder).metrics["test"].accuracy for folder in (in_memory, streamed)]
    assert accuracies[1] == pytest.approx(accuracies[0], abs=0.1)
    monkeypatch.setattr(engine, "available_memory", lambda: 3 * num_bytes)
    fits = train(cache, Reference(epochs=1), runs_dir=runs)
    assert open_run(fits).record.streamed is False


# What TensorFlow maps at its start (some 2 GB of address space) and its threads are there before the limit is set.
TRAIN_IN_LITTLE_MEMORY = """
import resource
from pathlib import Path
from tfl import engine
from tfl.runs.folder import open_run
from tfl.runs.training import train
from tfl.cache import open_cache
from tfl.heads import Reference

def is_streamed(name):
    folder = train(Path(name), Reference(epochs=1), runs_dir=Path("runs"))
    return open_run(folder).record.streamed

assert not is_streamed("small.h5")
mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limit = mapped + {room}
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
assert engine.available_memory() <= {room}
assert is_streamed("large.h5")
try:
    open_cache(Path("large.h5")).read("train")
except MemoryError:
    print("the limit is real")
"""


def write_large(path, counts, shard_rows=8192):
    """A cache of so many rows of 2048 float32 in each role, cheap to make."""
    spec = CacheSpec(FeatureSpec(weights="sha256:ab"), DatasetSpec(version="1"))
    partial = PartialCache(path, spec, counts, {"shard_rows": shard_rows})
    with partial.hold():
        for shard in partial.missing():
            rng = np.random.default_rng(shard.start)
            rows = shard.stop - shard.start
            ids = np.array([f"{shard.role}_{i}".encode() for i in range(shard.start, shard.stop)])
            features = rng.random((rows, 2048), np.float32)
            partial.write(shard, CachedRows(features, rng.integers(0, 3, rows), ids), Cost(1, rows))
        partial.finish(("a", "b", "c"), {"typed": {"dataset": "x", "weights": "x"}})


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is kept, and /proc is there, on Linux alone")
def test_a_cache_of_one_gibibyte_is_trained_on_in_a_quarter_of_it(tmp_path):
    """256 MiB beyond what is mapped at the start; a block of 64 MiB stands there once as read, twice as a tensor."""
    write_large(tmp_path / "small.h5", {"train": 1024, "test": 256})
    write_large(tmp_path / "large.h5", {"train": 3 << 15, "test": 1 << 15})
    program = TRAIN_IN_LITTLE_MEMORY.format(room=256 << 20)
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    (tmp_path / "large.h5").unlink()
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "the limit is real"


def test_evaluate_repeats_what_training_measured(cache, runs):
    folder = train(cache, Reference(epochs=10, learning_rate=0.1), runs_dir=runs)
    metrics = evaluate(folder)
    assert metrics == open_run(folder).metrics["test"]
    rows = open_cache(cache).read("test")
    kernel, bias = open_run(folder).load_head().get_weights()
    predicted = (rows.features @ np.asarray(kernel) + np.asarray(bias)).argmax(axis=1)
    assert metrics.accuracy == np.mean(predicted == rows.labels)
    assert metrics.num_rows == 40


def test_names_are_numbered_or_refused(cache, runs):
    recipe = Reference(epochs=1)
    first, second = (train(cache, recipe, runs_dir=runs) for _ in range(2))
    assert (first.name[-2:], second.name[-2:]) == ("-1", "-2")
    train(cache, recipe, name="mine", runs_dir=runs)
    with pytest.raises(RunError, match="there is a run .*mine already; choose another --name or remove it"):
        train(cache, recipe, name="mine", runs_dir=runs)


def test_two_trainings_at_once_leave_two_runs(cache, runs, monkeypatch, caplog):
    recipe, before = Reference(epochs=1), Reference.fit

    def while_another_ends(*args):
        monkeypatch.setattr(Reference, "fit", before)
        train(cache, recipe, runs_dir=runs)
        return before(*args)

    monkeypatch.setattr(Reference, "fit", while_another_ends)
    second = train(cache, recipe, runs_dir=runs)
    assert second.name.endswith("-reference-2")
    assert evaluate(second) == evaluate(second.with_name(f"{second.name[:-1]}1"))
    assert f"this run is {second}" in caplog.text


def test_memory_that_does_not_suffice_is_said(cache, runs, monkeypatch):
    def failing(*args):
        raise MemoryError("no room")

    monkeypatch.setattr(Reference, "fit", failing)
    with pytest.raises(RunError, match="not suffice for the recipe reference on .* bytes of features.*fewer --views"):
        train(cache, Reference(), runs_dir=runs)
    assert not list(runs.glob("*"))


def test_run_and_cache_can_move_together(cache, runs, tmp_path):
    folder = train(cache, Reference(epochs=1), runs_dir=runs)
    expected = evaluate(folder)
    (tmp_path / "elsewhere").mkdir()
    runs.rename(tmp_path / "elsewhere" / "runs")
    cache.parent.rename(tmp_path / "elsewhere" / "cache")
    assert evaluate(tmp_path / "elsewhere" / "runs" / folder.name) == expected


def test_cache_that_is_gone_or_replaced(cache, runs, features, dataset, settings):
    folder = train(cache, Reference(epochs=1), runs_dir=runs)
    other = precompute(replace(features, image_size=16), dataset, settings)
    cache.unlink()
    with pytest.raises(RunError, match="which is gone; put it back, or precompute and train again"):
        evaluate(folder)
    other.rename(cache)
    with pytest.raises(CacheError, match="image_size: 16 on disk, 12 requested"):
        evaluate(folder)


def test_failed_training_leaves_nothing(cache, runs):
    with pytest.raises(RunError, match="the loss is"):
        train(cache, Reference(learning_rate=1e38, epochs=4), runs_dir=runs)
    assert list(runs.iterdir()) == []


def test_no_training_rows(features, dataset, settings, runs, monkeypatch):
    cache = precompute(features, replace(dataset, train_split=""), settings)
    with pytest.raises(CacheError, match="has no train rows"):
        train(cache, runs_dir=runs)
    monkeypatch.setattr(engine, "available_memory", lambda: 0)
    with pytest.raises(CacheError, match="has no train rows"):
        train(cache, runs_dir=runs)


def test_no_test_rows(features, dataset, settings, runs):
    cache = precompute(features, replace(dataset, test_split=""), settings)
    folder = train(cache, Reference(epochs=1), runs_dir=runs)
    assert open_run(folder).metrics == {}
    with pytest.raises(CacheError, match="has no test rows; it has train. Precompute again with --test-split"):
        evaluate(folder)


def test_folders_that_are_no_runs(tmp_path):
    with pytest.raises(RunError, match="is not a run folder: it has no run.json"):
        open_run(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RunError, match="is not JSON as tfl writes it"):
        open_run(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(RunError, match="does not describe a run; expected the keys cache, "):
        open_run(tmp_path)
    with pytest.raises(RunError, match="is not a run folder"):
        open_run(tmp_path / "run.json")


def test_runs_folder_that_is_a_link(cache, runs, tmp_path):
    (tmp_path / "far" / "away").mkdir(parents=True)
    runs.symlink_to(tmp_path / "far" / "away")
    assert evaluate(train(cache, Reference(epochs=1), runs_dir=runs)).num_rows == 40


def test_a_name_is_no_path(cache, runs):
    with pytest.raises(RunError, match="one folder name in .*, got 'a/b'"):
        train(cache, name="a/b", runs_dir=runs)


# ---- recipes that choose, views, classes


@pytest.fixture
def colours(features, dataset, settings):
    """A cache without val rows, of two views."""
    return precompute(features, dataset, settings, views=("original", "hflip"))


def test_a_run_that_chose_is_whole(colours, runs):
    folder = train(colours, Logistic(), runs_dir=runs)
    assert sorted(path.name for path in folder.iterdir()) == [
        "checksums.json",
        "confusion_matrix.png",
        "head.keras",
        "metrics.json",
        "run.json",
        "trials.json",
        "trials.png",
    ]
    found = open_run(folder)
    trials = json.loads((folder / "trials.json").read_text())
    assert encode_record(found.record.chosen) in [{**trial, "begun": 1} for trial in trials]
    assert found.record.chosen.val_accuracy == max(trial["val_accuracy"] for trial in trials)
    assert found.views == ("original", "hflip")
    assert found.recipe == Logistic()
    assert set(found.metrics) == {"val", "test"}
    assert found.metrics["val"].num_rows == 7, "a tenth of 70"
    assert evaluate(folder) == found.metrics["test"]


def test_lists_of_numbers_stand_on_one_line(tmp_path):
    values = {
        "confusion": [[1, 0], [0, 22]],
        "names": ["[1,  2]", "a\n[1"],
        "of": [None, 0.5],
        "empty": [],
        "loss": [-1e-05],
    }
    write_json(tmp_path / "metrics.json", values)
    text = (tmp_path / "metrics.json").read_text()
    assert json.loads(text) == values
    assert "    [1, 0],\n    [0, 22]\n" in text


def test_metrics_are_of_the_mean_of_the_views(colours, runs):
    folder = train(colours, Ridge(), runs_dir=runs)
    cache = open_cache(colours)
    features = (cache.read_view("test", "original") + cache.read_view("test", "hflip")) / 2
    kernel, bias = open_run(folder).load_head().get_weights()
    expected = np.mean((features @ np.asarray(kernel) + np.asarray(bias)).argmax(axis=1) == cache.read_labels("test"))
    assert evaluate(folder).accuracy == pytest.approx(expected)
    of_one = train(colours, Ridge(), Selection(views=("hflip",)), runs_dir=runs)
    assert open_run(of_one).views == ("hflip",)
    assert not np.array_equal(open_run(of_one).load_head().get_weights()[0], kernel)


def test_a_view_that_the_cache_lacks(cache, runs):
    with pytest.raises(CacheError, match="hflip.*--views original hflip"):
        train(cache, Ridge(), Selection(views=("original", "hflip")), runs_dir=runs)


def test_the_reference_draws_a_view_and_is_streamed_the_same(colours, runs, monkeypatch):
    in_memory = train(colours, Reference(epochs=10, learning_rate=0.1), runs_dir=runs)
    monkeypatch.setattr(engine, "available_memory", lambda: 0)
    streamed = train(colours, Reference(epochs=10, learning_rate=0.1), runs_dir=runs)
    accuracies = [open_run(folder).metrics["test"].accuracy for folder in (in_memory, streamed)]
    assert accuracies[1] == pytest.approx(accuracies[0], abs=0.15)
    assert min(accuracies) > 0.5
    with pytest.raises(RunError, match="the recipe ridge needs about .* bytes of memory .* 0 are available"):
        train(colours, Ridge(), runs_dir=runs)


def test_each_recipe_asks_for_the_memory_that_it_takes(colours, runs, monkeypatch):
    needed = estimate_bytes(open_cache(colours), Selection(), Ridge.memory_copies)
    monkeypatch.setattr(engine, "available_memory", lambda: needed)
    train(colours, Ridge(), runs_dir=runs)
    with pytest.raises(RunError, match=f"the recipe knn needs .* and {needed:,} are available"):
        train(colours, Knn(), runs_dir=runs)


@pytest.mark.parametrize("recipe", [Reference(epochs=30, learning_rate=0.1), Logistic()])
def test_two_of_the_classes(colours, runs, recipe):
    """The article's worked example has two classes."""
    selection = Selection(classes=("blue", "red"), class_weight="balanced")
    folder = train(colours, recipe, selection, runs_dir=runs)
    metrics = evaluate(folder)
    labels = open_cache(colours).read_labels("test")
    assert metrics.num_rows == np.isin(labels, [0, 2]).sum()
    assert list(metrics.accuracy_per_class) == ["blue", "red"]
    assert metrics.accuracy > 0.6
    assert 0.5 < metrics.roc_auc <= 1
    assert open_run(folder).load_head().output_shape == (None, 2)
    if recipe == Logistic():
        assert metrics.at_threshold.threshold == open_run(folder).record.decision_threshold


def test_a_class_that_is_none(cache, runs):
    with pytest.raises(RunError, match="has no class 'pink'; its classes are red, green, blue"):
        train(cache, Logistic(), Selection(classes=("red", "pink")), runs_dir=runs)


def test_rows_of_one_class_only(features, allowing, runs, tmp_path):
    path = write_npz(tmp_path / "one.npz", train=20, test=20)
    with np.load(path) as arrays:
        changed = {**arrays, "train_labels": np.zeros(20, np.int64)}
    np.savez(path, **changed)
    cache = precompute(features, DatasetSpec(str(path)), allowing)
    with pytest.raises(RunError, match="the train rows of .* are all of red"):
        train(cache, Logistic(), runs_dir=runs)


def test_temperature_is_folded_on_request(cache, runs):
    plain = train(cache, Logistic(), runs_dir=runs)
    folded = train(cache, Logistic(), Selection(calibrate=True), runs_dir=runs)
    before, after = (evaluate(folder) for folder in (plain, folded))
    assert after.accuracy == before.accuracy
    temperature = open_run(plain).record.temperature
    kernels = [open_run(folder).load_head().get_weights()[0] for folder in (plain, folded)]
    np.testing.assert_allclose(kernels[1] * temperature, kernels[0], rtol=1e-4)
    for when in ("before", "after"):
        of_folded, of_plain = (asdict(getattr(metrics.calibration, when)) for metrics in (after, before))
        assert of_folded == pytest.approx(of_plain, rel=1e-3)
    assert after.loss == after.calibration.after.loss
    assert before.loss == before.calibration.before.loss


def test_the_reference_has_no_rows_to_calibrate_on(colours, runs):
    with pytest.raises(RunError, match="--calibrate needs validation rows"):
        train(colours, Reference(epochs=1), Selection(calibrate=True), runs_dir=runs)
    assert not runs.exists()


@pytest.mark.parametrize("recipe", [Logistic(), Mlp(hidden=(8,), epochs=2), Reference(epochs=2)])
def test_a_run_is_reproduced_from_its_own_json(colours, runs, recipe):
    folder = train(colours, recipe, Selection(classes=("red", "blue"), views=("hflip",)), runs_dir=runs)
    again, differing = reproduce(folder)
    assert differing == []
    assert again != folder
    weights = [open_run(each).load_head().get_weights() for each in (folder, again)]
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)
    description = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**description, "settings": {"epochs": 0}}))
    with pytest.raises(RunError, match="was changed after training"):
        reproduce(folder)
    (folder / "checksums.json").unlink()  # as an older version would have left it
    (folder / "run.json").write_text(json.dumps({**description, "settings": {"epochs": 0}, "has_checksums": False}))
    with pytest.raises(RunError, match="describes no training of this version of tfl"):
        reproduce(folder)


def test_runs_are_listed_and_removed(cache, runs):
    assert list_runs(runs) == []
    first = train(cache, Reference(epochs=1), runs_dir=runs)
    second = train(cache, Knn(), name="votes", runs_dir=runs)
    (runs / "notes").mkdir()
    (runs / "odd").mkdir()
    description = (first / "run.json").read_text().replace('"classes"', '"kinds"')
    (runs / "odd" / "run.json").write_text(description.replace('"has_checksums": true', '"has_checksums": false'))
    (runs / "odd" / "metrics.json").write_text("{}")
    listed = list_runs(runs)
    assert [entry.name for entry in listed] == [first.name, "votes"]
    assert listed[0].accuracy == open_run(first).metrics["test"].accuracy
    assert set(listed[1].chosen) == {"neighbours", "temperature"}
    remove_run(second)
    assert [entry.name for entry in list_runs(runs)] == [first.name]
    with pytest.raises(RunError, match="is not a run folder"):
        remove_run(runs / "notes")


def test_two_runs_are_held_against_each_other(cache, runs, caplog):
    first = train(cache, Reference(epochs=1), runs_dir=runs)
    second = train(cache, Logistic(), runs_dir=runs)
    found = compare_runs(first, second)
    accuracies = [open_run(folder).metrics["test"].accuracy for folder in (first, second)]
    assert [found.accuracy["a"], found.accuracy["b"]] == pytest.approx(accuracies)
    assert found.num_rows == 40
    assert (found.only_a - found.only_b) / 40 == pytest.approx(found.difference)
    same = compare_runs(first, first)
    assert (same.only_a, same.only_b, same.p_value) == (0, 0, 1.0)
    pair = train(cache, Logistic(), Selection(classes=("red", "blue")), runs_dir=runs)
    assert compare_runs(first, pair).num_rows == evaluate(pair).num_rows
    assert "one run has 3 classes and the other 2: they are compared on the test rows that both have" in caplog.text


def test_runs_of_different_datasets_are_not_compared(cache, runs, features, settings, tmp_path):
    other = precompute(features, DatasetSpec(str(write_npz(tmp_path / "other.npz", 7, train=60, test=40))), settings)
    folders = [train(path, Reference(epochs=1), runs_dir=runs) for path in (cache, other)]
    with pytest.raises(RunError, match="are of different datasets: sha256:"):
        compare_runs(*folders)


def test_best_is_reproduced_whatever_the_time(cache, runs):
    folder = train(cache, Best(seconds=1e-6, candidates=2), runs_dir=runs)
    assert open_run(folder).record.chosen.begun == 1
    assert reproduce(folder)[1] == []


def with_labels(path, **labels):
    """An .npz file of three colours with these labels."""
    write_npz(path, **{split: len(of_split) for split, of_split in labels.items()})
    with np.load(path) as arrays:
        changed = {**arrays, **{f"{split}_labels": np.asarray(of_split) for split, of_split in labels.items()}}
    np.savez(path, **changed)
    return DatasetSpec(str(path), val_split="val" if "val" in labels else "")


@pytest.fixture
def allowing(settings):
    """Settings that take splits which lose classes."""
    return replace(settings, allow_missing_classes=True)


def test_test_rows_of_other_classes_are_refused_before_training(features, allowing, runs, tmp_path):
    dataset = with_labels(tmp_path / "few.npz", train=np.arange(60) % 3, test=np.ones(20, np.int64))
    cache = precompute(features, dataset, allowing)
    with pytest.raises(RunError, match="the test rows of .* are all of other classes; classes asked for: red, blue"):
        train(cache, Logistic(), Selection(classes=("red", "blue")), runs_dir=runs)


@pytest.mark.parametrize("recipe", [Reference(epochs=1), Ridge(), Logistic()])
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            {"train": np.arange(60) % 2, "test": np.arange(20) % 3},
            r"test has rows of classes without a training row, which no head gets right: blue \(6 rows\)",
        ),
        (
            {"train": np.arange(60) % 2, "val": np.arange(9) % 3, "test": np.arange(20) % 2},
            r"val has rows of classes without a training row, which no head gets right: blue \(3 rows\)",
        ),
        (
            {"train": np.arange(60) % 3, "test": np.ones(20, np.int64)},
            r"all test rows are of one class: green \(20 rows\)",
        ),
    ],
)
def test_rows_that_lose_classes_are_refused_unless_asked_for(
    recipe, labels, message, features, allowing, runs, tmp_path, caplog
):
    cache = precompute(features, with_labels(tmp_path / "few.npz", **labels), allowing)
    with pytest.raises(RunError, match=f"{message}\n.*--classes.*--allow-missing-classes"):
        train(cache, recipe, runs_dir=runs)
    assert not runs.exists()
    caplog.clear()
    folder = train(cache, recipe, Selection(allow_missing_classes=True), runs_dir=runs)
    assert message.replace("\\", "") in caplog.text
    assert reproduce(folder)[1] == []


def test_only_the_classes_asked_for_need_rows(features, allowing, runs, tmp_path):
    dataset = with_labels(tmp_path / "few.npz", train=np.arange(60) % 2, test=np.arange(20) % 3)
    cache = precompute(features, dataset, allowing)
    folder = train(cache, Ridge(), Selection(classes=("red", "green")), runs_dir=runs)
    assert open_run(folder).metrics["test"].num_rows == 14


def test_runs_from_before_the_rule_are_read_and_reproduced(features, allowing, runs, tmp_path):
    dataset = with_labels(tmp_path / "few.npz", train=np.arange(60) % 2, test=np.arange(20) % 3)
    cache = precompute(features, dataset, allowing)
    folder = train(cache, Ridge(), Selection(allow_missing_classes=True), runs_dir=runs)
    described = json.loads((folder / "run.json").read_text())
    del described["selection"]["allow_missing_classes"]
    (folder / "run.json").write_text(json.dumps(described))
    write_checksums(folder)
    assert open_run(folder).selection == Selection(allow_missing_classes=True)
    assert reproduce(folder)[1] == []


@pytest.mark.parametrize("recipe", [Ridge(), Logistic(), Knn()])
def test_a_long_tail_is_trained_calibrated_and_measured(recipe, features, settings, runs, tmp_path, caplog):
    dataset = with_labels(tmp_path / "few.npz", train=[0] * 20 + [1] * 3 + [2], test=np.arange(20) % 3)
    cache = precompute(features, dataset, settings)
    folder = train(cache, recipe, Selection(calibrate=True, class_weight="balanced"), runs_dir=runs)
    metrics = open_run(folder).metrics
    assert metrics["val"].num_rows == 3
    assert metrics["val"].accuracy_per_class["blue"] is None
    assert metrics["test"].num_rows == 20
    assert "1 of 3 classes have a single training row each and no validation row" in caplog.text


def test_classes_without_val_rows_are_told(features, settings, runs, tmp_path, caplog):
    labels = {"train": np.arange(60) % 3, "val": np.arange(8) % 2, "test": np.arange(20) % 3}
    cache = precompute(features, with_labels(tmp_path / "few.npz", **labels), settings)
    train(cache, Ridge(), runs_dir=runs)
    assert f"the val rows of {cache} have none of blue (20 rows)" in caplog.text


def test_names_with_signs_of_mathematics_are_drawn_as_they_are(features, settings, runs, tmp_path):
    path = write_npz(tmp_path / "prices.npz", train=60, test=20)
    with np.load(path) as arrays:
        changed = {**arrays, "class_names": np.array(["$1_$5", "$", "\\frac$x$"])}
    np.savez(path, **changed)
    cache = precompute(features, DatasetSpec(str(path)), settings)
    folder = train(cache, Reference(epochs=1), name="cost_$5_$10", runs_dir=runs)
    assert (folder / "confusion_matrix.png").exists()


def test_runs_without_a_common_test_row(cache, runs, features, dataset, settings):
    other = precompute(features, replace(dataset, train_split="train[:60]", test_split="train[60:]"), settings)
    folders = [train(path, Reference(epochs=1), runs_dir=runs) for path in (cache, other)]
    with pytest.raises(RunError, match="have no test rows in common"):
        compare_runs(*folders)


def test_tensorboard_logs(cache, runs):
    folder = train(cache, Reference(epochs=2), runs_dir=runs)
    assert [path.name[:20] for path in write_tensorboard(folder).iterdir()] == ["events.out.tfevents."]
