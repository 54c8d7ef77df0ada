"""Packages that one option needs and others do not: extras of the distribution; and packages that nobody needs."""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from typing import Any

from tfl.errors import ExtraError

WITHOUT_EXTRA = {"saved-model": "TensorFlow", "keras": "Keras and the backend of KERAS_BACKEND"}


def require_package(module: str, extra: str) -> Any:
    """An optional package's module, imported now.

    Raises:
      ExtraError: it cannot be imported; which extra brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise missing_package_error(error, extra) from error


@contextlib.contextmanager
def hide_packages(*packages: str) -> Iterator[None]:
    """Inside, packages that nothing has imported so far cannot be imported."""
    names = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(names))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


def missing_package_error(error: ImportError, extra: str) -> ExtraError:
    """What to say where a package of an extra, or of a format that needs none, could not be imported."""
    if extra in WITHOUT_EXTRA:
        return ExtraError(f"{extra} needs {WITHOUT_EXTRA[extra]}, which cannot be imported here: {error}")
    return ExtraError(f"{extra} needs a package that cannot be imported ({error}): pip install '.[{extra}]'")
