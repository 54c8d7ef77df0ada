"""What reaches a terminal, and commands whose standard streams are closed, full or of another encoding."""

import io
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import write_npz
from hypothesis import given
from hypothesis import strategies as st

from tfl.cli import messages, output
from tfl.errors import CacheError, RunError
from tfl.extraction.precompute import precompute
from tfl.reports.metrics import format_metrics
from tfl.runs.metrics import RoleMetrics
from tfl.specs import DatasetSpec
from tfl.text import display_width, to_printable

ROOT = Path(__file__).parents[1]
MAIN = "import sys; from tfl.cli.main import main; sys.exit(main())"
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
HOSTILE = "\x1b]0;x\x07\x1b[2J\u202e\x9b31m\u2028\r\ttfl: done\nruns/evil"
POSIX = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@given(st.lists(st.text(st.characters())))
def test_each_line_that_is_shown_is_one_line(lines):
    written = io.StringIO()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "stdout", written)
        output.print_lines(*lines)
    assert written.getvalue().splitlines() == [to_printable(line) for line in lines]
    assert not STEERING.search(written.getvalue())


@given(st.text(st.characters()))
def test_no_name_adds_a_line_to_a_message(name):
    error = CacheError(f"{name} cannot be trusted:", f"  {name}")
    assert len(str(error).splitlines()) == 2
    nested = RunError(f"{error}; train again")
    assert len(str(nested).splitlines()) == 1
    assert not STEERING.search(str(error) + str(nested))


def test_lines_of_a_message_stay_lines():
    assert str(CacheError("c.h5 is damaged:", "  train/ids")) == "c.h5 is damaged:\n  train/ids"
    assert str(CacheError()) == ""


def test_log_records_are_safe_and_keep_their_own_lines(capsys):
    record = logging.LogRecord("tfl.x", logging.INFO, "", 0, "", (), None)
    formatter = messages._Formatter("%(message)s")

    def formatted(message, *arguments):
        record.msg, record.args = message, arguments
        return formatter.format(record)

    assert formatted("%s does not serve:\n  %s", Path("a\nb"), HOSTILE).count("\n") == 1
    assert formatted("%d of %g, %s", 3, 0.5, None) == "3 of 0.5, None"
    assert formatted("passed over: %s", CacheError("a", "  b\nc")) == "passed over: a\n  b\\nc"
    assert not STEERING.search(formatted(f"of another library: {HOSTILE}").replace("\n", ""))


def test_a_command_leaves_logging_and_streams_as_they_were(tmp_path, capsys, caplog):
    from tfl.cli.main import main

    (tmp_path / "odd.h5").write_bytes(b"hello")
    kept = sys.stdin, sys.stdout, sys.stderr
    assert main(["caches", "--cache-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().err.startswith("ignored: ")
    assert (sys.stdin, sys.stdout, sys.stderr) == kept
    logger = logging.getLogger("tfl")
    assert (logger.handlers, logger.level, logger.propagate) == ([], logging.NOTSET, True)
    assert logging.lastResort.formatter is None


def test_warnings_are_one_safe_line(capsys):
    import warnings

    with messages.escape_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"layer {HOSTILE}", UserWarning, stacklevel=1)
    written = capsys.readouterr().err
    assert written.startswith("UserWarning: layer \\x1b]0;x\\x07")
    assert written.count("\n") == 1
    assert not STEERING.search(written.rstrip("\n"))


@pytest.mark.parametrize(
    ("name", "width"), [("cat", 3), ("犬", 2), ("e\u0301", 1), ("🐕", 2), ("Hündin", 6), ("한국", 4), ("\uff57", 2)]
)
def test_columns_of_a_terminal(name, width):
    assert display_width(name) == width


def test_columns_of_tables_are_as_wide_as_what_is_shown():
    names = ["\x1b[31mred", "犬", "cat"]
    metrics = RoleMetrics(
        accuracy=0.5,
        accuracy_interval_95=(0.25, 0.75),
        num_rows=4,
        accuracy_per_class=dict.fromkeys(names, 0.5),
        loss=1.0,
        calibration_error=0.5,
    )
    _, *rows, _ = format_metrics(metrics)
    assert rows == ["  \\x1b[31mred   50.00%", "  犬            50.00%", "  cat           50.00%"]
    assert len({display_width(row) for row in rows}) == 1


@pytest.fixture
def cache(tiny_backbone, features, settings, tmp_path):
    return precompute(
        features, DatasetSpec(dataset=str(write_npz(tmp_path / "colours.npz", train=9, test=6))), settings
    )


def start(*arguments, cwd, redirections="", environment=(), program=MAIN):
    """Carry out `tfl` under a shell's redirections, in a process of its own."""
    command = ["sh", "-c", f'exec "$@" {redirections}', "sh", sys.executable, "-c", program, *map(str, arguments)]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **dict(environment)}
    done = subprocess.run(command, cwd=cwd, env=variables, check=False, **pipes)
    done.stderr = re.sub(rb"examining .*\n", b"", done.stderr)  # the cache is another process's
    return done


LOST = rb"tfl: what belongs on standard output is lost: the operating system refused: \[Errno %d\] [\w ]+\n"


