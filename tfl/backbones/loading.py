"""The tensors of a weights file put into a network."""

import re
import warnings
from collections.abc import Sequence

import keras
import numpy as np

from tfl.backbones.mismatch import explain_mismatch
from tfl.backbones.weights import WeightsFile, legacy_root
from tfl.errors import BackboneError
from tfl.files import hdf5
from tfl.text import to_one_line


def load_weights(file: WeightsFile, network: keras.Model) -> None:
    """Put the tensors into a network that has the layers of the file.

    Raises:
      BackboneError: the file holds another network's; the layers that it has, and those expected.
    """
    try:
        if file.is_legacy:
            _load_legacy(file, network)
            return
        with hdf5.without_locks(), warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # Keras only warns of layers that it leaves at random
            network.load_weights(file.hdf5)
    except MemoryError:
        raise
    except Exception as error:  # of foreign files Keras and h5py raise a dozen kinds of exception
        raise BackboneError(explain_mismatch(file, network, to_one_line(error, 300))) from error


def _load_legacy(file: WeightsFile, network: keras.Model) -> None:
    """Load layers by name if all names agree, else in order, as Keras does; a layer's tensors likewise."""
    in_file = {layer.name: layer for layer in file.layers if layer.shapes}
    in_network = [layer for layer in network.layers if layer.weights]
    if len(in_file) != len(in_network):
        raise ValueError(f"it has {len(in_file)} layers with weights, {len(in_network)} were expected")
    in_order = list(in_file)
    by_name = dict(zip(without_numbers(in_order), in_order, strict=True))
    names = without_numbers([layer.name for layer in in_network])
    has_all_names = set(names) == set(by_name)
    with hdf5.open_unlocked(file.hdf5) as opened:
        group = legacy_root(opened)
        for place, layer in enumerate(in_network):
            name = by_name[names[place]] if has_all_names else in_order[place]
            _assign(layer, {tensor: group[name][tensor][()] for tensor in in_file[name].shapes})


def without_numbers(names: Sequence[str]) -> list[str]:
    """Return names as if nothing had been built before.

    Keras numbers layers without a name of their own through the whole process.
    """
    least: dict[str, int] = {}
    parts = []
    for name in names:
        stem, _, number = re.sub(r"_(\d+)$", r" \1", name).partition(" ")
        parts.append((stem, int(number or 0)))
        least[stem] = min(least.get(stem, parts[-1][1]), parts[-1][1])
    return [f"{stem} {number - least[stem]}" for stem, number in parts]


def _assign(layer: keras.layers.Layer, arrays: dict[str, np.ndarray]) -> None:
    """Give a layer its tensors, by name if all names agree, else in Keras 2's order: trainable ones first."""
    variables = layer.trainable_weights + layer.non_trainable_weights
    by_name = {tensor.split("/")[-1].split(":")[0]: array for tensor, array in arrays.items()}
    names = [variable.path.split("/")[-1] for variable in variables]
    in_order = list(arrays.values())
    if len(variables) != len(in_order):
        raise ValueError(f"layer {layer.name} has {len(variables)} tensors, {len(in_order)} are in the file")
    has_all_names = len(set(names)) == len(names) and set(names) == set(by_name)
    for place, variable in enumerate(variables):
        array = by_name[names[place]] if has_all_names else in_order[place]
        if array.shape != tuple(variable.shape):
            raise ValueError(f"{variable.path} has shape {tuple(variable.shape)}, {array.shape} is in the file")
        variable.assign(array)
    if hasattr(layer, "finalize_state"):
        layer.finalize_state()  # Normalization computes with values that it derives from its weights
