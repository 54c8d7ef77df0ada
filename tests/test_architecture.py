"""Import direction, one home for each library, and no framework before a command needs it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tfl"
# A module imports only modules above it.
ROOMS = (
    "errors",
    "text",
    "scratch",
    "extras",
    "spec",
    "strict",
    "recipes",
    "records",
    "words",
    "turns",
    "assets",
    "trust",
    "hdf5",
    "memory",
    "batches",
    "datasets",
    "archives",
    "served",
    "manifest",
    "predict",
    "resampling",
    "backbone",
    "folding",
    "engine",
    "cache",
    "examine",
    "precompute",
    "metrics",
    "head",
    "scores",
    "report",
    "run",
    "shots",
    "export",
    "reference",
    "compare",
    "fetch",
    "quickstart",
    "cli",
)
HOMES = {
    "tensorflow_datasets": {"datasets"},
    "h5py": {"cache", "hdf5"},
    "matplotlib": {"report"},
    "subprocess": {"assets", "export", "trust", "turns"},
    "tensorflow": {"engine", "export", "report", "served"},
    "jax": {"engine"},
    "torch": {"engine", "export", "reference", "served"},
    "torchvision": {"reference"},
    "PIL": {"assets", "datasets"},
    "pillow_heif": {"datasets"},
    "tyro": {"spec", "cli"},
    "scipy": {"head", "metrics"},
    "threadpoolctl": {"head"},
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def test_every_module_has_a_room():
    assert {room_of(path) for path in MODULES} == set(ROOMS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_upwards(path):
    room = room_of(path)
    above = {*ROOMS[: ROOMS.index(room)], room, "__version__"}
    used = {name.split(".")[1] for name in imports(path) if name.startswith("tfl.")}
    assert used <= above, f"{room} imports {used - above}"


@pytest.mark.parametrize("library", HOMES)
def test_each_library_has_its_home(library):
    users = {room_of(p) for p in MODULES if any(n.split(".")[0] == library for n in imports(p))}
    assert users == HOMES[library]


def imported_by(program: str) -> set[str]:
    program += "\nimport sys; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


FRAMEWORKS = {"tensorflow", "keras", "jax", "torch", "h5py", "matplotlib", "tensorflow_datasets"}


def test_the_command_line_imports_no_framework():
    assert not imported_by("import tfl.cli") & FRAMEWORKS


def test_the_check_above_can_fail():
    assert "h5py" in imported_by("import tfl.cli, h5py")
