"""The best accuracy that heads on frozen features reach, chosen on validation rows, and what it costs in seconds."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from measure import tell
from recipes import describe_cache
from record import RESULTS, new_result, write_result

QUESTION = "The best test accuracy from frozen features, the head chosen on validation rows"
LIBRARIES = ("keras", "tensorflow", "jax", "torch", "scipy", "numpy", "h5py")
AIM = 0.955
SEED = 0  # of the validation rows and of every recipe


@dataclass(frozen=True)
class Candidate:
    """A recipe on some views of the cache."""

    recipe: str
    settings: dict[str, Any]
    views: tuple[str, ...] = ()
    """Views to train and to test on; all of the cache's if none is named."""


TWO_VIEWS = ("original", "hflip")
# The cheapest first. With 50,000 rows of 7,168 columns an epoch costs about as much for one view as for all: each row
# is taken in one of them, drawn at random. What it costs are the products with the first layer and AdamW's step over
# its weights, so the wide ones take larger batches. The first two reached 93.9 and 94.9 % elsewhere.
CANDIDATES: dict[str, Candidate] = {
    "ridge, 2 views": Candidate("ridge", {}, TWO_VIEWS),
    "mlp 512 x 4, 10 epochs, 2 views": Candidate("mlp", {"hidden": (512,), "members": 4, "epochs": 10}, TWO_VIEWS),
    "ridge, all views": Candidate("ridge", {}),
    "mlp 512 x 4, 20 epochs": Candidate("mlp", {"hidden": (512,), "members": 4, "epochs": 20}),
    "mlp 1024 x 4, 25 epochs, mixup": Candidate(
        "mlp", {"hidden": (1024,), "members": 4, "epochs": 25, "batch_size": 1024, "mixup": 0.2}
    ),
    "mlp 2048 x 2, 30 epochs, mixup, dropout 0.6": Candidate(
        "mlp", {"hidden": (2048,), "members": 2, "epochs": 30, "batch_size": 1024, "mixup": 0.2, "dropout": 0.6}
    ),
}


@dataclass(frozen=True)
class Fitted:
    """A candidate that was searched."""

    found: Any
    """The recipe's `Search`."""
    probabilities: np.ndarray
    """Of the validation rows, `(n, c)`."""


def main(
    cache: tyro.conf.Positional[Path],
    only: tuple[str, ...] = (),
    seconds: float = 3600.0,
    validation_fraction: float = 0.1,
    at_most: int = 3,
    out: Path = RESULTS / "frozen_features.json",
) -> None:
    """Search candidates on training rows, choose one or the mean of several on validation rows, and test that once.

    The validation rows are a part of the training rows. What is chosen is fitted again on all training rows; the test
    rows are read after that. The file is written anew after every candidate.

    Args:
      cache: The file that `tfl precompute` made, of several views.
      only: Names of candidates, see `CANDIDATES` in this file; all if none is named.
      seconds: No candidate is begun after these.
      validation_fraction: As `tfl train` takes it.
      at_most: Most candidates in a mean; each of them is fitted again, and is a part of the head.
      out: The JSON file to write.
    """
    bench = Bench(cache, validation_fraction, SEED, out)
    bench.search_all([name for name in CANDIDATES if not only or name in only], seconds)
    bench.test(bench.choose(at_most))


