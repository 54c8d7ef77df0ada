"""Make the generated parts of README.md and docs/: tables and pictures of stored results, tables of kinds.

python scripts/make_docs.py           writes what is out of date
python scripts/make_docs.py --check   names it, and exits with 1 if there is any
"""

import argparse
import functools
import sys
from pathlib import Path

from documentation import DOCS, ROOT
from documentation.blocks import fill_blocks
from documentation.kinds import make_kinds_block
from documentation.pictures import PICTURES, draw_picture, is_current
from documentation.tables import make_results_block


def list_pages() -> list[Path]:
    """Return the pages that may hold generated blocks."""
    return [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]


def make_block(page: Path, kind: str, name: str) -> str:
    """Return the Markdown of one block of a page."""
    return make_kinds_block(name) if kind == "kinds" else make_results_block(name, page)


def update_page(page: Path, is_check: bool) -> bool:
    """Bring the blocks of a page up to date; with `is_check` only look. Return whether they were out of date."""
    text = page.read_text(encoding="utf-8")
    new = fill_blocks(text, functools.partial(make_block, page))
    if new != text and not is_check:
        page.write_text(new, encoding="utf-8")
    return new != text


def update_picture(path: Path, is_check: bool) -> bool:
    """Bring a picture up to date; with `is_check` only look. Return whether it was out of date."""
    if is_current(path):
        return False
    if not is_check:
        draw_picture(path)
    return True


def list_pictures(pages: list[Path]) -> list[Path]:
    """Return the drawn pictures that these pages show."""
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    return [DOCS / "pictures" / name for name in PICTURES if f"pictures/{name}" in text]


def update_all(is_check: bool) -> list[Path]:
    """Bring all pages and pictures up to date; with `is_check` only look. Return those that were not."""
    pages = list_pages()
    old_pages = [page for page in pages if update_page(page, is_check)]
    return old_pages + [path for path in list_pictures(pages) if update_picture(path, is_check)]


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only look, and exit with 1 if anything is out of date")
    is_check = parser.parse_args().check
    found = update_all(is_check)
    for path in found:
        print(f"{'out of date' if is_check else 'written'}: {path.relative_to(ROOT)}")
    if found and is_check:
        sys.exit("run `python scripts/make_docs.py`")


if __name__ == "__main__":
    main()
