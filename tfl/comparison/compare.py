"""Compare ours with the PyTorch reference: are pixels, features and training the same, and what does each cost?"""

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path

from tfl.cache import Cache, open_cache
from tfl.comparison.break_even import draw_break_even
from tfl.comparison.findings import Findings
from tfl.comparison.preparation import list_obstacles, prepare
from tfl.comparison.programs import TITLES, run_programs
from tfl.comparison.reference.setup import WeightsName
from tfl.comparison.summary import summarize
from tfl.errors import CompareError, SpecError
from tfl.files.paths import expand_user
from tfl.files.scratch import scratch_folder
from tfl.heads import Reference
from tfl.machine.keras_settings import pin_keras_settings
from tfl.machine.progress import Progress

logger = logging.getLogger(__name__)


@pin_keras_settings()
def compare(
    cache_path: Path | str,
    num_images: int = 64,
    recipe: Reference = Reference(),
    weights: WeightsName = "keras",
    out: Path | str | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Findings:
    """Compare ours with the PyTorch reference on the rows of a cache, and on the images of its first rows.

    Four programs take turns, each in a process of its own: the article's; a fair one without
    caching; a fair one that caches; and ours. The first two train on a slice, `num_images` training
    images, and are tested on as many test images. The other two extract the features of the same
    images, and train on them and on all rows of the cache.

    Args:
      recipe: epochs, batches, step size, momentum and seed of every program.
      weights: which weights the reference uses; with torchvision's own, pixels and features are not
        compared.
      out: PNG file for the picture of the seconds over the epochs.

    Raises:
      CompareError: PyTorch is not installed, torchvision's weights are not at hand, or a program
        failed.
      ExportError: the dataset or the weights that the cache was made with are not here.
      CacheError: see `open_cache`; or the cache has no training or no test rows.
    """
    _require_torch()
    if num_images < 1:
        raise SpecError(f"--images is at least 1, got {num_images}")
    cache = open_cache(cache_path)
    obstacles = list_obstacles(cache)
    for reason in obstacles:
        logger.warning("not compared: %s", reason)
    if not obstacles:
        _warn_of_fewer(cache, num_images)
    with scratch_folder() as scratch:
        setup = prepare(cache, scratch, 0 if obstacles else num_images, recipe, weights)
        found = summarize(setup, cache, run_programs(setup, on_progress), obstacles)
    if out is not None:
        _draw(found, expand_user(out))
    return found


def _draw(found: Findings, path: Path) -> None:
    if found.seconds is None:
        logger.warning("%s is not drawn: it shows seconds of the programs that need images", path)
        return
    by_epoch = {TITLES[name]: seconds for name, seconds in found.seconds.by_epoch.items()}
    draw_break_even(by_epoch, found.seconds.title, path)


def _require_torch() -> None:
    for name in ("torch", "torchvision"):
        if importlib.util.find_spec(name) is None:
            raise CompareError(
                f"the reference is a PyTorch program, and {name} is not installed: pip install '.[torch]'"
            )


def _warn_of_fewer(cache: Cache, num_images: int) -> None:
    for role in ("train", "test"):
        count = cache.num_rows.get(role, 0)
        if count < num_images:
            logger.warning(
                "%d %s images were asked for, and the cache has %d: those are compared",
                num_images,
                role,
                count,
            )
