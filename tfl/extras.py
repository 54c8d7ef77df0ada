"""Packages that one option needs and others do not: extras of the distribution."""

import importlib
from typing import Any

from tfl.errors import ExtraError


def required(module: str, extra: str) -> Any:
    """An optional package's module, imported now.

    Raises:
      ExtraError: it cannot be imported; which extra brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise missing(error, extra) from error


def missing(error: ImportError, extra: str) -> ExtraError:
    """What to say where an extra's package could not be imported."""
    return ExtraError(f"{extra} needs a package that cannot be imported ({error}): pip install '.[{extra}]'")
