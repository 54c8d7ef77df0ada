"""Weights files as people have them: looked through, and their layers listed.

Nothing that a file names is made or run: layers are read as names, and tensors as numbers.
"""

import contextlib
import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfl.backbones.fronts import Front, front_of_config, front_of_names
from tfl.errors import BackboneError
from tfl.files import hdf5
from tfl.files.scratch import scratch_folder
from tfl.text import to_printable

MEMBER = "model.weights.h5"  # of a `.keras` archive
MAX_CONFIG_BYTES = 1 << 24
MAX_NAMED = 8  # names in one message
ROOTS = ("layers", "_layer_checkpoint_dependencies")  # of Keras 3, and of TensorFlow 2.13 to 2.15


@dataclass(frozen=True)
class Layer:
    """A layer that a file shows.

    Attributes:
      name: as the file spells it; in Keras 3's layout the class and a number.
      own_name: the layer's own name, where the file has it, else `name`.
      shapes: of its own tensors, by their names, in the file's order.
      inside: the layers of a model.
    """

    name: str
    own_name: str
    shapes: dict[str, tuple[int, ...]]
    inside: tuple["Layer", ...] = ()

    @property
    def all_shapes(self) -> list[tuple[int, ...]]:
        """Shapes of its own tensors, and of those of the layers inside."""
        shapes = list(self.shapes.values())
        for layer in self.inside:
            shapes += layer.all_shapes
        return shapes

    @property
    def num_tensors(self) -> int:
        """Number of its own tensors, and of those of the layers inside."""
        return len(self.all_shapes)


@dataclass(frozen=True)
class WeightsFile:
    """A weights file that has been looked through.

    Attributes:
      path: as it was given.
      hdf5: the HDF5 file that holds the tensors: `path`, or a copy of what lies in a `.keras` archive.
      is_legacy: layers stand in order under their own names, as in the `.h5` files of Keras 2.
      layers: at the top, in order if it is legacy.
      front: layers that rescale or normalise images; None if the file does not show layers without weights.
    """

    path: Path
    hdf5: Path
    is_legacy: bool
    layers: tuple[Layer, ...]
    front: Front | None


@contextlib.contextmanager
def open_weights(path: Path) -> Iterator[WeightsFile]:
    """Look through a weights file: `.weights.h5`, a legacy `.h5`, or a whole model in `.keras` or `.h5`.

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
            config = _unpack(path, tensors)
        try:
            hdf5.require_harmless(tensors, BackboneError)
        except BackboneError as error:
            raise BackboneError(str(error).replace(str(tensors), str(path))) from error
        yield _read(path, tensors, config)


def _unpack(path: Path, tensors: Path) -> Any:
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
    """Return an archive's member, if it is stored uncompressed as Keras stores it.

    A compressed member could be of any size.

    Raises:
      ValueError: it is compressed, or larger than `max_bytes`.
    """
    member = archive.getinfo(name)
    if member.file_size > max_bytes:
        raise ValueError(f"its member {name} has {member.file_size:,} bytes; at most {max_bytes:,} are read")
    if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
        raise ValueError(f"its member {name} is compressed")
    return archive.read(member)


def _read(path: Path, tensors: Path, config: Any) -> WeightsFile:
    """Read the layers of an HDF5 file.

    Args:
      path: as it was given, for the error.
      config: what a `.keras` archive says of the layers; None for other files.
    """
    try:
        with hdf5.open_unlocked(tensors) as file:
            root = next((name for name in ROOTS if name in file), None)
            is_legacy = root is None
            layers = _read_nested(file, root) if root is not None else _read_legacy(legacy_root(file))
            if is_legacy and config is None and "model_config" in file.attrs:
                config = json.loads(file.attrs["model_config"])
            return WeightsFile(path, tensors, is_legacy, layers, _read_front(layers, config, is_legacy))
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise BackboneError(f"{path} is no weights file that Keras saved: {to_printable(str(error))}") from error


def _read_nested(file: Any, root: str) -> tuple[Layer, ...]:
    layers = _read_group(file, root)
    if not layers:
        raise ValueError("it holds no layers")
    return layers


def _read_group(group: Any, root: str) -> tuple[Layer, ...]:
    """Read Keras 3's layout: `layers/<class>_<number>/vars/<number>`, and the same of models inside."""
    layers = []
    for name, member in group[root].items():
        tensors = member.get("vars", {})
        shapes = {key: tuple(tensors[key].shape) for key in tensors}
        own_name = tensors.attrs.get("name", name) if hasattr(tensors, "attrs") else name
        root_inside = next((each for each in ROOTS if each in member), None)
        inside = _read_group(member, root_inside) if root_inside else ()
        layers.append(Layer(name, str(own_name), shapes, inside))
    return tuple(layers)


def legacy_root(file: Any) -> Any:
    """Return the group that holds the layers of a legacy file: a whole model has them under `model_weights`."""
    return file.get("model_weights", file)


def _read_legacy(group: Any) -> tuple[Layer, ...]:
    layers = []
    for name in _read_texts(group, "layer_names"):
        tensors = _read_texts(group[name], "weight_names")
        shapes = {tensor: tuple(group[name][tensor].shape) for tensor in tensors}
        layers.append(Layer(name, name, shapes))
    if not layers:
        members = [to_printable(name) for name in list(group)[:MAX_NAMED]]
        raise ValueError(f"it holds {', '.join(members) or 'nothing'}, and no layers")
    return tuple(layers)


def _read_texts(group: Any, name: str) -> list[str]:
    """Read an attribute that Keras divides if it is long: `layer_names`, or `layer_names0`, `layer_names1`..."""
    attributes = group.attrs
    numbered = [f"{name}{number}" for number in range(len(attributes))]
    parts = [name] if name in attributes else [each for each in numbered if each in attributes]
    texts: list[str] = []
    for part in parts:
        for value in attributes[part]:
            texts.append(value.decode() if isinstance(value, bytes) else str(value))  # noqa: PERF401
    return texts


def _read_front(layers: Sequence[Layer], config: Any, is_legacy: bool) -> Front | None:
    """Return the front that a file shows, by its config, or by the names of its layers."""
    described = config.get("config") if isinstance(config, dict) else None
    if isinstance(described, dict) and isinstance(described.get("layers"), list):
        return front_of_config(described["layers"])
    if not is_legacy and all(layer.num_tensors for layer in layers):
        return None  # some versions of Keras 3 leave layers without weights out
    return front_of_names([layer.name for layer in layers])
