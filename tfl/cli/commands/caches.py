"""`tfl caches`, `tfl inspect` and `tfl verify`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tyro.conf import Positional

from tfl.cli.commands.command import AsJson
from tfl.cli.output import print_json, print_lines, print_table
from tfl.errors import CacheError
from tfl.files import paths
from tfl.reports.caches import CACHE_COLUMNS, NETWORK_COLUMNS, format_cache, tabulate_caches, tabulate_networks


@dataclass(frozen=True)
class Caches:
    """List the caches, whole and unfinished, and the quantised networks beside them."""

    cache_dir: Path = Path("cache")
    """Folder of the cache files."""
    remove: tuple[Path, ...] = ()
    """Quantised networks, `*.int8.zip`, that no cache uses."""
    as_json: AsJson = False
    """Print JSON: the caches alone."""
    is_resumable: ClassVar[bool] = False

    def run(self) -> None:
        """Remove what is named, and print a line for each cache and each quantised network."""
        from tfl.cache import list_networks, list_overviews, remove_network

        paths.require_no_file(self.cache_dir)
        for path in self.remove:
            remove_network(path)
        found = list_overviews(self.cache_dir)
        if self.as_json:
            print_json(found)
            return
        if found:
            print_table(CACHE_COLUMNS, tabulate_caches(found))
        else:
            print_lines(f"no caches in {self.cache_dir}; `tfl precompute` makes one")
        networks = list_networks(self.cache_dir, found)
        if networks:
            print_table(NETWORK_COLUMNS, tabulate_networks(networks))


@dataclass(frozen=True)
class Inspect:
    """Print what is in a cache file, or how far an unfinished one is."""

    cache: Positional[Path]
    """The file that `tfl precompute` made, or is making."""
    as_json: AsJson = False
    """Print JSON."""
    is_resumable: ClassVar[bool] = False

    def run(self) -> None:
        """Print the description of one cache."""
        from tfl.cache import inspect

        found = inspect(self.cache)
        if self.as_json:
            print_json(found)
        else:
            print_lines(*format_cache(found))


@dataclass(frozen=True)
class Verify:
    """Read every byte of a cache file and compare it with what was written; exit code 1 if one differs."""

    cache: Positional[Path]
    """The file that `tfl precompute` made."""
    as_json: AsJson = False
    """Print JSON."""
    is_resumable: ClassVar[bool] = False

    def run(self) -> None:
        """Print whether the file is whole."""
        from tfl.cache import verify

        problems = verify(self.cache)
        if self.as_json:
            print_json({"path": str(self.cache), "problems": problems})
        elif not problems:
            num_bytes = self.cache.stat().st_size
            print_lines(f"{self.cache}: every byte is what was written ({num_bytes:,} bytes)")
        if problems:
            lines = [f"  {problem}" for problem in problems]
            raise CacheError(f"{self.cache} is damaged; remove it and precompute again:", *lines)
