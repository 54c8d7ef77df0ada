"""Paths as users write them."""

import os
from pathlib import Path

from tfl.errors import SpecError


def expand_user(path: str | Path) -> Path:
    """Return `path` with `~` or `~user` at its start replaced by that home folder.

    The text `./~` is a folder called `~`: its path is absolute, so that it can be expanded again.

    Raises:
      SpecError: there is no such user, or no home folder is known, and no file of that name.
    """
    text = str(path)
    found = Path(expand_user_text(text))
    if not str(found).startswith("~") or os.path.lexists(found):
        return found
    if not text.startswith("~"):
        return Path.cwd() / found
    raise SpecError(f"no home folder is known of {found.parts[0]}, got {text}; ./{text} is a file of that name")


def expand_user_text(path: str) -> str:
    """Return what `expanded` does for a path or a pattern whose spelling is to stay; of unknown users as it is."""
    return os.path.expanduser(path)  # noqa: PTH111 -- Path.expanduser raises where there is no such home


def parse_path(word: str) -> Path:
    """Return the path that someone typed, `expanded`.

    Raises:
      SpecError: it is empty, as of a shell variable that is not set; or see `expanded`.
    """
    if not word:
        raise SpecError("a path is empty; this folder is .")
    return expand_user(word)


def require_no_file(folder: Path) -> None:
    """Refuse a file, or what lies under one, where a folder is expected.

    Raises:
      SpecError: which file it is.
    """
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise SpecError(f"{folder} is no folder: {path} is a file; expected a folder, or a name for a new one")
