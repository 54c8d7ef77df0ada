"""Seconds of training heads on a cache, each beside another way to do it."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro
from measure import attempt, measure_in_turns, median_ratio, seconds_of
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


class Bench:
    """The ways, on the rows of one cache."""

    def __init__(self, path: Path) -> None:
        from tfl.cache import open_cache
        from tfl.heads import Grid, Reference
        from tfl.heads.rows import read_rows, split_rows
        from tfl.heads.solvers.grid import list_settings
        from tfl.specs.training import Selection

        cache = open_cache(path)
        rows = read_rows(cache, "train", Selection())
        self.fitting, self.val, self.everything = split_rows(rows, 0.1, 0, cache.class_names)
        self.grid = Grid(epochs=2, batch_size=256)
        self.grid_settings = list_settings(self.grid)
        self.reference = Reference()
        self.accuracies: dict[str, float] = {}
        self.l2 = 0.1
        """Penalty of scikit-learn's model: the one that tfl has chosen."""

    def fit_reference(self) -> None:
        """Train the reference recipe."""
        self.reference.fit(self.everything.stacked(), self.everything.num_classes)

    def fit_keras(self) -> None:
        """Train the same layer by Keras' own `fit`."""
        import keras

        rows, recipe = self.everything, self.reference
        layer = keras.Sequential([keras.Input((rows.num_features,)), keras.layers.Dense(rows.num_classes)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        layer.compile(keras.optimizers.SGD(recipe.learning_rate, recipe.momentum), loss, metrics=["accuracy"])
        layer.fit(rows.features, rows.labels, recipe.batch_size, recipe.epochs, verbose=0)

    def fit_grid(self, num_heads: int) -> None:
        """Train so many heads of `grid` in one pass over the rows."""
        from tfl.heads.solvers.grid import train_grid

        train_grid(self.grid, self.grid_settings[:num_heads], self.fitting)

    def fit_logistic(self) -> None:
        """Choose the penalty of `logistic` among all, and fit on everything."""
        from tfl.heads import Logistic
        from tfl.heads.search import search

        found = search(Logistic(), without_memory(self.fitting), self.val)
        self.l2 = float(str(found.trial.setting["l2"]))
        self.accuracies["logistic"] = found.trial.val_accuracy or 0.0
        found.refit(without_memory(self.everything))

    def fit_scikit_learn(self) -> None:
        """Fit scikit-learn's LogisticRegression once, with the penalty that `logistic` chose."""
        from sklearn.linear_model import LogisticRegression

        from tfl.heads.solvers.standardisation import compute_scaling

        scaling = compute_scaling(self.fitting)
        penalty = 1 / (self.l2 * self.fitting.num_rows)
        model = LogisticRegression(C=penalty, max_iter=SCIKIT_LEARN_ITERATIONS)
        model.fit(scaling.apply(self.fitting.features), self.fitting.labels)
        predicted = model.predict(scaling.apply(self.val.features))
        self.accuracies["scikit-learn"] = float((predicted == self.val.labels).mean())


def main(cache: tyro.conf.Positional[Path], repeats: int = 3, out: Path = RESULTS / "heads.json") -> None:
    """Train on a cache's training rows in several ways, in turns.

    `logistic` chooses among all its penalties and fits again; scikit-learn fits one penalty once.

    Args:
      cache: The file that `tfl precompute` made.
      repeats: Turns of all ways; one before them is not counted.
      out: The JSON file to write.
    """
    bench = Bench(cache)
    many = len(bench.grid_settings)
    calls: dict[str, Callable[[], None]] = {
        "reference": bench.fit_reference,
        "keras fit": bench.fit_keras,
        "grid, 1 head": functools.partial(bench.fit_grid, 1),
        f"grid, {many} heads": functools.partial(bench.fit_grid, many),
        "logistic": bench.fit_logistic,
        "scikit-learn LogisticRegression": bench.fit_scikit_learn,
    }
    failed: dict[str, str] = {}
    for name, call in calls.items():
        attempt(name, call, failed)
    measures = {name: functools.partial(seconds_of, call) for name, call in calls.items() if name not in failed}
    seconds = measure_in_turns(measures, repeats, failed)
    findings: dict[str, Any] = {"val_accuracy": bench.accuracies}
    if {"grid, 1 head", f"grid, {many} heads"} <= set(seconds):
        findings["median_many_heads_over_one"] = median_ratio(seconds[f"grid, {many} heads"], seconds["grid, 1 head"])
    settings = {
        "cache": cache.name,
        "fitting_rows": bench.fitting.num_rows,
        "features": bench.fitting.num_features,
        "scikit_learn_max_iter": SCIKIT_LEARN_ITERATIONS,
    }
    results = {"seconds": seconds}
    write_result(
        out,
        new_result(QUESTION, results, LIBRARIES, settings=settings, findings=findings, failed=failed),
    )


if __name__ == "__main__":
    tyro.cli(main)
