"""What an exported folder says of itself, and whether its files are what was exported; of models of strangers too."""

import ast
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from manifests import describe, make_manifest
from PIL import Image
from test_formats import NAMES, _tiny, backbone, combined_of, images_of, need, saved  # noqa: F401 -- fixtures

from tfl.artefacts import manifest, predict, runtimes
from tfl.artefacts.formats import FORMATS as KINDS
from tfl.artefacts.formats import archives, open_model
from tfl.artefacts.fresh_process import open_in_fresh_process
from tfl.cli.main import main
from tfl.errors import ExportError
from tfl.specs import Artefact

FORMATS = ("saved-model", "keras", "onnx", "litert", "openvino", pytest.param("torch", marks=pytest.mark.torch))


@pytest.fixture(scope="module")
def made(backbone, tmp_path_factory):  # noqa: F811
    """One model in each format that was asked for, made once."""
    folders = {}

    def make(name):
        need(name)
        if name not in folders:
            folder = tmp_path_factory.mktemp("made") / name
            folders[name] = describe(saved(combined_of(backbone), folder, Artefact(name)), name)
        return folders[name]

    return make


@pytest.fixture
def copied(made, tmp_path):
    return lambda name: shutil.copytree(made(name), tmp_path / "model")


def files_of(folder):
    return [path for path in folder.rglob("*") if path.is_file() and path.name != "tfl.json"]


# ---- damage


@pytest.mark.parametrize("name", FORMATS)
def test_one_bit_is_noticed_wherever_it_is(name, copied):
    """A bit of a weight changes answers, and no runtime of these looks."""
    folder = copied(name)
    images = images_of(2, 10, 9)
    expected = predict.open_model(folder).answer(images)["logits"]
    for path in files_of(folder):
        content = path.read_bytes()
        for place in sorted({*np.linspace(0, len(content) - 1, 9).astype(int)}):
            changed = bytearray(content)
            changed[place] ^= 1 << (place % 8)
            path.write_bytes(changed)
            with pytest.raises(ExportError, match=f"{path.name} is not what was exported: its sha256 is .* was expec"):
                predict.open_model(folder)
        path.write_bytes(content)
    np.testing.assert_array_equal(predict.open_model(folder).answer(images)["logits"], expected)


@pytest.mark.parametrize("name", ["saved-model", "openvino"])
def test_files_that_are_gone_or_cut_off_are_named(name, copied):
    folder = copied(name)
    for path in files_of(folder):
        content = path.read_bytes()
        path.write_bytes(content[:-1])
        with pytest.raises(ExportError, match=f"{path.name} is not what was exported"):
            predict.open_model(folder)
        path.unlink()
        with pytest.raises(ExportError, match=path.name):
            predict.open_model(folder)
        os.mkfifo(path)
        with pytest.raises(ExportError, match=path.name):
            predict.open_model(folder)
        path.unlink()
        path.write_bytes(content)
    assert predict.open_model(folder)


def test_digests_are_of_every_file_but_those_for_people(copied):
    folder = copied("saved-model")
    (folder / "README.md").write_text("a note of one's own")
    digests = manifest.hash_files(folder)
    assert {"saved_model.pb", "variables/variables.index"} <= set(digests)
    assert not {"README.md", "assets.extra/tfl.json"} & set(digests)
    assert predict.open_model(folder)


def test_a_manifest_comes_back(tmp_path):
    written = make_manifest("onnx", {"model.onnx": "0" * 64}, temperature=1.5, is_temperature_folded=True)
    (tmp_path / "model.onnx").write_bytes(b"x")
    written = replace(written, files=manifest.hash_files(tmp_path))
    manifest.write_manifest(tmp_path, written)
    assert manifest.read_manifest(tmp_path) == written


