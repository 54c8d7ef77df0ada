"""Labelled images by row, from TensorFlow Datasets, a folder of images, a table or an .npz file.

Rows are in the dataset's own stored order, so that everything streams and a row number always means
the same image. A `Dataset` yields `Example`s, with a `BadImage` in the row of each file that cannot
be used.

To add a source, write one file with a `Source` in it (`folder.py` is one) and name it in the list
below.
"""

from tfl.datasets.coverage import find_lost_classes, format_classes, require_coverage
from tfl.datasets.division import DIVIDE_AGAIN
from tfl.datasets.exclusion import REASON as EXCLUDED
from tfl.datasets.exclusion import read_exclusion, resolve_exclusion
from tfl.datasets.files import expand_pattern, is_image_file, list_images
from tfl.datasets.folder import FOLDER, FolderDataset
from tfl.datasets.given_images import GivenImages, store_images
from tfl.datasets.hugging_face import HF
from tfl.datasets.images import decode_image, image_suffixes, is_image, read_image
from tfl.datasets.npz import NPZ, NpzDataset
from tfl.datasets.npz_writer import require_new_npz, write_npz
from tfl.datasets.registry import (
    SOURCES,
    find_recorded,
    find_source,
    make_findable,
    open_dataset,
    register,
    unregister,
)
from tfl.datasets.resolution import resolve_spec
from tfl.datasets.rows import count_labels, count_rows, list_bad_images, read_rows, require_good_images
from tfl.datasets.sampling import choose_by_class, sample_by_class
from tfl.datasets.source import BadImage, Dataset, Example, Source, to_text
from tfl.datasets.splits import select_rows, split_names
from tfl.datasets.table import TABLE, TableDataset
from tfl.datasets.tfds import TFDS, TfdsDataset
from tfl.datasets.webdataset import WDS

for _source in (NPZ, FOLDER, TABLE, WDS, HF, TFDS):
    register(_source)

__all__ = [
    "DIVIDE_AGAIN",
    "EXCLUDED",
    "SOURCES",
    "BadImage",
    "Dataset",
    "Example",
    "FolderDataset",
    "GivenImages",
    "NpzDataset",
    "Source",
    "TableDataset",
    "TfdsDataset",
    "choose_by_class",
    "count_labels",
    "count_rows",
    "decode_image",
    "expand_pattern",
    "find_lost_classes",
    "find_recorded",
    "find_source",
    "format_classes",
    "image_suffixes",
    "is_image",
    "is_image_file",
    "list_bad_images",
    "list_images",
    "make_findable",
    "open_dataset",
    "read_exclusion",
    "read_image",
    "read_rows",
    "register",
    "require_coverage",
    "require_good_images",
    "require_new_npz",
    "resolve_exclusion",
    "resolve_spec",
    "sample_by_class",
    "select_rows",
    "split_names",
    "store_images",
    "to_text",
    "unregister",
    "write_npz",
]
