"""The one loop over the images: every view of each is computed once, and never again.

Rows are made in shards. A shard is read, run through the backbone in batches of one size, checked, and left on
the disk, while the next one is already at work; a killed run loses at most these two, on an accelerator some more, and
the same command goes on.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfl import __version__, datasets, engine
from tfl.backbones.backbone import Backbone, build_backbone, require_architecture
from tfl.cache import (
    MAX_ID_BYTES,
    Cache,
    CachedRows,
    Cost,
    DamagedShardError,
    Donors,
    PartialCache,
    Shard,
    UniqueIds,
    list_caches,
    open_cache,
)
from tfl.datasets import BadImage, Dataset, Example
from tfl.errors import CacheError, DatasetError
from tfl.files.paths import expand_user
from tfl.machine import batching
from tfl.machine.keras_settings import pin_keras_settings
from tfl.specs import VIEWS, CacheSpec, DatasetSpec, FeatureSpec, Role, Settings, View, list_differences, require_views

logger = logging.getLogger(__name__)

MAX_NAMED = 10  # bad images in one message
# An accelerator computes a shard in less time than a disk may take to say that one is written.
BATCHES_AHEAD = 2  # that it has been given when the one before them is waited for
SHARDS_AT_ONCE = 4  # that are written


@dataclass
class Progress:
    """How far a precompute is; handed to the caller's function after each batch.

    An image counts as often as there are views.
    """

    total: int
    finished: int = 0
    """Images that are done with, by whatever way."""
    computed: int = 0
    """Images that went through the backbone in this process."""
    started: float = field(default_factory=time.monotonic)

    @property
    def images_per_second(self) -> float:
        """Rate of this process, its start-up included."""
        return self.computed / max(time.monotonic() - self.started, 1e-9)


@pin_keras_settings()
def precompute(
    features: FeatureSpec,
    dataset: DatasetSpec,
    settings: Settings = Settings(),  # noqa: B008 -- frozen
    on_progress: Callable[[Progress], None] = lambda progress: None,
    views: tuple[View, ...] = ("original",),
) -> Path:
    """Run the frozen backbone once over every image of every role and leave a cache file.

    Row i of a role is the i-th image of its split in the dataset's stored order; its label and id are written in
    the same call. A finished file of the same spec is returned at once; an unfinished one is gone on with. What
    other files of the same dataset hold of the same features is copied by id and view: a view added later costs that
    view alone, and a file of more layers and poolings gives its columns of those that are asked for.

    Args:
      views: what is computed of every image of every role, see `tfl.specs.VIEWS`; `original` first, the order of the
        others does not count.

    Returns:
      The path of the cache file.

    Raises:
      SpecError: see `require_views`.
      DatasetError: see `open_dataset`; or an image cannot be read and `settings.on_bad_image` is `error`; or the splits
        lose classes and `settings.allow_missing_classes` is not set.
      BackboneError, AssetError: see `build`.
      CacheError: a feature is not finite or does not fit its dtype, another process is making this file, or the disk
        has no room; finished shards are kept.
    """
    require_views(views)
    require_architecture(features.backbone)  # before a dataset is downloaded for a misspelt name
    source = datasets.open_dataset(dataset, settings.max_image_pixels)
    resolved = datasets.resolve_spec(dataset, source)
    if settings.on_bad_image == "error":
        _refuse([bad for split in resolved.roles.values() for bad in datasets.list_bad_images(source, split)])
    elif isinstance(source, datasets.FolderDataset):
        source.require_good_classes()
    _require_coverage(datasets.count_labels(source, resolved), source, settings)
    backbone = build_backbone(features)
    spec = CacheSpec(backbone.spec, resolved, tuple(view for view in VIEWS if view in views))
    path = settings.cache_dir / spec.file_name
    runner = engine.resolve_engine(settings.engine, features.compute_dtype)
    requested = engine.round_to_devices(settings.batch_size)
    batch_size = PartialCache.batch_size_of(path, requested) or engine.default_batch_size(settings.shard_rows)
    making = {**engine.describe_engine(runner, batch_size), "shard_rows": settings.shard_rows}
    num_rows = {role: datasets.count_rows(source, split) for role, split in resolved.roles.items()}
    partial = PartialCache(path, spec, num_rows, making)
    if path.exists():
        _accept(open_cache(path, expected=spec), settings)
        partial.discard_if_finished()
        return path
    provenance: dict[str, object] = {"typed": _typed(features, dataset, source)}
    partial.require_storable(source.class_names, provenance)
    partial.require_room(backbone.num_features)
    with partial.held():
        if not path.exists():  # else another process has made it since
            relatives = list_caches(settings.cache_dir, f"*-{spec.features.backbone}-{spec.features.image_size}-*")
            _say_nearest(spec, relatives)
            donors = Donors(spec, _rounded_alike(relatives, spec.features, runner), backbone.columns)
            job = _Job(source, spec, settings, backbone, partial, donors, on_progress)
            job.run(provenance)
    return path


def _typed(features: FeatureSpec, dataset: DatasetSpec, source: Dataset) -> dict[str, str]:
    """What was typed, paths as they will still be found from another working directory."""
    is_file = features.weights not in ("imagenet", "random")
    is_path = not isinstance(source, datasets.TfdsDataset)
    words = {"weights": (features.weights, is_file), "dataset": (dataset.dataset, is_path)}
    return {key: str(expand_user(word).resolve()) if is_place else word for key, (word, is_place) in words.items()}


def _accept(cache: Cache, settings: Settings) -> None:
    count = cache.num_skipped
    bound = cache.provenance.get("max_image_pixels", settings.max_image_pixels)
    if count and bound != settings.max_image_pixels:
        logger.warning(
            "%s was made with --max-image-pixels %s; remove it to make it with %s",
            *(cache.path, bound, settings.max_image_pixels),
        )
    if settings.on_bad_image == "error":
        skipped = cache.provenance.get("skipped", [])
        _refuse([BadImage(image["id"], image["reason"]) for image in skipped], count)
    logger.info("already there: %s%s", cache.path, f" ({count} bad images were left out)" if count else "")


def _rounded_alike(caches: list[Cache], features: FeatureSpec, runner: str) -> list[Cache]:
    """Return the caches whose rows may stand beside ours.

    In float32 engines differ in the last bits. Below it each rounds in its own way, by some percent in bfloat16.
    """
    if features.compute_dtype == "float32":
        return caches
    return [cache for cache in caches if cache.provenance.get("engine") == runner]


def _say_nearest(spec: CacheSpec, caches: list[Cache]) -> None:
    """Tell in which fields the most similar cache of the same dataset differs, and so why it does not serve."""
    kin = [cache for cache in caches if cache.spec.dataset.dataset == spec.dataset.dataset]
    if not kin:
        return
    lines, nearest = min(((list_differences(cache.spec, spec), cache) for cache in kin), key=lambda pair: len(pair[0]))
    if lines:  # none: a copy of this very file under another name
        logger.info("%s does not serve:" + "\n  %s" * len(lines), nearest.path, *lines)


def _require_coverage(counts: dict[Role, np.ndarray] | None, source: Dataset, settings: Settings) -> None:
    """Refuse splits that lose classes, or tell of it where they are allowed to.

    Args:
      counts: rows of each class by role; None where they are not known yet.

    Raises:
      DatasetError: see `datasets.uncovered`.
    """
    if not (faults := datasets.find_lost_classes(counts or {}, source.class_names)):
        return
    lines = [f"the splits of {source.name} lose classes:", *(f"  {fault}" for fault in faults)]
    if not settings.allow_missing_classes:
        raise DatasetError(
            *lines,
            "choose other splits (rows may stand class by class; a percent slice of a folder, 'train[:50%]', "
            "takes every class alike), or take them as they are: --allow-missing-classes",
        )
    logger.warning("%s", "\n".join(lines))


def _refuse(bad: list[BadImage], count: int | None = None) -> None:
    """Refuse images that cannot be used, if there are any.

    Args:
      count: how many there are, if `bad` does not name all.
    """
    num_bad = len(bad) if count is None else count
    if num_bad:
        named = [image.reason for image in bad[:MAX_NAMED]]
        more = [f"... and {num_bad - len(named)} more"] if num_bad > len(named) else []
        raise DatasetError(
            f"{num_bad} of the images cannot be used:",
            *(f"  {line}" for line in [*named, *more]),
            "repair or remove them, or leave them out: --on-bad-image skip",
        )


def _num_bytes(image: Example | BadImage) -> int:
    return image.image.nbytes if isinstance(image, Example) else 0


def _stretches(shards: list[Shard]) -> Iterator[Shard]:
    """Shards that follow one another as one: a dataset is opened for each, which takes TFDS a fifth of a second."""
    stretch = shards[0]
    for shard in shards[1:]:
        if (shard.role, shard.start) == (stretch.role, stretch.stop):
            stretch = stretch._replace(stop=shard.stop)
        else:
            yield stretch
            stretch = shard
    yield stretch


class _Part:
    """A shard in the making."""

    def __init__(self, shard: Shard, views: tuple[View, ...]) -> None:
        self.shard = shard
        self.labels: dict[bytes, int] = {}
        self.features: dict[View, dict[bytes, np.ndarray]] = {view: {} for view in views}
        self.skipped: list[BadImage] = []


class _Batch(NamedTuple):
    """Images on their way through the backbone; `wait` gives their features."""

    part: _Part
    view: View
    examples: list[Example]
    wait: Callable[[], np.ndarray]


@dataclass
class _Job:
    source: Dataset
    spec: CacheSpec
    settings: Settings
    backbone: Backbone
    partial: PartialCache
    donors: Donors
    on_progress: Callable[[Progress], None]

    def __post_init__(self) -> None:
        self.progress = Progress(sum(self.partial.num_rows.values()) * len(self.spec.views))
        self.computing: deque[_Batch] = deque()
        self.batches_ahead, self.shards_at_once = (
            (BATCHES_AHEAD, SHARDS_AT_ONCE) if engine.has_accelerator() else (0, 1)
        )

    @cached_property
    def forward(self) -> engine.Forward:
        """Compiled when the first image needs it: a run that was killed in its merge has none."""
        making = self.partial.making
        logger.info("%s on %s, batches of %d", making["engine"], making["device"], making["batch_size"])
        return engine.Forward(self.backbone, making["batch_size"], making["engine"])

    def run(self, provenance: dict[str, object]) -> None:
        made_again: set[Path] = set()
        while True:
            self._make_missing()
            try:
                self._refuse_skipped()
                self._refuse_uncovered()
                made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                bound = {"max_image_pixels": self.settings.max_image_pixels}
                described = {"tfl": __version__, **self.partial.making, **provenance, **bound, "made": made}
                self.partial.finish(self.source.class_names, described)
                return
            except DamagedShardError as damage:
                if damage.path in made_again:  # the disk damages it each time
                    raise
                logger.warning("%s; it is made again", damage)
                made_again.add(damage.path)
                damage.path.unlink(missing_ok=True)

    def _refuse_uncovered(self) -> None:
        """Look again where labels were not known before the images, or images were left out; the shards are kept."""
        skipped = any(summary.skipped for summary in self.partial.summaries())
        if skipped or datasets.count_labels(self.source, self.spec.dataset) is None:
            num_classes = len(self.source.class_names)
            roles: dict[Role, np.ndarray] = {role: self.partial.labels(role) for role in self.partial.num_rows}
            counts = {role: np.bincount(labels, minlength=num_classes) for role, labels in roles.items()}
            if all(of_role.any() for of_role in counts.values()):  # else the merge says whose images were left out
                _require_coverage(counts, self.source, self.settings)

    def _refuse_skipped(self) -> None:
        """An earlier process may have been told to leave images out that this one was not."""
        if self.settings.on_bad_image == "error":
            skipped = [image for summary in self.partial.summaries() for image in summary.skipped]
            _refuse(skipped)

    def _make_missing(self) -> None:
        """All shards that are not finished, in batches of half the size each time that memory does not suffice."""
        while missing := self.partial.missing():
            num_missing = sum(shard.num_rows for shard in missing)
            self.progress.finished = self.progress.total - num_missing * len(self.spec.views)
            try:
                self._make(missing)
                break
            except Exception as error:
                size = self.partial.making["batch_size"]
                smaller = engine.round_to_devices(math.ceil(size / 2))
                if not engine.is_out_of_memory(error) or smaller == size:
                    raise
                reason = " ".join(str(error).split())[:200]
            logger.warning("out of memory with batches of %d, going on with %d: %s", size, smaller, reason)
            self.partial.reduce_batches(smaller)
            self.__dict__.pop("forward", None)
        self.progress.finished = self.progress.total
        self.on_progress(self.progress)

    def _make(self, shards: list[Shard]) -> None:
        """While this thread computes, one reads the next images, and one or some write the shards before."""
        seen, started, computed = UniqueIds(), time.monotonic(), self.progress.computed
        self.computing.clear()
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(self.shards_at_once) as writer:
            images = chain.from_iterable(batching.prefetch(reader, self._chunks(shards)))
            writing: deque[Future[None]] = deque()
            parts: deque[_Part] = deque()
            for shard in shards:
                parts.append(_Part(shard, self.spec.views))
                self._compute(parts[-1], islice(images, shard.num_rows))
                if shard is shards[-1]:
                    self._wait(0)
                while parts and not any(batch.part is parts[0] for batch in self.computing):
                    rows, skipped, copied = self._rows(parts[0])
                    if (repeated := seen.add(rows.ids)) is not None:  # the merge sees earlier processes' shards too
                        raise DatasetError(f"the id {repeated!r} stands in two rows; ids are unique over all roles")
                    if len(writing) == self.shards_at_once:
                        writing.popleft().result()
                    now = time.monotonic()
                    cost = Cost(now - started, self.progress.computed - computed, copied)
                    started, computed = now, self.progress.computed
                    writing.append(writer.submit(self.partial.write, parts.popleft().shard, rows, cost, skipped))
            for written in writing:
                written.result()

    def _chunks(self, shards: list[Shard]) -> Iterator[list[Example | BadImage]]:
        """The shards' images, as many at a time as a batch has, or fewer if they are large."""
        for role, start, stop in _stretches(shards):
            images = datasets.read_rows(self.source, self.spec.dataset.roles[role], start, stop)
            try:
                yield from batching.split_into_batches(images, _num_bytes, self.partial.making["batch_size"])
            except MemoryError as error:  # smaller batches would not help
                raise DatasetError(f"too little memory to read {self.source.name}: {error}") from error

    def _compute(self, part: _Part, images: Iterable[Example | BadImage]) -> None:
        """Give a shard's images to the backbone, in batches; the last of them may still be on their way."""
        waiting: dict[View, list[Example]] = {view: [] for view in self.spec.views}
        for image in images:
            if isinstance(image, BadImage):
                part.skipped.append(self._skip(image))
                continue
            id_ = self._checked_id(image, part.labels)
            part.labels[id_] = image.label
            for view, batch in waiting.items():
                if self.donors.holds(id_, view):
                    self.progress.finished += 1
                else:
                    batch.append(self._small(image, view))
                if len(batch) == self.partial.making["batch_size"]:
                    self._start(part, view, batch)
                    waiting[view] = []
        for view, batch in waiting.items():
            if batch:
                self._start(part, view, batch)

    def _start(self, part: _Part, view: View, examples: list[Example]) -> None:
        wait = self.forward.start([example.image for example in examples], view)
        self.computing.append(_Batch(part, view, examples, wait))
        self._wait(self.batches_ahead)

    def _wait(self, num_left: int) -> None:
        """Wait for the oldest batches, until no more than these are on their way."""
        while len(self.computing) > num_left:
            batch = self.computing.popleft()
            batch.part.features[batch.view] |= self._stored(batch)
            self.progress.finished += len(batch.examples)
            self.progress.computed += len(batch.examples)
            self.on_progress(self.progress)

    def _stored(self, batch: _Batch) -> dict[bytes, np.ndarray]:
        """The batch's features as they go into the file, by id."""
        features = batch.wait()  # (n, d) float32
        with np.errstate(over="ignore"):
            stored = features.astype(self.spec.features.feature_dtype)
        if not np.isfinite(stored).all():
            row = int(np.argmin(np.isfinite(stored).all(axis=1)))
            value = features[row][~np.isfinite(stored[row])][0]
            raise CacheError(
                f"the features of image {batch.examples[row].id!r} hold {value}, which {stored.dtype} cannot store as "
                "a finite number; try --feature-dtype float32 or --compute-dtype float32"
            )
        return {example.id.encode(): feature for example, feature in zip(batch.examples, stored, strict=True)}

    def _rows(self, part: _Part) -> tuple[CachedRows, list[BadImage], list[dict[str, Any]]]:
        """A shard's features, labels and ids; the images that are left out; whence what is copied, not computed."""
        copied: list[dict[str, Any]] = []
        for view, features in part.features.items():
            held, origins = self.donors.read([id_ for id_ in part.labels if id_ not in features], view)
            features.update(held)
            copied += origins
        original, *further = (self._matrix(list(part.labels), features) for features in part.features.values())
        numbers, ids = np.asarray(list(part.labels.values()), np.int64), np.asarray(list(part.labels), "S")
        views = dict(zip(self.spec.views[1:], further, strict=True))
        return CachedRows(original, numbers, ids, views), part.skipped, copied

    def _small(self, example: Example, view: View) -> Example:
        """The example, a large image as the network is shown it: many have to wait until they are a batch."""
        if example.image.nbytes <= batching.MAX_BATCH_BYTES // self.partial.making["batch_size"]:
            return example
        try:
            return example._replace(image=self.forward.presented(example.image, view))
        except Exception as error:
            if not engine.is_out_of_memory(error):
                raise
            height, width, _ = example.image.shape
            raise DatasetError(
                f"memory does not suffice for image {example.id!r} alone, of {width} x {height} pixels; "
                "make it smaller, or remove it"
            ) from error

    def _matrix(self, ids: list[bytes], features: dict[bytes, np.ndarray]) -> np.ndarray:
        """A row of features for each id, `(n, d)`."""
        matrix = np.zeros((len(ids), self.backbone.num_features), self.spec.features.feature_dtype)
        for row, id_ in enumerate(ids):
            matrix[row] = features[id_]
        return matrix

    def _skip(self, image: BadImage) -> BadImage:
        if self.settings.on_bad_image == "error":
            _refuse([image])
        logger.warning("left out: %s", image.reason)
        self.progress.finished += len(self.spec.views)
        return image

    def _checked_id(self, example: Example, seen: Collection[bytes]) -> bytes:
        """Refuse at once what the merge would refuse in the end."""
        id_ = example.id.encode()
        if id_ in seen:
            raise DatasetError(f"the id {example.id!r} stands in two rows; ids are unique over all roles")
        if len(id_) > MAX_ID_BYTES:
            raise DatasetError(f"the id {example.id[:80]!r}... has {len(id_)} bytes; at most {MAX_ID_BYTES} are stored")
        names = self.source.class_names
        if not 0 <= example.label < len(names):
            raise DatasetError(
                f"image {example.id!r} has label {example.label}; expected 0 to {len(names) - 1} for the classes "
                f"{', '.join(names[:10])} (a split without labels, perhaps: leave it out with an empty split)"
            )
        return id_
