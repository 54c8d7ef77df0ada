"""The image and the label of each sample of a WebDataset."""

import json
from dataclasses import dataclass
from typing import Any

from tfl.datasets.class_labels import Label
from tfl.datasets.images import image_suffixes
from tfl.datasets.source import to_text
from tfl.datasets.tar_index import Sample
from tfl.errors import DatasetError
from tfl.text import join_first, to_printable

CLASS, JSON = "cls", "json"  # suffixes of a label's number, and of a record


@dataclass(frozen=True)
class SampleReader:
    """Which file of a sample is its image, and which says its label.

    Args:
      image_key: a suffix; if empty, the one that is an image's.
      label_key: a suffix of a text, or a field of the `.json`; if empty, `cls`.
    """

    image_key: str
    label_key: str

    def find_image(self, sample: Sample) -> str:
        """Return the suffix of the image.

        Raises:
          DatasetError: there is none, or there are several.
        """
        if self.image_key:
            if self.image_key not in sample.files:
                raise DatasetError(f"{sample.name} has no file .{self.image_key}{_describe(sample)}")
            return self.image_key
        found = [suffix for suffix in sample.files if _is_image(suffix)]
        if not found:
            raise DatasetError(
                f"{sample.name} has no image{_describe(sample)}; expected one that ends in "
                f"{' '.join(sorted(image_suffixes()))}, or --image-key SUFFIX"
            )
        if len(found) > 1:
            raise DatasetError(
                f"{sample.name} has several images: {', '.join(found)}; choose one: --image-key {found[0]}"
            )
        return found[0]

    def read_label(self, sample: Sample) -> Label | None:
        """Return the label: an integer from `cls` or a record, else text; None if it is empty.

        Raises:
          DatasetError: there is none of that name, or it is no label.
        """
        key = self.label_key or CLASS
        if key in sample.files and key != JSON:
            return _parse_text(sample, key)
        if self.label_key and JSON in sample.files:
            return _find_field(sample, self.label_key)
        raise DatasetError(
            f"{sample.name} has no label .{key}{_describe(sample)}; say which file, or which field of the .json, is "
            f"the label: --label-key {_suggest(sample)}"
        )


def _is_image(suffix: str) -> bool:
    return "." + suffix.rpartition(".")[2] in image_suffixes()


def _describe(sample: Sample) -> str:
    """Return what there is instead."""
    suffixes = [to_printable(to_text(suffix)) for suffix in sample.files]
    fields = f"; its .json has {join_first(_list_fields(sample))}" if JSON in sample.files else ""
    return f", only {join_first(['.' + suffix for suffix in suffixes])}{fields}"


def _suggest(sample: Sample) -> str:
    if JSON in sample.files:
        return next(iter(_list_fields(sample)), "FIELD")
    others = [suffix for suffix in sample.files if not _is_image(suffix)]
    return others[0] if others else "SUFFIX"


def _parse_text(sample: Sample, suffix: str) -> Label | None:
    content = sample.read(suffix)
    try:
        text = content.decode().strip()
    except UnicodeDecodeError as error:
        raise DatasetError(f".{suffix} of {sample.name} is no UTF-8 text, but {content[:20]!r}") from error
    if suffix.rpartition(".")[2] != CLASS or not text:
        return text or None
    try:
        return int(text)
    except ValueError as error:
        raise DatasetError(
            f".{suffix} of {sample.name} is {text[:40]!r}; expected a whole number (text labels are stored as .txt, "
            "and named by --label-key txt)"
        ) from error


def _read_record(sample: Sample) -> dict[str, Any]:
    try:
        record = json.loads(sample.read(JSON))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f".json of {sample.name} cannot be read: {error}") from error
    if not isinstance(record, dict):
        raise DatasetError(f".json of {sample.name} holds {type(record).__name__}; expected an object with fields")
    return record


def _list_fields(sample: Sample) -> list[str]:
    return [to_printable(to_text(name)) for name in _read_record(sample)]


def _find_field(sample: Sample, name: str) -> Label | None:
    record = _read_record(sample)
    if name not in record:
        raise DatasetError(f"{sample.name} has no {to_printable(name)!r}{_describe(sample)}")
    value = record[name]
    if isinstance(value, bool):
        return str(value)
    if value is None or isinstance(value, int | str):
        return value
    kind = "several values (multi-label)" if isinstance(value, list) else f"{type(value).__name__} {value!r:.40}"
    raise DatasetError(f"{name!r} in the .json of {sample.name} is {kind}; expected one whole number or one text")
