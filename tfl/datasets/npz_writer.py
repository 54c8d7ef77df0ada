"""Writing images to an .npz file: a dataset, to carry it to a machine without TensorFlow, or a user's own arrays."""

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfl.datasets.image_spool import ImageSpool, SpooledArray
from tfl.datasets.npz_digest import digest_arrays
from tfl.datasets.rows import require_good_images
from tfl.datasets.source import Dataset
from tfl.errors import DatasetError
from tfl.files.scratch import scratch_folder
from tfl.specs import DIGEST_PREFIX


class Identity(NamedTuple):
    """The name and version that a file records."""

    name: str
    version: str


def write_npz(dataset: Dataset, path: Path) -> None:
    """Write every split of a dataset, in stored order, with the dataset's name and version.

    All images must have one size.

    Raises:
      DatasetError: images differ in size, an image cannot be used, or `path` exists.
    """
    require_new_npz(path)
    arrays: dict[str, np.ndarray | SpooledArray] = {"class_names": np.asarray(dataset.class_names)}
    with scratch_folder(path.resolve().parent) as scratch:
        for split, count in dataset.num_rows.items():
            labels, ids = [], []
            with ImageSpool(scratch / f"{split}.pixels") as spool:
                for example in require_good_images(dataset.examples(split, 0, count)):
                    spool.add(example.image[None])
                    labels.append(example.label)
                    ids.append(example.id.encode())
            if spool.num_sizes > 1:
                raise DatasetError(
                    f"{dataset.name} has images of {spool.num_sizes} sizes, which an .npz array cannot hold"
                )
            arrays |= {f"{split}_{part}": array for part, array in spool.finish().items()}
            arrays[f"{split}_labels"] = np.asarray(labels, np.int64)
            arrays[f"{split}_ids"] = np.asarray(ids)
        partial = scratch / path.name
        save_arrays(partial, arrays, dataset.num_rows, Identity(dataset.name, dataset.version))
        partial.replace(path)


def save_arrays(
    path: Path, arrays: Mapping[str, np.ndarray | SpooledArray], splits: Iterable[str], identity: Identity
) -> str:
    """Write arrays with an identity, block by block; return the digest, `sha256:...`.

    Args:
      identity: an empty version stands for the digest.
    """
    digest: str = DIGEST_PREFIX + digest_arrays(arrays, splits).hexdigest()
    recorded = np.asarray([identity.name, identity.version or digest, digest])
    in_memory = {name: array for name, array in arrays.items() if isinstance(array, np.ndarray)}
    spooled = {name: array for name, array in arrays.items() if isinstance(array, SpooledArray)}
    with path.open("wb") as file:
        np.savez(file, **in_memory, dataset=recorded)  # type: ignore[arg-type]
    with zipfile.ZipFile(path, "a") as archive:
        for name, array in spooled.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                array.copy_to(member)
    return digest


def require_new_npz(path: Path) -> None:
    """Refuse a path to which an .npz file cannot be written.

    Raises:
      DatasetError: it has another suffix, its folder does not exist, or the file exists already.
    """
    if path.suffix != ".npz":
        raise DatasetError(f"the file's name ends in .npz, got {path}")
    if path.exists():
        raise DatasetError(f"{path} exists already; remove it or choose another name")
    if not path.resolve().parent.is_dir():
        raise DatasetError(f"there is no folder {path.resolve().parent} to write {path.name} into")
