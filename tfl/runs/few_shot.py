"""A few-shot study: how accurate each recipe is by the number of training images per class."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from tfl import engine
from tfl.cache import Cache, open_cache
from tfl.errors import RunError
from tfl.files.paths import expand_user
from tfl.heads import RECIPES, Recipe
from tfl.heads.model import compute_logits
from tfl.heads.rows import LabelledFeatures, read_rows, split_rows
from tfl.heads.search import search
from tfl.heads.selection import require_selection
from tfl.machine.keras_settings import pin_keras_settings
from tfl.metrics import measure
from tfl.runs.few_shot_record import FewShotRecord, FewShotResult
from tfl.runs.figures.few_shot import draw_few_shot
from tfl.runs.folder import next_free_folder
from tfl.runs.json_files import write_json
from tfl.runs.memory import require_memory
from tfl.specs.training import Selection, Shots
from tfl.text import to_file_name

COPIES_TO_DIVIDE = (
    0.0,
    2.0,
)  # each view as read and as divided, and what is made of the part to measure on
MIN_SHOTS_TO_CHOOSE = 10  # images per class; with fewer, a recipe takes its one setting and chooses nothing
SHARE_TO_CHOOSE = 0.2  # of the images that a recipe is given

RECORD = "shots.json"
PICTURE = "shots.png"


@dataclass(frozen=True)
class Pool:
    """The rows of a study.

    Attributes:
      train: rows to draw from.
      val: rows to measure on.
    """

    cache: Cache
    selection: Selection
    train: LabelledFeatures
    val: LabelledFeatures

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label."""
        return self.selection.classes or self.cache.class_names


@pin_keras_settings()
def study_shots(
    cache_path: Path,
    shots: Shots,
    recipes: Sequence[Recipe] = (),
    selection: Selection = Selection(),
    runs_dir: Path = Path("runs"),
    on_result: Callable[[FewShotResult], None] = lambda result: None,
) -> Path:
    """Fit every recipe on a few images of each class, in `shots.repeats` random draws; leave a table and a picture.

    All draws are measured on one validation part of the training rows, from which nothing is drawn.
    So a recipe can be chosen by this table: test rows are not read. From ten images per class on, a
    recipe chooses its settings on a fifth of the images that it is given.

    Args:
      recipes: which to compare; all that are not compound if empty.

    Returns:
      A folder with `shots.json` (how the study was made, and its `results`) and `shots.png`.

    Raises:
      RunError: a class has fewer images than shots.
    """
    cache = open_cache(cache_path)
    recipes = recipes or _list_recipes()
    _require_simple(recipes)
    require_selection(cache, selection)
    require_memory(cache, "a study of few images", selection, COPIES_TO_DIVIDE)
    pool = _split_pool(cache, selection)
    _require_enough(pool, max(shots.shots))
    results = []
    for result in _measure_all(pool, shots, recipes):
        results.append(result)
        on_result(result)
    record = _make_record(pool, shots, recipes, results)
    return _write_study(record, runs_dir, f"{to_file_name(cache.path.stem)}-shots")


def _list_recipes() -> list[Recipe]:
    return [kind() for kind in RECIPES.values() if not kind.is_compound]


def _require_simple(recipes: Sequence[Recipe]) -> None:
    for recipe in recipes:
        if recipe.is_compound:
            raise RunError(
                f"a study of few images compares recipes, and {recipe.name} runs several: leave --recipe "
                f"{recipe.name} out"
            )


def _split_pool(cache: Cache, selection: Selection) -> Pool:
    class_names = selection.classes or cache.class_names
    rows = read_rows(cache, "train", selection)
    train, val, _ = split_rows(rows, selection.validation_fraction, 0, class_names)
    return Pool(cache, selection, train, val)


def _require_enough(pool: Pool, num_shots: int) -> None:
    counts = np.bincount(pool.train.labels, minlength=pool.train.num_classes)  # (c,)
    name, least = pool.class_names[int(counts.argmin())], counts.min()
    if not least:
        raise RunError(f"class {name!r} has no training images; name the others with --classes")
    if least < num_shots:
        raise RunError(
            f"class {name!r} has {least} images beside the validation part, fewer than {num_shots} shots; "
            "choose smaller --shots or a smaller --validation-fraction"
        )


def _measure_all(pool: Pool, shots: Shots, recipes: Sequence[Recipe]) -> Iterator[FewShotResult]:
    for num_shots in shots.shots:
        draws = [_draw(pool.train, num_shots, seed) for seed in range(shots.repeats)]
        for recipe in recipes:
            yield _measure_recipe(recipe, num_shots, draws, pool)


def _draw(rows: LabelledFeatures, num_shots: int, seed: int) -> LabelledFeatures:
    """Return that many random rows of each class."""
    rng = np.random.default_rng(seed)
    drawn = []
    for label in range(rows.num_classes):
        of_class = np.flatnonzero(rows.labels == label)
        drawn.append(rng.permutation(of_class)[:num_shots])
    # There are as many rows of each class, so that all classes count the same.
    return replace(rows.part(np.concatenate(drawn)), class_weights=np.ones(rows.num_classes, np.float32))


def _measure_recipe(recipe: Recipe, num_shots: int, draws: Sequence[LabelledFeatures], pool: Pool) -> FewShotResult:
    started = time.perf_counter()
    accuracies = [_measure_draw(recipe, draw, num_shots, pool) for draw in draws]
    return FewShotResult(
        recipe=recipe.name,
        shots=num_shots,
        mean=float(np.mean(accuracies)),
        standard_deviation=float(np.std(accuracies, ddof=1)) if len(draws) > 1 else 0.0,
        accuracies=accuracies,
        seconds=round(time.perf_counter() - started, 2),
    )


def _measure_draw(recipe: Recipe, draw: LabelledFeatures, num_shots: int, pool: Pool) -> float:
    """Return the accuracy of a head that is fitted on one draw."""
    if num_shots >= MIN_SHOTS_TO_CHOOSE:
        fitting, choosing, everything = split_rows(draw, SHARE_TO_CHOOSE, recipe.seed, pool.class_names)
        head = search(recipe, fitting, choosing).refit(everything)
    else:
        head = search(recipe.with_one_setting(), draw, None).head
    return measure(compute_logits(head, pool.val.features), pool.val.labels).accuracy


def _make_record(pool: Pool, shots: Shots, recipes: Sequence[Recipe], results: list[FewShotResult]) -> FewShotRecord:
    return FewShotRecord(
        cache=pool.cache.path.name,
        fingerprint=pool.cache.spec.fingerprint,
        selection=pool.selection,
        recipes={recipe.name: asdict(recipe) for recipe in recipes},
        repeats=shots.repeats,
        validation_rows=pool.val.num_rows,
        versions=engine.library_versions(),
        device=engine.device_name(),
        results=results,
    )


def _write_study(record: FewShotRecord, runs_dir: Path, stem: str) -> Path:
    folder = next_free_folder(expand_user(runs_dir), stem)
    folder.mkdir(parents=True)
    write_json(folder / RECORD, record)
    title = f"accuracy on {record.validation_rows:,} held-out training images, by images of each class"
    draw_few_shot(record.results, title, folder / PICTURE)
    return folder
