"""Records to and from JSON's types, strictly: one codec for everything that tfl writes as JSON.

A record is a frozen dataclass. Reading refuses a value of another type, a missing field and an unknown field, each by
its path (`$.features.image_size`); `msgspec` does all but the last for dataclasses (0.22).
"""

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tfl.files import strict_json

Record = TypeVar("Record")


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
    _refuse_unknown(value, encode_record(record), "$")
    return record


def encode_record(record: Any) -> Any:
    """Return a record as JSON's types: dicts, lists, numbers, texts, None; a NaN becomes None."""
    return msgspec.json.decode(msgspec.json.encode(record))


def format_record(record: Any) -> str:
    """Return a record as indented JSON that ends in a newline."""
    return msgspec.json.format(msgspec.json.encode(record), indent=2).decode() + "\n"


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
