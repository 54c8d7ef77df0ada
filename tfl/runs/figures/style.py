"""Style that all pictures share."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

DOTS_PER_INCH = 120
MARKERS = "osD^vPX*"


@contextlib.contextmanager
def _plain_text() -> Iterator[None]:
    """Draw names as text: "$1_$5" is no formula, and a character that the font lacks is a box without a warning."""
    with rc_context({"text.parse_math": False}), warnings.catch_warnings():
        for message in ("Glyph ", "Matplotlib currently does not support "):
            warnings.filterwarnings("ignore", message, UserWarning)
        yield


plain_text = _plain_text()
"""A decorator of functions that draw names."""


def save(figure: Figure, path: Path) -> None:
    """Write a picture to a PNG file."""
    figure.savefig(path, dpi=DOTS_PER_INCH)
