"""Format 1 of the cache file, checked on an open HDF5 file before any of its arrays is allocated.

A file may come from a stranger. Nothing that leads out of the format is followed (links, external
storage, virtual datasets, filters other than the checksum), and every size is compared with the
size of the file.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from tfl.cache.provenance import Provenance, read_provenance, require_texts
from tfl.errors import CacheError
from tfl.files.hdf5 import SIGNATURE
from tfl.specs import CacheSpec, FeatureSpec, Role, View

FORMAT = 1
# In HDF5's oldest file format, flipped metadata bytes were read back silently wrong; in v110 never.
HDF5_VERSION = "v110"
SUPERBLOCK_VERSION = b"\x03"  # v110 writes it after HDF5's signature
CHUNK_BYTES = 1 << 20
CHECKSUM_BYTES = 4  # of each chunk, fletcher32
MAX_CHUNK_BYTES = 1 << 24
MAX_ID_BYTES = 1 << 12
MAX_TEXT_BYTES = 1 << 24
TEXTS = ("spec", "fingerprint", "class_names", "provenance", "digests")
ARRAYS = ("features", "labels", "ids")
VIEWS_GROUP = "views"  # in a role's group; holds the features of all views but the original


@dataclass(frozen=True)
class Header:
    """Everything in a cache file except its rows.

    Attributes:
      digests: `sha256:...` of each array's bytes, by `<role>/<name>`; `verify` compares them.
    """

    spec: CacheSpec
    class_names: tuple[str, ...]
    provenance: Provenance
    digests: dict[str, str]
    num_rows: dict[Role, int]
    num_features: int


def array_name(view: View) -> str:
    """Return the name, inside a role, of the array with a view's features."""
    return "features" if view == "original" else f"{VIEWS_GROUP}/{view}"


def array_names(spec: CacheSpec) -> tuple[str, ...]:
    """Return the names of all arrays of a role."""
    return (*ARRAYS, *(array_name(view) for view in spec.views[1:]))


def require_signature(path: Path) -> None:
    """Refuse a file that is not HDF5 of the version that precompute writes, without asking HDF5.

    Raises:
      CacheError: says what the file is instead.
    """
    with path.open("rb") as file:
        start = file.read(len(SIGNATURE) + 1)
    if not start.startswith(SIGNATURE):
        raise CacheError(f"{path} is not an HDF5 file ({path.stat().st_size} bytes); expected one made by precompute")
    if start != SIGNATURE + SUPERBLOCK_VERSION:
        raise CacheError(f"{path} is an HDF5 file of another version than precompute writes ({HDF5_VERSION})")


def require_storable(spec: CacheSpec, class_names: Sequence[str], provenance: dict[str, Any]) -> None:
    """Refuse a spec, class names or provenance that are too large for the file.

    Raises:
      CacheError: a text is too large, or there are fewer than two classes.
    """
    if len(class_names) < 2:
        raise CacheError(f"the dataset has {len(class_names)} classes; a cache needs two or more")
    what_to_do = {
        "spec": (spec.to_json(), "give shorter --train-split, --val-split, --test-split or fewer --layers"),
        "class_names": (json.dumps(class_names), "use fewer classes, or shorter names for them"),
        "provenance": (json.dumps(provenance), "give shorter paths for the dataset and the weights"),
    }
    for name, (text, advice) in what_to_do.items():
        if len(text) > MAX_TEXT_BYTES:
            raise CacheError(
                f"the {name} of this cache would take {len(text):,} bytes, and a cache file stores at most "
                f"{MAX_TEXT_BYTES:,}: {advice}"
            )


def fit_skipped(provenance: dict[str, Any]) -> dict[str, Any]:
    """Return a provenance with as many `skipped` images as fit; `num_skipped` counts all."""
    skipped = provenance["skipped"]
    if not skipped:
        return provenance
    counted = {**provenance, "num_skipped": len(skipped)}
    room = MAX_TEXT_BYTES - len(json.dumps({**counted, "skipped": []}))
    for index, image in enumerate(skipped):
        room -= len(json.dumps(image)) + len(", ")
        if room < 0:
            return {**counted, "skipped": skipped[:index]}
    return counted


