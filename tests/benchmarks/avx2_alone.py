"""Holds this process to AVX2, so that a processor with more shows what one without it would do.

OpenVINO is held by an environment variable of oneDNN, which it reads when it is loaded. ncnn has none: what it found out of
the processor lies in its memory as whole numbers, those for AVX-512 and its kin right before the one for AVX2, which it tells.
That order is of ``src/cpu.cpp`` in ncnn; another one is noticed. Linux alone.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

ENVIRONMENT = {"ONEDNN_MAX_CPU_ISA": "AVX2"}
_AVX2, _AVX512_VNNI = 1 << 5, 1 << 11  # as CPUID has them, and ncnn keeps them
_NEWER = 9  # of ncnn's numbers: from AVX-VNNI to AVX512-FP16


def hold() -> None:
    """Make ncnn take this processor for one with AVX2 alone; the environment must hold OpenVINO already."""
    import ncnn

    assert os.environ.items() >= ENVIRONMENT.items()
    if not ncnn.cpu_support_x86_avx2():
        raise RuntimeError("This processor has no AVX2; run this elsewhere.")
    (place,) = (address for address in _numbers("ncnn.cpython", _AVX2) if _is_avx2(ncnn, address))
    numbers = (ctypes.c_int * _NEWER).from_address(place - 4 * _NEWER)
    if any(numbers) and _AVX512_VNNI not in numbers:
        raise RuntimeError("ncnn keeps what it knows of the processor in another order now; mend this file.")
    numbers[:] = [0] * _NEWER


def _is_avx2(ncnn: object, address: int) -> bool:
    number = ctypes.c_int.from_address(address)
    number.value = 0
    found = not ncnn.cpu_support_x86_avx2()  # type: ignore[attr-defined]
    number.value = _AVX2
    return found


def _numbers(library: str, value: int) -> list[int]:
    """Return where a whole number lies in the variables of a library that had no value at first."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text("ascii").splitlines()]
    own = [i for i, line in enumerate(lines) if library in line[-1]]
    found = []
    for line in lines[own[0] : own[-1]]:
        if len(line) < 6 and "w" in line[1]:
            start, end = (int(edge, 16) for edge in line[0].split("-"))
            numbers = (ctypes.c_int * ((end - start) // 4)).from_address(start)
            found += [start + 4 * i for i, number in enumerate(numbers) if number == value]
    return found
