import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfl import engine, run
from tfl.cache import Cost, PartialCache, Rows, open_cache
from tfl.errors import CacheError, RunError
from tfl.precompute import precompute
from tfl.recipes import Reference
from tfl.spec import CacheSpec, DatasetSpec, FeatureSpec

pytestmark = pytest.mark.usefixtures("tiny_backbone")


@pytest.fixture
def cache(features, dataset, settings):
    return precompute(features, replace(dataset, val_split="train[60:]", train_split="train[:60]"), settings)


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


def test_a_run_folder_is_whole(cache, runs):
    folder = run.train(cache, Reference(epochs=4, learning_rate=0.1), runs_dir=runs)
    assert folder == runs / f"{cache.stem}-reference-1"
    assert sorted(path.name for path in folder.iterdir()) == [
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
    in_memory = run.train(cache, Reference(epochs=10, learning_rate=0.1), runs_dir=runs)
    assert run.open_run(in_memory).description["streamed"] is False
    num_bytes = 70 * open_cache(cache).num_features * 4  # of train and val
    monkeypatch.setattr(engine, "available_memory", lambda: 3 * num_bytes - 1)
    with caplog.at_level("INFO"):
        streamed = run.train(cache, Reference(epochs=10, learning_rate=0.1), runs_dir=runs)
    assert f"the {num_bytes:,} bytes of features in {cache} do not fit into the memory available" in caplog.text
    assert "rows are shuffled by chunk" in caplog.text
    assert run.open_run(streamed).description["streamed"] is True
    assert run.evaluate(streamed) == run.open_run(streamed).metrics["test"]
    accuracies = [run.open_run(folder).metrics["test"]["accuracy"] for folder in (in_memory, streamed)]
    assert accuracies[1] == pytest.approx(accuracies[0], abs=0.1)
    monkeypatch.setattr(engine, "available_memory", lambda: 3 * num_bytes)
    fits = run.train(cache, Reference(epochs=1), runs_dir=runs)
    assert run.open_run(fits).description["streamed"] is False


# What TensorFlow maps at its start (some 2 GB of address space) and its threads are there before the limit is set.
TRAIN_IN_LITTLE_MEMORY = """
import resource
from pathlib import Path
from tfl import engine, run
from tfl.cache import open_cache
from tfl.recipes import Reference

def train(name):
    folder = run.train(Path(name), Reference(epochs=1), runs_dir=Path("runs"))
    return run.open_run(folder).description["streamed"]

assert not train("small.h5")
mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limit = mapped + {room}
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
assert engine.available_memory() <= {room}
assert train("large.h5")
try:
    open_cache(Path("large.h5")).read("train")
except MemoryError:
    print("the limit is real")
"""


def write_large(path, counts, shard_rows=8192):
    """A cache of so many rows of 2048 float32 in each role, cheap to make."""
    spec = CacheSpec(FeatureSpec(weights="sha256:ab"), DatasetSpec(version="1"))
    partial = PartialCache(path, spec, counts, {"shard_rows": shard_rows})
    with partial.held():
        for shard in partial.missing():
            rng = np.random.default_rng(shard.start)
            rows = shard.stop - shard.start
            ids = np.array([f"{shard.role}_{i}".encode() for i in range(shard.start, shard.stop)])
            features = rng.random((rows, 2048), np.float32)
            partial.write(shard, Rows(features, rng.integers(0, 3, rows), ids), Cost(1, rows))
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
    folder = run.train(cache, Reference(epochs=10, learning_rate=0.1), runs_dir=runs)
    metrics = run.evaluate(folder)
    assert metrics == run.open_run(folder).metrics["test"]
    rows = open_cache(cache).read("test")
    kernel, bias = run.open_run(folder).load_head().get_weights()
    predicted = (rows.features @ np.asarray(kernel) + np.asarray(bias)).argmax(axis=1)
    assert metrics["accuracy"] == np.mean(predicted == rows.labels)
    assert metrics["num_rows"] == 40


def test_names_are_numbered_or_refused(cache, runs):
    recipe = Reference(epochs=1)
    first, second = (run.train(cache, recipe, runs_dir=runs) for _ in range(2))
    assert (first.name[-2:], second.name[-2:]) == ("-1", "-2")
    run.train(cache, recipe, name="mine", runs_dir=runs)
    with pytest.raises(RunError, match="there is a run .*mine already; choose another --name or remove it"):
        run.train(cache, recipe, name="mine", runs_dir=runs)


def test_run_and_cache_can_move_together(cache, runs, tmp_path):
    folder = run.train(cache, Reference(epochs=1), runs_dir=runs)
    expected = run.evaluate(folder)
    (tmp_path / "elsewhere").mkdir()
    runs.rename(tmp_path / "elsewhere" / "runs")
    cache.parent.rename(tmp_path / "elsewhere" / "cache")
    assert run.evaluate(tmp_path / "elsewhere" / "runs" / folder.name) == expected


def test_cache_that_is_gone_or_replaced(cache, runs, features, dataset, settings):
    folder = run.train(cache, Reference(epochs=1), runs_dir=runs)
    other = precompute(replace(features, image_size=16), dataset, settings)
    cache.unlink()
    with pytest.raises(RunError, match="which is gone; put it back, or precompute and train again"):
        run.evaluate(folder)
    other.rename(cache)
    with pytest.raises(CacheError, match="image_size: 16 on disk, 12 requested"):
        run.evaluate(folder)


def test_failed_training_leaves_nothing(cache, runs):
    with pytest.raises(RunError, match="the loss is"):
        run.train(cache, Reference(learning_rate=1e38, epochs=4), runs_dir=runs)
    assert list(runs.iterdir()) == []


def test_no_training_rows(features, dataset, settings, runs, monkeypatch):
    cache = precompute(features, replace(dataset, train_split=""), settings)
    with pytest.raises(CacheError, match="has no train rows"):
        run.train(cache, runs_dir=runs)
    monkeypatch.setattr(engine, "available_memory", lambda: 0)
    with pytest.raises(CacheError, match="has no train rows"):
        run.train(cache, runs_dir=runs)


def test_no_test_rows(features, dataset, settings, runs):
    cache = precompute(features, replace(dataset, test_split=""), settings)
    folder = run.train(cache, Reference(epochs=1), runs_dir=runs)
    assert run.open_run(folder).metrics == {}
    with pytest.raises(CacheError, match="has no test rows; it has train. Precompute again with --test-split"):
        run.evaluate(folder)


def test_folders_that_are_no_runs(tmp_path):
    with pytest.raises(RunError, match="is not a run folder: it has no run.json"):
        run.open_run(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RunError, match="is not JSON"):
        run.open_run(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(RunError, match="does not describe a run; expected the keys cache, "):
        run.open_run(tmp_path)
    with pytest.raises(RunError, match="is not a run folder"):
        run.open_run(tmp_path / "run.json")


def test_runs_folder_that_is_a_link(cache, runs, tmp_path):
    (tmp_path / "far" / "away").mkdir(parents=True)
    runs.symlink_to(tmp_path / "far" / "away")
    assert run.evaluate(run.train(cache, Reference(epochs=1), runs_dir=runs))["num_rows"] == 40


def test_a_name_is_no_path(cache, runs):
    with pytest.raises(RunError, match="one folder name in .*, got 'a/b'"):
        run.train(cache, name="a/b", runs_dir=runs)
