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
from tfl.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main())
"""
SMALL = ["--backbone", "mobilenetv3small", "--weights", "random", "--image-size", "32"]
PRECOMPUTE = ["precompute", "--dataset", "colours.npz", *SMALL]
SMALL_SHARDS = [*PRECOMPUTE, "--batch-size", "8", "--shard-rows", "16"]


@pytest.mark.parametrize(("mode", "kills"), [("steps", 60), ("merge", 40), ("random", 30), ("views", 9)])
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
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "told to end")]
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
    computing, *before, last = filter(None, err.splitlines())
    assert " on CPU" in computing
    assert last == f"tfl: {word}; finished shards are kept; go on with: tfl {' '.join(SMALL_SHARDS)}"
    assert all(" a second, " in line for line in before), "progress, where that took more than half a minute"
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
    assert "not being made; the same command goes on" in overview


IN_THE_MERGE = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_full_disk as t
from tfl.cache import merge
from tfl.cli import _Ended, _end
signal.signal(signal.SIGTERM, _end)
signal.signal(signal.SIGINT, signal.default_int_handler)
write, number, count = merge._Surviving.write, int(sys.argv[3]), 0

def interrupted(self, content):
    global count
    count += 1
    if count == int(sys.argv[4]):
        os.kill(os.getpid(), number)
    return write(self, content)

merge._Surviving.write = interrupted
unfinished = t.partial(Path(sys.argv[2]))
try:
    with unfinished.held():
        t.fill(unfinished)
        unfinished.finish(t.NAMES, dict(t.TYPED))
    print("finished", count)
except KeyboardInterrupt as interruption:
    print("ended" if isinstance(interruption, _Ended) else "interrupted")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_in_the_merge_wait_for_hdf5(tmp_path, number):
    """An exception out of a call that HDF5 makes would crash the process."""

    def run(step):
        folder = str(Path(__file__).parent)
        command = [sys.executable, "-c", IN_THE_MERGE, folder, str(tmp_path / str(step)), str(int(number)), str(step)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (step, done.returncode, done.stderr[-2000:])
        return done.stdout.split()

    word, num_writes = run(10**9)
    assert word == "finished"
    for step in range(1, int(num_writes) + 1, max(1, int(num_writes) // 8)):
        assert run(step) in (["interrupted"], ["ended"])
        assert not list((tmp_path / str(step)).rglob("*.writing"))
