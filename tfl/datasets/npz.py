"""Images in an .npz file: a user's own arrays, or a dataset carried to a machine without TensorFlow."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tfl.datasets.archive import Archive
from tfl.datasets.division import ALL, Division, hash_key
from tfl.datasets.npy import Header
from tfl.datasets.npz_digest import digest_arrays
from tfl.datasets.npz_layout import SIZES, check_split
from tfl.datasets.npz_values import list_values, read_class_names, read_labels, read_texts
from tfl.datasets.ragged_images import RaggedImages
from tfl.datasets.source import Dataset, Example, Source
from tfl.datasets.stored_array import StoredArray
from tfl.errors import DatasetError
from tfl.files.paths import expand_user
from tfl.specs import DIGEST_PREFIX, DatasetSpec
from tfl.text import to_printable

logger = logging.getLogger(__name__)


class NpzDataset(Dataset):
    """Arrays `<split>_images` and `<split>_labels`, optionally `<split>_ids` and `class_names`.

    Images are uint8 `(n, h, w, 3)`, or grey `(n, h, w, 1)` or `(n, h, w)`; labels are integers
    `(n,)` or `(n, 1)`, as in MedMNIST. Without `class_names`, the labels that occur in the file are
    the classes, in ascending order, and their numbers are the names. The file is opened once, and
    every row is checked against the digest that is the dataset's version.

    Images of several sizes are one flat array, see `ragged_images`, with an array `<split>_sizes`.
    A file whose only split is `all` is divided into parts by its ids.

    A file that `write_npz` made also says which dataset it holds, with the digest of its arrays: it
    has the same name, version, rows and ids as that dataset.

    Args:
      spec: says how a file without splits is divided.

    Raises:
      DatasetError: it is not such a file, its arrays have other shapes or dtypes, or have changed
        since `write_npz`.
    """

    def __init__(self, path: Path, spec: DatasetSpec = DatasetSpec()) -> None:
        self.path = path
        self._seed = spec.split_seed
        archive = Archive(path)
        self._splits = [name.removesuffix("_images") for name in archive.names if name.endswith("_images")]
        if not self._splits:
            found = list_values(archive.names) or "nothing"
            raise DatasetError(
                f"{path} has no <split>_images array; it has {found}; expected for instance train_images, "
                "train_labels, test_images and test_labels"
            )
        if self._splits == [ALL]:
            self.division = Division.from_spec(spec)
        headers = {name: archive.header(name) for name in archive.names if self._is_used(name)}
        for split in self._splits:
            if len(headers[f"{split}_images"].shape) != 1:
                headers.pop(f"{split}_{SIZES}", None)  # an array of the user's, of which nothing is known
        for split in self._splits:
            check_split(path, split, headers)
        self._arrays = {name: _open_array(archive, name, header) for name, header in headers.items()}
        self._ids = {split: self._read_ids(split) for split in self._splits if f"{split}_ids" in headers}
        self._require_unique_ids()
        self._images = {split: self._open_images(split) for split in self._splits}
        self.image_shape = self._find_image_shape()
        raw = {split: read_labels(path, split, self._arrays[f"{split}_labels"]) for split in self._splits}
        self.class_names, values = self._find_classes(raw)
        self._labels = {split: np.searchsorted(values, labels) for split, labels in raw.items()}
        self.num_rows = {split: len(labels) for split, labels in self._labels.items()}
        digest = digest_arrays(self._arrays, self._splits)
        self._digest_of_arrays = DIGEST_PREFIX + digest.hexdigest()
        if not np.array_equal(values, np.arange(len(values))):
            digest.update(b"classes are the labels that occur\n")  # in earlier versions they were 0 to the largest
        self._digest = DIGEST_PREFIX + digest.hexdigest()
        self.name, self.version = self._identify()

    def _is_used(self, name: str) -> bool:
        if name in ("class_names", "dataset"):
            return True
        split, _, part = name.rpartition("_")
        return split in self._splits and part in ("images", SIZES, "labels", "ids")

    def _open_images(self, split: str) -> "np.ndarray | StoredArray | RaggedImages":
        images, sizes = self._arrays[f"{split}_images"], self._arrays.get(f"{split}_{SIZES}")
        if sizes is None:
            return images
        return RaggedImages(str(self.path), images, np.asarray(sizes))

    def _read_ids(self, split: str) -> list[str]:
        return read_texts(self.path, f"{split}_ids", self._arrays[f"{split}_ids"])

    def _require_unique_ids(self) -> None:
        ids = [id_ for of_split in self._ids.values() for id_ in of_split]
        num_different = len(set(ids))
        if num_different < len(ids):
            raise DatasetError(
                f"{self.path} has {len(ids)} ids, of which {num_different} differ; every image needs its own"
            )

    def _find_classes(self, raw: dict[str, np.ndarray]) -> tuple[tuple[str, ...], np.ndarray]:
        """Return the class names, and the label `(c,)` that each class has in the file."""
        if "class_names" not in self._arrays:
            values = np.unique(np.concatenate(list(raw.values())))
            if len(values) and values[-1] >= len(values):
                logger.info(
                    "%s has %d classes, named by the labels that occur: %s", self.path, len(values), list_values(values)
                )
            return tuple(map(str, values.tolist())), values
        names = tuple(read_class_names(self.path, self._arrays["class_names"]))
        for split, labels in raw.items():
            if labels.max(initial=0) >= len(names):
                raise DatasetError(
                    f"{to_printable(split)}_labels of {self.path} range from {labels.min()} to {labels.max()}; "
                    f"expected 0 to {len(names) - 1}, the classes being {list_values(names)}"
                )
        return names, np.arange(len(names))

    def _find_image_shape(self) -> tuple[int, int] | None:
        """Return height and width of all images; None if they differ."""
        if any(f"{split}_{SIZES}" in self._arrays for split in self._splits):
            return None
        shapes = {self._arrays[f"{split}_images"].shape for split in self._splits}
        sizes = {(shape[1], shape[2]) for shape in shapes}
        return sizes.pop() if len(sizes) == 1 else None

    def _identify(self) -> tuple[str, str]:
        """Return the dataset's name and version: those that `write_npz` recorded, else the file's own."""
        if "dataset" not in self._arrays:
            return self.path.stem, self._digest
        recorded = self._arrays["dataset"]
        if recorded.shape != (3,) or recorded.dtype.kind not in "SU":
            raise DatasetError(f"{self.path} has an array `dataset` that write_npz did not make; remove it")
        name, version, digest = read_texts(self.path, "dataset", recorded)
        if self._digest_of_arrays != digest:
            raise DatasetError(
                f"{self.path} says it is {to_printable(name)}/{to_printable(version)}, but its arrays are not those "
                "that were written",
                f"  digest now     {self._digest_of_arrays}",
                f"  digest written {to_printable(digest)}",
                "fetch it again, or remove its array `dataset`",
            )
        return name, version

    def labels(self, split: str) -> np.ndarray:
        return self._labels[split]

    def id_hashes(self, split: str) -> np.ndarray | None:
        """Return the hash of each id, uint64 `(n,)`, of a file without splits; percent slices of others are of rows."""
        if self.division is None:
            return None
        ids = (self._id_of(split, row) for row in range(self.num_rows[split]))
        return np.asarray([hash_key(id_.encode(), self._seed) for id_ in ids], np.uint64)

    def _id_of(self, split: str, row: int) -> str:
        ids = self._ids.get(split)
        return f"{split}_{row:05d}" if ids is None else ids[row]

    def examples(self, split: str, start: int, stop: int) -> Iterator[Example]:
        images, labels = self._images[split], self._labels[split]
        for row in range(start, stop):
            yield Example(_convert_to_rgb(images[row]), int(labels[row]), self._id_of(split, row))


def _open_array(archive: Archive, name: str, header: Header) -> np.ndarray | StoredArray:
    """Read an array into memory, or leave images in the file if they are stored row by row."""
    stays_in_file = name.endswith("_images") and header.is_stored
    return StoredArray(archive, name, header) if stays_in_file else archive.read(name, header)


def _convert_to_rgb(image: np.ndarray) -> np.ndarray:
    """Return an image `(h, w)`, `(h, w, 1)` or `(h, w, 3)` as `(h, w, 3)`: grey is repeated three times."""
    if image.ndim == 2:
        image = image[..., None]
    return np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image


def _open(path: str, spec: DatasetSpec, max_image_pixels: int) -> NpzDataset:
    return NpzDataset(expand_user(path), spec)


def _owns(word: str) -> bool:
    return expand_user(word).suffix == ".npz"


NPZ = Source(
    name="npz",
    noun="an .npz file",
    open_dataset=_open,
    owns=_owns,
    is_path=True,
)
