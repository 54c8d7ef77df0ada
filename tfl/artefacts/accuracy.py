"""The accuracy of an exported model itself, on test images or on cached test features."""

from collections.abc import Iterable, Iterator

import numpy as np

from tfl import datasets
from tfl.artefacts.fresh_process import ComputeLogits
from tfl.artefacts.origin import Origin
from tfl.machine import batching
from tfl.metrics import Metrics, measure_blocks
from tfl.runs.folder import Run
from tfl.runs.logits import stream_rows


def measure_accuracy(
    run: Run, origin: Origin, rows: Iterable[datasets.Example], compute_logits: ComputeLogits
) -> Metrics:
    """Return an exported model's metrics on those of some rows whose class the run has."""
    class_of = {origin.cache.class_names.index(name): i for i, name in enumerate(run.class_names)}
    known = (row for row in rows if row.label in class_of)

    def blocks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for batch in batching.split_into_batches(known, lambda row: row.image.nbytes, batching.BATCH_SIZE):
            for positions in batching.group_by_shape([row.image for row in batch]):
                images = np.stack([batch[i].image for i in positions])
                labels = np.asarray([class_of[batch[i].label] for i in positions])
                yield compute_logits(images), labels

    return measure_blocks(blocks())


def measure_head_accuracy(run: Run, origin: Origin, compute_logits: ComputeLogits) -> Metrics:
    """Return the metrics of an exported head on the cached test rows of the run's classes."""
    rows = stream_rows(origin.cache, "test", run.selection)
    return measure_blocks((compute_logits(features), labels) for features, labels in rows.blocks())
