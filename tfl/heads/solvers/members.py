"""Networks side by side: trained as one Keras model, then joined into one network."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import scipy.linalg

from tfl.heads.mlp import Mlp
from tfl.heads.rows import LabelledFeatures

Layers = list[tuple[np.ndarray, np.ndarray]]  # kernel (d, h) and bias (h,) of each Dense layer


def build_network(recipe: Mlp, rows: LabelledFeatures) -> keras.Model:
    """Build the members: standardised features `(n, d)` to their logits `(n, k, c)`.

    Every random number comes from the recipe's seed.
    """
    seeds = iter(range(recipe.seed * 1000, (recipe.seed + 1) * 1000))
    features = keras.Input((rows.num_features,))
    kept = keras.layers.Dropout(recipe.dropout / 2, seed=next(seeds))(features)
    members = [_build_member(recipe, rows.num_classes, seeds)(kept) for _ in range(recipe.members)]
    return keras.Model(features, keras.ops.stack(members, axis=1))


def _build_member(recipe: Mlp, num_classes: int, seeds: Iterator[int]) -> keras.Sequential:
    layers: list[Any] = []
    for width in recipe.hidden:
        kernel = keras.initializers.HeUniform(seed=next(seeds))
        layers.append(keras.layers.Dense(width, activation="relu", kernel_initializer=kernel))
        layers.append(keras.layers.Dropout(recipe.dropout, seed=next(seeds)))
    kernel = keras.initializers.GlorotUniform(seed=next(seeds))
    return keras.Sequential([*layers, keras.layers.Dense(num_classes, kernel_initializer=kernel)])


def get_members(network: keras.Model) -> list[Layers]:
    """Return the Dense layers of each member of a network."""
    members = [layer for layer in network.layers if isinstance(layer, keras.Sequential)]
    return [_get_dense_layers(member) for member in members]


def _get_dense_layers(member: keras.Sequential) -> Layers:
    to_numpy = keras.ops.convert_to_numpy
    dense = [layer for layer in member.layers if isinstance(layer, keras.layers.Dense)]
    return [(to_numpy(layer.kernel), to_numpy(layer.bias)) for layer in dense]


def average_members(members: list[Layers]) -> Layers:
    """Return one network that averages the members' logits: hidden units side by side."""
    first, *middle, last = zip(*members, strict=True)  # each layer, of all members
    kernels, biases = zip(*first, strict=True)
    layers = [(np.concatenate(kernels, axis=1), np.concatenate(biases))]
    for layer in middle:
        kernels, biases = zip(*layer, strict=True)
        layers.append((scipy.linalg.block_diag(*kernels), np.concatenate(biases)))
    kernels, biases = zip(*last, strict=True)
    layers.append((np.concatenate(kernels) / np.float32(len(members)), np.mean(biases, axis=0)))
    return layers
