"""`tfl.json` of an exported model: its format, its classes, and the digests of its files."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from tfl.artefacts import runtimes
from tfl.errors import ExportError
from tfl.files import strict_json

DESCRIPTION = "tfl.json"
CARD = "README.md"
EXTRA_ASSETS = "assets.extra"  # the SavedModel format's place for others' files


class Manifest(NamedTuple):
    """What `tfl.json` says, as far as `predict` needs it.

    Attributes:
      format: what opens the folder, one of `served.FILES`.
      digests: the sha256 of each file, by its path in the folder; empty for models from before they were noted.
    """

    format: str
    class_names: list[str]
    digests: Mapping[str, str]


def description_path(folder: Path, model_format: str) -> Path:
    """Return where an exported model's `tfl.json` is."""
    return folder / EXTRA_ASSETS / DESCRIPTION if model_format == "saved-model" else folder / DESCRIPTION


def hash_files(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file of an exported model, by its path in the folder.

    Left out are `tfl.json` itself and the card, which is for people to edit.
    """
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    by_name = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: strict_json.hash_file(path) for name, path in by_name.items() if path.name not in (DESCRIPTION, CARD)}


def read_manifest(folder: Path) -> Manifest:
    """Read `tfl.json`, and hold every file of the model against its digest there.

    Raises:
      ExportError: the folder is no exported model, its `tfl.json` is damaged or speaks of another format than the files
        are of, or a file is gone or has changed; the message names it.
    """
    path = _found(folder)
    try:
        manifest = _checked(strict_json.read_json(path), folder)
    except ValueError as error:
        raise ExportError(f"{path} does not describe a model that `tfl export` made: {error}; export again") from error
    if path != description_path(folder, manifest.format):
        raise ExportError(
            f"{path} says that the format is {manifest.format}, whose {DESCRIPTION} lies in "
            f"{description_path(folder, manifest.format).parent}; export again"
        )
    if not (folder / runtimes.FILES[manifest.format]).is_file():
        raise ExportError(
            f"{path} says that the format is {manifest.format}, and {folder} has no {runtimes.FILES[manifest.format]}; "
            "export again"
        )
    _require_unchanged(folder, manifest)
    return manifest


def _found(folder: Path) -> Path:
    places = [folder / EXTRA_ASSETS / DESCRIPTION, folder / DESCRIPTION]
    found = [path for path in places if path.is_file()]
    if len(found) == 1:
        return found[0]
    if found:
        raise ExportError(f"{folder} has two files that describe it, {found[0]} and {found[1]}; export again")
    files = f"none of {', '.join(runtimes.FILES.values())}, and " if runtimes.detect_format(folder) is None else ""
    raise ExportError(f"{folder} is not a model that `tfl export` made: it holds {files}no {DESCRIPTION}")


def _checked(description: Any, folder: Path) -> Manifest:
    if not isinstance(description, dict):
        raise ValueError(f"it is {strict_json.quote(description)}; expected an object")
    artefact = description.get("artefact", {"format": _only_format(folder)})
    name = artefact.get("format") if isinstance(artefact, dict) else None
    if not isinstance(name, str) or name not in runtimes.FILES:
        raise ValueError(f"its format is {strict_json.quote(name)}; expected one of {', '.join(runtimes.FILES)}")
    names = description.get("class_names")
    are_texts = isinstance(names, list) and all(isinstance(each, str) for each in names)
    if not are_texts or not names or len(set(names)) != len(names):
        raise ValueError(f"its class_names are {strict_json.quote(names)}; expected different names")
    digests = description.get("files", {})
    if not isinstance(digests, dict) or not all(map(strict_json.is_digest, digests.values())):
        raise ValueError(f"its files are {strict_json.quote(digests)}; expected the sha256 of each by its path")
    if strange := [each for each in digests if not _is_inside(each)]:
        raise ValueError(f"it lists {strict_json.quote(strange[0])}, which is not a path in the folder")
    if "files" in description and runtimes.FILES[name] not in digests:
        raise ValueError(f"it lists no sha256 of {runtimes.FILES[name]}")
    return Manifest(name, names, digests)


def _only_format(folder: Path) -> str | None:
    """The format of a model from before `tfl.json` said it: that of its files, if they are of one."""
    found = [name for name, file in runtimes.FILES.items() if (folder / file).is_file()]
    return found[0] if len(found) == 1 else None


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def _require_unchanged(folder: Path, manifest: Manifest) -> None:
    for name, expected in manifest.digests.items():
        try:
            found = strict_json.hash_file(folder / name)
        except ValueError as error:
            raise ExportError(f"{folder / name} is a file of this model: {error}; export again") from error
        if found != expected:
            raise ExportError(
                f"{folder / name} is not what was exported: its sha256 is {found[:12]}..., {expected[:12]}... was "
                "expected; copy the model again, or export again"
            )
