"""One program of the reference, run in turns: `python -m tfl.comparison.reference PROGRAM FOLDER`."""

import sys
from pathlib import Path

import torch

from tfl.comparison.lockstep import TurnTaker
from tfl.comparison.reference import article, fair, parity
from tfl.comparison.reference.setup import Setup

PROGRAMS = {
    "parity": parity.run,
    "article": article.run,
    "fair": fair.run_uncached,
    "fair-cached": fair.run_cached,
}


def main(program: str, folder: str) -> None:
    """Run a program with exact float32 and the setup's number of threads."""
    turns, setup = TurnTaker(), Setup.load(Path(folder))
    torch.set_num_threads(setup.threads)
    torch.backends.cudnn.allow_tf32 = False
    PROGRAMS[program](setup, turns)


if __name__ == "__main__":
    main(*sys.argv[1:])
