"""`--quantize-check`: what int8 costs, measured on rows that no test uses."""

import logging
from dataclasses import replace

import numpy as np
import pytest
from conftest import write_npz
from test_int8 import networks_in

from tfl.backbones import build_backbone
from tfl.cache import open_cache
from tfl.datasets import NpzDataset
from tfl.engine import Forward
from tfl.engine.accuracy_aware import MAX_STEPS, find_layers_at_fault
from tfl.errors import BackboneError, DatasetError, SpecError
from tfl.extraction import quantize_check
from tfl.extraction.precompute import precompute
from tfl.extraction.quantize_check import QuantizeCheck, fit_and_classify
from tfl.specs import DatasetSpec, FeatureSpec, Settings

pytestmark = pytest.mark.usefixtures("tiny_backbone")


@pytest.fixture
def features():
    return FeatureSpec(backbone="tiny", weights="random", image_size=12, compute_dtype="int8")


@pytest.fixture
def settings(tmp_path):
    return Settings(engine="openvino", cache_dir=tmp_path / "cache", batch_size=8, shard_rows=16, quantize_check=True)


@pytest.fixture
def read_splits(monkeypatch):
    """The splits that images are read from while the check runs."""
    seen = []
    examples, check = NpzDataset.examples, quantize_check.check_quantized

    def watched(self, split, start, stop):
        seen.append(split)
        return examples(self, split, start, stop)

    def checked(*arguments):
        with monkeypatch.context() as patch:
            patch.setattr(NpzDataset, "examples", watched)
            return check(*arguments)

    monkeypatch.setattr("tfl.extraction.precompute.check_quantized", checked)
    return seen


@pytest.mark.parametrize("val_split", ["", "val"])
def test_one_line_says_what_int8_costs(features, settings, tmp_path, caplog, read_splits, val_split):
    caplog.set_level(logging.INFO)
    path = write_npz(tmp_path / "colours.npz", train=90, val=30, test=40)
    cache = open_cache(precompute(features, DatasetSpec(str(path), val_split=val_split), settings))
    (line,) = [record.message for record in caplog.records if record.message.startswith("int8 check")]
    rows = "a head on 90 training rows" if val_split else "a head on 45 training rows"
    held_out = "of 30 val rows" if val_split else "of 45 other training rows"
    assert rows in line
    assert held_out in line
    assert line.endswith("%")
    assert set(read_splits) == ({"train", "val"} if val_split else {"train"}), "test rows are never read"
    assert "loses" not in caplog.text
    plain = precompute(features, DatasetSpec(str(path), val_split=val_split), replace(settings, quantize_check=False))
    assert plain == cache.path, "it changes nothing of the cache"


