"""Export of runs whose features were computed in int8 or bfloat16: the same network, or a measured other one."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny

from tfl import engine
from tfl.artefacts import export, substitution
from tfl.artefacts.candidate import open_candidate
from tfl.artefacts.combined import load_model
from tfl.artefacts.formats import open_model
from tfl.artefacts.manifest import read_manifest
from tfl.comparison.preparation import list_obstacles
from tfl.errors import ExportError
from tfl.extraction.precompute import precompute
from tfl.heads import Reference
from tfl.runs.folder import open_run
from tfl.runs.training import train
from tfl.specs import Artefact, FeatureSpec, Settings

pytest.importorskip("openvino")
pytest.importorskip("nncf")
RECIPE = Reference(epochs=5, learning_rate=0.1)
FEATURES = FeatureSpec(backbone="tiny", weights="random", image_size=12, compute_dtype="int8")


@pytest.fixture(autouse=True)
def _tiny():
    with tiny.registered():
        yield


def train_int8(dataset, folder, features=FEATURES, views=("original",)):
    """Any processor computes int8 where OpenVINO is asked for by name."""
    settings = Settings(engine="openvino", cache_dir=folder / "cache", batch_size=8, shard_rows=16)
    return train(precompute(features, dataset, settings, views=views), RECIPE, runs_dir=folder / "runs")


@pytest.fixture
def trained(dataset, tmp_path):
    return train_int8(dataset, tmp_path)


def quantized_of(run):
    (path,) = open_run(run).open_cache().path.parent.glob("*.int8.zip")
    return path


@pytest.mark.parametrize("views", [("original",), ("original", "hflip", "crop1")])
@pytest.mark.parametrize("change", [{}, {"interpolation": "nearest"}, {"resize_mode": "crop"}])
def test_openvino_carries_the_very_network(dataset, tmp_path, views, change):
    run = train_int8(dataset, tmp_path, replace(FEATURES, **change), views)
    parity = export.export(run, tmp_path / "model", artefact=Artefact("openvino", assert_accuracy_at_least=0.1))
    assert parity.error < parity.tolerance == 1e-2
    manifest = read_manifest(tmp_path / "model")
    assert manifest.substitution is None
    assert manifest.measured.accuracy == open_run(run).metrics["test"].accuracy
    card = (tmp_path / "model" / "README.md").read_text()
    assert "computes in int8" in card
    assert "On processors without instructions for that" in card
    types = (tmp_path / "model" / "model.xml").read_text()
    assert 'type="FakeQuantize"' in types


def test_of_images_of_any_number_and_size(trained, tmp_path):
    export.export(trained, tmp_path / "model", artefact=Artefact("openvino"))
    answer = open_model(tmp_path / "model")
    combined = open_candidate(trained, "", "", Artefact("openvino")).combined
    assert combined.quantized is not None
    for shape in [(1, 1, 1), (2, 64, 48), (3, 12, 12), (5, 10, 9)]:
        images = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
        np.testing.assert_allclose(answer(images)["logits"], combined.compute_logits(images), rtol=1e-4, atol=1e-5)
    assert answer(np.zeros((0, 10, 9, 3), np.uint8))["logits"].shape == (0, 3)


def test_resampled_pixels_have_a_wider_tolerance(dataset, tmp_path):
    run = train_int8(dataset, tmp_path, replace(FEATURES, interpolation="bicubic", antialias=True))
    assert export.export(run, tmp_path / "model", artefact=Artefact("openvino")).tolerance == 5e-2


def test_columns_of_a_network_of_more_layers(dataset, tmp_path):
    wide = replace(FEATURES, layers=("conv1", "last"), pooling=("avg", "max"))
    quantized = quantized_of(train_int8(dataset, tmp_path, wide))
    narrow = replace(FEATURES, pooling=("max",), quantized_network=str(quantized))
    run = train_int8(dataset, tmp_path, narrow)
    assert open_run(run).open_cache().num_features == 5
    assert export.export(run, tmp_path / "model", artefact=Artefact("openvino")).same_class == 1


@pytest.mark.parametrize("name", ["saved-model", "keras", "litert"])
def test_other_formats_carry_the_float32_network_and_say_what_it_costs(trained, tmp_path, name):
    if name == "litert":
        pytest.importorskip("ai_edge_litert")
    parity = export.export(trained, tmp_path / "model", artefact=Artefact(name))
    assert parity.tolerance == 1e-3
    assert parity.error < 1e-4
    measured = read_manifest(tmp_path / "model").substitution
    assert (measured.trained_on, measured.carried, measured.role) == ("int8", "float32", "train")
    assert measured.num_images == 70
    assert measured.accuracy_trained_on - measured.accuracy_carried <= measured.tolerance == 0.01
    card = next((tmp_path / "model").rglob("README.md")).read_text()
    assert "The head was trained on int8 features; this model computes them in float32. Of 70 train images" in card


def test_validation_rows_measure_it_if_there_are_any(dataset, tmp_path):
    run = train_int8(replace(dataset, train_split="train[:50]", val_split="train[50:]"), tmp_path)
    export.export(run, tmp_path / "model", artefact=Artefact("keras"))
    measured = read_manifest(tmp_path / "model").substitution
    assert (measured.role, measured.num_images) == ("val", 20)


def test_a_head_that_loses_too_much_is_refused(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(substitution, "MAX_LOSS", -1.0)
    message = (
        "trained on int8 features, and the format keras carries the float32 network.*choose --format onnx or openvino"
    )
    with pytest.raises(ExportError, match=message):
        export.export(trained, tmp_path / "model", artefact=Artefact("keras"))
    assert not (tmp_path / "model").exists()


def test_without_its_network_nothing_is_exported(trained, tmp_path):
    path = quantized_of(trained)
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(ExportError, match=r"is not beside the cache: .*int8.zip was expected"):
        export.export(trained, tmp_path / "model", artefact=Artefact("openvino"))
    wide = replace(FEATURES, pooling=("avg", "max"))
    other = quantized_of(train_int8(open_dataset_of(trained), tmp_path / "other", wide))
    path.write_bytes(other.read_bytes())
    with pytest.raises(ExportError, match="is not the int8 network that the features were made with"):
        export.export(trained, tmp_path / "model", artefact=Artefact("openvino"))
    path.write_bytes(content)
    assert export.export(trained, tmp_path / "model", artefact=Artefact("openvino")).same_class == 1


def open_dataset_of(run):
    cache = open_run(run).open_cache()
    return replace(cache.spec.dataset, dataset=cache.provenance.typed.dataset, version="")


def test_the_reference_program_has_no_int8(trained):
    reasons = list_obstacles(open_run(trained).open_cache())
    assert any("the cache's compute_dtype is int8, the reference's float32" in reason for reason in reasons)


def test_the_keras_model_of_a_run_warns(trained, caplog):
    with caplog.at_level(logging.WARNING):
        model = load_model(trained)
    assert "was trained on int8 features, which Keras cannot compute" in caplog.text
    assert model(np.zeros((1, 10, 9, 3), np.uint8)).shape == (1, 3)


def test_bfloat16_is_carried_by_openvino_or_replaced(dataset, tmp_path):
    if "bfloat16" not in engine.openvino.supported_dtypes():
        pytest.skip("this processor has no bfloat16")
    run = train_int8(dataset, tmp_path, replace(FEATURES, compute_dtype="bfloat16"))
    export.export(run, tmp_path / "openvino", artefact=Artefact("openvino"))
    assert '"INFERENCE_PRECISION_HINT": "bf16"' in (tmp_path / "openvino" / "README.md").read_text()
    assert 'value="bfloat16"' in (tmp_path / "openvino" / "model.xml").read_text()
    export.export(run, tmp_path / "litert", artefact=Artefact("litert"))
    description = json.loads(Path(tmp_path / "litert" / "tfl.json").read_text())
    assert description["substitution"]["trained_on"] == "bfloat16"


def test_onnx_carries_it_within_a_tolerance_of_its_own(dataset, tmp_path):
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    run = train_int8(dataset, tmp_path, replace(FEATURES, pooling=("avg", "max")), ("original", "hflip"))
    parity = export.export(run, tmp_path / "model", artefact=Artefact("onnx", assert_accuracy_at_least=0.1))
    assert parity.tolerance == 0.15
    assert parity.same_class >= 0.9
    assert read_manifest(tmp_path / "model").substitution is None
    assert (tmp_path / "model" / "model.onnx").stat().st_size < 100_000
