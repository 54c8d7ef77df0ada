import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import WITHOUT_TENSORFLOW

from tfl import engine
from tfl.cache import CachedRows, Cost, PartialCache, Shard, open_cache
from tfl.errors import RunError, SpecError
from tfl.heads import Reference, examples, model
from tfl.heads.examples import InMemory, Streamed
from tfl.heads.model import compute_logits
from tfl.heads.solvers import sgd
from tfl.heads.solvers.reference import fit
from tfl.metrics import measure_blocks
from tfl.specs import CacheSpec, DatasetSpec, FeatureSpec

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(101, 7)).astype(np.float32)
LABELS = (FEATURES @ RNG.normal(size=(7, 3))).argmax(axis=1)
TRAIN = InMemory(FEATURES, LABELS)


def parameters(trained):
    return [np.asarray(weight) for weight in trained.get_weights()]


def write_cache(path, features, labels):
    spec = CacheSpec(
        FeatureSpec(weights="sha256:ab", feature_dtype=features.dtype.name), DatasetSpec(version="1", test_split="")
    )
    partial = PartialCache(path, spec, {"train": len(labels)}, {"shard_rows": len(labels)})
    ids = np.array([b"%d" % i for i in range(len(labels))])
    with partial.hold():
        partial.write(Shard("train", 0, len(labels)), CachedRows(features, labels, ids), Cost(1, len(labels)))
        return open_cache(partial.finish(("a", "b", "c"), {"typed": {"dataset": "x", "weights": "x"}}))


@pytest.fixture(scope="module")
def chunked(tmp_path_factory):
    """A learnable cache of 301 rows in ten chunks, stored class by class: the first seven of 8,192 features count."""
    rng = np.random.default_rng(0)
    features = rng.normal(scale=0.002, size=(301, 8192)).astype(np.float32)
    features[:, :7] = rng.normal(size=(301, 7))
    labels = (features[:, :7] @ rng.normal(size=(7, 3))).argmax(axis=1)
    by_class = np.argsort(labels, kind="stable")
    return write_cache(tmp_path_factory.mktemp("chunked") / "c.h5", features[by_class], labels[by_class])


@pytest.fixture
def small_blocks(monkeypatch):
    """A third of the rows of `chunked` fill a block."""
    monkeypatch.setattr(examples, "BLOCK_BYTES", 4 * 8192 * 101)


