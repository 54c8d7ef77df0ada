"""Import direction, one home for each library, and no framework before a command needs it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tfl"
# A module imports only modules above it.
ROOMS = (
    "text",
    "errors",
    "machine",
    "files",
    "specs",
    "datasets",
    "backbones",
    "engine",
    "cache",
    "extraction",
    "metrics",
    "heads",
    "runs",
    "exchange",
    "artefacts",
    "auditing",
    "comparison",
    "sklearn",
    "reports",
    "cli",
)
HOMES = {
    "tensorflow_datasets": {"datasets"},
    "h5py": {"cache", "files"},
    "matplotlib": {"comparison", "runs"},
    "subprocess": {"files", "machine"},
    "tensorflow": {"engine", "artefacts", "runs"},
    "jax": {"engine"},
    "torch": {"engine", "artefacts", "comparison"},
    "torchvision": {"comparison"},
    "PIL": {"files", "datasets"},
    "pillow_heif": {"datasets"},
    "tyro": {"specs", "cli"},
    "scipy": {"heads", "metrics"},
    "sklearn": {"sklearn"},
    "threadpoolctl": {"heads"},
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
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


def calls(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]


def lacks_encoding(call: ast.Call) -> bool:
    """Whether a call opens a file or a pipe for text, and leaves to the locale what its bytes mean."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    owner = ast.unparse(call.func).removesuffix(f".{name}").rpartition(".")[2]
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    if (
        "encoding" in keywords
        or (owner, name) == ("os", "open")
        or owner in ("tarfile", "Image", "h5a", "archive", "_zip")
    ):
        return False
    if name in ("open", "fdopen"):
        values = [value.value for value in [*call.args, *keywords.values()] if isinstance(value, ast.Constant)]
        return not any("b" in value for value in values if isinstance(value, str))
    return name in ("read_text", "write_text") or bool({"text", "universal_newlines"} & set(keywords))


SOURCES = [*MODULES, *(PACKAGE.parent / "scripts").glob("*.py")]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_text_files_are_utf_8(path):
    assert [ast.unparse(call) for call in calls(path) if lacks_encoding(call)] == []


@pytest.mark.parametrize(
    ("source", "lacks"),
    [
        ("path.read_text()", True),
        ("path.write_text(text)", True),
        ("path.open()", True),
        ("path.open('w')", True),
        ("open(path)", True),
        ("os.fdopen(1, 'w')", True),
        ("subprocess.run(command, text=True)", True),
        ("path.open('rb')", False),
        ("path.open(encoding='utf-8')", False),
        ("os.open(path, os.O_RDONLY)", False),
    ],
)
def test_the_check_of_encodings(source, lacks):
    (call,) = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    assert lacks_encoding(call) == lacks


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_errors_are_given_line_by_line(path):
    """`raise CacheError("it is damaged:", *lines)`: a newline inside a line would be escaped, as those of names are."""
    raised = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Raise)]
    texts = [node.value for each in raised for node in ast.walk(each) if isinstance(node, ast.Constant)]
    assert not [text for text in texts if isinstance(text, str) and "\n" in text]


def test_only_the_terminal_prints():
    users = {room_of(path) for path in MODULES for call in calls(path) if getattr(call.func, "id", "") == "print"}
    assert users <= {"comparison"}, "programs of their own, whose output is read by tfl"


FRAMEWORKS = {
    *("tensorflow", "keras", "jax", "torch", "h5py", "matplotlib", "tensorflow_datasets"),
    *("openvino", "nncf", "datasets"),
}


def test_the_command_line_imports_no_framework():
    assert not imported_by("import tfl.cli.main") & FRAMEWORKS


def test_the_recipes_import_no_framework_and_no_numerics():
    assert not imported_by("import tfl.heads") & {*FRAMEWORKS, "numpy", "scipy"}


def test_the_estimators_import_no_framework():
    assert not imported_by("import tfl.sklearn") & FRAMEWORKS


def test_the_check_above_can_fail():
    assert "h5py" in imported_by("import tfl.cli.main, h5py")
