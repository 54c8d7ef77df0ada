"""Text that is safe to show: names from files and archives, without the characters that steer a terminal."""

import unicodedata

JOINERS = "\u200c\u200d"  # zero-width (non-)joiners: scripts and emoji need them, and they steer nothing
STEERING = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # Unicode categories: controls, formats, surrogates, line and paragraph ends


def printable(text: str) -> str:
    r"""Return `text` on one line, control characters replaced by backslash escapes (`\x1b`, `\n`, `\u202e`).

    Escaped are C0 and C1 controls, newlines and tabs, direction overrides and other invisible format characters, and
    surrogates, which no encoding can write. Everything else stays as it is, backslashes included.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(character) if _is_steering(character) else character for character in text)


def _is_steering(character: str) -> bool:
    return unicodedata.category(character) in STEERING and character not in JOINERS


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
