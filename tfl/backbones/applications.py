"""Backbones of keras.applications, and of any other set of functions that follows its conventions."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import keras

from tfl.backbones import imagenet
from tfl.backbones.architecture import Architecture, Function, keras_models_folder
from tfl.backbones.layers import map_activations
from tfl.backbones.loading import load_weights
from tfl.backbones.source import BackboneSource, Pretrained
from tfl.backbones.tensors import randomize_weights
from tfl.backbones.variants import build_variant
from tfl.backbones.weights import open_weights
from tfl.files.paths import expand_user
from tfl.specs import FeatureSpec


def list_keras_functions() -> dict[str, Function]:
    """Return the functions of keras.applications that build a network, by their names in lower case."""
    return {
        name.lower(): function
        for name, function in vars(keras.applications).items()
        if callable(function) and name[0].isupper()
    }


def make_source(
    name: str, prefix: str, list_functions: Callable[[], Mapping[str, Function]], packages: tuple[str, ...] = ()
) -> BackboneSource:
    """Make a source of functions that follow the conventions of keras.applications.

    Args:
      list_functions: returns the functions by name, in lower case.
      packages: see `BackboneSource`.
    """

    def list_names() -> Sequence[str]:
        return list(list_functions())

    def load(backbone: str, spec: FeatureSpec) -> Pretrained:
        architecture = Architecture(backbone, list_functions()[backbone], spec.image_size)
        return load_pretrained(architecture, spec.weights)

    return BackboneSource(name, prefix, list_names, load, has_bare_names=True, packages=packages)


KERAS_APPLICATIONS = make_source("keras.applications", "keras:", list_keras_functions, packages=("keras",))


def load_pretrained(architecture: Architecture, weights: str) -> Pretrained:
    """Build an architecture's network with its weights: `imagenet`, `random` or a file.

    Raises:
      BackboneError: the network does not take the image size, or the file does not fit it.
      AssetError: the ImageNet weights could not be had.
    """
    digest = ""
    if weights == "random":
        network = architecture.build()
        randomize_weights(network)
    elif weights == "imagenet":
        network, digest = _load_imagenet(architecture)
    else:
        network = _load_file(architecture, expand_user(weights))
    return Pretrained(network, architecture.preprocess, map_activations(network), digest=digest)


def _load_imagenet(architecture: Architecture) -> tuple[keras.Model, str]:
    """Return the network, and the digest of its tensors if it was made on the way."""
    if architecture.name != imagenet.NAME:
        return architecture.build_official(), ""
    network = architecture.build()
    digest = imagenet.load_resnet50(network, architecture.build_official, keras_models_folder())
    return network, digest


def _load_file(architecture: Architecture, path: Path) -> keras.Model:
    with open_weights(path) as file:
        network = build_variant(architecture, file)
        load_weights(file, network)
    return network
