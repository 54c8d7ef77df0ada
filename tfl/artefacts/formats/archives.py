"""Inspection of Keras and PyTorch archives before a runtime opens them: whatever could run code is refused.

`torch.export.load` (PyTorch 2.13) unpickles some members, evaluates expressions with sympy, calls
any function that a graph names below `torch`, and executes guards that come as text.
`repack_program` therefore keeps only what `tfl export` writes: numbers, names, and calls of the
operations listed here. It returns a new archive made of nothing else.

This file needs the standard library alone: formats load it by its path where nothing of tfl can be
imported.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

MAX_JSON_BYTES = 256 << 20  # the graph of a large network has 5 MB

# ---- Keras

KERAS_MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}
KERAS_MODULES = {
    "builtins",
    "keras",
    "keras.activations",
    "keras.constraints",
    "keras.dtype_policies",
    "keras.initializers",
    "keras.layers",
    "keras.regularizers",
}
KERAS_PACKAGES = (
    "keras.src.applications.",
    "keras.src.layers.",
    "keras.src.models.",
    "keras.src.ops.",
)
# Values of a configuration, which have no module.
KERAS_VALUES = {"__keras_tensor__", "__numpy__", "__tensor__", "__slice__", "__ellipsis__"}
# Layers that hold code of their own, or read files that their configuration names.
_REFUSED = """
FlaxLayer IndexLookup IntegerLookup JaxLayer Lambda StringLookup TFSMLayer TextVectorization
TorchModuleWrapper __lambda__ __typespec__
"""
KERAS_REFUSED = frozenset(_REFUSED.split())

# ---- PyTorch

MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
SAMPLE_INPUTS = "data/sample_inputs/model.pt"
COPIED = (
    "archive_format",
    "archive_version",
    "byteorder",
    ".data/version",
    ".data/serialization_id",
)
TENSOR = re.compile(r"data/(?:weights/weight|constants/tensor)_\d+")
# Pure functions of tensors that Keras' layers and operations are traced to: those of the
# architectures of keras.applications, and related ones. None reads or writes a file, and none takes
# a function or a text as code.
_OPERATIONS = """
_assert_tensor_metadata _softmax _to_copy _unsafe_view _upsample_nearest_exact2d abs
adaptive_avg_pool2d add add_ addmm alias amax amin any all arange argmax argmin avg_pool2d
batch_norm bitwise_and bitwise_not bitwise_or bmm cat ceil clamp clamp_max clamp_min clip clone
constant_pad_nd contiguous conv2d convolution cos cumsum detach detach_ div div_ divide dropout elu
embedding empty_like eq erf exp expand expand_as eye fill fill_ flatten flip floor floor_divide full
full_like gather ge gelu greater greater_equal gt hardsigmoid hardswish hardtanh index index_select
layer_norm le leaky_relu less less_equal lift_fresh lift_fresh_copy linear log log1p log_softmax
logical_and logical_not logical_or lt matmul max max_pool2d max_pool2d_with_indices maximum mean min
minimum mish mm movedim mul mul_ multiply native_batch_norm native_layer_norm ne neg new_full
new_ones new_zeros not_equal numpy_T ones ones_like pad permute pow prod reciprocal reflection_pad2d
relu relu6 relu_ remainder repeat repeat_interleave replication_pad2d reshape resolve_conj roll
round rsqrt rsqrt_ rsub scalar_tensor select selu sigmoid sign silu silu_ sin slice softmax softplus
split split_with_sizes sqrt square squeeze stack std sub sub_ subtract sum swapaxes sym_numel
sym_size sym_stride t tanh tile to topk transpose true_divide type_as unbind unfold unsqueeze
upsample_bicubic2d upsample_bilinear2d upsample_nearest2d var view view_as where zeros zeros_like
"""
OPERATIONS = frozenset(_OPERATIONS.split())
_PYTHON_OPERATIONS = "add eq floordiv ge getitem gt le lt mod mul ne neg sub truediv"
PYTHON_OPERATIONS = frozenset(_PYTHON_OPERATIONS.split())
TARGET = re.compile(r"torch\.ops\.aten\.(\w+)\.[a-zA-Z]\w*|_operator\.(\w+)|torch\.(sym_max|sym_min|sym_not)")
SYMBOL = r"Symbol\('[a-z]+\d+'(?:, (?:positive|integer|nonnegative)=(?:True|False))*\)"
FUNCTIONS = "Add|Mul|Integer|Max|Min|Mod|PythonMod|FloorDiv|CeilDiv|CleanDiv|CeilToInt|FloorToInt|TruncToInt|IntTrueDiv"
EXPRESSION = re.compile(rf"(?:{SYMBOL}|(?:{FUNCTIONS})\(|-?\d{{1,18}}|, |\))+")
MAX_EXPRESSION = 500  # characters
NAME = re.compile(r"[A-Za-z_]\w*")
TEXT = re.compile(r"[\w./:+-]*")  # paths of layers, versions, modes: such a text cannot call a function
_ARGUMENTS = """
as_bool as_bools as_device as_expr as_float as_floats as_int as_ints as_layout as_memory_format
as_name as_none as_optional_tensor as_optional_tensors as_scalar_type as_string as_sym_bool
as_sym_float as_sym_int as_sym_ints as_tensor as_tensors
"""
ARGUMENTS = frozenset(_ARGUMENTS.split())
TREES = {None, "builtins.dict", "builtins.list", "builtins.tuple"}


def require_plain_keras(path: Path) -> None:
    """Refuse a `.keras` file that holds code, or anything but layers of Keras.

    Keras' own `safe_mode` is on as well when the file is loaded.

    Raises:
      ValueError: what it holds.
    """
    members = _read_members(path, KERAS_MEMBERS)
    for name in ("metadata.json", "config.json"):
        _require_layers(_parse_json(name, members.get(name)))


def _require_layers(value: Any) -> None:
    for item in _list_objects(value):
        name, module = item.get("class_name"), item.get("module")
        if item.get("compile_config"):
            _refuse("it holds settings of a training, which no exported model has")
        if "class_name" not in item:
            continue
        is_value = module is None and name in KERAS_VALUES
        is_known = isinstance(module, str) and (module in KERAS_MODULES or module.startswith(KERAS_PACKAGES))
        if name in KERAS_REFUSED or not (is_value or is_known):
            _refuse(f"it holds the class {name!r} of the module {module!r}, which may run code; expected Keras' layers")


def repack_program(path: Path) -> io.BytesIO:
    """Return a PyTorch program that is safe for `torch.export.load`: checked, and packed into a new archive.

    Sample inputs are left out: they are pickled, and nothing needs them.

    Raises:
      ValueError: it holds what `tfl export` does not write.
    """
    found = _read_members(path)
    root = next(iter(found), "").partition("/")[0]
    members = {name.removeprefix(f"{root}/"): content for name, content in found.items()}
    members.pop(SAMPLE_INPUTS, None)
    needed = {MODEL, WEIGHTS, CONSTANTS, "archive_format", "archive_version"}
    if missing := needed - set(members):
        _refuse(f"it has no member {sorted(missing)[0]}; expected a program of PyTorch 2.13")
    if strange := [name for name in members if not (name in {*needed, *COPIED} or TENSOR.fullmatch(name))]:
        _refuse(f"it holds the member {strange[0]!r}, which may run code; expected tensors and a graph")
    model = _parse_json(MODEL, members[MODEL])
    members[MODEL] = json.dumps(_strip_graph(model)).encode()
    for name in (WEIGHTS, CONSTANTS):
        _require_tensors(name, _parse_json(name, members[name]))
    return _pack({**members, SAMPLE_INPUTS: b""})


def _strip_graph(model: Any) -> dict[str, Any]:
    """Return the graph without metadata, which is only for people; all the rest is checked."""
    if not isinstance(model, dict) or model.get("guards_code") not in (None, []):
        _refuse("it holds guards, which are code")
    plain: dict[str, Any] = {**model, "guards_code": []}
    for item in _list_objects(plain):
        if "metadata" in item:
            item["metadata"] = {}
    for item in _list_objects(plain):
        for key, value in item.items():
            _require_plain(key, value)
    return plain


def _require_plain(key: str, value: Any) -> None:
    """Refuse an entry of a JSON object whose key or text a graph of tensors does not need."""
    if not TEXT.fullmatch(key) or (key.startswith("as_") and key not in ARGUMENTS):
        _refuse(f"it holds {_shorten(key)}, which may run code")
    if key in ("in_spec", "out_spec"):
        _require_tree(key, value)
        return
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str) and not _is_plain(key, text):
            _refuse(f"its {key} is {_shorten(text)}, which may run code")


def _is_plain(key: str, text: str) -> bool:
    if key == "target":
        return _may_be_called(text)
    if key == "expr_str":
        return len(text) <= MAX_EXPRESSION and EXPRESSION.fullmatch(text) is not None
    if key in ("name", "as_name", "forward_arg_names"):
        return not text or NAME.fullmatch(text) is not None
    return TEXT.fullmatch(text) is not None


def _may_be_called(target: str) -> bool:
    """Return whether a graph may call a target: an operation on tensors, or arithmetic of sizes."""
    if (match := TARGET.fullmatch(target)) is None:
        return False
    of_tensors, of_python, _ = match.groups()
    return (of_tensors is None or of_tensors in OPERATIONS) and (of_python is None or of_python in PYTHON_OPERATIONS)


def _require_tree(key: str, text: Any) -> None:
    """Refuse arguments or answers nested in anything but tuples, lists and dictionaries of plain names."""
    if not isinstance(text, str):
        _refuse(f"its {key} is no text")
    for item in _list_objects(_parse_json(key, text.encode())):
        context = item.get("context")
        is_plain = context is None or (isinstance(context, str) and re.fullmatch(r'[\w\[\]", ]*', context) is not None)
        if item.get("type") not in TREES or not is_plain:
            _refuse(f"its {key} is nested in {_shorten(item.get('type'))}, which may run code")


def _require_tensors(name: str, config: Any) -> None:
    """Refuse weights or constants that are not raw numbers in a member of their own: a pickled one can run code."""
    entries = config.get("config") if isinstance(config, dict) else None
    if not isinstance(entries, dict):
        _refuse(f"its member {name} lists no tensors")
    for entry in entries.values():
        if not isinstance(entry, dict) or entry.get("use_pickle") is not False:
            _refuse(f"its member {name} lists a pickled object, which can run code; expected tensors alone")
        if not TENSOR.fullmatch(f"{Path(name).parent.as_posix()}/{entry.get('path_name')}"):
            _refuse(f"its member {name} lists {_shorten(entry.get('path_name'))}, which is no tensor")
    for item in _list_objects(config):
        for key, value in item.items():
            _require_plain(key, value)


# ---- any archive


def _read_members(path: Path, expected: Iterable[str] = ()) -> dict[str, bytes]:
    """Return the members of an uncompressed zip file, by name; a compressed member could be of any size."""
    allowed = set(expected)
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        names = [member.filename for member in members]
        if len(set(names)) != len(names):
            _refuse("two members of it have the same name")
        if strange := sorted(set(names) - allowed) if allowed else []:
            _refuse(f"it holds the member {strange[0]!r}; expected {', '.join(sorted(allowed))}")
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
                _refuse(f"its member {member.filename!r} is compressed")
        if sum(member.file_size for member in members) > path.stat().st_size:
            _refuse("its members are larger than the file")
        is_text = bool(allowed)
        return {name: archive.read(name) for name in names if not (is_text and name.endswith(".h5"))}


def _pack(members: Mapping[str, bytes]) -> io.BytesIO:
    """Return a zip file in memory with these members, in one folder as PyTorch expects it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(f"model/{name}", content)
    packed.seek(0)
    return packed


def _parse_json(name: str, content: bytes | None) -> Any:
    if content is None:
        _refuse(f"it has no member {name}")
    if len(content) > MAX_JSON_BYTES:
        _refuse(f"its member {name} has {len(content):,} bytes")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its member {name} is not JSON: {error}") from error


def _list_objects(value: Any) -> list[dict[str, Any]]:
    """Return every JSON object in a value, at any depth."""
    found, waiting = [], [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            found.append(item)
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
    return found


def _shorten(value: Any) -> str:
    return repr(value)[:80]


def _refuse(reason: str) -> NoReturn:
    raise ValueError(reason)
