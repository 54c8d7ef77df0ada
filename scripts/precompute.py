"""Run the frozen backbone once and leave a cache file; `tfl precompute` with the same flags."""

import sys

from tfl.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["precompute", *sys.argv[1:]]))
