"""Images in an .npz file: a user's own arrays, or a dataset carried to a machine without TensorFlow."""

import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from tfl.datasets.source import BadImage, Dataset, Example, as_text
from tfl.datasets.splits import usable
from tfl.errors import DatasetError
from tfl.spec import DIGEST_PREFIX


class NpzDataset:
    """Arrays `<split>_images` (n, h, w, 3) uint8 and `<split>_labels` (n,), optionally `<split>_ids`, `class_names`.

    A file that `write_npz` made also says which dataset it holds, under the digest of its arrays: it gives the
    same name, version, rows and ids as that dataset.

    Raises:
      DatasetError: not such a file, or arrays of other shapes or dtypes, or changed since `write_npz`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._arrays = _read_arrays(path)
        self._splits = [key.removesuffix("_images") for key in self._arrays if key.endswith("_images")]
        if not self._splits:
            raise DatasetError(f"{path} has no <split>_images array; it has {', '.join(self._arrays) or 'nothing'}")
        for split in self._splits:
            self._check_arrays(split)
        for split in self._splits:
            self._check_labels(split)
        ids = [as_text(id_) for split in self._splits for id_ in self._arrays.get(f"{split}_ids", ())]
        if len(set(ids)) < len(ids):
            raise DatasetError(f"{path} has {len(ids)} ids, of which {len(set(ids))} differ; every image needs its own")
        self.name, self.version = self._identify()

    def _check_arrays(self, split: str) -> None:
        images, labels = self._arrays[f"{split}_images"], self._arrays.get(f"{split}_labels")
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise DatasetError(
                f"{split}_images of {self.path} is {images.dtype} {images.shape}; expected uint8 (n, h, w, 3)"
            )
        if labels is None or labels.shape != (len(images),) or labels.dtype.kind not in "iu":
            received = "missing" if labels is None else f"{labels.dtype} {labels.shape}"
            raise DatasetError(f"{split}_labels of {self.path} is {received}; expected integers ({len(images)},)")
        ids = self._arrays.get(f"{split}_ids")
        if ids is not None and (ids.shape != labels.shape or ids.dtype.kind not in "SU"):
            raise DatasetError(f"{split}_ids of {self.path} is {ids.dtype} {ids.shape}; expected text ({len(labels)},)")

    def _check_labels(self, split: str) -> None:
        labels = self._arrays[f"{split}_labels"]
        if len(labels) and (labels.min() < 0 or labels.max() >= len(self.class_names)):
            raise DatasetError(
                f"{split}_labels of {self.path} range from {labels.min()} to {labels.max()}; "
                f"expected 0 to {len(self.class_names) - 1}, the classes being {', '.join(self.class_names)}"
            )

    def _identify(self) -> tuple[str, str]:
        digest = _arrays_digest(self._arrays, self._splits)
        if "dataset" not in self._arrays:
            return self.path.stem, digest
        if self._arrays["dataset"].shape != (3,):
            raise DatasetError(f"{self.path} has an array `dataset` that write_npz did not make; remove it")
        name, version, recorded = (as_text(value) for value in self._arrays["dataset"])
        if digest != recorded:
            raise DatasetError(
                f"{self.path} says it is {name}/{version}, but its arrays are not those that were written\n"
                f"  digest now     {digest}\n  digest written {recorded}\nfetch it again, or remove its array `dataset`"
            )
        return name, version

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        if "class_names" in self._arrays:
            return tuple(as_text(name) for name in self._arrays["class_names"])
        labels = [self._arrays[key] for key in self._arrays if key.endswith("_labels")]
        return tuple(str(label) for label in range(1 + max(int(array.max(initial=0)) for array in labels)))

    @property
    def num_rows(self) -> dict[str, int]:
        return {split: len(self._arrays[f"{split}_labels"]) for split in self._splits}

    def examples(self, split: str, start: int, stop: int) -> Iterator[Example]:
        images, labels = self._arrays[f"{split}_images"], self._arrays[f"{split}_labels"]
        ids = self._arrays.get(f"{split}_ids")
        for row in range(start, stop):
            id_ = f"{split}_{row:05d}" if ids is None else as_text(ids[row])
            yield Example(np.asarray(images[row]), int(labels[row]), id_)

    def known_bad(self, split: str, start: int, stop: int) -> Sequence[BadImage]:
        return ()


def write_npz(dataset: Dataset, path: Path) -> None:
    """Write every split of a dataset, in stored order, with its identity, for machines without TensorFlow.

    All images must be of one size; the whole dataset is held in memory.

    Raises:
      DatasetError: images of differing sizes, an image that cannot be used, or `path` exists.
    """
    require_new_npz(path)
    arrays: dict[str, np.ndarray] = {"class_names": np.asarray(dataset.class_names)}
    for split, count in dataset.num_rows.items():
        examples = list(usable(dataset.examples(split, 0, count)))
        if len(shapes := {example.image.shape for example in examples}) > 1:
            raise DatasetError(f"{dataset.name} has images of {len(shapes)} sizes, which an .npz array cannot hold")
        arrays[f"{split}_images"] = np.stack([example.image for example in examples])
        arrays[f"{split}_labels"] = np.asarray([example.label for example in examples], np.int64)
        arrays[f"{split}_ids"] = np.asarray([example.id.encode() for example in examples])
    digest = _arrays_digest(arrays, list(dataset.num_rows))
    arrays["dataset"] = np.asarray([dataset.name, dataset.version, digest])
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def require_new_npz(path: Path) -> None:
    """Refuse a name under which an .npz file cannot be written.

    Raises:
      DatasetError: another ending, a folder that is not there, or a file that is.
    """
    if path.suffix != ".npz":
        raise DatasetError(f"the file's name ends in .npz, got {path}")
    if path.exists():
        raise DatasetError(f"{path} exists already; remove it or choose another name")
    if not path.resolve().parent.is_dir():
        raise DatasetError(f"there is no folder {path.resolve().parent} to write {path.name} into")


def _arrays_digest(arrays: dict[str, np.ndarray], splits: Sequence[str]) -> str:
    names = ["class_names", *(f"{split}_{part}" for split in sorted(splits) for part in ("images", "labels", "ids"))]
    digest = hashlib.sha256()
    for name in names:
        if name in arrays:
            digest.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape}\n".encode())
            digest.update(np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data)
    return DIGEST_PREFIX + digest.hexdigest()


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            keys = archive.files
            small = {key: archive[key] for key in keys if not key.endswith("_images")}
        return small | {key: _member(path, key) for key in keys if key.endswith("_images")}
    except FileNotFoundError:
        raise DatasetError(f"there is no file {path}") from None
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DatasetError(
            f"{path} cannot be read as an .npz file of plain arrays: {error} (images of differing sizes do not fit "
            "one array: give a folder of images)"
        ) from error


def _member(path: Path, key: str) -> np.ndarray:
    """One array of an .npz file: mapped where it is stored uncompressed, else read."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as file:
        entry = archive.getinfo(f"{key}.npy")
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read_header(file)
        header_size = file.tell()
    if entry.compress_type != zipfile.ZIP_STORED or is_fortran or dtype.hasobject:
        with np.load(path, allow_pickle=False) as arrays:
            return np.asarray(arrays[key])
    with path.open("rb") as raw:  # a local header is 30 bytes, then the name and the extra field
        raw.seek(entry.header_offset + 26)
        name_size, extra_size = np.frombuffer(raw.read(4), "<u2").astype(int)
    offset = entry.header_offset + 30 + name_size + extra_size + header_size
    return np.memmap(path, dtype, "r", offset, shape)
