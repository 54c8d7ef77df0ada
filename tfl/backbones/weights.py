"""Weights files as people have them: which layers a file shows, and its tensors put into a network."""

import contextlib
import hashlib
import json
import re
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfl.errors import BackboneError
from tfl.files import hdf5
from tfl.files.scratch import scratch_folder
from tfl.text import to_printable

MEMBER = "model.weights.h5"  # of a `.keras` archive
MAX_CONFIG_BYTES = 1 << 24
MAX_SHOWN = 8  # names of layers in one message
ROOTS = ("layers", "_layer_checkpoint_dependencies")  # of Keras 3, and of TensorFlow 2.13 to 2.15
CLASSIFIERS = ("predictions", "dense", "fc1000", "conv_preds", "logits")
# Layers in front of a network that change what it is shown and may have no weights, by class and by name.
_FRONT_CLASSES = {"Rescaling": "rescaling", "Normalization": "normalization", "TFOpLambda": "rescaling"}
_FRONT_NAMES = re.compile(r"(?:.*_prestem_)?(rescaling|normalization)(?:_\d+)?")
_TRUEDIV = re.compile(r"tf\.math\.(?:truediv|divide)(?:_\d+)?")  # how TensorFlow 2.9 rescales EfficientNet again

Front = tuple[tuple[str, Any], ...]
"""Rescaling and normalisation layers, each with scale and offset where they are known (else None)."""


@dataclass(frozen=True)
class Layer:
    """A layer that a file shows.

    Attributes:
      name: of the file's own spelling; of Keras 3 the class and a number.
      shown: the layer's own name, where the file has it, else `name`.
      shapes: of its own tensors, by their names, in the file's order.
      inside: the layers of a model.
    """

    name: str
    shown: str
    shapes: dict[str, tuple[int, ...]]
    inside: tuple["Layer", ...] = ()

    @property
    def all_shapes(self) -> list[tuple[int, ...]]:
        """Of its own tensors, and of those of the layers inside."""
        inside = [shape for layer in self.inside for shape in layer.all_shapes]
        return [*self.shapes.values(), *inside]

    @property
    def num_tensors(self) -> int:
        """How many those are."""
        return len(self.all_shapes)


@dataclass(frozen=True)
class WeightsFile:
    """A weights file that has been looked through.

    Attributes:
      path: as it was given.
      hdf5: the HDF5 file that holds the tensors: `path`, or a copy of what lies in a `.keras` archive.
      is_legacy: layers stand in order under their own names, as in the `.h5` files of Keras 2.
      layers: at the top, in order if it is legacy.
      front: what the file shows of `Front`; None if it does not show layers without weights.
    """

    path: Path
    hdf5: Path
    is_legacy: bool
    layers: tuple[Layer, ...]
    front: Front | None

    def shows(self, network: keras.Model) -> bool:
        """Whether the file shows the rescaling and normalisation layers that this network has."""
        if self.front is None:
            return False
        expected = front_of(network)
        if sorted(kind for kind, _ in expected) != sorted(kind for kind, _ in self.front):
            return False
        if not all(value for kind, value in self.front if kind == "rescaling"):
            return True  # names alone
        return all(_is_same(*pair) for pair in zip(expected, self.front, strict=True))

    def is_official(self, architecture: Callable[..., Any]) -> bool:
        """Whether it is a file of Keras' own ImageNet weights."""
        hashes = getattr(sys.modules[architecture.__module__], "WEIGHTS_HASHES", {})
        known = [digest for pair in hashes.values() for digest in ([pair] if isinstance(pair, str) else pair)]
        if not known:
            return False
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "md5").hexdigest() in known

    def require_layers_of(self, network: keras.Model) -> None:
        """Refuse a file whose layers are not those of a network, or lie inside a model.

        Raises:
          BackboneError: which layers it has, and which were expected.
        """
        if _model_inside(self, network) is not None or _first_difference(self, network):
            raise BackboneError(_explained(self, network, ""))

    def load(self, network: keras.Model) -> None:
        """Put the tensors into a network that has the layers of the file.

        Raises:
          BackboneError: the file holds another network's; which layers it has, and which were expected.
        """
        try:
            if self.is_legacy:
                self._load_legacy(network)
                return
            with hdf5.without_locks(), warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)  # Keras only warns of layers that it leaves at random
                network.load_weights(self.hdf5)
        except MemoryError:
            raise
        except Exception as error:  # of foreign files Keras and h5py raise a dozen kinds of exception
            raise BackboneError(_explained(self, network, " ".join(str(error).split())[:300])) from error

    def _load_legacy(self, network: keras.Model) -> None:
        """By name where all names agree, else in order, as Keras does; tensors of a layer likewise."""
        held = {layer.name: layer for layer in self.layers if layer.shapes}
        wanted = [layer for layer in network.layers if layer.weights]
        if len(held) != len(wanted):
            raise ValueError(f"it has {len(held)} layers with weights, {len(wanted)} were expected")
        by_name = dict(zip(without_numbers(list(held)), held, strict=True))
        names = without_numbers([layer.name for layer in wanted])
        in_order = list(held)
        with hdf5.open_plain(self.hdf5) as file:
            group = _legacy_root(file)
            for place, layer in enumerate(wanted):
                name = by_name[names[place]] if set(names) == set(by_name) else in_order[place]
                _assign(layer, {tail: group[name][tail][()] for tail in held[name].shapes})


