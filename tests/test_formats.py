"""Every format: in this process what it answers, and through `export` that a fresh process answers the same."""

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tiny
from conftest import write_npz

from tfl import datasets
from tfl.artefacts import export, limits, parity
from tfl.artefacts.candidate import Candidate
from tfl.artefacts.combined import Combined, fold
from tfl.artefacts.formats import FORMATS as KINDS
from tfl.artefacts.formats import open_model, require_format
from tfl.artefacts.predict import predict
from tfl.backbones.backbone import build_backbone
from tfl.errors import ExportError, ExtraError, SpecError
from tfl.extraction.precompute import precompute
from tfl.heads import Knn, Reference
from tfl.heads.model import build_dense, build_neighbours
from tfl.runs.evaluation import evaluate
from tfl.runs.folder import open_run
from tfl.runs.training import train
from tfl.specs import Artefact, DatasetSpec, FeatureSpec, Settings

RUNTIMES = {
    "onnx": ("tf2onnx", "onnxruntime"),
    "litert": ("ai_edge_litert",),
    "openvino": ("openvino",),
    "torch": ("torch",),
}
FEATURES = FeatureSpec(backbone="tiny", weights="random", image_size=12)
NAMES = ("red", "green", "blue")
EMPTY_TOO = ("saved-model", "onnx", "openvino")


def need(name):
    for module in RUNTIMES.get(name, ()):
        pytest.importorskip(module)


@pytest.fixture(scope="module", autouse=True)
def _tiny():
    with tiny.registered():
        yield


@pytest.fixture(scope="module")
def backbone(_tiny):
    """With statistics that a BatchNormalization would have after training."""
    built = build_backbone(FEATURES)
    rng = np.random.default_rng(0)
    norm = built.unpooled.get_layer("bn1")
    norm.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in norm.get_weights()])
    return built


def combined_of(backbone, views=("original",), knn=False):
    rng = np.random.default_rng(1)
    if knn:
        memory = rng.normal(size=(20, 5)).astype(np.float32)
        memory /= np.linalg.norm(memory, axis=1, keepdims=True)
        model = build_neighbours(memory, np.eye(3, dtype=np.float32)[rng.integers(0, 3, 20)], 4, 0.1)
    else:
        parameters = [(rng.normal(size=(5, 3)).astype(np.float32), rng.normal(size=3).astype(np.float32))]
        model = build_dense(parameters)
    model.trainable = False
    return Combined(backbone.build_views(views), backbone.build_view_mean(views), model, NAMES)


def saved(combined, folder, artefact, calibration=()):
    """Write a model that is given, instead of the one that a candidate prepares."""
    folder.mkdir()
    candidate = Candidate(None, None, None, combined, artefact)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Candidate, "prepare", lambda self: combined)
        patch.setattr(Candidate, "_read_calibration", lambda self: calibration)
        candidate.save(folder)
    return folder


def images_of(*shape):
    return np.random.default_rng(2).integers(0, 255, (*shape, 3), dtype=np.uint8)


FORMATS = ("saved-model", "keras", "onnx", "litert", "openvino")


