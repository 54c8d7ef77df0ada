"""The tars that a word means, and the splits that their names say."""

import glob
import re
from pathlib import Path

from tfl.datasets.brace_patterns import expand_braces
from tfl.datasets.division import ALL
from tfl.datasets.source import to_text
from tfl.errors import DatasetError
from tfl.files.paths import expand_user, expand_user_text
from tfl.text import join_first

SEPARATOR = "::"  # between the patterns of a list, as in the library webdataset
SPLIT_WORDS = ("train", "training", "val", "valid", "validation", "dev", "test")
_NUMBER = re.compile(r"[-_.]*\d*$")


def find_tars(word: str) -> list[Path]:
    """Return the tars that a word means: a folder, a name with braces or wildcards, or several joined by `::`.

    Names with braces are in the pattern's order, others sorted.

    Raises:
      DatasetError: one is missing, nothing matches, or one is there twice.
    """
    tars = [tar for pattern in word.split(SEPARATOR) for tar in _find(pattern)]
    repeated = sorted({to_text(tar) for tar in tars if tars.count(tar) > 1}) if len(set(tars)) < len(tars) else []
    if repeated:
        raise DatasetError(f"{word!r} names {join_first(repeated)} twice; every tar is read once")
    for tar in tars:
        if not tar.is_file():  # a pipe may never end
            raise DatasetError(f"{to_text(tar)} is not a regular file; expected a tar")
    return tars


def _find(pattern: str) -> list[Path]:
    path = expand_user(pattern)
    if path.is_dir():
        return _list_folder(path)
    if path.exists():
        return [path]
    found = []
    for name in expand_braces(pattern):
        if glob.has_magic(name):
            found += _match(name)
        elif expand_user(name).exists():
            found.append(expand_user(name))
        else:
            raise DatasetError(_describe_missing(name, pattern))
    return found


def _list_folder(folder: Path) -> list[Path]:
    """Return the tars of a folder, or of the folders in it."""
    tars = sorted(folder.glob("*.tar")) or sorted(folder.glob("*/*.tar"))
    if not tars:
        raise DatasetError(f"{to_text(folder)} holds no .tar; expected for instance train-000.tar and test-000.tar")
    return tars


def _match(pattern: str) -> list[Path]:
    found = sorted(glob.glob(expand_user_text(pattern)))  # noqa: PTH207 -- the pattern may be absolute
    if not found:
        raise DatasetError(f"no file matches {pattern}")
    return [Path(name) for name in found]


def _describe_missing(name: str, pattern: str) -> str:
    if re.match(r"[a-z][a-z0-9+]*:", name):
        return f"{name!r} is no file on this machine; images are read by their place in the tar: download it first"
    return f"there is no tar {name}" + (f", which {pattern!r} names" if name != pattern else "")


def name_splits(tars: list[Path]) -> dict[str, list[Path]]:
    """Return the tars of each split: of those that their names say, or else of `all`.

    `train-000.tar`, `imagenet1k-train-000.tar` and `train/000.tar` are of the split `train`. Tars of
    one split alone are of `all`: it is divided.

    Raises:
      DatasetError: some names say a split and others do not.
    """
    splits: dict[str, list[Path]] = {}
    for tar in tars:
        splits.setdefault(find_split(tar), []).append(tar)
    if len(splits) <= 1:
        return {ALL: tars}
    if "" in splits:
        said = join_first([split for split in splits if split])
        raise DatasetError(
            f"the names of some tars say their split ({said}), and others do not, such as "
            f"{to_text(splits[''][0])}; expected all of them to, or none"
        )
    return splits


def find_split(tar: Path) -> str:
    """Return the split that a tar's name or its folder's says; empty if neither does."""
    stem = _NUMBER.sub("", tar.stem)
    for name in (stem, tar.parent.name):
        words = re.split(r"[-_.]", name.lower())
        if words[-1] in SPLIT_WORDS:
            return words[-1]
    return ""