def test_a_loss_is_a_warning_that_names_layers(features, dataset, settings, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(quantize_check, "MAX_LOSS", -1.0)
    asked = []

    def find(backbone, calibration, measured, measure, max_loss):
        asked.append((len(calibration), len(measured), max_loss, measure(np.eye(70)[:, :9])))
        return ["conv1", "conv2"]

    monkeypatch.setattr(quantize_check, "find_layers_at_fault", find)
    precompute(features, dataset, settings)
    assert "points on 35 other training rows; take --compute-dtype bfloat16 or float32" in caplog.text
    assert "kept in float32, these layers make it less: conv1, conv2" in caplog.text
    ((num_calibration, num_measured, max_loss, accuracy),) = asked
    assert (num_calibration, num_measured, max_loss) == (64, 70, -1.0)
    assert 0 <= accuracy <= 1


def test_layers_at_fault_are_found_and_named(features):
    """The accuracy here is how near the features are: each layer that is float32 again helps."""
    built = build_backbone(features)
    pixels = [np.random.default_rng(i).uniform(0, 255, (12, 12, 3)).astype(np.float32) for i in range(36)]
    exact = built.network.predict(np.stack(pixels), verbose=0)
    calls = []

    def measure(found):
        assert found.shape == exact.shape
        calls.append(1 - float(np.abs(found - exact).mean() / np.abs(exact).mean()))
        return calls[-1]

    def find(max_loss):
        return find_layers_at_fault(built, pixels, pixels, measure, max_loss)

    assert find(1e-4) == ["conv1", "conv2"]
    assert len(calls) <= 2 + MAX_STEPS + 1
    assert find(0.5) == [], "nothing is lost"


def test_layers_that_cannot_be_told_do_not_end_the_run(features, dataset, settings, monkeypatch, caplog):
    def fail(*_):
        raise BackboneError("no such layer")

    caplog.set_level(logging.INFO)
    monkeypatch.setattr(quantize_check, "MAX_LOSS", -1.0)
    monkeypatch.setattr(quantize_check, "find_layers_at_fault", fail)
    precompute(features, dataset, settings)
    assert "which layers are at fault cannot be told: no such layer" in caplog.text
    monkeypatch.setattr(quantize_check, "find_layers_at_fault", lambda *_: [])
    precompute(features, dataset, settings)
    assert "no few layers are at fault" in caplog.text


def test_the_check_compares_features_of_the_same_images(features, dataset, settings, monkeypatch):
    found = []
    check = quantize_check.check_quantized
    monkeypatch.setattr("tfl.extraction.precompute.check_quantized", lambda *parts: found.append(check(*parts)))
    cache = open_cache(precompute(features, dataset, settings))
    rows = cache.read("train").features
    built = build_backbone(replace(features, compute_dtype="float32"))
    images = [example.image for example in NpzDataset.examples(open_npz(dataset), "train", 0, 70)]
    exact = Forward(built, 70, "openvino").features(images)
    moved = np.linalg.norm(rows - exact) / np.linalg.norm(exact)
    assert found[0].features_moved == pytest.approx(moved, rel=1e-3)
    assert len(networks_in(settings.cache_dir)) == 1


def open_npz(dataset):
    from tfl.datasets import open_dataset

    return open_dataset(dataset)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_other_dtypes_are_refused(features, dataset, settings, dtype):
    with pytest.raises(SpecError, match=f"compares int8 with float32, got --compute-dtype {dtype}"):
        precompute(replace(features, compute_dtype=dtype), dataset, settings)


def test_without_training_rows_there_is_nothing_to_check_on(features, dataset, settings):
    precompute(features, dataset, replace(settings, quantize_check=False))
    (network,) = networks_in(settings.cache_dir)
    named = replace(features, quantized_network=str(network))
    with pytest.raises(DatasetError, match="fits a head on training images, and there is no --train-split"):
        precompute(named, replace(dataset, train_split=""), settings)
    allowing = replace(settings, allow_missing_classes=True)
    with pytest.raises(DatasetError, match="needs rows of two classes"):
        precompute(named, replace(dataset, train_split="train[:1]", test_split=""), allowing)


def test_the_head_is_ridge_regression():
    sklearn = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 60)
    centres = rng.normal(size=(4, 30))
    features = centres[labels] + rng.normal(size=(60, 30))
    features[:, 3] = 7.0  # a constant tells nothing, and is not divided by
    fitting = np.delete(features[:40], 3, axis=1)
    scale = fitting.std(axis=0)
    model = sklearn.Ridge(alpha=quantize_check.L2 * 40).fit(fitting / scale, np.eye(4)[labels[:40]])
    expected = model.predict(np.delete(features[40:], 3, axis=1) / scale).argmax(axis=1)
    found = fit_and_classify(features.astype(np.float32), labels[:40], 20)
    assert found.tolist() == expected.tolist()
    assert np.mean(found == labels[40:]) > 0.8


def test_features_that_are_all_constant_tell_the_commonest_class():
    found = fit_and_classify(np.ones((9, 3), np.float32), np.array([5, 5, 2, 5]), 5)
    assert found.tolist() == [5] * 5


def test_the_line():
    check = QuantizeCheck(1000, "1,000 val", 0.891, 0.884, 23, 0.16)
    assert check.loss == pytest.approx(0.007)
    assert str(check) == (
        "int8 check: a head on 1,000 training rows classifies 88.4% of 1,000 val rows (89.1% in float32): "
        "-0.7 points, 23 rows otherwise; the features differ by 16.0%"
    )
