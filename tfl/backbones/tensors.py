"""A network's tensors: their digest, random ones, and refusing those that are not finite."""

import hashlib
import math

import keras
import numpy as np
from keras import ops

from tfl.errors import BackboneError
from tfl.specs import DIGEST_PREFIX

RANDOM_WEIGHTS_SEED = 0


def digest_weights(network: keras.Model) -> str:
    """Return `sha256:` and the hex digest of the tensors' values, in the model's order.

    Rescaling layers count too: EfficientNet built for "imagenet" has one that EfficientNet built
    for a file of the same tensors lacks.
    """
    digest = hashlib.sha256()
    for layer in network.layers:
        if isinstance(layer, keras.layers.Rescaling):
            digest.update(f"rescaling {layer.scale} {layer.offset}\n".encode())
    for weight in network.weights:
        values = np.ascontiguousarray(ops.convert_to_numpy(weight), "<f4")
        digest.update(f"{values.shape}\n".encode())
        digest.update(values.data)
    return DIGEST_PREFIX + digest.hexdigest()


def randomize_weights(network: keras.Model) -> None:
    """Draw normal kernels scaled by their fan-in from one numpy generator of a fixed seed.

    Every Keras backend gets the same numbers. Biases and statistics stay as they were built.
    """
    rng = np.random.default_rng(RANDOM_WEIGHTS_SEED)
    for weight in network.weights:
        if len(weight.shape) >= 2:
            fan_in = math.prod(weight.shape[:-1])
            kernel = rng.normal(0.0, math.sqrt(2 / fan_in), weight.shape)
            weight.assign(kernel.astype(np.float32))


def require_finite_weights(network: keras.Model, origin: str) -> None:
    """Refuse weights that are NaN or infinite.

    Behind a ReLU they would go unnoticed: all images would get the same features.

    Args:
      origin: the `weights` that were typed.

    Raises:
      BackboneError: the first tensor that holds such values, and how many.
    """
    for weight in network.weights:
        values = np.asarray(ops.convert_to_numpy(weight), np.float32)
        num_bad = values.size - int(np.isfinite(values).sum())
        if num_bad:
            raise BackboneError(
                f"the weights {origin} hold {num_bad:,} of {values.size:,} values of {weight.path} "
                "that are not finite (NaN or infinite); expected numbers: a training that diverged "
                "leaves such, take an earlier checkpoint"
            )
