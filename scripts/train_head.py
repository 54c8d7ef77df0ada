"""Train a head on a cache file; `tfl train` with the same flags."""

import sys

from tfl.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