@contextlib.contextmanager
def open_weights(path: Path) -> Iterator[WeightsFile]:
    """Look through a weights file: `.weights.h5`, a legacy `.h5`, or a whole model in `.keras` or `.h5`.

    Nothing that a file names is made or run: layers are read as names, and tensors as numbers.

    Raises:
      BackboneError: there is no such file, or it is none of these.
    """
    if not path.is_file():
        raise BackboneError(f"weights are imagenet, random or a file; there is no file {path}")
    with contextlib.ExitStack() as stack:
        config = None
        tensors = path
        if path.suffix == ".keras" and zipfile.is_zipfile(path):
            tensors = stack.enter_context(scratch_folder()) / MEMBER
            config = _unpacked(path, tensors)
        try:
            hdf5.require_harmless(tensors, BackboneError)
        except BackboneError as error:
            raise BackboneError(str(error).replace(str(tensors), str(path))) from error
        yield _read(path, tensors, config)


def _unpacked(path: Path, tensors: Path) -> Any:
    """Copy the tensors out of a `.keras` archive, and return what it says of the layers."""
    try:
        with zipfile.ZipFile(path) as archive:
            tensors.write_bytes(stored_member(archive, MEMBER, path.stat().st_size))
            return json.loads(stored_member(archive, "config.json", MAX_CONFIG_BYTES))
    except (ValueError, KeyError, RecursionError, EOFError, NotImplementedError, RuntimeError) as error:
        raise BackboneError(f"{path} is no model that Keras 3 saved: {error}") from error
    except zipfile.BadZipFile as error:
        raise BackboneError(f"{path} is damaged: {error}") from error


def stored_member(archive: zipfile.ZipFile, name: str, max_bytes: int) -> bytes:
    """Return a member that is stored as it is, as Keras stores it: a compressed one may be any size.

    Raises:
      ValueError: it is larger, or compressed.
    """
    member = archive.getinfo(name)
    if member.file_size > max_bytes:
        raise ValueError(f"its member {name} has {member.file_size:,} bytes; at most {max_bytes:,} are read")
    if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
        raise ValueError(f"its member {name} is compressed")
    return archive.read(member)


def _read(path: Path, tensors: Path, config: Any) -> WeightsFile:
    try:
        with hdf5.open_plain(tensors) as file:
            root = next((name for name in ROOTS if name in file), None)
            if root is not None:
                layers = _nested(file, root)
                if not layers:
                    raise ValueError("it holds no layers")
                return WeightsFile(path, tensors, False, layers, _front(layers, config, is_legacy=False))
            layers = _legacy_layers(_legacy_root(file))
            if config is None and "model_config" in file.attrs:
                config = json.loads(file.attrs["model_config"])
            return WeightsFile(path, tensors, True, layers, _front(layers, config, is_legacy=True))
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise BackboneError(f"{path} is no weights file that Keras saved: {to_printable(str(error))}") from error


def _nested(group: Any, root: str) -> tuple[Layer, ...]:
    """The layers of Keras 3's layout: `layers/<class>_<number>/vars/<number>`, models inside likewise."""
    found = []
    for name, member in group[root].items():
        own = member.get("vars", {})
        shapes = {key: tuple(own[key].shape) for key in own}
        shown = own.attrs.get("name", name) if hasattr(own, "attrs") else name
        inside = next((_nested(member, each) for each in ROOTS if each in member), ())
        found.append(Layer(name, str(shown), shapes, inside))
    return tuple(found)


def _legacy_root(file: Any) -> Any:
    return file.get("model_weights", file)


