"""How many images a recipe needs: accuracy by the number of training images of each class."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from tfl import engine, heads
from tfl.cache import open_cache
from tfl.errors import RunError
from tfl.files.paths import expand_user
from tfl.heads import LabelledFeatures
from tfl.machine.keras_settings import pin_keras_settings
from tfl.metrics import measure
from tfl.reports import figures
from tfl.runs.run import next_free_folder, require_memory
from tfl.specs.recipes import (
    Best,
    Grid,
    Knn,
    Logistic,
    Mlp,
    Recipe,
    Reference,
    Ridge,
    Selection,
    Shots,
    recipe_name,
    with_one_setting,
)
from tfl.text import to_file_name

RECIPES: tuple[Recipe, ...] = (Reference(), Grid(), Logistic(), Ridge(), Mlp(), Knn())
COPIES_TO_DIVIDE = 0.0, 2.0  # each view as read, as divided, and what is made of the part to measure on
LEAST_TO_CHOOSE = 10  # images of a class: below, a recipe's settings are not chosen but its own
SHARE_TO_CHOOSE = 0.2  # of so few images


class Result(TypedDict):
    """A recipe with so many images of each class: accuracies of every draw, in 0..1, and seconds of all draws."""

    recipe: str
    shots: int
    mean: float
    standard_deviation: float
    accuracies: list[float]
    seconds: float


@pin_keras_settings()
def study_shots(
    cache_path: Path,
    shots: Shots,
    recipes: Sequence[Recipe] = RECIPES,
    selection: Selection = Selection(),  # noqa: B008 -- frozen
    runs_dir: Path = Path("runs"),
    on_result: Callable[[Result], None] = lambda result: None,
) -> Path:
    """Fit every recipe on a few images of each class, drawn anew `shots.repeats` times; leave a table and a picture.

    All draws are measured on one validation part of the training rows, which none of them holds: to choose a recipe by
    this table is no choice on the test rows, which are not read. A recipe with settings to choose does so on a fifth of
    the images it is given, where those are at least ten of each class.

    Returns:
      A folder with `shots.json` (how the study was made, and its `results`) and `shots.png`.

    Raises:
      RunError: a class has fewer images than shots.
    """
    cache = open_cache(cache_path)
    names = selection.classes or cache.class_names
    if any(isinstance(recipe, Best) for recipe in recipes):
        raise RunError("a study of few images compares recipes; best is none of its own: leave --recipe best out")
    heads.require_selection(cache, selection)
    require_memory(cache, "a study of few images", selection, COPIES_TO_DIVIDE)
    pool, val, _ = heads.split_rows(heads.read_rows(cache, "train", selection), selection.validation_fraction, 0, names)
    _require_enough(pool, max(shots.shots), names)
    results = []
    for num_shots in shots.shots:
        draws = list(_draws(pool, num_shots, shots.repeats))
        for recipe in recipes:
            started = time.perf_counter()
            accuracies = [_accuracy(recipe, few, num_shots, val, names) for few in draws]
            results.append(
                Result(
                    recipe=recipe_name(recipe),
                    shots=num_shots,
                    mean=float(np.mean(accuracies)),
                    standard_deviation=float(np.std(accuracies, ddof=1)) if len(draws) > 1 else 0.0,
                    accuracies=accuracies,
                    seconds=round(time.perf_counter() - started, 2),
                )
            )
            on_result(results[-1])
    description = {
        "cache": cache.path.name,
        "fingerprint": cache.spec.fingerprint,
        "selection": asdict(selection),
        "recipes": {recipe_name(recipe): asdict(recipe) for recipe in recipes},
        "repeats": shots.repeats,
        "validation_rows": val.num_rows,
        "versions": engine.library_versions(),
        "device": engine.device_name(),
        "results": results,
    }
    return _leave(description, runs_dir, f"{to_file_name(cache.path.stem)}-shots")


def _require_enough(pool: LabelledFeatures, num_shots: int, class_names: tuple[str, ...]) -> None:
    counts = np.bincount(pool.labels, minlength=pool.num_classes)
    if counts.min() < num_shots:
        name = class_names[int(counts.argmin())]
        if not counts.min():
            raise RunError(f"class {name!r} has no training images; name the others with --classes")
        raise RunError(
            f"class {name!r} has {counts.min()} images beside the validation part, fewer than {num_shots} shots; "
            "choose smaller --shots or a smaller --validation-fraction"
        )


def _draws(pool: LabelledFeatures, num_shots: int, repeats: int) -> Iterator[LabelledFeatures]:
    """So many images of each class, by the seeds 0, 1, 2..."""
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        of_classes = (np.flatnonzero(pool.labels == label) for label in range(pool.num_classes))
        few = pool.part(np.concatenate([rng.permutation(rows)[:num_shots] for rows in of_classes]))
        yield replace(few, class_weights=np.ones(pool.num_classes, np.float32))  # as many of each: they count the same


def _accuracy(
    recipe: Recipe, few: LabelledFeatures, num_shots: int, val: LabelledFeatures, class_names: tuple[str, ...]
) -> float:
    if num_shots >= LEAST_TO_CHOOSE:
        fitting, choosing, everything = heads.split_rows(few, SHARE_TO_CHOOSE, recipe.seed, class_names)
        model = heads.search(recipe, fitting, choosing).refit(everything)
    else:
        model = heads.search(with_one_setting(recipe), few, None).head
    return measure(heads.compute_logits(model, val.features), val.labels).accuracy


def _leave(description: dict[str, Any], runs_dir: Path, stem: str) -> Path:
    folder = next_free_folder(expand_user(runs_dir), stem)
    folder.mkdir(parents=True)
    (folder / "shots.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    title = f"accuracy on {description['validation_rows']:,} held-out training images, by images of each class"
    figures.draw_shots(description["results"], title, folder / "shots.png")
    return folder
