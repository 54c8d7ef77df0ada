"""Activations and pooling, in ONNX."""

from typing import Any

import numpy as np

from tfl.artefacts.formats.onnx_int8.translation import Translation, Translator, refuse, to_same


def translate_clamp(node: Any, into: Translation) -> str:
    """Translate to Clip."""
    ends = node.get_attributes()
    low, high = (into.store(ends[end], np.float32) for end in ("min", "max"))
    return into.add("Clip", into.use(node.input_value(0)), low, high)


def translate_swish(node: Any, into: Translation) -> str:
    """Translate to a product with the sigmoid."""
    if len(node.input_values()) > 1:
        raise refuse(f"{node.get_friendly_name()} is a Swish with a factor")
    values = into.use(node.input_value(0))
    return into.add("Mul", values, into.add("Sigmoid", values))


def translate_squared_difference(node: Any, into: Translation) -> str:
    """Translate to a difference times itself."""
    difference = to_same("Sub")(node, into)
    return into.add("Mul", difference, difference)


def translate_max_pool(node: Any, into: Translation) -> str:
    """Translate to MaxPool."""
    if node.output(1).get_target_inputs():
        raise refuse(f"the places of the maxima of {node.get_friendly_name()} are used")
    return _pool(node, "MaxPool", into, dilations=node.get_attributes()["dilations"])


def translate_average_pool(node: Any, into: Translation) -> str:
    """Translate to AveragePool."""
    counts_padding = not node.get_attributes()["exclude-pad"]
    return _pool(node, "AveragePool", into, count_include_pad=int(counts_padding))


def _pool(node: Any, operation: str, into: Translation, **more: Any) -> str:
    attributes = node.get_attributes()
    return into.add(
        operation,
        into.use(node.input_value(0)),
        kernel_shape=attributes["kernel"],
        strides=attributes["strides"],
        pads=[*attributes["pads_begin"], *attributes["pads_end"]],
        ceil_mode=int(attributes["rounding_type"] != "floor"),
        **more,
    )


def to_reduction(operation: str) -> Translator:
    """Translate to an operation that reduces constant axes to one value each."""

    def translate(node: Any, into: Translation) -> str:
        values, axes = node.input_values()
        keeps = int(node.get_attributes()["keep_dims"])
        return into.add(operation, into.use(values), into.store(into.read(axes).reshape(-1), np.int64), keepdims=keeps)

    return translate
