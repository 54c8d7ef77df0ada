"""Compare tfl with the PyTorch reference; `tfl compare` with the same flags."""

import sys

from tfl.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["compare", *sys.argv[1:]]))
