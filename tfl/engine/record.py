"""The record of an engine: one way to run a network's forward pass."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from tfl.engine.kept_models import Facts
from tfl.specs.features import FLOAT_DTYPES

Shape = tuple[int | None, ...]
Compiled = Callable[[Any], Any]
"""A batch to the model's output; tensors stay where the Keras backend computes."""


def keep_network(network: keras.Model, compute_dtype: str) -> keras.Model:
    """Return the network as it is."""
    return network


def find_no_obstacle(compute_dtype: str) -> str:
    """Return the obstacle of a Keras backend that Keras has started: none."""
    return ""


@dataclass(frozen=True)
class Engine:
    """Everything that varies by engine.

    Attributes:
      name: as caches keep it, and as `--engine` calls it.
      compile: a model, the shape of its batches and a compute dtype to its compiled forward pass.
      prepare: a network and its compute dtype to the network that the engine is given.
      find_obstacle: a compute dtype to the reason why the engine cannot serve here; empty if it can.
      compile_kept: as `compile` after `prepare`, but given what makes the network, and the facts under
        which the compiled one is kept for the next process; None if the engine keeps none.
      is_backend: it is the Keras backend of the same name, which `--engine keras` means.
      is_preferred: `--engine auto` takes it where it can serve.
      packages: distributions whose versions count, beside those of the Keras backend.
      dtypes: compute dtypes that it can run at all.
    """

    name: str
    compile: Callable[[keras.Model, Shape, str], Compiled]
    prepare: Callable[[keras.Model, str], keras.Model] = keep_network
    find_obstacle: Callable[[str], str] = find_no_obstacle
    compile_kept: Callable[[Callable[[], keras.Model], Shape, str, Facts], Compiled] | None = None
    is_backend: bool = False
    is_preferred: bool = False
    packages: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = FLOAT_DTYPES
