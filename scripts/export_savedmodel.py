"""Export a run as a SavedModel, proven in a fresh process; `tfl export` with the same flags."""

import sys

from tfl.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["export", *sys.argv[1:]]))
