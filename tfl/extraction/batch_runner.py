"""The backbone run on batches of one size, some of which may be on their way through an accelerator."""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np

from tfl import engine
from tfl.datasets import Example
from tfl.errors import DatasetError
from tfl.extraction.assembly import ShardAssembly, to_stored
from tfl.extraction.plan import Plan
from tfl.machine import batching
from tfl.specs import View

logger = logging.getLogger(__name__)


class Batch(NamedTuple):
    """Images on their way through the backbone; `wait` returns their features."""

    assembly: ShardAssembly
    view: View
    examples: list[Example]
    wait: Callable[[], np.ndarray]


class BatchRunner:
    """The backbone for batches of one size, and the batches on their way, oldest first."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._started: deque[Batch] = deque()

    @cached_property
    def _forward(self) -> engine.Forward:
        """Compiled when the first image needs it: a run that was killed in its merge needs none."""
        making = self._plan.unfinished.making
        logger.info("%s on %s, batches of %d", making.engine, making.device, making.batch_size)
        image_shape = self._plan.dataset.image_shape
        return engine.Forward(self._plan.backbone, making.batch_size, making.engine or "", image_shape)

    def start(self, assembly: ShardAssembly, view: View, examples: list[Example]) -> None:
        """Start a batch; its features are there when `finish_oldest` has returned it."""
        wait = self._forward.start([example.image for example in examples], view)
        self._started.append(Batch(assembly, view, examples, wait))

    def finish_oldest(self, num_left: int) -> Iterator[Batch]:
        """Wait for the oldest batches until `num_left` are on their way; store their features."""
        while len(self._started) > num_left:
            batch = self._started.popleft()
            stored = to_stored(batch.wait(), batch.examples, self._plan.spec.features)
            batch.assembly.features[batch.view] |= stored
            yield batch

    def is_computing(self, assembly: ShardAssembly) -> bool:
        """Return whether a batch of this shard is on its way."""
        return any(batch.assembly is assembly for batch in self._started)

    def forget_started(self) -> None:
        """Drop the batches on their way, as after an error."""
        self._started.clear()

    def shrink_if_large(self, example: Example, view: View) -> Example:
        """Return the example, resized if large: many must wait in memory until a batch is full.

        Raises:
          DatasetError: memory does not suffice for this image alone.
        """
        if example.image.nbytes <= batching.MAX_BATCH_BYTES // self._plan.batch_size:
            return example
        try:
            return example._replace(image=self._forward.presented(example.image, view))
        except Exception as error:
            if not engine.is_out_of_memory(error):
                raise
            height, width, _ = example.image.shape
            raise DatasetError(
                f"memory does not suffice for image {example.id!r} alone, of {width} x {height} pixels; "
                "make it smaller, or remove it"
            ) from error
