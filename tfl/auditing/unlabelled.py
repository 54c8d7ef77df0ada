"""What to label next: images without labels, the least certain first, one of each picture."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tfl import datasets, engine
from tfl.artefacts.origin import Origin
from tfl.auditing.projection import Rows, make_projection, to_probabilities
from tfl.auditing.record import LabelNext
from tfl.errors import DatasetError
from tfl.metrics import fit_temperature

logger = logging.getLogger(__name__)

BATCH_SIZE = 32
REPEATED_COSINE = 0.9  # of whitened features: a second image of a picture, whose label tells little


def list_unlabelled(folder: Path) -> list[Path]:
    """Return the image files in a folder and below it.

    Raises:
      DatasetError: there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise DatasetError(f"--unlabelled is a folder of images, and {folder} is none")
    paths = datasets.list_images(folder)
    if not paths:
        raise DatasetError(f"there is no image file in {folder} or below it")
    return paths


def rank_unlabelled(origin: Origin, rows: Rows, paths: list[Path]) -> tuple[LabelNext, ...]:
    """Return the images by the probability that their most probable class is wrong; repeated pictures follow last.

    Raises:
      ExportError: the backbone is not the one that the features were made with.
      DatasetError: none of the images can be read.
    """
    kept, features = _compute_features(origin, paths)
    projected = make_projection(rows.fit)(features)  # (m, d) to (m, r)
    outputs = projected @ rows.fit.compute_kernel(rows.l2) + rows.fit.mean.astype(np.float32)  # (m, c)
    probabilities = to_probabilities(outputs, fit_temperature(rows.outputs, rows.labels))
    doubts = 1 - probabilities.max(axis=1)  # (m,)
    whitened = rows.fit.whiten(projected, rows.whitened.shape[1])
    order = _put_repeated_last(whitened, np.argsort(-doubts, kind="stable"))
    names = origin.cache.class_names
    return tuple(
        LabelNext(datasets.to_text(kept[row]), names[probabilities[row].argmax()], round(float(doubts[row]), 4))
        for row in order
    )


def _put_repeated_last(whitened: np.ndarray, order: np.ndarray) -> list[int]:
    """Return the order with images last that resemble an earlier one."""
    first: list[int] = []
    repeated: list[int] = []
    for row in order.tolist():
        is_repeated = bool(first) and float((whitened[first] @ whitened[row]).max()) >= REPEATED_COSINE
        (repeated if is_repeated else first).append(row)
    return first + repeated


def _compute_features(origin: Origin, paths: list[Path]) -> tuple[list[Path], np.ndarray]:
    """Return the paths of the images that can be read, and their features `(m, d)`."""
    backbone = origin.backbone
    forward = engine.Forward(backbone, BATCH_SIZE, engine.resolve_engine("auto", backbone.spec.compute_dtype))
    kept: list[Path] = []
    blocks: list[np.ndarray] = []
    batch: list[np.ndarray] = []
    for path, image in _read_images(paths):
        kept.append(path)
        batch.append(forward.presented(image))
        if len(batch) == BATCH_SIZE:
            blocks.append(forward.features(batch))
            batch = []
    if batch:
        blocks.append(forward.features(batch))
    if not blocks:
        raise DatasetError(f"none of the {len(paths):,} images of --unlabelled can be read")
    return kept, np.concatenate(blocks)


def _read_images(paths: list[Path]) -> Iterator[tuple[Path, np.ndarray]]:
    for path in paths:
        try:
            yield path, datasets.read_image(path)
        except (DatasetError, OSError, ValueError) as error:
            logger.warning("left out: %s: %s", os.fsdecode(path), error)
