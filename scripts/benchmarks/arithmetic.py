"""The cost of a cheaper arithmetic in accuracy, and the seconds that it saves."""

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import tyro
from measure import attempt, run_command, seconds_of, tell, tfl_command
from record import RESULTS, new_result, write_result

QUESTION = "What a cheaper arithmetic of the backbone costs in accuracy, and what it saves"
LIBRARIES = ("keras", "tensorflow", "jax", "torch", "openvino", "nncf", "numpy", "scipy", "h5py")


def main(
    dtypes: tuple[str, ...] = ("float32", "bfloat16", "int8"),
    recipes: tuple[str, ...] = ("logistic", "reference", "ridge"),
    splits: tuple[str, str] = ("train", "test"),
    image_size: int = 224,
    folder: Path | None = None,
    out: Path = RESULTS / "arithmetic.json",
) -> None:
    """Precompute in each arithmetic, train each recipe on features of its own arithmetic, and compare test rows.

    Args:
      dtypes: Values of `--compute-dtype`; the others are compared with the first.
      recipes: Names of recipes.
      splits: Training and test images of CIFAR-10.
      image_size: As `tfl precompute` takes it.
      folder: Where caches and runs stay; a temporary folder if none is named. A finished cache has no seconds.
      out: The JSON file to write.
    """
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(folder or Path(temporary), splits, image_size)
        for dtype in dtypes:
            attempt(f"precompute, {dtype}", functools.partial(bench.precompute, dtype), bench.failed)
        for recipe in recipes:
            for dtype in bench.caches:
                way = f"{recipe}, {dtype}"
                attempt(way, functools.partial(bench.train, recipe, dtype), bench.failed)
            bench.compare(recipe, dtypes)
    settings = {"splits": splits, "image_size": image_size, "test_rows": bench.test_rows}
    results = {"precompute_seconds": bench.seconds, "accuracy": bench.accuracies}
    further = {"settings": settings, "findings": bench.findings, "failed": bench.failed}
    write_result(out, new_result(QUESTION, results, LIBRARIES, **further))


class Bench:
    """Caches by arithmetic, runs by recipe and arithmetic, and what has been found of them."""

    def __init__(self, folder: Path, splits: tuple[str, str], image_size: int) -> None:
        self.folder = folder
        train_split, test_split = splits
        self.flags = (
            *("--train-split", train_split, "--test-split", test_split),
            *("--image-size", str(image_size)),
        )
        self.caches: dict[str, Path] = {}
        self.runs: dict[tuple[str, str], Path] = {}
        self.seconds: dict[str, list[float]] = {}
        self.accuracies: dict[str, list[float]] = {}
        self.findings: dict[str, Any] = {}
        self.failed: dict[str, str] = {}
        self.test_rows = 0

    def precompute(self, dtype: str) -> None:
        """Make the cache of an arithmetic, and note the seconds of the command."""
        cache_dir = self.folder / dtype
        is_there = any(cache_dir.glob("*.h5"))
        command = tfl_command("precompute", "--compute-dtype", dtype, *self.flags, "--cache-dir", cache_dir)
        taken = seconds_of(lambda: self.caches.update({dtype: Path(run_command(command))}))
        if not is_there:
            self.seconds[dtype] = [taken]
        tell(f"precompute, {dtype}: {taken:.1f} s")

    def train(self, recipe: str, dtype: str) -> None:
        """Train a recipe on the features of an arithmetic."""
        command = tfl_command("train", self.caches[dtype], "--recipe", recipe, "--runs-dir", self.folder / "runs")
        run = Path(run_command(command))
        self.runs[recipe, dtype] = run
        metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
        self.accuracies[f"{recipe}, {dtype}"] = [metrics["test"]["accuracy"]]
        self.test_rows = metrics["test"]["num_rows"]
        tell(f"{recipe}, {dtype}: {metrics['test']['accuracy']:.2%}")

    def compare(self, recipe: str, dtypes: tuple[str, ...]) -> None:
        """Compare each further arithmetic's head with the first one's, on the same test rows."""
        base = self.runs.get((recipe, dtypes[0]))
        for dtype in dtypes[1:]:
            other = self.runs.get((recipe, dtype))
            if base is None or other is None:
                continue
            way = f"{recipe}, {dtypes[0]} against {dtype}"
            found = attempt(way, functools.partial(compare_runs, base, other), self.failed)
            if found is not None:
                self.findings[way] = {key: value for key, value in found.items() if key not in ("a", "b")}


def compare_runs(first: Path, second: Path) -> Any:
    """Return what `tfl evaluate FIRST SECOND` says: McNemar's test."""
    return json.loads(run_command(tfl_command("evaluate", first, second, "--json")))


if __name__ == "__main__":
    tyro.cli(main)
