"""Each recipe against an independent implementation of the same mathematics, and what all of them promise."""

import json
import os
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from conftest import WITHOUT_TENSORFLOW
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as SklearnRidge

from tfl.errors import RunError, SpecError
from tfl.heads import RECIPES, Best, Grid, Knn, Logistic, Mlp, Reference, Ridge, model
from tfl.heads.loading import load_head
from tfl.heads.model import apply_temperature, compute_logits
from tfl.heads.rows import LabelledFeatures, split_rows
from tfl.heads.search import search
from tfl.heads.selection import compute_class_weights
from tfl.heads.solvers import batches, grid, knn, members, sgd
from tfl.heads.solvers.standardisation import compute_basis, compute_moments, compute_scaling
from tfl.heads.trials import Listeners
from tfl.specs.training import Selection

NAMES = ("a", "b", "c")


def make_rows(num_rows=400, num_features=12, seed=0, num_views=1, class_weights=(1, 1, 1)):
    """Correlated columns of differing scales, the last one constant; three classes that overlap."""
    rng = np.random.default_rng(seed)
    weights = np.random.default_rng(7).normal(size=(num_features, 3))
    features = rng.normal(size=(num_rows, num_features)) @ rng.normal(size=(num_features, num_features)) + 3
    labels = ((features - 3) @ weights + rng.gumbel(size=(num_rows, 3))).argmax(axis=1)
    features[:, -1] = 5.0
    views = tuple((features + 0.1 * i).astype(np.float32) for i in range(num_views))
    return LabelledFeatures(views, labels, 3, np.asarray(class_weights, np.float32))


def divided(rows, fraction=0.25):
    return split_rows(rows, fraction, 0, NAMES)


def standardised(rows):
    scale = rows.features.std(axis=0)
    return (rows.features - rows.features.mean(axis=0)) / np.where(scale > 1e-6, scale, 1)


def probabilities(logits):
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


# ---- the parts that recipes share


@pytest.mark.parametrize("class_weights", [(1, 1, 1), (3, 1, 0.5)])
@pytest.mark.parametrize("num_rows", [400, 9])
def test_basis_is_that_of_the_correlations(num_rows, class_weights):
    rows = make_rows(num_rows, class_weights=class_weights)
    weights = rows.weights.astype(np.float64) / rows.weights.sum()
    mean = weights @ rows.features
    centred = rows.features - mean
    scale = np.sqrt(weights @ centred**2)
    x = centred / np.where(scale > 1e-5, scale, 1)
    basis = compute_basis(rows)
    np.testing.assert_allclose(basis.scaling.mean, mean, rtol=1e-4)
    rebuilt = (basis.vectors * basis.values) @ basis.vectors.T
    np.testing.assert_allclose(rebuilt, (x * weights[:, None]).T @ x, atol=2e-4)
    np.testing.assert_allclose(basis.vectors.T @ basis.vectors, np.eye(len(basis.values)), atol=1e-4)
    assert len(basis.values) <= min(rows.features.shape)


def test_moments_of_parts_add_up():
    fitting, val, both = divided(make_rows(class_weights=(2, 1, 1)))
    alone_ = compute_moments(LabelledFeatures(both.views, both.labels, 3, both.class_weights))
    together = compute_moments(both)
    assert together.total == pytest.approx(alone_.total)
    scaling = alone_.compute_scaling()
    np.testing.assert_allclose(together.compute_scaling().scale, scaling.scale, rtol=1e-5)
    np.testing.assert_allclose(together.compute_correlations(scaling), alone_.compute_correlations(scaling), atol=1e-5)
    assert compute_moments(both) is together
    assert fitting.num_rows + val.num_rows == both.num_rows


def test_scaling_folds_into_a_kernel():
    rows = make_rows()
    scaling, rng = compute_scaling(rows), np.random.default_rng(0)
    kernel, bias = rng.normal(size=(12, 3)).astype(np.float32), rng.normal(size=3).astype(np.float32)
    folded_kernel, folded_bias = scaling.fold(kernel, bias)
    expected = scaling.apply(rows.features) @ kernel + bias
    np.testing.assert_allclose(rows.features @ folded_kernel + folded_bias, expected, atol=1e-4)


