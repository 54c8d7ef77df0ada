"""The layers at the front of a network that rescale or normalise images, as a file or a network shows them.

They change what the network computes and may have no weights: two networks of the same tensors differ in them.
"""

import contextlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

RESCALING, NORMALIZATION = "rescaling", "normalization"
KINDS = {"Rescaling": RESCALING, "Normalization": NORMALIZATION, "TFOpLambda": RESCALING}  # by class
NAMES = re.compile(r"(?:.*_prestem_)?(rescaling|normalization)(?:_\d+)?")
DIVISION = re.compile(r"tf\.math\.(?:truediv|divide)(?:_\d+)?")  # as TensorFlow 2.9 rescales EfficientNet


class FrontLayer(NamedTuple):
    """A layer that rescales or normalises images.

    Attributes:
      kind: `rescaling` or `normalization`.
      values: scale and offset of a rescaling; None if the file does not have them.
    """

    kind: str
    values: Any = None


Front = tuple[FrontLayer, ...]
"""In the order of the network."""


def front_of(network: keras.Model) -> Front:
    """Return the front layers of a network."""
    front: list[FrontLayer] = []
    for layer in network.layers:
        if isinstance(layer, keras.layers.Rescaling):
            front.append(FrontLayer(RESCALING, (layer.scale, layer.offset)))
        elif isinstance(layer, keras.layers.Normalization):
            front.append(FrontLayer(NORMALIZATION))
    return tuple(front)


def front_of_names(names: Sequence[str]) -> Front:
    """Return the front layers among layers of which a file has the names alone."""
    front: list[FrontLayer] = []
    for name in names:
        found = NAMES.fullmatch(RESCALING if DIVISION.fullmatch(name) else name)
        if found:
            front.append(FrontLayer(found[1]))
    return tuple(front)


def front_of_config(layers: Sequence[Any]) -> Front:
    """Return the front layers among layers as Keras describes them in a saved model's config."""
    front: list[FrontLayer] = []
    for layer in layers:
        class_name, config = str(layer["class_name"]), layer.get("config") or {}
        if class_name == "TFOpLambda" and not DIVISION.fullmatch(str(config.get("name"))):
            continue
        if class_name == "Rescaling":
            values = (_to_number(config.get("scale")), _to_number(config.get("offset", 0.0)))
            front.append(FrontLayer(RESCALING, values))
        elif class_name in KINDS:
            front.append(FrontLayer(KINDS[class_name]))
    return tuple(front)


def _to_number(value: Any) -> Any:
    """Return a number or a list of numbers; Keras writes a list as `{"class_name": "__tuple__", "items": ...}` too."""
    return value.get("items", value.get("config")) if isinstance(value, dict) else value


def is_same_front(expected: Front, shown: Front) -> bool:
    """Whether a file shows the front of a network: the values too, where the file has all of them."""
    if sorted(layer.kind for layer in expected) != sorted(layer.kind for layer in shown):
        return False
    has_values = all(layer.values for layer in shown if layer.kind == RESCALING)
    if not has_values:
        return True
    return all(_is_same_layer(*pair) for pair in zip(expected, shown, strict=True))


def _is_same_layer(expected: FrontLayer, shown: FrontLayer) -> bool:
    if expected.kind != shown.kind or expected.kind != RESCALING:
        return expected.kind == shown.kind
    with contextlib.suppress(ValueError, TypeError):
        pairs = zip(expected.values, shown.values, strict=True)
        return all(np.allclose(of_expected, of_shown, rtol=1e-5) for of_expected, of_shown in pairs)
    return False


def describe_front(front: Front) -> str:
    """Return how many layers of each kind there are, in words."""
    kinds = [layer.kind for layer in front]
    counts = [f"{kinds.count(kind)} x {kind}" for kind in dict.fromkeys(kinds)]
    return ", ".join(counts) or "no layers that rescale or normalise images"
