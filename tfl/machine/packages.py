"""Optional packages: extras of the distribution that one option needs, and packages to keep from being imported."""

import contextlib
import gc
import importlib
import sys
from collections.abc import Iterator
from typing import Any

from tfl.errors import ExtraError


def require_package(module: str, extra: str) -> Any:
    """Import and return an optional package's module.

    Raises:
      ExtraError: it cannot be imported; the extra that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise missing_package_error(error, extra) from error


@contextlib.contextmanager
def hide_packages(*packages: str) -> Iterator[None]:
    """Let packages that were not imported before be missing inside.

    For libraries that import what tfl does not use: Keras (3.15) spends 2 s on matplotlib and sklearn, and
    OpenVINO (2026.4.1) reports its import through `openvino_telemetry`. Puts None into `sys.modules`, and
    takes it out again.
    """
    names = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(names))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


@contextlib.contextmanager
def import_without_collecting() -> Iterator[None]:
    """Let imports inside run without the garbage collector, and let it never look at what they made.

    For TensorFlow (2.21): its import makes a million objects that live as long as the process. The collector
    looks through them again and again, for a fifth of the import's time, and afterwards in every full
    collection. Changes the process's `gc`; it can go when Python's own collector no longer does so.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


def missing_package_error(error: ImportError, extra: str) -> ExtraError:
    """Return the error for a package of an extra that cannot be imported."""
    return ExtraError(f"{extra} needs a package that cannot be imported ({error}): pip install '.[{extra}]'")