def test_models_of_older_versions_open_or_say_what_is_missing(copied):
    folder = copied("keras")
    description = json.loads((folder / "tfl.json").read_text())
    description["is_folded"] = description.pop("is_temperature_folded")  # as it was called
    (folder / "tfl.json").write_text(json.dumps(description))
    assert predict.open_model(folder).class_names == NAMES
    (folder / "tfl.json").write_text(json.dumps({"class_names": NAMES}))
    message = r"this version of `tfl export` made: Object missing required field `\w+`; export again"
    with pytest.raises(ExportError, match=message):
        predict.open_model(folder)
    (folder / "tfl.json").write_text(json.dumps({**description, "colour": "red"}))
    with pytest.raises(ExportError, match=r"Object contains unknown field `colour` - at `\$`; export again"):
        predict.open_model(folder)


# ---- the format


def test_the_format_is_what_tfl_json_says(copied, made):
    folder = copied("keras")
    shutil.copy(made("onnx") / "model.onnx", folder)  # a stranger's file beside it
    (folder / "saved_model.pb").write_bytes(b"code")
    (folder / "model.pt2").write_bytes(b"code")
    assert manifest.read_manifest(folder).artefact.format == "keras"
    assert predict.open_model(folder)
    description = json.loads((folder / "tfl.json").read_text())
    (folder / "tfl.json").write_text(json.dumps({"class_names": description["class_names"]}))
    with pytest.raises(ExportError, match="Object missing required field"):
        predict.open_model(folder)


def test_a_format_that_the_files_are_not_of(copied):
    folder = copied("keras")
    describe(folder, "keras", artefact={"format": "onnx"}, files={"model.onnx": "0" * 64})
    with pytest.raises(ExportError, match=r"says that the format is onnx, and .* has no model.onnx; export again"):
        predict.open_model(folder)
    describe(folder, "keras", artefact={"format": "saved-model"}, files={"saved_model.pb": "0" * 64})
    with pytest.raises(ExportError, match=r"the format is saved-model, whose tfl.json lies in .*assets.extra"):
        predict.open_model(folder)
    describe(folder, "keras")
    describe(folder, "saved-model")
    with pytest.raises(ExportError, match="has two files that describe it"):
        predict.open_model(folder)


DEEP = "[" * 100_000
CONTENTS = ["", "{", "[]", "null", "1", DEEP, DEEP + "]" * 100_000, '{"class_names": NaN}', "\ud800", '{"a": 1e999}']
CHANGES = [
    {"class_names": None},
    {"class_names": "red green blue"},
    {"class_names": []},
    {"class_names": [1, 2, 3]},
    {"class_names": ["red", "red", "blue"]},
    {"class_names": {"red": 0}},
    {"artefact": None},
    {"artefact": []},
    {"artefact": {}},
    {"artefact": {"format": "pickle"}},
    {"artefact": {"format": 1}},
    {"artefact": {"format": ["keras"]}},
    {"files": []},
    {"files": None},
    {"files": {}},
    {"files": {"model.keras": 1}},
    {"files": {"model.keras": "abc"}},
    {"files": {"/etc/passwd": "0" * 64}},
    {"files": {"../model.keras": "0" * 64}},
    {"files": {"a\0b": "0" * 64}},
    {"files": {"": "0" * 64}},
]


@pytest.mark.parametrize("content", CONTENTS)
def test_tfl_json_of_any_content(content, copied, tmp_path, capsys):
    folder = copied("keras")
    (folder / "tfl.json").write_bytes(content.encode(errors="surrogatepass"))
    require_one_line(folder, tmp_path, capsys)


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_tfl_json_of_any_values(changes, copied, tmp_path, capsys):
    folder = describe(copied("keras"), "keras", **changes)
    require_one_line(folder, tmp_path, capsys)


def require_one_line(folder, tmp_path, capsys):
    Image.new("RGB", (9, 9)).save(tmp_path / "photo.png")
    assert main(["predict", str(folder), str(tmp_path / "photo.png")]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("tfl: ")
    assert printed.count("\n") == 1


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to(path.name)])
def test_tfl_json_that_is_no_file(make, copied, tmp_path, capsys):
    folder = copied("keras")
    (folder / "tfl.json").unlink()
    make(folder / "tfl.json")
    require_one_line(folder, tmp_path, capsys)


