"""A trained head that can be pickled: the tensors are inside, as in a run's `head.keras`."""

from functools import cached_property
from typing import Any

import keras
import numpy as np

from tfl.files.scratch import scratch_folder
from tfl.heads.loading import load_head
from tfl.heads.model import compute_logits

NAME = "head.keras"


class FittedHead:
    """A head, features `(n, d)` to logits `(n, c)`; after unpickling it is built when it is first used."""

    _file: bytes = b""

    def __init__(self, model: keras.Model) -> None:
        self.model = model

    @cached_property
    def model(self) -> keras.Model:
        """The head as a Keras model.

        Raises:
          RunError: the pickled file is damaged.
        """
        with scratch_folder() as scratch:
            path = scratch / NAME
            path.write_bytes(self._file)
            return load_head(path)

    def compute_logits(self, features: np.ndarray) -> np.ndarray:
        """Return logits `(n, c)` of features `(n, d)`."""
        return compute_logits(self.model, features)

    def __getstate__(self) -> dict[str, Any]:
        return {"file": self._file or _save(self.model)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._file = state["file"]


def _save(head: keras.Model) -> bytes:
    with scratch_folder() as scratch:
        path = scratch / NAME
        head.save(path)
        return path.read_bytes()
