"""Features in and out: files for other programs, caches made of them, heads exported alone."""

import hashlib
import json
import logging
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tfl.artefacts import predict
from tfl.artefacts.combined import load_model
from tfl.artefacts.export import export
from tfl.artefacts.feature_inputs import read_features
from tfl.artefacts.formats import FORMATS
from tfl.artefacts.inputs import Image
from tfl.artefacts.manifest import CARD, read_manifest
from tfl.cache import inspect, open_cache, verify
from tfl.cli.main import main
from tfl.errors import BackboneError, CacheError, DatasetError, ExportError, RunError, SpecError
from tfl.exchange import table
from tfl.exchange.export_features import export_features
from tfl.exchange.import_features import import_features
from tfl.extraction.precompute import precompute
from tfl.heads import Knn, Logistic, Mlp, Reference
from tfl.heads.model import compute_logits
from tfl.reports.caches import format_cache
from tfl.runs.evaluation import compare_runs, evaluate
from tfl.runs.folder import open_run
from tfl.runs.training import train
from tfl.specs import Artefact, CacheSpec, DatasetSpec, FeatureSpec, ImportSettings
from tfl.specs.training import Selection

RNG = np.random.default_rng(0)
ENDINGS = ("parquet", "npz")
NAMES = ("ape", "bee", "cat")


def make_rows(count=120, width=6):
    """Features of three classes that a head can tell apart, with ids, labels and roles in turns."""
    labels = RNG.permutation(np.arange(count) % 3)
    features = RNG.normal(size=(count, width)).astype(np.float32)
    features[np.arange(count), labels] += 4
    return {
        "id": [f"é{row}" for row in range(count)],
        "role": [("train", "train", "val", "test")[row % 4] for row in range(count)],
        "label": labels,
        "class_name": [NAMES[label] for label in labels],
        "features": features,
    }


def write(path, rows):
    """Write rows as another program would."""
    if path.suffix == ".npz":
        np.savez(path, **{name: np.asarray(values) for name, values in rows.items()})
    else:
        arrays = {name: pa.array(list(values)) for name, values in rows.items()}
        pq.write_table(pa.table(arrays), path, row_group_size=50)
    return path


@pytest.fixture
def settings_in(tmp_path):
    return ImportSettings(cache_dir=tmp_path / "imported")


# ---- the whole way


@pytest.mark.usefixtures("tiny_backbone")
@pytest.mark.parametrize("ending", ENDINGS)
def test_from_a_cache_to_a_file_to_a_cache_to_a_model_that_predicts(
    ending, features, dataset, settings, settings_in, tmp_path, monkeypatch
):
    monkeypatch.setattr(table, "BLOCK_BYTES", 300)  # bytes: many blocks
    views = ("original", "hflip")
    spec = replace(dataset, val_split="test[:10]", test_split="test[10:]")
    original = open_cache(precompute(features, spec, settings, views=views))
    path = export_features(original.path, tmp_path / f"features.{ending}", views=views)
    imported = open_cache(import_features(path, settings=settings_in))
    assert imported.num_rows == original.num_rows
    assert imported.class_names == original.class_names
    assert imported.spec.features.backbone == "imported:tiny"
    assert verify(imported.path) == []
    for role in original.num_rows:
        before, after = original.read(role), imported.read(role)
        for name in ("features", "labels", "ids"):
            np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
        np.testing.assert_array_equal(imported.read_view(role, "hflip"), original.read_view(role, "hflip"))
    runs = [
        train(cache.path, Logistic(), name=name, runs_dir=tmp_path)
        for cache, name in ((original, "a"), (imported, "b"))
    ]
    test = imported.read("test")
    mean = (test.features + imported.read_view("test", "hflip")) / 2
    logits = [compute_logits(open_run(run).load_head(), mean) for run in runs]
    np.testing.assert_array_equal(*logits)
    assert evaluate(runs[0]) == evaluate(runs[1])
    parity = export(runs[1], tmp_path / "model", artefact=Artefact("onnx"))
    assert parity.error < 1e-5
    np.savez(tmp_path / "asked.npz", features=mean, ids=test.ids.tolist())
    answers = predict.predict(tmp_path / "model", [tmp_path / "asked.npz"])
    assert [answer.image.encode() for answer in answers] == test.ids.tolist()
    assert [answer.class_index for answer in answers] == logits[0].argmax(axis=1).tolist()