class Bench:
    """The rows of a cache, and the candidates that were searched on them."""

    def __init__(self, path: Path, fraction: float, seed: int, out: Path) -> None:
        from tfl.cache import open_cache

        self.cache, self.seed, self.out = open_cache(path), seed, out
        started = time.perf_counter()
        self.rows = CompactRows(self.cache, fraction, seed)
        self.fitted: dict[str, Fitted] = {}
        self.results: dict[str, dict[str, list[float]]] = {"seconds": {}, "val_accuracy": {}}
        self.findings: dict[str, Any] = {
            **describe_cache(path),
            "aim": AIM,
            "seconds_of_reading": time.perf_counter() - started,
            "candidates": {},
        }
        self.settings = {"validation_fraction": fraction, "seed": seed}

    def search_all(self, names: list[str], seconds: float) -> None:
        """Search candidates in order, until the time is spent; the first one always runs."""
        started = time.perf_counter()
        for name in names:
            if self.fitted and time.perf_counter() - started > seconds:
                tell(f"the {seconds:g} seconds are spent: {name} and what comes after it are left out")
                break
            self.search(name)
            self.write()

    def search(self, name: str) -> None:
        """Fit a candidate on the fitting rows, and measure it on the validation rows."""
        from tfl.heads.search import search
        from tfl.metrics import softmax

        recipe = self.make_recipe(name)
        fitting, val, _ = self.rows.select(CANDIDATES[name].views)
        started = time.perf_counter()
        found = search(recipe, fitting, val)
        self.results["seconds"][name] = [time.perf_counter() - started]
        assert found.val_logits is not None
        self.fitted[name] = Fitted(found, np.exp(softmax.log_softmax(found.val_logits)))
        accuracy = self.measure((name,))
        self.results["val_accuracy"][name] = [accuracy]
        settings = {**asdict(recipe), "views": CANDIDATES[name].views or self.cache.views}
        self.findings["candidates"][name] = {"settings": settings, "chosen": found.trial.setting}
        tell(f"{name}: {accuracy:.2%} of validation rows, {self.results['seconds'][name][0]:.0f} s")

    def make_recipe(self, name: str) -> Any:
        """Return the recipe of a candidate."""
        from tfl.heads import RECIPES

        candidate = CANDIDATES[name]
        return RECIPES[candidate.recipe](**{**candidate.settings, "seed": self.seed})

    def measure(self, names: tuple[str, ...]) -> float:
        """Return the validation accuracy of the mean of these candidates' probabilities."""
        mean = sum(self.fitted[name].probabilities for name in names)
        return float((np.asarray(mean).argmax(axis=1) == self.rows.val_labels).mean())

    def choose(self, at_most: int) -> tuple[str, ...]:
        """Return the candidate, or the few, whose mean has the best validation accuracy; of equals, the fewest."""
        names = list(self.fitted)
        options = [option for count in range(1, at_most + 1) for option in combinations(names, count)]
        accuracies = {option: self.measure(option) for option in options}
        for option, accuracy in accuracies.items():
            self.results["val_accuracy"][join(option)] = [accuracy]
        return max(options, key=lambda option: accuracies[option])

    def test(self, names: tuple[str, ...]) -> None:
        """Fit the chosen candidates again on all training rows, and read the test rows once."""
        from tfl.heads.model import compute_logits
        from tfl.metrics import softmax
        from tfl.metrics.significance import wilson_interval

        heads, started = [], time.perf_counter()
        for name in names:
            *_, everything = self.rows.select(CANDIDATES[name].views)
            heads.append((name, self.fitted[name].found.refit(everything)))
        seconds = time.perf_counter() - started
        labels = self.cache.read_labels("test")
        total = np.zeros((len(labels), self.cache.num_classes))
        for name, head in heads:
            features = self.rows.read_test(CANDIDATES[name].views)
            total += np.exp(softmax.log_softmax(compute_logits(head, features)))
        correct = int((total.argmax(axis=1) == labels).sum())
        accuracy = correct / len(labels)
        tell(f"{join(names)}: {accuracy:.2%} of {len(labels)} test rows")
        self.results["accuracy"] = {join(names): [accuracy]}
        self.results["refit_seconds"] = {join(names): [seconds]}
        interval = wilson_interval(correct, len(labels))
        self.findings |= {"chosen": names, "test_rows": len(labels), "interval": interval}
        self.write()

    def write(self) -> None:
        """Leave what has been found so far."""
        further = {"settings": self.settings, "findings": self.findings}
        write_result(self.out, new_result(QUESTION, self.results, LIBRARIES, **further))


class CompactRows:
    """The training rows of a cache in the type that the file holds: `mlp` takes batches of them, the others the mean.

    Seven float16 views of 50,000 rows of 7,168 columns are 5 GB; as `tfl train` holds them they would be 20.
    """

    def __init__(self, cache: Any, fraction: float, seed: int) -> None:
        from tfl.heads.rows import LabelledFeatures, split_rows

        self._cache = cache
        labels = cache.read_labels("train")
        # The rows' numbers stand for their features, so that the split says where each one goes.
        numbers = (np.arange(len(labels))[:, None],)
        weights = np.ones(cache.num_classes, np.float32)
        numbered = LabelledFeatures(numbers, labels, cache.num_classes, weights)
        fitting, val, together = split_rows(numbered, fraction, seed, cache.class_names)
        order = together.views[0][:, 0]
        self._views = {view: cache.read_view("train", view)[order] for view in cache.views}
        self._rows = {"fitting": fitting, "val": val, "together": together}
        self.val_labels = val.labels

    def select(self, views: tuple[str, ...]) -> Iterator[Any]:
        """Yield the fitting rows, the validation rows, and both together, in some views."""
        num_fitting = self._rows["fitting"].num_rows
        places = {"fitting": np.s_[:num_fitting], "val": np.s_[num_fitting:], "together": np.s_[:]}
        for name, place in places.items():
            arrays = [self._views[view][place] for view in views or self._cache.views]
            if len(arrays) == 1:
                arrays = [arrays[0].astype(np.float32)]
            yield replace(self._rows[name], views=tuple(arrays), parts=(), _memo={})

    def read_test(self, views: tuple[str, ...]) -> np.ndarray:
        """Return the mean of the views of the test rows, float32 `(n, d)`."""
        from tfl.heads.examples import average_views

        return average_views([self._cache.read_view("test", view) for view in views or self._cache.views])


def join(names: tuple[str, ...]) -> str:
    """Return what the mean of these candidates is called."""
    return " + ".join(names)


if __name__ == "__main__":
    tyro.cli(main)