def read_header(file: h5py.File, file_bytes: int) -> Header:
    """Return the header of an open file; check the sizes and types of its arrays first.

    Raises:
      CacheError: it is of another format, or differs from the format; the caller adds the path.
      SpecError: likewise, for the spec.
    """
    if "format" not in file.attrs:
        raise CacheError("an HDF5 file, but not a feature cache (it has no attribute `format`)")
    if (found := _number(file, "format")) != FORMAT:
        raise CacheError(f"format {found}; this version of tfl reads {FORMAT}: precompute again")
    texts = {name: _text(file, name) for name in TEXTS}
    spec = CacheSpec.from_json(texts["spec"])
    if texts["spec"] != spec.to_json():
        raise CacheError("its spec is not written as canonical JSON")
    if spec.fingerprint != texts["fingerprint"]:
        raise CacheError(f"its fingerprint {texts['fingerprint'][:64]} is not its spec's {spec.fingerprint}")
    num_rows = _check_arrays(file, spec, file_bytes)
    provenance = read_provenance(_json(texts, "provenance", dict))
    digests = _json(texts, "digests", dict)
    require_texts(digests, [f"{role}/{name}" for role in num_rows for name in array_names(spec)], "digests")
    class_names = _json(texts, "class_names", list)
    if len(class_names) < 2 or not all(isinstance(name, str) for name in class_names):
        raise CacheError(f"its class_names are {str(class_names)[:80]}; expected two names or more")
    num_features = file[next(iter(num_rows))]["features"].shape[1]
    return Header(spec, tuple(class_names), provenance, digests, num_rows, num_features)


def _number(file: h5py.File, name: str) -> int:
    attribute = h5py.h5a.open(file.id, name.encode())
    if attribute.shape != () or attribute.get_type() != h5py.h5t.STD_I64LE:
        raise CacheError(f"its attribute {name} is not one 64-bit integer")
    return int(file.attrs[name])


def _text(file: h5py.File, name: str) -> str:
    """Return a text attribute of fixed length: HDF5 keeps others in a heap without checksum."""
    if name not in file.attrs:
        raise CacheError(f"it has no attribute {name}")
    attribute = h5py.h5a.open(file.id, name.encode())
    kind = attribute.get_type()
    if attribute.shape != () or not _is_fixed_text(kind):
        raise CacheError(f"its attribute {name} is not one text of fixed length")
    if kind.get_size() > MAX_TEXT_BYTES:
        raise CacheError(f"its attribute {name} has {kind.get_size():,} bytes; at most {MAX_TEXT_BYTES:,} are read")
    return bytes(file.attrs[name]).decode()


def _is_fixed_text(kind: Any) -> bool:
    is_text = isinstance(kind, h5py.h5t.TypeStringID) and not kind.is_variable_str()
    return is_text and kind.get_cset() in (h5py.h5t.CSET_ASCII, h5py.h5t.CSET_UTF8)


def _json(texts: dict[str, str], name: str, kind: type) -> Any:
    try:
        value = json.loads(texts[name])
    except (ValueError, RecursionError) as error:
        raise CacheError(f"its attribute {name} is not JSON: {error}") from error
    if not isinstance(value, kind):
        raise CacheError(f"its attribute {name} is a {type(value).__name__}; expected a {kind.__name__}")
    return value


def _check_arrays(file: h5py.File, spec: CacheSpec, file_bytes: int) -> dict[Role, int]:
    roles = list(spec.dataset.roles)
    _require_members(file, roles)
    stored = 0
    num_rows: dict[Role, int] = {}
    for role in roles:
        arrays = _arrays_of_role(file[role], spec)
        stored += sum(_stored_bytes(array) for array in arrays.values())
        _check_kinds(role, arrays, spec.features)
        num_rows[role] = arrays["labels"].shape[0]
    widths = {file[role]["features"].shape[1] for role in roles}
    if len(widths) > 1:
        raise CacheError(f"its roles have features of differing widths: {sorted(widths)}")
    if stored > file_bytes:
        raise CacheError(f"its arrays claim {stored:,} bytes, the file has {file_bytes:,}")
    return num_rows


