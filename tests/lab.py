"""What the laboratories share: processes that may die, and what a cache file holds."""

import os
import traceback

import h5py

from tfl.files.hdf5 import open_unlocked

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
    """The bytes of every array of a cache file, by `<role>/<name>` and `<role>/views/<view>`."""
    with open_unlocked(path) as file:
        return {name: array[:].tobytes() for role in file for name, array in _arrays_of(file[role], role)}


def _arrays_of(group, path):
    for name in group:
        if isinstance(group[name], h5py.Group):
            yield from _arrays_of(group[name], f"{path}/{name}")
        else:
            yield f"{path}/{name}", group[name]
