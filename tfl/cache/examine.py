"""A program that reads an HDF5 file to its end with little memory and time, and lists problems.

    python -P -m tfl.cache.examine cache|weights FILE SECONDS

Prints `{"problems": [...]}`. `tfl.files.trust` starts it for files that this user's tfl did not
write.
"""

import json
import resource
import sys
from pathlib import Path

from tfl.cache import verification
from tfl.files import hdf5

KINDS = {"cache": verification.find_problems, "weights": hdf5.find_problems}
SPARE_BYTES = 64 << 20  # for any file; a large one may take twice its size


def limit_resources(file_bytes: int, seconds: int) -> None:
    """Limit this process to little more memory than it has, and to `seconds` of CPU time."""
    mapped = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
    allowed = mapped + max(2 * file_bytes, SPARE_BYTES)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (allowed if hard < 0 else min(allowed, hard), hard))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    kind, path, seconds = sys.argv[1], Path(sys.argv[2]), int(float(sys.argv[3]))
    if sys.platform == "linux":
        limit_resources(path.stat().st_size, seconds)
    try:
        problems = KINDS[kind](path)
    except MemoryError:
        problems = ["reading it takes more memory than a file of its size should need"]
    json.dump({"problems": problems}, sys.stdout)