@pytest.fixture(scope="module")
def imported_run(tmp_path_factory):
    """A run of each kind of head on imported features."""
    folder = tmp_path_factory.mktemp("imported")
    path = write(folder / "elsewhere.parquet", make_rows())
    cache = import_features(path, settings=ImportSettings(cache_dir=folder / "cache"))
    return {
        recipe.name: train(cache, recipe, name=recipe.name, runs_dir=folder)
        for recipe in (Mlp(hidden=(8,), epochs=50), Knn(neighbours=(5,)), Reference(epochs=2))
    }


QUANTIZATIONS = [(name, way.name) for name, kind in FORMATS.items() for way in kind.quantizations]


@pytest.mark.parametrize(("name", "quantize"), [each for each in QUANTIZATIONS if each[0] != "torch"])
def test_every_format_carries_the_head_alone(name, quantize, imported_run, tmp_path):
    check_format(name, quantize, imported_run["mlp"], tmp_path)


@pytest.mark.torch
def test_pytorch_carries_the_head_alone(imported_run, tmp_path):
    check_format("torch", "none", imported_run["mlp"], tmp_path)


@pytest.mark.parametrize("name", ["saved-model", "onnx", "openvino", "litert"])
def test_a_head_of_neighbours(name, imported_run, tmp_path):
    check_format(name, "none", imported_run["knn"], tmp_path)


def check_format(name, quantize, run, tmp_path):
    """Export, ask a fresh process, and predict from the folder alone."""
    folder = tmp_path / "model"
    parity = export(run, folder, artefact=Artefact(name, quantize, assert_accuracy_at_least=0.5))
    assert parity.num_images > 30
    manifest = read_manifest(folder)
    assert manifest.num_features == 6
    assert manifest.measured.num_images == 30
    card = next(folder.rglob(CARD)).read_text()
    assert "`features` are float32 `(n, 6)`" in card
    assert "uint8" not in card
    assert "serve_bytes" not in card
    assert "source imported:elsewhere" in card
    cache = open_run(run).open_cache()
    rows = cache.read("test")
    expected = compute_logits(open_run(run).load_head(), rows.features)
    path = write(tmp_path / "asked.parquet", {"features": rows.features})
    answers = predict.predict(folder, [path, path])
    assert [answer.image for answer in answers[:2]] == ["00000000", "00000001"]
    agreed = np.mean([a.class_index for a in answers] == np.tile(expected.argmax(axis=1), 2))
    assert agreed >= (0.9 if quantize == "int8" else 1)


