"""Precompute: resolve and refuse, open, then run the one loop over the images.

Every view of each image is computed once, and never again. Rows are computed in shards. A shard is
read, run through the backbone in batches of one size, checked, and written to the disk, while the
next one is already being computed. A killed run loses at most these two shards, on an accelerator a
few more, and the same command resumes.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from tfl import __version__, datasets, engine
from tfl.backbones import build_backbone, names_weights_file, require_backbone
from tfl.cache import Cache, DamagedShardError, PartialCache, ReusableCaches, list_caches, open_cache
from tfl.datasets import GivenImages
from tfl.extraction.costs import choose_compute_dtype, log_costs
from tfl.extraction.extraction import Extraction
from tfl.extraction.plan import Plan
from tfl.extraction.quantization import add_quantized
from tfl.extraction.quantize_check import check_quantized, require_int8
from tfl.extraction.refusals import (
    accept_finished,
    list_bad_images,
    refuse_bad_images,
    require_coverage,
    require_excluded,
)
from tfl.files.paths import expand_user
from tfl.machine.keras_settings import pin_keras_settings
from tfl.machine.progress import Progress
from tfl.specs import (
    INT8,
    VIEWS,
    CacheSpec,
    DatasetSpec,
    FeatureSpec,
    Role,
    Settings,
    View,
    list_differences,
    require_views,
)

logger = logging.getLogger(__name__)


@pin_keras_settings()
def precompute(
    features: FeatureSpec = FeatureSpec(),
    dataset: DatasetSpec = DatasetSpec(),
    settings: Settings = Settings(),
    on_progress: Callable[[Progress], None] = lambda progress: None,
    views: tuple[View, ...] = ("original",),
    **given: Unpack[GivenImages],
) -> Path:
    """Run the frozen backbone once over every image of every role and leave a cache file.

    Row i of a role is the i-th image of its split in the dataset's stored order; its label and id
    are written in the same call. A finished file of the same spec is returned at once; an
    unfinished one is resumed. Features that other caches of the same dataset hold are copied by id
    and view: adding a view later computes only that view, and a cache with more layers and poolings
    gives the columns that are needed.

    Images may be given in Python, as `images` and `labels`: an array, or a list of arrays, of Pillow
    images or of paths; or a data-set object of TensorFlow, PyTorch or Keras, which has the labels
    too. `val` and `test` are further such pairs; without them the images are divided as `dataset`
    says. `class_names` names the numbers of the classes, and `name` the dataset. Arrays are written
    once to an .npz file beside the cache, paths to a table.

    Args:
      views: computed for every image of every role, see `tfl.specs.VIEWS`; `original` first, the
        others in any order.
      **given: images and labels in place of a named dataset, see `GivenImages`.

    Returns:
      The path of the cache file.

    Raises:
      SpecError: see `require_views`; or `settings.quantize_check` is set for another dtype than int8.
      DatasetError: see `open_dataset`; or an image cannot be read and `settings.on_bad_image` is
        `error`; or the splits lose classes and `settings.allow_missing_classes` is not set.
      BackboneError, AssetError: see `build_backbone`.
      CacheError: a feature is not finite or does not fit its dtype, another process is making this
        file, or the disk has no room; finished shards are kept.
    """
    require_views(views)
    require_backbone(features.backbone)  # before a dataset is downloaded for a misspelt name
    if given:
        dataset = datasets.store_images(given, dataset, settings.cache_dir)
    plan = _make_plan(choose_compute_dtype(features), dataset, settings, views)
    unfinished, path = plan.unfinished, plan.unfinished.path
    if path.exists():
        accept_finished(open_cache(path, expected=plan.spec), settings)
        unfinished.discard_if_finished()
        return path
    provenance: dict[str, Any] = {"typed": _describe_typed(features, dataset)}
    unfinished.require_storable(plan.dataset.class_names, provenance)
    unfinished.require_room(plan.backbone.num_features)
    with unfinished.hold(), engine.keep_freed_memory():
        if not path.exists():  # else another process has made it since
            reusable = _find_reusable(plan)
            log_costs(plan, features, reusable)
            extraction = Extraction(plan, reusable, on_progress)
            _run(plan, extraction, provenance)
    return path


def _make_plan(features: FeatureSpec, dataset: DatasetSpec, settings: Settings, views: tuple[View, ...]) -> Plan:
    """Open the dataset, refuse it if it is bad, build the backbone, and find finished shards."""
    require_int8(features, settings)
    runner = engine.resolve_engine(settings.engine, features.compute_dtype)
    source = datasets.open_dataset(dataset, settings.max_image_pixels)
    excluded = datasets.read_exclusion(dataset)
    resolved = datasets.resolve_spec(dataset, source)
    if settings.on_bad_image == "error":
        refuse_bad_images(list_bad_images(source, resolved))
    else:
        source.require_good_classes()
    require_coverage(datasets.count_labels(source, resolved), source, settings)
    require_excluded(excluded, source, resolved, list_caches(settings.cache_dir) if excluded else [])
    resolved = datasets.resolve_exclusion(resolved, excluded)
    backbone = build_backbone(features)
    if features.compute_dtype == INT8:
        backbone = add_quantized(backbone, features, source, resolved, settings.cache_dir)
    if settings.quantize_check:
        check_quantized(backbone, source, resolved)
    spec = CacheSpec(backbone.spec, resolved, tuple(view for view in VIEWS if view in views))
    path = settings.cache_dir / spec.file_name
    batch_size = _choose_batch_size(path, settings)
    making = {**engine.describe_engine(runner, batch_size), "shard_rows": settings.shard_rows}
    num_rows = {role: datasets.count_rows(source, split) for role, split in resolved.roles.items()}
    return Plan(source, spec, settings, backbone, PartialCache(path, spec, num_rows, making), excluded)


def _choose_batch_size(path: Path, settings: Settings) -> int:
    """Return the batch size to resume with, else the requested one, else the default."""
    requested = engine.round_to_devices(settings.batch_size)  # 0: none was requested
    return PartialCache.find_batch_size(path, requested) or engine.default_batch_size(settings.shard_rows)


def _describe_typed(features: FeatureSpec, dataset: DatasetSpec) -> dict[str, str]:
    """Return what the user typed, as it can be found from any working directory."""
    is_file = names_weights_file(features)
    weights = str(expand_user(features.weights).resolve()) if is_file else features.weights
    return {"weights": weights, "dataset": datasets.make_findable(dataset.dataset)}


def _find_reusable(plan: Plan) -> ReusableCaches:
    """Find caches whose features can be copied; log why the most similar one is not enough."""
    features, making = plan.spec.features, plan.unfinished.making
    similar = list_caches(plan.settings.cache_dir, f"*-{features.backbone_file_name}-{features.image_size}-*")
    _log_most_similar(plan.spec, similar)
    if features.compute_dtype != "float32":
        # In float32 engines differ in the last bits. Below it each rounds in its own way, by some
        # percent in bfloat16.
        similar = [cache for cache in similar if cache.provenance.engine == making.engine]
    return ReusableCaches(plan.spec, similar, plan.backbone.locate_columns)


def _log_most_similar(spec: CacheSpec, caches: list[Cache]) -> None:
    """Log in which fields the most similar cache of the same dataset differs."""
    differences = [
        (list_differences(cache.spec, spec), cache.path)
        for cache in caches
        if cache.spec.dataset.dataset == spec.dataset.dataset
    ]
    if not differences:
        return
    lines, path = min(differences, key=lambda entry: len(entry[0]))
    if lines:  # none: a copy of this very file under another name
        logger.info("%s cannot be reused as it is:" + "\n  %s" * len(lines), path, *lines)


def _run(plan: Plan, extraction: Extraction, provenance: dict[str, Any]) -> None:
    """Compute all missing shards and merge them; compute a damaged shard again, once.

    Raises:
      DamagedShardError: the disk damages a shard each time.
    """
    repeated: set[Path] = set()
    while True:
        extraction.compute_missing()
        try:
            _refuse_finished_shards(plan)
            plan.unfinished.finish(plan.dataset.class_names, _describe(plan, provenance))
            return
        except DamagedShardError as damage:
            if damage.path in repeated:
                raise
            logger.warning("%s; it is computed again", damage)
            repeated.add(damage.path)
            damage.path.unlink(missing_ok=True)


def _describe(plan: Plan, provenance: dict[str, Any]) -> dict[str, Any]:
    """Return the whole provenance; the merge adds costs and skipped images."""
    network = plan.backbone.quantized
    return {
        "tfl": __version__,
        **plan.unfinished.making.to_json(),
        **({} if network is None else {"quantized_network": asdict(network.origin)}),
        **provenance,
        "max_image_pixels": plan.settings.max_image_pixels,
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _refuse_finished_shards(plan: Plan) -> None:
    """Refuse skipped images and lost classes that only the images have shown; the shards are kept.

    An earlier process may have skipped images that this one must not skip.

    Raises:
      DatasetError: see `refuse_bad_images` and `require_coverage`.
    """
    unfinished = plan.unfinished
    skipped = [image for summary in unfinished.summaries() for image in summary.skipped]
    if plan.settings.on_bad_image == "error":
        refuse_bad_images(skipped)
    is_known_before = datasets.count_labels(plan.dataset, plan.spec.dataset) is not None
    if is_known_before and not skipped:
        return
    num_classes = len(plan.dataset.class_names)
    counts: dict[Role, np.ndarray] = {}
    for role in unfinished.num_rows:
        counts[role] = np.bincount(unfinished.labels(role), minlength=num_classes)  # (c,)
    if all(of_role.any() for of_role in counts.values()):  # else the merge names the role without images
        require_coverage(counts, plan.dataset, plan.settings)
