"""Files from a stranger: a cache, weights, a head. Each is read as what it claims to be, or refused; nothing else."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from golden import make_format_1 as golden
from hypothesis import given
from hypothesis import strategies as st

from tfl.cache import Cost, PartialCache, open_cache, verification
from tfl.errors import BackboneError, CacheError, RunError
from tfl.files import hdf5, trust
from tfl.heads import Reference
from tfl.heads.examples import InMemory
from tfl.heads.loading import load_head
from tfl.heads.solvers.reference import fit

LAB = Path(__file__).with_name("fuzz_lab.py")
GOLDEN = Path(__file__).parent / "golden" / "format-1.h5"
FUZZ_CASES = 3000


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "stranger.h5"
    path.write_bytes(GOLDEN.read_bytes())
    return path


def replaced(file, name, make):
    del file[name]
    make(file, name)


def array(file, name, **options):
    values = np.zeros((40, 6), np.float32)
    replaced(file, name, lambda f, n: f.create_dataset(n, **{"data": values, "fletcher32": True, **options}))


def huge(file, name):
    """Sixteen terabytes, none of which is there."""
    del file[name]
    file.create_dataset(name, (10**9, 4096), "<f4", chunks=(16, 4096), fletcher32=True)


def virtual(file, name):
    layout = h5py.VirtualLayout((40, 6), "<f4")
    layout[:] = h5py.VirtualSource("secret.h5", "x", shape=(40, 6))
    replaced(file, name, lambda f, n: f.create_virtual_dataset(n, layout))


def external(file, name):
    replaced(file, name, lambda f, n: f.create_dataset(n, (40, 6), "<f4", external=[("/etc/passwd", 0, 960)]))


def text(name, value, dtype=None):
    def change(file):
        del file.attrs[name]
        file.attrs.create(name, value if dtype else np.bytes_(value), dtype=dtype)

    return change


def labels(*values):
    def change(file):
        file["test/labels"][: len(values)] = values

    return change


FEATURES = "test/features"
HOSTILE = {
    "external link": (lambda f: replaced(f, FEATURES, external_link), "a link features, which leads out"),
    "soft link": (lambda f: replaced(f, FEATURES, soft_link), "a link features, which leads out"),
    "soft link for a role": (lambda f: replaced(f, "test", soft_link), "a link test, which leads out"),
    "external storage": (lambda f: external(f, FEATURES), "not stored in this file in chunks with fletcher32"),
    "virtual dataset": (lambda f: virtual(f, FEATURES), "not stored in this file in chunks with fletcher32"),
    "decompression bomb": (lambda f: array(f, FEATURES, compression="gzip"), "fletcher32 and nothing else"),
    "no checksum": (lambda f: array(f, FEATURES, fletcher32=False), "fletcher32 and nothing else"),
    "terabytes that are not there": (
        lambda f: huge(f, FEATURES),
        "takes 0 bytes; expected all of its 62,500,000 chunks",
    ),
    "resizable": (lambda f: array(f, FEATURES, maxshape=(None, 6)), "expected a fixed one"),
    "float64": (lambda f: array(f, FEATURES, dtype="<f8"), "test/features is not float32"),
    "big-endian": (lambda f: array(f, FEATURES, dtype=">f4"), "test/features is not float32"),
    "object text as ids": (
        lambda f: array(f, "test/ids", data=["a"] * 40, dtype=h5py.string_dtype(), fletcher32=False),
        "fletcher32 and nothing else",
    ),
    "wide ids": (lambda f: array(f, "test/ids", data=np.full(40, b"a", "S5000")), "test/ids is not text"),
    "bytes as labels": (lambda f: array(f, "test/labels", data=np.zeros(40, np.uint8)), "labels is not int64"),
    "fewer labels": (lambda f: array(f, "test/labels", data=np.zeros(39, np.int64)), "differing numbers of rows"),
    "other width": (lambda f: array(f, FEATURES, data=np.zeros((40, 7), np.float32)), "differing widths"),
    "group for an array": (lambda f: replaced(f, FEATURES, lambda f, n: f.create_group(n)), "is not a dataset"),
    "ring": (lambda f: replaced(f, FEATURES, lambda f, n: f.__setitem__(n, f["test"])), "is not a dataset"),
    "more than the format has": (lambda f: f.create_group("extra"), "/ holds extra, test, train; expected train, test"),
    "role missing": (lambda f: f.__delitem__("test"), "/ holds train; expected train, test"),
    "array missing": (lambda f: f.__delitem__("test/ids"), "/test holds features, labels; expected"),
    "attribute missing": (lambda f: f.attrs.__delitem__("digests"), "no attribute digests"),
    "format 2": (lambda f: f.attrs.modify("format", np.int64(2)), "format 2; this version of tfl reads 1"),
    "format as text": (text("format", "1"), "format is not one 64-bit integer"),
    "text of variable length": (text("spec", "{}", h5py.string_dtype()), "spec is not one text of fixed length"),
    "text in millions": (text("class_names", b"x" * (17 << 20)), "17,825,792 bytes; at most"),
    "text that is no UTF-8": (text("spec", b"\xff\xff"), "codec can't decode"),
    "nested JSON": (text("provenance", "[" * 60_000), "provenance is not JSON"),
    "nested spec": (text("spec", "[" * 60_000), "a CacheSpec was expected as JSON"),
    "spec of another": (text("fingerprint", "0" * 64), "its fingerprint 0000"),
    "spec of words": (text("spec", golden.SPEC.to_json().replace("sha256:", "")), "only a resolved spec"),
    "spec that is not canonical": (
        text("spec", golden.SPEC.to_json().replace(",", ", ")),
        "not written as canonical JSON",
    ),
    "skipped that is no list of images": (
        text("provenance", '{"typed": {"dataset": "x", "weights": "x"}, "skipped": [1]}'),
        "provenance.skipped is 1",
    ),
    "ids that are no UTF-8": (lambda f: f["test/ids"].__setitem__(1, b"\xff"), "an id is not UTF-8"),
    "one class": (text("class_names", '["cat"]'), "expected two names or more"),
    "numbers as names": (text("class_names", "[1, 2, 3]"), "expected two names or more"),
    "no provenance": (text("provenance", "{}"), r"provenance.typed is None; expected texts for dataset, weights"),
    "no digests": (text("digests", '{"train/features": 1}'), "digests is .* expected texts for train/features"),
    "label beyond the classes": (labels(2, 3), "test/labels rows 0 to 39: a label is not between 0 and 2"),
    "label below zero": (labels(-1), "test/labels rows 0 to 39: a label is not between 0 and 2"),
    "NaN": (lambda f: f[FEATURES].__setitem__((3, 3), np.nan), "rows 0 to 20: a value is not a finite number"),
    "other values": (lambda f: f[FEATURES].__setitem__((3, 3), 7), "are not those that were written"),
    "repeated id": (
        lambda f: f["test/ids"].__setitem__(1, b"train/z3.png"),
        "the id 'train/z3.png' appears in two rows",
    ),
}


def external_link(file, name):
    file[name] = h5py.ExternalLink("secret.h5", "/x")


def soft_link(file, name):
    file[name] = h5py.SoftLink("/train" if name == "test" else "/train/features")


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_the_format_does_not_allow_is_refused(path, kind):
    change, message = HOSTILE[kind]
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        change(file)
    with h5py.File(path.with_name("secret.h5"), "w") as file:
        file["x"] = np.ones((40, 6), np.float32)
    started = time.monotonic()
    problems = verification.find_problems(path)
    assert time.monotonic() - started < 5
    assert any(re.search(message, problem) for problem in problems), problems


VIEW = "test/views/hflip"
HOSTILE_VIEWS = {
    "external link": (lambda f: replaced(f, VIEW, external_link), "a link hflip, which leads out"),
    "soft link for the group": (
        lambda f: replaced(f, "test/views", lambda f, n: f.__setitem__(n, h5py.SoftLink("/train/views"))),
        "a link views, which leads out",
    ),
    "array for the group": (lambda f: array(f, "test/views"), "/test/views is not a group"),
    "ring": (lambda f: replaced(f, VIEW, lambda f, n: f.__setitem__(n, f["test"])), "is not a dataset"),
    "view missing": (lambda f: f.__delitem__(VIEW), "/test/views holds crop1; expected hflip, crop1"),
    "group missing": (lambda f: f.__delitem__("test/views"), "/test holds features, ids, labels; expected"),
    "more than the spec has": (lambda f: f["test/views"].create_group("crop2"), "holds crop1, crop2, hflip; expected"),
    "terabytes that are not there": (lambda f: huge(f, VIEW), "takes 0 bytes; expected all of its"),
    "decompression bomb": (lambda f: array(f, VIEW, compression="gzip"), "fletcher32 and nothing else"),
    "virtual dataset": (lambda f: virtual(f, VIEW), "not stored in this file in chunks with fletcher32"),
    "float64": (lambda f: array(f, VIEW, dtype="<f8"), "test/views/hflip is not float32"),
    "fewer rows": (lambda f: array(f, VIEW, data=np.zeros((39, 6), np.float32)), "hflip has another shape than"),
    "other width": (lambda f: array(f, VIEW, data=np.zeros((40, 7), np.float32)), "hflip has another shape than"),
    "NaN": (lambda f: f[VIEW].__setitem__((3, 3), np.nan), "test/views/hflip rows 0 to 39: a value is not a finite"),
    "other values": (lambda f: f[VIEW].__setitem__((3, 3), 7), "test/views/hflip rows .* are not those that were"),
    "digest missing": (text("digests", "{}"), "digests is {}; expected texts for .*train/views/hflip"),
}


@pytest.mark.parametrize("kind", HOSTILE_VIEWS)
def test_views_that_the_format_does_not_allow_are_refused(tmp_path, kind):
    spec = replace(golden.SPEC, views=("original", "hflip", "crop1"))
    partial = PartialCache(tmp_path / "views.h5", spec, golden.NUM_ROWS, {"engine": "none", "shard_rows": 200})
    with partial.hold():
        for shard in partial.missing():
            rows = golden.rows(*shard)
            views = {"hflip": -rows.features, "crop1": rows.features}
            partial.write(shard, rows._replace(views=views), Cost(1, 1))
        path = partial.finish(golden.CLASS_NAMES, {"typed": golden.TYPED})
    assert verification.find_problems(path) == []
    change, message = HOSTILE_VIEWS[kind]
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        change(file)
    problems = verification.find_problems(path)
    assert any(re.search(message, problem) for problem in problems), problems


def test_views_that_the_spec_does_not_have_are_refused(path):
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        file["test"].create_group("views")
    assert (
        "/test holds features, ids, labels, views; expected features, labels, ids"
        in verification.find_problems(path)[0]
    )


@pytest.mark.parametrize(
    "kind", ["external link", "terabytes that are not there", "nested JSON", "label beyond the classes"]
)
def test_a_stranger_is_examined_before_it_is_opened(path, kind):
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        HOSTILE[kind][0](file)
    with pytest.raises(CacheError, match=f"(?s)cannot be trusted; remove it and precompute again:.*{HOSTILE[kind][1]}"):
        open_cache(path)


def test_an_examination_that_dies_or_hangs_is_a_cache_error(path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(CacheError, match="the process that examined it died: exit code 1"):
        open_cache(path)
    (path.parent / "sleep").write_text("#!/bin/sh\nexec sleep 60\n")
    (path.parent / "sleep").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path.parent / "sleep"))
    monkeypatch.setattr(trust, "SECONDS", 0.2)
    with pytest.raises(CacheError, match="HDF5 had not read it to its end after 0 s"):
        open_cache(path)


def test_a_file_that_hdf5_never_finishes_reading(path, monkeypatch):
    """Case 106361 of the laboratory, with the golden file of that day; HDF5 1.14.6 loops on it."""
    path.write_bytes(GOLDEN.with_name("hdf5-1.14.6-loops.h5").read_bytes())
    monkeypatch.setattr(trust, "SECONDS", 3.0)
    with pytest.raises(CacheError, match="HDF5 had not read it to its end after 3 s|the process that examined it died"):
        open_cache(path)


def test_a_file_that_changes_while_it_is_examined_is_not_noted(path, monkeypatch):
    def swap(kind, path):
        path.write_bytes(b"another")
        return []

    monkeypatch.setattr(trust, "find_problems", swap)
    with pytest.raises(CacheError):
        open_cache(path)
    assert not trust.is_trusted(path)


def test_files_are_noted_whatever_their_names(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    (folder / "c.h5").write_bytes(GOLDEN.read_bytes())
    open_cache(folder / "c.h5")
    assert trust.is_trusted(folder / "c.h5")
    assert not trust.is_own(folder / "c.h5")
    trust.mark_own(folder / "c.h5")
    assert trust.is_own(folder / "c.h5")


def test_golden_file_is_read(path):
    """Format 1 stays readable."""
    cache = open_cache(path, expected=golden.SPEC)
    assert (cache.class_names, cache.num_rows, cache.num_features) == (golden.CLASS_NAMES, golden.NUM_ROWS, 6)
    for role, count in golden.NUM_ROWS.items():
        for found, expected in zip(cache.read(role), golden.rows(role, 0, count), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_mutated_files_are_read_rightly_or_refused():
    """The laboratory asserts that nothing but CacheError comes, in little memory; a death would be one in the child."""
    done = subprocess.run([sys.executable, str(LAB), str(FUZZ_CASES), "0"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    counts = json.loads(done.stdout)
    assert counts["refused"] + counts["read"] + counts["died"] == FUZZ_CASES
    assert counts["another"] == 0
    assert counts["refused"] > FUZZ_CASES / 2
    assert counts["blocks"] > 10


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(st.sampled_from(["spec", "class_names", "provenance", "digests"]), json_values)
def test_any_json_in_an_attribute_is_read_rightly_or_refused(tmp_path_factory, name, value):
    path = tmp_path_factory.getbasetemp() / "json.h5"
    path.write_bytes(GOLDEN.read_bytes())
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        text(name, json.dumps(value))(file)
    problems = verification.find_problems(path)
    assert problems or name == "class_names"


@given(st.sampled_from(["features", "dataset"]), st.data())
def test_any_value_in_a_spec_is_read_rightly_or_refused(tmp_path_factory, part, data):
    path = tmp_path_factory.getbasetemp() / "spec.h5"
    path.write_bytes(GOLDEN.read_bytes())
    spec = json.loads(golden.SPEC.to_json())
    spec[part][data.draw(st.sampled_from(sorted(spec[part])))] = data.draw(json_values)
    is_the_same = json.dumps(spec, sort_keys=True, separators=(",", ":")) == golden.SPEC.to_json()
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        text("spec", json.dumps(spec))(file)
    assert is_the_same or verification.find_problems(path)  # at least the fingerprint is another


def weights(path, change):
    with h5py.File(path, "w", libver="v110") as file:
        file["layers/dense/vars/0"] = np.zeros((4, 3), np.float32)
        change(file)
    return path


WEIGHTS = {
    "external link": (lambda f: external_link(f, "x"), "holds a link, b'x', that may lead out"),
    "soft link": (lambda f: soft_link(f, "x"), "holds a link, b'x', that may lead out"),
    "external storage": (
        lambda f: f.create_dataset("x", (40, 6), "<f4", external=[("/etc/passwd", 0, 960)]),
        "stored outside this file",
    ),
    "virtual dataset": (
        lambda f: f.create_virtual_dataset("x", h5py.VirtualLayout((4,), "<f4")),
        "stored outside this file",
    ),
    "terabytes that are not there": (
        lambda f: f.create_dataset("x", (10**6, 10**6), "<f4", chunks=(10, 10)),
        "larger than the file allows",
    ),
    "decompression bomb": (
        lambda f: f.create_dataset("x", data=np.zeros(10**7), compression="gzip"),
        "larger than the file allows",
    ),
    "text": (lambda f: f.create_dataset("x", data=["text"]), "holds object; expected numbers"),
    "attribute of millions": (
        lambda f: f.attrs.create("x", np.zeros(3 << 20)),
        "/ has an attribute of 25,165,824 bytes",
    ),
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_that_reach_out_or_claim_too_much_are_refused(tmp_path, kind):
    change, message = WEIGHTS[kind]
    (problem,) = hdf5.find_problems(weights(tmp_path / "w.h5", change))
    assert message in problem
    with pytest.raises(BackboneError, match="cannot be trusted; get it again:"):
        hdf5.require_harmless(tmp_path / "w.h5", BackboneError)


def test_weights_attributes_are_read_in_the_examination(tmp_path):
    """Keras reads those of the older format; text of variable length lies in a heap without a checksum."""
    path = weights(tmp_path / "w.h5", lambda f: f.attrs.create("layer_names", ["a"] * 9, dtype=h5py.string_dtype()))
    content = bytearray(path.read_bytes())
    content[content.index(b"GCOL") + 8 + 5] = 1  # the heap's size: a terabyte
    path.write_bytes(content)
    (problem,) = hdf5.find_problems(path)
    assert "it cannot be read: " in problem


def test_an_archive_of_weights_behind_harmless_ones_is_refused(tmp_path):
    """HDF5 finds its signature further in as well, and Keras goes by the suffix."""
    with h5py.File(tmp_path / "evil.keras", "w", userblock_size=512) as file:
        file["x"] = 1.0
    with (tmp_path / "evil.keras").open("ab") as raw, zipfile.ZipFile(raw, "w") as archive:
        archive.writestr("model.weights.h5", b"evil")
    assert h5py.is_hdf5(tmp_path / "evil.keras")
    assert zipfile.is_zipfile(tmp_path / "evil.keras")
    with pytest.raises(BackboneError, match="evil.keras is not an HDF5 file"):
        hdf5.require_harmless(tmp_path / "evil.keras", BackboneError)
    path = weights(tmp_path / "w.keras", lambda f: None)
    with pytest.raises(BackboneError, match="w.keras is not an HDF5 file"):
        hdf5.require_harmless(path, BackboneError)


def test_weights_in_a_ring_are_walked_once(tmp_path):
    path = weights(tmp_path / "w.h5", lambda f: f.__setitem__("layers/ring", f["layers"]))
    assert hdf5.find_problems(path) == []
    hdf5.require_harmless(path, BackboneError)
    assert trust.is_trusted(path)


def test_weights_cut_short_are_refused(tmp_path):
    path = weights(tmp_path / "w.h5", lambda f: f.create_dataset("x", data=np.zeros(10_000)))
    path.write_bytes(path.read_bytes()[:9000])
    (problem,) = hdf5.find_problems(path)
    assert "it cannot be read: " in problem


def test_five_lines_without_tfl(path):
    """As cache/README.md gives them."""
    lines = (Path(__file__).parents[1] / "cache" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    names = {}
    exec(lines.replace("cache/cifar10-resnet50-224-….h5", str(path)), names)
    expected = golden.rows("train", 0, 150)
    np.testing.assert_array_equal(names["features"], expected.features)
    assert names["labels"].tolist() == expected.labels.tolist()
    assert [id_.encode() for id_ in names["ids"]] == expected.ids.tolist()
    assert tuple(json.loads(names["class_names"])) == golden.CLASS_NAMES


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["h5ls", "-r"], "/train/features          Dataset {150, 6}"),
        (["h5dump", "-d", "/test/labels"], "(23): 2, 0, 1, 2"),
        (["h5dump", "-A"], 'ATTRIBUTE "class_names"'),
    ],
)
def test_the_tools_of_hdf5_read_it(path, command, shown):
    if shutil.which(command[0]) is None:
        pytest.skip("needs hdf5-tools")
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=True)
    assert shown in done.stdout


@pytest.fixture
def head_file(tmp_path):
    model, _ = fit(Reference(epochs=1), InMemory(np.eye(4, 3, dtype=np.float32), np.arange(4) % 2), 2)
    model.save(tmp_path / "head.keras")
    return tmp_path / "head.keras"


def rewritten(path, change_config=lambda config: None, weights=None, **options):
    """The head with another configuration or other weights."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change_config(config["config"]["layers"])
    members["config.json"] = json.dumps(config).encode()
    members["model.weights.h5"] = weights or members["model.weights.h5"]
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def a_lambda(layers):
    """Code that leaves a trace if it is ever run."""
    layer = keras.layers.Lambda(lambda x: Path("trace").touch() or x)
    layers.append(keras.saving.serialize_keras_object(layer))


