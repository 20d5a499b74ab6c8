"""How much memory there is, and what a long job wants of the system's allocator."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_KEPT = 1 << 30  # bytes, of one block and of all that is free
_OLDER_LIMIT = 1 << 25  # of one block, in glibc before 2.35


def keep_freed_memory() -> bool:
    """Let this process keep freed memory for its next allocation; true where that worked.

    glibc gives large blocks back to the system when they are freed, and the system clears every page before it hands
    one out again. A training step allocates and frees the same tensors over and over: on two cores it took 0.84 to
    0.93 of the time without that, before the discriminator had memory of its own. The process then holds what it
    needed at its highest point, up to 1 GB of it free.

    The commands do this for their own process; call it at the start of a training script. It does nothing where the
    C library is not glibc, or where the environment says something of it (MALLOC_TRIM_THRESHOLD_,
    MALLOC_MMAP_THRESHOLD_, GLIBC_TUNABLES).
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    blocks = mallopt(_M_MMAP_THRESHOLD, _KEPT) or mallopt(_M_MMAP_THRESHOLD, _OLDER_LIMIT)
    return bool(blocks and mallopt(_M_TRIM_THRESHOLD, _KEPT))


def free_memory() -> int:
    """Bytes that a job may still take, by what the system, and a container's limit, say."""
    amounts = [_meminfo("MemAvailable")]
    for limit, used in _CGROUP_FILES:
        with suppress(OSError, ValueError):  # no such file, or "max"
            amounts.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
    return max(0, min(amounts))


_CGROUP_FILES = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def _meminfo(name: str) -> int:
    with open("/proc/meminfo", encoding="ascii") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))
