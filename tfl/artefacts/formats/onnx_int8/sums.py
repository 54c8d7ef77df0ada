"""Weights, and the sums of products that they are for, in ONNX."""

from typing import Any

import numpy as np

from tfl.artefacts.formats.onnx_int8.translation import (
    Convolution,
    Translation,
    Weights,
    key_of,
    refuse,
    squeeze,
    to_same,
)


def translate_constant(node: Any, into: Translation) -> None:
    """Remember the value."""
    into.constants[key_of(node.output(0))] = node.data.copy()


def translate_convert(node: Any, into: Translation) -> None:
    """Leave integers as they are: `translate_multiply` makes weights of them."""
    into.constants[key_of(node.output(0))] = into.read(node.input_value(0))


def translate_multiply(node: Any, into: Translation) -> str | None:
    """Make weights of integers and their scales; else translate to Mul."""
    values, scales = (into.find(source) for source in node.input_values())
    if isinstance(values, np.ndarray) and isinstance(scales, np.ndarray) and values.dtype == np.int8:
        into.constants[key_of(node.output(0))] = Weights(values, scales)
        return None
    return to_same("Mul")(node, into)


def translate_convolution(node: Any, into: Translation) -> str:
    """Translate to Conv."""
    filters = into.find(node.input_value(1))
    return _convolve(node, filters, 1, into)


def translate_group_convolution(node: Any, into: Translation) -> str:
    """Join the axis of groups, which ONNX does not have, with that of outputs."""
    filters = into.find(node.input_value(1))
    num_groups = int(node.input_value(1).get_shape()[0])
    if isinstance(filters, Weights):
        scales = np.broadcast_to(filters.scales, (*filters.values.shape[:2], 1, 1, 1))
        filters = Weights(_join_groups(filters.values), _join_groups(scales))
    elif filters is not None:
        filters = _join_groups(filters)
    return _convolve(node, filters, num_groups, into)


def _join_groups(filters: np.ndarray) -> np.ndarray:
    """Join the first two axes: `(g, o, i, h, w)` to `(g * o, i, h, w)`."""
    return filters.reshape(-1, *filters.shape[2:])


def _convolve(node: Any, filters: "np.ndarray | Weights | None", num_groups: int, into: Translation) -> str:
    if filters is None:
        raise refuse(f"the filters of {node.get_friendly_name()} are computed, where constants are expected")
    source = into.use(node.input_value(0))
    attributes = node.get_attributes()
    name = into.add(
        "Conv",
        source,
        into.use_constant(filters),
        group=num_groups,
        strides=attributes["strides"],
        dilations=attributes["dilations"],
        pads=[*attributes["pads_begin"], *attributes["pads_end"]],
    )
    into.convolutions[name] = Convolution(into.nodes[-1], _find_step(source, filters, into))
    return name


def _find_step(source: str, filters: "np.ndarray | Weights", into: Translation) -> np.ndarray | None:
    """Return the steps between a convolution's sums, `(c,)` or `()`; None if it does not compute in integers."""
    levels = into.levels.get(source)
    if levels is None or not isinstance(filters, Weights):
        return None
    return levels.scale * squeeze(filters.scales).astype(np.float64)


def translate_add(node: Any, into: Translation) -> str:
    """Give a bias to its convolution: ONNX Runtime computes in integers only those that have theirs."""
    for sums, other in (node.input_values(), reversed(node.input_values())):
        name = into.names.get(key_of(sums), "")
        bias = into.find(other)
        if name not in into.convolutions or len(sums.get_target_inputs()) > 1:
            continue
        if isinstance(bias, np.ndarray) and bias.shape == _shape_biases(node):
            into.add_bias(name, bias.reshape(-1))
            return name
    return to_same("Add")(node, into)


def _shape_biases(node: Any) -> tuple[int, ...]:
    """Return the shape of one value for each channel of a node's output."""
    num_channels = int(node.get_output_partial_shape(0)[1].get_length())
    return 1, num_channels, 1, 1


def translate_matmul(node: Any, into: Translation) -> str:
    """Multiply matrices, the second of which is transposed where it is stored."""
    first, second = node.input_values()
    attributes = node.get_attributes()
    value = into.find(second)
    if attributes["transpose_a"] or value is None:
        raise refuse(f"{node.get_friendly_name()} multiplies by a computed matrix")
    if attributes["transpose_b"]:
        value = _transpose_matrix(value)
    return into.add("MatMul", into.use(first), into.use_constant(value))


def _transpose_matrix(value: "np.ndarray | Weights") -> "np.ndarray | Weights":
    if isinstance(value, Weights):
        return Weights(value.values.swapaxes(-1, -2), value.scales.swapaxes(-1, -2))
    return value.swapaxes(-1, -2)
