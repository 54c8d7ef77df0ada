"""Datasets of Hugging Face: `hf:name` or `hf:name:config` of the hub, `hf:./folder` of `save_to_disk`."""

import logging
import re
from pathlib import Path
from typing import Any

from tfl.datasets.contained import ContainedDataset, Rows
from tfl.datasets.division import ALL
from tfl.datasets.hugging_face_features import EXTRA, find_class_names, find_image, find_label, require_id, to_label
from tfl.datasets.images import read_bytes
from tfl.datasets.source import Source, to_text
from tfl.errors import AssetError, DatasetError
from tfl.files.paths import expand_user
from tfl.machine.packages import require_package
from tfl.specs import DatasetSpec
from tfl.text import to_one_line

logger = logging.getLogger(__name__)
_NAME = re.compile(r"(?P<name>[\w.-]+(/[\w.-]+)?)(:(?P<config>[\w.-]+))?")
_PATH_STARTS = ("/", "./", "../", "~")


def _is_name(word: str) -> bool:
    """Return whether a word names a dataset of the hub, not a folder."""
    return not word.startswith(_PATH_STARTS) and word not in (".", "..")


def _load(word: str) -> dict[str, Any]:
    """Return the `datasets.Dataset` of each split; of `all` if there are no splits."""
    loaded = _load_from_hub(word) if _is_name(word) else _load_from_disk(expand_user(word))
    return dict(loaded) if isinstance(loaded, dict) else {ALL: loaded}


def _load_from_disk(folder: Path) -> Any:
    hf = require_package("datasets", EXTRA)
    if not folder.is_dir():
        raise DatasetError(f"there is no folder {to_text(folder)}")
    try:
        return hf.load_from_disk(str(folder))
    except Exception as error:  # of pyarrow, json and the library's own
        raise DatasetError(
            f"{to_text(folder)} cannot be opened as a dataset of Hugging Face: {to_one_line(error)}",
            "Expected a folder that `save_to_disk` wrote, of a Dataset or a DatasetDict",
        ) from error


def _load_from_hub(word: str) -> Any:
    """Return a dataset of the hub, from the library's own cache if it is there.

    Since version 4 the library runs no program of a dataset.
    """
    hf = require_package("datasets", EXTRA)
    match = _NAME.fullmatch(word)
    if match is None:
        raise DatasetError(f"{word!r} is no name of the hub: expected NAME, OWNER/NAME or NAME:CONFIG, or ./FOLDER")
    if Path(match["name"]).exists():  # the library would take it for a folder of files
        raise DatasetError(
            f"{word!r} could be a dataset of the hub or what is here under that name; `hf:./{match['name']}` is a "
            "folder that `save_to_disk` wrote; for the hub's, work in another folder"
        )
    logger.info("opening %s from the Hugging Face hub, or from this machine's copy of it", word)
    try:
        return hf.load_dataset(match["name"], match["config"])
    except Exception as error:  # of the network, the hub, pyarrow and the library's own
        raise _hub_error(word, error) from error


def _hub_error(word: str, error: Exception) -> AssetError:
    hf = require_package("datasets", EXTRA)
    is_offline = bool(hf.config.HF_HUB_OFFLINE)
    offline = " (HF_HUB_OFFLINE or HF_DATASETS_OFFLINE is set: only what was fetched before is there)"
    return AssetError(
        f"{word} of the Hugging Face hub could not be opened{offline if is_offline else ''}: {to_one_line(error)}",
        "By hand: where the network reaches the hub, run "
        f"`datasets.load_dataset({', '.join(map(repr, word.split(':')))}).save_to_disk('FOLDER')`, bring the folder "
        "here, and give --dataset hf:/path/of/FOLDER",
    )