def _legacy_layers(group: Any) -> tuple[Layer, ...]:
    found = []
    for name in _texts(group, "layer_names"):
        tensors = _texts(group[name], "weight_names")
        found.append(Layer(name, name, {tensor: tuple(group[name][tensor].shape) for tensor in tensors}))
    if not found:
        raise ValueError(
            f"it holds {', '.join(map(to_printable, list(group)[:MAX_SHOWN])) or 'nothing'}, and no layers"
        )
    return tuple(found)


def _texts(group: Any, name: str) -> list[str]:
    """An attribute that Keras divides where it is long: `layer_names`, or `layer_names0`, `layer_names1`..."""
    attributes = group.attrs
    numbered = (f"{name}{number}" for number in range(len(attributes)))
    parts = [name] if name in attributes else [each for each in numbered if each in attributes]
    texts: list[str] = []
    for part in parts:
        for value in attributes[part]:
            texts.append(value.decode() if isinstance(value, bytes) else str(value))  # noqa: PERF401
    return texts


def _front(layers: Sequence[Layer], config: Any, is_legacy: bool) -> Front | None:
    described = config.get("config") if isinstance(config, dict) else None
    if isinstance(described, dict) and isinstance(described.get("layers"), list):
        return _front_of_config(described["layers"])
    if not is_legacy and all(layer.num_tensors for layer in layers):
        return None  # some versions of Keras 3 leave layers without weights out
    names = ["rescaling" if _TRUEDIV.fullmatch(layer.name) else layer.name for layer in layers]
    found = [_FRONT_NAMES.fullmatch(name) for name in names]
    return tuple((match[1], None) for match in found if match)


def _front_of_config(layers: list[Any]) -> Front:
    found: list[tuple[str, Any]] = []
    for layer in layers:
        name, config = str(layer["class_name"]), layer.get("config") or {}
        if name == "TFOpLambda" and not _TRUEDIV.fullmatch(str(config.get("name"))):
            continue
        if name == "Rescaling":
            found.append(("rescaling", (_plain(config.get("scale")), _plain(config.get("offset", 0.0)))))
        elif name in _FRONT_CLASSES:
            found.append((_FRONT_CLASSES[name], None))
    return tuple(found)


def _plain(value: Any) -> Any:
    """A number or a list of them, as Keras writes it: lists may be `{"class_name": "__tuple__", "items": ...}`."""
    return value.get("items", value.get("config")) if isinstance(value, dict) else value


def front_of(network: keras.Model) -> Front:
    """The rescaling and normalisation layers of a network, in order."""
    found: list[tuple[str, Any]] = []
    for layer in network.layers:
        if isinstance(layer, keras.layers.Rescaling):
            found.append(("rescaling", (layer.scale, layer.offset)))
        elif isinstance(layer, keras.layers.Normalization):
            found.append(("normalization", None))
    return tuple(found)


def described_front(front: Front) -> str:
    """Count the layers, in words."""
    kinds = [kind for kind, _ in front]
    texts = [f"{kinds.count(kind)} x {kind}" for kind in dict.fromkeys(kinds)]
    return ", ".join(texts) or "no layers that rescale or normalise images"


def _is_same(expected: tuple[str, Any], received: tuple[str, Any]) -> bool:
    if expected[0] != received[0] or expected[0] != "rescaling":
        return expected[0] == received[0]
    with contextlib.suppress(ValueError, TypeError):
        return all(np.allclose(a, b, rtol=1e-5) for a, b in zip(expected[1], received[1], strict=True))
    return False


def without_numbers(names: Sequence[str]) -> list[str]:
    """Names as if nothing had been built before: Keras numbers layers without a name through the whole process."""
    least: dict[str, int] = {}
    parts = []
    for name in names:
        stem, _, number = re.sub(r"_(\d+)$", r" \1", name).partition(" ")
        parts.append((stem, int(number or 0)))
        least[stem] = min(least.get(stem, parts[-1][1]), parts[-1][1])
    return [f"{stem} {number - least[stem]}" for stem, number in parts]


def _assign(layer: keras.layers.Layer, arrays: dict[str, np.ndarray]) -> None:
    """Give a layer its tensors, by their names if all agree, else in Keras 2's order: trainable ones first."""
    variables = layer.trainable_weights + layer.non_trainable_weights
    by_name = {tail.split("/")[-1].split(":")[0]: array for tail, array in arrays.items()}
    names = [variable.path.split("/")[-1] for variable in variables]
    in_order = list(arrays.values())
    if len(variables) != len(in_order):
        raise ValueError(f"layer {layer.name} has {len(variables)} tensors, {len(in_order)} are in the file")
    is_named = len(set(names)) == len(names) and set(names) == set(by_name)
    for place, variable in enumerate(variables):
        array = by_name[names[place]] if is_named else in_order[place]
        if array.shape != tuple(variable.shape):
            raise ValueError(f"{variable.path} has shape {tuple(variable.shape)}, {array.shape} is in the file")
        variable.assign(array)
    if hasattr(layer, "finalize_state"):
        layer.finalize_state()  # Normalization computes with what it derives from its weights


