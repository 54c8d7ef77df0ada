"""Compiled networks kept for the next process: the same bits, found only for the same facts, never a foreign file."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny

from tfl import backbones, engine
from tfl.backbones.applications import make_source
from tfl.backbones.quantized import FORMAT, QuantizationOrigin, open_quantized, pack_network
from tfl.engine import int8, kept_models, openvino
from tfl.files import trust

pytestmark = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs openvino")

IMAGES = list(np.random.default_rng(0).integers(0, 255, (8, 10, 9, 3), dtype=np.uint8))
SOURCE = make_source("tiny", "tiny:", lambda: {"tiny": tiny.Tiny}, packages=("keras",))


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    """The folder of kept models."""
    monkeypatch.setattr(kept_models, "FOLDER", str(tmp_path / "kept"))
    return tmp_path / "kept"


@pytest.fixture
def conversions(monkeypatch):
    """A list that grows with every network that is converted."""
    made = []
    convert = openvino._convert
    monkeypatch.setattr(openvino, "_convert", lambda *arguments: made.append(1) or convert(*arguments))
    return made


@pytest.fixture
def built(features):
    with tiny.registered(SOURCE):
        yield backbones.build_backbone(features)


@pytest.fixture
def quantized(built, tmp_path):
    """The backbone as one of int8; its network is the float32 one, which int8's own way runs."""
    import openvino as library

    graph, weights = tmp_path / "network.xml", tmp_path / "network.bin"
    library.serialize(openvino._convert(built.network, (None, 12, 12, 3)), graph, weights)
    spec = built.spec
    names = ("backbone", "weights", "image_size", "resize_mode", "interpolation", "antialias", "layers", "pooling")
    of_spec = {name: getattr(spec, name) for name in (*names, "revision")}
    origin = QuantizationOrigin(FORMAT, **of_spec, images="", split="train", num_images=1, seed=0, versions={})
    path = tmp_path / "tiny.int8.zip"
    path.write_bytes(pack_network(graph.read_bytes(), weights.read_bytes(), origin))
    return built.change_dtype("int8").use_quantized(open_quantized(path))


def features_of(built, batch_size=8, **options):
    return engine.Forward(built, batch_size, "openvino", **options).features(IMAGES[:batch_size])


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*"))


def test_second_time_nothing_is_converted_and_bits_are_the_same(built, kept, conversions):
    first = features_of(built)
    assert len(conversions) == len(files(kept)) == 1
    np.testing.assert_array_equal(features_of(built), first)
    assert len(conversions) == 1


@pytest.mark.parametrize("options", [{}, {"image_shape": (10, 9)}], ids=["pixels", "images"])
def test_int8_second_time_the_network_is_not_read(quantized, kept, monkeypatch, options):
    first = features_of(quantized, **options)
    assert len(files(kept)) == 1
    monkeypatch.setattr(int8, "read_quantized", lambda *arguments: pytest.fail("it was read"))
    np.testing.assert_array_equal(features_of(quantized, **options), first)


def test_int8_for_pixels_and_for_images_are_two_models(quantized, kept):
    from_pixels = features_of(quantized)
    from_images = features_of(quantized, image_shape=(10, 9))
    assert len(files(kept)) == 2
    np.testing.assert_allclose(from_images, from_pixels, rtol=1e-4, atol=1e-5)


def test_other_settings_are_another_model(built, kept, features, monkeypatch):
    features_of(built)
    features_of(built, 4)
    features_of(backbones.build_backbone(replace(features, layers=("relu1", "last"))))
    assert len(files(kept)) == 3
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")  # arithmetic depends on it
    features_of(built)
    monkeypatch.setattr(kept_models, "__version__", "0")
    features_of(built)
    assert len(files(kept)) == 5


@pytest.mark.parametrize("place", [0, 70, -1], ids=["digest", "facts", "model"])
def test_damaged_file_is_said_and_made_again(built, kept, conversions, caplog, place):
    first = features_of(built)
    (path,) = files(kept)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    trust.mark_own(path)  # as if the disk had changed it
    np.testing.assert_array_equal(features_of(built), first)
    assert f"{path} is damaged" in caplog.text
    assert len(conversions) == 2
    features_of(built)
    assert len(conversions) == 2


def test_file_of_others_is_not_used(built, kept, conversions):
    features_of(built)
    (path,) = files(kept)
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)  # nobody noted that tfl wrote it
    features_of(built)
    assert len(conversions) == 2


def test_model_that_cannot_be_imported_is_made_again(built, conversions, monkeypatch, caplog):
    first = features_of(built)
    monkeypatch.setattr(openvino, "find_model", lambda facts: b"no model")
    np.testing.assert_array_equal(features_of(built), first)
    assert "compiles it again" in caplog.text
    assert len(conversions) == 2


def test_folder_that_cannot_be_written_is_no_error(built, tmp_path, conversions, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(kept_models, "FOLDER", str(tmp_path / "file" / "kept"))
    np.testing.assert_array_equal(features_of(built), features_of(built))
    assert len(conversions) == 2


def test_newest_are_kept(built, kept, conversions, monkeypatch):
    monkeypatch.setattr(kept_models, "MAX_FILES", 2)
    for batch_size in (2, 3, 4):
        features_of(built, batch_size)
    assert len(files(kept)) == 2
    features_of(built, 4)
    assert len(conversions) == 3
    features_of(built, 2)
    assert len(conversions) == 4


def test_models_take_no_more_bytes_than_stated(built, kept, monkeypatch):
    features_of(built, 2)
    num_bytes = files(kept)[0].stat().st_size
    monkeypatch.setattr(kept_models, "MAX_BYTES", int(1.5 * num_bytes))
    features_of(built, 3)
    assert len(files(kept)) == 1
    monkeypatch.setattr(kept_models, "MAX_BYTES", 1)
    features_of(built, 4)
    assert len(files(kept)) == 1


def test_network_of_other_code_is_not_kept(tiny_backbone, features, kept):
    features_of(backbones.build_backbone(features))
    assert files(kept) == []


def test_keras_engines_keep_nothing(built, kept):
    engine.Forward(built, 8).features(IMAGES)
    assert files(kept) == []
