"""TensorFlow Datasets by name; CIFAR-10 also where its official host cannot be reached."""

import contextlib
import logging
import math
import re
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tfl import assets
from tfl.datasets.source import BadImage, Example, as_text
from tfl.errors import AssetError, DatasetError

_NAME = re.compile(r"\w+(/[\w.+-]+)*(:[\d.]+)?")

MOST_ROWS, MOST_BYTES = 128, 16 << 20  # that are read together
# A pipeline of TFDS grows by 3.8 KB a row whatever the row holds (TensorFlow 2.21: 0.2 GB in 50,000
# rows, 0.1 in goes of so many); another one takes a fifth of a second to open.
ROWS_IN_ONE_GO = 1 << 14

logger = logging.getLogger(__name__)


class TfdsDataset:
    """A prepared TensorFlow Datasets dataset with one image and one class label an example.

    Args:
      name: a TFDS name, optionally with config and version (`cifar10`, `cifar10:3.0.2`, `horses_or_humans`).
    """

    def __init__(self, name: str) -> None:
        self._builder = _prepared_builder(name)
        self.name = self._builder.info.full_name.rsplit("/", 1)[0]
        self.version = str(self._builder.version)
        self._image_key, self._label_key = self._keys()

    def _keys(self) -> tuple[str, str]:
        """The supervised keys where they are an image and a label, else the only image and the only label."""
        import tensorflow_datasets as tfds

        features, keys = self._builder.info.features, list(self._builder.info.supervised_keys or [])
        kinds = (tfds.features.Image, tfds.features.ClassLabel)
        image, label = ([key for key in features if type(features[key]) is kind] for kind in kinds)
        if len(keys) == 2 and keys[0] in image and keys[1] in label:
            return str(keys[0]), str(keys[1])
        if len(image) == len(label) == 1:
            return image[0], label[0]
        raise DatasetError(
            f"{self.name} is not an image classification dataset: its images are {image}, its class labels {label}; "
            "expected one of each"
        )

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self._builder.info.features[self._label_key].names)

    @property
    def num_rows(self) -> dict[str, int]:
        return {name: info.num_examples for name, info in self._builder.info.splits.items()}

    def known_bad(self, split: str, start: int, stop: int) -> Sequence[BadImage]:
        return ()

    def examples(self, split: str, start: int, stop: int) -> Iterator[Example]:
        for first in range(start, stop, ROWS_IN_ONE_GO):
            for images, labels, ids in self._stored(split, first, min(stop, first + ROWS_IN_ONE_GO)):
                colours = np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images
                for image, label, id_ in zip(colours, labels.tolist(), ids, strict=True):
                    yield Example(image, label, as_text(id_))

    def _stored(self, split: str, start: int, stop: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The rows as TFDS decodes them, some together: images `(n, h, w, c)`, labels and ids `(n,)`.

        Raises:
          DatasetError: a record cannot be read or decoded, which ends tf.data's pipeline.
        """
        import tensorflow_datasets as tfds

        # One file after the other, unshuffled: the stored order. The ids' `tfds_id` is <file>__<row>.
        stored_order = tfds.ReadConfig(interleave_cycle_length=1, add_tfds_id=True)
        # With tf.data's autotuning, half of the backbone's runs beside an open pipeline leave a core idle, at half the
        # speed (TensorFlow 2.21, 2 cores: 6 of 12 runs; without autotuning 0 of 12).
        stored_order.options.autotune.enabled = False
        keys = (self._image_key, self._label_key, "id" if "id" in self._builder.info.features else "tfds_id")

        def kept(example: dict[str, Any]) -> tuple[Any, ...]:
            return tuple(example[key] for key in keys)

        rows_at_once, row = self._rows_at_once(), start
        try:
            dataset = self._builder.as_dataset(
                split=f"{split}[{start}:{stop}]", shuffle_files=False, read_config=stored_order
            )
            for arrays in dataset.map(kept).batch(rows_at_once).as_numpy_iterator():
                yield arrays
                row += len(arrays[0])
        except Exception as error:  # tf.errors are TensorFlow's own, and it is not imported in this room
            end = min(stop, row + rows_at_once)
            raise DatasetError(
                f"cannot read rows {row} to {end} of {split!r} of {self.name}/{self.version}: "
                f"{str(error).splitlines()[0]}\nPrepare it again (move {self._builder.data_dir} away and run "
                f"`tfl fetch {self.name}`), or choose splits without these rows"
            ) from error

    def _rows_at_once(self) -> int:
        """As one array, rows come to Python several times as fast; images of differing sizes are no one array."""
        shape = self._builder.info.features[self._image_key].shape
        return 1 if None in shape else max(1, min(MOST_ROWS, MOST_BYTES // math.prod(shape)))


def _prepared_builder(name: str) -> Any:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DatasetError(
            f"{name!r} is no .npz file and no folder, and TensorFlow Datasets cannot be imported here ({error}); "
            f"write the dataset to a file where it can, `tfl fetch {name} --npz {name}.npz`, and give that file"
        ) from error

    if not _NAME.fullmatch(name):  # TFDS hands others to other libraries (`huggingface:...`)
        raise _unknown(name, "expected NAME[/CONFIG][:VERSION]")
    tfds.disable_progress_bar()
    try:
        builder = tfds.builder(name)
    except (tfds.core.DatasetNotFoundError, AssertionError, ValueError) as error:
        raise _unknown(name, str(error).splitlines()[0]) from error
    if not builder.is_prepared():
        logger.info("preparing %s in %s", builder.info.full_name, builder.data_dir)
        with contextlib.redirect_stdout(sys.stderr):  # what TFDS says of it is no result
            if builder.info.full_name.startswith("cifar10/"):
                _prepare_cifar10(builder)
            else:
                _prepare_official(builder)
        builder = tfds.builder(name)  # reads what was prepared: split sizes and class names
    return builder


def _unknown(name: str, reason: str) -> DatasetError:
    return DatasetError(
        f"{name!r} is no .npz file, no folder and no TensorFlow Datasets name ({reason}); "
        "expected for instance cifar10, a folder root/<split>/<class>/*.png, or images.npz"
    )


def _prepare_official(builder: Any) -> None:
    try:
        builder.download_and_prepare()
    except Exception as error:
        raise AssetError(
            f"TensorFlow Datasets could not download and prepare {builder.info.full_name}: {error}\n"
            f"By hand: prepare it where the network reaches its host, and copy it to {builder.data_dir}"
        ) from error


def _prepare_cifar10(builder: Any) -> None:
    def official() -> None:
        if not assets.is_reachable(assets.CIFAR10_URL):
            raise AssetError(f"{assets.CIFAR10_URL} cannot be reached")
        _prepare_official(builder)

    assets.first_that_works(
        builder.info.full_name,
        {"the official archive": official, "its npm copy": lambda: _prepare_cifar10_from_copy(builder)},
        by_hand=f"copy a prepared TensorFlow Datasets folder cifar10/{builder.version} to {builder.data_dir}",
    )


def _prepare_cifar10_from_copy(builder: Any) -> None:
    """Let TFDS's own builder prepare its dataset from the rebuilt files of the official archive."""
    import tensorflow_datasets as tfds

    class RebuiltArchive:
        def __init__(self, folder: Path) -> None:
            self._folder = folder

        def download_and_extract(self, url: str) -> str:
            return str(self._folder)

    with tfds.core.registered.skip_registration():

        class Cifar10(type(builder)):  # type: ignore[misc]
            """TFDS's CIFAR-10, told where the archive is instead of downloading it."""

            def _split_generators(self, dl_manager: Any) -> Any:
                return super()._split_generators(RebuiltArchive(binaries.parent))

        Cifar10.__module__ = type(builder).__module__  # what dataset_info.json records, and TFDS compares

    with assets.cifar10_binaries() as binaries:
        Cifar10(data_dir=builder._data_dir_root).download_and_prepare()
