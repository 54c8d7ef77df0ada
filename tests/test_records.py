"""Run folders that are damaged, changed or a stranger's: one line that names the file, whatever the command."""

import json
import logging
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from conftest import write_npz

from tfl.cli.main import main
from tfl.errors import RunError
from tfl.extraction.precompute import precompute
from tfl.files import hashing
from tfl.heads import Best, Logistic, Reference, Ridge
from tfl.heads.model import build_dense
from tfl.runs.evaluation import evaluate
from tfl.runs.folder import open_run
from tfl.runs.listing import list_runs
from tfl.runs.tensorboard import write_tensorboard
from tfl.runs.training import train
from tfl.specs import DatasetSpec, FeatureSpec, Settings
from tfl.specs.training import Selection

DEEP = b"[" * 100_000
FEATURES = FeatureSpec(backbone="tiny", weights="random", image_size=12)


@pytest.fixture(scope="module", autouse=True)
def _tiny():
    with tiny.registered():
        yield


@pytest.fixture(autouse=True)
def _own_logging(monkeypatch):
    """Commands set up logging; the next test finds none of it."""
    logger = logging.getLogger("tfl")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", logger.propagate)


@pytest.fixture(scope="module")
def made(_tiny, tmp_path_factory):
    """A cache, and a run with a choice, of two classes."""
    root = tmp_path_factory.mktemp("records")
    dataset = DatasetSpec(dataset=str(write_npz(root / "colours.npz", train=70, test=40)))
    settings = Settings(engine="keras", cache_dir=root / "cache", batch_size=8, shard_rows=16)
    cache = precompute(FEATURES, dataset, settings)
    runs = root / "runs"
    return SimpleNamespace(
        root=root,
        cache=cache,
        runs=runs,
        pair=train(cache, Ridge(l2=(0.1, 1.0)), Selection(classes=("red", "blue")), "pair", runs),
        epochs=train(cache, Reference(epochs=2), name="epochs", runs_dir=runs),
    )


@pytest.fixture
def folder(made, tmp_path):
    """A copy of the run of two classes, beside a copy of the cache."""
    (tmp_path / "cache").mkdir()
    shutil.copy(made.cache, tmp_path / "cache")
    return shutil.copytree(made.pair, tmp_path / "runs" / "pair")


def of_old(folder):
    """The same as an older version left it: nothing says what its files were."""
    (folder / "checksums.json").unlink()
    rewrite(folder / "run.json", lambda found: found.pop("has_checksums"))
    return folder


def rewrite(path, change):
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


def replaced(**values):
    return lambda found: found.update(values)


def in_part(part, **values):
    return lambda found: found[part].update(values)


def without(*keys):
    return lambda found: [found.pop(key) for key in keys]


