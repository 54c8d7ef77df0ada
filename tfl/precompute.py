"""The one loop over the images: every feature is computed once, and never again.

Rows are made in shards. A shard is read, run through the backbone in batches of one size, checked, and left on
the disk; a killed run loses at most the shard it was in, and the same command goes on from there.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tfl import __version__, datasets, engine
from tfl.backbone import build, require_architecture
from tfl.cache import Cache, Cost, DamagedShardError, PartialCache, Rows, list_caches, open_cache
from tfl.datasets import Dataset, Example
from tfl.errors import CacheError, DatasetError
from tfl.spec import DIGEST_PREFIX, CacheSpec, DatasetSpec, FeatureSpec, Role, Settings, differences

logger = logging.getLogger(__name__)


@dataclass
class Progress:
    """How far a precompute is; handed to the caller's function after each batch."""

    total: int
    finished: int = 0
    """Images whose features are there, by whatever way."""
    computed: int = 0
    """Images that went through the backbone in this process."""
    started: float = field(default_factory=time.monotonic)

    @property
    def images_per_second(self) -> float:
        """Rate of this process, its start-up included."""
        return self.computed / max(time.monotonic() - self.started, 1e-9)


def precompute(
    features: FeatureSpec,
    dataset: DatasetSpec,
    settings: Settings = Settings(),  # noqa: B008 -- frozen
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Path:
    """Run the frozen backbone once over every image of every role and leave a cache file.

    Row i of a role is the i-th image of its split in the dataset's stored order; its label and id are written in
    the same call. A finished file of the same spec is returned at once; an unfinished one is gone on with; rows of
    other files of the same features and the same dataset are copied by id.

    Returns:
      The path of the cache file.

    Raises:
      DatasetError, BackboneError, AssetError: see `open_dataset` and `build`.
      CacheError: a feature is not finite or does not fit its dtype, or another process is making this file.
    """
    require_architecture(features.backbone)  # before a dataset is downloaded for a misspelt name
    source = datasets.open_dataset(dataset)
    resolved = datasets.resolve(dataset, source)
    backbone = build(features)
    spec = CacheSpec(backbone.spec, resolved)
    path = settings.cache_dir / spec.file_name
    if path.exists():
        open_cache(path, expected=spec)
        logger.info("already there: %s", path)
        return path
    relatives = list_caches(settings.cache_dir)
    _say_nearest(spec, relatives)
    forward = engine.Forward(backbone, settings.batch_size)
    job = _Job(source, spec, settings, forward, _Donors(spec, relatives), on_progress)
    is_file = features.weights not in ("imagenet", "random")
    is_path = not isinstance(source, datasets.TfdsDataset)
    typed = {"weights": _typed(features.weights, is_file), "dataset": _typed(dataset.dataset, is_path)}
    return job.run(path, typed)


def _typed(word: str, is_path: bool) -> str:
    """A path as it will still be found from another working directory; a name as it is."""
    return str(Path(word).expanduser().resolve()) if is_path else word


def _say_nearest(spec: CacheSpec, caches: list[Cache]) -> None:
    """Tell in which fields the most similar cache of the same dataset differs, and so why it does not serve."""
    kin = [cache for cache in caches if cache.spec.dataset.dataset == spec.dataset.dataset]
    if not kin:
        return
    lines, nearest = min(((differences(cache.spec, spec), cache) for cache in kin), key=lambda pair: len(pair[0]))
    if lines:  # none: a copy of this very file under another name
        logger.info("\n  ".join([f"{nearest.path} does not serve:", *lines]))


class _Donors:
    """Rows that other cache files already hold under the same features of the same dataset, by id."""

    def __init__(self, spec: CacheSpec, caches: list[Cache]) -> None:
        self._places: dict[str, tuple[Cache, Role, int]] = {}
        for cache in caches:
            ours, theirs = spec.dataset, cache.spec.dataset
            same_content = ours.version == theirs.version and ours.version.startswith(DIGEST_PREFIX)
            same_dataset = same_content or (ours.dataset, ours.version) == (theirs.dataset, theirs.version)
            if same_dataset and cache.spec.features.fingerprint == spec.features.fingerprint:
                self._add(cache)

    def _add(self, cache: Cache) -> None:
        for role in cache.num_rows:
            ids = [id_.decode() for id_ in cache.read_ids(role).tolist()]
            self._places |= {id_: (cache, role, row) for row, id_ in enumerate(ids)}
        logger.info("rows that %s holds are copied, not computed again", cache.path)

    def __contains__(self, id_: str) -> bool:
        return id_ in self._places

    def read(self, ids: list[str]) -> dict[str, np.ndarray]:
        """The features `(d,)` of each of these ids."""
        wanted: dict[tuple[Path, Role], list[tuple[int, str]]] = {}
        caches = {}
        for id_ in ids:
            cache, role, row = self._places[id_]
            caches[cache.path, role] = cache
            wanted.setdefault((cache.path, role), []).append((row, id_))
        found: dict[str, np.ndarray] = {}
        for (path, role), places in wanted.items():
            places.sort()
            features = caches[path, role].read_rows(role, np.asarray([row for row, _ in places]))
            found |= {id_: feature for (_, id_), feature in zip(places, features, strict=True)}
        return found


@dataclass
class _Job:
    source: Dataset
    spec: CacheSpec
    settings: Settings
    forward: engine.Forward
    donors: _Donors
    on_progress: Callable[[Progress], None]
    seen: set[str] = field(default_factory=set)

    def run(self, path: Path, typed: dict[str, str]) -> Path:
        num_rows = {role: datasets.count_rows(self.source, s) for role, s in self.spec.dataset.roles.items()}
        making = {**self.forward.description, "shard_rows": self.settings.shard_rows}
        partial = PartialCache(path, self.spec, self.source.class_names, making)
        progress = Progress(sum(num_rows.values()))
        with partial.held():
            while not path.exists():
                self._make_missing(partial, num_rows, progress)
                try:
                    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                    provenance = {"tfl": __version__, **making, "typed": typed, "made": made}
                    partial.finish(num_rows, self.settings.shard_rows, provenance)
                except DamagedShardError as damage:
                    logger.warning("%s", damage)
        return path

    def _make_missing(self, partial: PartialCache, num_rows: dict[Role, int], progress: Progress) -> None:
        progress.finished = 0
        self.seen.clear()
        for role, count in num_rows.items():
            for start in range(0, count, self.settings.shard_rows):
                stop = min(start + self.settings.shard_rows, count)
                if not partial.has(role, start):
                    started, computed = time.monotonic(), progress.computed
                    rows_here = datasets.rows(self.source, self.spec.dataset.roles[role], start, stop)
                    examples = datasets.usable(rows_here)
                    rows = self._shard(examples, progress)
                    partial.write(role, start, rows, Cost(time.monotonic() - started, progress.computed - computed))
                else:
                    progress.finished += stop - start
        self.on_progress(progress)

    def _shard(self, examples: Iterator[Example], progress: Progress) -> Rows:
        """Features, labels and ids of a shard's images; only images that no donor holds are computed."""
        ids: list[str] = []
        labels: list[int] = []
        computed: dict[str, np.ndarray] = {}
        waiting: list[Example] = []
        for example in examples:
            self._check(example)
            ids.append(example.id)
            labels.append(example.label)
            if example.id in self.donors:
                progress.finished += 1
            else:
                waiting.append(example)
            if len(waiting) == self.settings.batch_size:
                computed |= self._compute(waiting, progress)
                waiting = []
        if waiting:
            computed |= self._compute(waiting, progress)
        copied = self.donors.read([id_ for id_ in ids if id_ not in computed])
        features = np.stack([computed[id_] if id_ in computed else copied[id_] for id_ in ids])  # (n, d)
        return Rows(features, np.asarray(labels, np.int64), np.asarray([id_.encode() for id_ in ids]))

    def _check(self, example: Example) -> None:
        """Refuse at once what the merge would refuse in the end (it also sees the shards of earlier processes)."""
        if example.id in self.seen:
            raise DatasetError(f"the id {example.id!r} stands in two rows; ids are unique over all roles")
        self.seen.add(example.id)
        names = self.source.class_names
        if not 0 <= example.label < len(names):
            raise DatasetError(
                f"image {example.id!r} has label {example.label}; expected 0 to {len(names) - 1} for the classes "
                f"{', '.join(names[:10])} (a split without labels, perhaps: leave it out with an empty split)"
            )

    def _compute(self, examples: list[Example], progress: Progress) -> dict[str, np.ndarray]:
        features = self.forward.features([example.image for example in examples])  # (n, d) float32
        with np.errstate(over="ignore"):
            stored = features.astype(self.spec.features.feature_dtype)
        for example, wide, narrow in zip(examples, features, stored, strict=True):
            if not np.isfinite(narrow).all():
                value = wide[~np.isfinite(narrow)][0]
                raise CacheError(
                    f"the features of image {example.id!r} hold {value}, which {stored.dtype} cannot store as a finite "
                    "number; try --feature-dtype float32 or --compute-dtype float32"
                )
        progress.finished += len(examples)
        progress.computed += len(examples)
        self.on_progress(progress)
        return {example.id: feature for example, feature in zip(examples, stored, strict=True)}