def another_module(layers):
    layers[1] |= {"module": "os", "class_name": "system", "registered_name": "os>system"}


def wider(layers):
    layers[1]["config"]["units"] = 10**12


def activated(layers):
    layers[1]["config"]["activation"] = "softmax"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (a_lambda, "its layers are InputLayer, Dense, Lambda; expected Dense layers, or Neighbours"),
        (another_module, "its layers are InputLayer, system; expected"),
        (wider, "Dense layers of widths \\[3, 1000000000000\\] do not fit into it"),
        (activated, r"its Dense layers are of widths \[3, 2\], .*softmax.*; expected relu, and logits"),
        (list.clear, "its layers are  on None; expected features"),
    ],
)
def test_a_head_that_is_more_than_a_dense_layer_is_refused(head_file, change, message, monkeypatch):
    monkeypatch.chdir(head_file.parent)
    rewritten(head_file, change)
    with pytest.raises(RunError, match=f"head.keras cannot be loaded: {message}"):
        load_head(head_file)
    assert not (head_file.parent / "trace").exists()


def test_a_head_whose_weights_reach_out_is_refused(head_file, tmp_path):
    with zipfile.ZipFile(head_file) as archive:
        (tmp_path / "w.h5").write_bytes(archive.read("model.weights.h5"))
    with h5py.File(tmp_path / "w.h5", "r+") as file:
        del file["layers/dense/vars/0"]
        file["layers/dense/vars/0"] = h5py.ExternalLink("/etc/passwd", "/x")
    rewritten(head_file, weights=(tmp_path / "w.h5").read_bytes())
    with pytest.raises(RunError, match="(?s)cannot be trusted.*holds a link"):
        load_head(head_file)


def test_a_head_of_a_padded_configuration_is_refused(head_file):
    rewritten(head_file, lambda layers: layers[0]["config"].update(padding="x" * (2 << 20)))
    with pytest.raises(RunError, match="its member config.json has 2,.* bytes; at most 1,048,576 are read"):
        load_head(head_file)


def test_a_compressed_head_is_refused(head_file):
    rewritten(head_file, weights=bytes(10**6), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(RunError, match="its member config.json is compressed"):
        load_head(head_file)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04"])
def test_a_head_that_is_no_archive_is_refused(head_file, content):
    head_file.write_bytes(content)
    with pytest.raises(RunError, match="cannot be loaded: .*; train again"):
        load_head(head_file)


def test_a_head_cut_short_is_refused(head_file):
    whole = head_file.read_bytes()
    for size in range(0, len(whole), 997):
        head_file.write_bytes(whole[:size])
        with pytest.raises(RunError, match="cannot be loaded"):
            load_head(head_file)


def test_a_head_comes_back_as_it_was_saved(head_file):
    theirs, ours = keras.saving.load_model(head_file), load_head(head_file)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert trust.is_trusted(head_file)
