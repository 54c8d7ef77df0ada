"""One form of the reference as a program: `python -m tfl.comparison.reference FORM FOLDER`, which takes turns."""

import sys
from pathlib import Path

import torch

from tfl.comparison.reference import article, fair, parity
from tfl.comparison.reference.job import Job
from tfl.machine.lockstep import Turns

PLAYS = {
    "parity": parity.play,
    "article": article.play,
    "fair": fair.play_uncached,
    "fair-cached": fair.play_cached,
}


def main(form: str, folder: str) -> None:
    """Play a form's part, with exact float32 and the job's number of threads."""
    turns, job = Turns(), Job.load(Path(folder))
    torch.set_num_threads(job.threads)
    torch.backends.cudnn.allow_tf32 = False
    PLAYS[form](job, turns)


if __name__ == "__main__":
    main(*sys.argv[1:])
