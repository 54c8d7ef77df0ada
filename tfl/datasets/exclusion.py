"""The ids of images to leave out, from a CSV file such as `tfl audit` writes."""

import csv
import hashlib
from dataclasses import replace
from pathlib import Path

from tfl.errors import SpecError
from tfl.files.paths import expand_user
from tfl.specs import DIGEST_PREFIX, DatasetSpec

REASON = "left out by --exclude"
ID = "id"  # the column


def read_exclusion(spec: DatasetSpec) -> frozenset[str]:
    """Return the ids that a spec's `exclude` names; none if it is empty.

    Raises:
      SpecError: the file is not there, is no CSV file in UTF-8, has no column `id`, or no row.
    """
    if not spec.exclude:
        return frozenset()
    if spec.exclude.startswith(DIGEST_PREFIX):
        raise SpecError(f"--exclude is a CSV file with a column {ID}; got {spec.exclude}, the digest of one's ids")
    path = expand_user(spec.exclude)
    ids = _read_ids(path)
    if not ids:
        raise SpecError(f"{path} has no rows; leave --exclude out to use all images")
    return ids


def _read_ids(path: Path) -> frozenset[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if ID not in (rows.fieldnames or ()):
                raise SpecError(f"{path} has the columns {rows.fieldnames}; expected one called {ID!r}")
            return frozenset(row[ID] for row in rows if row[ID])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SpecError(f"--exclude {path} cannot be read as a CSV file: {error}") from error


def resolve_exclusion(spec: DatasetSpec, ids: frozenset[str]) -> DatasetSpec:
    """Return the spec with the digest of the ids in the place of the file's name."""
    if not ids:
        return spec
    content = "\n".join(sorted(ids)).encode()
    return replace(spec, exclude=DIGEST_PREFIX + hashlib.sha256(content).hexdigest())
