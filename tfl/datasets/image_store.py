"""The file that images given in Python are written to: an .npz file of arrays, or a table of paths."""

import contextlib
import errno
import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfl.datasets.array_labels import convert_labels, join_labels
from tfl.datasets.arrays import ImageConverter, list_blocks
from tfl.datasets.data_objects import LabelledBlock, find_class_names, find_kind
from tfl.datasets.division import ALL
from tfl.datasets.image_spool import ImageSpool, SpooledArray
from tfl.datasets.npz import NPZ
from tfl.datasets.npz_writer import Identity, save_arrays
from tfl.datasets.source import to_text
from tfl.datasets.table import TABLE
from tfl.errors import DatasetError
from tfl.files.paths import expand_user
from tfl.files.scratch import scratch_folder
from tfl.specs import DIGEST_PREFIX
from tfl.specs.spec import to_file_stem

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
DIGITS = 12  # of a digest, in a file's name

logger = logging.getLogger(__name__)


class Part(NamedTuple):
    """The images of one split."""

    images: Any
    labels: Any
    ids: list[str] | None


def _to_location(path: str | os.PathLike[str]) -> str:
    """Return a path as a table anywhere can hold it: absolute, unless it is a URI."""
    text = os.fspath(path)
    return text if "://" in text else str(expand_user(text).absolute())


@dataclass(frozen=True)
class ImageStore:
    """A folder in which images are written to one file, whose name ends in the digest of its content.

    Attributes:
      name: of the dataset.
      class_names: see `convert_labels`.
    """

    folder: Path
    name: str
    class_names: Sequence[str] | None

    def write_arrays(self, parts: dict[str, Part]) -> str:
        """Write images to an .npz file and return the word that opens it; no more than a block is held in memory."""
        converter = ImageConverter()
        for split, part in parts.items():
            if find_kind(part.images) is None:
                with _naming(split):
                    converter.measure(part.images)
                _require_as_many(split, part, len(part.images), len(part.labels))
        with _naming_full_disk(self.folder), scratch_folder(self.folder) as scratch:
            arrays: dict[str, np.ndarray | SpooledArray] = {}
            labels = []
            for split, part in parts.items():
                with ImageSpool(scratch / split) as spool:
                    labels.append(_spool_part(split, part, spool, converter))
                arrays |= {f"{split}_{name}": array for name, array in spool.finish().items()}
                if part.ids is not None:
                    arrays[f"{split}_ids"] = np.asarray([id_.encode() for id_ in part.ids])
            converter.log()
            numbers, class_names = self._number_labels(parts, labels)
            arrays |= {f"{split}_labels": of_split for split, of_split in numbers.items()}
            arrays["class_names"] = np.asarray(class_names)
            digest = save_arrays(scratch / "images.npz", arrays, parts, Identity(self.name, ""))
            path = self._place(scratch / "images.npz", digest)
        return NPZ.prefix + str(path)

    def write_table(self, parts: dict[str, Part]) -> str:
        """Write paths to a table of JSON lines and return the word that opens it; the images stay where they are."""
        numbers, class_names = self._number_labels(parts, [part.labels for part in parts.values()])
        if list(class_names) != sorted(class_names):
            logger.info("the images are paths: their classes are those of a table, sorted as text")
        lines = []
        for split, part in parts.items():
            _require_as_many(split, part, len(part.images), len(numbers[split]))
            ids = part.ids or [to_text(os.fspath(path)) for path in part.images]
            for path, label, id_ in zip(part.images, numbers[split].tolist(), ids, strict=True):
                row = {"path": _to_location(path), "label": class_names[label], "id": id_}
                lines.append(json.dumps(row if split == ALL else {**row, "split": split}) + "\n")
        content = "".join(lines).encode()
        with scratch_folder(self.folder) as scratch:
            (scratch / "images.jsonl").write_bytes(content)
            path = self._place(scratch / "images.jsonl", DIGEST_PREFIX + sha256(content).hexdigest())
        return TABLE.prefix + str(path)

    def _number_labels(
        self, parts: dict[str, Part], labels: Sequence[Any]
    ) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
        """Return the classes of each split's images, int64 `(n,)`, and the names of the classes of all."""
        names = self.class_names
        if names is None:
            names = find_class_names(next(iter(parts.values())).images)
        joined, lengths = join_labels(labels)
        numbers, class_names = convert_labels(joined, names)
        pieces = np.split(numbers, np.cumsum(lengths)[:-1])
        return dict(zip(parts, pieces, strict=True)), class_names

    def _place(self, file: Path, digest: str) -> Path:
        """Move a file to its name in the folder; an earlier file of the same content is replaced by itself."""
        hexadecimal = digest.removeprefix(DIGEST_PREFIX)[:DIGITS]
        path = self.folder.resolve() / f"{to_file_stem(self.name)}-{hexadecimal}{file.suffix}"
        file.replace(path)
        logger.info("images are in %s", path)
        return path


def _spool_part(split: str, part: Part, spool: ImageSpool, converter: ImageConverter) -> Any:
    """Write the images of a split to its spool, and return its labels."""
    with _naming(split):
        kind = find_kind(part.images)
        if kind is None:
            labels = part.labels
            for images in list_blocks(part.images):
                spool.add(converter.convert(images))
        else:
            logger.info("%s is read once: ids are positions, and one that shuffles has others each time", kind.noun)
            labels = _spool_stream(kind.read(part.images), spool, converter)
        _require_as_many(split, part, len(spool), len(labels))
        return labels


def _spool_stream(blocks: Iterator[LabelledBlock], spool: ImageSpool, converter: ImageConverter) -> list[Any]:
    labels: list[Any] = []
    for block in blocks:
        spool.add(converter.convert(block.images))
        converter.has_moved_channels |= block.had_channels_first
        labels += block.labels
    return labels


def _require_as_many(split: str, part: Part, num_images: int, num_labels: int) -> None:
    """Refuse a split without images, or that has not a label, and an id if ids were given, of each image."""
    if num_images == 0:
        raise DatasetError("there are no images" if split == ALL else f"there are no images of {split}")
    counts = {"labels": num_labels} | ({} if part.ids is None else {"ids": len(part.ids)})
    for noun, count in counts.items():
        if num_images != count:
            of_split = "" if split == ALL else f" of {split}"
            raise DatasetError(f"{num_images} images{of_split} and {count} {noun}; expected one of each image")


@contextlib.contextmanager
def _naming(split: str) -> Iterator[None]:
    """Add the split to errors, where there are several."""
    try:
        yield
    except DatasetError as error:
        if split == ALL:
            raise
        raise DatasetError(f"{split}: {error.args[0]}", *error.args[1:]) from error


@contextlib.contextmanager
def _naming_full_disk(folder: Path) -> Iterator[None]:
    """Name the folder in which there is no room for the images."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise DatasetError(
            f"images cannot be written to {folder}: {error.strerror}. Twice the bytes of their pixels are needed there "
            "while the file is made"
        ) from error
