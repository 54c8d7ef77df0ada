"""Images on their way to an .npz file, whose number and sizes are not known before the last one."""

import shutil
from pathlib import Path
from typing import IO, Any, Self

import numpy as np

from tfl.datasets.npz_layout import SIZES

BLOCK_BYTES = 1 << 20


class SpooledArray:
    """An array of uint8 whose values are a file, read block by block."""

    dtype = np.dtype(np.uint8)

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self._path, self.shape = path, shape

    def digest_into(self, digest: Any) -> None:
        """Add all values to a sha256."""
        with self._path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)

    def copy_to(self, file: IO[bytes]) -> None:
        """Write the array in the form of an .npy file."""
        np.lib.format.write_array_header_1_0(
            file, {"descr": self.dtype.str, "fortran_order": False, "shape": self.shape}
        )
        with self._path.open("rb") as values:
            shutil.copyfileobj(values, file, BLOCK_BYTES)


class ImageSpool:
    """Images of one split on their way to an .npz file; their pixels wait in a file, not in memory.

    A context manager, which closes the file.

    Args:
      path: a new file in a scratch folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")
        self._sizes: list[tuple[int, int]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._file.close()

    def add(self, images: np.ndarray) -> None:
        """Append images, uint8 `(k, h, w, 3)`."""
        self._file.write(np.ascontiguousarray(images).reshape(-1).data)
        self._sizes += [images.shape[1:3]] * len(images)

    def __len__(self) -> int:
        return len(self._sizes)

    @property
    def num_sizes(self) -> int:
        """The number of different sizes."""
        return len(set(self._sizes))

    def finish(self) -> dict[str, np.ndarray | SpooledArray]:
        """Return the arrays of the images by their names' last part, see `NpzDataset`; the file is closed."""
        sizes = np.asarray(self._sizes, np.int64).reshape(-1, 2)  # (n, 2)
        if not len(self):
            return {"images": np.zeros((0, 1, 1, 3), np.uint8)}
        if self.num_sizes > 1:
            return {"images": SpooledArray(self._path, (self._path.stat().st_size,)), SIZES: sizes}
        return {"images": SpooledArray(self._path, (len(self), *self._sizes[0], 3))}
