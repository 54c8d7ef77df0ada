"""A function that builds a network by the conventions of keras.applications."""

import contextlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from tfl.errors import AssetError, BackboneError
from tfl.files import hdf5, user_folders
from tfl.text import to_one_line

Function = Callable[..., keras.Model]
"""Such as `keras.applications.ResNet50`; `preprocess_input` stands beside it in its module."""


@dataclass(frozen=True)
class Architecture:
    """A function that builds a network, and the size of the images that the network is built for."""

    name: str
    function: Function
    image_size: int

    @property
    def module(self) -> Any:
        """The function's own module."""
        return sys.modules[self.function.__module__]

    @property
    def preprocess(self) -> Callable[[Any], Any]:
        """The `preprocess_input` in the function's own module, never another's."""
        return self.module.preprocess_input  # type: ignore[no-any-return]

    def build(self, weights: str | None = None) -> keras.Model:
        """Build the network without its top, as Keras builds it for these weights.

        Raises:
          BackboneError: the network does not take the image size.
        """
        shape = (self.image_size, self.image_size, 3)
        try:
            # Keras writes the progress of a download to stdout, where results belong.
            with contextlib.redirect_stdout(sys.stderr), hdf5.without_locks():
                return self.function(include_top=False, weights=weights, input_shape=shape)
        except ValueError as error:
            raise BackboneError(
                f"{self.name} cannot be built for image_size {self.image_size}: {to_one_line(error)}"
            ) from error

    def build_official(self) -> keras.Model:
        """Build the network as Keras itself does, with the ImageNet weights.

        Raises:
          AssetError: Keras could not get the weights.
        """
        try:
            return self.build("imagenet")
        except BackboneError:
            raise
        except Exception as error:
            raise AssetError(
                f"Keras could not get the ImageNet weights of {self.name}: {to_one_line(error)}",
                "By hand: download the file named above where the network reaches it, "
                f"and put it into {keras_models_folder()}",
            ) from error


def keras_models_folder() -> Path:
    """Return the folder where Keras keeps the weights that it downloads, as Keras 3.15.1 chooses it."""
    home = user_folders.expand_home("~")
    default = "~/.keras" if os.access(home, os.W_OK) else "/tmp/.keras"
    folder = user_folders.expand_home(os.environ.get("KERAS_HOME", default))
    return (folder if os.access(folder, os.W_OK) else Path("/tmp/.keras")) / "models"