def keras_fit(recipe, initial, epochs):
    """What Keras' own loop makes of the same initial head and, in each epoch, rows in this order: head and losses."""
    theirs = model.build_dense([initial])
    theirs.compile(
        keras.optimizers.SGD(recipe.learning_rate, momentum=recipe.momentum),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    losses = []
    for features, labels in epochs:
        fitted = theirs.fit(features, labels, batch_size=recipe.batch_size, shuffle=False, verbose=0)
        losses += fitted.history["loss"]
    return theirs, losses


def assert_same_fit(ours, history, theirs, losses):
    for a, b in zip(parameters(ours), parameters(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose([epoch.loss for epoch in history], losses, rtol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 25, 32, 101, 200])
def test_reference_is_what_keras_fit_does(batch_size):
    """The same initial head, the same batches (a short last one included): Keras' own SGD ends at the same head."""
    recipe = Reference(epochs=3, batch_size=batch_size, learning_rate=0.05, momentum=0.9, seed=4)
    rng = np.random.default_rng(recipe.seed)
    initial = sgd.draw_start(7, 3, rng)
    orders = (rng.permutation(len(LABELS)) for _ in range(recipe.epochs))
    theirs = keras_fit(recipe, initial, ((FEATURES[order], LABELS[order]) for order in orders))
    assert_same_fit(*fit(recipe, TRAIN, 3), *theirs)


@pytest.mark.parametrize(
    ("batch_size", "block_rows"), [(25, 125), (32, 128), (101, 101), (200, 200), (301, 301), (400, 400)]
)
def test_streamed_is_what_keras_fit_does_over_the_blocks(chunked, small_blocks, batch_size, block_rows):
    """Random chunks gathered into blocks of whole batches, and each block's rows permuted: one order of all rows."""
    recipe = Reference(epochs=2, batch_size=batch_size, learning_rate=0.05, momentum=0.9, seed=4)
    rng = np.random.default_rng(recipe.seed)
    initial = sgd.draw_start(8192, 3, rng)

    def one_pass():
        blocks = []
        for features, labels in chunked.blocks("train", block_rows, rng):
            order = rng.permutation(len(labels))
            blocks.append((features[order], labels[order]))
        return tuple(np.concatenate(arrays) for arrays in zip(*blocks, strict=True))

    theirs = keras_fit(recipe, initial, (one_pass() for _ in range(recipe.epochs)))
    assert_same_fit(*fit(recipe, Streamed(chunked, "train", batch_size), 3), *theirs)


def test_streamed_learns_as_well_from_rows_stored_by_class(chunked, small_blocks):
    recipe = Reference(epochs=20, learning_rate=0.05)
    rows = chunked.read("train")
    (_, in_memory), (_, streamed) = (
        fit(recipe, examples, 3) for examples in (InMemory(rows.features, rows.labels), Streamed(chunked, "train", 32))
    )
    assert streamed[-1].accuracy > 0.95
    assert streamed[-1].accuracy == pytest.approx(in_memory[-1].accuracy, abs=0.02)
    assert streamed[-1].loss == pytest.approx(in_memory[-1].loss, rel=0.1)


def test_blocks_are_compiled_once_and_the_short_last_one_once_more(chunked, small_blocks, monkeypatch):
    shapes = []

    def compile_function(function):
        def traced(features, *others):
            shapes.append(features.shape[0])
            return function(features, *others)

        return compiled(traced)

    compiled = engine.compile_function
    monkeypatch.setattr(engine, "compile_function", compile_function)
    fit(Reference(epochs=3), Streamed(chunked, "train", 32), 3)
    assert sorted(shapes) == [301 - 2 * 128, 128]


def test_streamed_validation_and_metrics_are_those_of_the_whole(chunked, small_blocks):
    rows = chunked.read("train")
    whole, streamed = InMemory(rows.features, rows.labels), Streamed(chunked, "train")
    trained, expected = fit(Reference(epochs=1), whole, 3, val=whole)
    _, history = fit(Reference(epochs=1), whole, 3, val=streamed)
    assert history[0].val_accuracy == expected[0].val_accuracy
    assert history[0].val_loss == pytest.approx(expected[0].val_loss, rel=1e-6)
    ours, theirs = (
        measure_blocks((compute_logits(trained, features), labels) for features, labels in examples.blocks())
        for examples in (streamed, whole)
    )
    np.testing.assert_array_equal(ours.confusion, theirs.confusion)
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-6)


def test_blocks_of_some_classes_are_full_but_for_the_last(chunked, monkeypatch):
    monkeypatch.setattr(examples, "BLOCK_BYTES", 4 * 8192 * 64)
    for views in (("original",), ("original", "original")):
        of_two = Streamed(chunked, "train", 16, views, classes=(2, 0))
        sizes = [len(labels) for _, labels in of_two.blocks(np.random.default_rng(0))]
        assert sum(sizes) == len(views) * of_two.num_rows
        assert len(sizes) > 2
        assert len(set(sizes[:-1])) == 1
        assert sizes[0] % (16 * len(views)) == 0
        assert sizes[-1] <= sizes[0]


def test_blocks_without_a_row_of_the_classes_are_passed_over(chunked, monkeypatch):
    monkeypatch.setattr(examples, "BLOCK_BYTES", 4 * 8192 * 32)
    of_two = Streamed(chunked, "train", classes=(2, 0))
    labels = chunked.read_labels("train")
    assert of_two.num_rows == np.isin(labels, [0, 2]).sum()
    blocks = list(of_two.blocks())
    assert len(blocks) < 301 / 32
    found = np.concatenate([block for _, block in blocks])
    np.testing.assert_array_equal(found, np.where(labels == 2, 0, 1)[labels != 1])
    trained, _ = fit(Reference(epochs=2), of_two, 2)
    assert trained.output_shape == (None, 2)


def test_float16_features_are_trained_on_as_float32(tmp_path):
    halves = FEATURES.astype(np.float16)
    caches = [
        write_cache(tmp_path / f"{name}.h5", features, LABELS)
        for name, features in (("float16", halves), ("float32", halves.astype(np.float32)))
    ]
    ours, theirs = (
        fit(Reference(epochs=2), Streamed(cache, "train", 32), 3, val=Streamed(cache, "train")) for cache in caches
    )
    for a, b in zip(parameters(ours[0]), parameters(theirs[0]), strict=True):
        np.testing.assert_array_equal(a, b)
    assert ours[1][-1].val_loss == theirs[1][-1].val_loss


def test_it_learns():
    trained, history = fit(Reference(epochs=40, learning_rate=0.1), TRAIN, 3)
    assert history[-1].accuracy > 0.9
    assert (compute_logits(trained, FEATURES).argmax(axis=1) == LABELS).mean() > 0.9


def test_same_seed_same_head():
    first, again, other = (fit(Reference(epochs=2, seed=seed), TRAIN, 3)[0] for seed in (1, 1, 2))
    for a, b in zip(parameters(first), parameters(again), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(parameters(first)[0], parameters(other)[0])


def test_same_seed_same_head_streamed(chunked, small_blocks):
    train = Streamed(chunked, "train", 32)
    first, again = (fit(Reference(epochs=2), train, 3)[0] for _ in range(2))
    for a, b in zip(parameters(first), parameters(again), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_matrix_goes_to_the_device_once():
    on_device = InMemory.on_device(FEATURES, LABELS)
    (features, _), (again, _) = (next(on_device.blocks()) for _ in range(2))
    assert features is again is examples.to_tensors(features, LABELS)[0]


def test_binary_target():
    labels = (LABELS == 0).astype(np.int64)
    trained, _ = fit(Reference(epochs=30, learning_rate=0.1), InMemory(FEATURES, labels), 2)
    logits = compute_logits(trained, FEATURES)
    assert logits.shape == (101, 2)
    assert (logits.argmax(axis=1) == labels).mean() > 0.85


def test_validation_rows_are_measured_not_trained_on():
    without, _ = fit(Reference(epochs=2), TRAIN, 3)
    with_val, history = fit(Reference(epochs=2), TRAIN, 3, val=TRAIN)
    for a, b in zip(parameters(without), parameters(with_val), strict=True):
        np.testing.assert_array_equal(a, b)
    expected = (compute_logits(with_val, FEATURES).argmax(axis=1) == LABELS).mean()
    assert history[-1].val_accuracy == pytest.approx(expected)


def test_divergence_is_an_error_that_names_the_setting():
    with pytest.raises(RunError, match=r"the loss is (nan|inf) in epoch \d+ with .*learning_rate=1e\+30"):
        fit(Reference(learning_rate=1e30, epochs=5), InMemory(FEATURES * 1e20, LABELS), 3)


def test_blocks_of_logits_are_the_whole():
    trained, _ = fit(Reference(epochs=1), TRAIN, 3)
    np.testing.assert_allclose(
        compute_logits(trained, FEATURES, 10), compute_logits(trained, FEATURES), rtol=1e-5, atol=1e-6
    )


def test_given_arrays_are_not_written_into():
    features, labels = FEATURES.copy(), LABELS.copy()
    features.flags.writeable = labels.flags.writeable = False
    fit(Reference(epochs=1), InMemory(features, labels), 3)
    np.testing.assert_array_equal(features, FEATURES)


@pytest.mark.parametrize("changes", [{"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"momentum": 1.0}])
def test_wrong_settings(changes):
    with pytest.raises(SpecError, match=r"got "):
        Reference(**changes)


FIT = """
import numpy as np
from tfl.heads.examples import InMemory, Streamed
from tfl.heads.model import compute_logits
from tfl.heads.solvers.reference import fit
from tfl.heads import Reference
arrays = np.load({arrays!r})
model, _ = fit(Reference(epochs=3), InMemory(arrays["features"], arrays["labels"]), 3)
np.savez({out!r}, *model.get_weights())
"""


@pytest.mark.parametrize("backend", ["jax", pytest.param("torch", marks=pytest.mark.torch)])
def test_other_backends_train_the_same_head(backend, tmp_path):
    pytest.importorskip(backend)
    np.savez(tmp_path / "arrays.npz", features=FEATURES, labels=LABELS)
    program = WITHOUT_TENSORFLOW + FIT.format(arrays=str(tmp_path / "arrays.npz"), out=str(tmp_path / "head.npz"))
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ours, _ = fit(Reference(epochs=3), TRAIN, 3)
    with np.load(tmp_path / "head.npz") as theirs:
        for a, b in zip(parameters(ours), theirs.values(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