@pytest.mark.parametrize("name", [*FORMATS, "torch"])
def test_any_batch_and_any_size_folded_with_views(name, backbone, tmp_path):
    need(name)
    combined = combined_of(backbone, ("original", "hflip", "crop1"))
    answer = open_model(saved(fold(combined), tmp_path / "model", Artefact(name)))
    for shape in [(1, 1, 1), (2, 64, 48), (5, 10, 9), (1, 30, 7)]:
        images = images_of(*shape)
        outputs = answer(images)
        assert set(outputs) >= {"probabilities", "logits", "class_index"}
        expected = combined.compute_logits(images)
        np.testing.assert_allclose(outputs["logits"], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(outputs["class_index"], expected.argmax(axis=1))
        np.testing.assert_allclose(np.sum(outputs["probabilities"], axis=1), 1, rtol=1e-5)
    if name in EMPTY_TOO:
        assert {key: np.shape(value) for key, value in answer(images_of(0, 10, 9)).items()} | {"class_name": (0,)} == {
            "probabilities": (0, 3),
            "logits": (0, 3),
            "class_index": (0,),
            "class_name": (0,),
        }


@pytest.mark.parametrize("name", ["saved-model", "onnx", "litert", "openvino"])
def test_a_head_that_votes(name, backbone, tmp_path):
    need(name)
    combined = combined_of(backbone, knn=True)
    answer = open_model(saved(combined, tmp_path / "model", Artefact(name)))
    images = images_of(4, 10, 9)
    np.testing.assert_allclose(answer(images)["logits"], combined.compute_logits(images), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["saved-model", "onnx", "litert", "openvino"])
def test_float16_rounds_the_weights_and_nothing_else(name, backbone, tmp_path, monkeypatch):
    need(name)
    monkeypatch.setattr("tfl.artefacts.formats.onnx.LEAST_VALUES", 1)
    combined = combined_of(backbone)
    images = images_of(4, 10, 9)
    rounded = open_model(saved(combined, tmp_path / "model", Artefact(name, "float16")))(images)["logits"]
    expected = combined.compute_logits(images)
    assert 1e-6 < np.abs(rounded - expected).max() / np.abs(expected).max() < 5e-3


def test_int8(backbone, tmp_path):
    need("litert")
    combined = combined_of(backbone)
    images = images_of(32, 10, 9)
    folder = saved(fold(combined), tmp_path / "model", Artefact("litert", "int8"), list(images))
    rounded = open_model(folder)(images)["logits"]
    expected = combined.compute_logits(images)
    assert 1e-4 < np.abs(rounded - expected).max() / np.abs(expected).max() < 0.1


def tensors_of(folder, name):
    if name == "saved-model":
        import tensorflow as tf

        return [each.numpy() for each in tf.saved_model.load(str(folder)).weights]
    if name == "keras":
        return keras.saving.load_model(folder / "model.keras").get_weights()
    if name == "onnx":
        import onnx

        tensors = map(onnx.numpy_helper.to_array, onnx.load(folder / "model.onnx").graph.initializer)
        return sorted(tensors, key=lambda array: (array.shape, array.tobytes()))  # tf2onnx puts them in any order
    weights = folder / {"litert": "model.tflite", "openvino": "model.bin"}[name]
    return [np.frombuffer(weights.read_bytes(), np.uint8)]


@pytest.mark.parametrize(
    ("name", "quantize"),
    [*((name, "none") for name in FORMATS), ("saved-model", "float16"), ("onnx", "float16")],  # that tfl rounds itself
)
def test_twice_the_same_tensors(name, quantize, backbone, tmp_path, monkeypatch):
    """Names of layers may differ: Keras numbers them as it makes them."""
    need(name)
    monkeypatch.setattr("tfl.artefacts.formats.onnx.LEAST_VALUES", 1)
    artefact = Artefact(name, quantize)
    first, second = (tensors_of(saved(fold(combined_of(backbone)), tmp_path / str(i), artefact), name) for i in (1, 2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def trained(_tiny, tmp_path_factory):
    root = tmp_path_factory.mktemp("trained")
    dataset = DatasetSpec(dataset=str(write_npz(root / "colours.npz", train=70, test=40)))
    cache = precompute(FEATURES, dataset, Settings(cache_dir=root / "cache", batch_size=8, shard_rows=16))
    return SimpleNamespace(
        dataset=dataset,
        cache=cache,
        run=train(cache, Reference(epochs=5, learning_rate=0.1), runs_dir=root / "runs"),
    )


@pytest.mark.parametrize("name", ["keras", "onnx", "litert", "openvino", "torch"])
def test_exported_and_proven(name, trained, tmp_path, monkeypatch):
    need(name)
    opened, seen = [], []
    open_dataset = datasets.open_dataset
    monkeypatch.setattr(
        datasets, "open_dataset", lambda spec, *bound: opened.append(spec) or open_dataset(spec, *bound)
    )
    out = tmp_path / "model"
    artefact = Artefact(name, assert_accuracy_at_least=0.5)
    parity = export.export(
        trained.run, out, artefact=artefact, on_progress=lambda now: seen.append((now.finished, now.total))
    )
    assert len(opened) == 1
    assert seen == [(i, 40) for i in range(1, 41)]
    assert (parity.num_images, parity.same_class) == (46, 1.0)
    assert parity.error < 1e-3
    description = json.loads((out / "tfl.json").read_text())
    assert description["class_names"] == list(NAMES)
    assert set(description["versions"]) >= {"keras", *KINDS[name].packages}
    assert description["measured"]["num_images"] == 40
    assert description["measured"]["accuracy"] == evaluate(trained.run).accuracy
    assert f"{description['measured']['accuracy']:.2%} of 40" in (out / "README.md").read_text()
    from PIL import Image

    Image.new("RGB", (31, 17), (200, 60, 60)).save(tmp_path / "red.png")
    (prediction,) = predict(out, [tmp_path / "red.png"])
    assert prediction.class_name == "red"


def test_too_little_accuracy_leaves_nothing(trained, tmp_path):
    untrained = train(trained.cache, Reference(epochs=1, learning_rate=1e-9), runs_dir=tmp_path / "runs")
    with pytest.raises(ExportError, match=r"of 40 test images right; at least 99.00% was asked for. Nothing was left"):
        export.export(untrained, tmp_path / "model", artefact=Artefact("keras", assert_accuracy_at_least=0.99))
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


@pytest.mark.parametrize(
    ("name", "module"), [("onnx", "tf2onnx"), ("litert", "ai_edge_litert.interpreter"), ("torch", "torch")]
)
def test_a_missing_extra_is_named(name, module, trained, tmp_path, monkeypatch):
    if module == keras.backend.backend():
        pytest.skip("Keras runs on it")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ExtraError, match=rf"{name} needs a package that cannot be .*: pip install '.\[{name}\]'"):
        export.export(trained.run, tmp_path / "model", artefact=Artefact(name))
    assert list(tmp_path.iterdir()) == []


def test_what_a_format_cannot_do_is_refused():
    with pytest.raises(SpecError, match="quantize int8 is for litert, got format onnx"):
        require_format(Artefact("onnx", "int8"))
    with pytest.raises(SpecError, match="format is one of saved-model, keras, .*; got 'pickle'"):
        require_format(Artefact("pickle"))
    with pytest.raises(SpecError, match="quantize int4 is for nothing, got format keras"):
        require_format(Artefact("keras", "int4"))
    with pytest.raises(SpecError, match="assert_accuracy_at_least is in 0..1, got 90"):
        Artefact(assert_accuracy_at_least=90)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("saved-model", {"resize_mode": "pad", "interpolation": "lanczos3", "compute_dtype": "bfloat16"}),
        ("keras", {"resize_mode": "pad", "interpolation": "bicubic", "antialias": True}),
        ("keras", {"interpolation": "bicubic"}),
        ("onnx", {"resize_mode": "crop", "interpolation": "bicubic"}),
        ("onnx", {"resize_mode": "pad", "antialias": True}),
        ("onnx", {"resize_mode": "pad", "interpolation": "nearest", "compute_dtype": "float16"}),
        ("litert", {"resize_mode": "crop", "interpolation": "nearest"}),
        ("litert", {"resize_mode": "pad"}),
        ("litert", {"resize_mode": "crop", "interpolation": "lanczos3"}),
        ("openvino", {"resize_mode": "crop", "interpolation": "nearest", "compute_dtype": "float16"}),
        ("openvino", {"resize_mode": "crop", "interpolation": "lanczos5"}),
        ("openvino", {"interpolation": "bicubic", "antialias": True}),
        ("torch", {"interpolation": "bicubic", "antialias": True}),
    ],
)
def test_what_a_format_is_said_to_carry_it_carries(name, change, trained, tmp_path):
    need(name)
    spec = replace(FEATURES, **change)
    built = build_backbone(spec)
    combined = combined_of(built)
    limits.require_possible(KINDS[name], spec, combined.head)
    fake_run = SimpleNamespace(views=("original",))
    shipped = Candidate(fake_run, None, built, combined, Artefact(name)).prepare()
    answer = open_model(saved(shipped, tmp_path / "model", Artefact(name)))
    for shape in [(1, 1, 1), (2, 64, 48), (3, 12, 12), (5, 10, 9), (1, 7, 30)]:
        expected = combined.compute_logits(images_of(*shape))
        difference = np.abs(answer(images_of(*shape))["logits"] - expected).max() / np.abs(expected).max()
        assert difference < parity.TOLERANCES[spec.compute_dtype], shape


