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
    raise SpecError(f"no home folder is known for {found.parts[0]}, got {text}; for a file of that name write ./{text}")


def expand_user_text(path: str) -> str:
    """Return a path or pattern with a known `~` or `~user` expanded, otherwise as it is spelt."""
    return os.path.expanduser(path)  # noqa: PTH111 -- Path.expanduser raises where there is no such home


def parse_path(word: str) -> Path:
    """Return the path that a user typed, expanded by `expand_user`.

    Raises:
      SpecError: it is empty, as a shell variable that is not set would be; or see `expand_user`.
    """
    if not word:
        raise SpecError("a path is empty; this folder is .")
    return expand_user(word)


def require_no_file(folder: Path) -> None:
    """Refuse a path where a folder is expected, if it or a parent of it is a file.

    Raises:
      SpecError: it is; names the file.
    """
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise SpecError(f"{folder} is not a folder: {path} is a file; expected a folder, or a name for a new one")
