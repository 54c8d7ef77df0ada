"""Adds to the site the pages that are kept elsewhere: README, changelog and the cache's format.

Their links are relative to their own folder, and are rewritten to be relative to `docs/`.
"""

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parents[2]
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "cache/README.md": "cache-file.md"}
REPOSITORY_FILES = ("LICENSE", ".ci/run")
LINK = re.compile(r"(\]\(|src=\")([^)\"\s]+)")


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Add one generated page for each file of `PAGES`."""
    from mkdocs.structure.files import File

    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=rewrite_links(text, posixpath.dirname(source))))
    return files


def rewrite_links(text: str, folder: str) -> str:
    """Make the links of a page in `folder` relative to `docs/`."""
    return LINK.sub(lambda match: match[1] + rewrite_link(match[2], folder), text)


def rewrite_link(link: str, folder: str) -> str:
    """Return a link of a page in `folder` as `docs/` sees it; links to other hosts and anchors stay."""
    if "://" in link or link.startswith("#"):
        return link
    path, mark, anchor = link.partition("#")
    path = posixpath.normpath(posixpath.join(folder, path))
    if path in PAGES:
        path = PAGES[path]
    return path.removeprefix("docs/") + mark + anchor
