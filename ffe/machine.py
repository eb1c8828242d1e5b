"""What this machine has: cores, memory and disk that a process may use."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

CACHE_VARIABLE = "FFE_CACHE_DIR"

_CGROUP = Path("/sys/fs/cgroup")
_GPU_DEVICES = (Path("/dev/nvidiactl"), Path("/dev/kfd"), Path("/dev/dxg"))


def cores() -> int:
    """Return the cores that this process may use; a container's quota counts."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (_CGROUP / "cpu.max").read_text().split()
        return max(1, min(count, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no cgroup of version 2, or no quota
        return count


def free_memory() -> int:
    """Return the bytes of memory that can be taken without swapping; a container's limit counts."""
    import psutil

    free = int(psutil.virtual_memory().available)
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        if limit != "max":
            used = int((_CGROUP / "memory.current").read_text())
            free = min(free, int(limit) - used + _reclaimable())
    except (OSError, ValueError):  # no cgroup of version 2
        pass
    return max(free, 0)


def _reclaimable() -> int:
    """Return the bytes of a container's memory that only cache files: the kernel takes them back when it needs them."""
    words = (_CGROUP / "memory.stat").read_text().split()
    stat = dict(zip(words[::2], words[1::2], strict=False))
    return int(stat.get("inactive_file", 0)) + int(stat.get("active_file", 0))


def total_memory() -> int:
    """Return the bytes of memory of the machine, or of the container."""
    import psutil

    total = int(psutil.virtual_memory().total)
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total


def cache_root() -> Path:
    """Return where is kept what can be made again: ``FFE_CACHE_DIR``, or ``ffe`` in the user's cache folder."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named)
    import platformdirs

    return platformdirs.user_cache_path("ffe")


def taken_disk(path: Path) -> int:
    """Return the bytes that a file takes on its disk, which holes do not; 0 = it is not there."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0
    return found.st_blocks * 512 if hasattr(found, "st_blocks") else found.st_size


def free_disk(folder: Path) -> int:
    """Return the bytes that can still be written below a folder; a quota is not seen."""
    return shutil.disk_usage(folder).free


def bytes_text(count: float) -> str:
    """Return a size for people: ``812 B``, ``1.4 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Make many small values without Python looking for garbage among them, again and again: that takes half as long.

    It looks for cycles only; all else goes when it is no longer used, as ever.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def may_have_gpu() -> bool:
    """Return whether the system has the device of a GPU driver (NVIDIA, AMD, or either below Windows' Linux).

    Keras knows whether it can use it. Other systems than Linux give no such sign
    and count as without; there ``--engine keras`` asks for the GPU by name.
    """
    return any(device.exists() for device in _GPU_DEVICES)
