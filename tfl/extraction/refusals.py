"""Reasons not to make a cache: bad images, and splits that lose classes."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tfl import datasets
from tfl.cache import Cache, SkippedImage
from tfl.datasets import EXCLUDED, BadImage, Dataset
from tfl.errors import DatasetError
from tfl.specs import DatasetSpec, Role, Settings
from tfl.text import join_first

logger = logging.getLogger(__name__)

MAX_NAMED = 10  # bad images in one message


def refuse_bad_images(bad: Sequence[BadImage | SkippedImage], count: int | None = None) -> None:
    """Refuse images that cannot be used, if there are any.

    Args:
      count: how many there are, if `bad` does not list all of them.

    Raises:
      DatasetError: there are; the error names the first.
    """
    num_excluded = sum(image.reason == EXCLUDED for image in bad)  # by the user: they are not bad
    num_bad = (len(bad) if count is None else count) - num_excluded
    if num_bad <= 0:
        return
    bad = [image for image in bad if image.reason != EXCLUDED]
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


def require_excluded(excluded: frozenset[str], dataset: Dataset, spec: DatasetSpec, caches: Sequence[Cache]) -> None:
    """Refuse an id to leave out that no image has.

    Ids come from a cache of the same images, where there is one; else all images are read.

    Args:
      spec: resolved, its `exclude` still the name of the file.

    Raises:
      DatasetError: the first such ids.
    """
    if not excluded:
        return
    whole = replace(spec, exclude="")
    known = next((cache for cache in caches if cache.spec.dataset == whole), None)
    missing = set(excluded)
    for role, split in spec.roles.items():
        if known is not None:
            missing -= {id_.decode() for id_ in known.read_ids(role).tolist()}
        else:
            missing -= {item.id for item in datasets.read_rows(dataset, split, 0, datasets.count_rows(dataset, split))}
    if missing:
        listed = join_first([repr(id_) for id_ in sorted(missing)])
        raise DatasetError(
            f"{spec.exclude} names {len(missing):,} of {len(excluded):,} ids that are not in the splits of "
            f"{dataset.name}: {listed}; remove them from the file, or use the file for the splits that it was made for"
        )


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
    num_excluded = sum(image.reason == EXCLUDED for image in made.skipped)
    num_bad = made.num_skipped - num_excluded
    left_out = f" ({num_bad} bad images were left out)" if num_bad else ""
    left_out += f" ({num_excluded} images were left out by --exclude)" if num_excluded else ""
    logger.info("already there: %s%s", cache.path, left_out)
