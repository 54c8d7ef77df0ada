"""Resizing, preprocessing and the frozen network as one Keras model: uint8 images in, features out.

uint8 (n, h, w, 3) -> cast -> resize -> the source's preprocessing -> frozen network -> pooled (n, d)
"""

import itertools
from dataclasses import dataclass, replace
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from tfl.backbones.layers import require_activations
from tfl.backbones.presentation import build_views
from tfl.backbones.quantized import QuantizedNetwork
from tfl.backbones.registry import find_backbone, require_backbone
from tfl.backbones.source import Pretrained
from tfl.backbones.tensors import digest_weights, require_finite_weights
from tfl.errors import BackboneError
from tfl.machine.keras_settings import pin_keras_settings
from tfl.machine.patches import skip_initializers
from tfl.specs import ComputeDtype, FeatureSpec, View

ORIGINAL: tuple[View, ...] = ("original",)


@dataclass(frozen=True)
class Backbone:
    """A frozen pretrained network without its classifier, as Keras models.

    Attributes:
      spec: what it is; `weights` is the digest of the tensors' values.
      resize: the view `original`, uint8 `(n, h, w, 3)` to float32 `(n, image_size, image_size, 3)`.
      network: resized images to features, float32 `(n, d)`; preprocesses first.
      model: both; uint8 `(n, h, w, 3)` to float32 `(n, d)`.
      pretrained: what the source returned.
      quantized: what computes the features instead of `network` if `spec.compute_dtype` is int8;
        None until it has been found or made.
    """

    spec: FeatureSpec
    resize: keras.Model
    network: keras.Model
    model: keras.Model
    pretrained: Pretrained
    quantized: QuantizedNetwork | None = None

    def change_dtype(self, compute_dtype: ComputeDtype) -> "Backbone":
        """Return a backbone of the same float32 layers, in float32 or, to be quantised, in int8.

        The pixels of the two differ a little, see `exact_bilinear`.
        """
        spec = replace(self.spec, compute_dtype=compute_dtype, quantized_network="")
        return replace(self, spec=spec, resize=build_views(spec, ORIGINAL), quantized=None)

    def use_quantized(self, quantized: QuantizedNetwork) -> "Backbone":
        """Return the same backbone, whose features a quantised network computes.

        Raises:
          BackboneError: it is another backbone's network, or lacks a layer.
        """
        differences = quantized.origin.list_differences(self.spec)
        if differences:
            raise BackboneError(
                f"the quantised network {quantized.path} cannot compute these features",
                *(f"  {line}" for line in differences),
            )
        spec = replace(self.spec, quantized_network=quantized.digest)
        return replace(self, spec=spec, quantized=quantized)

    @property
    def quantized_columns(self) -> np.ndarray | None:
        """The columns of the quantised network's output that make up a row of features, `(d,)`; None for all."""
        assert self.quantized is not None
        origin = self.quantized.origin
        if (origin.layers, origin.pooling) == (self.spec.layers, self.spec.pooling):
            return None
        held = replace(self.spec, layers=origin.layers, pooling=origin.pooling)
        columns = self.locate_columns(held)
        pairs = itertools.product(self.spec.layers, self.spec.pooling)
        return np.concatenate([np.arange(part.start, part.stop) for part in map(columns.__getitem__, pairs)])

    @property
    def packages(self) -> tuple[str, ...]:
        """The distributions whose versions, with `spec`, decide the network; empty if other code decides too."""
        found = find_backbone(self.spec.backbone)
        return () if found is None else found.source.packages

    @property
    def num_features(self) -> int:
        """Width of a feature row, d."""
        return int(self.model.output_shape[-1])

    @property
    def unpooled(self) -> keras.Model:
        """The source's own network, preprocessed images to activations."""
        return self.pretrained.network

    @pin_keras_settings()
    def build_preprocessing(self) -> keras.Model:
        """Build the model that makes of resized images what `unpooled` takes, of the same shape."""
        pixels = _input_pixels(self.spec)
        return keras.Model(pixels, self.pretrained.preprocess(pixels))

    def build_views(self, views: tuple[View, ...]) -> keras.Model:
        """Build the model that makes the network's pixels of images, view after view.

        Returns:
          uint8 `(n, h, w, 3)` to float32 `(v * n, image_size, image_size, 3)`.
        """
        return self.resize if views == ORIGINAL else build_views(self.spec, views)

    @pin_keras_settings()
    def build_view_mean(self, views: tuple[View, ...]) -> keras.Model:
        """Build the model that averages features over the views that `build_views` makes.

        Returns:
          float32 `(v * n, image_size, image_size, 3)` to `(n, d)`; it holds the network once.
        """
        if views == ORIGINAL:
            return self.network
        pixels = _input_pixels(self.spec)
        features = self.network(pixels, training=False)  # (v * n, d)
        by_view = ops.reshape(features, (len(views), -1, self.num_features))  # (v, n, d)
        mean = ops.mean(by_view, axis=0)  # (n, d)
        return _freeze(keras.Model(pixels, mean, name="mean"))

    @pin_keras_settings()
    def locate_columns(self, spec: FeatureSpec) -> dict[tuple[str, str], slice]:
        """Return the columns of each pair of layer and pooling in a row of features, in their order.

        Args:
          spec: of this backbone, but perhaps with other layers and poolings.

        Raises:
          BackboneError: the network has no such layer.
        """
        columns: dict[tuple[str, str], slice] = {}
        start = 0
        for pooled in _pool_layers(self.pretrained, spec):
            num_channels = int(pooled.features.shape[-1])
            columns[pooled.layer, pooled.pooling] = slice(start, start + num_channels)
            start += num_channels
        return columns


