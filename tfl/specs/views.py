"""Views: the fixed ways to present an image to the backbone."""

import typing
from typing import Literal

from tfl.errors import SpecError
from tfl.specs.spec import check_type

View = Literal["original", "hflip", "crop1", "crop2", "crop3", "crop4", "crop5"]
VIEWS: tuple[View, ...] = typing.get_args(View)
"""All views, in the order of a cache file. The geometry is the same for every image; nothing is random.

`original` is the resized image; `hflip` is its mirror image. A crop has the size of the original
and is cut from the image resized to 8/7 of that size (256 for 224): `crop1` to `crop4` from the
corners (top left, top right, bottom left, bottom right), `crop5` from the centre. These five and
their mirror images are the ten crops of Krizhevsky et al. 2012, section 4.1.
"""


def require_views(views: tuple[View, ...]) -> None:
    """Refuse views that no cache can have.

    Raises:
      SpecError: a view is unknown or repeated, or the first is not `original`.
    """
    check_type("CacheSpec", "views", views, tuple[View, ...])
    corrected = tuple(dict.fromkeys(("original", *views)))
    if views != corrected:
        received = " ".join(views) or "none"
        raise SpecError(
            f"views begin with original, and each is named once; got {received}; try --views {' '.join(corrected)}"
        )
