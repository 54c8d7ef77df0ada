"""Strict reading of the JSON files that tfl writes: they may be damaged, or a stranger's."""

import json
import math
import os
import stat
from pathlib import Path
from typing import Any

MAX_JSON_BYTES = 16 << 20
MAX_DIGITS = 20  # of a whole number
MAX_CHARACTERS_SHOWN = 80


def read_json(path: Path, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Return the content of a JSON file.

    Raises:
      ValueError: it is not a plain file, not UTF-8 or not JSON, it repeats a key, or it holds a
        number that is not finite.
    """
    num_bytes = require_file(path).st_size
    if num_bytes > max_bytes:
        raise ValueError(f"it has {num_bytes:,} bytes; at most {max_bytes:,} were expected")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"it cannot be read ({error.strerror})") from error
    return parse_json(content)


def require_file(path: Path) -> os.stat_result:
    """Return the `stat` of a plain file.

    Raises:
      ValueError: it is a folder, a pipe or a device, or does not exist.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise ValueError(f"it cannot be found ({error.strerror})") from error
    if not stat.S_ISREG(state.st_mode):
        raise ValueError("it is not a plain file but a folder, pipe or device")
    return state


def parse_json(content: bytes) -> Any:
    """Return the content of UTF-8 JSON.

    Raises:
      ValueError: see `read_json`.
    """
    try:
        found = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_without_repeated_keys,
            parse_float=_finite,
            parse_int=_short_integer,
            parse_constant=_finite,
        )
        json.dumps(found, ensure_ascii=False).encode("utf-8")  # a lone surrogate cannot be written
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("a text in it holds half a surrogate pair") from None
    return found


def _without_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {quote(repeated)} appears twice in one object")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{quote(text)} is not a finite number")
    return number


def _short_integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a whole number has {len(text):,} digits, at most {MAX_DIGITS} were expected")
    return int(text)


def quote(value: Any) -> str:
    """Return a value as Python writes it, on one line, cut short if it is long."""
    text = repr(value)
    return text if len(text) <= MAX_CHARACTERS_SHOWN else f"{text[:MAX_CHARACTERS_SHOWN]}..."
