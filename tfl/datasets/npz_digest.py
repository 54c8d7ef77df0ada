"""The digest of a dataset's arrays: the version of an .npz file."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tfl.datasets.image_spool import SpooledArray
from tfl.datasets.npz_layout import SIZES
from tfl.datasets.stored_array import StoredArray

Arrays = Mapping[str, "np.ndarray | StoredArray | SpooledArray"]


def digest_arrays(arrays: Arrays, splits: Iterable[str]) -> Any:
    """Return the sha256, as an object, of the arrays that decide what a dataset holds.

    It covers their names, dtypes, shapes and values. An array in a file is read once.
    """
    digest = hashlib.sha256()
    for name in _list_digested(arrays, splits):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode(errors="backslashreplace"))
        if isinstance(array, np.ndarray):
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        else:
            array.digest_into(digest)
    return digest


def _list_digested(arrays: Arrays, splits: Iterable[str]) -> list[str]:
    names = ["class_names"]
    for split in sorted(splits):
        names += [f"{split}_images", f"{split}_{SIZES}", f"{split}_labels", f"{split}_ids"]
    return [name for name in names if name in arrays]
