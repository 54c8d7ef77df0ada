"""The activations of a network by the names of its layers."""

import re
from collections.abc import Mapping

import keras

from tfl.errors import BackboneError
from tfl.specs import LAST_LAYER
from tfl.text import suggest_name

NUM_NAMED = 8  # layers named in one message


def map_activations(network: keras.Model) -> dict[str, keras.KerasTensor]:
    """Return the output of every layer by the layer's name, and the network's own as `last`.

    Layers of several outputs are left out: no feature can be made of them.
    """
    outputs = {name: layer.output for name, layer in name_layers(network).items()}
    tensors = {name: output for name, output in outputs.items() if not isinstance(output, list | tuple | dict)}
    return {**tensors, LAST_LAYER: network.output}


def require_activations(layers: Mapping[str, keras.KerasTensor], name: str, network: str) -> keras.KerasTensor:
    """Return the activations of the layer with this name.

    Args:
      network: the network's name, for the error.

    Raises:
      BackboneError: there is no such layer; some that there are, and the nearest.
    """
    if name in layers:
        return layers[name]
    known = [each for each in layers if each != LAST_LAYER]
    raise BackboneError(
        f"{network} has no layer {name!r}; its last ones are {sorted(known)[-NUM_NAMED:]}{suggest_name(name, layers)}"
    )


def name_layers(network: keras.Model) -> dict[str, keras.layers.Layer]:
    """Return the layers by the names that they have when the network is built first in a process.

    Keras numbers layers without a name of their own through the whole process: `activation_3` of
    InceptionV3 becomes `activation_97` if a network with 94 activations was built before.
    """
    numbered: dict[str, dict[int, keras.layers.Layer]] = {}
    named = {}
    for layer in network.layers:
        kind, number = split_number(layer.name)
        if kind.replace("_", "") == type(layer).__name__.lower():
            numbered.setdefault(kind, {})[number] = layer
        else:
            named[layer.name] = layer
    for kind, layers in numbered.items():
        first = min(layers)
        for number, layer in layers.items():
            named[f"{kind}_{number - first}" if number > first else kind] = layer
    return named


def split_number(name: str) -> tuple[str, int]:
    """Split `conv2d_3` into `conv2d` and 3; the number of a name without one is 0."""
    found = re.fullmatch(r"(.*)_(\d+)", name)
    return (found[1], int(found[2])) if found else (name, 0)
