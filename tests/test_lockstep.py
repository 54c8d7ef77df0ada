"""Programs in lockstep, each a small one in a process of its own."""

import os

import pytest

from tfl.comparison.lockstep import ChildProgram
from tfl.errors import CompareError

COUNTING = """
import sys
from tfl.comparison.lockstep import TurnTaker
turns = TurnTaker()
for i in range(2):
    print("chatter")
    turns.end_turn("count", i, way=sys.argv[1])
raise SystemExit("no more")
"""


@pytest.fixture
def counting(tmp_path, monkeypatch):
    (tmp_path / "counting.py").write_text(COUNTING)
    monkeypatch.setenv("PYTHONPATH", os.fspath(tmp_path))
    return "counting"


def test_turns_come_one_after_the_other_and_a_failure_is_said(counting):
    with ChildProgram(counting, ["a"]) as a, ChildProgram(counting, ["b"]) as b:
        turns = [a.take_turn(), b.take_turn(), a.take_turn(), b.take_turn()]
        assert [(turn.stage, turn.num_images, turn.way) for turn in turns] == [
            ("count", 0, "a"),
            ("count", 0, "b"),
            ("count", 1, "a"),
            ("count", 1, "b"),
        ]
        assert all(turn.seconds > 0 and turn.peak_bytes > 0 for turn in turns)
        with pytest.raises(CompareError, match=r"counting a ended with exit code 1:\nchatter\nchatter\nno more"):
            a.take_turn()


def test_a_program_that_is_killed_while_it_waits_is_said(counting):
    with ChildProgram(counting, ["a"]) as a:
        a.take_turn()
        a._child.kill()
        a._child._process.wait()
        with pytest.raises(CompareError, match="counting a ended with exit code -9:\nchatter"):
            a.take_turn()


def test_the_time_of_waiting_is_in_no_turn(counting):
    with ChildProgram(counting, ["a"]) as a, ChildProgram(counting, ["b"]) as b:
        a.take_turn()
        b.take_turn()  # a process has been started meanwhile
        assert a.take_turn().seconds < 0.02


def test_memory_is_the_programs_own(counting):
    held = bytearray(os.urandom(1) * (200 << 20))
    with ChildProgram(counting, ["a"]) as a:
        assert a.take_turn().peak_bytes < 100 << 20 < len(held)
