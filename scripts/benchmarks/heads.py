"""Seconds and accuracy of training heads on a cache: recipes of tfl, Keras `fit` and scikit-learn on the same rows."""

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from measure import attempt, measure_in_turns, median_ratio
from record import RESULTS, new_result, write_result
from training import without_memory

QUESTION = "Training heads on cached features: tfl, Keras fit, scikit-learn, and many heads in one pass"
LIBRARIES = (
    "keras",
    "tensorflow",
    "jax",
    "torch",
    "scikit-learn",
    "scipy",
    "threadpoolctl",
    "numpy",
)
SCIKIT_LEARN_ITERATIONS = 100
# Features `(n, d)` to predicted labels `(n,)`.
Predict = Callable[[np.ndarray], np.ndarray]


class Bench:
    """The ways, on the rows of one cache. Each fits, and returns what predicts; a way of many heads returns None."""

    def __init__(self, path: Path) -> None:
        from tfl.cache import open_cache
        from tfl.heads import Grid, Logistic, Reference
        from tfl.heads.rows import read_rows, split_rows
        from tfl.heads.solvers.grid import list_settings
        from tfl.specs.training import Selection

        cache = open_cache(path)
        rows = read_rows(cache, "train", Selection())
        self.fitting, self.val, self.everything = split_rows(rows, 0.1, 0, cache.class_names)
        del rows
        self.test = read_rows(cache, "test", Selection()) if "test" in cache.num_rows else None
        self.grid = Grid(epochs=2, batch_size=256)
        self.grid_settings = list_settings(self.grid)
        self.reference = Reference()
        self.penalties = Logistic().l2
        self.accuracies: dict[str, float] = {}
        self.chosen: dict[str, Any] = {}

    def fit_recipe(self, recipe: Any) -> Predict:
        """Choose a recipe's settings on the validation rows, and fit it on everything."""
        from tfl.heads.search import search

        found = search(recipe, without_memory(self.fitting), self.val)
        self.chosen[recipe.name] = found.trial.setting
        return predict_by(found.refit(without_memory(self.everything)))

    def fit_reference(self) -> Predict:
        """Train the reference recipe."""
        head, _ = self.reference.fit(self.everything.stacked(), self.everything.num_classes)
        return predict_by(head)

    def fit_keras(self) -> Predict:
        """Train the same layer by Keras' own `fit`."""
        import keras

        rows, recipe = self.everything, self.reference
        layer = keras.Sequential([keras.Input((rows.num_features,)), keras.layers.Dense(rows.num_classes)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        layer.compile(keras.optimizers.SGD(recipe.learning_rate, recipe.momentum), loss, metrics=["accuracy"])
        layer.fit(rows.features, rows.labels, recipe.batch_size, recipe.epochs, verbose=0)
        return predict_by(layer)

    def fit_grid(self, num_heads: int) -> None:
        """Train so many heads of `grid` in one pass over the rows."""
        from tfl.heads.solvers.grid import train_grid

        train_grid(self.grid, self.grid_settings[:num_heads], self.fitting)

    def fit_scikit_learn(self) -> Predict:
        """Choose among the penalties of `logistic` as it does, with scikit-learn's LogisticRegression.

        The features are standardised by the same numbers. The path goes from the strongest penalty to the weakest, each
        begun at the solution of the one before (`warm_start`).
        """
        scores = {}
        predict, fit = self._make_scikit_learn(self.fitting)
        for l2 in sorted(self.penalties, reverse=True):
            fit(l2)
            scores[l2] = accuracy_of(predict, self.val)
        best = max(scores, key=lambda l2: scores[l2])
        self.chosen["scikit-learn"] = {"l2": best}
        predict, fit = self._make_scikit_learn(self.everything)
        fit(best)
        return predict

    def _make_scikit_learn(self, rows: Any) -> tuple[Predict, Callable[[float], Any]]:
        """Return what predicts, and what fits one penalty on these rows."""
        from sklearn.linear_model import LogisticRegression

        from tfl.heads.solvers.standardisation import compute_scaling

        scaling = compute_scaling(without_memory(rows))
        features = scaling.apply(rows.features)  # (n, d)
        model = LogisticRegression(max_iter=SCIKIT_LEARN_ITERATIONS, warm_start=True)

        def fit(l2: float) -> None:
            model.set_params(C=1 / (l2 * rows.num_rows)).fit(features, rows.labels)

        return lambda given: np.asarray(model.predict(scaling.apply(given))), fit

    def time(self, name: str, fit: Callable[[], Predict | None]) -> float:
        """Return the seconds of a fit, and note its accuracy on the test rows."""
        started = time.perf_counter()
        predict = fit()
        seconds = time.perf_counter() - started
        if predict is not None and self.test is not None:
            self.accuracies[name] = accuracy_of(predict, self.test)
        return seconds


def predict_by(head: Any) -> Predict:
    """Return what predicts by a Keras head."""
    from tfl.heads.model import compute_logits

    return lambda features: np.asarray(compute_logits(head, features).argmax(axis=1))


def accuracy_of(predict: Predict, rows: Any) -> float:
    """Return the share of rows whose label is predicted."""
    return float((predict(rows.features) == rows.labels).mean())


def main(
    cache: tyro.conf.Positional[Path],
    repeats: int = 1,
    leave_out: tuple[str, ...] = (),
    out: Path = RESULTS / "heads.json",
) -> None:
    """Train on a cache's training rows in several ways, in turns.

    Recipes of tfl choose among all their settings on a tenth of the rows and fit again on all of them, and so does
    scikit-learn among the penalties of `logistic`. Rows are in memory before the time begins. Test rows are read after
    each fit, and choose nothing.

    Args:
      cache: The file that `tfl precompute` made.
      repeats: Turns of all ways; one before them is not counted if there are two or more.
      leave_out: Names of ways as the result has them.
      out: The JSON file to write.
    """
    from tfl.heads import Logistic, Mlp, Ridge

    bench = Bench(cache)
    many = len(bench.grid_settings)
    ways: dict[str, Callable[[], Predict | None]] = {
        "tfl reference": bench.fit_reference,
        "Keras fit, the same layer": bench.fit_keras,
        "tfl logistic": functools.partial(bench.fit_recipe, Logistic()),
        "scikit-learn LogisticRegression, the same penalties": bench.fit_scikit_learn,
        "tfl ridge": functools.partial(bench.fit_recipe, Ridge()),
        "tfl mlp": functools.partial(bench.fit_recipe, Mlp()),
        "tfl grid, 1 head": functools.partial(bench.fit_grid, 1),
        f"tfl grid, {many} heads": functools.partial(bench.fit_grid, many),
    }
    failed: dict[str, str] = {}
    calls = {name: functools.partial(bench.time, name, fit) for name, fit in ways.items() if name not in leave_out}
    if repeats > 1:
        for name, call in calls.items():
            attempt(name, call, failed)
    measures = {name: call for name, call in calls.items() if name not in failed}
    seconds = measure_in_turns(measures, repeats, failed)
    findings: dict[str, Any] = {"test_accuracy": bench.accuracies, "chosen": bench.chosen}
    if {"tfl grid, 1 head", f"tfl grid, {many} heads"} <= set(seconds):
        of_many, of_one = seconds[f"tfl grid, {many} heads"], seconds["tfl grid, 1 head"]
        findings["median_many_heads_over_one"] = median_ratio(of_many, of_one)
    settings = {
        "cache": cache.name,
        "rows": bench.everything.num_rows,
        "fitting_rows": bench.fitting.num_rows,
        "test_rows": bench.test.num_rows if bench.test is not None else 0,
        "features": bench.fitting.num_features,
        "logistic_penalties": bench.penalties,
        "logistic_max_iterations": Logistic().max_iterations,
        "scikit_learn_max_iter": SCIKIT_LEARN_ITERATIONS,
    }
    results = {"seconds": seconds}
    write_result(
        out,
        new_result(QUESTION, results, LIBRARIES, settings=settings, findings=findings, failed=failed),
    )


if __name__ == "__main__":
    tyro.cli(main)
