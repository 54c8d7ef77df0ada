"""The questions that an exported model is asked, and the logits that are expected."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tfl import datasets
from tfl.heads.examples import average_views
from tfl.heads.model import compute_logits

if TYPE_CHECKING:
    from tfl.artefacts.candidate import Candidate

BATCHES = (1, 7, 24, 32)  # images, of the cache's test rows
# Further batches of one image each, since the cache's images may all be of one size: twice as wide,
# three times as high, a single pixel; and upright, upside down and mirrored together.
CHANGES: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
    lambda image: image.repeat(2, axis=1)[None],
    lambda image: image.repeat(3, axis=0)[None],
    lambda image: image[None, :1, :1],
    lambda image: np.stack([image, image[::-1], image[:, ::-1]]),
)

# Further batches of features: all zero, and half as large. (Larger ones are outside what int8 is calibrated on.)
FEATURE_CHANGES: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
    lambda features: np.zeros_like(features[:1]),
    lambda features: features / 2,
)


@dataclass
class Questions:
    """Batches of images or of features, and the logits that are expected of each."""

    batches: list[np.ndarray] = field(default_factory=list)
    expected: list[np.ndarray] = field(default_factory=list)

    def add(self, batch: np.ndarray, logits: np.ndarray) -> None:
        """Add a batch, and the logits `(n, c)` that are expected of it."""
        self.batches.append(batch)
        self.expected.append(logits)


def ask_about_images(candidate: "Candidate") -> Questions:
    """Return test rows with the logits of their cached features, and changed images with those of this process.

    A network of another arithmetic than the cached features' is compared with this process for all images.
    """
    questions = Questions()
    rows = list(candidate.origin.sample_rows(candidate.tested_role, sum(BATCHES)))
    images = [row.image for row in rows]
    if candidate.has_own_arithmetic:
        logits = _compute_cached_logits(candidate, rows)  # (n, c)
    else:
        logits = np.concatenate([candidate.combined.compute_logits(image[None]) for image in images])  # (n, c)
    for positions in _split_positions(images):
        questions.add(np.stack([images[i] for i in positions]), logits[positions])
    for image, change in zip(itertools.cycle(images), CHANGES, strict=False):
        changed = change(image)
        questions.add(changed, candidate.combined.compute_logits(changed))
    if candidate.format.takes_encoded_images:
        from tfl.artefacts.decoding import decode

        image = _crop_to(images[-1], candidate.artefact.max_image_pixels)
        questions.add(decode.encode_png(image), candidate.combined.compute_logits(image[None]))
    return questions


def _compute_cached_logits(candidate: "Candidate", rows: list[datasets.Example]) -> np.ndarray:
    """Return the head's logits `(n, c)` of some rows' features in the cache."""
    origin, role = candidate.origin, candidate.tested_role
    positions = origin.find_positions(role, rows)
    by_view = [origin.cache.read_rows(role, positions, view=view) for view in candidate.run.views]
    return compute_logits(candidate.combined.head, average_views(by_view))


def _split_positions(images: list[np.ndarray]) -> list[np.ndarray]:
    """Split images into batches of several sizes if all are of one shape, else one by one; return their positions."""
    positions = np.arange(len(images))
    has_one_shape = len({image.shape for image in images}) == 1
    bounds = np.cumsum(BATCHES)[:-1] if has_one_shape else positions[1:]
    return [batch for batch in np.split(positions, bounds) if len(batch)]


def _crop_to(image: np.ndarray, max_pixels: int) -> np.ndarray:
    """Return an image, or as much of its top left as has at most `max_pixels`."""
    height, width, _ = image.shape
    if height * width <= max_pixels:
        return image
    columns = min(width, max_pixels)
    return image[: max_pixels // columns, :columns]


def ask_about_features(candidate: "Candidate") -> Questions:
    """Return test rows' features from all over the cache, and changed ones, with the head's own logits."""
    cache, role = candidate.origin.cache, candidate.tested_role
    count = cache.num_rows[role]
    positions = np.unique(np.linspace(0, count - 1, min(count, sum(BATCHES))).astype(int))
    features = average_views([cache.read_rows(role, positions, view=view) for view in candidate.run.views])  # (n, d)
    batches = [batch for batch in np.split(features, np.cumsum(BATCHES)[:-1]) if len(batch)]
    questions = Questions()
    for batch in [*batches, *(change(batches[-1]) for change in FEATURE_CHANGES)]:
        questions.add(batch, compute_logits(candidate.combined.head, batch))
    return questions
