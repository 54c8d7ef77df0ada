"""Copies of a network that give the same features: with BatchNormalization folded away, or computed in float32."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from tfl.machine.keras_settings import pin_keras_settings
from tfl.machine.patches import skip_initializers

CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D)


@pin_keras_settings()
def fold_batch_norm(network: keras.Model) -> keras.Model:
    """Copy a frozen network, with BatchNormalization folded into the convolutions before it.

    `scale * (kernel * x + bias - mean) + beta`, where scale is gamma / sqrt(variance + epsilon), is one
    convolution with the kernel `scale * kernel` and the bias `scale * (bias - mean) + beta`. A convolution
    whose output something else reads too stays as it is. Models inside the network are folded likewise.

    Source: Jacob et al. 2018, arXiv:1712.05877, section 3.2.
    """
    network = _as_functional(network)
    norms = _find_foldable(network)
    folded_away = {norm.name for norm in norms.values()}

    def copy_operation(operation: Any) -> Any:
        if isinstance(operation, keras.Model):
            return fold_batch_norm(operation)
        if not isinstance(operation, layers.Layer):  # it has no weights
            return operation
        change = {"use_bias": True} if operation.name in norms else {}
        return type(operation).from_config({**operation.get_config(), **change})

    def call_operation(operation: Any, *args: Any, **kwargs: Any) -> Any:
        return args[0] if operation.name in folded_away else operation(*args, **kwargs)

    with skip_initializers():
        copy = _clone(network, copy_operation, call_operation)
    for layer in copy.layers:
        if layer.name in norms:
            layer.set_weights(_fold_weights(network.get_layer(layer.name), norms[layer.name]))
        elif layer.weights and not isinstance(layer, keras.Model):
            layer.set_weights(network.get_layer(layer.name).get_weights())
    _finalize(copy)
    copy.trainable = False
    return copy


@pin_keras_settings()
def convert_to_float32(network: keras.Model) -> keras.Model:
    """Copy a frozen network, with layers that compute in float32 whatever this one's compute in."""
    with skip_initializers():
        copy = _clone_in_float32(network)
    copy.set_weights(network.get_weights())
    _finalize(copy)
    copy.trainable = False
    return copy


def _clone_in_float32(network: keras.Model) -> keras.Model:
    def copy_operation(operation: Any) -> Any:
        if isinstance(operation, keras.Model):
            return _clone_in_float32(operation)
        if not isinstance(operation, layers.Layer):  # it has no dtype of its own
            return operation
        return type(operation).from_config({**operation.get_config(), "dtype": "float32"})

    return _clone(_as_functional(network), copy_operation, _call)


def _call(operation: Any, *args: Any, **kwargs: Any) -> Any:
    return operation(*args, **kwargs)


def _clone(
    network: keras.Model, copy_operation: Callable[[Any], Any], call_operation: Callable[..., Any]
) -> keras.Model:
    """Build a network anew, operation by operation; its weights are not copied."""
    return keras.models.clone_model(network, clone_function=copy_operation, call_function=call_operation)


def _as_functional(network: keras.Model) -> keras.Model:
    """Return the network as a functional model: a Sequential does not list its operations."""
    if isinstance(network, keras.Sequential):
        return keras.Model(network.inputs, network.outputs, name=network.name)
    return network


def _finalize(network: keras.Model) -> None:
    """Let Normalization layers derive from their weights the values that they compute with."""
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            _finalize(layer)
        elif isinstance(layer, layers.Normalization):
            layer.finalize_state()


def _find_foldable(network: keras.Model) -> dict[str, layers.BatchNormalization]:
    """Return the BatchNormalization layers that can be folded, by the name of the convolution before each."""
    readers = Counter(id(tensor) for tensor in network.outputs)
    for operation in network.operations:
        readers.update(id(tensor) for tensor in keras.tree.flatten(operation.input))
    convolutions = {
        id(operation.output): operation
        for operation in network.operations
        if isinstance(operation, CONVOLUTIONS) and operation.activation is keras.activations.linear
    }
    foldable = {}
    for operation in network.operations:
        is_norm = isinstance(operation, layers.BatchNormalization) and operation.axis in (-1, 3)
        if is_norm and id(operation.input) in convolutions and readers[id(operation.input)] == 1:
            foldable[convolutions[id(operation.input)].name] = operation
    return foldable


def _fold_weights(convolution: layers.Layer, norm: layers.BatchNormalization) -> list[np.ndarray]:
    """Return the weights of the convolution that does both, computed in float64; kernel and bias come last."""
    weights = [_to_float64(weight) for weight in convolution.get_weights()]
    bias = weights.pop() if convolution.use_bias else 0.0
    *before, kernel = weights
    gamma = _to_float64(norm.gamma) if norm.scale else 1.0
    beta = _to_float64(norm.beta) if norm.center else 0.0
    mean, variance = _to_float64(norm.moving_mean), _to_float64(norm.moving_variance)
    scale = gamma / np.sqrt(variance + norm.epsilon)  # (channels,)
    # A depthwise kernel is (h, w, channels, multiplier), and its output stands channel by channel.
    is_depthwise = isinstance(convolution, layers.DepthwiseConv2D)
    factors = scale.reshape(kernel.shape[2:]) if is_depthwise else scale
    return [*before, kernel * factors, scale * (bias - mean) + beta]


def _to_float64(tensor: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(tensor), np.float64)
