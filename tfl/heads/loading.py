"""Read a head from a `.keras` file that may be a stranger's, without Keras' loader."""

import itertools
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfl.backbones.weights import stored_member
from tfl.errors import RunError
from tfl.files import hdf5, trust
from tfl.files.scratch import scratch_folder
from tfl.heads.model import Neighbours, build_empty_dense, build_empty_neighbours, require_finite
from tfl.machine.keras_settings import pin_keras_settings

MAX_CONFIG_BYTES = 1 << 20


@pin_keras_settings()
def load_head(path: Path) -> keras.Model:
    """Return the head in a `.keras` file, features `(n, d)` to logits `(n, c)`.

    Keras' own loader builds whatever a file names. Here the file decides widths and values only:
    `tfl.heads.model` builds the head, and only the tensors are read, from HDF5 that was checked
    first.

    Raises:
      RunError: it is no such file, or has layers that no recipe makes.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive, scratch_folder() as scratch:
            stamp = trust.FileState.from_stat(os.fstat(file.fileno()))
            config = json.loads(stored_member(archive, "config.json", MAX_CONFIG_BYTES))
            weights = scratch / "model.weights.h5"
            weights.write_bytes(stored_member(archive, weights.name, stamp.num_bytes))
            if not trust.is_trusted_state(stamp):
                hdf5.require_harmless(weights, RunError)
            max_values = weights.stat().st_size // np.dtype(np.float32).itemsize
            head = _build_from_config(config["config"]["layers"], max_values)
            with hdf5.without_locks():
                head.load_weights(weights)
            require_finite(head, "it holds no numbers", "its training diverged")
    except MemoryError:
        raise
    except Exception as error:  # of damaged files zipfile, json and Keras raise a dozen kinds of exception
        raise RunError(f"{path} cannot be loaded: {error}; train again") from error
    trust.mark_examined(path, stamp)
    return head


def _build_from_config(layers: Any, max_values: int) -> keras.Model:
    """Build an empty head of these layers; refuse one with more values than the file holds."""
    names = [str(layer["class_name"]) for layer in layers]
    shape = layers[0]["config"].get("batch_shape") if layers else None
    num_features = shape[1] if isinstance(shape, list) and len(shape) == 2 else 0
    if names[:1] != ["InputLayer"] or not _is_size(num_features):
        raise RunError(f"its layers are {', '.join(names)[:80]} on {shape}; expected features (n, d)")
    configs = [layer["config"] for layer in layers[1:]]
    if names[1:] == ["Neighbours"]:
        return _build_neighbours(num_features, configs[0], max_values)
    if not configs or set(names[1:]) != {"Dense"}:
        raise RunError(f"its layers are {', '.join(names)[:80]}; expected Dense layers, or Neighbours")
    return _build_dense(num_features, configs, max_values)


def _build_dense(num_features: int, configs: list[Any], max_values: int) -> keras.Model:
    widths = [num_features, *(config["units"] for config in configs)]
    activations = [config["activation"] for config in configs]
    expected = ["relu"] * (len(configs) - 1) + ["linear"]
    if activations != expected or not all(map(_is_size, widths)):
        raise RunError(f"its Dense layers are of widths {widths}, {activations}; expected relu, and logits at the end")
    needed = sum((before + 1) * after for before, after in itertools.pairwise(widths))
    if needed > max_values:
        raise RunError(f"Dense layers of widths {widths} do not fit into it")
    return build_empty_dense(widths)


def _build_neighbours(num_features: int, config: Any, max_values: int) -> keras.Model:
    num_rows, num_classes, num_neighbours = (config[name] for name in ("num_rows", "num_classes", "neighbours"))
    temperature, divisor = config["temperature"], config["divisor"]
    has_sizes = all(map(_is_size, (num_rows, num_classes, num_neighbours))) and num_neighbours <= num_rows
    has_divisors = all(type(value) is float and value > 0 for value in (temperature, divisor))
    if not (has_sizes and has_divisors):
        raise RunError(
            f"its memory has {num_rows} rows, {num_neighbours} neighbours, temperature {temperature} and divisor "
            f"{divisor}"
        )
    if num_rows * (num_features + num_classes) > max_values:
        raise RunError(f"a memory of {num_rows} x {num_features} does not fit into it")
    layer = Neighbours(num_rows, num_classes, num_neighbours, temperature, divisor, name="logits")
    return build_empty_neighbours(num_features, layer)


def _is_size(value: Any) -> bool:
    return type(value) is int and value > 0
