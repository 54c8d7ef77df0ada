"""The whole way on real CIFAR-10 with the real ImageNet weights."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from tfl import datasets, engine
from tfl.artefacts.export import export
from tfl.artefacts.predict import predict
from tfl.backbones.backbone import build_backbone
from tfl.cache import open_cache
from tfl.extraction.precompute import precompute
from tfl.heads import Logistic, Reference, Ridge
from tfl.runs.evaluation import evaluate
from tfl.runs.folder import open_run
from tfl.runs.training import train
from tfl.specs import DatasetSpec, FeatureSpec, Settings
from tfl.specs.training import Selection

pytestmark = pytest.mark.real
DATASET = DatasetSpec(train_split="train[:200]", test_split="test[:200]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pipeline")


@pytest.fixture(scope="module")
def settings(folder):
    return Settings(cache_dir=folder / "cache")


@pytest.fixture(scope="module")
def cache_path(settings):
    """200 and 200 images at 128 pixels."""
    return precompute(FeatureSpec(image_size=128), DATASET, settings)


@pytest.fixture(scope="module")
def trained(cache_path, folder):
    return train(cache_path, Reference(), runs_dir=folder / "runs")


def test_features_agree_with_an_independent_extraction(cache_path, tmp_path):
    """Other code, the same weights: Keras' own pooled ResNet50 on images that TensorFlow resized."""
    weights = build_backbone(FeatureSpec(image_size=128)).model
    theirs = keras.applications.ResNet50(include_top=False, weights=None, pooling="avg", input_shape=(128, 128, 3))
    theirs.set_weights(weights.get_weights())
    images = [example["image"] for example in tfds.as_numpy(tfds.load("cifar10", split="test[:200]"))]
    resized = tf.image.resize(np.stack(images), (128, 128)).numpy()
    expected = theirs.predict(keras.applications.resnet50.preprocess_input(resized.copy()), verbose=0)
    found = open_cache(cache_path).read("test").features
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) < 2e-3
    assert np.abs(found - expected).max() / np.abs(expected).max() < 2e-3


def test_every_engine_computes_the_cached_features(cache_path):
    """Within 1e-4 of the largest feature, whichever engine made the cache."""
    images = [example.image for example in datasets.open_dataset(DATASET).examples("test", 0, 32)]
    cached = open_cache(cache_path).read("test").features[:32]
    built = build_backbone(FeatureSpec(image_size=128))
    for name in {"tensorflow", engine.resolve_engine("auto", "float32")}:
        found = engine.Forward(built, 32, name).features(images)
        np.testing.assert_allclose(found, cached, rtol=0, atol=1e-4 * np.abs(cached).max())


def test_an_npz_of_the_dataset_has_the_same_fingerprint(cache_path, settings, tmp_path):
    datasets.write_npz(datasets.open_dataset(DATASET), tmp_path / "cifar10.npz")
    spec = DatasetSpec(str(tmp_path / "cifar10.npz"), DATASET.train_split, "", DATASET.test_split)
    assert datasets.resolve_spec(spec, datasets.open_dataset(spec)) == open_cache(cache_path).spec.dataset
    assert precompute(FeatureSpec(image_size=128), spec, settings) == cache_path


def test_transfer_works(trained):
    """200 images are enough to be far from chance, 10 %."""
    metrics = evaluate(trained)
    assert metrics.accuracy_interval_95[0] > 0.5


def test_a_recipe_that_chooses_does_better(cache_path, trained, folder):
    chosen = train(cache_path, Logistic(), runs_dir=folder / "runs")
    assert evaluate(chosen).accuracy > evaluate(trained).accuracy
    assert open_run(chosen).record.chosen.setting["l2"] in Logistic().l2


def test_cats_from_dogs_out_of_the_same_cache(cache_path, folder):
    """The article's worked example is binary."""
    pair = train(cache_path, Ridge(), Selection(classes=("cat", "dog"), validation_fraction=0.2), "pair", folder)
    metrics = evaluate(pair)
    assert list(metrics.accuracy_per_class) == ["cat", "dog"]
    assert metrics.roc_auc > 0.6


@pytest.fixture(scope="module")
def imbalanced(folder, settings):
    """Twenty cats for each dog to train on, as many of the one as of the other to test on; at 64 pixels."""
    source = datasets.open_dataset(DatasetSpec())
    arrays = {"class_names": np.array(["cat", "dog"])}
    for split, counts in (("train", (600, 30)), ("test", (150, 150))):
        rows = list(datasets.read_rows(source, f"{split}[0:8000]", 0, 8000))
        picked = [
            [row.image for row in rows if source.class_names[row.label] == name][:count]
            for name, count in zip(("cat", "dog"), counts, strict=True)
        ]
        arrays[f"{split}_images"] = np.concatenate(picked)
        arrays[f"{split}_labels"] = np.repeat([0, 1], counts)
    np.savez(folder / "imbalanced.npz", **arrays)
    return precompute(FeatureSpec(image_size=64), DatasetSpec(str(folder / "imbalanced.npz")), settings)


def test_one_dog_for_twenty_cats(imbalanced, folder):
    found = {}
    for word in ("none", "balanced"):
        selection = Selection(validation_fraction=0.3, class_weight=word)
        found[word] = evaluate(train(imbalanced, Logistic(), selection, word, folder))
    plain, balanced = found["none"], found["balanced"]
    assert plain.accuracy_per_class["dog"] < 0.4, "almost everything is called a cat"
    assert balanced.balanced_accuracy > plain.balanced_accuracy
    assert plain.at_threshold.threshold < 0.3
    assert plain.at_threshold.balanced_accuracy > plain.balanced_accuracy + 0.05
    assert 0.6 < plain.average_precision < 1


def test_exported_accuracy_on_raw_images_is_evaluates(trained, folder):
    parity = export(trained, folder / "model")
    assert parity.error < 1e-3
    assert parity.same_class == 1.0
    serve = tf.saved_model.load(str(folder / "model")).signatures["serving_default"]
    examples = list(tfds.as_numpy(tfds.load("cifar10", split="test[:200]")))
    found = np.concatenate(
        [
            serve(images=tf.constant(np.stack([e["image"] for e in examples[i : i + 50]])))["class_index"].numpy()
            for i in range(0, 200, 50)
        ]
    )
    assert np.mean(found == [e["label"] for e in examples]) == evaluate(trained).accuracy
    description = json.loads((folder / "model" / "assets.extra" / "tfl.json").read_text())
    assert description["class_names"] == list(open_run(trained).open_cache().class_names)


def test_predict_on_an_image_file(trained, folder, tmp_path):
    from PIL import Image

    if not (folder / "model").exists():
        export(trained, folder / "model")
    (example,) = datasets.read_rows(datasets.open_dataset(DATASET), "test[0:1]", 0, 1)
    Image.fromarray(example.image).save(tmp_path / "image.png")
    (prediction,) = predict(folder / "model", [tmp_path / "image.png"])
    cache = open_run(trained).open_cache()
    kernel, bias = (np.asarray(w) for w in open_run(trained).load_head().get_weights())
    expected = (cache.read("test").features[:1] @ kernel + bias).argmax()
    assert prediction.class_index == expected
