"""Programs that take turns, each a small one in a process of its own."""

import os

import pytest

from tfl.errors import CompareError
from tfl.machine.lockstep import Player

COUNTING = """
import sys
from tfl.machine.lockstep import Turns
turns = Turns()
for i in range(2):
    print("chatter")
    turns.end("count", i, name=sys.argv[1])
raise SystemExit("no more")
"""


@pytest.fixture
def counting(tmp_path, monkeypatch):
    (tmp_path / "counting.py").write_text(COUNTING)
    monkeypatch.setenv("PYTHONPATH", os.fspath(tmp_path))
    return "counting"


def test_turns_come_one_after_the_other_and_a_failure_is_said(counting):
    with Player(counting, ["a"]) as a, Player(counting, ["b"]) as b:
        turns = [a.turn(), b.turn(), a.turn(), b.turn()]
        assert [(turn.stage, turn.num_images, turn.found["name"]) for turn in turns] == [
            ("count", 0, "a"),
            ("count", 0, "b"),
            ("count", 1, "a"),
            ("count", 1, "b"),
        ]
        assert all(turn.seconds > 0 and turn.peak_bytes > 0 for turn in turns)
        with pytest.raises(CompareError, match=r"counting a ended with exit code 1:\nchatter\nchatter\nno more"):
            a.turn()


def test_a_program_that_is_killed_while_it_waits_is_said(counting):
    with Player(counting, ["a"]) as a:
        a.turn()
        a._process.kill()
        a._process.wait()
        with pytest.raises(CompareError, match="counting a ended with exit code -9:\nchatter"):
            a.turn()


def test_the_time_of_waiting_is_in_no_turn(counting):
    with Player(counting, ["a"]) as a, Player(counting, ["b"]) as b:
        a.turn()
        b.turn()  # a process has been started meanwhile
        assert a.turn().seconds < 0.02


def test_memory_is_the_programs_own(counting):
    held = bytearray(os.urandom(1) * (200 << 20))
    with Player(counting, ["a"]) as a:
        assert a.turn().peak_bytes < 100 << 20 < len(held)
