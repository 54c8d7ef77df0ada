"""The two networks that Keras builds of one architecture, and the one that a weights file belongs to.

For "imagenet" Keras builds EfficientNet with one more rescaling layer than for a file: the same tensors
give other features.
"""

import hashlib

import keras

from tfl.backbones.architecture import Architecture
from tfl.backbones.fronts import describe_front, front_of, is_same_front
from tfl.backbones.mismatch import require_layers_of
from tfl.backbones.weights import WeightsFile
from tfl.errors import BackboneError
from tfl.machine.patches import build_without_weights


def build_variant(architecture: Architecture, file: WeightsFile) -> keras.Model:
    """Build the network as Keras does for a file or for "imagenet": the one that the file shows.

    Raises:
      BackboneError: the file shows neither, or could be of both.
    """
    plain = architecture.build()
    is_official = _is_official(architecture, file)
    if _shows(file, plain) and not is_official:
        return plain
    official = _build_for_imagenet(architecture) or plain
    if is_official or _shows(file, official):
        return official
    if file.front is None and front_of(plain) == front_of(official):
        return plain
    require_layers_of(plain, file)
    raise BackboneError(_explain_doubt(file, plain, official))


def _shows(file: WeightsFile, network: keras.Model) -> bool:
    return file.front is not None and is_same_front(front_of(network), file.front)


def _is_official(architecture: Architecture, file: WeightsFile) -> bool:
    """Whether it is one of Keras' own files of ImageNet weights, by the digests beside the architecture."""
    hashes = getattr(architecture.module, "WEIGHTS_HASHES", {})
    known: list[str] = []
    for digests in hashes.values():
        known += [digests] if isinstance(digests, str) else digests
    if not known:
        return False
    with file.path.open("rb") as opened:
        return hashlib.file_digest(opened, "md5").hexdigest() in known


def _build_for_imagenet(architecture: Architecture) -> keras.Model | None:
    """Build the network as for "imagenet", without weights; None if there are none to be had."""
    file_utils = getattr(architecture.module, "file_utils", None)
    if file_utils is None:
        return None
    with build_without_weights(file_utils):
        return architecture.build("imagenet")


def _explain_doubt(file: WeightsFile, plain: keras.Model, official: keras.Model) -> str:
    """Say which rescaling and normalisation layers the file shows, and which the networks have."""
    expected = [describe_front(front_of(network)) for network in (plain, official)]
    either = " or, built with weights='imagenet', ".join(dict.fromkeys(expected))
    if file.front is None:
        return (
            f"{file.path} does not show its layers without weights, and there are two networks of {plain.name} with "
            f"these tensors: {either}; save the whole model: network.save('backbone.keras'), and give that file"
        )
    return (
        f"{file.path} shows {describe_front(file.front)}, and {plain.name} has {either}: how its network preprocesses "
        "images cannot be told; save the weights of keras.applications' own network alone: "
        "network.save_weights('backbone.weights.h5')"
    )
