"""What the JSON files of a run folder say, read strictly: they may be damaged, or a stranger's.

One reader for all of them, one check for each, and the digests that show whether a file is still what training wrote.
"""

import json
import os
import typing
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, NoReturn

from tfl.errors import RunError, TflError
from tfl.files import strict_json
from tfl.files.strict_json import quote
from tfl.specs import ROLES, CacheSpec
from tfl.specs.recipes import RECIPES, Best, Recipe, Selection

CHECKSUMS = "checksums.json"
DESCRIPTION = "run.json"
METRICS = "metrics.json"
HISTORY = "history.json"
MAX_METRICS_BYTES = 256 << 20  # of 1,000 classes they have 22 MB
MAX_REASON = 400  # characters
TEMPERATURES = (9e-4, 1.1e3)  # `metrics.fit_temperature` looks between 1e-3 and 1e3
KEYS_OF_METRICS = {"num_rows", "accuracy", "accuracy_interval_95", "loss", "accuracy_per_class"}
Trained = Mapping[str, Any]


def read_json(path: Path, max_bytes: int = strict_json.MAX_JSON_BYTES) -> Any:
    """Return what a JSON file of a run folder says.

    Raises:
      RunError: see `strict.read_json`.
    """
    try:
        return strict_json.read_json(path, max_bytes)
    except ValueError as error:
        raise RunError(f"{path} is not JSON as tfl writes it: {error}; train again") from error


def require_file(path: Path) -> None:
    """Refuse what is no plain file.

    Raises:
      RunError: see `strict.require_file`.
    """
    try:
        strict_json.require_file(path)
    except ValueError as error:
        raise RunError(f"{path} is no file of a run: {error}; train again") from error


# ---- digests


def write_checksums(folder: Path) -> None:
    """Leave the digests of all files of a run folder in it."""
    digests = {path.name: strict_json.hash_file(path) for path in sorted(folder.iterdir()) if path.is_file()}
    (folder / CHECKSUMS).write_text(json.dumps(digests, indent=2) + "\n", encoding="utf-8")


def read_checksums(folder: Path) -> dict[str, str] | None:
    """Return the digest that each file had after training; None for a run from before they were noted.

    Raises:
      RunError: the file of digests is damaged.
    """
    path = folder / CHECKSUMS
    if not os.path.lexists(path):
        return None
    digests = read_json(path)
    is_sound = (
        isinstance(digests, dict) and all(map(strict_json.is_digest, digests.values())) and DESCRIPTION in digests
    )
    if not is_sound:
        raise RunError(f"{path} does not list the sha256 of each file of the run; train again")
    return dict(digests)


def require_unchanged(path: Path, digests: Mapping[str, str] | None) -> None:
    """Refuse a file of a run folder that is not what training wrote.

    Args:
      digests: see `read_checksums`; of a run without them nothing is known.

    Raises:
      RunError: it has changed, or is not there.
    """
    require_file(path)
    if digests is None:
        return
    if path.name not in digests:
        raise RunError(f"{path} was added after training; {CHECKSUMS} lists {', '.join(sorted(digests))}")
    try:
        found = strict_json.hash_file(path)
    except ValueError as error:
        raise RunError(f"{path} cannot be held against its digest: {error}; train again") from error
    if found != digests[path.name]:
        raise RunError(
            f"{path} was changed after training: its sha256 is {found[:12]}..., {digests[path.name][:12]}... was "
            "expected; take the run folder from a backup, or train again"
        )


# ---- run.json


class _RefusedError(Exception):
    """A value is not what was expected."""


def _refuse(what: str, value: Any, expected: str) -> NoReturn:
    raise _RefusedError(f"{what} is {quote(value)}; expected {expected}")


def read_description(folder: Path, digests: Mapping[str, str] | None) -> dict[str, Any]:
    """Return what `run.json` says, every value of the type and range that `train` writes.

    Raises:
      RunError: the file is gone, has changed, or does not describe a run of this version of tfl.
    """
    path = folder / DESCRIPTION
    try:
        require_file(path)
    except RunError as error:
        reason = str(error) if os.path.lexists(path) else "it has no run.json"
        raise RunError(f"{folder} is not a run folder: {reason}; `tfl train CACHE` makes one") from error
    require_unchanged(path, digests)
    description = read_json(path)
    keys = {"cache", "spec", "class_names", "recipe", "settings"}
    if not isinstance(description, dict) or not keys <= set(description):
        raise RunError(f"{path} does not describe a run; expected the keys {', '.join(sorted(keys))}")
    if description.get("has_checksums") is True and digests is None:
        raise RunError(f"{folder} is not whole: {CHECKSUMS}, which training left in it, is gone; train again")
    try:
        for check in (_check_cache, _check_recipe, _check_class_names, _check_views, _check_scores, _check_rest):
            check(description)
    except (_RefusedError, TflError) as error:
        text = " ".join(str(error).split("\n"))[:MAX_REASON]
        raise RunError(f"{path} describes no training of this version of tfl: {text}") from error
    return description