class _Table:
    """One split, whose rows are read by number; Arrow maps its files, so that images stay on the disk."""

    def __init__(self, rows: Any, split: str, name: str, spec: DatasetSpec) -> None:
        hf = require_package("datasets", EXTRA)
        self._split = split
        self._title = name if split == ALL else f"{split!r} of {name}"  # for messages
        self._image_key = find_image(rows.features, spec.image_key, self._title)
        self._label_key = find_label(rows.features, spec.label_key, self._title)
        self._id_key, self._ids = spec.id_key, list[str]()
        if self._id_key:
            require_id(rows.features, self._id_key, self._title)
        self.class_names = find_class_names(rows.features[self._label_key])
        keys = [key for key in (self._image_key, self._label_key, self._id_key) if key]
        self._rows = rows.with_format(None).select_columns(list(dict.fromkeys(keys)))
        _require_sound(self._rows, self._title)
        self._images = self._rows.select_columns([self._image_key])
        self._images = self._images.cast_column(self._image_key, hf.Image(decode=False))

    def to_rows(self) -> Rows:
        """Return the rows; ids count them, or are those of `--id-key`."""
        labels = [to_label(value, self.class_names is not None) for value in self._read_column(self._label_key)]
        if not self._id_key:
            ids = [f"{self._split}_{row:05d}" for row in range(len(labels))]
            return Rows(ids, labels, self._read, self._name_of)
        self._ids = ids = self._read_ids()
        above = "" if self._split == ALL else f"{self._split}/"
        return Rows([above + id_ for id_ in ids], labels, self._read, self._name_of, [id_.encode() for id_ in ids])

    def _read_column(self, key: str) -> list[Any]:
        return list(self._rows.select_columns([key])[:][key])

    def _read_ids(self) -> list[str]:
        row_of: dict[str, int] = {}
        for row, value in enumerate(self._read_column(self._id_key)):
            id_ = "" if value is None else to_text(value)
            if not id_:
                raise DatasetError(f"{self._name_of(row)} has no {self._id_key!r}; every image needs an id of its own")
            if row_of.setdefault(id_, row) != row:
                raise DatasetError(
                    f"rows {row_of[id_]} and {row} of {self._title} have the same {self._id_key!r}, {id_!r}; every "
                    "image needs an id of its own"
                )
        return list(row_of)

    def _name_of(self, row: int) -> str:
        return f"row {row} of {self._title}" + (f", {self._ids[row]}" if self._ids else "")

    def _read(self, row: int) -> bytes:
        """Return the bytes of an image file; it lies in the table, or where its path says."""
        stored = self._images[row][self._image_key] or {}
        content, path = stored.get("bytes"), stored.get("path")
        if content is not None:
            return bytes(content)
        if not path:
            raise DatasetError(f"{self._name_of(row)} has no image")
        if "://" in path:
            raise DatasetError(
                f"the image of {self._name_of(row)} is not on this machine but at {path}; `save_to_disk` brings images "
                "into the folder that it writes"
            )
        return read_bytes(Path(path))


def _require_sound(rows: Any, title: str) -> None:
    """Refuse a table whose offsets lead out of its data: reading it would end the process (pyarrow 26)."""
    try:
        rows.data.validate(full=True)
    except Exception as error:  # pyarrow's
        raise DatasetError(f"{title} is damaged: {to_one_line(error)}; fetch or save it again") from error


def _open(word: str, spec: DatasetSpec, max_image_pixels: int) -> ContainedDataset:
    name = word if _is_name(word) else to_text(Path(expand_user(word).resolve().name))
    tables = {split: _Table(rows, split, name, spec) for split, rows in _load(word).items()}
    _require_same_classes(tables, name)
    class_names = next(iter(tables.values())).class_names
    rows = {split: table.to_rows() for split, table in tables.items()}
    return ContainedDataset(name, rows, spec, max_image_pixels, class_names)


def _require_same_classes(tables: dict[str, _Table], name: str) -> None:
    """Refuse splits whose numbers stand for different classes."""
    first, *others = tables
    for split in others:
        if tables[split].class_names != tables[first].class_names:
            raise DatasetError(
                f"the splits {first!r} and {split!r} of {name} have different classes in their ClassLabel; expected "
                "the same names in the same order: cast one to the other's features, and save them again"
            )


HF = Source(
    name="hf",
    noun="a dataset of the Hugging Face hub, NAME or NAME:CONFIG, or a folder ./FOLDER of save_to_disk",
    open_dataset=_open,
    keys=frozenset({"image_key", "label_key", "id_key"}),
    is_path=True,
    is_name=_is_name,
)