def _explained(file: WeightsFile, network: keras.Model, said: str) -> str:
    """Why a file is not of this network: which layers it has, which were expected, and what to do."""
    reason, advice = _reason(file, network, said)
    return "\n  ".join(
        [
            f"{file.path} does not hold weights of {network.name} without its top: {reason}",
            f"in the file: {_listed(file.layers)}",
            f"expected: {len(network.layers)} layers, {len(network.weights)} tensors, "
            f"{network.count_params():,} parameters",
            advice,
        ]
    )


def _reason(file: WeightsFile, network: keras.Model, said: str) -> tuple[str, str]:
    save = '.save_weights("backbone.weights.h5") and give that file'
    if (model := _model_inside(file, network)) is not None:
        name = model.shown
        return f"its layers lie inside a model named {name!r}", f"save that part alone: model.get_layer({name!r}){save}"
    if top := _top(file, network):
        return (
            f"it has a top, {', '.join(map(to_printable, top))}",
            f"build the network with include_top=False, copy the weights of its layers, then network{save}",
        )
    return _first_difference(file, network) or said, f"give a file of this architecture: network{save}"


def _first_difference(file: WeightsFile, network: keras.Model) -> str:
    """The first layer of a network that is not in a file of Keras 3, or is of other shapes there; empty if none is."""
    if file.is_legacy:
        return ""
    held = {layer.name: layer for layer in file.layers}
    for name, layer in zip(_names_in_file(network), network.layers, strict=True):
        if not layer.weights:
            continue
        if name not in held:
            return f"it has no layer {name} ({layer.name})"
        expected = sorted(tuple(weight.shape) for weight in layer.weights)
        received = sorted(held[name].all_shapes)
        if expected != received:
            return f"its layer {name} has {_shapes(received)}, {_shapes(expected)} expected ({layer.name})"
    return ""


def _names_in_file(network: keras.Model) -> list[str]:
    """How Keras 3 calls the layers in a file: by their classes, numbered in order."""
    counts: dict[str, int] = {}
    names = []
    for layer in network.layers:
        words = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", type(layer).__name__)
        stem = re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()
        names.append(f"{stem}_{counts[stem]}" if stem in counts else stem)
        counts[stem] = counts.get(stem, 0) + 1
    return names


def _shapes(shapes: Sequence[tuple[int, ...]]) -> str:
    """Shapes of tensors, largest first."""
    texts = ["x".join(map(str, shape)) or "a number" for shape in sorted(shapes, key=np.prod, reverse=True)]
    return f"tensors of {', '.join(texts[:4])}" if texts else "no tensors"


def _model_inside(file: WeightsFile, network: keras.Model) -> Layer | None:
    """The one layer that holds nearly as many tensors as the network has, where the network has none such itself."""
    largest = max(file.layers, key=lambda layer: layer.num_tensors)
    is_model = bool(largest.inside) or file.is_legacy
    is_whole = largest.num_tensors > max(len(layer.weights) for layer in network.layers)
    return largest if is_model and is_whole and len(file.layers) < len(network.layers) else None


def _top(file: WeightsFile, network: keras.Model) -> list[str]:
    """Names of the classifier's layers, where the file has more layers with weights than the network."""
    held = [layer.name for layer in file.layers if layer.num_tensors]
    wanted = {layer.name for layer in network.layers if layer.weights}
    if len(held) <= len(wanted):
        return []
    return [name for name in held if re.sub(r"_\d+$", "", name) in CLASSIFIERS and name not in wanted]


def _listed(layers: Sequence[Layer]) -> str:
    """Some of the layers with weights, by name, with their shapes."""
    held = [layer for layer in layers if layer.num_tensors]
    texts = [_described(layer) for layer in held[:MAX_SHOWN]]
    if len(held) > MAX_SHOWN:
        texts[-2:] = ["...", _described(held[-1])]
    return f"{len(held)} layers with weights of {len(layers)}: {', '.join(texts)}"


def _described(layer: Layer) -> str:
    name = to_printable(layer.shown if layer.shown == layer.name else f"{layer.name} ({layer.shown})")
    if layer.inside or len(layer.shapes) > 6:
        return f"{name} with {layer.num_tensors} tensors"
    shape = next(iter(layer.shapes.values()), ())
    return f"{name} {'x'.join(map(str, shape))}"
