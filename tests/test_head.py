import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import WITHOUT_TENSORFLOW

from tfl import head
from tfl.errors import RunError, SpecError
from tfl.recipes import Reference

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(101, 7)).astype(np.float32)
LABELS = (FEATURES @ RNG.normal(size=(7, 3))).argmax(axis=1)
TRAIN = (FEATURES, LABELS)


def parameters(model):
    return [np.asarray(weight) for weight in model.get_weights()]


@pytest.mark.parametrize("batch_size", [1, 25, 32, 101, 200])
def test_reference_is_what_keras_fit_does(batch_size):
    """The same initial head, the same batches (a short last one included): Keras' own SGD ends at the same head."""
    recipe = Reference(epochs=3, batch_size=batch_size, learning_rate=0.05, momentum=0.9, seed=4)
    ours, history = head.fit(recipe, TRAIN, 3)

    rng = np.random.default_rng(recipe.seed)
    kernel, bias, *_ = head._initial(7, 3, rng)
    theirs = head._dense(kernel, bias)
    theirs.compile(
        keras.optimizers.SGD(0.05, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    losses = []
    for _ in range(recipe.epochs):
        order = rng.permutation(len(LABELS))
        fitted = theirs.fit(FEATURES[order], LABELS[order], batch_size=batch_size, shuffle=False, verbose=0)
        losses += fitted.history["loss"]
    for a, b in zip(parameters(ours), parameters(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose([epoch["loss"] for epoch in history], losses, rtol=1e-4)


def test_it_learns():
    model, history = head.fit(Reference(epochs=40, learning_rate=0.1), TRAIN, 3)
    assert history[-1]["accuracy"] > 0.9
    assert (head.logits_of(model, FEATURES).argmax(axis=1) == LABELS).mean() > 0.9


def test_same_seed_same_head():
    first, again, other = (head.fit(Reference(epochs=2, seed=seed), TRAIN, 3)[0] for seed in (1, 1, 2))
    for a, b in zip(parameters(first), parameters(again), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(parameters(first)[0], parameters(other)[0])


def test_binary_target():
    labels = (LABELS == 0).astype(np.int64)
    model, _ = head.fit(Reference(epochs=30, learning_rate=0.1), (FEATURES, labels), 2)
    logits = head.logits_of(model, FEATURES)
    assert logits.shape == (101, 2)
    assert (logits.argmax(axis=1) == labels).mean() > 0.85


def test_validation_rows_are_measured_not_trained_on():
    without, _ = head.fit(Reference(epochs=2), TRAIN, 3)
    with_val, history = head.fit(Reference(epochs=2), TRAIN, 3, val=TRAIN)
    for a, b in zip(parameters(without), parameters(with_val), strict=True):
        np.testing.assert_array_equal(a, b)
    expected = (head.logits_of(with_val, FEATURES).argmax(axis=1) == LABELS).mean()
    assert history[-1]["val_accuracy"] == pytest.approx(expected)


def test_divergence_is_an_error_that_names_the_setting():
    with pytest.raises(RunError, match=r"the loss is (nan|inf) in epoch \d+ with .*learning_rate=1e\+30"):
        head.fit(Reference(learning_rate=1e30, epochs=5), (FEATURES * 1e20, LABELS), 3)


def test_blocks_of_logits_are_the_whole():
    model, _ = head.fit(Reference(epochs=1), TRAIN, 3)
    np.testing.assert_allclose(
        head.logits_of(model, FEATURES, 10), head.logits_of(model, FEATURES), rtol=1e-5, atol=1e-6
    )


def test_given_arrays_are_not_written_into():
    features, labels = FEATURES.copy(), LABELS.copy()
    features.flags.writeable = labels.flags.writeable = False
    head.fit(Reference(epochs=1), (features, labels), 3)
    np.testing.assert_array_equal(features, FEATURES)


@pytest.mark.parametrize("changes", [{"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"momentum": 1.0}])
def test_wrong_settings(changes):
    with pytest.raises(SpecError, match=r"got "):
        Reference(**changes)


FIT = """
import numpy as np
from tfl import head
from tfl.recipes import Reference
arrays = np.load({arrays!r})
model, _ = head.fit(Reference(epochs=3), (arrays["features"], arrays["labels"]), 3)
np.savez({out!r}, *model.get_weights())
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_train_the_same_head(backend, tmp_path):
    pytest.importorskip(backend)
    np.savez(tmp_path / "arrays.npz", features=FEATURES, labels=LABELS)
    program = WITHOUT_TENSORFLOW + FIT.format(arrays=str(tmp_path / "arrays.npz"), out=str(tmp_path / "head.npz"))
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ours, _ = head.fit(Reference(epochs=3), TRAIN, 3)
    with np.load(tmp_path / "head.npz") as theirs:
        for a, b in zip(parameters(ours), theirs.values(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
