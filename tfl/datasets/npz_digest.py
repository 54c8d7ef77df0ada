"""The digest of a dataset's arrays: the version of an .npz file."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tfl.datasets.stored_array import StoredArray

Arrays = Mapping[str, "np.ndarray | StoredArray"]


def digest_arrays(arrays: Arrays, splits: Iterable[str]) -> Any:
    """Return the sha256, as an object, of the arrays that decide what a dataset holds.

    It covers their names, dtypes, shapes and values. A `StoredArray` is read once.
    """
    digest = hashlib.sha256()
    for name in _list_digested(arrays, splits):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode(errors="backslashreplace"))
        if isinstance(array, StoredArray):
            array.digest_into(digest)
        else:
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest


def _list_digested(arrays: Arrays, splits: Iterable[str]) -> list[str]:
    names = ["class_names"]
    for split in sorted(splits):
        names += [f"{split}_images", f"{split}_labels", f"{split}_ids"]
    return [name for name in names if name in arrays]
