"""Killed, interrupted, started twice: the same command finishes, to the same bytes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import write_npz

LAB = Path(__file__).with_name("kill_lab.py")
# A shell that starts pytest in the background has it ignore SIGINT, and all that it starts.
MAIN = """
import signal, sys
from tfl.cli.main import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main())
"""
SMALL = ["--backbone", "mobilenetv3small", "--weights", "random", "--image-size", "32"]
PRECOMPUTE = ["precompute", "--dataset", "colours.npz", *SMALL]
SMALL_SHARDS = [*PRECOMPUTE, "--batch-size", "8", "--shard-rows", "16"]


@pytest.mark.parametrize(("mode", "kills"), [("steps", 50), ("merge", 40), ("random", 30), ("views", 9)])
def test_sigkill_at_any_moment(tmp_path, mode, kills):
    """The laboratory asserts, after every kill, that a file under the final name is whole, and in the end the bytes."""
    done = subprocess.run([sys.executable, str(LAB), str(tmp_path), mode], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["kills"] >= kills


@contextlib.contextmanager
def started(folder):
    command = [sys.executable, "-c", MAIN, *SMALL_SHARDS]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=folder, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_a_shard(folder, process):
    while not list(folder.glob("cache/*.partial/*.shard")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_signals_end_with_one_line_that_says_how_to_go_on(tmp_path, number, code, word):
    write_npz(tmp_path / "colours.npz", train=20_000, test=40)
    with started(tmp_path) as first:
        wait_for_a_shard(tmp_path, first)
        with started(tmp_path) as second:
            out, err = second.communicate()
            assert (second.returncode, out) == (1, "")
            assert f"is being made by process {first.pid} on {os.uname().nodename}; wait for it" in err
        first.send_signal(number)
        out, err = first.communicate(timeout=60)
        assert (first.returncode, out) == (code, "")
    # A processor that computes in cheaper dtypes too has a line about them before.
    lines = [line for line in err.splitlines() if line and "this processor also computes in" not in line]
    computing, *before, last = lines
    assert " on CPU" in computing
    assert last == f"tfl: {word}; finished shards are kept; resume with: tfl {' '.join(SMALL_SHARDS)}"
    assert all(" images/s, " in line for line in before), "progress, where that took more than half a minute"
    assert len(list(tmp_path.glob("cache/*.partial/*.shard"))) < 1250


def test_other_settings_are_refused_by_the_command(tmp_path):
    write_npz(tmp_path / "colours.npz", train=3000, test=40)
    with started(tmp_path) as first:
        wait_for_a_shard(tmp_path, first)
        first.kill()
    command = [sys.executable, "-c", MAIN, *PRECOMPUTE, "--batch-size", "4", "--shard-rows", "16"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "batch_size: 8 in the folder, 4 now" in done.stderr
    overview = subprocess.run(
        [sys.executable, "-c", MAIN, "inspect", str(next(tmp_path.glob("cache/*.partial")))],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert " of 3,000 finished" in overview
    assert "not being made; the same command resumes it" in overview


IN_THE_MERGE = """
import json, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_full_disk as t
from lab import forked
from tfl.cache import merge
from tfl.cli.main import _TerminatedError, _terminate

FOLDER, NUMBER = Path(sys.argv[2]), int(sys.argv[3])
signal.signal(signal.SIGTERM, _terminate)
signal.signal(signal.SIGINT, signal.default_int_handler)

def interrupted_at(step):
    count, write = 0, merge.ErrorKeepingFile.write

    def interrupted(self, content):
        nonlocal count
        count += 1
        if count == step:
            os.kill(os.getpid(), NUMBER)
        return write(self, content)

    merge.ErrorKeepingFile.write = interrupted
    unfinished = t.partial(FOLDER / str(step))
    try:
        with unfinished.hold():
            t.fill(unfinished)
            unfinished.finish(t.NAMES, dict(t.TYPED))
        word = "finished"
    except KeyboardInterrupt as interruption:
        word = "ended" if isinstance(interruption, _TerminatedError) else "interrupted"
    (FOLDER / f"{step}.json").write_text(json.dumps([word, count]))

def result_of(step):
    _, status = os.waitpid(forked(lambda: interrupted_at(step)), 0)
    assert status == 0, (step, status)
    return json.loads((FOLDER / f"{step}.json").read_text())

word, num_writes = result_of(0)
assert word == "finished"
steps = range(1, num_writes + 1, max(1, num_writes // 8))
print(json.dumps([result_of(step)[0] for step in steps]))
"""


@pytest.mark.parametrize(("number", "word"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "ended")])
def test_signals_in_the_merge_wait_for_hdf5(tmp_path, number, word):
    """An exception out of a call that HDF5 makes would crash the process."""
    command = [sys.executable, "-c", IN_THE_MERGE, str(Path(__file__).parent), str(tmp_path), str(int(number))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    words = json.loads(done.stdout)
    assert len(words) >= 8
    assert set(words) == {word}
    assert not list(tmp_path.rglob("*.writing"))
