"""`manifest.json` of an unfinished cache: which cache it is, and what its rows' last bits depend on.

The folder may have been damaged, or come from elsewhere: nothing of a manifest is used before it has been checked.
"""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from tfl.cache.plain_files import open_regular
from tfl.cache.schema import FORMAT, MAX_TEXT_BYTES
from tfl.errors import CacheError, SpecError
from tfl.specs import CacheSpec, Role
from tfl.text import to_printable

MANIFEST = "manifest.json"
EARLIER = "earlier_batch_sizes"
"""In `making`, where memory did not suffice after a shard was finished: the sizes before `batch_size`."""
REQUESTED = "requested_batch_size"
"""In `making`, where memory did not suffice for it: the size that the folder was begun with."""
ENVIRONMENT = "environment"
"""In `making`: the variables of the environment that change the arithmetic; of none in older manifests."""
DESCRIBED = ("format", "fingerprint", "spec", "num_rows")
MAX_BYTES = 4 * MAX_TEXT_BYTES  # the spec is one of a file's texts, and stands here indented
MAX_ROWS = 1 << 48
MAX_SHARDS = 1 << 24
MAX_BATCH = 1 << 20
MAX_DEPTH = 4  # of what is in `making`
MAX_SHOWN = 200  # characters of a value in a message


class Manifest(NamedTuple):
    """A manifest that has been checked.

    Attributes:
      making: what the last bits of the rows depend on; see `engine.describe`.
    """

    spec: CacheSpec
    num_rows: dict[Role, int]
    making: dict[str, Any]


def describe(spec: CacheSpec, num_rows: dict[Role, int], making: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest, for JSON."""
    identity = {"fingerprint": spec.fingerprint, "spec": json.loads(spec.to_json())}
    return {"format": FORMAT, **identity, "num_rows": num_rows, **making}


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of an unfinished cache.

    Raises:
      CacheError: there is none, or it is damaged or of another version; without what to do about it.
    """
    path = folder / MANIFEST
    try:
        with open_regular(path) as file:
            text = file.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
        return _checked(json.loads(text))
    except KeyError as error:
        raise CacheError(f"{path} is damaged (it has no {error})") from error
    except OSError as error:
        raise CacheError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, RecursionError, SpecError) as error:
        raise CacheError(f"{path} is damaged ({_shown(str(error))})") from error


def _checked(values: Any) -> Manifest:
    if not isinstance(values, dict):
        raise TypeError(f"a JSON object was expected, got {_shown(values)}")
    if values["format"] != FORMAT:
        raise ValueError(f"it is of format {_shown(values['format'])}, expected {FORMAT}")
    spec = CacheSpec.from_json(json.dumps(values["spec"]))
    if values["fingerprint"] != spec.fingerprint:
        raise ValueError(f"its fingerprint {_shown(values['fingerprint'])} is not its spec's {spec.fingerprint}")
    if not isinstance(values["num_rows"], dict):
        raise TypeError(f"its num_rows are {_shown(values['num_rows'])}; expected a number of rows by role")
    num_rows = {role: require_count(values["num_rows"][role], "num_rows", MAX_ROWS) for role in spec.dataset.roles}
    making = {key: value for key, value in values.items() if key not in DESCRIBED}
    _check_making(making)
    num_shards = sum(-(-count // making["shard_rows"]) for count in num_rows.values())
    require_count(num_shards, "number of shards", MAX_SHARDS)
    return Manifest(spec, num_rows, making)


def _check_making(making: dict[str, Any]) -> None:
    require_count(making["shard_rows"], "shard_rows", MAX_ROWS)
    for name in ("batch_size", REQUESTED):
        if name in making:
            require_count(making[name], name, MAX_BATCH)
    earlier = making.get(EARLIER, [])
    if not isinstance(earlier, list):
        raise TypeError(f"its {EARLIER} are {_shown(earlier)}; expected a list of numbers")
    for size in earlier:
        require_count(size, EARLIER, MAX_BATCH)
    for name in ("engine", "device"):
        if not isinstance(making.get(name, ""), str):
            raise TypeError(f"its {name} is {_shown(making[name])}; expected a text")
    for name in ("versions", ENVIRONMENT):
        _require_texts(making.get(name, {}), name)
    for name, value in making.items():
        _require_plain(value, name, MAX_DEPTH)


def require_count(value: Any, name: str, most: int) -> int:
    """Refuse what is no positive number, or one so large that no cache has it."""
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError(f"its {name} is {_shown(value)}; expected a number from 1 to {most:,}")
    return value


def _require_texts(value: Any, name: str) -> None:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise TypeError(f"its {name} is {_shown(value)}; expected texts by name")


def _require_plain(value: Any, name: str, depth: int) -> None:
    """Refuse what could not be shown or written again: deep nesting, and numbers that are none."""
    if depth == 0:
        raise ValueError(f"its {name} is nested too deeply")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"its {name} holds {value}, which is no finite number")
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for member in members:
        _require_plain(member, name, depth - 1)


def differences(theirs: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    """Return a line for each of our settings that is not as in a folder, `batch_size: 8 in the folder, 4 now`.

    Args:
      theirs: what the folder's manifest says; without ENVIRONMENT, it was begun before that was noted.
    """
    changed = [key for key in ours if key != ENVIRONMENT and ours[key] != theirs.get(key)]
    lines = [f"{key}: {_shown(theirs.get(key))} in the folder, {_shown(ours[key])} now" for key in changed]
    before, now = theirs.get(ENVIRONMENT, {}), ours.get(ENVIRONMENT, {})
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            was, is_ = (_shown(values.get(name, "not set")) for values in (before, now))
            lines.append(f"the environment's {name}: {was} in the folder, {is_} now")
    return lines


def _shown(value: Any) -> str:
    """A value that may be anything, short and safe to show."""
    try:
        text = str(value)
    except (RecursionError, ValueError):  # of an integer of too many digits
        text = f"a {type(value).__name__}"
    return to_printable(text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "...")
