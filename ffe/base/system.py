"""What this machine has: cores, memory and disk that a process may use."""

from __future__ import annotations

import contextlib
import errno
import functools
import gc
import importlib
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

CACHE_VARIABLE = "FFE_CACHE_DIR"
CORES_VARIABLE = "FFE_CORES"  # a share of the machine, for a process that is not alone on it
DISK_IS_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}  # numbers of an OSError

_CGROUP = Path("/sys/fs/cgroup")
_CPUINFO = Path("/proc/cpuinfo")
_MEMINFO = Path("/proc/meminfo")
_INT8_FLAGS = {"avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8"}
_VECTOR_FLAGS = _INT8_FLAGS | {"sse4_1", "avx", "avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "i8mm"}
_ISAS_WITHOUT_VNNI = {"SSE41", "AVX", "AVX2", "AVX512_CORE"}
_KEEP_SIZE = 1  # of fallocate(2): take the blocks, leave the length as it is
_UNSUPPORTED = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM}
_GPU_DEVICES = (Path("/dev/nvidiactl"), Path("/dev/kfd"), Path("/dev/dxg"))


def cores() -> int:
    """Return the cores that this process may use; a container's quota counts, and ``FFE_CORES``."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if (share := os.environ.get(CORES_VARIABLE, "")).isdecimal():
        count = max(1, min(count, int(share)))
    limit = _cgroup("cpu.max")
    if len(limit) == 2 and "".join(limit).isdigit():
        return max(1, min(count, round(int(limit[0]) / int(limit[1]))))
    return count


def free_memory() -> int:
    """Return the bytes of memory that can be taken without swapping; a container's limit counts."""
    _, free = _memory()
    limit, used, words = _cgroup("memory.max"), _cgroup("memory.current"), _cgroup("memory.stat")
    if "".join(limit).isdigit() and used:
        stat = dict(zip(words[::2], words[1::2], strict=False))
        cached = int(stat.get("inactive_file", 0)) + int(stat.get("active_file", 0))  # the kernel takes these back
        free = min(free, int(limit[0]) - int(used[0]) + cached)
    return max(free, 0)


def total_memory() -> int:
    """Return the bytes of memory of the machine, or of the container."""
    (total, _), limit = _memory(), "".join(_cgroup("memory.max"))
    return min(total, int(limit)) if limit.isdigit() else total


def _memory() -> tuple[int, int]:
    """Return the bytes of memory of the machine, and of what is available; where Linux tells, psutil need not load."""
    with contextlib.suppress(OSError, LookupError, ValueError):
        lines = (line.split() for line in _MEMINFO.read_text().splitlines())
        found = {words[0]: int(words[1]) << 10 for words in lines}
        return found["MemTotal:"], min(found["MemTotal:"], found["MemAvailable:"])
    import psutil

    memory = psutil.virtual_memory()
    return int(memory.total), int(memory.available)


def _cgroup(name: str) -> list[str]:
    """Return the words of a file of the control group that this process is in; none where there is no such file."""
    try:
        return (_CGROUP / name).read_text().split()
    except (OSError, ValueError):  # no control groups of version 2
        return []


def cache_root() -> Path:
    """Return where is kept what can be made again: ``FFE_CACHE_DIR`` (``~`` is the home), or the user's cache folder."""
    root = os.path.expanduser(os.environ.get(CACHE_VARIABLE, ""))
    if not root:
        import platformdirs

        try:
            root = str(platformdirs.user_cache_path("ffe"))
        except RuntimeError:  # as in a container whose user id stands in no table
            return _temporary_folder()
    return _temporary_folder() if root.startswith("~") else Path(root)  # so older releases of platformdirs leave it


@functools.cache
def _temporary_folder() -> Path:
    """Make a folder for a user without a home; it goes when the process ends."""
    import atexit
    import logging
    import tempfile

    folder = tempfile.mkdtemp(prefix="ffe-cache-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    logging.getLogger("ffe").warning(
        "this user has no home folder, so nothing is kept in a cache; set HOME, or name a folder with %s", CACHE_VARIABLE
    )
    for name in ("KERAS_HOME", "MPLCONFIGDIR"):  # they would write into a folder '~' here
        os.environ.setdefault(name, os.path.join(folder, name.lower()))
    return Path(folder)


def library_version(name: str) -> str | None:
    """Return the version of a library that is installed, by its name on the package index; None if it is not."""
    import importlib.metadata

    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


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


def reserve(path: Path, size: int) -> None:
    """Take hold of so much disk for a file that is being written; its length stays. An OSError says that there is not so much.

    A process dies where a disk fills up under HDF5 or a memory map: it must be full before, or not at all.
    """
    with path.open("rb+") as file:
        code = _fallocate(file.fileno(), size)
    if code in _UNSUPPORTED:  # by the file system
        code = errno.ENOSPC if free_disk(path.parent) < size - taken_disk(path) else 0
    if code:
        raise OSError(code, os.strerror(code), str(path))


def reserved(descriptor: int, size: int) -> bool:
    """Take hold of so much disk for an open file; False = there is not so much, or the system cannot tell."""
    return _fallocate(descriptor, size) == 0


def _fallocate(descriptor: int, size: int) -> int:
    """Return 0, or an error number; the function of the standard library would change the length."""
    if not sys.platform.startswith("linux"):
        return errno.EOPNOTSUPP
    import ctypes

    try:
        fallocate = ctypes.CDLL(None, use_errno=True).fallocate64
    except (OSError, AttributeError):
        return errno.EOPNOTSUPP
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    while fallocate(descriptor, _KEEP_SIZE, 0, size) != 0:
        code = ctypes.get_errno()
        if code != errno.EINTR:
            return code
    return 0


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Make many small values without Python looking for cycles of garbage among them: that takes half as long."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def has_vnni() -> bool | None:
    """Return whether OpenVINO may use instructions for products of 8-bit numbers (VNNI or AMX); None = it cannot be told."""
    if platform.machine().lower() not in {"x86_64", "amd64"}:
        return None
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in _ISAS_WITHOUT_VNNI:
        return False
    try:
        flags = next(line for line in _CPUINFO.read_text("utf-8", "replace").splitlines() if line.startswith("flags")).split()
        return not _INT8_FLAGS.isdisjoint(flags)
    except (OSError, StopIteration):
        features = importlib.import_module("numpy._core._multiarray_umath").__cpu_features__  # which knows no AVX-VNNI
        return True if features.get("AVX512VNNI") else None


def processor_kind() -> str:
    """Return what decides the last bits of sums: the architecture, and the vector instructions that libraries choose by."""
    flags: set[str] = set()
    with contextlib.suppress(OSError):
        lines = _CPUINFO.read_text("utf-8", "replace").splitlines()
        flags = {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split()} & _VECTOR_FLAGS
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "")
    return " ".join([platform.machine().lower(), *sorted(flags), *([f"up to {limit}"] if limit else [])])


def may_have_gpu() -> bool:
    """Return whether there is the device of a GPU driver: NVIDIA, AMD, or either below Windows' Linux; others give no sign."""
    return any(device.exists() for device in _GPU_DEVICES)