def spec_of(description: Trained) -> CacheSpec:
    """Return the spec of the cache that a run was trained on."""
    return CacheSpec.from_json(json.dumps(description["spec"]))


def recipe_of(description: Trained) -> Recipe:
    """Return the recipe with the settings that it was given."""
    name = description["recipe"]
    kind = RECIPES.get(name) if isinstance(name, str) else None
    if kind is None:
        _refuse("recipe", name, f"one of {', '.join(RECIPES)}")
    recipe: Recipe = _plain(kind, description["settings"], "settings")
    return recipe


def selection_of(description: Trained) -> Selection:
    """Return which rows, views and classes were chosen; runs from before this was noted had all."""
    selection: Selection = _plain(Selection, description.get("selection", {}), "selection")
    return selection


def _plain(kind: type, values: Any, what: str) -> Any:
    """Return a frozen dataclass of plain values and tuples from what JSON made of it."""
    if not isinstance(values, dict):
        _refuse(what, values, "an object")
    hints = typing.get_type_hints(kind)
    names = {field.name for field in fields(kind)}
    if unknown := sorted(set(values) - names):
        _refuse(what, unknown[0], f"no setting but {', '.join(sorted(names))}")
    for name, value in values.items():
        if not _fits(value, hints[name]):
            _refuse(f"{what}: {name}", value, f"a value of the type {_name_of(hints[name])}")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value from JSON is one of a type as the recipes have them."""
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)[0]
        return isinstance(value, list) and all(_fits(item, inner) for item in value)
    if typing.get_origin(hint) is Literal:
        return isinstance(value, str) and value in typing.get_args(hint)
    if hint is float:
        return is_number(value)
    return type(value) is hint


def _name_of(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


def is_number(value: Any) -> bool:
    """Whether a value from JSON is a number; `true` is none."""
    return type(value) in (int, float)


def _check_cache(description: Trained) -> None:
    cache = description["cache"]
    if not isinstance(cache, str) or not cache or "\0" in cache or Path(cache).is_absolute():
        _refuse("cache", cache, "the cache file's path, relative to the run folder")
    spec = spec_of(description)
    if not spec.is_resolved:
        _refuse("spec", "one in words", "a spec with digests and versions")
    if description.get("fingerprint", spec.fingerprint) != spec.fingerprint:
        _refuse("fingerprint", description["fingerprint"], f"that of the spec, {spec.fingerprint}")


def _check_recipe(description: Trained) -> None:
    recipe = recipe_of(description)
    chosen = description.get("chosen")
    if isinstance(recipe, Best) and chosen is None:
        _refuse("chosen", chosen, "what the recipe best has chosen")
    if chosen is None:
        return
    if not isinstance(chosen, dict) or not isinstance(chosen.get("setting"), dict):
        _refuse("chosen", chosen, "an object with recipe and setting")
    if not isinstance(chosen.get("recipe"), str) or chosen["recipe"] not in RECIPES:
        _refuse("chosen: recipe", chosen.get("recipe"), f"one of {', '.join(RECIPES)}")
    if isinstance(recipe, Best) and not _is_count(chosen.get("begun")):
        _refuse("chosen: begun", chosen.get("begun"), "how many recipes were begun")
    for name, value in chosen["setting"].items():
        if not _is_setting(value):
            _refuse(f"chosen: setting: {quote(name)}", value, "a number, a text, or a list of them")


def _is_setting(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return all(item is None or isinstance(item, str | int | float) for item in values)


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def _check_class_names(description: Trained) -> None:
    names = description["class_names"]
    are_texts = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not are_texts or len(names) < 2 or len(set(names)) != len(names):
        _refuse("class_names", names, "two or more different names")
    chosen = list(selection_of(description).classes)
    if chosen and names != chosen:
        _refuse("class_names", names, f"the classes that were selected, {quote(chosen)}")


def _check_views(description: Trained) -> None:
    chosen, made = selection_of(description).views, spec_of(description).views
    if not set(chosen) <= set(made):
        _refuse("selection: views", list(chosen), f"some of the cache's, {', '.join(made)}")
    views = list(chosen or made)
    if description.get("views", views) != views:
        _refuse("views", description["views"], f"those that were selected, {', '.join(views)}")


def _check_scores(description: Trained) -> None:
    temperature, is_folded = description.get("temperature"), description.get("is_folded", False)
    threshold = description.get("decision_threshold")
    low, high = TEMPERATURES
    if temperature is not None and not (is_number(temperature) and low <= temperature <= high):
        _refuse("temperature", temperature, f"null or a number in {low:g}..{high:g}")
    if type(is_folded) is not bool or (is_folded and temperature is None):
        _refuse("is_folded", is_folded, "true or false, and true only with a temperature")
    if threshold is not None and not (is_number(threshold) and 0 <= threshold <= 1):
        _refuse("decision_threshold", threshold, "null or a number in 0..1")
    if threshold is not None and len(description["class_names"]) != 2:
        _refuse("decision_threshold", threshold, "null, for it is of two classes")


def _check_rest(description: Trained) -> None:
    """What is only shown: it is there, and of its type, or it is not there."""
    kinds: dict[str, tuple[Callable[[Any], bool], str]] = {
        "streamed": (lambda value: type(value) is bool, "true or false"),
        "seconds": (lambda value: is_number(value) and value >= 0, "a number of seconds"),
        "tfl": (lambda value: isinstance(value, str), "a version"),
        "device": (lambda value: isinstance(value, str), "a text"),
        "versions": (_are_texts, "an object of texts"),
    }
    for name, (is_sound, expected) in kinds.items():
        if description.get(name) is not None and not is_sound(description[name]):
            _refuse(name, description[name], expected)


def _are_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())


# ---- metrics.json and history.json


def read_metrics(path: Path, class_names: tuple[str, ...]) -> dict[str, Any]:
    """Return what `metrics.json` says, by role, every value of the type that `train` writes.

    Raises:
      RunError: it does not hold metrics of these classes.
    """
    metrics = read_json(path, MAX_METRICS_BYTES)
    try:
        if not isinstance(metrics, dict) or not set(metrics) <= set(ROLES):
            _refuse("it", metrics, f"metrics by role, of {', '.join(ROLES)}")
        for role, of_role in metrics.items():
            _check_metrics(role, of_role, class_names)
    except _RefusedError as error:
        raise RunError(f"{path} holds no metrics of this run: {error}; train again") from error
    return metrics


def _check_metrics(role: str, metrics: Any, class_names: tuple[str, ...]) -> None:
    if not isinstance(metrics, dict):
        _refuse(role, metrics, "an object")
    if missing := sorted(KEYS_OF_METRICS - set(metrics)):
        _refuse(f"{role}: {missing[0]}", None, "a value")
    if not (type(metrics["num_rows"]) is int and metrics["num_rows"] >= 0):
        _refuse(f"{role}: num_rows", metrics["num_rows"], "a number of rows")
    for name in ("accuracy", "balanced_accuracy", "top_5_accuracy", "roc_auc", "average_precision"):
        if not _is_share(metrics.get(name)):
            _refuse(f"{role}: {name}", metrics[name], "null or a number in 0..1")
    for name in ("loss", "calibration_error"):
        if not (metrics.get(name) is None or (is_number(metrics[name]) and metrics[name] >= 0)):
            _refuse(f"{role}: {name}", metrics[name], "null or a number that is not negative")
    if not _is_interval(metrics["accuracy_interval_95"]):
        _refuse(f"{role}: accuracy_interval_95", metrics["accuracy_interval_95"], "null or two numbers in 0..1")
    per_class = metrics["accuracy_per_class"]
    if not isinstance(per_class, dict) or list(per_class) != list(class_names):
        _refuse(f"{role}: accuracy_per_class", per_class, f"a share of each class, {', '.join(class_names[:20])}")
    if not all(map(_is_share, per_class.values())):
        _refuse(f"{role}: accuracy_per_class", per_class, "null or a number in 0..1 for each class")


def _is_share(value: Any) -> bool:
    return value is None or (is_number(value) and 0 <= value <= 1)


def _is_interval(value: Any) -> bool:
    return value is None or (
        isinstance(value, list) and len(value) == 2 and None not in value and all(map(_is_share, value))
    )


def read_history(path: Path) -> list[dict[str, Any]]:
    """Return what `history.json` says: an entry for each epoch.

    Raises:
      RunError: it holds none.
    """
    history = read_json(path)
    if not isinstance(history, list) or not history or not all(map(_is_epoch, history)):
        raise RunError(f"{path} holds no epochs, each with epoch, loss and accuracy; train again")
    return history


def _is_epoch(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and _is_count(entry.get("epoch"))
        and all(is_number(value) for value in entry.values())
        and {"loss", "accuracy"} <= set(entry)
    )
