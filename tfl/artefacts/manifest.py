"""`tfl.json` of an exported model: what it is, what it was made from, and the digests of its files."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tfl.artefacts.formats import FORMATS, detect_format
from tfl.errors import ExportError, TflError
from tfl.files import codec, hashing, strict_json
from tfl.files.codec import PositiveCount, Sha256, Share
from tfl.runs.history import Choice
from tfl.runs.json_files import write_json
from tfl.runs.metrics import MetricsByRole
from tfl.specs import Artefact, CacheSpec, Role, View
from tfl.text import to_one_line

DESCRIPTION = "tfl.json"
CARD = "README.md"
MAX_BYTES = 256 << 20  # of `tfl.json`: metrics of 1,000 classes take 22 MB
MAX_REASON = 400  # characters
RENAMED = {"is_folded": "is_temperature_folded"}  # fields of older models, and their names now


@dataclass(frozen=True)
class Parity:
    """The difference between the exported model's logits and those of the head on the cached features.

    Attributes:
      num_images: rows of the cache, and some changed images, which are compared with the model in
        the exporting process.
      error: largest difference, as a share of the largest logit.
      tolerance: largest error that was allowed.
      same_class: share of images whose predicted class is the same.
    """

    num_images: int
    error: float
    tolerance: float
    same_class: float


@dataclass(frozen=True)
class Substitution:
    """The float32 network in place of the arithmetic that the head was trained on, which the format cannot carry.

    Attributes:
      trained_on: compute dtype of the cached features.
      carried: compute dtype of the exported network.
      role: whose images both were measured on; never test.
      accuracy_trained_on: of the head on the cached features of these images, in 0..1.
      accuracy_carried: of the head on features that the carried network computes.
      tolerance: largest loss of accuracy that was allowed.
    """

    trained_on: str
    carried: str
    role: Role
    num_images: int
    accuracy_trained_on: Share
    accuracy_carried: Share
    tolerance: float


@dataclass(frozen=True)
class MeasuredAccuracy:
    """Accuracy, in 0..1, of the exported model itself on all test images."""

    accuracy: Share
    accuracy_interval_95: tuple[Share, Share]
    num_images: int


@dataclass(frozen=True)
class Manifest:
    """The content of `tfl.json`.

    Attributes:
      fingerprint: of `spec`.
      spec: the cache that the head was trained on.
      settings: of the recipe, as given.
      chosen: the setting that validation rows chose; None for a recipe without choices.
      temperature: what validation rows ask for the logits to be divided by; None if there were
        none.
      is_temperature_folded: the head's weights are divided by it already.
      metrics: of the head on cached features, by role.
      measured: of the exported model, if accuracy was asked for.
      files: the sha256 of each file, by its path in the folder.
      versions: of the libraries that made it.
      substitution: None if the network computes as the cached features were computed.
      num_features: columns of the features that it takes, if it is a head alone; None if it takes
        images.
    """

    class_names: tuple[str, ...]
    fingerprint: str
    spec: CacheSpec
    recipe: str
    settings: dict[str, Any]
    chosen: Choice | None
    views: tuple[View, ...]
    temperature: float | None
    is_temperature_folded: bool
    decision_threshold: float | None
    metrics: MetricsByRole
    artefact: Artefact
    parity: Parity
    measured: MeasuredAccuracy | None
    files: dict[str, Sha256]
    tfl: str
    versions: dict[str, str]
    substitution: Substitution | None = None
    num_features: PositiveCount | None = None

    def list_omitted_fields(self) -> list[str]:
        """Return the field that only models of features have."""
        return codec.list_none_fields(self, ("num_features",))

    def __post_init__(self) -> None:
        if not self.class_names or len(set(self.class_names)) != len(self.class_names):
            raise ValueError(f"its class_names are {strict_json.quote(self.class_names)}; expected different names")
        if self.artefact.format not in FORMATS:
            name = strict_json.quote(self.artefact.format)
            raise ValueError(f"its format is {name}; expected one of {', '.join(FORMATS)}")
        outside = [name for name in self.files if not _is_inside(name)]
        if outside:
            raise ValueError(f"it lists {strict_json.quote(outside[0])}, which is not a path in the folder")
        if FORMATS[self.artefact.format].file not in self.files:
            raise ValueError(f"it lists no sha256 of {FORMATS[self.artefact.format].file}")


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def description_path(folder: Path, model_format: str) -> Path:
    """Return where an exported model's `tfl.json` is."""
    return folder / FORMATS[model_format].description_folder / DESCRIPTION


def hash_files(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file of an exported model, by its path in the folder.

    Left out are `tfl.json` itself and the card, which people may edit.
    """
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in (DESCRIPTION, CARD)]
    return {path.relative_to(folder).as_posix(): hashing.hash_file(path) for path in paths}


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `tfl.json` where the format has it."""
    path = description_path(folder, manifest.artefact.format)
    path.parent.mkdir(exist_ok=True)
    write_json(path, manifest)


def read_manifest(folder: Path) -> Manifest:
    """Read `tfl.json`, and compare every file of the model with its digest there.

    Raises:
      ExportError: the folder is no exported model, its `tfl.json` is damaged, of another version of
        tfl or of another format than the files, or a file is gone or has changed; the message names
        it.
    """
    path = _find_description(folder)
    try:
        manifest = _decode(strict_json.read_json(path, MAX_BYTES))
    except (ValueError, TflError) as error:
        reason = to_one_line(error, MAX_REASON)
        raise ExportError(
            f"{path} does not describe a model that this version of `tfl export` made: {reason}; export again"
        ) from error
    _require_right_place(path, folder, manifest.artefact.format)
    _require_unchanged(folder, manifest)
    return manifest


def _decode(value: Any) -> Manifest:
    if isinstance(value, dict):
        value = {RENAMED.get(name, name): each for name, each in value.items()}
    return codec.decode_record(value, Manifest)


def _find_description(folder: Path) -> Path:
    places = {description_path(folder, name): None for name in FORMATS}
    found = [path for path in places if path.is_file()]
    if len(found) == 1:
        return found[0]
    if found:
        raise ExportError(f"{folder} has two files that describe it, {found[0]} and {found[1]}; export again")
    names = ", ".join(kind.file for kind in FORMATS.values())
    files = f"none of {names}, and " if detect_format(folder) is None else ""
    raise ExportError(f"{folder} is not a model that `tfl export` made: it holds {files}no {DESCRIPTION}")


def _require_right_place(path: Path, folder: Path, name: str) -> None:
    expected = description_path(folder, name)
    if path != expected:
        raise ExportError(
            f"{path} says that the format is {name}, whose {DESCRIPTION} lies in {expected.parent}; export again"
        )
    if not (folder / FORMATS[name].file).is_file():
        raise ExportError(
            f"{path} says that the format is {name}, and {folder} has no {FORMATS[name].file}; export again"
        )


def _require_unchanged(folder: Path, manifest: Manifest) -> None:
    for name, expected in manifest.files.items():
        try:
            found = hashing.hash_file(folder / name)
        except ValueError as error:
            raise ExportError(f"{folder / name} is a file of this model: {error}; export again") from error
        if found != expected:
            raise ExportError(
                f"{folder / name} is not what was exported: its sha256 is {found[:12]}..., {expected[:12]}... was "
                "expected; copy the model again, or export again"
            )
