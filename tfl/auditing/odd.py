"""Images unlike all others: next to no contrast, few pixels, or features far from those of all others."""

import numpy as np

from tfl.auditing.images import Images
from tfl.auditing.pixels import LUMINANCE
from tfl.auditing.projection import Rows
from tfl.auditing.record import OddImage, OddKind

FLAT_DEVIATION = 4.0  # of 255: standard deviation of the luminance below which a picture is flat
TINY_SIDE = 16  # pixels
FAR_SHARE = 0.001  # of the rows, those whose nearest other row is farthest
BLOCK_IMAGES = 4096


def find_odd(rows: Rows, cosines: np.ndarray, images: Images | None, is_all: bool) -> tuple[OddImage, ...]:
    """Return odd images: the flat, the tiny, then the farthest; with `is_all` the distance of every row."""
    found: list[tuple[int, OddKind, float]] = []
    if images is not None:
        deviations = _measure_contrast(images.thumbnails)
        flat = np.flatnonzero(deviations < FLAT_DEVIATION)
        found += [(row, "flat", 1 - deviations[row] / FLAT_DEVIATION) for row in _sort(flat, deviations)]
        tiny = np.flatnonzero(images.sides < TINY_SIDE)
        found += [(row, "tiny", 1 - images.sides[row] / TINY_SIDE) for row in _sort(tiny, images.sides)]
    if cosines.shape[1]:
        nearest = cosines[:, 0]
        count = len(nearest) if is_all else int(np.ceil(FAR_SHARE * len(nearest)))
        far = np.argsort(nearest, kind="stable")[:count].tolist()
        found += [(row, "far", min(1.0, max(0.0, 1 - float(nearest[row])))) for row in far]
    names, role = list(rows.roles), rows.role_of_row
    ids = rows.ids
    return tuple(
        OddImage(ids[row].decode(errors="backslashreplace"), names[role[row]], kind, round(float(score), 4))
        for row, kind, score in found
    )


def _sort(places: np.ndarray, values: np.ndarray) -> list[int]:
    order: list[int] = places[np.argsort(values[places], kind="stable")].tolist()
    return order


def _measure_contrast(thumbnails: np.ndarray) -> np.ndarray:
    """Return the standard deviation of each thumbnail's luminance, `(n,)`."""
    blocks = [thumbnails[start : start + BLOCK_IMAGES] for start in range(0, len(thumbnails), BLOCK_IMAGES)]
    return np.concatenate([(block.astype(np.float32) @ LUMINANCE).std(axis=(1, 2)) for block in blocks])
