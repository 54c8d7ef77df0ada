"""What a command imports before it begins, and what that leaves behind in its process."""

import contextlib
import gc
import importlib.util
import os
import subprocess
import sys

import pytest

from tfl.machine import packages

PROGRAM = """
import gc, sys
from tfl.cli.startup import start_keras
start_keras()
print("tensorflow" in sys.modules, "jax" in sys.modules, gc.isenabled(), gc.get_freeze_count() > 0)
import jax
print(jax.numpy.ones(2).sum())
"""


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs JAX")
def test_tensorflow_imports_no_jax_which_can_be_imported_later():
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines() == ["True False True True", "2.0"]


@pytest.mark.parametrize("is_enabled", [True, False])
def test_the_garbage_collector_is_put_back(is_enabled):
    was_enabled = gc.isenabled()
    try:
        gc.enable() if is_enabled else gc.disable()
        with contextlib.suppress(ImportError), packages.import_without_collecting():
            assert not gc.isenabled()
            raise ImportError
        assert gc.isenabled() == is_enabled
    finally:
        gc.unfreeze()
        gc.enable() if was_enabled else gc.disable()
