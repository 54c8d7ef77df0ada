"""Labelled images by row, from TensorFlow Datasets, a folder of images or an .npz file.

Rows stand in the dataset's own stored order, so that everything streams and a row number means the same image
every time. A `Dataset` says what it is (`name`, `version`) and hands out `Example`s of a range of one split, with a
`BadImage` in the row of each file that cannot be used.
"""

from tfl.datasets.coverage import find_lost_classes, listed_classes
from tfl.datasets.files import expand_pattern, is_image_file, list_images
from tfl.datasets.folder import FolderDataset
from tfl.datasets.images import decode_image, image_suffixes, is_image, read_image
from tfl.datasets.npz import NpzDataset, require_new_npz, write_npz
from tfl.datasets.source import BadImage, Dataset, Example, to_text
from tfl.datasets.splits import (
    count_labels,
    count_rows,
    list_bad_images,
    read_rows,
    require_good,
    resolve_spec,
    select_rows,
    split_names,
)
from tfl.datasets.tfds import TfdsDataset
from tfl.files.paths import expand_user
from tfl.specs import MAX_IMAGE_PIXELS, DatasetSpec

__all__ = [
    "BadImage",
    "Dataset",
    "Example",
    "FolderDataset",
    "TfdsDataset",
    "count_labels",
    "count_rows",
    "decode_image",
    "expand_pattern",
    "find_lost_classes",
    "image_suffixes",
    "is_image",
    "is_image_file",
    "list_bad_images",
    "list_images",
    "listed_classes",
    "open_dataset",
    "read_image",
    "read_rows",
    "require_good",
    "require_new_npz",
    "resolve_spec",
    "select_rows",
    "to_text",
    "write_npz",
]


def open_dataset(spec: DatasetSpec, max_image_pixels: int = MAX_IMAGE_PIXELS) -> Dataset:
    """The dataset that a spec names: an existing .npz file or folder, else a TFDS name.

    Args:
      max_image_pixels: most pixels (height x width) that an image file of a folder may claim in its header. The arrays
        of an .npz file are decoded already, and TFDS decodes its own.

    Raises:
      DatasetError: nothing is known under that name, or the folder or file is not laid out as expected.
      AssetError: it has to be downloaded, and cannot be.
    """
    path = expand_user(spec.dataset)
    if path.suffix == ".npz":
        return NpzDataset(path)
    if path.is_dir():
        return FolderDataset(path, split_names(spec), max_image_pixels)
    return TfdsDataset(spec.dataset)