def _arrays_of_role(group: h5py.Group, spec: CacheSpec) -> dict[str, Any]:
    further = spec.views[1:]
    _require_members(group, [*ARRAYS, VIEWS_GROUP] if further else ARRAYS)
    if further:
        _require_members(group[VIEWS_GROUP], further)
    return {name: group[name] for name in array_names(spec)}


def _require_members(group: h5py.Group, expected: Sequence[str]) -> None:
    """Refuse other members than these, and links: a soft or external link may lead anywhere."""
    if not isinstance(group, h5py.Group):
        raise CacheError(f"{group.name} is not a group")
    found = sorted(bytes(name).decode(errors="backslashreplace") for name in group.id)
    if found != sorted(expected):
        raise CacheError(f"{group.name} holds {', '.join(found[:10]) or 'nothing'}; expected {', '.join(expected)}")
    for name in expected:
        if group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
            raise CacheError(f"{group.name} holds a link {name}, which leads out of the format")


def _stored_bytes(array: Any) -> int:
    """Return the bytes that an array takes; refuse one that is not whole and checksummed."""
    if not isinstance(array, h5py.Dataset):
        raise CacheError(f"{array.name} is not a dataset")
    storage, space = array.id.get_create_plist(), array.id.get_space()
    is_plain = storage.get_layout() == h5py.h5d.CHUNKED and storage.get_external_count() == 0 and not array.is_virtual
    filters = [storage.get_filter(index)[0] for index in range(storage.get_nfilters())]
    if not is_plain or filters != [h5py.h5z.FILTER_FLETCHER32]:
        raise CacheError(f"{array.name} is not stored in this file in chunks with fletcher32 and nothing else")
    shape, chunk = array.shape, storage.get_chunk()
    if not shape or 0 in shape or space.get_simple_extent_dims(True) != shape:
        raise CacheError(f"{array.name} has shape {shape}; expected a fixed one of at least one row")
    chunk_bytes = array.id.get_type().get_size() * math.prod(chunk)
    num_chunks = math.prod(-(-size // step) for size, step in zip(shape, chunk, strict=True))
    stored = int(array.id.get_storage_size())
    if chunk_bytes > MAX_CHUNK_BYTES or stored != num_chunks * (chunk_bytes + CHECKSUM_BYTES):
        raise CacheError(
            f"{array.name} of shape {shape} in chunks {chunk} takes {stored:,} bytes; expected all of its "
            f"{num_chunks:,} chunks, of at most {MAX_CHUNK_BYTES:,} bytes each"
        )
    return stored


def _check_kinds(role: Role, arrays: dict[str, h5py.Dataset], spec: FeatureSpec) -> None:
    kinds = {name: array.id.get_type() for name, array in arrays.items()}
    expected = {"float32": h5py.h5t.IEEE_F32LE, "float16": h5py.h5t.IEEE_F16LE}[spec.feature_dtype]
    for name in sorted(arrays.keys() - {"labels", "ids"}):
        if kinds[name] != expected or len(arrays[name].shape) != 2:
            raise CacheError(f"{role}/{name} is not {spec.feature_dtype} (n, d)")
        if arrays[name].shape != arrays["features"].shape:
            shapes = f"{arrays[name].shape}, its features {arrays['features'].shape}"
            raise CacheError(f"{role}/{name} has another shape than the original's features: {shapes}")
    if kinds["labels"] != h5py.h5t.STD_I64LE:
        raise CacheError(f"{role}/labels is not int64 (n,)")
    if not _is_fixed_text(kinds["ids"]) or kinds["ids"].get_size() > MAX_ID_BYTES:
        raise CacheError(f"{role}/ids is not text of a fixed length up to {MAX_ID_BYTES} bytes (n,)")
    count = arrays["features"].shape[0]
    if arrays["labels"].shape != (count,) or arrays["ids"].shape != (count,):
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise CacheError(f"{role} has arrays of differing numbers of rows: {shapes}")
