"""Keras and its backend imported quietly, or refused in one line."""

import contextlib
import importlib
import importlib.util
import json
import logging
import os
from pathlib import Path
from typing import Any

from tfl.cli.streams import hold_stderr
from tfl.errors import ExtraError, TflError
from tfl.machine import packages
from tfl.text import to_one_line

BACKENDS = ("tensorflow", "jax", "torch")  # of Keras; the first is its own default
MAX_REASON = 500  # characters


def start_keras() -> None:
    """Import Keras and let its backend start.

    TensorFlow too, where it is installed: Keras imports it later on any backend, and TensorFlow would write its
    start-up lines then.

    Raises:
      TflError: the backend is unknown, not installed or broken.
    """
    _require_backend()
    with hold_stderr(), packages.import_without_collecting():
        # Keras and TensorFlow would import them for what tfl does not use, in 2 s.
        with packages.hide_packages("matplotlib", "sklearn", *_list_unused_backends()):
            keras = _import_keras()
        keras.ops.zeros(1)
        with contextlib.suppress(ImportError):
            importlib.import_module("tensorflow")
        for name in ("absl", "tensorflow"):
            logging.getLogger(name).setLevel(logging.ERROR)


def _require_backend() -> None:
    """Refuse a Keras backend that tfl does not know or that is not installed, before Keras is imported."""
    where, backend = _read_backend()
    if backend not in BACKENDS:
        raise TflError(f"{where} names the backend {backend!r}; expected one of {', '.join(BACKENDS)}")
    if importlib.util.find_spec(backend) is None:
        installed = [name for name in BACKENDS if importlib.util.find_spec(name) is not None]
        raise ExtraError(
            f"{where} names the backend {backend!r}, and the package {backend} is not installed; install it, or set "
            f"KERAS_BACKEND to one that is: {', '.join(installed) or 'none'}"
        )


def _read_backend() -> tuple[str, str]:
    """Return where Keras' backend is named, and its name: the environment, else `keras.json`, else TensorFlow."""
    if backend := os.environ.get("KERAS_BACKEND", ""):
        return "KERAS_BACKEND", backend
    path = Path(os.environ.get("KERAS_HOME", "~/.keras"), "keras.json")
    try:
        path = path.expanduser()
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, RuntimeError):  # the last: there is no home
        settings = {}
    backend = settings.get("backend", BACKENDS[0]) if isinstance(settings, dict) else BACKENDS[0]
    return str(path), str(backend)


def _list_unused_backends() -> list[str]:
    """Return JAX where Keras runs on TensorFlow, which (2.21) imports it for LiteRT's conversion of JAX functions."""
    return ["jax"] if _read_backend()[1] == "tensorflow" else []


def _import_keras() -> Any:
    """Import Keras, or say in one line why it cannot be imported."""
    try:
        return importlib.import_module("keras")
    except Exception as error:
        reason = to_one_line(error, MAX_REASON)
        where, backend = _read_backend()
        raise ExtraError(
            f"Keras cannot be imported with the backend {backend} ({where}): {reason}; repair the package, or change "
            "the setting"
        ) from error
