"""TensorFlow Datasets by name; CIFAR-10 also where its official host cannot be reached."""

import contextlib
import logging
import math
import os
import re
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tfl.datasets import depth
from tfl.datasets.source import BadImage, Example, to_text
from tfl.errors import AssetError, DatasetError
from tfl.files import assets, user_folders

_NAME = re.compile(r"\w+(/[\w.+-]+)*(:[\d.]+)?")

MOST_ROWS, MOST_BYTES = 128, 16 << 20  # that are read together
# A pipeline of TFDS grows by 3.8 KB a row whatever the row holds (TensorFlow 2.21: 0.2 GB in 50,000
# rows, 0.1 in goes of so many); another one takes a fifth of a second to open.
ROWS_IN_ONE_GO = 1 << 14

_EXPECTED = "an Image of uint8 or uint16 with 1, 3 or 4 channels, or a Tensor of uint8 with the shape (h, w, 1 or 3)"
_BY_HAND = "Write what you need of it to an .npz file of uint8 images and integer labels, and give that"

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
        """The supervised keys where they are an image and a label, else the only image and the only label.

        Raises:
          DatasetError: they are none, or the images' values have no certain range.
        """
        import tensorflow_datasets as tfds

        features, keys = self._builder.info.features, list(self._builder.info.supervised_keys or [])
        images = _of_kind(features, tfds.features.Image)
        if not images:
            images = [key for key in _of_kind(features, tfds.features.Tensor) if _is_image(features[key])]
        labels = _of_kind(features, tfds.features.ClassLabel)
        if len(keys) == 2 and keys[0] in images and keys[1] in labels:
            images, labels = keys[:1], keys[1:]
        if len(images) != 1 or len(labels) != 1:
            described = "; ".join(_described(key, features[key]) for key in sorted(features))
            raise DatasetError(
                f"{self.name} is not an image classification dataset: its images are {images}, its class labels "
                f"{labels}; expected one of each: {_EXPECTED}, and a ClassLabel. It has {described}. {_BY_HAND}"
            )
        feature = features[images[0]]
        if not _has_certain_range(feature):
            raise DatasetError(
                f"cannot use the images of {self.name}, {_described(images[0], feature)}: the range of such values is "
                f"not known, or the channels are not; expected {_EXPECTED}. {_BY_HAND}"
            )
        return str(images[0]), str(labels[0])

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self._builder.info.features[self._label_key].names)

    @cached_property
    def _id_key(self) -> str:
        """The dataset's own ids where they are texts; numbers often are a row's place in its split, or always 0."""
        import tensorflow_datasets as tfds

        features = self._builder.info.features
        is_text = "id" in features and isinstance(features["id"], tfds.features.Text)
        return "id" if is_text else "tfds_id"

    @property
    def num_rows(self) -> dict[str, int]:
        return {name: info.num_examples for name, info in self._builder.info.splits.items()}

    def known_bad(self, split: str, start: int, stop: int) -> Sequence[BadImage]:
        return ()

    def examples(self, split: str, start: int, stop: int) -> Iterator[Example]:
        for first in range(start, stop, ROWS_IN_ONE_GO):
            for images, labels, ids in self._stored(split, first, min(stop, first + ROWS_IN_ONE_GO)):
                for image, label, id_ in zip(_as_rgb(images), labels.tolist(), ids, strict=True):
                    yield Example(image, label, to_text(id_))

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
        keys = (self._image_key, self._label_key, self._id_key)

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
                f"{str(error).splitlines()[0]}",
                f"Prepare it again (move {self._builder.data_dir} away and run "
                f"`tfl fetch {self.name}`), or choose splits without these rows",
            ) from error

    def _rows_at_once(self) -> int:
        """As one array, rows come to Python several times as fast; images of differing sizes are no one array."""
        shape = self._builder.info.features[self._image_key].shape
        return 1 if None in shape else max(1, min(MOST_ROWS, MOST_BYTES // math.prod(shape)))


def _of_kind(features: Any, kind: type) -> list[str]:
    return sorted(key for key in features if type(features[key]) is kind)


def _described(key: str, feature: Any) -> str:
    """A feature in words: `image: Image float32 (32, 32, 1)`."""
    kind, dtype = type(feature).__name__, feature.np_dtype
    if isinstance(dtype, dict):
        return f"{key}: {kind} of {', '.join(map(str, dtype))}"
    return f"{key}: {kind} {np.dtype(dtype).name} {feature.shape}"


def _is_image(feature: Any) -> bool:
    """Whether an array may be meant as an image, whatever its values."""
    return len(feature.shape) == 3 and feature.shape[-1] in (1, 3)


def _has_certain_range(feature: Any) -> bool:
    """Whether values and channels are known: files' 8 and 16 bits; of bare arrays 8 alone, for 16 may be 12."""
    import tensorflow_datasets as tfds

    is_file = type(feature) is tfds.features.Image
    dtypes, channels = ((np.uint8, np.uint16), (1, 3, 4)) if is_file else ((np.uint8,), (1, 3))
    return len(feature.shape) == 3 and feature.shape[-1] in channels and feature.np_dtype in dtypes


def _as_rgb(images: np.ndarray) -> np.ndarray:
    """Images `(n, h, w, c)` of 8 or 16 bits as uint8 RGB: grey in three channels, transparency dropped."""
    if images.dtype == np.uint16:
        images = depth.Grey(depth.WHITE_16).to_uint8(images)
    if images.shape[-1] == 4:  # the last one is alpha
        images = np.ascontiguousarray(images[..., :3])
    return np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images


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
        builder = tfds.builder(name, data_dir=_data_dir())
    except (tfds.core.DatasetNotFoundError, AssertionError, ValueError) as error:
        raise _unknown(name, str(error).splitlines()[0]) from error
    if not builder.is_prepared():
        logger.info("preparing %s in %s", builder.info.full_name, builder.data_dir)
        with contextlib.redirect_stdout(sys.stderr):  # what TFDS says of it is no result
            if builder.info.full_name.startswith("cifar10/"):
                _prepare_cifar10(builder)
            else:
                _prepare_official(builder)
        builder = tfds.builder(name, data_dir=_data_dir())  # reads what was prepared: split sizes and class names
    return builder


def _data_dir() -> str | None:
    """Where datasets are; None for TFDS's own place, `~/tensorflow_datasets`, if it exists or can be made.

    Without a home folder TFDS 4.9 would make a folder called `~` (see `tensorflow_datasets.core.constants.DATA_DIR`).
    """
    import tensorflow_datasets as tfds

    usual = Path(tfds.core.constants.DATA_DIR)
    parent = next(folder for folder in usual.absolute().parents if folder.exists())
    is_usable = usual.exists() or os.access(parent, os.W_OK)
    return (
        None if is_usable and user_folders.has_home(usual) else str(user_folders.writable_folder("tensorflow_datasets"))
    )


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
            f"TensorFlow Datasets could not download and prepare {builder.info.full_name}: "
            f"{' '.join(str(error).split())}",
            f"By hand: prepare it where the network reaches its host, and copy it to {builder.data_dir}",
        ) from error


def _prepare_cifar10(builder: Any) -> None:
    def official() -> None:
        if not assets.is_reachable(assets.CIFAR10_URL):
            raise AssetError(f"{assets.CIFAR10_URL} cannot be reached")
        _prepare_official(builder)

    assets.try_each(
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
