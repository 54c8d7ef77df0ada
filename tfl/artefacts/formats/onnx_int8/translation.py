"""The ONNX graph that a quantised OpenVINO network is translated to, while it is made."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from tfl.errors import ExportError

LARGEST_BIAS = 2**31 - 1  # of an int32


class Weights(NamedTuple):
    """Integers and what they are multiplied by.

    Attributes:
      values: int8; of a bias int32.
      scales: of as many axes as `values`, at most one of which is longer than 1.
    """

    values: np.ndarray
    scales: np.ndarray


class Levels(NamedTuple):
    """The 256 values of a rounded activation, `scale * (level - zero)`.

    Attributes:
      scale: float64 `()`.
      zero: the level of 0, `()`.
    """

    scale: np.ndarray
    zero: np.ndarray


class Convolution(NamedTuple):
    """A convolution that still lacks its bias.

    Attributes:
      node: ONNX's.
      scales: the steps between its sums, `(c,)` or `()`, if it computes in integers; None if not.
    """

    node: Any
    scales: np.ndarray | None


@dataclass
class Translation:
    """ONNX's nodes and tensors so far, and what has become of OpenVINO's outputs.

    Attributes:
      dequantized: the nodes behind stored integers; they come first in the graph.
      names: ONNX's name of each of OpenVINO's outputs that is computed.
      constants: the value of each of OpenVINO's outputs that is not.
      levels: by ONNX's name: those that an activation has been rounded to.
      convolutions: by ONNX's name: those that a bias may still be added to.
    """

    onnx: Any
    nodes: list[Any] = field(default_factory=list)
    dequantized: list[Any] = field(default_factory=list)
    tensors: list[Any] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    constants: dict[str, "np.ndarray | Weights"] = field(default_factory=dict)
    levels: dict[str, Levels] = field(default_factory=dict)
    convolutions: dict[str, Convolution] = field(default_factory=dict)

    def add(self, operation: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of one output, and return the output's name."""
        name = f"{operation}_{len(self.nodes)}"
        node = self.onnx.helper.make_node(operation, list(inputs), [name], name=name, **attributes)
        self.nodes.append(node)
        return name

    def store(self, values: Any, dtype: Any = None) -> str:
        """Add a tensor, and return its name."""
        name = f"tensor_{len(self.tensors)}"
        array = np.asarray(values, dtype)
        self.tensors.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def dequantize(self, weights: Weights) -> str:
        """Add integers and a node that multiplies them, and return the node's name."""
        name = f"{self.store(weights.values)}_dequantized"
        inputs = [f"tensor_{len(self.tensors) - 1}", self.store(squeeze(weights.scales), np.float32)]
        axis = find_axis(weights.scales)
        self.dequantized.append(self.onnx.helper.make_node("DequantizeLinear", inputs, [name], name=name, axis=axis))
        return name

    def use(self, output: Any) -> str:
        """Return ONNX's name of one of OpenVINO's outputs; a constant is stored."""
        key = key_of(output)
        if key in self.names:
            return self.names[key]
        return self.use_constant(self.constants[key])

    def use_constant(self, value: "np.ndarray | Weights") -> str:
        """Store a constant, and return the name of its float32."""
        return self.dequantize(value) if isinstance(value, Weights) else self.store(value, np.float32)

    def find(self, output: Any) -> "np.ndarray | Weights | None":
        """Return the value of one of OpenVINO's outputs; None if it is computed."""
        return self.constants.get(key_of(output))

    def read(self, output: Any) -> np.ndarray:
        """Return the value of one of OpenVINO's outputs.

        Raises:
          ExportError: it is computed.
        """
        value = self.find(output)
        if not isinstance(value, np.ndarray):
            raise refuse(f"{output.get_node().get_friendly_name()} is computed, where a constant is expected")
        return value

    def add_bias(self, name: str, bias: np.ndarray) -> None:
        """Give a convolution its bias, `(c,)`: in integers if its sums are, unless it is too large for them."""
        node, scales = self.convolutions.pop(name)
        steps = np.broadcast_to(0.0 if scales is None else scales, bias.shape)
        fits = np.abs(bias) <= steps * LARGEST_BIAS
        if np.all(fits) and np.all(steps > 0):
            levels = np.rint(bias / steps).astype(np.int32)
            node.input.append(self.dequantize(Weights(levels, steps)))
        else:
            node.input.append(self.store(bias, np.float32))


def key_of(output: Any) -> str:
    """Return a name of its own for one of OpenVINO's outputs."""
    return f"{output.get_node().get_friendly_name()}:{output.get_index()}"


def squeeze(values: np.ndarray) -> np.ndarray:
    """Return values along their one long axis `(c,)`, or the only value `()`."""
    return values.reshape(-1) if values.size > 1 else values.reshape(())


def find_axis(values: np.ndarray) -> int:
    """Return the axis of more than one value; the first if there is none."""
    return int(np.argmax(values.shape)) if values.size > 1 else 0


def refuse(reason: str) -> ExportError:
    """Return the error that says why a network cannot be translated."""
    return ExportError(
        f"ONNX cannot carry the int8 network: {reason}; take --format openvino, "
        "or a format that carries the float32 network"
    )


Translator = Callable[[Any, Translation], str | None]
"""OpenVINO's node to ONNX's name of its output; None if it is a constant."""


def to_same(operation: str, **attributes: Any) -> Callable[[Any, Translation], str]:
    """Translate to an operation of the same inputs."""

    def translate(node: Any, into: Translation) -> str:
        inputs = [into.use(source) for source in node.input_values()]
        return into.add(operation, *inputs, **attributes)

    return translate