@pin_keras_settings()
def build_backbone(spec: FeatureSpec) -> Backbone:
    """Build the backbone that a spec describes, with its weights in place and frozen.

    Args:
      spec: `weights` in words (`imagenet`, `random`, a file); the spec of the result is resolved.

    Raises:
      BackboneError: the backbone or a layer is unknown, the network does not take the image size,
        or the weights are another network's or not finite.
      AssetError: the pretrained weights could not be had.
      SpecError: its compute dtype is `auto`.
    """
    spec.require_compute_dtype()
    found = require_backbone(spec.backbone)
    with pin_keras_settings(spec.layer_dtype), skip_initializers():
        pretrained = found.source.load(found.name, spec)
    network = pretrained.network
    require_finite_weights(network, spec.weights)
    network.trainable = False  # else an exported SavedModel runs BatchNorm in training mode
    digest = pretrained.digest or digest_weights(network)
    resolved = replace(spec, backbone=found.stored_name, weights=digest)
    return _assemble(resolved, pretrained)


def _assemble(spec: FeatureSpec, pretrained: Pretrained) -> Backbone:
    """Join resizing, preprocessing, the network and pooling."""
    resize = build_views(spec, ORIGINAL)
    pixels = _input_pixels(spec)
    features = _build_pooled(pretrained, spec)(pretrained.preprocess(pixels), training=False)  # (n, d)
    network = _freeze(keras.Model(pixels, features, name=spec.backbone_file_name))
    images = keras.Input((None, None, 3), dtype="uint8", name="images")
    model = keras.Model(images, network(resize(images), training=False), name="backbone")
    return Backbone(spec, resize, network, _freeze(model), pretrained)


def _input_pixels(spec: FeatureSpec) -> keras.KerasTensor:
    """Make the symbolic tensor of resized images."""
    return keras.Input((spec.image_size, spec.image_size, 3), dtype="float32", name="pixels")


def _build_pooled(pretrained: Pretrained, spec: FeatureSpec) -> keras.Model:
    """Build the model from preprocessed images to features: layers pooled and concatenated."""
    outputs = [pooled.features for pooled in _pool_layers(pretrained, spec)]  # each (n, c)
    features = outputs[0] if len(outputs) == 1 else ops.concatenate(outputs, axis=-1)  # (n, d)
    return keras.Model(pretrained.network.input, features)


class _Pooled(NamedTuple):
    """One layer's activations, pooled in one way: some columns of a row of features."""

    layer: str
    pooling: str
    features: keras.KerasTensor


def _pool_layers(pretrained: Pretrained, spec: FeatureSpec) -> list[_Pooled]:
    """Pool the chosen layers' activations in float32, in the order of a row."""
    pooled = []
    for layer in spec.layers:
        activations = require_activations(pretrained.layers, layer, pretrained.network.name)
        activations = ops.cast(activations, "float32")  # (n, h, w, c), or of tokens (n, t, c)
        try:
            for pooling in spec.pooling:
                features = pretrained.pool(activations, pooling)  # (n, c)
                pooled.append(_Pooled(layer, pooling, features))
        except BackboneError as error:
            raise BackboneError(f"layer {layer!r} cannot be pooled: {error}") from error
    return pooled


def _freeze(model: keras.Model) -> keras.Model:
    model.trainable = False
    return model
