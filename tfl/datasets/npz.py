"""Images in an .npz file: a user's own arrays, or a dataset carried to a machine without TensorFlow."""

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfl.datasets.archive import Archive, Header, Rows, digest_of
from tfl.datasets.source import BadImage, Dataset, Example, to_text
from tfl.datasets.splits import require_good
from tfl.errors import DatasetError
from tfl.files.scratch import scratch_folder
from tfl.specs import DIGEST_PREFIX
from tfl.text import to_printable

MAX_NAMED = 10  # classes or arrays in one message
LEAST_WIDTH = 5  # of a grey image (n, h, w): a last axis that is shorter may be of colours
NAME_KINDS = "SUiufb"  # of numpy's dtypes: text, numbers and booleans can be class names
LARGEST_LABEL = np.iinfo(np.int64).max

logger = logging.getLogger(__name__)


class NpzDataset:
    """Arrays `<split>_images` and `<split>_labels`, optionally `<split>_ids` and `class_names`.

    Images are uint8 `(n, h, w, 3)`, or grey `(n, h, w, 1)` or `(n, h, w)`; labels are integers `(n,)` or `(n, 1)`, as
    MedMNIST has them. Without `class_names` the labels that occur in the file are the classes, in ascending order, each
    named by its number. The file is opened once, and every row is held against the digest that is the dataset's
    version.

    A file that `write_npz` made also says which dataset it holds, under the digest of its arrays: it gives the
    same name, version, rows and ids as that dataset.

    Raises:
      DatasetError: not such a file, or arrays of other shapes or dtypes, or changed since `write_npz`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        archive = Archive(path)
        self._splits = [name.removesuffix("_images") for name in archive.names if name.endswith("_images")]
        if not self._splits:
            found = _listed(archive.names) or "nothing"
            raise DatasetError(
                f"{path} has no <split>_images array; it has {found}; expected train_images, train_labels, test_images "
                "and test_labels, say"
            )
        headers = {name: archive.header(name) for name in archive.names if self._is_ours(name)}
        for split in self._splits:
            self._check_shapes(split, headers)
        self._arrays = {name: _opened(archive, name, header) for name, header in headers.items()}
        self._ids = {split: self._read_ids(split) for split in self._splits if f"{split}_ids" in headers}
        self._require_unique_ids()
        raw = {split: _read_labels(path, split, self._arrays[f"{split}_labels"]) for split in self._splits}
        self.class_names, values = self._classes(raw)
        self._labels = {split: np.searchsorted(values, labels) for split, labels in raw.items()}
        digest = digest_of(self._arrays, _digested(self._arrays, self._splits))
        self._recorded = DIGEST_PREFIX + digest.hexdigest()
        if not np.array_equal(values, np.arange(len(values))):
            digest.update(b"classes are the labels that occur\n")  # they were once 0 to the largest
        self._digest = DIGEST_PREFIX + digest.hexdigest()
        self.name, self.version = self._identify()

    def _is_ours(self, name: str) -> bool:
        split, _, part = name.rpartition("_")
        return name in ("class_names", "dataset") or (split in self._splits and part in ("images", "labels", "ids"))

    def _check_shapes(self, split: str, headers: dict[str, Header]) -> None:
        images, labels, ids = (headers.get(f"{split}_{part}") for part in ("images", "labels", "ids"))
        assert images is not None
        if not _are_images(images):
            raise self._refusal(
                f"{split}_images", images, f"uint8 (n, h, w, 3), or grey (n, h, w, 1) or (n, h, w){_to_images(images)}"
            )
        num = images.shape[0]
        if labels is None or labels.shape not in ((num,), (num, 1)) or labels.dtype.kind not in "iu":
            raise self._refusal(f"{split}_labels", labels, f"integers ({num},) or ({num}, 1){_to_labels(labels)}")
        if ids is not None and (ids.shape != (num,) or ids.dtype.kind not in "SU"):
            raise self._refusal(f"{split}_ids", ids, f"text ({num},)")

    def _refusal(self, name: str, header: Header | None, expected: str) -> DatasetError:
        received = "missing" if header is None else f"{header.dtype} {header.shape}"
        return DatasetError(f"{to_printable(name)} of {self.path} is {received}; expected {expected}")

    def _read_ids(self, split: str) -> list[str]:
        return _texts(self.path, f"{split}_ids", self._arrays[f"{split}_ids"])

    def _require_unique_ids(self) -> None:
        ids = [id_ for of_split in self._ids.values() for id_ in of_split]
        if (num_different := len(set(ids))) < len(ids):
            raise DatasetError(
                f"{self.path} has {len(ids)} ids, of which {num_different} differ; every image needs its own"
            )

    def _classes(self, raw: dict[str, np.ndarray]) -> tuple[tuple[str, ...], np.ndarray]:
        """The class names, and the label `(c,)` that stands for each in the file."""
        if "class_names" not in self._arrays:
            values = np.unique(np.concatenate(list(raw.values())))
            if len(values) and values[-1] >= len(values):
                logger.info(
                    "%s has %d classes, named by the labels that occur: %s", self.path, len(values), _listed(values)
                )
            return tuple(map(str, values.tolist())), values
        names = tuple(_names(self.path, self._arrays["class_names"]))
        for split, labels in raw.items():
            if labels.max(initial=0) >= len(names):
                raise DatasetError(
                    f"{to_printable(split)}_labels of {self.path} range from {labels.min()} to {labels.max()}; "
                    f"expected 0 to {len(names) - 1}, the classes being {_listed(names)}"
                )
        return names, np.arange(len(names))

    def _identify(self) -> tuple[str, str]:
        if "dataset" not in self._arrays:
            return self.path.stem, self._digest
        stated = self._arrays["dataset"]
        if stated.shape != (3,) or stated.dtype.kind not in "SU":
            raise DatasetError(f"{self.path} has an array `dataset` that write_npz did not make; remove it")
        name, version, recorded = _texts(self.path, "dataset", stated)
        if self._recorded != recorded:
            raise DatasetError(
                f"{self.path} says it is {to_printable(name)}/{to_printable(version)}, but its arrays are not those that "
                "were written",
                f"  digest now     {self._recorded}",
                f"  digest written {to_printable(recorded)}",
                "fetch it again, or remove its array `dataset`",
            )
        return name, version

    @property
    def num_rows(self) -> dict[str, int]:
        return {split: len(labels) for split, labels in self._labels.items()}

    def labels(self, split: str) -> np.ndarray:
        """The label of every row of a split, int64 `(n,)`."""
        return self._labels[split]

    def examples(self, split: str, start: int, stop: int) -> Iterator[Example]:
        images, labels, ids = self._arrays[f"{split}_images"], self._labels[split], self._ids.get(split)
        for row in range(start, stop):
            id_ = f"{split}_{row:05d}" if ids is None else ids[row]
            yield Example(_in_colour(images[row]), int(labels[row]), id_)

    def known_bad(self, split: str, start: int, stop: int) -> Sequence[BadImage]:
        return ()


def write_npz(dataset: Dataset, path: Path) -> None:
    """Write every split of a dataset, in stored order, with its identity, for machines without TensorFlow.

    All images must be of one size; the whole dataset is held in memory.

    Raises:
      DatasetError: images of differing sizes, an image that cannot be used, or `path` exists.
    """
    require_new_npz(path)
    arrays: dict[str, np.ndarray | Rows] = {"class_names": np.asarray(dataset.class_names)}
    for split, count in dataset.num_rows.items():
        examples = list(require_good(dataset.examples(split, 0, count)))
        if len(shapes := {example.image.shape for example in examples}) > 1:
            raise DatasetError(f"{dataset.name} has images of {len(shapes)} sizes, which an .npz array cannot hold")
        arrays[f"{split}_images"] = np.stack([example.image for example in examples])
        arrays[f"{split}_labels"] = np.asarray([example.label for example in examples], np.int64)
        arrays[f"{split}_ids"] = np.asarray([example.id.encode() for example in examples])
    digest = digest_of(arrays, _digested(arrays, list(dataset.num_rows)))
    arrays["dataset"] = np.asarray([dataset.name, dataset.version, DIGEST_PREFIX + digest.hexdigest()])
    with scratch_folder(path.resolve().parent) as scratch:
        partial = scratch / path.name
        with partial.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        partial.replace(path)


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


def _digested(arrays: dict[str, np.ndarray | Rows], splits: Sequence[str]) -> list[str]:
    """The arrays that decide what the dataset holds, in the order of the digest."""
    names = ["class_names", *(f"{split}_{part}" for split in sorted(splits) for part in ("images", "labels", "ids"))]
    return [name for name in names if name in arrays]


def _opened(archive: Archive, name: str, header: Header) -> np.ndarray | Rows:
    """An array in memory; of images those that are stored row by row stay in the file."""
    is_left = name.endswith("_images") and header.is_stored
    return archive.rows(name, header) if is_left else archive.read(name, header)


def _are_images(header: Header) -> bool:
    shape = header.shape
    is_grey = len(shape) == 3 and shape[2] >= LEAST_WIDTH
    is_in_channels = len(shape) == 4 and shape[3] in (1, 3)
    return header.dtype == np.uint8 and (is_grey or is_in_channels) and min(shape[1:]) > 0


def _in_colour(image: np.ndarray) -> np.ndarray:
    """An image `(h, w)`, `(h, w, 1)` or `(h, w, 3)` as `(h, w, 3)`: grey is the same in all three."""
    if image.ndim == 2:
        image = image[..., None]
    return np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image


def _to_images(header: Header) -> str:
    """How to make images of what a file has, or nothing if that is not known."""
    kind, shape = header.dtype.kind, header.shape
    ways = {
        "f": "`(images * 255).round().astype('uint8')` if they are in 0..1, `images.round().astype('uint8')` in 0..255",
        "b": "`images.astype('uint8') * 255`",
        "u": "`(images // 257).astype('uint8')` if they are in 0..65535, `images.astype('uint8')` in 0..255",
        "i": "`images.astype('uint8')` if they are in 0..255",
    }
    if header.dtype != np.uint8:
        return f"; convert them: {ways[kind]}" if kind in ways else ""
    if len(shape) == 4 and shape[1] in (1, 3):
        return "; channels come last: `images.transpose(0, 2, 3, 1)`"
    if len(shape) == 4 and shape[3] == 4:
        return "; without the fourth channel: `images[..., :3]`"
    if len(shape) == 4 and shape[3] == 2:
        return "; without the second channel: `images[..., :1]`"
    if len(shape) in (2, 3):
        return "; flat ones take their shape by `images.reshape(len(images), h, w, 3)`"
    return ""


def _to_labels(header: Header | None) -> str:
    """How to make labels of what a file has, or nothing if that is not known."""
    if header is None:
        return ""
    if len(header.shape) == 2 and header.shape[1] > 1:
        return (
            f"; {header.shape[1]} columns that are one-hot become labels by `labels.argmax(axis=1)`; several classes "
            "of one image (multi-label, as in ChestMNIST) cannot be told apart"
        )
    if header.dtype.kind in "SU":
        return "; names become labels by `class_names, labels = numpy.unique(labels, return_inverse=True)`: save both"
    if header.dtype.kind in "fb":
        return "; whole numbers become labels by `labels.astype('int64')`"
    return ""


def _read_labels(path: Path, split: str, labels: Any) -> np.ndarray:
    """The labels as the file has them, int64 `(n,)`.

    Raises:
      DatasetError: one is negative, or too large for int64.
    """
    low, high = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
    if low < 0 or high > LARGEST_LABEL:
        raise DatasetError(
            f"{to_printable(split)}_labels of {path} range from {low} to {high}; expected 0 or more "
            "(leave images without a label out of the file)"
        )
    return np.asarray(labels.reshape(-1).astype(np.int64))


def _names(path: Path, names: Any) -> list[str]:
    """The class names.

    Raises:
      DatasetError: they are no names, or there are none.
    """
    is_number = names.dtype.kind == "f"
    flaw = " with values that are not finite" if is_number and not np.isfinite(names).all() else ""
    if names.ndim != 1 or not len(names) or names.dtype.kind not in NAME_KINDS or flaw:
        raise DatasetError(
            f"class_names of {path} is {names.dtype} {names.shape}{flaw}; expected one text for each class, in the "
            "labels' order: `class_names=numpy.array(['cat', 'dog'])`"
        )
    return _texts(path, "class_names", names)


def _texts(path: Path, name: str, values: Any) -> list[str]:
    """An array `(n,)` as texts.

    Raises:
      DatasetError: the file holds what no text does.
    """
    codes = np.ascontiguousarray(values).view(values.dtype.byteorder + "u4") if values.dtype.kind == "U" else None
    if codes is not None and codes.max(initial=0) > sys.maxunicode:
        raise DatasetError(f"{to_printable(name)} of {path} is no text: it holds numbers that stand for no character")
    return [to_text(value) for value in values]


def _listed(names: Iterable[Any]) -> str:
    texts = [to_printable(str(name)) for name in names]
    more = f" ... and {len(texts) - MAX_NAMED} more" if len(texts) > MAX_NAMED else ""
    return ", ".join(texts[:MAX_NAMED]) + more
