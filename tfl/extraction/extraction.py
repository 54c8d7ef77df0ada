"""Extraction: images of the missing shards go through the backbone in batches."""

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain, islice

from tfl import datasets, engine
from tfl.cache import ReusableCaches, Shard
from tfl.datasets import BadImage, Example
from tfl.errors import DatasetError
from tfl.extraction.assembly import AssembledShard, ShardAssembly
from tfl.extraction.batch_runner import BatchRunner
from tfl.extraction.plan import Plan
from tfl.extraction.refusals import refuse_bad_images
from tfl.extraction.shard_writer import ShardWriter
from tfl.machine import batching
from tfl.machine.progress import Progress
from tfl.specs import View
from tfl.text import to_one_line

logger = logging.getLogger(__name__)

MAX_REASON = 200  # characters of what a backend said

# An accelerator computes a shard in less time than a disk may take to report that one is written.
BATCHES_AHEAD = 2  # batches given to an accelerator while an earlier one is waited for
SHARDS_AT_ONCE = 4  # shards that are being written while an accelerator computes


class Extraction:
    """The work of one precompute: every missing shard computed, or copied, and written.

    Args:
      on_progress: called with the `Progress` after each batch.
    """

    def __init__(self, plan: Plan, reusable: ReusableCaches, on_progress: Callable[[Progress], None]) -> None:
        self._plan = plan
        self._reusable = reusable
        self._on_progress = on_progress
        self._progress = Progress(plan.num_images)
        self._runner = BatchRunner(plan)
        has_accelerator = engine.has_accelerator()
        self._batches_ahead = BATCHES_AHEAD if has_accelerator else 0
        self._shards_at_once = SHARDS_AT_ONCE if has_accelerator else 1

    def compute_missing(self) -> None:
        """Compute all missing shards; if a batch runs out of memory, halve it and repeat the shard.

        Raises:
          DatasetError, CacheError: see `precompute`.
        """
        while missing := self._plan.unfinished.missing():
            num_missing = sum(shard.num_rows for shard in missing)
            self._progress.finished = self._progress.total - num_missing * len(self._plan.spec.views)
            try:
                self._compute(missing)
                break
            except Exception as error:
                if not engine.is_out_of_memory(error) or not self._halve_batches(error):
                    raise
        self._progress.finished = self._progress.total
        self._on_progress(self._progress)

    def _halve_batches(self, error: Exception) -> bool:
        """Continue with batches of half the size; return False if they cannot be smaller."""
        size = self._plan.batch_size
        smaller = engine.round_to_devices(math.ceil(size / 2))
        if smaller == size:
            return False
        reason = to_one_line(error, MAX_REASON)
        logger.warning("out of memory with batches of %d, continuing with %d: %s", size, smaller, reason)
        self._plan.unfinished.reduce_batches(smaller)
        self._runner = BatchRunner(self._plan)
        return True

    def _compute(self, shards: list[Shard]) -> None:
        """Compute shards, while one thread reads ahead and others write the shards before."""
        self._runner.forget_started()
        with ExitStack() as stack:
            reader = stack.enter_context(ThreadPoolExecutor(1))
            threads = stack.enter_context(ThreadPoolExecutor(self._shards_at_once))
            writer = ShardWriter(self._plan, self._progress, threads, self._shards_at_once)
            images = chain.from_iterable(batching.prefetch(reader, self._read_batches(shards)))
            assemblies: deque[ShardAssembly] = deque()
            for shard in shards:
                assemblies.append(ShardAssembly(shard, self._plan.spec.views))
                self._compute_shard(assemblies[-1], islice(images, shard.num_rows))
                if shard is shards[-1]:
                    self._finish_batches(0)
                while assemblies and not self._runner.is_computing(assemblies[0]):
                    writer.write(self._assemble(assemblies.popleft()))
            writer.finish()

    def _read_batches(self, shards: list[Shard]) -> Iterator[list[Example | BadImage]]:
        """Yield the shards' images in lists as long as a batch, or shorter if they are large."""
        plan = self._plan
        for role, start, stop in join_adjacent(shards):
            images = datasets.read_rows(plan.dataset, plan.spec.dataset.roles[role], start, stop)
            try:
                yield from batching.split_into_batches(images, _num_bytes, plan.batch_size)
            except MemoryError as error:  # smaller batches would not help
                raise DatasetError(f"too little memory to read {plan.dataset.name}: {error}") from error

    def _compute_shard(self, assembly: ShardAssembly, images: Iterable[Example | BadImage]) -> None:
        """Start all batches of a shard; the last of them may still be on their way afterwards."""
        views, batch_size = self._plan.spec.views, self._plan.batch_size
        waiting: dict[View, list[Example]] = {view: [] for view in views}
        for image in images:
            if isinstance(image, BadImage):
                self._skip(assembly, image)
                continue
            if image.id in self._plan.excluded:
                self._leave_out(assembly, BadImage(image.id, datasets.EXCLUDED))
                continue
            id_ = assembly.add_image(image, self._plan.dataset.class_names)
            for view in views:
                if self._reusable.has(id_, view):
                    self._progress.finished += 1
                else:
                    waiting[view].append(self._runner.shrink_if_large(image, view))
                if len(waiting[view]) == batch_size:
                    self._start_batch(assembly, view, waiting[view])
                    waiting[view] = []
        for view, examples in waiting.items():
            if examples:
                self._start_batch(assembly, view, examples)

    def _skip(self, assembly: ShardAssembly, image: BadImage) -> None:
        """Leave a bad image out of its shard, or refuse it.

        Raises:
          DatasetError: bad images may not be skipped.
        """
        if self._plan.settings.on_bad_image == "error":
            refuse_bad_images([image])
        logger.warning("left out: %s", image.reason)
        self._leave_out(assembly, image)

    def _leave_out(self, assembly: ShardAssembly, image: BadImage) -> None:
        assembly.skipped.append(image)
        self._progress.finished += len(self._plan.spec.views)

    def _start_batch(self, assembly: ShardAssembly, view: View, examples: list[Example]) -> None:
        self._runner.start(assembly, view, examples)
        self._finish_batches(self._batches_ahead)

    def _finish_batches(self, num_left: int) -> None:
        """Wait for the oldest batches until `num_left` are on their way."""
        for batch in self._runner.finish_oldest(num_left):
            self._progress.finished += len(batch.examples)
            self._progress.computed += len(batch.examples)
            self._on_progress(self._progress)

    def _assemble(self, assembly: ShardAssembly) -> AssembledShard:
        dtype = self._plan.spec.features.feature_dtype
        return assembly.assemble(self._reusable, self._plan.backbone.num_features, dtype)


def join_adjacent(shards: list[Shard]) -> Iterator[Shard]:
    """Yield adjacent shards as one range: opening a dataset takes TFDS a fifth of a second."""
    joined = shards[0]
    for shard in shards[1:]:
        if (shard.role, shard.start) == (joined.role, joined.stop):
            joined = joined._replace(stop=shard.stop)
        else:
            yield joined
            joined = shard
    yield joined


def _num_bytes(image: Example | BadImage) -> int:
    return image.image.nbytes if isinstance(image, Example) else 0
