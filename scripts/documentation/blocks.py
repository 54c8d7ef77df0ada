"""Generated blocks of a Markdown page.

A block stands between two comments, and its name says what fills it:

    <!-- results: recipes -->
    | recipe | accuracy | ...
    <!-- end -->
"""

import re
from collections.abc import Callable

BLOCK = re.compile(r"<!-- (results|kinds): ([\w-]+) -->\n(.*?)<!-- end -->", re.DOTALL)


def fill_blocks(text: str, make: Callable[[str, str], str]) -> str:
    """Return the page with every block made anew.

    Args:
      make: returns the Markdown of a block, given its kind (`results` or `kinds`) and its name.
    """

    def fill(block: re.Match[str]) -> str:
        kind, name, _ = block.groups()
        return f"<!-- {kind}: {name} -->\n\n{make(kind, name).strip()}\n\n<!-- end -->"

    return BLOCK.sub(fill, text)


def list_blocks(text: str) -> list[tuple[str, str]]:
    """Return kind and name of every block of a page."""
    return [(block[1], block[2]) for block in BLOCK.finditer(text)]


def format_table(header: list[str], rows: list[list[str]], align_right: int = 1) -> str:
    """Return a Markdown table.

    Args:
      align_right: the first column whose cells are numbers; it and those after it are aligned right.
    """
    marks = ["---" if column < align_right else "---:" for column in range(len(header))]
    lines = [header, marks, *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