def test_more_or_fewer_names_than_answers(copied, tmp_path, capsys):
    for names in (["red"], ["red", "green"], ["red", "green", "blue", "pink"]):
        folder = copied("keras")
        describe(folder, "keras", class_names=names)
        with pytest.raises(ExportError, match=rf"answers with shape \(1, 3\), and tfl.json names {len(names)} classes"):
            predict.open_model(folder).answer(images_of(1, 9, 9))
        require_one_line(folder, tmp_path, capsys)
        shutil.rmtree(folder)


# ---- what a stranger's file could run


class Planted:
    """Pickled, it makes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def rewritten(folder, change):
    """A PyTorch program with other members; `change` takes and gives their content by name."""
    path = folder / "model.pt2"
    with zipfile.ZipFile(path) as archive:
        root = archive.namelist()[0].split("/")[0]
        members = {name.removeprefix(f"{root}/"): archive.read(name) for name in archive.namelist()}
    members = change(members) or members
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{root}/{name}", content)
    return describe(folder, "torch")


def in_json(member, change):
    def changed(members):
        value = json.loads(members[member])
        change(value)
        members[member] = json.dumps(value).encode()

    return changed


def listed(config_member, name, content_of):
    """Add a member that its config says is to be unpickled."""

    def change(members):
        folder = config_member.rpartition("/")[0]
        members[f"{folder}/{name}"] = content_of()
        config = json.loads(members[config_member])
        config["config"]["x"] = {"path_name": name, "is_param": False, "use_pickle": True, "tensor_meta": None}
        members[config_member] = json.dumps(config).encode()

    return change


def saved_by_torch(planted):
    import torch

    buffer = io.BytesIO()
    torch.save(Planted(planted), buffer)
    return buffer.getvalue()


def pickled_constant(planted):
    return listed(archives.CONSTANTS, "tensor_9999", lambda: saved_by_torch(planted))


def pickled_weight(planted):
    return listed(archives.WEIGHTS, "weight_9999", lambda: saved_by_torch(planted))


def opaque_object(planted):
    return listed(archives.CONSTANTS, "opaque_obj_0", lambda: pickle.dumps(Planted(planted)))


def legacy_weights(planted):
    return lambda members: members.update({"data/weights/model.pt": saved_by_torch(planted)})


def guard(planted):
    code = f"__import__('os').mkdir({str(planted)!r}) is None"
    return in_json(archives.MODEL, lambda model: model.update(guards_code=[code]))


def expression(planted):
    def change(model):
        values = model["graph_module"]["graph"]["tensor_values"]
        first = next(iter(values.values()))
        code = f"__import__('os').mkdir({str(planted)!r}) or 3"
        first["sizes"][0] = {"as_expr": {"expr_str": code, "hint": {"as_int": 3}}}

    return in_json(archives.MODEL, change)


def call(planted):
    def change(model):
        nodes = model["graph_module"]["graph"]["nodes"]
        argument = {"name": "", "arg": {"as_string": str(planted)}, "kind": 1}
        nodes.insert(
            0, {**nodes[0], "target": "torch.os.mkdir", "inputs": [argument], "outputs": [], "name": "planted"}
        )

    return in_json(archives.MODEL, change)


def sample_inputs(planted):
    return lambda members: members.update({archives.SAMPLE_INPUTS: saved_by_torch(planted)})


HOSTILE = (pickled_constant, pickled_weight, opaque_object, legacy_weights, guard, expression, call)
RUN_BY_PYTORCH = (pickled_constant, pickled_weight, opaque_object, guard, expression, sample_inputs)


# As a user of PyTorch would; what it raises afterwards does not matter.
LOAD_RAW = """
import sys, torch
for path in sys.argv[1:]:
    try:
        torch.export.load(path).module()(torch.zeros((2, 9, 9, 3), dtype=torch.uint8))
    except Exception:
        pass
"""


@pytest.mark.torch
@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.__name__)
def test_a_program_that_would_run_code_is_refused(hostile, copied, tmp_path, capsys):
    planted = tmp_path / "planted"
    folder = rewritten(copied("torch"), hostile(planted))
    with pytest.raises(ExportError, match=r"is not a model that `tfl export` made: it(s| holds) .*"):
        predict.open_model(folder)
    require_one_line(folder, tmp_path, capsys)
    with pytest.raises(ValueError, match="it"):
        open_model(folder, "torch")
    assert not planted.exists()


@pytest.mark.torch
def test_the_check_above_can_fail(made, tmp_path):
    """PyTorch alone runs it."""
    paths = []
    for hostile in RUN_BY_PYTORCH:
        folder = shutil.copytree(made("torch"), tmp_path / hostile.__name__)
        paths.append(rewritten(folder, hostile(tmp_path / f"{hostile.__name__}-planted")) / "model.pt2")
    subprocess.run([sys.executable, "-c", LOAD_RAW, *map(str, paths)], capture_output=True, check=False)
    planted = {path.name.removesuffix("-planted") for path in tmp_path.glob("*-planted")}
    assert planted == {hostile.__name__ for hostile in RUN_BY_PYTORCH}


@pytest.mark.torch
def test_sample_inputs_are_not_read(copied, tmp_path):
    planted = tmp_path / "planted"
    folder = copied("torch")
    expected = predict.open_model(folder).answer(images_of(2, 10, 9))["logits"]
    rewritten(folder, sample_inputs(planted))
    np.testing.assert_array_equal(predict.open_model(folder).answer(images_of(2, 10, 9))["logits"], expected)
    assert not planted.exists()


@pytest.mark.torch
@pytest.mark.parametrize(
    ("member", "message"),
    [
        ("data/aotinductor/model/x.so", "holds the member 'data/aotinductor/model/x.so'"),
        ("extra/x.py", "holds the member 'extra/x.py'"),
        ("version", "holds the member 'version'"),
        ("data/constants/custom_obj_0", "holds the member 'data/constants/custom_obj_0'"),
        ("models/other.json", "holds the member 'models/other.json'"),
        ("data/weights/../../x", "holds the member 'data/weights/../../x'"),
    ],
)
def test_other_members_are_refused(member, message, copied):
    folder = rewritten(copied("torch"), lambda members: members.update({member: b"x"}))
    with pytest.raises(ExportError, match=message):
        predict.open_model(folder)


@pytest.mark.torch
@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.add.__class__",
        "torch.ops.aten.add",
        "torch.ops.higher_order.cond",
        "torch.ops.load_library",
        "torch.hub.load",
        "torch.load",
        "torch.os.system",
        "torch.serialization.os.system",
        "_operator.attrgetter",
        "_operator.methodcaller",
        "_operator.add.__self__.exec",
        "math.sys.modules",
        "os.system",
        "#x",
    ],
)
def test_only_operations_on_tensors_are_called(target, copied):
    def change(model):
        model["graph_module"]["graph"]["nodes"][-1]["target"] = target

    folder = rewritten(copied("torch"), in_json(archives.MODEL, change))
    with pytest.raises(ExportError, match="its target is .*, which may run code"):
        predict.open_model(folder)


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04" + b"\0" * 100])
@pytest.mark.parametrize("name", ["keras", "torch"])
def test_no_archive_at_all(name, content, tmp_path):
    (tmp_path / KINDS[name].file).write_bytes(content)
    describe(tmp_path, name)
    with pytest.raises(ExportError, match="is not a model that `tfl export` made"):
        predict.open_model(tmp_path)


def test_compressed_and_doubled_members_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "[" * 100_000)
    with pytest.raises(ValueError, match=r"its member 'config.json' is compressed"):
        archives.require_plain_keras(tmp_path / "model.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
            archive.writestr("config.json", "{}")
            archive.writestr("config.json", "{}")
    with pytest.raises(ValueError, match="two members of it have the same name"):
        archives.require_plain_keras(tmp_path / "model.keras")


class Own(keras.layers.Layer):
    """A layer of somebody's own, which Keras would import by its module's name."""

    def call(self, x):
        return x


@pytest.mark.parametrize(
    "entry",
    [
        {"module": "keras.layers", "class_name": "Lambda"},
        {"module": "keras.layers", "class_name": "TFSMLayer"},
        {"module": "keras.layers", "class_name": "TorchModuleWrapper"},
        {"module": "keras.layers", "class_name": "TextVectorization"},
        {"module": "os", "class_name": "system"},
        {"module": "keras.src.utils.file_utils", "class_name": "get_file"},
        {"module": "keras.utils", "class_name": "function"},
        {"module": "keras_hub.layers", "class_name": "Anything"},
        {"module": "tests.test_manifest", "class_name": "Own"},
        {"module": None, "class_name": "Own", "registered_name": "x>Own"},
        {"class_name": "__lambda__"},
        {"class_name": "__typespec__"},
        {"module": ["os"], "class_name": "system"},
        {"module": "keras", "class_name": "Sequential", "compile_config": {"optimizer": "adam"}},
    ],
    ids=lambda entry: f"{entry.get('module')}.{entry['class_name']}",
)
def test_keras_files_hold_layers_of_keras_alone(entry, copied):
    folder = copied("keras")
    path = folder / "model.keras"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    config["config"]["layers"][-1]["config"]["more"] = {"config": {}, **entry}
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    describe(folder, "keras")
    with pytest.raises(ExportError, match="it holds (the class|settings of a training)"):
        predict.open_model(folder)


def test_the_program_takes_the_format_as_an_argument(copied, made):
    folder = copied("keras")
    shutil.copy(made("onnx") / "model.onnx", folder)
    (folder / "saved_model.pb").write_bytes(b"code")
    images = images_of(2, 10, 9)
    with open_in_fresh_process(folder, KINDS["keras"]) as compute_logits:
        expected = predict.open_model(made("keras")).answer(images)["logits"]
        np.testing.assert_allclose(compute_logits(images), expected, rtol=1e-5, atol=1e-6)


LIGHT = {*sys.stdlib_module_names, "numpy"}


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_a_format_file_needs_nothing_of_tfl_to_open_a_model(kind):
    """At its top level it imports the standard library and numpy alone; the fresh process has no more."""
    tree = ast.parse(kind.path.read_text(encoding="utf-8"))
    found = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in found} <= LIGHT
    opener = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "open_model")
    inside = {node.module for node in ast.walk(opener) if isinstance(node, ast.ImportFrom)}
    assert not any(name.startswith("tfl") for name in inside)


@pytest.mark.parametrize("name", FORMATS)
def test_a_fresh_process_has_nothing_of_tfl(name, copied):
    folder, images = copied(name), images_of(2, 10, 9)
    expected = predict.open_model(folder).answer(images)["logits"]
    with open_in_fresh_process(folder, KINDS[name]) as compute_logits:
        np.testing.assert_allclose(compute_logits(images), expected, rtol=1e-5, atol=1e-6)


def test_the_check_above_can_fail_because_tfl_cannot_be_imported(tmp_path):
    """A format whose opening imports tfl is refused by its fresh process."""
    source = "def open_model(path):\n    import tfl\n"
    (tmp_path / "needy.py").write_text(source)
    needy = runtimes.load_format_file(tmp_path / "needy.py")
    kind = replace(KINDS["onnx"], open_model=needy.open_model)
    with (
        pytest.raises(ExportError, match="could not run the exported model.*(?s:.*)import of tfl halted"),
        open_in_fresh_process(tmp_path, kind) as compute_logits,
    ):
        compute_logits(images_of(1, 9, 9))


def test_every_format_says_whether_opening_it_can_run_code():
    for kind in KINDS.values():
        assert "run" in kind.safety or "program" in kind.safety
        assert "MODEL" in kind.call
