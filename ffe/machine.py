"""What this machine has: cores and memory that a process may use."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_GPU_DEVICES = (Path("/dev/nvidiactl"), Path("/dev/kfd"))


def cores() -> int:
    """Return the cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int:
    """Return the bytes of memory that can be taken without swapping; a container's limit counts."""
    import psutil

    free = int(psutil.virtual_memory().available)
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        if limit != "max":
            free = min(free, int(limit) - int((_CGROUP / "memory.current").read_text()))
    except (OSError, ValueError):  # no cgroup of version 2
        pass
    return max(free, 0)


def total_memory() -> int:
    """Return the bytes of memory of the machine, or of the container."""
    import psutil

    total = int(psutil.virtual_memory().total)
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total


def may_have_gpu() -> bool:
    """Return whether the system has the device of a GPU driver (NVIDIA or AMD); Keras knows whether it can use it."""
    return any(device.exists() for device in _GPU_DEVICES)
