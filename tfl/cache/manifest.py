"""The manifest of an unfinished cache: its spec, and everything that its rows' last bits depend on.

The folder may have been damaged, or come from elsewhere: nothing of a manifest is used before it
  has been checked.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from tfl.cache.plain_files import open_regular
from tfl.cache.schema import FORMAT, MAX_TEXT_BYTES
from tfl.errors import CacheError, SpecError
from tfl.files.codec import decode_record
from tfl.files.strict_json import parse_json
from tfl.specs import CacheSpec, Role
from tfl.text import to_printable

MANIFEST = "manifest.json"
MAX_BYTES = 4 * MAX_TEXT_BYTES  # the spec is one of a file's texts, and is indented here
MAX_SHARDS = 1 << 24
MAX_SHOWN = 200  # characters of a value in a message

NumRows = Annotated[int, Meta(ge=1, le=1 << 48)]
BatchSize = Annotated[int, Meta(ge=1, le=1 << 20)]


@dataclass(frozen=True, kw_only=True)
class Making:
    """Everything that the rows' last bits depend on: `engine.describe_engine` and the shard size.

    Attributes:
      environment: the environment variables that change the arithmetic; None in older manifests.
      requested_batch_size: the size that the folder was begun with, if memory did not suffice for
        it.
      earlier_batch_sizes: the sizes that earlier shards were computed with, if memory did not
        suffice for them later.
    """

    engine: str | None = None
    versions: dict[str, str] | None = None
    device: str | None = None
    threads: int | None = None
    batch_size: BatchSize = 1  # of rows that were not computed in batches
    environment: dict[str, str] | None = None
    shard_rows: NumRows
    requested_batch_size: BatchSize | None = None
    earlier_batch_sizes: list[BatchSize] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields that have a value, for JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class _ManifestFile(Making):
    """The manifest as it is written."""

    format: int
    fingerprint: str
    spec: dict[str, Any]
    num_rows: dict[Role, NumRows]


@dataclass(frozen=True)
class Manifest:
    """A manifest that has been checked."""

    spec: CacheSpec
    num_rows: dict[Role, int]
    making: Making

    def to_json(self) -> dict[str, Any]:
        """Return the manifest for JSON."""
        return {
            "format": FORMAT,
            "fingerprint": self.spec.fingerprint,
            "spec": json.loads(self.spec.to_json()),
            "num_rows": self.num_rows,
            **self.making.to_json(),
        }


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of an unfinished cache.

    Raises:
      CacheError: there is none, or it is damaged or of another version; the caller adds what to do.
    """
    path = folder / MANIFEST
    try:
        with open_regular(path) as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
        return _decode(parse_json(content))
    except OSError as error:
        raise CacheError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, RecursionError, SpecError) as error:
        raise CacheError(f"{path} is damaged ({_shorten(str(error))})") from error


def _decode(values: Any) -> Manifest:
    found = decode_record(values, _ManifestFile)
    if found.format != FORMAT:
        raise ValueError(f"it is of format {found.format}, expected {FORMAT}")
    spec = CacheSpec.from_json(json.dumps(found.spec))
    if found.fingerprint != spec.fingerprint:
        raise ValueError(f"its fingerprint {found.fingerprint} is not its spec's {spec.fingerprint}")
    if found.num_rows.keys() != spec.dataset.roles.keys():
        roles = " ".join(spec.dataset.roles)
        raise ValueError(f"it has num_rows for {' '.join(found.num_rows)}; expected {roles}")
    num_shards = sum(-(-count // found.shard_rows) for count in found.num_rows.values())
    if num_shards > MAX_SHARDS:
        raise ValueError(f"it has {num_shards:,} shards; at most {MAX_SHARDS:,} are made")
    making = {name: getattr(found, name) for name in Making.__dataclass_fields__}
    num_rows = {role: found.num_rows[role] for role in spec.dataset.roles}
    return Manifest(spec, num_rows, Making(**making))


def list_changes(before: Manifest, now: Manifest) -> list[str]:
    """Return a line for each setting that differs, `batch_size: 8 in the folder, 4 now`.

    Args:
      before: as the folder was begun. If it has no `environment`, none of the variables was noted
        then.
    """
    old, new = before.to_json(), now.to_json()
    old_environment = old.pop("environment", {})
    new_environment = new.pop("environment", {})
    lines = [
        f"{key}: {_shorten(old.get(key))} in the folder, {_shorten(value)} now"
        for key, value in new.items()
        if value != old.get(key)
    ]
    for name in sorted(old_environment.keys() | new_environment.keys()):
        was, is_ = (values.get(name, "not set") for values in (old_environment, new_environment))
        if was != is_:
            lines.append(f"the environment's {name}: {_shorten(was)} in the folder, {_shorten(is_)} now")
    return lines


def _shorten(value: Any) -> str:
    """Return any value as text that is short and safe to show."""
    text = str(value)
    return to_printable(text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "...")
