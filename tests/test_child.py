"""Child processes, each a small program of its own."""

import os

import pytest

from tfl.machine.child import MAX_STDERR_BYTES, run_child, start_child

ECHO = """
import sys
for line in sys.stdin:
    print(line.strip().upper(), flush=True)
print("the end of é", file=sys.stderr)
raise SystemExit(3)
"""


@pytest.fixture
def echo(tmp_path):
    path = tmp_path / "echo.py"
    path.write_text(ECHO, encoding="utf-8")
    return path


def test_a_child_answers_and_ends(echo):
    with start_child(echo) as child:
        child.stdin.write(b"a\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"A\n"
        assert child.wait() == 3
        assert child.read_stderr() == ["the end of é"]


def test_a_child_is_killed_where_its_parent_fails(echo):
    with pytest.raises(KeyError), start_child(echo) as child:
        raise KeyError
    assert child._process.returncode == -9


def test_a_finished_child_tells_all(echo):
    done = run_child(echo)
    assert (done.exit_code, done.stdout, done.stderr) == (3, "", ["the end of é"])


def test_a_module_finds_tfl_from_any_folder_and_python_finds_no_other(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit('the working folder was imported from')", encoding="utf-8")
    (tmp_path / "added").mkdir()
    program = "import json, os, tfl; print(os.environ['COLOUR'], tfl.__name__)"
    (tmp_path / "added" / "a_module.py").write_text(program, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.fspath(tmp_path / "added"))
    done = run_child("a_module", environment={"COLOUR": "red"})
    assert (done.exit_code, done.stdout.split(), done.stderr) == (0, ["red", "tfl"], [])


def test_only_the_end_of_a_long_message_is_shown(tmp_path):
    path = tmp_path / "long.py"
    path.write_text("import sys; sys.stderr.write('x' * 1_000_000 + 'last')", encoding="utf-8")
    (line,) = run_child(path).stderr
    assert line.endswith("xlast")
    assert len(line) == MAX_STDERR_BYTES


def test_a_child_that_takes_too_long_is_killed(tmp_path):
    path = tmp_path / "slow.py"
    path.write_text("import time; time.sleep(600)", encoding="utf-8")
    with pytest.raises(TimeoutError, match=r"had not ended after 0\.2 s"):
        run_child(path, seconds=0.2)
