"""The main memory that this process may still take, and the most that it has taken."""

import ctypes
import gc
import os
import re
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


def available_memory(root: Path = Path("/")) -> int:
    """Return the bytes of main memory that this process may still take; an accelerator's own does not count.

    It is the least of what the system can give, what each memory limit of the process's cgroups leaves, and
    what RLIMIT_AS leaves. Where the system does not say what is free, all its memory counts. Another process
    may take it in the meantime.

    Args:
      root: the folder that holds `proc` and `sys`.
    """
    free = _read_number(root / "proc/meminfo", r"^MemAvailable:\s+(\d+) kB")
    left = [_physical_memory() if free is None else free * 1024, *_left_by_cgroups(root)]
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    mapped = _read_number(root / "proc/self/status", r"^VmSize:\s+(\d+) kB")
    if limit != resource.RLIM_INFINITY and mapped is not None:
        left.append(limit - mapped * 1024)
    return max(0, min(left))


def reset_peak(root: Path = Path("/")) -> int | None:
    """Forget the largest resident size of this process so far, and return the bytes that are resident now.

    What is freed is given back to the system first: what comes next cannot hide in it. Returns None
    where the system does not forget (only Linux does).
    """
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
    try:
        (root / "proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return None
    return _read_kilobytes(root, "VmRSS")


def read_peak(root: Path = Path("/")) -> int | None:
    """Return the largest resident size of this process since `reset_peak`, in bytes."""
    return _read_kilobytes(root, "VmHWM")


def _read_kilobytes(root: Path, name: str) -> int | None:
    found = _read_number(root / "proc/self/status", rf"^{name}:\s+(\d+) kB")
    return None if found is None else found * 1024


class _CgroupFiles(NamedTuple):
    """The files of one version of cgroups.

    Attributes:
      root: the folder of the whole hierarchy.
      limit: the file with the limit, in bytes.
      usage: the file with the memory in use, in bytes.
      cached: the line of `memory.stat` that counts file pages, which the kernel drops under pressure.
    """

    root: str
    limit: str
    usage: str
    cached: str


# By the controller that `/proc/self/cgroup` names: version 2 names none, version 1 names memory.
_CGROUP_FILES = {
    "": _CgroupFiles("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    "memory": _CgroupFiles(
        "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
    ),
}


def _left_by_cgroups(root: Path) -> Iterator[int]:
    """Yield the bytes that each memory limit leaves, from this process's cgroup up to the root.

    Inside a container the path in `/proc/self/cgroup` may be the host's, while the container's own files
    stand at the root. So the parents of a path that does not exist count too.
    """
    for line in _read_text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        controller = "memory" if "memory" in controllers.split(",") else controllers
        if controller not in _CGROUP_FILES:
            continue
        files = _CGROUP_FILES[controller]
        own = root / files.root / path.lstrip("/")
        for folder in (own, *own.parents):
            limit, usage = _read_number(folder / files.limit), _read_number(folder / files.usage)
            if limit is not None and usage is not None:
                cached = _read_number(folder / "memory.stat", rf"^{files.cached} (\d+)") or 0
                yield limit - usage + cached


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # no such call, or no such name
        return sys.maxsize


def _read_number(path: Path, pattern: str = r"^(\d+)") -> int | None:
    """Return the number in the first line that matches; None if there is no such file or line."""
    found = re.search(pattern, _read_text(path), re.MULTILINE)
    return int(found[1]) if found else None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
