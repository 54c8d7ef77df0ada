"""Who takes the next turn: the forms' work is spread over the whole time, so that a disturbance hits all of them."""

import contextlib
from collections.abc import Callable

from tfl.comparison.reference.job import Job
from tfl.extraction.precompute import Progress
from tfl.machine.lockstep import Player, Turn

PROGRAMS = {
    "article": ("tfl.comparison.reference", "article"),
    "fair": ("tfl.comparison.reference", "fair"),
    "fair-cached": ("tfl.comparison.reference", "fair-cached"),
    "ours": ("tfl.comparison.ours",),
}


def play(job: Job, on_progress: Callable[[Progress], None]) -> dict[str, list[Turn]]:
    """Let every form play its part; the turns of each, in order.

    The parity of a few images is first. Then the one that is least far with its images has the next turn; what remains
    when all are through with them goes round.

    Raises:
      CompareError: a form failed.
    """
    totals = _num_images(job)
    turns: dict[str, list[Turn]] = {form: [] for form in totals}
    done = dict.fromkeys(totals, 0)
    progress = Progress(sum(totals.values()))
    with contextlib.ExitStack() as stack:
        if job.num_images:
            with Player("tfl.comparison.reference", ["parity", str(job.folder)]) as parity:
                turns["parity"] = [parity.turn()]
        players: dict[str, Player] = {}

        def take(form: str) -> Turn:
            if form not in players:
                module, *arguments = PROGRAMS[form]
                players[form] = stack.enter_context(Player(module, [*arguments, str(job.folder)]))
            turns[form].append(players[form].turn())
            return turns[form][-1]

        while behind := {form: done[form] / total for form, total in totals.items() if done[form] < total}:
            form = min(behind, key=lambda form: behind[form])
            count = take(form).num_images
            done[form] += count
            progress.finished += count
            progress.computed += count
            on_progress(progress)
        playing = list(totals)
        while playing:
            playing = [form for form in playing if take(form).stage != "score"]
    return turns


def _num_images(job: Job) -> dict[str, int]:
    """How many images each form is given, those that it is given again counted again."""
    if not job.num_images:
        return {"fair-cached": 0, "ours": 0}
    extracted = sum(len(job.images(role).labels) for role in ("train", "test"))
    train, test = (len(job.slice(role).labels) for role in ("train", "test"))
    again = job.recipe.epochs * train
    return {
        "fair-cached": extracted,  # the first, because it finds out the fastest way for `fair`
        "ours": extracted,
        "fair": again + test,
        "article": again + 2 * test,
    }