CONTENTS = {
    "empty": b"",
    "not UTF-8": b'{"cache": "\xff"}',
    "UTF-16": '{"cache": "x"}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "cut off": b'{"cache": "x", "spec":',
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "an empty object": b"{}",
    "nested lists": DEEP,
    "nested lists, whole": DEEP + b"]" * 100_000,
    "nested objects": b'{"cache":' * 100_000,
    "NaN": b'{"seconds": NaN}',
    "Infinity": b'{"seconds": -Infinity}',
    "a float that is infinite": b'{"seconds": 1e999}',
    "a whole number of 5,000 digits": b'{"seconds": %s}' % (b"9" * 5000),
    "a key twice": b'{"cache": "a", "cache": "b"}',
    "half a surrogate pair": rb'{"cache": "\ud800"}',
    "zero bytes": b"\0" * 100,
}
CHANGES = {
    "cache: a number": replaced(cache=3),
    "cache: empty": replaced(cache=""),
    "cache: an absolute path": replaced(cache="/etc/passwd"),
    "cache: a zero byte": replaced(cache="a\0b"),
    "cache: gone": replaced(cache="../../nowhere.h5"),
    "cache: a folder": replaced(cache=".."),
    "cache: no cache": replaced(cache="run.json"),
    "cache: a name that is too long": replaced(cache="x" * 5000),
    "spec: a list": replaced(spec=[]),
    "spec: of one part": without("spec"),
    "spec: a text": replaced(spec="resnet50"),
    "spec: unknown field": in_part("spec", more=1),
    "spec: wrong type": lambda found: found["spec"]["features"].update(image_size="12"),
    "spec: another size": lambda found: found["spec"]["features"].update(image_size=13),
    "spec: unresolved": lambda found: found["spec"]["dataset"].update(version=""),
    "spec: views of numbers": in_part("spec", views=[1, 2]),
    "spec: views of lists": in_part("spec", views=[[]]),
    "fingerprint: another": replaced(fingerprint="0" * 64),
    "fingerprint: a number": replaced(fingerprint=0),
    "recipe: unknown": replaced(recipe="magic"),
    "recipe: a list": replaced(recipe=["ridge"]),
    "recipe: an object": replaced(recipe={}),
    "recipe: best without a choice": replaced(recipe="best", settings={}, chosen=None),
    "recipe: best without how many": replaced(recipe="best", settings={}, chosen={"recipe": "ridge", "setting": {}}),
    "settings: a list": replaced(settings=[1]),
    "settings: null": replaced(settings=None),
    "settings: unknown name": in_part("settings", epochs=3),
    "settings: a text for numbers": in_part("settings", l2="0.1"),
    "settings: texts for numbers": in_part("settings", l2=["0.1"]),
    "settings: none": in_part("settings", l2=[]),
    "settings: negative": in_part("settings", l2=[-1.0]),
    "settings: seed true": in_part("settings", seed=True),
    "settings: seed an object": in_part("settings", seed={}),
    "selection: a text": replaced(selection="all"),
    "selection: null": replaced(selection=None),
    "selection: unknown name": in_part("selection", kinds=[]),
    "selection: unknown view": in_part("selection", views=["upside-down"]),
    "selection: view that the spec lacks": in_part("selection", views=["hflip"]),
    "selection: views a number": in_part("selection", views=1),
    "selection: one class": in_part("selection", classes=["red"]),
    "selection: classes a text": in_part("selection", classes="red"),
    "selection: fraction": in_part("selection", validation_fraction=7),
    "selection: calibrate a number": in_part("selection", calibrate=1),
    "class_names: reversed": lambda found: found["class_names"].reverse(),
    "class_names: numbers": replaced(class_names=[1, 2]),
    "class_names: a text": replaced(class_names="red blue"),
    "class_names: none": replaced(class_names=[]),
    "class_names: one": replaced(class_names=["red"]),
    "class_names: repeated": replaced(class_names=["red", "red"]),
    "class_names: one more": lambda found: found["class_names"].append("green"),
    "class_names: an object": replaced(class_names={"red": 1, "blue": 2}),
    "views: unknown": replaced(views=["upside-down"]),
    "views: a number": replaced(views=1),
    "views: null in a list": replaced(views=[None]),
    "temperature: zero": replaced(temperature=0),
    "temperature: negative": replaced(temperature=-1.5),
    "temperature: next to nothing": replaced(temperature=1e-300),
    "temperature: a text": replaced(temperature="1.5"),
    "temperature: true": replaced(temperature=True),
    "temperature: a list": replaced(temperature=[1.5]),
    "is_temperature_folded: a text": replaced(is_temperature_folded="no"),
    "is_temperature_folded: null": replaced(is_temperature_folded=None),
    "is_temperature_folded: without a temperature": replaced(is_temperature_folded=True, temperature=None),
    "decision_threshold: a text": replaced(decision_threshold="0.5"),
    "decision_threshold: 2": replaced(decision_threshold=2),
    "chosen: a text": replaced(chosen="l2"),
    "chosen: without a setting": replaced(chosen={"recipe": "ridge"}),
    "chosen: setting a list": replaced(chosen={"recipe": "ridge", "setting": [1]}),
    "chosen: setting of objects": replaced(chosen={"recipe": "ridge", "setting": {"l2": {}}}),
    "chosen: recipe unknown": replaced(chosen={"recipe": {}, "setting": {}}),
    "streamed: a text": replaced(streamed="no"),
    "seconds: a text": replaced(seconds="long"),
    "seconds: negative": replaced(seconds=-1),
    "versions: a list": replaced(versions=[1]),
    "device: an object": replaced(device={}),
}
# What only shows when the cache or the head is opened; a list of runs has it all the same.
SHOWN_LATE = {name for name in CHANGES if name.startswith("cache: ")} - {
    "cache: a number",
    "cache: empty",
    "cache: an absolute path",
    "cache: a zero byte",
}


def require_one_line(capsys, folder, other, is_listed=False, is_reproduced=False):
    """Every command that reads the run says one line, and nothing is left or lost."""
    before = sorted(path.name for path in folder.parent.iterdir())
    commands = [
        ["evaluate", str(folder)],
        ["evaluate", str(other), str(folder)],
        ["export", str(folder), "--out", str(folder.parent.parent / "model")],
        *([] if is_reproduced else [["runs", "--runs-dir", str(folder.parent), "--reproduce", str(folder)]]),
        *([] if is_listed else [["runs", "--runs-dir", str(folder.parent), "--remove", str(folder)]]),
    ]
    for command in commands:
        capsys.readouterr()
        assert main(command) == 1, command
        printed = capsys.readouterr().err.splitlines()
        said = next(place for place, line in enumerate(printed) if line.startswith("tfl: "))  # after notes
        assert "Traceback" not in "".join(printed)
        assert len(printed) - said <= 4, "of a cache's classes and the run's: one each"
    assert sorted(path.name for path in folder.parent.iterdir()) == before
    assert not (folder.parent.parent / "model").exists()


def listed(capsys, runs_dir):
    """The names of the runs that `tfl runs` shows, and what it says on stderr."""
    logging.getLogger("tfl").handlers.clear()  # what an earlier command set up writes to an earlier stderr
    capsys.readouterr()
    assert main(["runs", "--runs-dir", str(runs_dir), "--json"]) == 0
    printed = capsys.readouterr()
    return [entry["name"] for entry in json.loads(printed.out)], printed.err


@pytest.mark.parametrize("name", CONTENTS)
def test_run_json_of_any_content(name, folder, made, capsys):
    of_old(folder)
    (folder / "run.json").write_bytes(CONTENTS[name])
    require_one_line(capsys, folder, made.pair)
    shutil.copytree(made.epochs, folder.parent / "sound")
    names, said = listed(capsys, folder.parent)
    assert names == ["sound"]
    assert said.count("\n") == 1
    assert f"{folder} is passed over: {folder}" in said


@pytest.mark.parametrize("name", CHANGES)
def test_run_json_of_any_values(name, folder, made, capsys):
    of_old(folder)
    rewrite(folder / "run.json", CHANGES[name])
    require_one_line(capsys, folder, made.pair, is_listed=name in SHOWN_LATE)
    names, said = listed(capsys, folder.parent)
    assert names == (["pair"] if name in SHOWN_LATE else [])
    assert said.count("\n") == (0 if name in SHOWN_LATE else 1)


def as_fifo(path):
    path.unlink()
    os.mkfifo(path)


def as_folder(path):
    path.unlink()
    path.mkdir()


def as_loop(path):
    path.unlink()
    path.symlink_to(path.name)


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize("make", [as_fifo, as_folder, as_loop, lambda path: path.unlink()])
@pytest.mark.parametrize("name", ["run.json", "head.keras"])
def test_what_is_no_file(name, make, is_old, folder, made, capsys):
    if is_old:
        of_old(folder)
    make(folder / name)
    is_head = name == "head.keras"  # of which the list knows nothing, and which is trained again
    require_one_line(capsys, folder, made.pair, is_head, is_head)
    assert listed(capsys, folder.parent)[0] == ([] if name == "run.json" else ["pair"])


def test_a_cache_that_is_a_pipe_does_not_hang(folder, made, capsys):
    as_fifo(folder.parent.parent / "cache" / made.cache.name)
    require_one_line(capsys, folder, made.pair, is_listed=True)


METRICS = {
    "a list": b"[]",
    "not UTF-8": b"\xff",
    "nested": DEEP,
    "NaN": b'{"test": {"accuracy": NaN}}',
    "a role that is none": b'{"exam": {}}',
    "a role that is a list": b'{"test": []}',
    "a role that is empty": b'{"test": {}}',
}
METRICS_CHANGES = {
    "accuracy: a text": {"accuracy": "high"},
    "accuracy: 2": {"accuracy": 2},
    "accuracy: true": {"accuracy": True},
    "interval: one number": {"accuracy_interval_95": [0.1]},
    "interval: texts": {"accuracy_interval_95": ["a", "b"]},
    "num_rows: a text": {"num_rows": "40"},
    "num_rows: negative": {"num_rows": -40},
    "loss: negative": {"loss": -1.0},
    "loss: a list": {"loss": []},
    "classes: others": {"accuracy_per_class": {"pink": 0.5, "red": 0.5}},
    "classes: reversed": {"accuracy_per_class": {"blue": 0.5, "red": 0.5}},
    "classes: texts": {"accuracy_per_class": {"red": "a", "blue": "b"}},
    "classes: a list": {"accuracy_per_class": [0.5, 0.5]},
}


@pytest.mark.parametrize("name", [*METRICS, *METRICS_CHANGES])
def test_metrics_json_of_any_content(name, folder, capsys):
    of_old(folder)
    if name in METRICS:
        (folder / "metrics.json").write_bytes(METRICS[name])
    else:
        rewrite(folder / "metrics.json", in_part("test", **METRICS_CHANGES[name]))
    with pytest.raises(RunError, match=r"metrics\.json"):
        _ = open_run(folder).metrics
    assert main(["runs", "--runs-dir", str(folder.parent), "--reproduce", str(folder)]) == 1
    assert capsys.readouterr().err.startswith(f"tfl: {folder / 'metrics.json'}")
    assert [path.name for path in folder.parent.iterdir()] == ["pair"], "refused before anything is trained"
    names, said = listed(capsys, folder.parent)
    assert names == []
    assert said.count("\n") == 1


def test_metrics_without_test_rows_are_sound(folder):
    of_old(folder)
    rewrite(folder / "metrics.json", without("test"))
    (entry,) = list_runs(folder.parent)
    assert (entry.accuracy, entry.interval) == (None, None)


@pytest.mark.parametrize("content", [b"{}", b"[]", b"[1]", b'[{"epoch": 1}]', b'[{"epoch": "1"}]', DEEP, b"\xff"])
def test_history_json_of_any_content(content, made, tmp_path):
    copy = of_old(shutil.copytree(made.epochs, tmp_path / "epochs"))
    (copy / "history.json").write_bytes(content)
    with pytest.raises(RunError, match=r"history\.json"):
        write_tensorboard(copy)


# ---- what training left, and no other


def test_checksums_are_of_every_file(made):
    for folder in (made.pair, made.epochs):
        digests = json.loads((folder / "checksums.json").read_text())
        assert {*digests, "checksums.json"} == {path.name for path in folder.iterdir()}
        assert digests == {name: hashing.hash_file(folder / name) for name in digests}


def read_all(folder):
    opened = open_run(folder)
    return opened.load_head(), opened.metrics


@pytest.mark.parametrize("name", ["run.json", "head.keras", "metrics.json"])
def test_a_bit_that_has_changed_is_noticed(name, folder):
    path = folder / name
    content = path.read_bytes()
    for place in np.linspace(0, len(content) - 1, 8).astype(int):
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(RunError, match=rf"{name} was changed after training: its sha256 is .* was expected"):
            read_all(folder)
    path.write_bytes(content)
    assert open_run(folder).metrics["test"] == evaluate(folder)


def test_logs_that_are_added_later_change_nothing(made, tmp_path):
    copy = shutil.copytree(made.epochs, tmp_path / "epochs")
    write_tensorboard(copy)
    assert open_run(copy).metrics
    (copy / "history.json").write_text('[{"epoch": 1, "loss": 0.0, "accuracy": 1.0}]')
    with pytest.raises(RunError, match=r"history\.json was changed after training"):
        write_tensorboard(copy)


@pytest.mark.parametrize("content", [b"{}", b"[]", b'{"run.json": 1}', b'{"run.json": "abc"}', DEEP, b"\xff"])
def test_checksums_of_any_content(content, folder, made, capsys):
    (folder / "checksums.json").write_bytes(content)
    require_one_line(capsys, folder, made.pair)
    assert listed(capsys, folder.parent)[0] == []


def test_checksums_that_are_gone_are_missed(folder):
    (folder / "checksums.json").unlink()
    with pytest.raises(RunError, match=r"is not whole: checksums\.json, which training left in it, is gone"):
        open_run(folder)


def test_runs_of_older_versions_open(folder, made):
    assert evaluate(of_old(folder)) == open_run(made.pair).metrics["test"]


def as_before_the_temperature_was_named(folder):
    """The same as a version left it that called `is_temperature_folded` `is_folded`."""
    rewrite(of_old(folder) / "run.json", lambda found: found.update(is_folded=found.pop("is_temperature_folded")))

    def rename(found):
        for of_role in found.values():
            of_role["calibration"]["is_folded"] = of_role["calibration"].pop("is_temperature_folded")

    rewrite(folder / "metrics.json", rename)


def test_runs_that_call_the_temperature_s_field_is_folded_open(folder, made):
    as_before_the_temperature_was_named(folder)
    assert open_run(folder).metrics == open_run(made.pair).metrics
    assert open_run(folder).record.calibration == open_run(made.pair).record.calibration


@pytest.mark.parametrize("classes", [(), ("blue", "red")])
def test_class_names_are_the_caches_or_those_selected(classes, made, tmp_path, capsys):
    """Reversed, red things would be called blue with all certainty, and the parity check would pass."""
    (tmp_path / "cache").mkdir()
    cache = Path(shutil.copy(made.cache, tmp_path / "cache"))
    folder = train(cache, Logistic(l2=(0.1,)), Selection(classes=classes), "mine", tmp_path / "runs")
    assert open_run(folder).class_names == (classes or ("red", "green", "blue"))
    expected = evaluate(folder)
    of_old(folder)
    assert evaluate(folder) == expected
    rewrite(folder / "run.json", lambda found: found["class_names"].reverse())
    rewrite(folder / "metrics.json", lambda found: found.clear())
    require_one_line(capsys, folder, made.pair, is_listed=not classes)
    if not classes:
        with pytest.raises(RunError, match=r"(?s)are not those of .*run: +'blue', 'green', 'red'.*cache: +'red', 'gre"):
            evaluate(folder)
    else:
        rewrite(folder / "run.json", lambda found: found["selection"]["classes"].reverse())
        assert evaluate(folder).num_rows == expected.num_rows, "which no file but the digests can tell"


def test_a_class_that_the_cache_lacks(folder):
    of_old(folder)
    names = ["red", "pink"]
    rewrite(folder / "run.json", replaced(class_names=names))
    rewrite(folder / "run.json", in_part("selection", classes=names))
    with pytest.raises(RunError, match="has no class 'pink'; its classes are red, green, blue"):
        evaluate(folder)


def saved_head(path, num_features, num_outputs):
    kernel = np.zeros((num_features, num_outputs), np.float32)
    build_dense([(kernel, np.zeros(num_outputs, np.float32))]).save(path)


def test_a_head_of_another_size(folder, made, capsys):
    of_old(folder)
    saved_head(folder / "head.keras", 5, 3)
    with pytest.raises(RunError, match=r"head.keras has 3 outputs, and .*run.json names 2 classes: 'red', 'blue'"):
        evaluate(folder)
    require_one_line(capsys, folder, made.pair, is_listed=True, is_reproduced=True)
    saved_head(folder / "head.keras", 6, 2)
    with pytest.raises(RunError, match=r"head.keras takes 6 features, and .* has 5; train again"):
        evaluate(folder)
    require_one_line(capsys, folder, made.pair, is_listed=True, is_reproduced=True)


def test_best_says_what_it_begun(made, tmp_path):
    folder = train(made.cache, Best(seconds=1e-6, candidates=2), runs_dir=tmp_path / "runs")
    assert open_run(folder).record.chosen.begun == 1
