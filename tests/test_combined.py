"""A run as one Keras model: called, saved, loaded without tfl, and sliced."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from tfl.artefacts.combined import load_model
from tfl.errors import ExportError
from tfl.extraction.precompute import precompute
from tfl.heads import Knn, Ridge
from tfl.heads.examples import average_views
from tfl.heads.model import compute_logits
from tfl.runs.folder import open_run
from tfl.runs.training import train

WITHOUT_TFL = """
import sys
sys.modules["tfl"] = None
import keras, numpy as np
model = keras.saving.load_model(sys.argv[1])
np.save(sys.argv[2], model(np.load(sys.argv[3])))
"""


@pytest.fixture
def trained(tiny_backbone, features, dataset, settings, tmp_path):
    cache = precompute(features, dataset, settings, views=("original", "hflip"))
    return train(cache, Ridge(), runs_dir=tmp_path / "runs")


def images_of(dataset):
    with np.load(dataset.dataset) as arrays:
        return arrays["test_images"]


def test_raw_images_to_probabilities(trained, dataset):
    model = load_model(trained)
    images = images_of(dataset)
    probabilities = keras.ops.convert_to_numpy(model(images))
    assert probabilities.shape == (40, 3)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    opened = open_run(trained)
    cache = opened.open_cache()
    cached = average_views([cache.read_view("test", view) for view in opened.views])
    logits = compute_logits(opened.load_head(), cached)
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(model.predict(images, verbose=0), probabilities, rtol=1e-5, atol=1e-6)
    assert keras.ops.shape(model(np.zeros((2, 31, 17, 3), np.uint8))) == (2, 3), "of any size"


def test_it_is_sliced_by_name(trained, dataset):
    model = load_model(trained)
    images = images_of(dataset)[:3]
    for name, shape in (("pixels", (6, 12, 12, 3)), ("features", (3, 5)), ("logits", (3, 3))):
        part = keras.Model(model.input, model.get_layer(name).output)
        assert part(images).shape == shape
    rest = keras.Model(model.get_layer("features").output, model.output)
    features = keras.Model(model.input, model.get_layer("features").output)(images)
    np.testing.assert_allclose(rest(features), model(images), rtol=1e-5, atol=1e-6)


def test_a_saved_file_loads_without_tfl(trained, dataset, tmp_path):
    model = load_model(trained)
    model.save(tmp_path / "whole.keras")
    np.save(tmp_path / "images.npy", images_of(dataset))
    arguments = [str(tmp_path / name) for name in ("whole.keras", "answers.npy", "images.npy")]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    subprocess.run([sys.executable, "-P", "-c", WITHOUT_TFL, *arguments], check=True, env=environment)
    np.testing.assert_allclose(np.load(tmp_path / "answers.npy"), model(images_of(dataset)), rtol=1e-4, atol=1e-5)


def test_it_can_be_trained_further(trained, dataset):
    """As any Keras model: frozen as it comes, and its head thaws by name."""
    model = load_model(trained)
    assert model.trainable_variables == []
    model.trainable = True
    model.get_layer("mean").trainable = False
    assert [each.path.split("/")[0] for each in model.trainable_variables] == ["head", "head"]
    model.compile("sgd", "sparse_categorical_crossentropy")
    with np.load(dataset.dataset) as arrays:
        model.fit(arrays["train_images"], arrays["train_labels"], epochs=1, verbose=0)


def test_a_head_that_votes_is_a_model_too(tiny_backbone, features, dataset, settings, tmp_path):
    folder = train(precompute(features, dataset, settings), Knn(neighbours=(5,)), runs_dir=tmp_path / "runs")
    model = load_model(folder)
    model.save(tmp_path / "whole.keras")
    images = images_of(dataset)
    np.testing.assert_allclose(
        keras.saving.load_model(tmp_path / "whole.keras")(images), model(images), rtol=1e-5, atol=1e-6
    )


def test_other_weights_are_refused(trained, monkeypatch):
    monkeypatch.setattr("tfl.backbones.tensors.RANDOM_WEIGHTS_SEED", 1)
    with pytest.raises(ExportError, match="'random' are not those that the features were made with"):
        load_model(trained)
