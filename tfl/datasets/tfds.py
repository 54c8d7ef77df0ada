"""Datasets of TensorFlow Datasets (TFDS), by name."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from tfl.datasets.source import Dataset, Example, Source, to_text
from tfl.datasets.tfds_builder import is_known_name, prepared_builder
from tfl.datasets.tfds_features import TFDS_ID, convert_to_rgb, find_id, find_image_and_label
from tfl.errors import DatasetError
from tfl.specs import DatasetSpec

MAX_BLOCK_ROWS, MAX_BLOCK_BYTES = 128, 16 << 20  # of rows that are read together
# A pipeline of TFDS grows by 3.8 KB per row, whatever the row holds (TensorFlow 2.21: 0.2 GB for
# 50,000 rows, 0.1 GB in pipelines of so many rows); opening another one takes a fifth of a second.
ROWS_PER_PIPELINE = 1 << 14


class TfdsDataset(Dataset):
    """A prepared TFDS dataset whose examples have one image and one class label.

    Args:
      name: a TFDS name, optionally with config and version (`cifar10`, `cifar10:3.0.2`,
        `horses_or_humans`).
    """

    # The stored order is shuffled, so neighbours are of several classes, and each new pipeline
    # takes 0.25 s (CIFAR-10, 2 cores).
    neighbours_read_together = 8

    def __init__(self, name: str) -> None:
        self._builder = prepared_builder(name)
        info = self._builder.info
        self.name = info.full_name.rsplit("/", 1)[0]
        self.version = str(self._builder.version)
        self._image_key, self._label_key = find_image_and_label(info, self.name)
        self._id_key = find_id(info)
        self.class_names = tuple(info.features[self._label_key].names)
        self.num_rows = {name: split.num_examples for name, split in info.splits.items()}
        height, width, _ = info.features[self._image_key].shape
        self.image_shape = None if None in (height, width) else (height, width)

    def examples(self, split: str, start: int, stop: int) -> Iterator[Example]:
        for first in range(start, stop, ROWS_PER_PIPELINE):
            last = min(stop, first + ROWS_PER_PIPELINE)
            for images, labels, ids in self._read_blocks(split, first, last):
                for image, label, id_ in zip(convert_to_rgb(images), labels.tolist(), ids, strict=True):
                    yield Example(image, label, to_text(id_))

    def _read_blocks(self, split: str, start: int, stop: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield the rows as TFDS decodes them, some together: images `(n, h, w, c)`, labels and ids `(n,)`.

        Raises:
          DatasetError: a record cannot be read or decoded, which ends tf.data's pipeline.
        """
        block_rows, row = self._block_rows(), start
        try:
            pipeline = self._open_pipeline(split, start, stop)
            for arrays in pipeline.batch(block_rows).as_numpy_iterator():
                yield arrays
                row += len(arrays[0])
        except Exception as error:  # tf.errors are TensorFlow's own, and it is not imported in this package
            end = min(stop, row + block_rows)
            raise DatasetError(
                f"cannot read rows {row} to {end} of {split!r} of {self.name}/{self.version}: "
                f"{str(error).splitlines()[0]}",
                f"Prepare it again (move {self._builder.data_dir} away and run "
                f"`tfl fetch {self.name}`), or choose splits without these rows",
            ) from error

    def _open_pipeline(self, split: str, start: int, stop: int) -> Any:
        """Return a `tf.data.Dataset` of image, label and id of these rows, in stored order."""
        import tensorflow_datasets as tfds

        # One file after the other, unshuffled: the stored order. The ids' `tfds_id` is
        # <file>__<row>; made of text, they take a quarter of the time of reading small images.
        config = tfds.ReadConfig(interleave_cycle_length=1, add_tfds_id=self._id_key == TFDS_ID)
        # With tf.data's autotuning, half of the backbone's runs beside an open pipeline leave a
        # core idle, at half the speed (TensorFlow 2.21, 2 cores: 6 of 12 runs; without
        # autotuning 0 of 12).
        config.options.autotune.enabled = False
        keys = (self._image_key, self._label_key, self._id_key)
        split = f"{split}[{start}:{stop}]"
        rows = self._builder.as_dataset(split=split, shuffle_files=False, read_config=config)
        return rows.map(lambda example: tuple(example[key] for key in keys))

    def _block_rows(self) -> int:
        """Return how many rows to read as one array, several times as fast; 1 if the images differ in size."""
        shape = self._builder.info.features[self._image_key].shape
        if None in shape:
            return 1
        return max(1, min(MAX_BLOCK_ROWS, MAX_BLOCK_BYTES // int(math.prod(shape))))


def _open(name: str, spec: DatasetSpec, max_image_pixels: int) -> TfdsDataset:
    return TfdsDataset(name)


TFDS = Source(
    name="tfds",
    noun="a TensorFlow Datasets name",
    open_dataset=_open,
    owns=is_known_name,
    is_fallback=True,
)
