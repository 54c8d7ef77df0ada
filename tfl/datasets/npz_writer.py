"""Writing a dataset to an .npz file, to carry it to a machine without TensorFlow."""

from pathlib import Path

import numpy as np

from tfl.datasets.npz_digest import digest_arrays
from tfl.datasets.rows import require_good_images
from tfl.datasets.source import Dataset
from tfl.errors import DatasetError
from tfl.files.scratch import scratch_folder
from tfl.specs import DIGEST_PREFIX


def write_npz(dataset: Dataset, path: Path) -> None:
    """Write every split of a dataset, in stored order, with the dataset's name and version.

    All images must have one size; the whole dataset is held in memory.

    Raises:
      DatasetError: images differ in size, an image cannot be used, or `path` exists.
    """
    require_new_npz(path)
    arrays: dict[str, np.ndarray] = {"class_names": np.asarray(dataset.class_names)}
    for split, count in dataset.num_rows.items():
        examples = list(require_good_images(dataset.examples(split, 0, count)))
        shapes = {example.image.shape for example in examples}
        if len(shapes) > 1:
            raise DatasetError(f"{dataset.name} has images of {len(shapes)} sizes, which an .npz array cannot hold")
        arrays[f"{split}_images"] = np.stack([example.image for example in examples])
        arrays[f"{split}_labels"] = np.asarray([example.label for example in examples], np.int64)
        arrays[f"{split}_ids"] = np.asarray([example.id.encode() for example in examples])
    digest = digest_arrays(arrays, dataset.num_rows)
    arrays["dataset"] = np.asarray([dataset.name, dataset.version, DIGEST_PREFIX + digest.hexdigest()])
    with scratch_folder(path.resolve().parent) as scratch:
        partial = scratch / path.name
        with partial.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        partial.replace(path)


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
