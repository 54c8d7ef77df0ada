"""ImportSettings: how a file of features becomes a cache."""

from dataclasses import dataclass
from pathlib import Path

from tfl.errors import SpecError
from tfl.files.paths import expand_user
from tfl.text import to_printable

MAX_NAME = 100  # characters


@dataclass(frozen=True)
class ImportSettings:
    """How a file of features becomes a cache."""

    source: str = ""
    """What made the features, in a word or two: `clip-vit-b32`. If empty, the backbone that the file names, or the
    file's name."""
    name: str = ""
    """Name of the dataset; the file's name if empty."""
    features_key: str = "features"
    """Column that holds the features: lists of one length, of float16, float32 or float64."""
    cache_dir: Path = Path("cache")
    """Folder of the cache files."""
    allow_missing_classes: bool = False
    """Accept val or test rows of a class without training rows.
    Also accept train or test rows that are all of one class."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "cache_dir", expand_user(self.cache_dir))
        for field in ("source", "name"):
            text = getattr(self, field)
            if to_printable(text) != text or len(text) > MAX_NAME:
                raise SpecError(f"{field} is a text of at most {MAX_NAME} printable characters, got {text[:120]!r}")
