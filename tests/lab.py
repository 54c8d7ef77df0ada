"""What the laboratories share: processes that may die, and what a cache file holds."""

import os
import traceback

from tfl.hdf5 import open_plain

FAILED = 3  # exit code of a process that ended with an exception


def forked(work):
    """The id of a new process that calls `work` and ends, with 0 or with FAILED."""
    if (pid := os.fork()) != 0:
        return pid
    code = FAILED
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(code)


def arrays(path):
    """The bytes of every array of a cache file, by `<role>/<name>`."""
    with open_plain(path) as file:
        return {f"{role}/{name}": file[role][name][:].tobytes() for role in file for name in file[role]}
