"""Refuse what a format cannot carry, before anything is built; the facts are those of the format's record."""

import keras

from tfl.artefacts.formats import FORMATS, Format
from tfl.errors import ExportError
from tfl.specs import FeatureSpec


def require_possible(kind: Format, spec: FeatureSpec, head: keras.Model) -> None:
    """Refuse a model that a format cannot carry.

    Raises:
      ExportError: what was asked for, and what the format can do.
    """
    _require_backend(kind)
    _require_layers_of_keras(kind, head)
    _require_resize_mode(kind, spec)


def _require_backend(kind: Format) -> None:
    backend = keras.backend.backend()
    if kind.is_traced_by_tensorflow and backend != "tensorflow":
        raise ExportError(f"the format {kind.name} needs KERAS_BACKEND=tensorflow, got {backend}")


def _require_layers_of_keras(kind: Format, head: keras.Model) -> None:
    """Refuse a head with a layer of tfl's own, such as that of knn, unless the format carries any TensorFlow graph."""
    own = [type(layer).__name__ for layer in head.layers if not type(layer).__module__.startswith("keras.")]
    if own and not kind.is_traced_by_tensorflow:
        able = [name for name, each in FORMATS.items() if each.is_traced_by_tensorflow]
        raise ExportError(
            f"the head has a layer of tfl's own, {own[0]}, which the format {kind.name} cannot carry; "
            f"choose one of {', '.join(able)}"
        )


def _require_resize_mode(kind: Format, spec: FeatureSpec) -> None:
    if spec.resize_mode not in kind.resize_modes:
        modes = " and ".join(kind.resize_modes)
        raise ExportError(
            f"{kind.why_resize_modes}: the format {kind.name} is for resize_mode {modes}, got {spec.resize_mode}"
        )
