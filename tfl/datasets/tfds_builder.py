"""Prepared builders of TensorFlow Datasets; CIFAR-10 also where its official host cannot be reached."""

import contextlib
import logging
import os
import re
import sys
from pathlib import Path
from typing import Any

from tfl.errors import AssetError, DatasetError
from tfl.files import assets, user_folders
from tfl.text import to_one_line

_NAME = re.compile(r"\w+(/[\w.+-]+)*(:[\d.]+)?")

logger = logging.getLogger(__name__)


def is_known_name(word: str) -> bool:
    """Return whether TFDS has a dataset of this name, its own or prepared on this machine; the network is not used.

    TFDS is imported only for a word that has the form of its names.
    """
    if not _NAME.fullmatch(word):
        return False
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        return False
    name = re.split("[/:]", word)[0]
    return name in tfds.list_builders(with_community_datasets=False) or _is_prepared(name)


def _is_prepared(name: str) -> bool:
    import tensorflow_datasets as tfds

    folder = Path(_data_dir() or tfds.core.constants.DATA_DIR) / name
    return any(folder.glob("*/dataset_info.json")) or any(folder.glob("*/*/dataset_info.json"))


def prepared_builder(name: str) -> Any:
    """Return TFDS's builder of a dataset that is prepared on this machine, after preparing it if necessary.

    Args:
      name: `NAME[/CONFIG][:VERSION]`.

    Raises:
      DatasetError: TFDS does not know the name, or cannot be imported.
      AssetError: the dataset could not be downloaded and prepared.
    """
    tfds = _import_tfds(name)
    if not _NAME.fullmatch(name):  # TFDS hands other words to other libraries (`huggingface:...`)
        raise _unknown_name(name, "expected NAME[/CONFIG][:VERSION]")
    tfds.disable_progress_bar()
    try:
        builder = tfds.builder(name, data_dir=_data_dir())
    except (tfds.core.DatasetNotFoundError, AssertionError, ValueError) as error:
        raise _unknown_name(name, str(error).splitlines()[0]) from error
    if not builder.is_prepared():
        _prepare(builder)
        builder = tfds.builder(name, data_dir=_data_dir())  # reads split sizes and class names anew
    return builder


def _import_tfds(name: str) -> Any:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DatasetError(
            f"{name!r} is not an .npz file or a folder, and TensorFlow Datasets cannot be imported "
            f"here ({error}). Where it can, write the dataset to a file with `tfl fetch {name} "
            f"--npz {name}.npz`, and give that file"
        ) from error
    return tfds


def _data_dir() -> str | None:
    """Return the folder of the datasets; None for TFDS's own, `~/tensorflow_datasets`, if it exists or can be made.

    Without a home folder TFDS 4.9 would make a folder called `~` (see
    `tensorflow_datasets.core.constants.DATA_DIR`).
    """
    import tensorflow_datasets as tfds

    usual = Path(tfds.core.constants.DATA_DIR)
    parent = next(folder for folder in usual.absolute().parents if folder.exists())
    is_usable = usual.exists() or os.access(parent, os.W_OK)
    if is_usable and user_folders.has_home(usual):
        return None
    return str(user_folders.writable_folder("tensorflow_datasets"))


def _unknown_name(name: str, reason: str) -> DatasetError:
    return DatasetError(
        f"{name!r} is not an .npz file, a table, a folder or a TensorFlow Datasets name ({reason}); "
        "expected for instance cifar10, a folder root/<class>/*.jpg, or images.npz"
    )


def _prepare(builder: Any) -> None:
    logger.info("preparing %s in %s", builder.info.full_name, builder.data_dir)
    with contextlib.redirect_stdout(sys.stderr):  # TFDS prints its progress, and stdout is for results
        if builder.info.full_name.startswith("cifar10/"):
            _prepare_cifar10(builder)
        else:
            _prepare_official(builder)


def _prepare_official(builder: Any) -> None:
    try:
        builder.download_and_prepare()
    except Exception as error:
        raise AssetError(
            f"TensorFlow Datasets could not download and prepare {builder.info.full_name}: {to_one_line(error)}",
            f"By hand: prepare it where the network reaches its host, and copy it to {builder.data_dir}",
        ) from error


def _prepare_cifar10(builder: Any) -> None:
    def official() -> None:
        if not assets.is_reachable(assets.CIFAR10_URL):
            raise AssetError(f"{assets.CIFAR10_URL} cannot be reached")
        _prepare_official(builder)

    assets.try_sources(
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
            """TFDS's CIFAR-10, given the archive's folder instead of a URL to download."""

            def _split_generators(self, dl_manager: Any) -> Any:
                return super()._split_generators(RebuiltArchive(binaries.parent))

        Cifar10.__module__ = type(builder).__module__  # dataset_info.json records it, and TFDS compares it

    with assets.cifar10_binaries() as binaries:
        Cifar10(data_dir=builder._data_dir_root).download_and_prepare()
