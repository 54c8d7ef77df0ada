"""The record of a run, `run.json`: everything that a training was made from.

The file may be damaged, or a stranger's: every field is checked when it is read.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec

from tfl.errors import RunError, TflError
from tfl.files.codec import NotNegative, Share, decode_record, encode_record
from tfl.files.strict_json import quote
from tfl.heads import RECIPES, Recipe
from tfl.runs.calibration import Calibration
from tfl.runs.checksums import CHECKSUMS, RECORD, require_file, require_unchanged
from tfl.runs.history import Choice
from tfl.runs.json_files import read_json
from tfl.specs import CacheSpec, View
from tfl.specs.training import Selection

MAX_REASON = 400  # characters

# `metrics.fit_temperature` looks between 1e-3 and 1e3.
Temperature = Annotated[float, msgspec.Meta(ge=9e-4, le=1.1e3)]


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The content of `run.json`: everything that a training was made from.

    Fields with a default may be missing: older versions did not write them.

    Attributes:
      cache: path of the cache file, relative to the run folder.
      spec: of the cache; resolved.
      settings: what the recipe was given, in JSON's types; see `decode_recipe`.
      selection: the rows, views and classes that were asked for.
      views: the views that the head was trained on; the head's features are their mean.
      chosen: the setting that validation rows chose; None for a recipe without choices.
      temperature, is_temperature_folded, decision_threshold: see `Calibration`.
      streamed: whether the features were read anew in every epoch.
      seconds: of the whole training.
      tfl: version of tfl.
      versions: of the libraries.
      has_checksums: whether the folder has `checksums.json`.
    """

    cache: Annotated[str, msgspec.Meta(min_length=1, pattern="^[^\0]*$")]
    fingerprint: str | None = None
    spec: CacheSpec
    class_names: Annotated[tuple[str, ...], msgspec.Meta(min_length=2)]
    recipe: str
    settings: dict[str, Any]
    selection: Selection
    views: tuple[View, ...] | None = None
    chosen: Choice | None = None
    temperature: Temperature | None = None
    is_temperature_folded: bool = False
    decision_threshold: Share | None = None
    streamed: bool | None = None
    seconds: NotNegative | None = None
    tfl: str | None = None
    versions: dict[str, str] | None = None
    device: str | None = None
    has_checksums: bool = False

    def __post_init__(self) -> None:
        _require_spec(self)
        _require_choice(self)
        _require_class_names(self)
        _require_views(self)
        _require_calibration(self)

    def decode_recipe(self) -> Recipe:
        """Return the recipe with the settings that it was given."""
        kind = RECIPES.get(self.recipe)
        if kind is None:
            _refuse("recipe", self.recipe, f"one of {', '.join(RECIPES)}")
        recipe: Recipe = decode_record(encode_record(self.settings), kind)
        return recipe

    @property
    def calibration(self) -> Calibration:
        """The temperature and the decision threshold."""
        return Calibration(self.temperature, self.is_temperature_folded, self.decision_threshold)


def _refuse(what: str, value: Any, expected: str) -> NoReturn:
    raise RunError(f"{what} is {quote(value)}; expected {expected}")


def _require_spec(record: RunRecord) -> None:
    if Path(record.cache).is_absolute():
        _refuse("cache", record.cache, "the cache file's path, relative to the run folder")
    if not record.spec.is_resolved:
        _refuse("spec", "one in words", "a spec with digests and versions")
    if record.fingerprint not in (None, record.spec.fingerprint):
        _refuse("fingerprint", record.fingerprint, f"that of the spec, {record.spec.fingerprint}")


def _require_choice(record: RunRecord) -> None:
    recipe, chosen = record.decode_recipe(), record.chosen
    if recipe.is_compound and (chosen is None or chosen.begun is None):
        _refuse(
            "chosen",
            chosen,
            f"what the recipe {record.recipe} has chosen, and how many recipes were begun",
        )
    if chosen is not None and chosen.recipe not in RECIPES:
        _refuse("chosen: recipe", chosen.recipe, f"one of {', '.join(RECIPES)}")


def _require_class_names(record: RunRecord) -> None:
    names, selected = record.class_names, record.selection.classes
    if len(set(names)) != len(names):
        _refuse("class_names", list(names), "two or more different names")
    if selected and names != selected:
        _refuse("class_names", list(names), f"the classes that were selected, {quote(list(selected))}")


def _require_views(record: RunRecord) -> None:
    selected, made = record.selection.views, record.spec.views
    if not set(selected) <= set(made):
        _refuse("selection: views", list(selected), f"some of the cache's, {', '.join(made)}")
    views = selected or made
    if record.views not in (None, views):
        _refuse("views", record.views, f"those that were selected, {', '.join(views)}")


def _require_calibration(record: RunRecord) -> None:
    if record.is_temperature_folded and record.temperature is None:
        _refuse("is_temperature_folded", True, "true only with a temperature")
    if record.decision_threshold is not None and len(record.class_names) != 2:
        _refuse("decision_threshold", record.decision_threshold, "null, for there are not two classes")


def read_run_record(folder: Path, digests: Mapping[str, str] | None) -> RunRecord:
    """Return the content of `run.json`.

    Args:
      digests: see `read_checksums`.

    Raises:
      RunError: the file is gone, was changed, or does not describe a run of this version of tfl.
    """
    path = folder / RECORD
    try:
        require_file(path)
    except RunError as error:
        reason = str(error) if os.path.lexists(path) else f"it has no {RECORD}"
        raise RunError(f"{folder} is not a run folder: {reason}; `tfl train CACHE` makes one") from error
    require_unchanged(path, digests)
    values = read_json(path)
    _require_keys(path, values)
    if values.get("has_checksums") is True and digests is None:
        raise RunError(f"{folder} is not whole: {CHECKSUMS}, which training left in it, is gone; train again")
    return _decode_run_record(path, values)


def _require_keys(path: Path, values: Any) -> None:
    keys = {"cache", "spec", "class_names", "recipe", "settings"}
    if not isinstance(values, dict) or not keys <= set(values):
        raise RunError(f"{path} does not describe a run; expected the keys {', '.join(sorted(keys))}")


def _decode_run_record(path: Path, values: dict[str, Any]) -> RunRecord:
    try:
        return decode_record(_upgrade(values), RunRecord)
    except (ValueError, TflError) as error:
        reason = " ".join(str(error).split("\n"))[:MAX_REASON]
        raise RunError(f"{path} describes no training of this version of tfl: {reason}") from error


def _upgrade(values: dict[str, Any]) -> dict[str, Any]:
    """Return the content of `run.json` as today's version would have written it."""
    upgraded = dict(values)
    if "is_folded" in values and "is_temperature_folded" not in values:
        upgraded["is_temperature_folded"] = upgraded.pop("is_folded")
    selection = values.get("selection", {})
    if isinstance(selection, dict):  # before this was a setting, every selection of rows was trained on
        upgraded["selection"] = {"allow_missing_classes": True, **selection}
    return upgraded
