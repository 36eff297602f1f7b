"""Cores and memory that this process may use: those of the machine, less what its affinity and control groups deny.

Control groups limit containers and services. Linux has two versions of them (docs.kernel.org/admin-guide/cgroup-v2.html
and cgroup-v1), with other file names; both may be mounted at once. A limit of any group above the process counts.
"""

import math
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from lkdn_deploy.core.errors import UsageError

_MOUNTS = Path("/sys/fs/cgroup")
_GROUPS = Path("/proc/self/cgroup")
_SIZE = re.compile(r"(\d{1,12}(?:\.\d{1,3})?)\s*([kmgt]?)(i?b)?", re.IGNORECASE | re.ASCII)


def cores() -> int:
    """Return the number of cores that this process may use; a quota of two and a half cores is three."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [float(affinity)]
    for folder in _folders("cpu"):
        quota, period = (
            _numbers(folder, "cpu.max")
            or [
                *_numbers(folder, "cpu.cfs_quota_us"),
                *_numbers(folder, "cpu.cfs_period_us"),
            ]
            or (math.inf, 1)
        )
        if quota > 0 and period > 0:  # version 1 has -1 for no limit
            quotas.append(quota / period)
    return max(1, math.ceil(min(quotas)))


def available_memory() -> int:
    """Return the bytes that this process can still take without swapping or exceeding a limit of its control groups."""
    import psutil  # only here: the commands' --help loads little

    free = [psutil.virtual_memory().available]
    for folder in _folders("memory"):
        limit = _numbers(folder, "memory.max") or _numbers(folder, "memory.limit_in_bytes")
        used = _numbers(folder, "memory.current") or _numbers(folder, "memory.usage_in_bytes")
        if limit and used and limit[0] < math.inf:
            free.append(int(limit[0] - used[0]) + _reclaimable(folder))
    return max(0, min(free))


def parse_memory(text: str) -> int:
    """Parse a number of bytes such as ``900M``, ``2G`` or ``1.5GiB``; all units are powers of 1024.

    Raises:
        UsageError: if it is none, or less than a MiB.
    """
    match = _SIZE.fullmatch(text.strip())
    size = int(float(match[1]) * 1024 ** " kmgt".index(match[2].lower() or " ")) if match else 0
    if size < 1 << 20:
        msg = f"expected an amount of memory such as 900M or 2G, got {text!r}"
        raise UsageError(msg)
    return size


def _reclaimable(folder: Path) -> int:
    """Return the bytes of a group's file cache, which counts as used but is given up on demand."""
    with suppress(OSError, ValueError):
        for line in (folder / "memory.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name in ("inactive_file", "total_inactive_file"):
                return int(value)
    return 0


def _folders(controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control groups that have a controller, and of all groups above them."""
    with suppress(OSError, ValueError):
        for line in _GROUPS.read_text().splitlines():
            number, controllers, group = line.split(":", 2)
            if number == "0":
                mount = _MOUNTS
            elif controller in controllers.split(","):
                mount = _MOUNTS / controller
            else:
                continue
            path = Path(group.lstrip("/"))
            # Inside a container the group's path may be that of the host, of which only the top is mounted.
            yield from (mount / part for part in (path, *path.parents))


def _numbers(folder: Path, name: str) -> list[float]:
    """Return the numbers in a group's file, with ``max`` as infinity; none if there is no such file."""
    with suppress(OSError, ValueError):
        return [math.inf if word == "max" else float(word) for word in (folder / name).read_text().split()]
    return []
