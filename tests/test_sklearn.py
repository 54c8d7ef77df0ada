"""The estimators of `tfl.sklearn`: their own behaviour, and scikit-learn's checks."""

import logging
import pickle
import subprocess
import sys

import numpy as np
import pytest
import scipy.special
import tiny
from conftest import write_npz
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted, validate_data

import tfl
from tfl.artefacts.exported import open_model
from tfl.backbones import build_backbone
from tfl.heads.model import compute_logits
from tfl.sklearn import EstimatorError, FeatureExtractor, TransferClassifier, forget_features
from tfl.sklearn import network as networks
from tfl.sklearn.memory import MEMORY, ROW_OVERHEAD
from tfl.sklearn.parameters import EXTRACTOR_PARAMETERS, FEATURE_PARAMETERS
from tfl.specs import DatasetSpec, FeatureSpec, Settings

TINY = {"backbone": "tiny", "weights": "random", "image_size": 12, "engine": "keras", "batch_size": 8}
ROW_BYTES = 5 * 4 + ROW_OVERHEAD  # of the tiny backbone's features in memory


@pytest.fixture(autouse=True)
def _fresh(tiny_backbone):
    """No features of another test are in memory."""
    forget_features()
    networks._networks.clear()
    yield
    forget_features()


@pytest.fixture
def counted(monkeypatch):
    """The images that networks have computed, so far."""
    seen = []
    compute = networks.Network.compute

    def count(network, images):
        seen.extend(images)
        return compute(network, images)

    monkeypatch.setattr(networks.Network, "compute", count)
    return seen


