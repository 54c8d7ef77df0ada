"""The record of a backbone source: a library, a set of presets, or a kind of file that backbones come from.

To add a source, write one file with one `BackboneSource` in it and name it in `tfl.backbones.__init__`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import keras
from keras import ops

from tfl.errors import BackboneError
from tfl.specs import FeatureSpec


def pool_maps(activations: keras.KerasTensor, pooling: str) -> keras.KerasTensor:
    """Pool feature maps `(n, h, w, c)` over height and width to `(n, c)`.

    Raises:
      BackboneError: the activations are not feature maps.
    """
    if len(activations.shape) != 4:
        raise BackboneError(f"its shape is {activations.shape}; expected (n, h, w, channels)")
    pool = {"avg": ops.mean, "max": ops.max}[pooling]
    return pool(activations, axis=(1, 2))  # (n, c)


@dataclass(frozen=True)
class Pretrained:
    """A network without its classifier, with its weights in place, as a source returns it.

    Attributes:
      network: preprocessed images to activations.
      preprocess: float32 pixels in 0..255, `(n, size, size, 3)`, to the input of `network`. It is
        called on a symbolic tensor while the model is built.
      layers: the activations that `FeatureSpec.layers` can name, `last` among them, by name.
      pool: activations and the name of a pooling to `(n, c)`; given float32 activations. A source
        whose activations are tokens has its own.
      digest: of the network's tensors, see `digest_weights`, if the source had to make it; else empty.
    """

    network: keras.Model
    preprocess: Callable[[keras.KerasTensor], keras.KerasTensor]
    layers: Mapping[str, keras.KerasTensor]
    pool: Callable[[keras.KerasTensor, str], keras.KerasTensor] = pool_maps
    digest: str = ""


@dataclass(frozen=True)
class BackboneSource:
    """Everything that varies by where a backbone comes from.

    Attributes:
      name: as messages call it.
      prefix: in front of a backbone's name it says which source is meant, `keras:resnet50`.
      list_names: the names that the source knows, in lower case.
      load: a name and the spec that was typed, to the network with the weights that
        `spec.weights` says. It is called with `spec.compute_dtype` as Keras' dtype policy.
      has_bare_names: whether its names are understood without the prefix. They are then stored
        without it, in caches and their file names; else with it.
      weight_words: the values of `FeatureSpec.weights` that are no path of a file. `tfl fetch`
        gets the first.
      resolve_name: the spelling that is stored of a name as it was typed, or None if the source
        does not know it. By default the names of `list_names` are understood in any case.
      packages: distributions whose versions, with the resolved FeatureSpec, decide the network.
        Empty if other code decides too: then no compiled network is kept for the next process.
    """

    name: str
    prefix: str
    list_names: Callable[[], Sequence[str]]
    load: Callable[[str, FeatureSpec], Pretrained]
    has_bare_names: bool = False
    weight_words: tuple[str, ...] = ("imagenet", "random")
    resolve_name: Callable[[str], str | None] | None = None
    packages: tuple[str, ...] = ()

    def find_name(self, typed: str) -> str | None:
        """Return the name that was typed, without a prefix, as the source spells it; or None."""
        if self.resolve_name is not None:
            return self.resolve_name(typed)
        return typed.lower() if typed.lower() in self.list_names() else None

    def stored_name(self, name: str) -> str:
        """Return the name as specs store it."""
        return name if self.has_bare_names else self.prefix + name
