"""Records to and from JSON's types, strictly: one codec for everything that tfl writes as JSON.

A record is a frozen dataclass. Reading refuses a value of another type, a missing field and an unknown field, each by
its path (`$.features.image_size`); `msgspec` does all but the last for dataclasses (0.22). Writing leaves out the
fields that a record's method `list_omitted_fields` names, if it has one.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from tfl.files import strict_json

Record = TypeVar("Record")

# Types of fields whose values have bounds; `decode_record` holds values to them.
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]
PositiveCount = Annotated[int, msgspec.Meta(ge=1)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


def read_record(path: Path, kind: type[Record], max_bytes: int = strict_json.MAX_JSON_BYTES) -> Record:
    """Return the record of type `kind` that a JSON file holds.

    Raises:
      ValueError: see `strict_json.read_json` and `decode_record`.
    """
    return decode_record(strict_json.read_json(path, max_bytes), kind)


def decode_record(value: Any, kind: type[Record]) -> Record:
    """Return the record of type `kind` that a value of JSON's types describes.

    Raises:
      ValueError: a field is missing, unknown or of another type; the message ends in its path. A `TflError` of the
        record's own `__post_init__` passes through.
    """
    record = msgspec.convert(value, kind)  # msgspec.ValidationError is a ValueError
    _refuse_unknown(value, _expand(record, is_complete=True), "$")
    return record


def list_none_fields(record: Any, names: Iterable[str]) -> list[str]:
    """Return those of the named fields that are None, for `list_omitted_fields`."""
    return [name for name in names if getattr(record, name) is None]


def encode_record(record: Any) -> Any:
    """Return a record as JSON's types: dicts, lists, numbers, texts, None.

    A number that is not finite becomes None. Texts stay as they are, also names of files that are not UTF-8.
    """
    return _expand(record)


def format_record(record: Any) -> str:
    """Return a record as indented JSON in ASCII that ends in a newline."""
    return json.dumps(_expand(record), indent=2) + "\n"


def _expand(value: Any, is_complete: bool = False) -> Any:
    """Return a value with its dataclasses as dicts of their fields, without the omitted ones unless `is_complete`.

    Not by `msgspec.json.encode`: it leaves out fields whose default `msgspec.convert` has left to the class, and
    refuses names of files that are not UTF-8 (0.22).
    """
    if is_dataclass(value) and not isinstance(value, type):
        omitted = [] if is_complete else _list_omitted(value)
        names = [field.name for field in fields(value) if field.name not in omitted]
        return {name: _expand(getattr(value, name), is_complete) for name in names}
    if isinstance(value, Mapping):
        return {key: _expand(each, is_complete) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_expand(each, is_complete) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _list_omitted(record: Any) -> list[str]:
    return record.list_omitted_fields() if hasattr(record, "list_omitted_fields") else []


def _refuse_unknown(given: Any, known: Any, path: str) -> None:
    """Refuse a key of `given` that the decoded record did not take."""
    if isinstance(given, dict) and isinstance(known, dict):
        for key, value in given.items():
            if key not in known:
                raise ValueError(f"Object contains unknown field `{key}` - at `{path}`")
            _refuse_unknown(value, known[key], f"{path}.{key}")
    elif isinstance(given, list) and isinstance(known, list):
        for place, (value, of_record) in enumerate(zip(given, known, strict=True)):
            _refuse_unknown(value, of_record, f"{path}[{place}]")
