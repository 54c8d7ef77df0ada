"""What a cache file may hold: format 1, checked on an open HDF5 file before any of its arrays is allocated.

A file may come from a stranger. Nothing is followed out of the schema (links, external storage, virtual datasets,
filters other than the checksum), and every size is compared with the size of the file.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from tfl.errors import CacheError
from tfl.files.hdf5 import SIGNATURE
from tfl.specs import CacheSpec, FeatureSpec, Role, View

FORMAT = 1
# With HDF5's oldest file format, flipped metadata bytes were read back silently wrong; with v110 never.
HDF5_VERSION = "v110"
SUPERBLOCK_VERSION = b"\x03"  # which v110 writes, after HDF5's signature
CHUNK_BYTES = 1 << 20
CHECKSUM_BYTES = 4  # of each chunk, fletcher32
MAX_CHUNK_BYTES = 1 << 24
MAX_ID_BYTES = 1 << 12
MAX_TEXT_BYTES = 1 << 24
TEXTS = ("spec", "fingerprint", "class_names", "provenance", "digests")
ARRAYS = ("features", "labels", "ids")
VIEWS_GROUP = "views"  # of a role; holds the features of the further views


@dataclass(frozen=True)
class Header:
    """Everything of a cache file but its rows.

    Attributes:
      provenance: what made the file but does not decide its values.
      digests: `sha256:...` of each array's bytes, by `<role>/<name>`; what `verify` compares.
    """

    spec: CacheSpec
    class_names: tuple[str, ...]
    provenance: dict[str, Any]
    digests: dict[str, str]
    num_rows: dict[Role, int]
    num_features: int

    @property
    def num_skipped(self) -> int:
        """How many images were left out; `provenance` names as many of them as fit."""
        return int(self.provenance.get("num_skipped", len(self.provenance.get("skipped", []))))


def array_of(view: View) -> str:
    """The name, in a role, of the array that holds a view's features."""
    return "features" if view == "original" else f"{VIEWS_GROUP}/{view}"


def arrays_of(spec: CacheSpec) -> tuple[str, ...]:
    """The names of all the arrays of a role."""
    return (*ARRAYS, *(array_of(view) for view in spec.views[1:]))


def require_signature(path: Path) -> None:
    """Refuse what is no HDF5 file of the one version that is written, without asking HDF5.

    Raises:
      CacheError: what the file is instead.
    """
    with path.open("rb") as file:
        start = file.read(len(SIGNATURE) + 1)
    if not start.startswith(SIGNATURE):
        raise CacheError(f"{path} is not an HDF5 file ({path.stat().st_size} bytes); expected one made by precompute")
    if start != SIGNATURE + SUPERBLOCK_VERSION:
        raise CacheError(f"{path} is an HDF5 file of another version than precompute writes ({HDF5_VERSION})")


def require_storable(spec: CacheSpec, class_names: Sequence[str], provenance: dict[str, Any]) -> None:
    """Refuse what a file's texts have no room for.

    Raises:
      CacheError: which text is too large and what to do, or that there are too few classes.
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
    """Return a provenance with as many of the `skipped` images as fit; `num_skipped` says how many there are."""
    skipped = provenance["skipped"]
    if not skipped:
        return provenance
    whole = {**provenance, "num_skipped": len(skipped)}
    room = MAX_TEXT_BYTES - len(json.dumps({**whole, "skipped": []}))
    for index, image in enumerate(skipped):
        room -= len(json.dumps(image)) + len(", ")
        if room < 0:
            return {**whole, "skipped": skipped[:index]}
    return whole


def read_header(file: h5py.File, file_bytes: int) -> Header:
    """The header of an open file, and the proof that its arrays are of the sizes and kinds that format 1 allows.

    Raises:
      CacheError: another format, or what is not as the format says; without the path, which the caller knows.
      SpecError: likewise, of the spec.
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
    provenance = _json(texts, "provenance", dict)
    _require_texts(provenance.get("typed"), ["dataset", "weights"], "provenance.typed")
    skipped = provenance.get("skipped", [])
    for image in skipped:
        _require_texts(image, ["id", "reason"], "provenance.skipped")
    num_skipped = provenance.get("num_skipped", len(skipped))
    if type(num_skipped) is not int or num_skipped < len(skipped):
        raise CacheError(f"its provenance.num_skipped is {str(num_skipped)[:80]}; expected {len(skipped)} or more")
    digests = _json(texts, "digests", dict)
    _require_texts(digests, [f"{role}/{name}" for role in num_rows for name in arrays_of(spec)], "digests")
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
    """An attribute of fixed length; HDF5 keeps text of variable length in a heap that has no checksum."""
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


def _require_texts(values: Any, keys: list[str], what: str) -> None:
    if not isinstance(values, dict) or not all(isinstance(values.get(key), str) for key in keys):
        raise CacheError(f"its {what} is {str(values)[:80]}; expected texts for {', '.join(keys)}")


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
    return {name: group[name] for name in arrays_of(spec)}


def _require_members(group: h5py.Group, expected: Sequence[str]) -> None:
    """Exactly these members, and each in the file itself: a soft or external link may lead anywhere."""
    if not isinstance(group, h5py.Group):
        raise CacheError(f"{group.name} is not a group")
    found = sorted(bytes(name).decode(errors="backslashreplace") for name in group.id)
    if found != sorted(expected):
        raise CacheError(f"{group.name} holds {', '.join(found[:10]) or 'nothing'}; expected {', '.join(expected)}")
    for name in expected:
        if group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
            raise CacheError(f"{group.name} holds a link {name}, which leads out of the format")


def _stored_bytes(array: Any) -> int:
    """How many bytes of the file an array takes, once it is sure that it lies in the file, whole and checksummed."""
    if not isinstance(array, h5py.Dataset):
        raise CacheError(f"{array.name} is not a dataset")
    how, space = array.id.get_create_plist(), array.id.get_space()
    is_plain = how.get_layout() == h5py.h5d.CHUNKED and how.get_external_count() == 0 and not array.is_virtual
    filters = [how.get_filter(index)[0] for index in range(how.get_nfilters())]
    if not is_plain or filters != [h5py.h5z.FILTER_FLETCHER32]:
        raise CacheError(f"{array.name} is not stored in this file in chunks with fletcher32 and nothing else")
    shape, chunk = array.shape, how.get_chunk()
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