@pytest.mark.parametrize(
    ("redirections", "code", "stderr"),
    [
        ("<&-", 0, b""),
        (">&-", 1, LOST % 9),
        ("2>&-", 0, b""),
        ("<&- >&-", 1, LOST % 9),
        ("<&- 2>&-", 0, b""),
        (">&- 2>&-", 1, b""),
        ("<&- >&- 2>&-", 1, b""),
        (">/dev/full", 1, LOST % 28),
        ("2>/dev/full", 0, b""),
        (">/dev/full 2>/dev/full", 1, b""),
    ],
)
def test_closed_and_full_streams(cache, tmp_path, redirections, code, stderr):
    content = cache.read_bytes()
    done = start("inspect", cache, cwd=tmp_path, redirections=redirections)
    assert done.returncode == code, done
    assert re.fullmatch(stderr, done.stderr), done.stderr
    assert (f"{cache}: ".encode() in done.stdout) == (code == 0)
    assert cache.read_bytes() == content


@pytest.mark.parametrize("redirections", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_errors_keep_their_codes_whatever_is_closed(tmp_path, redirections):
    done = start("inspect", "none.h5", cwd=tmp_path, redirections=redirections)
    is_told = "2>" not in redirections
    assert (done.returncode, done.stderr) == (1, b"tfl: there is no cache file none.h5\n" if is_told else b"")
    assert start("nonsense", cwd=tmp_path, redirections=redirections).returncode == 2


@pytest.mark.parametrize("redirections", [">/dev/full", ">&-"])
def test_help_that_cannot_be_written(tmp_path, redirections):
    done = start("--help", cwd=tmp_path, redirections=redirections)
    assert done.returncode == 1
    assert re.fullmatch(LOST % (9 if "&" in redirections else 28), done.stderr)


# A command that opens a file, prints and starts a child, which prints too, as libraries do.
PRINTING = """
import subprocess, sys
from pathlib import Path
from tfl.cli import streams
from tfl.cli.commands.caches import Caches
from tfl.cli.main import main

def run(self) -> None:
    file = Path("file").open("w+b", buffering=0)
    assert file.fileno() > 2
    for stream in (sys.stdout, sys.stderr):
        print("printed", file=stream, flush=True)
    with streams.hold_stderr():
        subprocess.run([sys.executable, "-c", "import os; os.write(1, b'child'); os.write(2, b'child')"], check=True)
    assert sys.stdin.read() == ""
    assert file.seek(0, 2) == 0

Caches.run = run
sys.exit(main())
"""


@pytest.mark.parametrize("redirections", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_no_file_gets_the_number_of_a_closed_stream(tmp_path, redirections):
    done = start("caches", cwd=tmp_path, redirections=redirections, program=PRINTING)
    assert done.returncode == int(">&-" in redirections.replace("2>", "")), done
    assert (tmp_path / "file").read_bytes() == b""


def test_nobody_reads_messages_any_more(tmp_path, cache):
    """`tfl inspect CACHE 2> >(true)`: the result is what counts."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", MAIN, "caches", "--cache-dir", str(cache.parent)]
    (cache.parent / "odd.h5").write_bytes(b"hello")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=writer, check=False, env=environment)
    os.close(writer)
    assert done.returncode == 0
    assert cache.name.encode() in done.stdout


@pytest.mark.parametrize(
    ("environment", "shown"),
    [
        (POSIX, b"Pok\\xe9mon"),
        ({"PYTHONIOENCODING": "ascii"}, b"Pok\\xe9mon"),
        ({"PYTHONIOENCODING": "latin-1"}, b"Pok\xe9mon"),
        ({"PYTHONIOENCODING": "utf-8"}, "Pokémon".encode()),
    ],
)
def test_what_an_encoding_lacks_is_escaped(tiny_backbone, features, settings, tmp_path, environment, shown):
    import numpy as np

    folder = tmp_path / os.fsdecode(b"caf\xe9 \xc3\xa9")  # one name of Latin-1 and UTF-8
    folder.mkdir()
    arrays = dict(np.load(write_npz(tmp_path / "colours.npz", train=9, test=6)))
    np.savez(tmp_path / "colours.npz", **{**arrays, "class_names": np.array(["Pokémon", "犬", "cat"])})
    cache = precompute(features, DatasetSpec(dataset=str(tmp_path / "colours.npz")), settings)
    moved = cache.rename(folder / cache.name)
    done = start("inspect", moved, cwd=tmp_path, environment=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"  " + shown in done.stdout
    found = json.loads(start("inspect", moved, "--json", cwd=tmp_path, environment=environment).stdout)
    assert found["class_names"] == ["Pokémon", "犬", "cat"]
    listed = start("caches", "--cache-dir", folder, cwd=tmp_path, environment=environment)
    assert cache.name.encode() in listed.stdout


def test_a_path_for_a_program_is_exact(tmp_path):
    program = "import os, sys; from tfl.cli import output, streams; from pathlib import Path\n" + (
        "with streams.open_standard_streams():\n    output.print_path(Path(os.fsdecode(b'caf\\xe9/\\x1b[31m')))"
    )
    done = start(cwd=tmp_path, environment=POSIX, program=program)
    assert done.stdout == b"caf\xe9/\x1b[31m\n"


def test_a_path_for_a_person_is_escaped(monkeypatch):
    written = io.StringIO()
    monkeypatch.setattr(sys, "stdout", written)
    output.print_path(Path("a\x1b[31m"))
    assert written.getvalue() == "a\\x1b[31m\n"


def test_arguments_that_are_told_back_are_escaped(tmp_path):
    done = start("inspect", "x", f"--{HOSTILE}".replace("\x00", ""), cwd=tmp_path)
    assert done.returncode == 2
    assert not STEERING.search(done.stderr.decode())
