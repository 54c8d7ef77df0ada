"""Peak memory of each recipe, beside what it asks for before it begins."""

import tempfile
from pathlib import Path

import tyro
from measure import attempt, call_in_fresh_process, own_peak_bytes, tell
from random_cache import NUM_FEATURES, write_random_cache
from record import RESULTS, new_result, write_result

from tfl.heads import RECIPES, Best, Grid, Knn, Logistic, Mlp, Recipe, Ridge
from tfl.specs import VIEWS
from tfl.specs.training import Selection

QUESTION = "Peak memory of each recipe, in copies of one view's features, and what it asks for before it begins"
LIBRARIES = ("keras", "tensorflow", "jax", "torch", "scipy", "numpy", "h5py")
FEW_ROWS = 300
# Short trainings of the same memory. The reference recipe is not here: it reads rows from the file if need be.
SHORT: dict[str, Recipe] = {
    "ridge": Ridge(),
    "logistic": Logistic(l2=(1.0, 0.1), max_iterations=5),
    "mlp": Mlp(hidden=(64,), epochs=1),
    "grid": Grid(learning_rate=(0.001,), weight_decay=(0.0,), epochs=1),
    "knn": Knn(),
    "best": Best(candidates=4),
}


def main(
    recipes: tuple[str, ...] = tuple(SHORT),
    num_rows: int = 30_000,
    max_views: int = 3,
    repeats: int = 1,
    out: Path = RESULTS / "recipe_memory.json",
) -> None:
    """Measure what each recipe takes on many rows beyond what it takes on few, with one view and more.

    Args:
      recipes: Names of recipes.
      num_rows: Rows of 2,048 random features; 30,000 take 0.25 GB for each view.
      max_views: From one view to so many.
      repeats: Turns of all recipes.
      out: The JSON file to write.
    """
    taken: dict[str, list[float]] = {}
    asked: dict[str, list[float]] = {}
    failed: dict[str, str] = {}
    bytes_of_view = num_rows * NUM_FEATURES * 4
    for num_views in range(1, max_views + 1):
        with tempfile.TemporaryDirectory() as folder:
            few = write_random_cache(Path(folder), FEW_ROWS, VIEWS[:num_views])
            many = write_random_cache(Path(folder), num_rows, VIEWS[:num_views])
            for name in [name for _ in range(repeats) for name in recipes]:
                way = f"{name}, {num_views} view{'s' if num_views > 1 else ''}"
                grown = attempt(way, lambda: call_in_fresh_process(measure_growth, few, many, name), failed)  # noqa: B023
                if grown is None:
                    continue
                taken.setdefault(way, []).append(grown / bytes_of_view)
                asked.setdefault(way, [estimate(many, name) / bytes_of_view])
                tell(f"{way}: takes {taken[way][-1]:.1f} copies of a view, asks for {asked[way][0]:.1f}")
    results = {"copies_of_one_view_taken": taken, "copies_of_one_view_asked_for": asked}
    settings = {"rows": num_rows, "features": NUM_FEATURES}
    write_result(out, new_result(QUESTION, results, LIBRARIES, settings=settings, failed=failed))


def measure_growth(few: Path, many: Path, name: str) -> int:
    """Train on few rows and then on many, and return how many bytes the peak has grown."""
    from tfl.runs.training import train

    peaks = []
    with tempfile.TemporaryDirectory() as runs:
        for path in (few, many):
            train(path, SHORT[name], runs_dir=Path(runs))
            peaks.append(own_peak_bytes())
    return peaks[1] - peaks[0]


def estimate(path: Path, name: str) -> int:
    """Return the bytes that a recipe asks for before it begins."""
    from tfl.cache import open_cache
    from tfl.runs.memory import estimate_bytes

    return estimate_bytes(open_cache(path), Selection(), RECIPES[name].memory_copies)


if __name__ == "__main__":
    tyro.cli(main)
