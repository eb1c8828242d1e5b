"""Compiled code is kept in the user's cache folder, and never in the package: there it would outlive the package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import pytest

import ffe
from ffe.base.compiled import compiled
from ffe.heads import mlp_kernels
from ffe.splits import near_index

PACKAGE = Path(ffe.__file__).parent


def plus_one(x):  # type: ignore[no-untyped-def]
    return x + 1


def test_every_kernel_keeps_its_code_in_the_cache_folder() -> None:
    both = {**vars(mlp_kernels), **vars(near_index)}.values()
    kernels = [value for value in both if isinstance(value, numba.core.dispatcher.Dispatcher)]
    assert len(kernels) > 5
    for kernel in kernels:
        path = Path(kernel._cache.cache_path)
        assert path.parent.name == "numba"
        assert PACKAGE not in path.parents


def test_it_is_written_there_and_found_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FFE_CACHE_DIR", str(tmp_path))
    assert compiled(plus_one)(1) == 2
    assert {path.suffix for path in (tmp_path / "numba").rglob("*") if path.is_file()} == {".nbi", ".nbc"}
    again = compiled(plus_one)
    assert again(1) == 2
    assert again.stats.cache_hits
    assert not numba.config.CACHE_DIR  # as it was


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
def test_a_damaged_file_costs_time_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, suffix: str) -> None:
    monkeypatch.setenv("FFE_CACHE_DIR", str(tmp_path))
    compiled(plus_one)(1)
    for path in tmp_path.rglob(f"*{suffix}"):
        path.write_bytes(b"\x80")
    assert compiled(plus_one)(1) == 2


def test_without_a_home_it_compiles_every_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FFE_CACHE_DIR")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: Path("~/.cache") / name)
    monkeypatch.setenv("MPLCONFIGDIR", "named")
    monkeypatch.chdir(tmp_path)
    assert compiled(plus_one)(1) == 2
    assert list(tmp_path.iterdir()) == []


def test_without_a_folder_it_compiles_every_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FFE_CACHE_DIR", str(tmp_path / "file"))
    kernel = compiled(plus_one)
    assert kernel(1) == 2
    assert not kernel._cache.cache_path


def test_a_package_that_was_used_has_no_file_more_than_before(tmp_path: Path) -> None:
    package = tmp_path / "site" / "ffe"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    before = sorted(package.rglob("*"))
    code = "import numpy as np, ffe.heads.mlp_kernels as k\na = np.ones(2, np.float32)\nk._rmsprop_plain(a, a, a, a, a[0])"
    environment = {**os.environ, "PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    environment["FFE_CACHE_DIR"] = str(tmp_path / "cache")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment, timeout=600)
    assert sorted(package.rglob("*")) == before
    assert list((tmp_path / "cache" / "numba").rglob("*.nbc"))
