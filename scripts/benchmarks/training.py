"""Seconds of training a recipe on a cache: the whole function `train`, and the search on rows in memory."""

import json
from pathlib import Path
from typing import Any

from measure import attempt, seconds_of, tell


def time_training(
    cache_path: Path, runs_dir: Path, recipes: tuple[str, ...], repeats: int
) -> tuple[dict[str, dict[str, list[float]]], dict[str, float], dict[str, str]]:
    """Return seconds by quantity and recipe, the test accuracy of each, and why others failed.

    The first call of a process compiles; it is kept apart.
    """
    seconds: dict[str, dict[str, list[float]]] = {
        "train_first": {},
        "train": {},
        "search_and_refit": {},
    }
    accuracies: dict[str, float] = {}
    failed: dict[str, str] = {}
    for name in recipes:
        found = attempt(f"train {name}", lambda: _time(cache_path, runs_dir, name, repeats), failed)  # noqa: B023
        if found is None:
            continue
        accuracies[name] = found.pop("accuracy")
        for quantity, numbers in found.items():
            seconds[quantity][name] = numbers
    return seconds, accuracies, failed


def without_memory(rows: Any) -> Any:
    """Return the rows without what an earlier repeat has computed of them."""
    return rows.part(slice(None))


def _time(cache_path: Path, runs_dir: Path, name: str, repeats: int) -> dict[str, Any]:
    from tfl.cache import open_cache
    from tfl.heads import RECIPES
    from tfl.heads.rows import read_rows, split_rows
    from tfl.heads.search import search
    from tfl.runs.training import train
    from tfl.specs.training import Selection

    recipe = RECIPES[name]()
    selection = Selection(allow_missing_classes=True)
    made: list[Path] = []

    def train_whole() -> None:
        made.append(train(cache_path, recipe, selection, runs_dir=runs_dir))

    first, *warm = [seconds_of(train_whole) for _ in range(repeats + 1)]
    metrics = json.loads((made[-1] / "metrics.json").read_text(encoding="utf-8"))
    accuracy = metrics["test"]["accuracy"]
    tell(f"{name}: {first:.2f} s first, {min(warm):.2f} s warm, {accuracy:.2%}")
    cache = open_cache(cache_path)
    rows = read_rows(cache, "train", selection)
    fitting, val, everything = split_rows(rows, selection.validation_fraction, 0, cache.class_names)

    def search_and_refit() -> None:
        if not recipe.has_choices:
            recipe.fit(everything.stacked(), everything.num_classes)
            return
        found = search(recipe, without_memory(fitting), without_memory(val))
        found.refit(without_memory(everything))

    searches = [seconds_of(search_and_refit) for _ in range(repeats)]
    return {
        "train_first": [first],
        "train": warm,
        "search_and_refit": searches,
        "accuracy": accuracy,
    }
