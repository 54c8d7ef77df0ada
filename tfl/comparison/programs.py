"""The four programs of a comparison, run in turns: a disturbance of the machine hits all of them alike."""

import contextlib
from collections.abc import Callable

from tfl.comparison.lockstep import ChildProgram, Turn
from tfl.comparison.reference.setup import Setup
from tfl.machine.progress import Progress

TITLES = {
    "ours": "ours",
    "fair-cached": "PyTorch, fair, cached",
    "fair": "PyTorch, fair, uncached",
    "article": "PyTorch, the article's",
}
"""The programs by the name that findings call them, and what people read."""

COMMANDS = {
    "ours": ("tfl.comparison.tfl_program",),
    "fair-cached": ("tfl.comparison.reference", "fair-cached"),
    "fair": ("tfl.comparison.reference", "fair"),
    "article": ("tfl.comparison.reference", "article"),
}

TurnsByProgram = dict[str, list[Turn]]


def run_programs(setup: Setup, on_progress: Callable[[Progress], None]) -> TurnsByProgram:
    """Run every program to its end, and return the turns of each, in order.

    The parity of a few images is measured first. Then the program that is least far with its images
    takes the next turn; when all are through with their images, they go round.

    Raises:
      CompareError: a program failed.
    """
    turns: TurnsByProgram = {}
    if setup.num_images:
        turns["parity"] = [_run_parity(setup)]
    with contextlib.ExitStack() as stack:
        running = _RunningPrograms(setup, stack)
        _take_turns_with_images(running, setup, on_progress)
        _take_turns_to_the_end(running)
    return turns | running.turns


class _RunningPrograms:
    """Programs that are started at their first turn, and their turns so far."""

    def __init__(self, setup: Setup, stack: contextlib.ExitStack) -> None:
        self._setup = setup
        self._stack = stack
        self._programs: dict[str, ChildProgram] = {}
        self.turns: TurnsByProgram = {name: [] for name in _count_images(setup)}

    def take_turn(self, name: str) -> Turn:
        if name not in self._programs:
            module, *arguments = COMMANDS[name]
            program = ChildProgram(module, [*arguments, str(self._setup.folder)])
            self._programs[name] = self._stack.enter_context(program)
        turn = self._programs[name].take_turn()
        self.turns[name].append(turn)
        return turn


def _run_parity(setup: Setup) -> Turn:
    with ChildProgram("tfl.comparison.reference", ["parity", str(setup.folder)]) as program:
        return program.take_turn()


def _take_turns_with_images(running: _RunningPrograms, setup: Setup, on_progress: Callable[[Progress], None]) -> None:
    totals = _count_images(setup)
    left = {name: total for name, total in totals.items() if total}
    progress = Progress(sum(totals.values()))
    while left:
        name = max(left, key=lambda name: left[name] / totals[name])  # the first of those that are least far
        turn = running.take_turn(name)
        left[name] -= turn.num_images
        if left[name] <= 0:
            del left[name]
        progress.finished += turn.num_images
        progress.computed += turn.num_images
        on_progress(progress)


def _take_turns_to_the_end(running: _RunningPrograms) -> None:
    names = list(running.turns)
    while names:
        names = [name for name in names if running.take_turn(name).stage != "score"]


def _count_images(setup: Setup) -> dict[str, int]:
    """Return how many images each program is given; an image counts each time."""
    if not setup.num_images:
        return {"fair-cached": 0, "ours": 0}
    num_extracted = sum(len(setup.read_images(role).labels) for role in ("train", "test"))
    num_train, num_test = (len(setup.read_slice(role).labels) for role in ("train", "test"))
    num_repeated = setup.recipe.epochs * num_train
    return {
        "fair-cached": num_extracted,  # the first: it finds the fastest way to run the network, also for `fair`
        "ours": num_extracted,
        "fair": num_repeated + num_test,
        "article": num_repeated + 2 * num_test,
    }
