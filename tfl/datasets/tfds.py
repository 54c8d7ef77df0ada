"""Datasets of TensorFlow Datasets (TFDS), by name."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tfl.datasets.array_labels import convert_labels, join_labels
from tfl.datasets.source import Dataset, Example, Source, to_text
from tfl.datasets.splits import split_names
from tfl.datasets.tfds_builder import is_known_name, prepared_builder
from tfl.datasets.tfds_features import TFDS_ID, convert_to_rgb, find_id, find_image, find_label, read_class_names
from tfl.errors import DatasetError
from tfl.specs import DatasetSpec

MAX_BLOCK_ROWS, MAX_BLOCK_BYTES = 128, 16 << 20  # of rows that are read together
# A pipeline of TFDS grows by 3.8 KB per row, whatever the row holds (TensorFlow 2.21: 0.2 GB for
# 50,000 rows, 0.1 GB in pipelines of so many rows); opening another one takes a fifth of a second.
ROWS_PER_PIPELINE = 1 << 14


class TfdsDataset(Dataset):
    """A prepared TFDS dataset whose examples have one image and one label.

    Labels other than a ClassLabel are whole numbers or text: the values that occur in the splits in
    use are the classes, sorted, and their texts are the names.

    Args:
      name: a TFDS name, optionally with config and version (`cifar10`, `cifar10:3.0.2`,
        `horses_or_humans`).
      spec: names the keys of image and label if they have to be chosen, and the splits in use.
    """

    # The stored order is shuffled, so neighbours are of several classes, and each new pipeline
    # takes 0.25 s (CIFAR-10, 2 cores).
    neighbours_read_together = 8

    def __init__(self, name: str, spec: DatasetSpec = DatasetSpec()) -> None:
        self._builder = prepared_builder(name)
        info = self._builder.info
        self.name = info.full_name.rsplit("/", 1)[0]
        self.version = str(self._builder.version)
        self._image_key = find_image(info, self.name, spec.image_key)
        self._label_key = find_label(info, self.name, spec.label_key)
        self._id_key = find_id(info)
        self.num_rows = {name: split.num_examples for name, split in info.splits.items()}
        self._labels: dict[str, np.ndarray] = {}  # where they had to be read to know the classes
        class_names = read_class_names(info.features[self._label_key])
        self.class_names = self._read_classes(split_names(spec)) if class_names is None else class_names
        height, width, _ = info.features[self._image_key].shape
        self.image_shape = None if None in (height, width) else (height, width)

    def _read_classes(self, splits: Sequence[str]) -> tuple[str, ...]:
        """Read all labels of these splits; keep the class of each row, and return the classes' names.

        Raises:
          DatasetError: a label is negative or empty.
        """
        raw = {}
        for split in splits:
            if split in self.num_rows:  # else it is refused later, with the splits that there are
                blocks = self._read_blocks(split, 0, self.num_rows[split], (self._label_key,))
                raw[split] = np.concatenate([labels for (labels,) in blocks])
        joined, lengths = join_labels(list(raw.values()))
        try:
            numbers, class_names = convert_labels(joined)
        except DatasetError as error:
            raise DatasetError(f"{self._label_key} of {self.name}: {error}") from error
        self._labels = dict(zip(raw, np.split(numbers, np.cumsum(lengths)[:-1]), strict=True))
        return class_names

    def labels(self, split: str) -> np.ndarray | None:
        return self._labels.get(split)

    def examples(self, split: str, start: int, stop: int) -> Iterator[Example]:
        row, keys = start, (self._image_key, self._label_key, self._id_key)
        for images, labels, ids in self._read_blocks(split, start, stop, keys):
            numbers = self._number_labels(split, row, labels)
            for image, label, id_ in zip(convert_to_rgb(images), numbers.tolist(), ids, strict=True):
                yield Example(image, label, to_text(id_))
            row += len(labels)

    def _number_labels(self, split: str, row: int, labels: np.ndarray) -> np.ndarray:
        """Return the classes of some rows, the first of which is `row`.

        Raises:
          DatasetError: an image has no label, which TFDS stores as -1.
        """
        if split in self._labels:
            return self._labels[split][row : row + len(labels)]
        unlabelled = np.flatnonzero(labels < 0)
        if len(unlabelled):
            raise DatasetError(
                f"row {row + unlabelled[0]} of {split!r} of {self.name} has no label ({labels[unlabelled[0]]}); choose "
                "splits whose images have labels"
            )
        return labels

    def _read_blocks(
        self, split: str, start: int, stop: int, keys: tuple[str, ...]
    ) -> Iterator[tuple[np.ndarray, ...]]:
        """Yield features of the rows as TFDS decodes them, some rows together: of each key `(k, ...)`."""
        for first in range(start, stop, ROWS_PER_PIPELINE):
            yield from self._read_pipeline(split, first, min(stop, first + ROWS_PER_PIPELINE), keys)

    def _read_pipeline(
        self, split: str, start: int, stop: int, keys: tuple[str, ...]
    ) -> Iterator[tuple[np.ndarray, ...]]:
        """Yield the blocks of one pipeline.

        Raises:
          DatasetError: a record cannot be read or decoded, which ends tf.data's pipeline.
        """
        block_rows, row = self._block_rows(), start
        try:
            pipeline = self._open_pipeline(split, start, stop, keys)
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

    def _open_pipeline(self, split: str, start: int, stop: int, keys: tuple[str, ...]) -> Any:
        """Return a `tf.data.Dataset` of tuples of these features of these rows, in stored order."""
        import tensorflow_datasets as tfds

        # One file after the other, unshuffled: the stored order. The ids' `tfds_id` is
        # <file>__<row>; made of text, they take a quarter of the time of reading small images.
        config = tfds.ReadConfig(interleave_cycle_length=1, add_tfds_id=self._id_key == TFDS_ID)
        # With tf.data's autotuning, half of the backbone's runs beside an open pipeline leave a
        # core idle, at half the speed (TensorFlow 2.21, 2 cores: 6 of 12 runs; without
        # autotuning 0 of 12).
        config.options.autotune.enabled = False
        split = f"{split}[{start}:{stop}]"
        # Labels alone are read without decoding images.
        labels_alone = None if self._image_key in keys else tfds.decode.PartialDecoding(dict.fromkeys(keys, True))
        rows = self._builder.as_dataset(split=split, shuffle_files=False, read_config=config, decoders=labels_alone)
        return rows.map(lambda example: tuple(example[key] for key in keys))

    def _block_rows(self) -> int:
        """Return how many rows to read as one array, several times as fast; 1 if the images differ in size."""
        shape = self._builder.info.features[self._image_key].shape
        if None in shape:
            return 1
        return max(1, min(MAX_BLOCK_ROWS, MAX_BLOCK_BYTES // int(math.prod(shape))))


def _open(name: str, spec: DatasetSpec, max_image_pixels: int) -> TfdsDataset:
    return TfdsDataset(name, spec)


TFDS = Source(
    name="tfds",
    noun="a TensorFlow Datasets name",
    open_dataset=_open,
    owns=is_known_name,
    keys=frozenset({"image_key", "label_key"}),
    is_fallback=True,
)