def test_division_is_stratified_and_seeded():
    rows = make_rows(1000)
    fitting, val, both = split_rows(rows, 0.1, 0, NAMES)
    counts, chosen = np.bincount(rows.labels), np.bincount(val.labels)
    np.testing.assert_array_equal(chosen, [round(0.1 * count) for count in counts.tolist()])
    assert fitting.num_rows == 1000 - val.num_rows
    assert {r.tobytes() for r in both.features} == {r.tobytes() for r in rows.features}
    np.testing.assert_array_equal(val.features, split_rows(rows, 0.1, 0, NAMES)[1].features)
    assert not np.array_equal(val.features, split_rows(rows, 0.1, 1, NAMES)[1].features)


@pytest.mark.parametrize("fraction", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_division_of_a_long_tail(fraction, caplog):
    """At least one row and not all of a class with two rows or more; none of a single one, which is told once."""
    counts = [40, 20, 5, 3, 2, 1, 1, 0]
    labels = np.repeat(np.arange(8), counts)
    rows = LabelledFeatures((np.arange(72, dtype=np.float32)[:, None],), labels, 8, np.ones(8, np.float32))
    fitting, val, both = split_rows(rows, fraction, 0, tuple("abcdefgh"))
    held_out = np.bincount(val.labels, minlength=8).tolist()
    assert held_out == [min(max(1, round(fraction * n)), n - 1) if n > 1 else 0 for n in counts]
    assert (np.bincount(fitting.labels, minlength=8) + held_out).tolist() == counts
    assert sorted(both.features[:, 0].tolist()) == list(range(72))
    assert len(caplog.messages) == 1
    assert "2 of 7 classes have a single training row each and no validation row" in caplog.text
    assert "(f (1 row), g (1 row))" in caplog.text


def test_division_that_holds_out_as_before_is_silent(caplog):
    split_rows(make_rows(1000), 0.1, 0, NAMES)
    assert not caplog.messages


def test_division_of_single_rows():
    rows = make_rows(3)
    rows.labels[:] = range(3)
    with pytest.raises(RunError, match=r"no class has two training rows, .*--val-split\), or take the"):
        split_rows(rows, 0.1, 0, NAMES)


def test_views_are_averaged_in_float32():
    rows = make_rows(num_views=3)
    np.testing.assert_allclose(rows.features, np.mean(rows.views, axis=0), rtol=1e-6)
    assert rows.features is rows.features


@pytest.mark.parametrize("recipe", [Ridge(l2=(1e-5, 1.0)), Logistic(l2=(0.1,))])
def test_constant_columns_and_columns_that_hardly_vary(recipe):
    """Constants whose squares float32 sums do not hold exactly, beside one of a small variance."""
    fitting, val, both = divided(make_rows(2000, 20))
    for rows in (fitting, val, both):
        rows.views[0][:, :5] = np.float32([0.1, 0.2, 0.3, 0.7, 1.3])
        rows.views[0][:, 5] = 0.1 + 1e-4 * rows.views[0][:, 6]
    scaling = compute_moments(both).compute_scaling()
    np.testing.assert_array_equal(scaling.scale[:5], 1)
    np.testing.assert_allclose(scaling.scale[5], both.features[:, 5].astype(np.float64).std(), rtol=1e-2)
    found = search(recipe, fitting, val)
    refitted = found.refit(both)
    for fitted in (found.head, refitted):
        assert (compute_logits(fitted, val.features).argmax(axis=1) == val.labels).mean() > 0.6


# ---- logistic


@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize(("num_rows", "l2"), [(400, 0.1), (400, 0.001), (10, 0.05)])
def test_logistic_is_what_scikit_learn_finds(num_rows, l2, class_weight):
    """The same penalty, the same optimum: (with fewer rows than columns as well)."""
    rows = make_rows(num_rows)
    counts = np.bincount(rows.labels, minlength=3)
    weights = compute_class_weights(counts, Selection(class_weight=class_weight or "none"))
    rows = LabelledFeatures(rows.views, rows.labels, 3, weights)
    x = compute_basis(rows).scaling.apply(rows.features).astype(np.float64)
    theirs = LogisticRegression(C=1 / (l2 * num_rows), tol=1e-8, max_iter=5000, class_weight=class_weight)
    theirs.fit(x, rows.labels)
    ours = search(Logistic(l2=(l2,), tolerance=1e-6), rows, None).head
    np.testing.assert_allclose(probabilities(compute_logits(ours, rows.features)), theirs.predict_proba(x), atol=2e-3)


def test_logistic_path_is_warm_and_ends_early():
    fitting, val, both = divided(make_rows(300, 60))
    told = []
    found = search(Logistic(), fitting, val, Listeners(on_trial=told.append))
    penalties = [trial.setting["l2"] for trial in found.trials]
    assert penalties == list(Logistic().l2[: len(penalties)])
    assert told == found.trials
    losses = [trial.val_loss for trial in found.trials]
    assert len(penalties) < 12, "the weakest penalties overfit 60 columns: the path ends before them"
    assert min(losses) < losses[-1]
    alone_ = search(Logistic(l2=(penalties[3],)), fitting, val)
    assert alone_.trials[0].val_loss == pytest.approx(losses[3], rel=5e-3), "begun at zero or at the one before"
    refitted = compute_logits(found.refit(both), both.features)
    fresh = search(Logistic(l2=(found.trial.setting["l2"],)), both, None).head
    expected = probabilities(compute_logits(fresh, both.features))  # standardised by a few rows more
    np.testing.assert_allclose(probabilities(refitted), expected, atol=2e-2)


def test_logistic_refit_on_fewer_rows_than_columns_leaves_the_span_of_the_fitting_rows():
    fitting, _, both = divided(make_rows(40, 100))
    fitted = search(Logistic(l2=(0.05,), tolerance=1e-6), fitting, None).refit(both)
    fresh = search(Logistic(l2=(0.05,), tolerance=1e-6), both, None).head
    np.testing.assert_allclose(
        probabilities(compute_logits(fitted, both.features)),
        probabilities(compute_logits(fresh, both.features)),
        atol=2e-3,
    )


def test_logistic_says_when_it_has_not_converged(caplog):
    search(Logistic(l2=(1e-4,), max_iterations=2), make_rows(), None)
    assert "l2 0.0001: not converged after 2 iterations (--max-iterations)" in caplog.text


@pytest.mark.parametrize("recipe", [Logistic(), Ridge()])
def test_features_whose_squares_overflow(recipe):
    rows = make_rows()
    rows.views[0][0, 0] = 3e38
    with pytest.raises(RunError, match="the largest feature is 3e[+]38, and its square is more than float32 holds"):
        search(recipe, rows, None)


# ---- ridge


@pytest.mark.parametrize("class_weights", [(1, 1, 1), (3, 1, 0.5)])
@pytest.mark.parametrize("num_rows", [400, 10])
def test_ridge_is_what_scikit_learn_finds(num_rows, class_weights):
    rows = make_rows(num_rows, class_weights=class_weights)
    x = compute_basis(rows).scaling.apply(rows.features).astype(np.float64)
    theirs = SklearnRidge(alpha=0.3 * rows.weights.sum())
    theirs.fit(x, np.eye(3)[rows.labels], sample_weight=rows.weights)
    found = search(Ridge(l2=(0.3,)), rows, None)
    for fitted in (found.head, found.refit(rows)):
        ours = compute_logits(fitted, rows.features)
        centred = ours - ours.mean(axis=1, keepdims=True)
        expected = theirs.predict(x)
        expected -= expected.mean(axis=1, keepdims=True)
        scale = (centred * expected).sum() / (expected**2).sum()  # the temperature
        np.testing.assert_allclose(centred / scale, expected, atol=2e-4)


def test_ridge_outputs_are_calibrated_as_logits():
    fitting, val, _ = divided(make_rows(600))
    ours = search(Ridge(), fitting, val)
    other = search(Logistic(), fitting, val)
    assert ours.trial.val_loss < 1.5 * other.trial.val_loss < 0.4, "raw outputs would be near log(3)"


# ---- knn


def test_knn_head_votes_as_a_loop_over_all_rows_does():
    rows, asked = make_rows(50, class_weights=(1, 2, 1)), make_rows(20, seed=3)
    ours = search(Knn(neighbours=(7,), temperature=(0.1,)), rows, asked)
    unit = [r.features / np.linalg.norm(r.features, axis=1, keepdims=True) for r in (rows, asked)]
    expected = []
    for row in unit[1]:
        cosines = unit[0] @ row
        votes = np.zeros(3)
        for i in np.argsort(-cosines)[:7]:
            votes[rows.labels[i]] += rows.weights[i] * np.exp(cosines[i] / 0.1)
        expected.append(np.log(votes / votes.sum() + 1e-3))
    np.testing.assert_allclose(compute_logits(ours.head, asked.features), expected, atol=2e-3)
    np.testing.assert_allclose(ours.val_logits, expected, atol=2e-3)


def test_knn_in_blocks_is_the_whole(monkeypatch):
    rows, asked = make_rows(50), make_rows(20, seed=3)
    whole = search(Knn(), rows, asked)
    monkeypatch.setattr(knn, "SIMILARITY_BYTES", 4 * 50 * 3)
    monkeypatch.setattr(model, "SIMILARITY_BYTES", 4 * 50 * 3)
    in_blocks = search(Knn(), rows, asked)
    assert [t.val_accuracy for t in in_blocks.trials] == [t.val_accuracy for t in whole.trials]
    np.testing.assert_allclose(
        compute_logits(in_blocks.head, asked.features),
        compute_logits(whole.head, asked.features),
        rtol=1e-4,
    )
    assert {trial.setting["neighbours"] for trial in whole.trials} == {5, 10, 20, 50}, "100 of 50 are 50"


# ---- grid


def test_each_head_of_the_grid_is_the_one_trained_alone():
    rows = make_rows()
    recipe = Grid(learning_rate=(0.003, 0.03), weight_decay=(0.0, 0.1), kernel_seed=(0, 5), epochs=3, batch_size=32)
    settings = grid.list_settings(recipe)
    assert len(set(settings)) == 8
    together = grid.train_grid(recipe, settings, rows)
    for setting, (kernel, bias) in zip(settings, together, strict=True):
        ((kernel_alone, bias_alone),) = grid.train_grid(recipe, [setting], rows)
        np.testing.assert_allclose(kernel, kernel_alone, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(bias, bias_alone, rtol=1e-5, atol=1e-5)
    assert len({kernel.tobytes() for kernel, _ in together}) == 8


def test_grid_with_weight_decay_is_keras_sgd():
    rows = make_rows()
    recipe = Grid(learning_rate=(0.003,), weight_decay=(0.2,), kernel_seed=(4,), epochs=2, batch_size=32, seed=9)
    ((kernel, bias),) = grid.train_grid(recipe, grid.list_settings(recipe), rows)
    rng = np.random.default_rng(9)
    theirs = model.build_dense([sgd.draw_start(12, 3, np.random.default_rng(4))])
    theirs.compile(
        keras.optimizers.SGD(0.003, momentum=0.9, weight_decay=0.2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    for _ in range(2):
        order = rng.permutation(rows.num_rows)
        theirs.fit(rows.features[order], rows.labels[order], batch_size=32, shuffle=False, verbose=0)
    for a, b in zip((kernel, bias), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_a_setting_that_diverges_is_left_out_by_name(caplog):
    fitting, val, _ = divided(make_rows())
    recipe = Grid(learning_rate=(0.001, 1e38), weight_decay=(0.0,), kernel_seed=(0,), epochs=5)
    found = search(recipe, fitting, val)
    assert [trial.setting["learning_rate"] for trial in found.trials] == [0.001]
    assert "diverged, and left out: Setting(learning_rate=1e+38, weight_decay=0.0, kernel_seed=0)" in caplog.text
    with pytest.raises(RunError, match=r"every setting diverged; .*1e\+38"):
        search(Grid(learning_rate=(1e38,), epochs=5), fitting, val)


# ---- mlp


def ring(num_rows, seed):
    """Two classes that no line divides: inside and outside a ring."""
    features = np.random.default_rng(seed).normal(size=(num_rows, 2)).astype(np.float32)
    return LabelledFeatures((features,), ((features**2).sum(axis=1) > 1.4).astype(np.int64), 2, np.ones(2, np.float32))


def test_mlp_learns_what_no_line_divides():
    fitting, val = ring(600, 0), ring(300, 1)
    recipe = Mlp(
        hidden=(32,), dropout=0.0, mixup=0.0, label_smoothing=0.0, epochs=25, batch_size=32, learning_rate=0.02
    )
    found = search(recipe, fitting, val)
    linear = search(Logistic(), fitting, val)
    assert found.trial.val_accuracy > 0.95
    assert linear.trial.val_accuracy < 0.75
    assert len(found.history) <= 25
    assert (
        found.trial.setting["epochs"]
        == max(found.history, key=lambda epoch: (epoch.val_accuracy, -epoch.val_loss)).epoch
    )
    refitted = found.refit(fitting)
    assert (compute_logits(refitted, val.features).argmax(axis=1) == val.labels).mean() > 0.95


@pytest.mark.parametrize("hidden", [(16,), (16, 8, 4)])
def test_the_head_of_several_members_gives_the_mean_of_their_logits(hidden):
    rows = make_rows(60)
    scaling = compute_scaling(rows)
    network = members.build_network(Mlp(hidden, members=3, seed=2), rows)
    of_members = keras.ops.convert_to_numpy(network(scaling.apply(rows.features)))
    assert of_members.shape == (60, 3, 3)
    (kernel, bias), *rest = members.average_members(members.get_members(network))
    joined = model.build_dense([scaling.fold(kernel, bias), *rest])
    np.testing.assert_allclose(compute_logits(joined, rows.features), of_members.mean(axis=1), atol=1e-4)
    spread = of_members.std(axis=1).mean()
    assert spread > 0.1 * of_members.std(), "members begin at different weights"


def test_members_train_as_one_alone_does_and_differ():
    """Three at once are as good as each would be: the loss of one does not weaken another's."""
    fitting, val = ring(600, 0), ring(300, 1)
    settings = {"dropout": 0.0, "label_smoothing": 0.0, "epochs": 25, "batch_size": 32, "learning_rate": 0.02}
    found = search(Mlp((16,), members=3, **settings), fitting, val)
    assert found.trial.val_accuracy > 0.95
    assert found.trial.setting["members"] == 3
    kernel = found.head.get_weights()[0]  # (2, 3 * 16)
    assert kernel.shape == (2, 48)
    assert len(np.unique(kernel[0])) == 48
    assert (compute_logits(found.refit(fitting), val.features).argmax(axis=1) == val.labels).mean() > 0.95


def test_mlp_of_one_seed_is_one_head():
    rows = make_rows(100, num_views=2)
    recipe = Mlp(hidden=(8, 8), epochs=2, batch_size=32, seed=3)
    first, again, other = (search(r, rows, None).head for r in (recipe, recipe, Mlp((8, 8), epochs=2, seed=4)))
    for a, b in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first.get_weights()[0], other.get_weights()[0])


@pytest.mark.parametrize(("num_rows", "steps"), [(20, 3), (100, 9), (5000, 10)])
def test_mlp_takes_several_steps_an_epoch_however_few_the_rows(monkeypatch, num_rows, steps):
    taken, get = set(), batches.Batches.__getitem__
    monkeypatch.setattr(batches.Batches, "__getitem__", lambda self, index: taken.add(index) or get(self, index))
    search(Mlp(hidden=(4,), epochs=1), make_rows(num_rows), None)
    assert len(taken) == steps


def test_mlp_ends_early():
    rng = np.random.default_rng(0)
    noise = LabelledFeatures(
        (rng.normal(size=(64, 4)).astype(np.float32),), rng.integers(0, 2, 64), 2, np.ones(2, np.float32)
    )
    found = search(Mlp(hidden=(64,), epochs=60, patience=2, batch_size=16), noise, noise.part(np.s_[:8]))
    assert len(found.history) - found.trial.setting["epochs"] == 2


def test_mlp_divergence_names_the_setting():
    with pytest.raises(RunError, match=r"the loss is (nan|inf) in epoch \d+ with Mlp\(.*learning_rate=1e\+30"):
        search(Mlp(hidden=(4,), learning_rate=1e30, epochs=4), make_rows(), None)


def test_a_batch_draws_views_and_mixes_pairs():
    rows = make_rows(64, num_views=2)
    plain = batches.Batches(Mlp(mixup=0.0, batch_size=64), rows, compute_scaling(rows))
    x, y, weights = plain[0]
    views = [compute_scaling(rows).apply(view[plain._order]) for view in rows.views]
    is_first = np.isclose(x, views[0]).all(axis=1)
    np.testing.assert_allclose(x, np.where(is_first[:, None], *views))
    assert 10 < is_first.sum() < 54
    assert y.shape == (64, 1, 3)
    assert set(y.sum(axis=-1).ravel()) == {1.0} == set(weights.ravel())
    mixed = batches.Batches(Mlp(mixup=1.0, batch_size=64), rows, compute_scaling(rows))
    assert any(0.05 < mixed[0][1].max(axis=-1).min() < 0.95 for _ in range(5))
    np.testing.assert_allclose(mixed[0][1].sum(axis=-1), 1, rtol=1e-5)


def test_mixing_keeps_what_each_class_counts():
    rng = np.random.default_rng(0)
    labels = (np.arange(2100) % 21 == 0).astype(np.int64)  # 1 : 20
    weights = compute_class_weights(np.bincount(labels), Selection(class_weight="balanced"))
    rows = LabelledFeatures((rng.normal(size=(2100, 3)).astype(np.float32),), labels, 2, weights)
    _, of_members, counted = batches.Batches(Mlp(mixup=0.2, batch_size=2100), rows, compute_scaling(rows))[0]
    y = of_members[:, 0]
    np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-5)
    mass = (y * counted).sum(axis=0)
    assert mass[1] / mass.sum() == pytest.approx(0.5, abs=0.01)


# ---- what all recipes promise

QUICK = {
    "reference": Reference(epochs=3, learning_rate=0.01),
    "grid": Grid(epochs=3),
    "logistic": Logistic(),
    "ridge": Ridge(),
    "mlp": Mlp(hidden=(16,), epochs=8, batch_size=16, learning_rate=0.01),
    "knn": Knn(),
    "best": Best(seconds=0.5),
}


def test_every_recipe_is_tested_here():
    assert set(QUICK) == set(RECIPES)


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("class_weight", ["none", "balanced"])
def test_every_recipe_learns_a_long_tail(name, class_weight):
    """40 classes of 40 / rank rows each, half of them of one row: all of them are found again."""
    rng = np.random.default_rng(0)
    counts = [max(1, 40 // rank) for rank in range(1, 41)]
    labels = np.repeat(np.arange(40), counts)
    centres = rng.normal(size=(40, 64)) * 3
    features = (centres[labels] + rng.normal(size=(len(labels), 64)) * 0.1).astype(np.float32)
    weights = compute_class_weights(np.bincount(labels), Selection(class_weight=class_weight))
    names = tuple(map(str, range(40)))
    fitting, val, both = split_rows(LabelledFeatures((features,), labels, 40, weights), 0.1, 0, names)
    found = search(QUICK[name], fitting, val)
    assert np.isfinite(found.val_logits).all()
    logits = compute_logits(found.refit(both), centres.astype(np.float32))
    assert np.isfinite(logits).all()
    least = 0.0 if name in ("reference", "grid", "mlp") else 0.9
    assert (logits.argmax(axis=1) == np.arange(40)).mean() >= least  # those learn little in so few steps


@pytest.mark.parametrize("name", QUICK)
def test_validation_rows_choose_and_are_not_fitted(name):
    fitting, val, both = divided(make_rows())
    for rows in (fitting, val, both):
        rows.views[0].flags.writeable = False
    found = search(QUICK[name], fitting, val)
    if name == "best":
        assert {trial.recipe for trial in found.trials} >= {"ridge"}
    best = max(found.trials, key=lambda trial: trial.val_accuracy)
    assert found.trial.val_accuracy == best.val_accuracy
    assert found.trial.val_accuracy == pytest.approx((found.val_logits.argmax(axis=1) == val.labels).mean())
    np.testing.assert_allclose(compute_logits(found.head, val.features), found.val_logits, atol=1e-4)
    other = search(QUICK[name], fitting, LabelledFeatures(val.views, (val.labels + 1) % 3, 3, val.class_weights))
    if len(found.trials) == 1 and name != "mlp":
        np.testing.assert_array_equal(compute_logits(other.head, val.features), found.val_logits)
    assert (compute_logits(found.refit(both), val.features).argmax(axis=1) == val.labels).mean() > 0.5


@pytest.mark.parametrize("name", [name for name in QUICK if name != "best"])
def test_balanced_weights_help_the_rare_class(name):
    rng = np.random.default_rng(0)
    labels = (np.arange(1050) % 21 == 0).astype(np.int64)  # 1 : 20
    features = (rng.normal(size=(1050, 6)) + labels[:, None] * 0.8).astype(np.float32)
    recalls = {}
    for word in ("none", "balanced"):
        weights = compute_class_weights(np.bincount(labels), Selection(class_weight=word))
        rows = LabelledFeatures((features,), labels, 2, weights)
        fitting, val, _ = split_rows(rows, 0.3, 0, ("no", "yes"))
        recipe = QUICK[name] if name != "reference" else Reference(epochs=20, learning_rate=0.01)
        predicted = search(recipe, fitting, val).val_logits.argmax(axis=1)
        recalls[word] = (predicted == 1)[val.labels == 1].mean()
    assert recalls["balanced"] > recalls["none"]
    assert recalls["balanced"] > 0.5


def test_best_of_no_validation_rows():
    with pytest.raises(RunError, match="best chooses between recipes on validation rows, and there are none"):
        search(Best(), make_rows(), None)


def test_best_leaves_out_what_fails(caplog):
    fitting, val, _ = divided(make_rows())
    fitting.views[0][0, 0] = 3e38
    found = search(Best(candidates=3), fitting, val)
    assert {trial.recipe for trial in found.trials} == {"knn"}
    assert "ridge is left out: the largest feature is 3e+38" in caplog.text
    with pytest.raises(RunError, match="the largest feature is"):
        search(Best(candidates=2), fitting, val)


def test_best_keeps_to_its_budget(caplog):
    fitting, val, _ = divided(make_rows())
    with caplog.at_level("INFO"):
        found = search(Best(seconds=1e-6), fitting, val)
    assert {trial.recipe for trial in found.trials} == {"ridge"}
    assert "seconds are spent: logistic and all recipes after it are left out" in caplog.text


@pytest.mark.parametrize(
    "recipe", [Reference(), Grid(epochs=1), Logistic(), Ridge(), Mlp(hidden=(4,), epochs=1), Knn()]
)
def test_alone_has_one_setting(recipe):
    assert len(search(recipe.with_one_setting(), make_rows(9), None).trials) == 1


def test_alone_keeps_what_was_asked_for():
    assert Logistic(l2=(0.001,)).with_one_setting() == Logistic(l2=(0.001,))
    assert Knn(neighbours=(3,)).with_one_setting() == Knn(neighbours=(3,), temperature=(0.05,))


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (Logistic, {"l2": ()}),
        (Logistic, {"l2": (0.0,)}),
        (Logistic, {"max_iterations": 0}),
        (Ridge, {"l2": (-1.0,)}),
        (Mlp, {"hidden": ()}),
        (Mlp, {"hidden": (0,)}),
        (Mlp, {"members": 0}),
        (Mlp, {"dropout": 1.0}),
        (Mlp, {"mixup": -0.1}),
        (Mlp, {"learning_rate": float("nan")}),
        (Knn, {"neighbours": (0,)}),
        (Knn, {"temperature": (0.0,)}),
        (Grid, {"learning_rate": (0.1, -0.1)}),
        (Grid, {"kernel_seed": ()}),
        (Best, {"seconds": 0.0}),
        (Ridge, {"seed": -1}),
        (Grid, {"kernel_seed": (0, -1)}),
        (Selection, {"validation_fraction": 1.0}),
        (Selection, {"classes": ("cat",)}),
        (Selection, {"classes": ("cat", "cat")}),
        (Selection, {"views": ("upside_down",)}),
    ],
    ids=str,
)
def test_wrong_settings_name_what_was_received(kind, settings):
    with pytest.raises(SpecError, match="got "):
        kind(**settings)


# ---- the head's file


def saved(trained, path):
    trained.save(path)
    return path


@pytest.mark.parametrize("name", ["mlp", "knn", "logistic"])
def test_heads_are_read_as_they_were_written(name, tmp_path):
    rows = make_rows()
    trained = search(QUICK[name].with_one_setting(), rows, None).head
    again = load_head(saved(trained, tmp_path / "head.keras"))
    np.testing.assert_array_equal(compute_logits(again, rows.features), compute_logits(trained, rows.features))
    assert type(again.layers[-1]) is type(trained.layers[-1])


@pytest.mark.parametrize("name", ["mlp", "knn", "logistic"])
def test_temperature_divides_the_logits(name, tmp_path):
    rows = make_rows()
    trained = search(QUICK[name].with_one_setting(), rows, None).head
    warm = load_head(saved(apply_temperature(trained, 2.5), tmp_path / "head.keras"))
    np.testing.assert_allclose(
        compute_logits(warm, rows.features),
        compute_logits(trained, rows.features) / 2.5,
        rtol=1e-4,
        atol=1e-6,
    )


def rewritten(path, change):
    """The head's file with a changed description."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config["config"]["layers"])
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("mlp", lambda layers: layers[1]["config"].update(units=10**9), "do not fit into it"),
        ("mlp", lambda layers: layers[1]["config"].update(units=-1), "of widths"),
        ("mlp", lambda layers: layers[1]["config"].update(units=True), "of widths"),
        ("mlp", lambda layers: layers[1]["config"].update(activation="softmax"), "expected relu"),
        ("mlp", lambda layers: layers[1].update(class_name="Lambda"), "expected Dense layers, or Neighbours"),
        ("mlp", lambda layers: layers.pop(0), "expected features"),
        ("knn", lambda layers: layers[1]["config"].update(num_rows=10**12), "does not fit into it"),
        ("knn", lambda layers: layers[1]["config"].update(neighbours=401), "401 neighbours"),
        ("knn", lambda layers: layers[1]["config"].update(temperature=0.0), "temperature 0.0"),
        ("knn", lambda layers: layers[1]["config"].update(temperature="x"), "temperature x"),
        ("knn", lambda layers: layers[1]["config"].update(divisor=-1.0), "divisor -1.0"),
        ("knn", lambda layers: layers.append(layers[1]), "expected Dense layers, or Neighbours"),
    ],
    ids=range(12),
)
def test_a_head_that_claims_what_it_is_not(name, change, message, tmp_path):
    trained = search(QUICK[name].with_one_setting(), make_rows(), None).head
    path = rewritten(saved(trained, tmp_path / "head.keras"), change)
    with pytest.raises(RunError, match=message):
        load_head(path)


SEARCH = """
import numpy as np
from tfl.heads.loading import load_head
from tfl.heads.model import apply_temperature, compute_logits
from tfl.heads.rows import split_rows
from tfl.heads.search import search
from tfl.heads.trials import Listeners
from tfl.heads.rows import LabelledFeatures
from tfl.heads import *
from tfl.heads.model import compute_logits
from tfl.heads.search import search
arrays = np.load({arrays!r})
rows = LabelledFeatures((arrays["features"],), arrays["labels"], 3, np.ones(3, np.float32))
fitting, val, both = split_rows(rows, 0.25, 0, ("a", "b", "c"))
out = {{}}
for recipe in (Grid(epochs=2), Logistic(), Ridge(), Knn(), Mlp(hidden=(8,), epochs=2, dropout=0.0)):
    found = search(recipe, fitting, val)
    out[type(recipe).__name__] = compute_logits(found.refit(both), both.features)
np.savez({out!r}, **out)
"""


@pytest.mark.parametrize("backend", ["jax", pytest.param("torch", marks=pytest.mark.torch)])
def test_other_backends_find_the_same_heads(backend, tmp_path):
    pytest.importorskip(backend)
    rows = make_rows()
    np.savez(tmp_path / "arrays.npz", features=rows.features, labels=rows.labels)
    program = WITHOUT_TENSORFLOW + SEARCH.format(arrays=str(tmp_path / "arrays.npz"), out=str(tmp_path / "out.npz"))
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    fitting, val, both = divided(rows)
    with np.load(tmp_path / "out.npz") as theirs:
        for recipe in (Grid(epochs=2), Logistic(), Ridge(), Knn()):
            ours = compute_logits(search(recipe, fitting, val).refit(both), both.features)
            np.testing.assert_allclose(
                probabilities(ours), probabilities(theirs[type(recipe).__name__]), atol=5e-3, err_msg=str(recipe)
            )
        assert theirs["Mlp"].shape == (400, 3)