def test_commands_on_imported_features(tmp_path, monkeypatch, capfd):
    """The same by commands, each of which ends with what the next one takes."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "elsewhere.npz", make_rows())

    def tfl(*words):
        capfd.readouterr()
        assert main([str(word) for word in words]) == 0, capfd.readouterr().err
        return capfd.readouterr().out.splitlines()

    cache = tfl("import", "elsewhere.npz", "--source", "clip", "--name", "animals")[-1]
    assert cache.startswith("cache/animals-imported_clip-")
    assert "train 60, val 30, test 30; original; imported" in tfl("caches")[-1]
    described = "\n".join(tfl("inspect", cache))
    assert "features     backbone imported:clip, feature_dtype float32, weights sha256:" in described
    assert "image_size" not in described
    assert json.loads(tfl("inspect", cache, "--json")[0])["spec"]["features"].keys() == {
        "backbone",
        "weights",
        "feature_dtype",
    }
    assert "every byte" in tfl("verify", cache)[0]
    run = tfl("train", cache, "--recipe", "ridge")[-1]
    assert json.loads(tfl("evaluate", run, "--json")[0])["accuracy"] > 0.9
    assert json.loads(tfl("runs", "--json")[0])[0]["recipe"] == "ridge"
    again = tfl("runs", "--reproduce", run)[-1]
    assert tfl("evaluate", run, again)[-1]
    model = tfl("export", run, "--out", "model", "--format", "keras")[-1]
    out = tfl("features", cache, "--out", "out.npz", "--run", run, "--roles", "test")[-1]
    with np.load(out) as arrays:
        lines = tfl("predict", model, out, "--json")
        assert [json.loads(line)["image"] for line in lines] == arrays["id"].tolist()
        shares = [list(json.loads(line)["probabilities"].values()) for line in lines]
        np.testing.assert_allclose(shares, arrays["probabilities"], atol=1e-6)
    assert main(["predict", model, "photo.jpg"]) == 2
    assert "takes features of 6 columns and no images, got photo.jpg" in capfd.readouterr().err


# ---- what needs images


def test_what_needs_a_backbone_says_why_it_cannot_work(imported_run, tmp_path):
    run = imported_run["reference"]
    with pytest.raises(BackboneError, match="'elsewhere' were imported: tfl has no network that makes them of images"):
        load_model(run)
    with pytest.raises(ExportError, match="without images and backbone: --dataset means nothing"):
        export(run, tmp_path / "model", dataset="photos")


def test_no_command_makes_imported_features_of_images(tmp_path, capfd):
    np.savez(tmp_path / "images.npz", train_images=np.zeros((2, 9, 9, 3), np.uint8), train_labels=[0, 1])
    words = ["precompute", "--dataset", str(tmp_path / "images.npz"), "--test-split", "", "--backbone", "imported:clip"]
    assert main([*words, "--cache-dir", str(tmp_path)]) == 1
    assert "the features 'clip' were imported" in capfd.readouterr().err
    assert main(["fetch", "imported:clip"]) == 1
    assert "the features 'clip' were imported" in capfd.readouterr().err


# ---- files for other programs


def test_columns_of_a_parquet_file(imported_run, tmp_path):
    run = imported_run["mlp"]
    cache = open_run(run).open_cache()
    found = pq.read_table(export_features(cache.path, tmp_path / "a.parquet", run=run))
    vector = pa.list_(pa.field("element", pa.float32(), nullable=False), 6)
    answers = pa.list_(pa.field("element", pa.float32(), nullable=False), 3)
    assert dict(zip(found.schema.names, found.schema.types, strict=True)) == {
        "id": pa.string(),
        "role": pa.string(),
        "label": pa.int64(),
        "class_name": pa.string(),
        "features": vector,
        "logits": answers,
        "probabilities": answers,
    }
    facts = json.loads(found.schema.metadata[b"tfl"])
    assert facts["fingerprint"] == cache.spec.fingerprint
    assert facts["backbone"] == "imported:elsewhere"
    assert CacheSpec.from_json(json.dumps(facts["spec"])) == cache.spec
    assert facts["run"]["recipe"] == "mlp"
    assert found["role"].to_pylist() == [role for role, count in cache.num_rows.items() for _ in range(count)]
    head = open_run(run).load_head()
    start = 0
    for role, count in cache.num_rows.items():
        part, rows = found.slice(start, count), cache.read(role)
        assert [id_.encode() for id_ in part["id"].to_pylist()] == rows.ids.tolist()
        assert part["label"].to_pylist() == rows.labels.tolist()
        assert part["class_name"].to_pylist() == [NAMES[label] for label in rows.labels]
        np.testing.assert_array_equal(np.stack(part["features"].to_numpy()), rows.features)
        logits = np.stack(part["logits"].to_numpy())
        np.testing.assert_allclose(logits, compute_logits(head, rows.features), rtol=1e-6, atol=1e-6)
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(np.stack(part["probabilities"].to_numpy()), shares, rtol=1e-5)
        start += count


@pytest.mark.parametrize("ending", ENDINGS)
def test_float16_stays_float16(ending, settings_in, tmp_path):
    rows = make_rows()
    rows["features"] = rows["features"].astype(np.float16)
    cache = open_cache(import_features(write(tmp_path / f"a.{ending}", rows), settings=settings_in))
    assert cache.spec.features.feature_dtype == "float16"
    path = export_features(cache.path, tmp_path / f"b.{ending}", roles=("test",))
    again = open_cache(import_features(path, settings=replace(settings_in, allow_missing_classes=True)))
    np.testing.assert_array_equal(again.read("test").features, cache.read("test").features)
    assert again.read("test").features.dtype == np.float16


def test_a_file_is_not_overwritten_unless_told(imported_run, tmp_path, monkeypatch):
    cache = open_run(imported_run["mlp"]).open_cache()
    out = tmp_path / "a.npz"
    out.write_text("precious")
    with pytest.raises(SpecError, match="exists already; choose another name, or replace it: --overwrite"):
        export_features(cache.path, out)
    monkeypatch.setattr("tfl.exchange.npz._write_array", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_features(cache.path, out, overwrite=True)
    assert out.read_text() == "precious"
    monkeypatch.undo()
    first = export_features(cache.path, out, overwrite=True).read_bytes()
    assert export_features(cache.path, out, overwrite=True).read_bytes() == first, "the same bytes each time"
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"out": "a.csv"}, SpecError, "ends in .parquet or .npz, got .*a.csv"),
        ({"out": "no/a.npz"}, SpecError, "there is no folder .*no to write a.npz into"),
        ({"views": ("hflip",)}, CacheError, "has no view hflip; it has original"),
        ({"run": "other"}, RunError, "was not trained on .*: its cache has the fingerprint"),
    ],
)
def test_what_cannot_be_written(options, error, message, imported_run, tmp_path, settings_in):
    cache = open_run(imported_run["mlp"]).open_cache()
    if options.get("run"):
        other = import_features(write(tmp_path / "b.npz", make_rows()), settings=settings_in)
        options = {"run": train(other, Reference(epochs=1), runs_dir=tmp_path / "runs")}
    out = tmp_path / options.get("out", "a.npz")
    with pytest.raises(error, match=message):
        export_features(cache.path, out, **{name: value for name, value in options.items() if name != "out"})


# ---- files from elsewhere


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("without", "names"),
    [((), NAMES), (("class_name",), ("0", "1", "2")), (("label",), NAMES), (("id",), NAMES)],
    ids=["all", "no names", "no labels", "no ids"],
)
def test_rows_are_those_of_the_file(ending, without, names, settings_in, tmp_path):
    rows = make_rows()
    given = {name: values for name, values in rows.items() if name not in without}
    cache = open_cache(import_features(write(tmp_path / f"a.{ending}", given), settings=settings_in))
    assert cache.class_names == names
    for role in ("train", "val", "test"):
        places = [place for place, each in enumerate(rows["role"]) if each == role]
        found = cache.read(role)
        np.testing.assert_array_equal(found.features, rows["features"][places])
        assert found.labels.tolist() == rows["label"][places].tolist()
        ids = [f"{place:08d}" if "id" in without else rows["id"][place] for place in places]
        assert [id_.decode() for id_ in found.ids] == ids


def test_files_without_roles_are_divided_by_their_ids(settings_in, tmp_path):
    rows = make_rows(300)
    del rows["role"]
    parts = {}
    for count in (150, 300):
        some = {name: values[:count] for name, values in rows.items()}
        path = write(tmp_path / f"{count}.npz", some)
        cache = open_cache(import_features(path, DatasetSpec(val_fraction=0.1), settings_in))
        assert cache.spec.dataset.train_split == "all[30%:100%]"
        parts[count] = {role: set(cache.read_ids(role).tolist()) for role in cache.num_rows}
        assert sum(map(len, parts[count].values())) == count
    for role, ids in parts[150].items():
        assert ids < parts[300][role]


def test_groups_stay_in_one_part(settings_in, tmp_path):
    rows = make_rows(300)
    rows["role"] = [f"camera {row // 10}" for row in range(300)]
    path = write(tmp_path / "a.parquet", {"camera": rows.pop("role"), **rows})
    cache = open_cache(import_features(path, DatasetSpec(group_key="camera"), settings_in))
    numbers = {role: {int(id_.decode()[1:]) // 10 for id_ in cache.read_ids(role)} for role in cache.num_rows}
    assert not numbers["train"] & numbers["test"]


def test_another_column_or_other_groups_make_another_cache(settings_in, tmp_path):
    rows = make_rows()
    del rows["role"]
    groups = [f"camera {row // 10}" for row in range(120)]
    path = write(tmp_path / "a.npz", {**rows, "camera": groups, "more": rows["features"] + 1})
    caches = [
        open_cache(import_features(path, DatasetSpec(group_key=group), replace(settings_in, features_key=key)))
        for key, group in (("features", ""), ("more", ""), ("features", "camera"))
    ]
    assert len({cache.path for cache in caches}) == 3
    first, more, grouped = caches
    assert first.spec.features.weights == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    np.testing.assert_array_equal(more.read("test").features, first.read("test").features + 1)
    assert more.spec.dataset == first.spec.dataset
    assert grouped.spec.features == first.spec.features
    assert grouped.read("test").ids.tolist() != first.read("test").ids.tolist()


def test_columns_of_other_names_and_types(settings_in, tmp_path, caplog):
    rows = make_rows()
    path = tmp_path / "a.parquet"
    table = {
        "key": pa.array(range(120)),
        "part": pa.array(rows["role"]).dictionary_encode(),
        "animal": pa.array(rows["class_name"], pa.large_string()),
        "embedding": pa.array(list(rows["features"].astype(np.float64)), pa.large_list(pa.float64())),
        "image": pa.array([b"bytes"] * 120),
    }
    pq.write_table(pa.table(table), path)
    keys = DatasetSpec(id_key="key", split_key="part", label_key="animal")
    with caplog.at_level(logging.INFO):
        cache = open_cache(import_features(path, keys, replace(settings_in, features_key="embedding")))
    assert "are float64; they are stored as float32" in caplog.text
    assert cache.class_names == NAMES
    assert cache.read("test").ids[0] == b"3"
    np.testing.assert_array_equal(cache.read("test").features, rows["features"][3::4])
    assert cache.spec.dataset.label_key == ""


def test_two_files_of_the_same_images_are_of_one_dataset(settings_in, tmp_path):
    rows = make_rows()
    other = {**rows, "features": RNG.normal(size=(120, 9)).astype(np.float32)}
    caches = [
        import_features(write(tmp_path / f"{name}.npz", each), settings=settings_in)
        for name, each in (("clip", rows), ("dino", other))
    ]
    runs = [train(cache, Reference(epochs=2), runs_dir=tmp_path / "runs") for cache in caches]
    assert compare_runs(*runs).num_rows == 30


def test_an_import_is_not_done_twice_and_one_that_was_killed_is_resumed(settings_in, tmp_path, monkeypatch, caplog):
    path = write(tmp_path / "a.npz", make_rows())
    monkeypatch.setattr(table, "BLOCK_BYTES", 24 * 10)
    monkeypatch.setattr("tfl.cache.PartialCache.finish", lambda self, *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        import_features(path, settings=settings_in)
    monkeypatch.undo()
    monkeypatch.setattr(table, "BLOCK_BYTES", 24 * 10)
    written = []
    monkeypatch.setattr("tfl.cache.PartialCache.write", lambda self, *arguments: written.append(arguments))
    cache = import_features(path, settings=settings_in)
    assert written == [], "all shards were there"
    with caplog.at_level(logging.INFO):
        assert import_features(path, settings=settings_in) == cache
    assert "already there" in caplog.text
    assert verify(cache) == []


def change(name, row, value):
    def apply(rows):
        values = rows[name].copy()
        values[row] = value
        return {**rows, name: values}

    return apply


def drop(*names):
    return lambda rows: {name: values for name, values in rows.items() if name not in names}


BAD = {
    "NaN": (change("features", 3, np.nan), "features of .* holds nan in the row with the id 'é3'; expected finite"),
    "one id twice": (change("id", 3, "é1"), "has the id 'é1' in two rows"),
    "an empty id": (change("id", 3, ""), "has the id '' of 0 bytes in row 3"),
    "an unknown role": (change("role", 3, "dev"), "has the role 'dev' in row 3; expected one of train, val, test"),
    "no features": (drop("features"), "has no column 'features'; it has id, role, label, class_name"),
    "no labels": (drop("label", "class_name"), "has no labels: expected a column label .* it has id, role, features"),
    "a negative label": (change("label", 3, -1), "has the label -1 in row 3; expected 0 or more"),
    "an empty class name": (change("class_name", 3, ""), "has an empty class name in row 3"),
    "a label of two names": (
        lambda rows: change("class_name", 5, NAMES[(rows["label"][5] + 1) % 3])(rows),
        "has label . and class name '...' in row 5, where other rows or its class_names say",
    ),
    "one class": (
        lambda rows: {**rows, "label": rows["label"] * 0, "class_name": ["ape"] * 120},
        "has one class, 'ape'; at least two are needed",
    ),
    "a class without training rows": (
        lambda rows: {**rows, "role": ["test" if label == 2 else "train" for label in rows["label"]]},
        "lose classes",
    ),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_by_name(case, ending, settings_in, tmp_path):
    spoil, message = BAD[case]
    with pytest.raises(DatasetError, match=message):
        import_features(write(tmp_path / f"a.{ending}", spoil(make_rows())), settings=settings_in)
    assert not list(tmp_path.rglob("*.h5"))


BAD_PARQUET = {
    "ragged": (
        {"features": pa.array([[1.0, 2.0], [1.0]])},
        "features of .* has 1 numbers in row 1 and 2 in row 0; every row needs as many",
    ),
    "a row without features": ({"features": pa.array([[1.0], None])}, "features of .* is empty in row 1"),
    "a row without a number": ({"features": pa.array([[1.0], [None]])}, "features of .* lacks a number in row 1"),
    "a row without a label": ({"label": pa.array([0, None])}, "label of .* is empty in row 1"),
    "labels that are no whole numbers": (
        {"label": pa.array([0.0, 1.0])},
        "label of .* is double; expected integers or text",
    ),
    "text as features": ({"features": pa.array(["a", "b"])}, "features of .* is text; expected a list of float16"),
    "numbers too large for float32": (
        {"features": pa.array([[1e300], [1.0]])},
        r"holds 1e\+300 in the row with the id '00000000'; expected finite numbers that float32 can store",
    ),
}


@pytest.mark.parametrize("case", BAD_PARQUET)
def test_bad_columns_of_parquet_files(case, settings_in, tmp_path):
    columns, message = BAD_PARQUET[case]
    good = {"features": pa.array([[1.0], [2.0]]), "label": pa.array([0, 1])}
    pq.write_table(pa.table({**good, **columns}), tmp_path / "a.parquet")
    with pytest.raises(DatasetError, match=message):
        import_features(tmp_path / "a.parquet", DatasetSpec(test_fraction=0.0), settings_in)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"label": np.zeros(3, int)}, r"label of .* has shape \(3,\); expected 2 rows"),
        ({"features": np.asfortranarray(np.ones((2, 3)))}, "column after column; write it again with `numpy.asconti"),
        ({"features": np.ones(2)}, r"features of .* is float64 \(2,\); expected a list of float16"),
        ({"class_names": np.array(["a"])}, "has label 1 in row 1, where other rows or its class_names say labels 0"),
        ({"class_names": np.array(["a", "a"])}, "class_names of .* are not all different"),
        ({"class_names": np.array([[1]])}, r"class_names of .* is int64 \(1, 1\); expected text"),
    ],
)
def test_bad_arrays_of_npz_files(arrays, message, settings_in, tmp_path):
    good = {"features": np.ones((2, 3)), "label": np.arange(2)}
    np.savez(tmp_path / "a.npz", **{**good, **arrays})
    with pytest.raises(DatasetError, match=message):
        import_features(tmp_path / "a.npz", DatasetSpec(test_fraction=0.0), settings_in)


@pytest.mark.parametrize("ending", ENDINGS)
def test_files_that_are_none(ending, settings_in, tmp_path):
    path = tmp_path / f"a.{ending}"
    with pytest.raises(DatasetError, match="there is no file"):
        import_features(path, settings=settings_in)
    path.write_bytes(b"hello" * 100)
    with pytest.raises(DatasetError, match="cannot be read as"):
        import_features(path, settings=settings_in)
    write(path, make_rows())
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DatasetError, match="cannot be read as"):
        import_features(path, settings=settings_in)


def test_settings_that_mean_nothing(settings_in, tmp_path):
    path = write(tmp_path / "a.npz", make_rows())
    for options, message in (
        ({"image_key": "image"}, "--image-key means nothing for a file of features"),
        ({"group_key": "class_name"}, "--group-key divides a file without roles"),
        ({"val_fraction": 0.1}, "--val-fraction divides a dataset without splits"),
    ):
        with pytest.raises(SpecError, match=message):
            import_features(path, DatasetSpec(**options), settings_in)
    with pytest.raises(SpecError, match="source is a text of at most 100 printable characters"):
        ImportSettings(source="a\nb")
    with pytest.raises(SpecError, match=r"image_size means nothing for features that were imported, 'imported:clip'"):
        FeatureSpec(backbone="imported:clip", image_size=32)


def test_a_spec_of_imported_features_says_no_more_than_is_known(imported_run):
    spec = open_run(imported_run["mlp"]).spec
    assert FeatureSpec.from_json(spec.features.to_json()) == spec.features
    assert json.loads(spec.features.to_json()).keys() == {"backbone", "weights", "feature_dtype"}
    with pytest.raises(SpecError, match="has the fields"):
        FeatureSpec.from_json('{"backbone":"resnet50","feature_dtype":"float32","weights":"sha256:0"}')


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"features": np.ones((2, 5))}, "features of .* has 5 numbers a row; this model takes 6"),
        ({"vectors": np.ones((2, 6))}, "has no column features; it has vectors"),
        ({"features": np.full((2, 6), np.inf)}, "holds a number that is not finite in the row '00000000'"),
    ],
)
def test_features_that_a_model_does_not_take(rows, message, tmp_path):
    file = Image(write(tmp_path / "a.npz", rows))
    with pytest.raises(DatasetError, match=message):
        list(read_features(file, 6))


def test_classes_that_were_selected(tmp_path, imported_run):
    cache = open_run(imported_run["mlp"]).open_cache()
    run = train(cache.path, Logistic(), Selection(classes=("cat", "ape")), runs_dir=tmp_path / "runs")
    export(run, tmp_path / "model", artefact=Artefact("keras", assert_accuracy_at_least=0.5))
    path = export_features(cache.path, tmp_path / "a.npz", run=run, roles=("test",))
    with np.load(path) as arrays:
        assert arrays["logits"].shape == (30, 2)
        assert json.loads(str(arrays["facts"]))["run"]["class_names"] == ["cat", "ape"]


def test_what_an_imported_cache_says_of_itself(imported_run, capsys):
    cache = open_run(imported_run["mlp"]).open_cache()
    lines = list(format_cache(inspect(cache.path)))
    assert any(line.startswith("made ") and "imported (source elsewhere rows 120)" in line for line in lines)
