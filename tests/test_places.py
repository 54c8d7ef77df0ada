"""Users without a home folder, and home folders that cannot be written to."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import write_npz

from tfl.files import trust, user_folders

NOBODY = 12345  # a user id without an entry in /etc/passwd
VARIABLES = ("TFL_HOME", "XDG_CACHE_HOME", "HOME")


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files, with nothing in it; and nothing has been said yet."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tfl.files.user_folders.temporary_folder", lambda: folder)
    user_folders._warn_once.cache_clear()
    return folder


@pytest.fixture
def no_home(monkeypatch):
    """As in a container that was started with `--user 12345`."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: (_ for _ in ()).throw(KeyError(uid)))


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"TFL_HOME": "/a/b"}, "/a/b"),
        ({"TFL_HOME": "~/t", "HOME": "/h"}, "/h/t"),
        ({"TFL_HOME": "~nosuchuser/t", "HOME": "/h"}, "/h/.cache/tfl"),
        ({"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/tfl"),
        ({"XDG_CACHE_HOME": "~nosuchuser/x", "HOME": "/h"}, "/h/.cache/tfl"),
        ({"HOME": "/"}, "/.cache/tfl"),
        ({"HOME": ""}, "/.cache/tfl"),
    ],
)
def test_home(no_home, monkeypatch, variables, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert user_folders.home_folder() == Path(expected)


def test_without_a_home_folder_a_private_one_is_used_and_said_once(no_home, temporary, caplog):
    folder = temporary / f"tfl-{os.geteuid()}"
    assert user_folders.home_folder() == user_folders.home_folder() == folder / ".cache" / "tfl"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert caplog.text.count(f"has no home folder: {folder} is used instead; set TFL_HOME to choose another") == 1


def test_libraries_get_that_home_too(no_home, temporary, monkeypatch):
    monkeypatch.setenv("TFL_PROVIDED_HOME", "")  # so that both are put back
    monkeypatch.setenv("HOME", "")
    monkeypatch.delenv("HOME")
    user_folders.provide_home()
    assert os.environ["HOME"] == str(temporary / f"tfl-{os.geteuid()}")
    assert user_folders.home_folder() == temporary / f"tfl-{os.geteuid()}" / ".cache" / "tfl"


@pytest.mark.parametrize("kind", ["link", "file", "open to others", "of another user"])
def test_what_others_put_in_its_place_is_not_used(temporary, kind, tmp_path, monkeypatch):
    folder = temporary / f"tfl-{os.geteuid()}"
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    if kind == "link":
        folder.symlink_to(tmp_path / "elsewhere")
    elif kind == "file":
        folder.touch()
    else:
        folder.mkdir(mode=0o700)
        if kind == "open to others":
            folder.chmod(0o777)
        elif os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        else:
            pytest.skip("only root can give a folder away")
    assert user_folders.find_temporary_home() is None
    expected = folder.with_name(f"{folder.name}-1")
    assert user_folders.make_temporary_home() == user_folders.find_temporary_home() == expected
    assert user_folders.make_temporary_home() == expected
    assert not list((tmp_path / "elsewhere").iterdir())


def test_no_folder_at_all_raises_nothing(no_home, temporary):
    shutil.rmtree(temporary)
    temporary.touch()
    assert str(user_folders.home_folder()).startswith(str(temporary))
    user_folders.writable_folder("jax")


def cannot_be_written(monkeypatch, folder):
    """Let every file in a folder be refused, as on a full or read-only disk; root may write anywhere."""
    write_bytes = Path.write_bytes

    def refuse(path, content):
        if path.is_relative_to(folder):
            raise OSError(28, "No space left on device", str(path))
        return write_bytes(path, content)

    monkeypatch.setattr(Path, "write_bytes", refuse)


def test_a_home_that_is_full_is_replaced_and_that_is_said_once(tmp_path, temporary, monkeypatch, caplog):
    monkeypatch.setenv("TFL_HOME", str(tmp_path / "home"))
    assert user_folders.writable_folder("jax") == tmp_path / "home" / "jax"
    assert not list((tmp_path / "home" / "jax").iterdir())
    cannot_be_written(monkeypatch, tmp_path / "home")
    instead = temporary / f"tfl-{os.geteuid()}" / "jax"
    assert user_folders.writable_folder("jax") == user_folders.writable_folder("jax") == instead
    assert instead.is_dir()
    assert caplog.text.count(f"cannot be written to (No space left on device): {instead} is used instead") == 1


def test_ones_own_files_are_known_though_no_note_can_be_made_at_home(tmp_path, temporary, monkeypatch, caplog):
    monkeypatch.setattr(trust, "_notes_folder", lambda: tmp_path / "home" / "known")
    cannot_be_written(monkeypatch, tmp_path / "home")
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
        trust.mark_own(tmp_path / name)
        assert trust.is_own(tmp_path / name)
    assert caplog.text.count("is used instead") == 1
    (tmp_path / "b").write_text("c")
    assert not trust.is_trusted(tmp_path / "b")


def test_a_user_that_does_not_exist_is_no_home(monkeypatch):
    monkeypatch.setenv("HOME", "/h")
    assert user_folders.expand_home("~/a") == Path("/h/a")
    assert user_folders.expand_home("~nosuchuser/a") == Path("~nosuchuser/a")
    assert user_folders.has_home("a~b")
    assert not user_folders.has_home("~nosuchuser/a")


WHOLE_WAY = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tfl.files import user_folders, trust
user_folders.provide_home()  # as the command line does before it imports a framework
import tiny
from tfl import backbones
backbones.register(tiny.SOURCE)
from tfl.cli.main import main

def tfl(*arguments):
    code = main(arguments)
    assert code == 0, (arguments, code)

tfl("precompute", "--dataset", "c.npz", "--backbone", "tiny", "--weights", "random", "--image-size", "12")
cache = next(Path("cache").glob("*.h5"))
assert trust.is_own(cache)
tfl("train", str(cache), "--recipe", "ridge", "--name", "r")
tfl("evaluate", "runs/r")
tfl("export", "runs/r", "--out", "out", "--format", "keras")
tfl("caches")
assert not Path("~").exists()
"""


@pytest.mark.parametrize("home", [None, "/"])
def test_the_whole_way_of_a_user_without_a_name(tmp_path, home):
    """As `docker run --user 12345`: without HOME, and with the root folder, which that user cannot write to."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root becomes another user, by setpriv of util-linux")
    write_npz(tmp_path / "c.npz", train=40, test=20)
    for folder in (tmp_path, tmp_path / "tmp"):
        os.chown(folder, NOBODY, NOBODY)
    for folder in tmp_path.parents:
        if folder.stat().st_uid == 0 and "pytest" in folder.name:
            folder.chmod(0o755)
    # A private environment may only be read by root: that one capability the user keeps.
    capability = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
    user = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", *capability]
    kept = ("PATH", "PYTHONPATH", "KERAS_BACKEND", "LD_LIBRARY_PATH")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment |= {"TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(Path(__file__).parents[1])}
    environment |= {} if home is None else {"HOME": home}
    command = [*user, sys.executable, "-B", "-c", WHOLE_WAY, str(Path(__file__).parent)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    if "setpriv: " in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"{tmp_path / 'tmp'}/tfl-{NOBODY}" in done.stderr
    assert "is used instead" in done.stderr
    assert "Traceback" not in done.stderr
