"""Messages about a weights file that does not belong to a network: the layers that differ, and what to do."""

import re
from collections.abc import Sequence

import keras
import numpy as np

from tfl.backbones.weights import MAX_NAMED, Layer, WeightsFile
from tfl.errors import BackboneError
from tfl.text import to_printable

CLASSIFIERS = ("predictions", "dense", "fc1000", "conv_preds", "logits")
MAX_SHAPES = 4  # in one message
SAVE = '.save_weights("backbone.weights.h5") and give that file'


def require_layers_of(network: keras.Model, file: WeightsFile) -> None:
    """Refuse a file whose layers are not those of a network, or lie inside a model.

    Raises:
      BackboneError: the layers that the file has, and those expected.
    """
    if _find_model_inside(file, network) is not None or _find_difference(file, network):
        raise BackboneError(explain_mismatch(file, network, ""))


def explain_mismatch(file: WeightsFile, network: keras.Model, said: str) -> str:
    """Say why a file is not of this network: the layers that it has, those expected, and what to do.

    Args:
      said: the error of Keras or h5py, where nothing better is found.
    """
    reason, advice = _find_reason(file, network, said)
    return "\n  ".join(
        [
            f"{file.path} does not hold weights of {network.name} without its top: {reason}",
            f"in the file: {_list_layers(file.layers)}",
            f"expected: {len(network.layers)} layers, {len(network.weights)} tensors, "
            f"{network.count_params():,} parameters",
            advice,
        ]
    )


def _find_reason(file: WeightsFile, network: keras.Model, said: str) -> tuple[str, str]:
    """Return what is wrong, and what to do."""
    model = _find_model_inside(file, network)
    if model is not None:
        name = model.own_name
        return (
            f"its layers lie inside a model named {name!r}",
            f"save that part alone: model.get_layer({name!r}){SAVE}",
        )
    top = _find_top(file, network)
    if top:
        return (
            f"it has a top, {', '.join(map(to_printable, top))}",
            f"build the network with include_top=False, copy the weights of its layers, then network{SAVE}",
        )
    return _find_difference(file, network) or said, f"give a file of this architecture: network{SAVE}"


def _find_difference(file: WeightsFile, network: keras.Model) -> str:
    """Describe the first layer that a file of Keras 3 lacks or holds in other shapes; empty if there is none."""
    if file.is_legacy:
        return ""
    in_file = {layer.name: layer for layer in file.layers}
    for name, layer in zip(_names_in_file(network), network.layers, strict=True):
        if not layer.weights:
            continue
        if name not in in_file:
            return f"it has no layer {name} ({layer.name})"
        expected = sorted(tuple(weight.shape) for weight in layer.weights)
        received = sorted(in_file[name].all_shapes)
        if expected != received:
            return (
                f"its layer {name} has {_describe_shapes(received)}, "
                f"{_describe_shapes(expected)} expected ({layer.name})"
            )
    return ""


def _names_in_file(network: keras.Model) -> list[str]:
    """Return the names of the layers as Keras 3 writes them into a file: by class, numbered in order."""
    counts: dict[str, int] = {}
    names = []
    for layer in network.layers:
        words = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", type(layer).__name__)
        stem = re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()
        names.append(f"{stem}_{counts[stem]}" if stem in counts else stem)
        counts[stem] = counts.get(stem, 0) + 1
    return names


def _describe_shapes(shapes: Sequence[tuple[int, ...]]) -> str:
    """Return shapes of tensors in words, largest first."""
    largest_first = sorted(shapes, key=np.prod, reverse=True)
    texts = [_join(shape) or "a number" for shape in largest_first[:MAX_SHAPES]]
    return f"tensors of {', '.join(texts)}" if texts else "no tensors"


def _join(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _find_model_inside(file: WeightsFile, network: keras.Model) -> Layer | None:
    """Return the one layer that holds nearly as many tensors as the network, if the network has no such layer."""
    largest = max(file.layers, key=lambda layer: layer.num_tensors)
    is_model = bool(largest.inside) or file.is_legacy
    is_whole = largest.num_tensors > max(len(layer.weights) for layer in network.layers)
    return largest if is_model and is_whole and len(file.layers) < len(network.layers) else None


def _find_top(file: WeightsFile, network: keras.Model) -> list[str]:
    """Return the names of the classifier's layers, if the file has more layers with weights than the network."""
    in_file = [layer.name for layer in file.layers if layer.num_tensors]
    in_network = {layer.name for layer in network.layers if layer.weights}
    if len(in_file) <= len(in_network):
        return []
    further = [name for name in in_file if name not in in_network]
    return [name for name in further if re.sub(r"_\d+$", "", name) in CLASSIFIERS]


def _list_layers(layers: Sequence[Layer]) -> str:
    """Name some of the layers with weights, with their shapes."""
    with_weights = [layer for layer in layers if layer.num_tensors]
    texts = [_describe_layer(layer) for layer in with_weights[:MAX_NAMED]]
    if len(with_weights) > MAX_NAMED:
        texts[-2:] = ["...", _describe_layer(with_weights[-1])]
    return f"{len(with_weights)} layers with weights of {len(layers)}: {', '.join(texts)}"


def _describe_layer(layer: Layer) -> str:
    is_named = layer.own_name != layer.name
    name = to_printable(f"{layer.name} ({layer.own_name})" if is_named else layer.name)
    if layer.inside or len(layer.shapes) > 6:
        return f"{name} with {layer.num_tensors} tensors"
    shape = next(iter(layer.shapes.values()), ())
    return f"{name} {_join(shape)}"
