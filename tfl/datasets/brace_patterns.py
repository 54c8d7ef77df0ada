"""Names with braces, `shards-{000..009}.tar`, as shells and the library webdataset expand them."""

import itertools
import re
from collections.abc import Iterator

from tfl.errors import SpecError

_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)(?:\.\.-?(\d+))?")
MAX_NAMES = 100_000


def expand_braces(pattern: str) -> list[str]:
    """Return the names that a pattern stands for: `{000..009}`, `{0..8..2}`, `{train,val}`, one in another.

    Letters have no ranges here; braces around anything else stay as they are.

    Raises:
      SpecError: a brace is not closed, or there are more than `MAX_NAMES` names.
    """
    _require_balance(pattern)
    names = list(itertools.islice(_expand(pattern), MAX_NAMES + 1))
    if len(names) > MAX_NAMES:
        raise SpecError(f"the pattern {pattern!r} stands for more than {MAX_NAMES:,} names")
    return names


def has_braces(pattern: str) -> bool:
    """Return whether `expand_braces` does anything to a pattern."""
    return "{" in pattern or "}" in pattern


def _require_balance(pattern: str) -> None:
    depth = 0
    for character in pattern:
        depth += (character == "{") - (character == "}")
        if depth < 0:
            break
    if depth:
        raise SpecError(f"the braces of {pattern!r} do not match; expected for instance shards-{{000..009}}.tar")


def _expand(pattern: str) -> Iterator[str]:
    """Yield the names, those of the first brace changing last."""
    start, stop = _find_first(pattern)
    if stop == 0:
        yield pattern
        return
    head, inside, tail = pattern[:start], pattern[start + 1 : stop - 1], pattern[stop:]
    for choice in _list_choices(inside):
        for rest in _expand(tail):
            yield head + choice + rest


def _find_first(pattern: str) -> tuple[int, int]:
    """Return where the first outermost brace begins and ends; 0 and 0 if there is none."""
    start, depth = pattern.find("{"), 0
    for position in range(max(start, 0), len(pattern)):
        depth += (pattern[position] == "{") - (pattern[position] == "}")
        if start >= 0 and depth == 0:
            return start, position + 1
    return 0, 0


def _list_choices(inside: str) -> Iterator[str]:
    """Yield what may stand in place of a brace; itself, with braces, if that is no range and no list."""
    if match := _RANGE.fullmatch(inside):
        yield from _list_numbers(*match.groups())
        return
    parts = _split_at_commas(inside)
    if len(parts) == 1:
        for name in _expand(inside):
            yield "{" + name + "}"
        return
    for part in parts:
        yield from _expand(part)


def _list_numbers(first: str, last: str, step: str | None) -> Iterator[str]:
    """Yield the numbers of a range; a leading zero in one bound pads all of them to the longer one's width."""
    is_padded = any(re.match(r"-?0\d", bound) for bound in (first, last))
    width = max(len(first), len(last)) if is_padded else 0
    start, stop = int(first), int(last)
    direction = 1 if start <= stop else -1
    for number in range(start, stop + direction, direction * (int(step or 1) or 1)):
        yield f"{number:0{width}d}"


def _split_at_commas(inside: str) -> list[str]:
    """Return the parts between the commas that stand in no inner brace."""
    parts, depth = [""], 0
    for character in inside:
        depth += (character == "{") - (character == "}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts
