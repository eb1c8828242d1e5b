"""What the machine has."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import psutil
import pytest

import ffe.base.system as machine


def test_cores_are_those_that_the_process_may_use() -> None:
    assert 1 <= machine.cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(("quota", "expected"), [("200000 100000", 2), ("50000 100000", 1), ("max 100000", 8)])
def test_a_containers_quota_of_cores_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: str, expected: int) -> None:
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    (tmp_path / "cpu.max").write_text(quota + "\n")
    assert machine.cores() == expected


@pytest.mark.parametrize("told", ["", "MemTotal: 2 kB", "no: numbers", None])
def test_memory_is_that_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: str | None) -> None:
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    if told is not None:  # no Linux, or one that tells nothing of use
        (tmp_path / "meminfo").write_text(told)
        monkeypatch.setattr(machine, "_MEMINFO", tmp_path / "meminfo")
    assert machine.total_memory() == psutil.virtual_memory().total
    assert 0 < machine.free_memory() <= machine.total_memory()


def test_a_containers_limit_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    (tmp_path / "memory.stat").write_text("anon 100000\nfile 300000\ninactive_file 100000\nactive_file 150000\n")
    assert machine.free_memory() == 600000 + 250000  # what only caches files can be had back
    (tmp_path / "memory.stat").write_text("anon 100000\n")
    assert machine.free_memory() == 600000
    assert machine.total_memory() == 1000000
    (tmp_path / "memory.current").write_text("1400000\n")
    assert machine.free_memory() == 0
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.free_memory() > 1000000
    assert machine.total_memory() == psutil.virtual_memory().total


def test_a_gpu_shows_by_the_device_of_its_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "_GPU_DEVICES", (tmp_path / "nvidiactl",))
    assert not machine.may_have_gpu()
    (tmp_path / "nvidiactl").touch()
    assert machine.may_have_gpu()


@pytest.mark.parametrize(
    ("processor", "flags", "isa", "expected"),
    [
        ("x86_64", "sse4_2 avx2 fma", "", False),
        ("x86_64", "avx2 avx512f avx512_vnni", "", True),
        ("AMD64", "avx2 avx_vnni", "", True),
        ("x86_64", "avx2 avx512f avx512_vnni", "avx2", False),
        ("aarch64", "asimd i8mm", "", None),
    ],
)
def test_whether_the_processor_has_vnni(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, processor: str, flags: str, isa: str, expected: bool | None
) -> None:
    (tmp_path / "cpuinfo").write_text(f"model name\t: some\nflags\t\t: fpu {flags}\n")
    monkeypatch.setattr("ffe.base.system._CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr("ffe.base.system.platform.machine", lambda: processor)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", isa)
    assert machine.has_vnni() is expected


def test_what_cannot_be_told_of_vnni(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without /proc/cpuinfo NumPy is asked, which knows one kind of VNNI and not the other."""
    monkeypatch.setattr("ffe.base.system._CPUINFO", tmp_path / "none")
    monkeypatch.setattr("ffe.base.system.platform.machine", lambda: "x86_64")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    assert machine.has_vnni() in {True, None}


def test_a_user_without_a_home_gets_a_cache_for_the_moment(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_home(name: str) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.delenv("FFE_CACHE_DIR")
    for name in ("KERAS_HOME", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, "named")
    monkeypatch.setattr("platformdirs.user_cache_path", no_home)
    machine._temporary_folder.cache_clear()
    monkeypatch.setattr(logging.getLogger("ffe"), "propagate", True)
    with caplog.at_level("WARNING", "ffe"):
        folder = machine.cache_root()
    assert folder.is_dir()
    assert machine.cache_root() == folder
    assert list(dict.fromkeys(caplog.messages)) == [
        "this user has no home folder, so nothing is kept in a cache; set HOME, or name a folder with FFE_CACHE_DIR"
    ]
    machine._temporary_folder.cache_clear()


@pytest.mark.parametrize("named", [None, "~/cache", "~nobody-of-this-name/cache"])
def test_no_folder_is_called_after_a_home_that_is_not_there(
    named: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older releases of platformdirs leave the ``~`` where there is no home."""
    monkeypatch.chdir(tmp_path)
    for name in ("KERAS_HOME", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, "named")
    monkeypatch.setenv("FFE_CACHE_DIR", named or "")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: Path("~/.cache") / name)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    machine._temporary_folder.cache_clear()
    (machine.cache_root() / "runs").mkdir(parents=True)
    assert list(tmp_path.iterdir()) == []
    machine._temporary_folder.cache_clear()


def test_a_cache_below_the_home_may_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFE_CACHE_DIR", "~/cache")
    assert machine.cache_root() == Path.home() / "cache"
