"""Text that is safe to show: names from files and archives, without characters that control a terminal."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

MAX_LISTED = 10  # items in one message
JOINERS = "\u200c\u200d"  # zero-width (non-)joiners: scripts and emoji need them, and they control nothing
CONTROLS = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # Unicode categories: controls, formats, surrogates, line and paragraph ends
WIDE = "WF"  # East Asian widths of the characters that take two columns of a terminal
ZERO_WIDTH = {"Mn", "Me", "Cf"}  # marks that are drawn over the character before them, and joiners


def to_printable(text: str) -> str:
    r"""Return `text` on one line, with control characters as backslash escapes (`\x1b`, `\n`, `\u202e`).

    C0 and C1 controls, newlines, tabs, direction overrides, other invisible format characters, and
    surrogates (which no encoding can write) are escaped. Everything else stays as it is,
    backslashes included.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(character) if _is_control(character) else character for character in text)


def to_file_name(text: str) -> str:
    """Return `text` with `_` for each character that `to_printable` escapes."""
    return "".join("_" if _is_control(character) else character for character in text)


def display_width(text: str) -> int:
    """Return how many columns of a terminal `text` takes: two for most East Asian characters, none for accents."""
    return len(text) if text.isascii() else sum(map(_num_columns, text))


def pad(text: str, width: int) -> str:
    """Return `text` with spaces after it, up to `width` columns of a terminal."""
    return text + " " * (width - display_width(text))


def shorten(text: str, length: int) -> str:
    """Return `text`, or its beginning and an ellipsis if it has more than `length` characters."""
    return text if len(text) <= length else text[: length - 1] + "…"


def join_first(items: Sequence[str], noun: str = "") -> str:
    """Return the first items in one line, `a, b, c`; if there are others, `a, b and 3 more classes`."""
    joined = ", ".join(items[:MAX_LISTED])
    num_others = len(items) - MAX_LISTED
    return f"{joined} and {num_others:,} more {noun}".rstrip() if num_others > 0 else joined


def first_lines(lines: Sequence[str]) -> list[str]:
    """Return the first lines, indented for a message; if there are others, the last line counts them."""
    shown = [f"  {line}" for line in lines[:MAX_LISTED]]
    num_others = len(lines) - MAX_LISTED
    return [*shown, f"  ... and {num_others:,} more"] if num_others > 0 else shown


def to_one_line(said: BaseException | str, max_characters: int = 500) -> str:
    """Return what an error or a library said as one printable line, shortened to `max_characters`.

    An error without a text is called by its type.
    """
    text = " ".join(str(said).split())
    if not text and isinstance(said, BaseException):
        text = type(said).__name__
    return shorten(to_printable(text), max_characters)


def suggest_name(typed: str, known: Iterable[str]) -> str:
    """Return `; did you mean resnet50?` for `ResNet-50`, or nothing if no known name is near."""
    by_letters = {_letters(name): name for name in known}
    nearest = get_close_matches(_letters(typed), by_letters, n=1)
    return f"; did you mean {by_letters[nearest[0]]}?" if nearest else ""


def _letters(name: str) -> str:
    """Return the letters and digits of a name, in lower case."""
    return re.sub(r"[\W_]+", "", name.lower())


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in CONTROLS and character not in JOINERS


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _num_columns(character: str) -> int:
    if unicodedata.category(character) in ZERO_WIDTH:
        return 0
    return 2 if unicodedata.east_asian_width(character) in WIDE else 1
