"""Reasons not to make a cache: bad images, and splits that lose classes."""

import logging
from collections.abc import Sequence

import numpy as np

from tfl import datasets
from tfl.cache import Cache, SkippedImage
from tfl.datasets import BadImage, Dataset
from tfl.errors import DatasetError
from tfl.specs import DatasetSpec, Role, Settings

logger = logging.getLogger(__name__)

MAX_NAMED = 10  # bad images in one message


def refuse_bad_images(bad: Sequence[BadImage | SkippedImage], count: int | None = None) -> None:
    """Refuse images that cannot be used, if there are any.

    Args:
      count: how many there are, if `bad` does not list all of them.

    Raises:
      DatasetError: there are; the error names the first.
    """
    num_bad = len(bad) if count is None else count
    if not num_bad:
        return
    lines = [image.reason for image in bad[:MAX_NAMED]]
    if num_bad > len(lines):
        lines.append(f"... and {num_bad - len(lines)} more")
    raise DatasetError(
        f"{num_bad} of the images cannot be used:",
        *(f"  {line}" for line in lines),
        "repair or remove them, or leave them out: --on-bad-image skip",
    )


def list_bad_images(dataset: Dataset, spec: DatasetSpec) -> list[BadImage]:
    """Return the bad images of all roles that are known before any image is read."""
    bad: list[BadImage] = []
    for split in spec.roles.values():
        bad += datasets.list_bad_images(dataset, split)
    return bad


def require_coverage(counts: dict[Role, np.ndarray] | None, dataset: Dataset, settings: Settings) -> None:
    """Refuse splits that lose classes; only warn about them if `settings` allow it.

    Args:
      counts: rows of each class by role; None if they are not known yet.

    Raises:
      DatasetError: see `datasets.require_coverage`.
    """
    choose = (
        "choose other splits (rows may be sorted by class; a percent slice of a folder, 'train[:50%]', takes the same "
        "share of every class)"
    )
    datasets.require_coverage(
        counts or {},
        dataset.class_names,
        title=f"the splits of {dataset.name} lose classes:",
        advice=f"{choose if dataset.division is None else 'give ' + datasets.DIVIDE_AGAIN}, or accept them as they "
        "are: --allow-missing-classes",
        is_allowed=settings.allow_missing_classes,
    )


def accept_finished(cache: Cache, settings: Settings) -> None:
    """Say that a cache is already there; refuse it if it lacks images that may not be left out now.

    Raises:
      DatasetError: it does.
    """
    made = cache.provenance
    bound = made.max_image_pixels or settings.max_image_pixels
    if made.num_skipped and bound != settings.max_image_pixels:
        logger.warning(
            "%s was made with --max-image-pixels %s; remove it to make it with %s",
            *(cache.path, bound, settings.max_image_pixels),
        )
    if settings.on_bad_image == "error":
        refuse_bad_images(made.skipped, made.num_skipped)
    left_out = f" ({made.num_skipped} bad images were left out)" if made.num_skipped else ""
    logger.info("already there: %s%s", cache.path, left_out)
