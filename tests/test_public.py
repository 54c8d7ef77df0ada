"""The public face: `import tfl`, lazy and complete."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tfl

FRAMEWORKS = {"tensorflow", "keras", "jax", "torch", "h5py", "matplotlib", "numpy", "scipy"}


def imports_for_type_checkers():
    """Return the names imported under `TYPE_CHECKING`, by module."""
    tree = ast.parse(Path(tfl.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    return {statement.module: tuple(name.name for name in statement.names) for statement in block.body}


def test_names_for_type_checkers_and_for_python_are_the_same():
    assert imports_for_type_checkers() == tfl._MODULES
    assert sorted(tfl._MODULE_OF) == sorted(tfl.__all__)
    assert set(tfl.__all__) <= set(dir(tfl))


@pytest.mark.parametrize("name", tfl.__all__)
def test_every_public_name_is_there_and_documented(name):
    assert getattr(tfl, name).__doc__


def test_a_name_that_is_not_public():
    with pytest.raises(AttributeError, match="module 'tfl' has no attribute 'precomputed'"):
        tfl.precomputed  # noqa: B018


def test_importing_tfl_imports_nothing_else():
    program = "import sys, tfl; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & FRAMEWORKS


def test_the_package_is_typed():
    assert Path(tfl.__file__).with_name("py.typed").exists()