def test_what_a_converter_says_is_said(backbone, tmp_path, monkeypatch):
    def fail_with(error):
        def save(*arguments):
            raise error

        monkeypatch.setitem(KINDS, "onnx", replace(KINDS["onnx"], save=save))
        saved(combined_of(backbone), tmp_path / type(error).__name__, Artefact("onnx"))

    with pytest.raises(ExportError, match="^onnx could not carry this model: no such operation"):
        fail_with(RuntimeError("no such operation"))
    for error in (MemoryError(), OSError(28, "disk full"), ExtraError("missing")):
        with pytest.raises(type(error)):
            fail_with(error)


def test_a_head_of_tfls_own_is_refused_where_it_cannot_be_carried(trained, tmp_path):
    voting = train(trained.cache, Knn(neighbours=(5,)), runs_dir=tmp_path / "runs")
    with pytest.raises(ExportError, match=r"has a layer of tfl's own, Neighbours, which the format keras cannot"):
        export.export(voting, tmp_path / "model", artefact=Artefact("keras"))


@pytest.mark.parametrize(
    ("change", "name", "message"),
    [
        ({"resize_mode": "pad"}, "torch", "the format torch is for resize_mode stretch, got pad"),
        ({"resize_mode": "pad"}, "openvino", "the format openvino is for resize_mode stretch and crop, got pad"),
    ],
)
def test_what_a_format_cannot_carry_is_refused(change, name, message, trained):
    opened = open_run(trained.run)
    features = replace(opened.spec.features, **change)
    with pytest.raises(ExportError, match=message):
        limits.require_possible(KINDS[name], features, opened.load_head())


def test_formats_that_need_tensorflow(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    for name in ("saved-model", "onnx", "litert", "openvino"):
        with pytest.raises(ExportError, match=f"the format {name} needs KERAS_BACKEND=tensorflow, got jax"):
            export.export(trained.run, tmp_path / "model", artefact=Artefact(name))
