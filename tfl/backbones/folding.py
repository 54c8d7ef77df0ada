"""Copies of a network that give the same features: BatchNormalization folded away, or computed in float32."""

from collections import Counter
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from tfl.backbones.backbone import skip_initializers
from tfl.machine.keras_settings import pin_keras_settings

CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D)


@pin_keras_settings()
def fold_batch_norm(network: keras.Model) -> keras.Model:
    """A copy of a frozen network in which no BatchNormalization stands right behind a convolution any more.

    `scale * (kernel * x + bias - mean) + beta`, where scale is gamma / sqrt(variance + epsilon), is one convolution, of
    kernel `scale * kernel` and bias `scale * (bias - mean) + beta`. A convolution whose output something else reads too
    stays as it is. Models inside the model are folded likewise.

    Source: Jacob et al. 2018, arXiv:1712.05877, section 3.2.
    """
    if isinstance(network, keras.Sequential):  # which does not tell its operations
        network = keras.Model(network.inputs, network.outputs, name=network.name)
    norms = _foldable(network)
    folded_away = {norm.name for norm in norms.values()}

    def copied(operation: Any) -> Any:
        if isinstance(operation, keras.Model):
            return fold_batch_norm(operation)
        if not isinstance(operation, layers.Layer):  # it has no weights
            return operation
        change = {"use_bias": True} if operation.name in norms else {}
        return type(operation).from_config({**operation.get_config(), **change})

    def called(operation: Any, *args: Any, **kwargs: Any) -> Any:
        return args[0] if operation.name in folded_away else operation(*args, **kwargs)

    with skip_initializers():
        copy = keras.models.clone_model(network, clone_function=copied, call_function=called)
    for layer in copy.layers:
        if layer.name in norms:
            layer.set_weights(_folded_weights(network.get_layer(layer.name), norms[layer.name]))
        elif layer.weights and not isinstance(layer, keras.Model):
            layer.set_weights(network.get_layer(layer.name).get_weights())
        if isinstance(layer, layers.Normalization):
            layer.finalize_state()  # it computes with what it derives from its weights
    copy.trainable = False
    return copy


@pin_keras_settings()
def convert_to_float32(network: keras.Model) -> keras.Model:
    """A copy of a frozen network whose layers compute in float32, whatever this one's compute in."""
    with skip_initializers():
        copy = _in_float32(network)
    copy.set_weights(network.get_weights())
    _finalize(copy)
    copy.trainable = False
    return copy


def _in_float32(network: keras.Model) -> keras.Model:
    if isinstance(network, keras.Sequential):  # which does not tell its operations
        network = keras.Model(network.inputs, network.outputs, name=network.name)

    def copied(operation: Any) -> Any:
        if isinstance(operation, keras.Model):
            return _in_float32(operation)
        if not isinstance(operation, layers.Layer):  # it has no dtype of its own
            return operation
        return type(operation).from_config({**operation.get_config(), "dtype": "float32"})

    return keras.models.clone_model(network, clone_function=copied, call_function=_call)


def _call(operation: Any, *args: Any, **kwargs: Any) -> Any:
    return operation(*args, **kwargs)


def _finalize(network: keras.Model) -> None:
    """Let Normalization layers derive what they compute with from their weights."""
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            _finalize(layer)
        elif isinstance(layer, layers.Normalization):
            layer.finalize_state()


def _foldable(network: keras.Model) -> dict[str, layers.BatchNormalization]:
    """What can be folded, by the name of the convolution that it goes into."""
    readers = Counter(id(tensor) for each in network.operations for tensor in keras.tree.flatten(each.input))
    readers.update(id(tensor) for tensor in network.outputs)
    convolutions = {
        id(each.output): each
        for each in network.operations
        if isinstance(each, CONVOLUTIONS) and each.activation is keras.activations.linear
    }
    return {
        convolutions[id(each.input)].name: each
        for each in network.operations
        if isinstance(each, layers.BatchNormalization) and each.axis in (-1, 3)
        if id(each.input) in convolutions and readers[id(each.input)] == 1
    }


def _folded_weights(convolution: layers.Layer, norm: layers.BatchNormalization) -> list[np.ndarray]:
    """Weights of the convolution that does what both did, computed in float64; the last two are kernel and bias."""
    weights = [np.asarray(weight, np.float64) for weight in convolution.get_weights()]
    bias = weights.pop() if convolution.use_bias else 0.0
    *before, kernel = weights
    mean, variance = (np.asarray(ops.convert_to_numpy(v), np.float64) for v in (norm.moving_mean, norm.moving_variance))
    gamma = ops.convert_to_numpy(norm.gamma) if norm.scale else 1.0
    beta = ops.convert_to_numpy(norm.beta) if norm.center else 0.0
    scale = gamma / np.sqrt(variance + norm.epsilon)  # (channels,)
    # A depthwise kernel is (h, w, channels, multiplier), and puts out channel by channel.
    factors = scale.reshape(kernel.shape[2:]) if isinstance(convolution, layers.DepthwiseConv2D) else scale
    return [*before, kernel * factors, scale * (bias - mean) + beta]
