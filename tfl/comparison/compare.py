"""Ours and the PyTorch reference side by side: the same pixels, features and training? And what does each cost?"""

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfl.cache import Cache, open_cache
from tfl.comparison import findings
from tfl.comparison.preparation import obstacles, prepare
from tfl.comparison.reference.job import WeightsName
from tfl.comparison.schedule import play
from tfl.comparison.table import FORMS, format_lines
from tfl.errors import CompareError, SpecError
from tfl.extraction.precompute import Progress
from tfl.files.paths import expand_user
from tfl.files.scratch import scratch_folder
from tfl.machine.keras_settings import pin_keras_settings
from tfl.reports.figures import draw_break_even
from tfl.specs.recipes import Reference

__all__ = ["compare", "format_lines"]

logger = logging.getLogger(__name__)


@pin_keras_settings()
def compare(
    cache_path: Path,
    num_images: int = 64,
    recipe: Reference = Reference(),  # noqa: B008 -- frozen
    weights: WeightsName = "keras",
    out: Path | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> dict[str, Any]:
    """Hold ours against the reference on the rows of a cache, and on the images of its first rows.

    Four forms take turns, each in a process of its own: the article's program; a fair one without caching; a fair one
    that caches; and ours. The first two train on a slice, `num_images` training images, and are measured on as many
    test images; the other two extract the features of the same images, and train on them and on all rows of the cache.

    Args:
      recipe: of every form; its epochs, batches, step size, momentum and seed.
      weights: whose the reference uses; with torchvision's own, pixels and features are not compared.
      out: where to leave the picture of the seconds over the epochs.

    Returns:
      What `lines` shows, in JSON's types: see `tfl.comparison.findings`.

    Raises:
      CompareError: PyTorch is not installed, torchvision's weights are not at hand, or a form failed.
      ExportError: the dataset or the weights that the cache was made with are not here.
      CacheError: see `open_cache`; or the cache has no training or no test rows.
    """
    _require_torch()
    if num_images < 1:
        raise SpecError(f"--images is at least 1, got {num_images}")
    cache = open_cache(cache_path)
    reasons = obstacles(cache)
    for reason in reasons:
        logger.warning("not compared: %s", reason)
    if not reasons:
        _say_fewer(cache, num_images)
    with scratch_folder() as scratch:
        job = prepare(cache, scratch, 0 if reasons else num_images, recipe, weights)
        found = findings.of(job, cache, play(job, on_progress), reasons)
    out = None if out is None else expand_user(out)
    if out is not None and reasons:
        logger.warning("%s is not drawn: it shows seconds of the forms that need images", out)
    elif out is not None:
        by_epoch = {FORMS[form]: seconds for form, seconds in found["seconds"]["by_epoch"].items()}
        draw_break_even(by_epoch, found["seconds"]["title"], out)
    return found


def _require_torch() -> None:
    for name in ("torch", "torchvision"):
        if importlib.util.find_spec(name) is None:
            raise CompareError(
                f"the reference is a PyTorch program, and {name} is not installed: pip install '.[torch]'"
            )


def _say_fewer(cache: Cache, num_images: int) -> None:
    for role in ("train", "test"):
        count = cache.num_rows.get(role, 0)
        if count < num_images:
            logger.warning(
                "%d %s images were asked for, and the cache has %d: those are compared", num_images, role, count
            )
