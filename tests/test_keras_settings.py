"""What a cache, a head and an export hold does not depend on Keras' global configuration, which stays as it was."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest

from tfl import backbones, engine
from tfl.artefacts.export import export
from tfl.cache import open_cache
from tfl.extraction.precompute import precompute
from tfl.heads import Grid, Knn, Logistic, Mlp, Reference, Ridge
from tfl.heads.model import apply_temperature, build_dense, compute_logits
from tfl.machine.keras_settings import pin_keras_settings
from tfl.runs.evaluation import evaluate
from tfl.runs.folder import open_run
from tfl.runs.training import train
from tfl.specs import Artefact

RECIPES = (
    Reference(epochs=2),
    Grid(learning_rate=(0.01,), weight_decay=(0.0,), epochs=2),
    Logistic(l2=(0.1, 0.01)),
    Ridge(),
    Mlp(hidden=(8,), epochs=2),
    Knn(neighbours=(3,)),
)


def settings_of_keras():
    config = keras.config
    return (
        config.floatx(),
        config.epsilon(),
        config.image_data_format(),
        config.dtype_policy().name,
        config.max_epochs(),
        config.max_steps_per_epoch(),
    )


POLICIES = ("mixed_float16", "mixed_bfloat16", "float64", "float16", "int8_from_float32")


def set_keras(name):
    """Set Keras as another program, or a `keras.json`, may have set it."""
    config = keras.config
    is_strange = name == "keras.json"
    config.set_floatx("float16" if is_strange else "float32")
    config.set_epsilon(0.1 if is_strange else 1e-7)
    config.set_image_data_format("channels_first" if is_strange else "channels_last")
    config.set_max_epochs(1 if is_strange else None)
    config.set_max_steps_per_epoch(1 if is_strange else None)
    config.set_dtype_policy("float16" if is_strange else name)


@pytest.fixture(params=[*POLICIES, "keras.json"])
def strange(request):
    """Keras set strangely; afterwards it must still be so, and is put back."""
    set_keras(request.param)
    before = settings_of_keras()
    yield request.param
    after = settings_of_keras()
    set_keras("float32")
    assert after == before


def made(folder, features, dataset, settings):
    """Features of the cache, and weights and metrics of each recipe's head."""
    path = precompute(features, dataset, replace(settings, cache_dir=folder))
    found = {"features": open_cache(path).read("test").features}
    for recipe in RECIPES:
        run = train(path, recipe, runs_dir=folder / "runs")
        name = type(recipe).__name__
        model = open_run(run).load_head()
        assert {layer.dtype_policy.name for layer in model.layers} == {"float32"}
        for place, weight in enumerate(model.get_weights()):
            found[f"{name} {place}"] = weight
        found[f"{name} loss"] = np.asarray(evaluate(run).loss)
    return found


@pytest.mark.usefixtures("tiny_backbone")
def test_caches_and_heads_are_the_same(features, dataset, settings, tmp_path):
    expected = made(tmp_path / "own", features, dataset, settings)
    for name in ("mixed_float16", "keras.json"):
        set_keras(name)
        keras.utils.set_random_seed(len(name))
        try:
            before = settings_of_keras()
            found = made(tmp_path / name, features, dataset, settings)
            assert settings_of_keras() == before
        finally:
            set_keras("float32")
        assert list(found) == list(expected)
        for key, values in expected.items():
            np.testing.assert_array_equal(found[key], values, err_msg=f"{name}: {key}")


@pytest.mark.usefixtures("tiny_backbone")
@pytest.mark.parametrize("engine_name", ["tensorflow", "openvino"])
def test_features_are_the_same(features, strange, engine_name):
    images = list(np.random.default_rng(0).integers(0, 255, (5, 10, 9, 3), dtype=np.uint8))
    found = engine.Forward(backbones.build_backbone(features), 8, engine_name).features(images, "crop1")
    set_keras("float32")
    expected = engine.Forward(backbones.build_backbone(features), 8, engine_name).features(images, "crop1")
    set_keras(strange)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32


@pytest.mark.usefixtures("tiny_backbone")
@pytest.mark.parametrize("format_name", ["saved-model", "keras", "onnx"])
def test_exports_are_the_same(features, dataset, settings, tmp_path, format_name):
    run = train(precompute(features, dataset, settings), Logistic(l2=(0.1,)), runs_dir=tmp_path / "runs")
    set_keras("keras.json")
    try:
        parity = export(run, tmp_path / "out", artefact=Artefact(format=format_name))
    finally:
        set_keras("float32")
    assert parity.error < 1e-4
    assert parity.same_class == 1


def test_a_head_answers_the_same(strange):
    rng = np.random.default_rng(0)
    kernel, bias, rows = (rng.normal(size=shape).astype(np.float32) for shape in ((6, 3), (3,), (9, 6)))
    found = compute_logits(apply_temperature(build_dense([(kernel, bias)]), 2.0), rows)
    np.testing.assert_allclose(found, (rows @ kernel + bias) / 2, rtol=1e-5, atol=1e-6)


def test_settings_are_put_back_after_an_error(strange):
    @pin_keras_settings("bfloat16")
    def fails():
        assert settings_of_keras() == ("float32", 1e-7, "channels_last", "mixed_bfloat16", None, None)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()


ANSWERS = """
import sys
import numpy as np
from tfl.artefacts import formats
from pathlib import Path
images = np.random.default_rng(0).integers(0, 255, (3, 14, 11, 3), dtype=np.uint8)
np.save(sys.argv[2], formats.open_model(Path(sys.argv[1]))(images)["logits"])
"""


@pytest.mark.usefixtures("tiny_backbone")
def test_an_exported_keras_file_answers_the_same_under_another_keras_json(features, dataset, settings, tmp_path):
    run = train(precompute(features, dataset, settings), Logistic(l2=(0.1,)), runs_dir=tmp_path / "runs")
    export(run, tmp_path / "out", artefact=Artefact(format="keras"))
    answers = []
    for name, floatx, order in (("a", "float32", "channels_last"), ("b", "float16", "channels_first")):
        home = tmp_path / name
        home.mkdir()
        settings_file = {"floatx": floatx, "epsilon": 1e-2, "backend": "tensorflow", "image_data_format": order}
        (home / "keras.json").write_text(json.dumps(settings_file))
        command = [sys.executable, "-c", ANSWERS, str(tmp_path / "out"), str(home / "logits.npy")]
        subprocess.run(command, env={**os.environ, "KERAS_HOME": str(home)}, check=True)
        answers.append(np.load(home / "logits.npy"))
    np.testing.assert_array_equal(*answers)
