"""Features in and out: files of features for other programs, and caches of features made elsewhere.

A file format is one file with one `FeatureFormat` in it, named here.
"""

from pathlib import Path

from tfl.errors import SpecError
from tfl.exchange.npz import NPZ
from tfl.exchange.parquet import PARQUET
from tfl.exchange.table import FeatureFormat

FORMATS: dict[str, FeatureFormat] = {each.suffix: each for each in (PARQUET, NPZ)}
"""Every format by the suffix of its files."""


def require_format(path: Path) -> FeatureFormat:
    """Return the format of a file, by its name.

    Raises:
      SpecError: no format has this suffix.
    """
    if path.suffix not in FORMATS:
        raise SpecError(f"a file of features ends in {' or '.join(FORMATS)}, got {path}")
    return FORMATS[path.suffix]
