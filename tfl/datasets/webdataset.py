"""WebDataset: images and labels in tars, `wds:shards-{000..009}.tar`.

Python's own tarfile reads them: the library webdataset streams tars from beginning to end, and
rows are read here by number.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tfl.datasets.class_labels import Label
from tfl.datasets.contained import ContainedDataset, Rows
from tfl.datasets.division import ALL
from tfl.datasets.source import Source, to_text
from tfl.datasets.splits import split_names
from tfl.datasets.tar_index import Extent, Sample, list_samples, read_extent
from tfl.datasets.wds_samples import SampleReader
from tfl.datasets.wds_shards import SEPARATOR, find_tars, name_splits
from tfl.errors import DatasetError
from tfl.files.paths import expand_user
from tfl.specs import DatasetSpec
from tfl.text import to_printable


class _Index:
    """The samples of one split: keys, labels, and where their images lie.

    Args:
      is_used: whether the split is in use; else its samples may have no label.
    """

    def __init__(self, split: str, tars: Sequence[Path], reader: SampleReader, is_used: bool) -> None:
        self._above = "" if split == ALL else f"{split}/"
        self._is_used = is_used
        self._reader = reader
        self._tars: list[Path] = []
        self._images: list[tuple[int, Extent, str]] = []  # number of the tar, place, suffix
        self._row_of: dict[str, int] = {}
        self._labels: list[Label | None] = []
        for tar in tars:
            self._tars.append(tar)
            self._add(list_samples(tar))

    def _add(self, samples: Iterable[Sample]) -> None:
        for sample in samples:
            suffix = self._reader.find_image(sample)
            extent = sample.files[suffix]
            if sample.key in self._row_of:
                self._refuse_twice(sample, extent)
            self._row_of[sample.key] = len(self._images)
            self._images.append((len(self._tars) - 1, extent, suffix))
            self._labels.append(self._read_label(sample))

    def _read_label(self, sample: Sample) -> Label | None:
        try:
            return self._reader.read_label(sample)
        except DatasetError:
            if self._is_used:
                raise
            return None

    def _refuse_twice(self, sample: Sample, extent: Extent) -> None:
        number, first, _ = self._images[self._row_of[sample.key]]
        raise DatasetError(
            f"the key {to_printable(to_text(sample.key))!r} is there twice: at byte {first.start:,} of "
            f"{to_text(self._tars[number])} and at byte {extent.start:,} of {to_text(sample.tar)}; expected the files "
            "of a sample one after the other, and every sample with a key of its own"
        )

    def to_rows(self) -> Rows:
        """Return the rows; ids are the keys, below their split if there are several."""
        keys = list(self._row_of)
        return Rows(
            ids=[self._above + key for key in keys],
            labels=self._labels,
            read=self._read,
            name_of=lambda row: self._name_of(row, keys[row]),
            keys=[key.encode(errors="surrogateescape") for key in keys],
        )

    def _read(self, row: int) -> bytes:
        number, extent, _ = self._images[row]
        return read_extent(self._tars[number], extent)

    def _name_of(self, row: int, key: str) -> str:
        number, _, suffix = self._images[row]
        return f"{to_text(self._tars[number])}:{to_text(key)}.{suffix}"


def _open(word: str, spec: DatasetSpec, max_image_pixels: int) -> ContainedDataset:
    reader = SampleReader(spec.image_key.lower().lstrip("."), spec.label_key.lstrip("."))
    tars = name_splits(find_tars(word))
    used = [ALL, *split_names(spec)]
    splits = {split: _Index(split, of_split, reader, split in used).to_rows() for split, of_split in tars.items()}
    return ContainedDataset(_name(word), splits, spec, max_image_pixels)


def _name(word: str) -> str:
    """Return a short name: of the folder, or of the first pattern without its number."""
    path = expand_user(word.split(SEPARATOR, maxsplit=1)[0])
    stem = path.name if path.is_dir() else re.sub(r"\{.*|[*?\[].*|[-_.]\d+$", "", path.stem)
    return to_text(stem.strip("-_.") or path.absolute().parent.name)


def _make_absolute(word: str) -> str:
    return SEPARATOR.join(str(expand_user(pattern).resolve()) for pattern in word.split(SEPARATOR))


def _owns(word: str) -> bool:
    return word.endswith(".tar")


WDS = Source(
    name="wds",
    noun="tars of a WebDataset, shards-{000..009}.tar, or a folder of them",
    open_dataset=_open,
    owns=_owns,
    keys=frozenset({"image_key", "label_key"}),
    is_path=True,
    make_absolute=_make_absolute,
)
