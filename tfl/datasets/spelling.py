"""Texts that look the same and are not: each spelling would be a class, or a group, of its own."""

import unicodedata
from collections.abc import Iterable


def find_spellings(texts: Iterable[str]) -> list[tuple[str, str]]:
    """Return each text that differs in white space alone, or in how an accent is stored, from one before it.

    Returns:
      The text, and the first one that it looks like.
    """
    first: dict[str, str] = {}
    found = []
    for text in texts:
        other = first.setdefault(_normalize(text), text)
        if other != text:
            found.append((text, other))
    return found


def _normalize(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())
