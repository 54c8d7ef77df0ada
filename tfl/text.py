"""Text that is safe to show: names from files and archives, without the characters that steer a terminal."""

import unicodedata

JOINERS = "\u200c\u200d"  # zero-width (non-)joiners: scripts and emoji need them, and they steer nothing
STEERING = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # Unicode categories: controls, formats, surrogates, line and paragraph ends
WIDE = "WF"  # East Asian widths of the characters that take two columns of a terminal
WITHOUT_WIDTH = {"Mn", "Me", "Cf"}  # marks that stand on the character before them, and joiners


def to_printable(text: str) -> str:
    r"""Return `text` on one line, control characters replaced by backslash escapes (`\x1b`, `\n`, `\u202e`).

    Escaped are C0 and C1 controls, newlines and tabs, direction overrides and other invisible format characters, and
    surrogates, which no encoding can write. Everything else stays as it is, backslashes included.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(character) if _is_steering(character) else character for character in text)


def to_file_name(text: str) -> str:
    """Return `text` with `_` for each character that `printable` escapes."""
    return "".join("_" if _is_steering(character) else character for character in text)


def display_width(text: str) -> int:
    """Return how many columns of a terminal `text` takes: two for most East Asian characters, none for accents."""
    return len(text) if text.isascii() else sum(map(_columns_of, text))


def pad(text: str, width: int) -> str:
    """Return `text` with spaces after it, up to `width` columns of a terminal."""
    return text + " " * (width - display_width(text))


def shorten(text: str, length: int) -> str:
    """Return `text`, or its beginning and an ellipsis if it has more than `length` characters."""
    return text if len(text) <= length else text[: length - 1] + "…"


def _is_steering(character: str) -> bool:
    return unicodedata.category(character) in STEERING and character not in JOINERS


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _columns_of(character: str) -> int:
    if unicodedata.category(character) in WITHOUT_WIDTH:
        return 0
    return 2 if unicodedata.east_asian_width(character) in WIDE else 1
