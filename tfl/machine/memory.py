"""How much main memory this process may still take, and what becomes of what it frees."""

import os
import re
import resource
import sys
from collections.abc import Iterator
from pathlib import Path


def available_memory(root: Path = Path("/")) -> int:
    """Bytes of main memory that this process may still take; an accelerator's own memory is not looked at.

    The least of what the system can give, what each memory limit of its cgroups leaves, and what RLIMIT_AS leaves.
    Where the system does not say what is free, all its memory counts. Another process may take it in the meantime.

    Args:
      root: the folder that holds `proc` and `sys`.
    """
    free = _number(root / "proc/meminfo", r"^MemAvailable:\s+(\d+) kB")
    rooms = [_physical_memory() if free is None else free * 1024, *_cgroup_rooms(root)]
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    mapped = _number(root / "proc/self/status", r"^VmSize:\s+(\d+) kB")
    if limit != resource.RLIM_INFINITY and mapped is not None:
        rooms.append(limit - mapped * 1024)
    return max(0, min(rooms))


# Of cgroup v2 and v1: the limit, what is in use, and what of that is file pages that the kernel drops when pressed.
_CGROUP_FILES = {
    "": ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    "memory": ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def _cgroup_rooms(root: Path) -> Iterator[int]:
    """What each memory limit on the way from this process's cgroup up to the root leaves, in bytes.

    Inside a container the path in `/proc/self/cgroup` may be the host's, and the container's own files stand at the
    root: hence also the parents of a path that is not there.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        name = "memory" if "memory" in controllers.split(",") else controllers
        if name not in _CGROUP_FILES:
            continue
        top, limit_file, usage_file, cached = _CGROUP_FILES[name]
        folder = root / top / path.lstrip("/")
        for each in (folder, *folder.parents):
            limit, usage = _number(each / limit_file), _number(each / usage_file)
            if limit is not None and usage is not None:
                yield limit - usage + (_number(each / "memory.stat", rf"^{cached} (\d+)") or 0)


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # no such call, or no such name
        return sys.maxsize


def _number(path: Path, pattern: str = r"^(\d+)") -> int | None:
    """The number that a line of a file holds; None if there is no such file or line."""
    found = re.search(pattern, _text(path), re.MULTILINE)
    return int(found[1]) if found else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