def make_images(count=60, seed=0):
    """Images of three colours with noise, and the name of each colour."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(0, 3, count)
    images = rng.integers(0, 120, (count, 10, 9, 3), dtype=np.uint8)
    images[np.arange(count), :, :, colours] += 100
    return images, np.array(["red", "green", "blue"])[colours]


def write_files(folder, images):
    paths = [folder / f"{row}.png" for row in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    return paths


# ---- features


def test_features_are_those_of_precompute(tmp_path, features, settings):
    npz = write_npz(tmp_path / "colours.npz", train=30)
    cache = tfl.open_cache(tfl.precompute(features, DatasetSpec(str(npz), test_split=""), settings))
    images = np.load(npz)["train_images"]
    found = FeatureExtractor(**TINY).transform(images)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, cache.read("train").features)


def test_arrays_lists_and_files_of_the_same_pixels_have_the_same_features(tmp_path):
    images, _ = make_images(9)
    extractor = FeatureExtractor(**TINY)
    expected = extractor.transform(images)
    paths = write_files(tmp_path, images)
    forms = [list(images), images / 255.0, images.astype(np.float32), paths, list(map(str, paths)), np.array(paths)]
    for given in forms:
        forget_features()
        np.testing.assert_allclose(extractor.transform(given), expected, rtol=1e-5, atol=1e-6)


def test_grey_images_and_images_of_several_sizes():
    rng = np.random.default_rng(3)
    grey = rng.integers(0, 256, (5, 8, 8), dtype=np.uint8)
    extractor = FeatureExtractor(**TINY)
    of_grey = extractor.transform(grey)
    np.testing.assert_array_equal(of_grey, extractor.transform(grey[..., None].repeat(3, axis=-1)))
    several = [rng.integers(0, 256, (8 + row, 20, 3), dtype=np.uint8) for row in range(11)]
    found = extractor.transform(several)
    for image, row in zip(several, found, strict=True):
        forget_features()
        np.testing.assert_allclose(extractor.transform([image])[0], row, rtol=1e-5, atol=1e-6)


def test_what_was_given_is_not_changed():
    images, names = make_images(30)
    images.setflags(write=False)
    TransferClassifier("ridge", **TINY).fit(images, names).predict(images)


def test_large_images_wait_as_small_pixels(monkeypatch):
    images, _ = make_images(9)
    expected = FeatureExtractor(**TINY).transform(images)
    forget_features()
    monkeypatch.setattr(networks, "MAX_BATCH_BYTES", 8)
    np.testing.assert_allclose(FeatureExtractor(**TINY).transform(images), expected, rtol=1e-5, atol=1e-6)


def test_a_batch_that_does_not_fit_into_memory(monkeypatch):
    def fail(forward, images):
        raise MemoryError

    monkeypatch.setattr("tfl.engine.Forward.compute_all", fail)
    with pytest.raises(EstimatorError, match="memory does not suffice for batches of 8 images .* set a smaller batch_"):
        FeatureExtractor(**TINY).transform(make_images(9)[0])


def test_names_of_features_and_output_as_a_table():
    extractor = FeatureExtractor(**TINY, pooling=("avg", "max"))
    names = extractor.get_feature_names_out()
    assert list(names[[0, -1]]) == ["featureextractor0", "featureextractor9"]
    assert extractor.transform(make_images(3)[0]).shape == (3, 10)


# ---- each image once


def test_a_search_computes_each_image_once(counted):
    images, names = make_images(60)
    grid = {"recipe": ["logistic", "ridge"], "recipe__l2": [0.1, 0.01, (1.0, 0.1)]}
    search = GridSearchCV(TransferClassifier(**TINY), grid, cv=3, error_score="raise").fit(images, names)
    assert len(counted) == len(images)
    assert search.best_score_ > 0.9
    assert search.predict(images).tolist() == search.best_estimator_.predict(images).tolist()
    assert len(counted) == len(images)


def test_a_search_over_files_computes_each_once(counted, tmp_path):
    images, names = make_images(30)
    paths = write_files(tmp_path, images)
    assert cross_val_score(TransferClassifier("ridge", **TINY), paths, names, cv=3, error_score="raise").mean() > 0.8
    assert len(counted) == len(images)


def test_repeated_images_are_computed_once_in_a_call_too(counted):
    images, _ = make_images(5)
    repeated = np.concatenate([images, images[::-1]])
    found = FeatureExtractor(**TINY, memory_limit=0).transform(repeated)
    assert len(counted) == 5
    np.testing.assert_array_equal(found[:5], found[5:][::-1])


def test_other_parameters_have_other_features(counted):
    images, _ = make_images(5)
    first = FeatureExtractor(**TINY).transform(images)
    second = FeatureExtractor(**TINY | {"image_size": 16}).transform(images)
    assert len(counted) == 10
    assert not np.allclose(first, second)


def test_memory_is_bounded_and_said_to_be(counted, caplog):
    images, _ = make_images(30)
    expected = FeatureExtractor(**TINY, memory_limit=0).transform(images)
    assert MEMORY.num_bytes == 0
    assert not caplog.messages
    limited = FeatureExtractor(**TINY, memory_limit=10 * ROW_BYTES + 1)
    counted.clear()
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(limited.transform(images), expected)
    assert "those of 20 are computed anew each time" in caplog.text
    assert MEMORY.num_bytes == 10 * ROW_BYTES
    counted.clear()
    np.testing.assert_allclose(limited.transform(images), expected, rtol=1e-5, atol=1e-6)
    assert len(counted) == 20, "ten were kept, although all thirty were asked for in turn"
    limited.transform(make_images(10, seed=1)[0])
    assert MEMORY.num_bytes == 10 * ROW_BYTES
    counted.clear()
    limited.transform(make_images(10, seed=1)[0])
    assert not counted, "images of earlier calls have made room"
    FeatureExtractor(**TINY, memory_limit=0).transform(images)
    assert MEMORY.num_bytes == 10 * ROW_BYTES, "an estimator that keeps nothing takes nothing away"


def test_few_networks_are_in_memory():
    images, _ = make_images(3)
    for size in (12, 13, 14):
        FeatureExtractor(**TINY | {"image_size": size}).transform(images)
    assert len(networks._networks) == networks.MAX_NETWORKS


# ---- the classifier


def test_the_head_is_the_one_that_train_makes(tmp_path, features, settings):
    npz = write_npz(tmp_path / "colours.npz", train=60)
    cache = tfl.precompute(features, DatasetSpec(str(npz), test_split=""), settings)
    selection = tfl.Selection(class_weight="balanced", calibrate=True)
    run = tfl.open_run(tfl.train(cache, tfl.Logistic(), selection, runs_dir=tmp_path / "runs"))
    arrays = np.load(npz)
    classifier = TransferClassifier("logistic", class_weight="balanced", calibrate=True, **TINY)
    classifier.fit(arrays["train_images"], arrays["train_labels"])
    rows = tfl.open_cache(cache).read("train")
    logits = compute_logits(run.load_head(), rows.features)
    expected = scipy.special.softmax(logits, axis=1)
    found = classifier.predict_proba(arrays["train_images"])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert classifier.run_.calibration.temperature == pytest.approx(run.record.temperature, rel=1e-4)
    assert classifier.run_.chosen.setting == run.record.chosen.setting


@pytest.mark.parametrize(
    "labels", [["b", "a"], [7, -3], [True, False], [1.0, 2.0], np.array(["x", "y"], object)], ids=str
)
def test_labels_of_any_kind(labels):
    images, names = make_images(60)
    y = np.asarray(labels)[(names == "red").astype(int)]
    classifier = TransferClassifier("ridge", **TINY).fit(images, y)
    assert classifier.classes_.tolist() == sorted(set(np.asarray(labels).tolist()))
    assert classifier.score(images, y) > 0.9
    assert classifier.predict(images[:4]).dtype == y.dtype


@pytest.mark.parametrize("recipe", ["reference", "grid", "mlp", "knn"])
def test_every_recipe(recipe):
    images, names = make_images(60)
    classifier = TransferClassifier(recipe, **TINY).fit(images, names)
    assert classifier.predict_proba(images).shape == (60, 3)
    again = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(again.predict_proba(images), classifier.predict_proba(images))


def test_a_single_candidate_is_fitted_on_all_images_at_once():
    images, names = make_images(40)
    classifier = TransferClassifier(tfl.Logistic(l2=(0.1,), tolerance=1e-7), **TINY).fit(images, names)
    assert classifier.run_.validation is None
    assert classifier.run_.chosen.setting == {"l2": 0.1}
    features = FeatureExtractor(**TINY).transform(images)
    rows = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-6)
    theirs = LogisticRegression(C=1 / (0.1 * len(rows)), tol=1e-8, max_iter=10_000).fit(rows, names)
    np.testing.assert_allclose(classifier.predict_proba(images), theirs.predict_proba(rows), atol=1e-3)
    assert len(TransferClassifier(tfl.Ridge(l2=(0.1,)), **TINY).fit(images[:2], ["a", "b"]).classes_) == 2


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (tfl.Ridge(), False),
        (tfl.Ridge(l2=(0.1,)), True),
        (tfl.Knn(neighbours=(5,)), False),
        (tfl.Knn(neighbours=(5,), temperature=(0.1,)), True),
        (tfl.Mlp(), False),
        (tfl.Best(), False),
        (tfl.Reference(), True),
    ],
    ids=str,
)
def test_recipes_with_one_setting(recipe, expected):
    assert recipe.has_one_setting == expected


def test_in_a_pipeline(counted):
    images, names = make_images(60)
    pipeline = Pipeline([("features", FeatureExtractor(**TINY)), ("head", LogisticRegression(max_iter=1000))])
    search = GridSearchCV(pipeline, {"head__C": [1.0, 10.0]}, cv=3, error_score="raise").fit(images, names)
    assert search.best_score_ > 0.9
    assert len(counted) == 60


# ---- parameters


def test_settings_of_the_recipe_are_parameters():
    classifier = TransferClassifier("logistic")
    assert classifier.get_params()["recipe__l2"] == tfl.Logistic().l2
    assert "recipe__l2" not in classifier.get_params(deep=False)
    assert classifier.set_params(recipe="ridge", recipe__l2=np.float64(0.5)).recipe == tfl.Ridge(l2=(0.5,))
    assert clone(classifier).recipe == tfl.Ridge(l2=(0.5,))
    assert "Ridge" in repr(classifier)
    classifier.set_params(recipe=tfl.Mlp(), recipe__hidden=[64, 32], recipe__epochs=np.int64(3), image_size=96)
    assert classifier.recipe == tfl.Mlp(hidden=(64, 32), epochs=3)
    assert classifier.image_size == 96


def test_a_setting_that_the_recipe_lacks():
    with pytest.raises(EstimatorError, match="the recipe ridge has no setting 'epochs', but l2, seed"):
        TransferClassifier("ridge").set_params(recipe__epochs=3)
    with pytest.raises(EstimatorError, match="l2 is positive"):
        TransferClassifier("ridge").set_params(recipe__l2=-1.0)


def test_parameters_are_those_of_the_specs():
    """One definition: names and defaults are those of FeatureSpec and Settings, in both estimators."""
    spec, settings = FeatureSpec(), Settings()
    extractor, classifier = FeatureExtractor().get_params(), TransferClassifier().get_params(deep=False)
    assert set(extractor) == set(EXTRACTOR_PARAMETERS)
    for name in EXTRACTOR_PARAMETERS:
        assert classifier[name] == extractor[name]
    for name in FEATURE_PARAMETERS:
        assert extractor[name] == getattr(spec, name)
    for name in ("engine", "batch_size"):
        assert extractor[name] == getattr(settings, name)


def test_after_a_fit_other_parameters_count_with_the_next_one():
    images, names = make_images(30)
    classifier = TransferClassifier("ridge", **TINY).fit(images, names)
    before = classifier.predict_proba(images)
    classifier.set_params(image_size=16)
    np.testing.assert_array_equal(classifier.predict_proba(images), before)


# ---- bad input


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"recipe": "logistics"}, "recipe is one of reference, .*; got 'logistics'; did you mean logistic?"),
        ({"recipe": 3}, "recipe is one of .* got 3"),
        ({"class_weight": {"red": 2}}, "class_weight is None or 'balanced', got {'red': 2}"),
        ({"validation_fraction": 1.5}, "validation_fraction is between 0 and 1, got 1.5"),
        ({"recipe": "reference", "calibrate": True}, "calibrate needs validation rows, and the recipe reference"),
        ({"backbone": "tinny"}, "there is no backbone 'tinny'.*did you mean tiny?"),
        ({"compute_dtype": "int8"}, "compute_dtype int8 is quantised on training images"),
        ({"compute_dtype": "auto"}, "compute_dtype auto is for `tfl precompute` alone"),
        ({"image_size": "12"}, "image_size is of type int, got '12'"),
        ({"engine": "onnx"}, "engine is one of auto, keras, .* got 'onnx'"),
        ({"batch_size": -1}, "batch_size is a number of images, 0 or more, got -1"),
        ({"memory_limit": "1 GB"}, "memory_limit is a number of bytes, 0 or more, got '1 GB'"),
    ],
)
def test_bad_parameters(parameters, message):
    images, names = make_images(12)
    with pytest.raises(EstimatorError, match=message):
        TransferClassifier(**TINY | parameters).fit(images, names)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (None, "got NoneType; expected images"),
        ("photo.jpg", "got 'photo.jpg'; expected images: .* or a list of paths"),
        ([], "got 0 images; at least 1 is required"),
        (np.zeros((4, 64)), r"images are float64 \(4, 64\); expected \(n, h, w, 3\)"),
        (["photo.jpg", 3], "the first image is a path, and another is int; expected paths alone"),
        (["/nowhere/photo.jpg"], "cannot read the image /nowhere/photo.jpg: No such file or directory"),
        (np.array([["a", "b"]]), r"got a table \(1, 2\); expected one column of paths, or images"),
        (np.full((2, 8, 8, 3), np.nan), "hold values that are not finite"),
    ],
    ids=["None", "path", "empty", "rows", "mixed", "missing", "table", "NaN"],
)
def test_bad_images(images, message):
    with pytest.raises(EstimatorError, match=message):
        FeatureExtractor(**TINY).transform(images)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "requires y to be passed, but the target y is None"),
        (["a"] * 12, "y has one class only"),
        (["a", "b"], "got 12 images and 2 labels"),
        (["a", None] * 6, "y holds None, NaN or infinity in row 1"),
        (["a", float("nan")] * 6, "y holds None, NaN or infinity in row 1"),
        (["a", *["b"] * 11], "."),
    ],
    ids=str,
)
def test_bad_labels(labels, message):
    images, _ = make_images(12)
    classifier = TransferClassifier("ridge", **TINY)
    if message == ".":  # a class with a single image is no error
        assert set(classifier.fit(images, labels).classes_) == {"a", "b"}
        return
    with pytest.raises(EstimatorError, match=message):
        classifier.fit(images, labels)


def test_classes_without_two_images_leave_nothing_to_choose_on():
    images, _ = make_images(2)
    with pytest.raises(EstimatorError, match="no class has two training rows"):
        TransferClassifier("ridge", **TINY).fit(images, ["a", "b"])


def test_before_a_fit(tmp_path):
    images, _ = make_images(3)
    for ask in ("predict", "predict_proba"):
        with pytest.raises(NotFittedError):
            getattr(TransferClassifier(**TINY), ask)(images)
    with pytest.raises(NotFittedError):
        TransferClassifier(**TINY).export(tmp_path / "model", images)


# ---- pickles


def test_a_pickle_refuses_other_weights(tmp_path, features):
    images, names = make_images(30)
    path = tmp_path / "own.weights.h5"
    build_backbone(features).pretrained.network.save_weights(path)
    classifier = TransferClassifier("ridge", **TINY | {"weights": str(path)}).fit(images, names)
    pickled = pickle.dumps(classifier)
    assert pickle.loads(pickled).predict(images).tolist() == classifier.predict(images).tolist()
    network = build_backbone(features).pretrained.network
    network.set_weights([weight + 1 for weight in network.get_weights()])
    network.save_weights(path)
    with pytest.raises(EstimatorError, match="are not those that this estimator was fitted with"):
        pickle.loads(pickled).predict(images)


def test_a_pickle_in_a_process_of_its_own(tmp_path):
    images, names = make_images(30)
    classifier = TransferClassifier("ridge", **TINY).fit(images, names)
    (tmp_path / "classifier.pickle").write_bytes(pickle.dumps(classifier))
    np.save(tmp_path / "images.npy", images)
    program = (
        "import sys, pickle, numpy as np, pathlib; sys.path.insert(0, sys.argv[1])\n"
        "import tiny; folder = pathlib.Path(sys.argv[2])\n"
        "with tiny.registered():\n"
        "    classifier = pickle.loads((folder / 'classifier.pickle').read_bytes())\n"
        "    np.save(folder / 'answers.npy', classifier.predict_proba(np.load(folder / 'images.npy')))\n"
    )
    folder = str(tmp_path)
    subprocess.run([sys.executable, "-c", program, tiny.__file__.rpartition("/")[0], folder], check=True)
    expected = classifier.predict_proba(images)
    np.testing.assert_allclose(np.load(tmp_path / "answers.npy"), expected, rtol=1e-5, atol=1e-7)


# ---- export


@pytest.mark.parametrize("given", ["array", "several sizes", "files", "one image"])
def test_the_exported_model_answers_as_the_classifier(tmp_path, given):
    images, names = make_images(60)
    classifier = TransferClassifier("logistic", calibrate=True, **TINY).fit(images, names)
    sample = {
        "array": images,
        "several sizes": [image[: 8 + row % 3] for row, image in enumerate(images)],
        "files": write_files(tmp_path, images),
        "one image": images[:1],
    }[given]
    parity = classifier.export(tmp_path / "model", sample, format="keras")
    assert parity.error < 1e-5
    model = open_model(tmp_path / "model")
    assert model.class_names == ("blue", "green", "red")
    answers = model.answer(images)
    np.testing.assert_allclose(answers["probabilities"], classifier.predict_proba(images), rtol=1e-4, atol=1e-6)
    (answer,) = tfl.predict(tmp_path / "model", write_files(tmp_path, images[:1]))
    assert answer.class_name == classifier.predict(images[:1])[0]
    manifest = tfl.artefacts.manifest.read_manifest(tmp_path / "model")
    assert manifest.metrics["val"] == classifier.run_.validation
    assert manifest.recipe == "logistic"


def test_an_export_that_is_refused_leaves_nothing(tmp_path):
    images, names = make_images(30)
    classifier = TransferClassifier("ridge", **TINY).fit(images, names)
    with pytest.raises(EstimatorError, match="format is one of"):
        classifier.export(tmp_path / "model", images, format="pickle")
    with pytest.raises(EstimatorError, match="got 0 images"):
        classifier.export(tmp_path / "model", [], format="keras")
    (tmp_path / "model").mkdir()
    with pytest.raises(tfl.errors.ExportError, match="exists already"):
        classifier.export(tmp_path / "model", images, format="keras")


# ---- the package


def test_without_scikit_learn_an_extra_is_named():
    program = "import sys; sys.modules['sklearn'] = None; import tfl.sklearn"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "sklearn needs a package that cannot be imported" in done.stderr
    assert "pip install '.[sklearn]'" in done.stderr


# ---- scikit-learn's own checks
#
# They give rows of numbers, and would skip estimators of images. Here each row becomes an image, by one rule that knows
# no other row; everything else is the estimators' own.


def to_images(rows):
    levels = np.clip((rows + 8) * 16, 0, 255).astype(np.uint8)  # (n, d); most rows are within -8..8
    return levels[:, None, :, None].repeat(2, axis=1).repeat(3, axis=3)  # (n, 2, d, 3)


def take_rows(tags):
    tags.input_tags.two_d_array = True
    tags.input_tags.three_d_array = False
    tags.input_tags.string = False
    return tags


class RowClassifier(TransferClassifier):
    def fit(self, X, y):
        return super().fit(to_images(validate_data(self, X, dtype=float)), y)

    def _compute_logits(self, X):
        check_is_fitted(self)
        return super()._compute_logits(to_images(validate_data(self, X, dtype=float, reset=False)))

    def __sklearn_tags__(self):
        return take_rows(super().__sklearn_tags__())


class RowExtractor(FeatureExtractor):
    def fit(self, X, y=None):
        return super().fit(to_images(validate_data(self, X, dtype=float)))

    def transform(self, X):
        return super().transform(to_images(validate_data(self, X, dtype=float, reset=False)))

    def __sklearn_tags__(self):
        return take_rows(super().__sklearn_tags__())


CANNOT = {  # and why; the checks of the array API skip themselves, for they need SCIPY_ARRAY_API
    RowClassifier: {"check_class_weight_classifiers": "it weighs classes by a dict; recipes know `balanced` alone"},
    RowExtractor: {},
}


def list_expected_failures(estimator):
    return CANNOT[type(estimator)]


@pytest.mark.filterwarnings("ignore:Can't test estimator")
@parametrize_with_checks(
    [RowClassifier("ridge", **TINY | {"batch_size": 32}), RowExtractor(**TINY | {"batch_size": 32})],
    expected_failed_checks=list_expected_failures,
)
def test_the_checks_of_scikit_learn(estimator, check):
    check(estimator)
