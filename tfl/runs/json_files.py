"""JSON files of a run folder, read strictly and written for people."""

import re
from pathlib import Path
from typing import Any

from tfl.errors import RunError
from tfl.files import strict_json
from tfl.files.codec import format_record

NUMBERS = re.compile(
    r"\[\n\s+(-?\d[^][{}\"]*?)\n\s*\]"
)  # a list of numbers in indented JSON, where texts have no newline


def read_json(path: Path, max_bytes: int = strict_json.MAX_JSON_BYTES) -> Any:
    """Return the content of a JSON file of a run folder.

    Raises:
      RunError: see `strict_json.read_json`.
    """
    try:
        return strict_json.read_json(path, max_bytes)
    except ValueError as error:
        raise RunError(f"{path} is not JSON as tfl writes it: {error}; train again") from error


def write_json(path: Path, values: Any) -> None:
    """Write records or JSON's types as indented JSON, with each list of numbers on one line.

    So a confusion matrix has one line for each class.
    """
    text = NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", format_record(values))
    path.write_text(text, encoding="utf-8")
