"""Whether a file is still the one that was read, told from its size and times of change."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from ffe.base import file_stat
from ffe.base.digests import bytes_digest
from ffe.base.file_stat import NO_STAMP, remembered_digest, stamp_now, stamp_to_keep
from ffe.base.system import cache_root

PRODUCT = 2_000_000_000  # what tests/conftest.py takes away
DAY = 24 * 3600


@pytest.fixture(autouse=True)
def window(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(file_stat, "RACY_NS", PRODUCT)
    monkeypatch.setenv("FFE_CACHE_DIR", str(tmp_path / "cache"))


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let so much time pass."""
    now = time.time_ns
    monkeypatch.setattr(file_stat.time, "time_ns", lambda: now() + int(seconds * 1e9))


def test_a_file_that_has_just_changed_has_no_stamp_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may change again within one tick of the clock; two seconds later it could not without a trace."""
    (tmp_path / "a").write_bytes(b"12345")
    assert stamp_to_keep(tmp_path / "a") == NO_STAMP
    later(monkeypatch, 1.5)
    assert stamp_to_keep(tmp_path / "a") == NO_STAMP
    later(monkeypatch, 1.0)
    status = os.stat(tmp_path / "a")
    assert stamp_to_keep(tmp_path / "a") == stamp_now(tmp_path / "a") == (5, max(status.st_mtime_ns, status.st_ctime_ns))


@pytest.mark.parametrize("ahead", [10, 40 * 365 * DAY, 500 * 365 * DAY])
def test_a_time_in_the_future_is_never_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: int) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    os.utime(tmp_path / "a", (time.time() + ahead,) * 2)
    later(monkeypatch, 5)
    assert stamp_to_keep(tmp_path / "a") == NO_STAMP


def test_a_missing_file_has_none(tmp_path: Path) -> None:
    assert stamp_now(tmp_path / "a") == stamp_to_keep(tmp_path / "a") == stamp_now(tmp_path / "a\0b") == NO_STAMP


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps no time of change of the entry")
def test_content_that_changes_behind_an_unchanged_size_and_mtime_is_seen(tmp_path: Path) -> None:
    """As archives, ``cp -p`` and editors of metadata leave it."""
    file = tmp_path / "a"
    file.write_bytes(b"12345")
    os.utime(file, (1e9, 1e9))
    before = stamp_now(file)
    time.sleep(0.02)  # more than a tick of the file system's clock
    file.write_bytes(b"54321")
    os.utime(file, (1e9, 1e9))
    assert (os.stat(file).st_size, os.stat(file).st_mtime) == (5, 1e9)
    assert stamp_now(file) != before


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is worth a note, and old enough for one."""
    monkeypatch.setattr(file_stat, "_WORTH_BYTES", 100)
    later(monkeypatch, 60)
    (tmp_path / "weights").write_bytes(b"w" * 1000)
    return tmp_path / "weights"


def count_hashes(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    hashed: list[Path] = []
    whole = file_stat.file_digest
    monkeypatch.setattr(file_stat, "file_digest", lambda path: (hashed.append(path), whole(path))[1])
    return hashed


def test_a_digest_is_computed_once(large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = count_hashes(monkeypatch)
    digests = {remembered_digest(large) for _ in range(3)}
    (tmp_path / "link").symlink_to(large)
    digests.add(remembered_digest(tmp_path / "link"))
    assert digests == {bytes_digest(b"w" * 1000)}
    assert hashed == [large]


def test_a_changed_file_is_hashed_again(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remembered_digest(large)
    time.sleep(0.02)
    large.write_bytes(b"v" * 1000)
    assert remembered_digest(large) == bytes_digest(b"v" * 1000)


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b'{"stamp": 1}', b'{"stamp": null, "sha256": 3}', None])
def test_a_damaged_note_is_made_again(large: Path, monkeypatch: pytest.MonkeyPatch, note: bytes | None) -> None:
    remembered_digest(large)
    (path,) = (cache_root() / "digests").iterdir()
    content = json.loads(path.read_text())
    path.write_bytes(json.dumps({**content, "sha256": "short"}).encode() if note is None else note)
    hashed = count_hashes(monkeypatch)
    assert [remembered_digest(large) for _ in range(2)] == [bytes_digest(b"w" * 1000)] * 2
    assert hashed == [large]


def test_small_files_and_new_ones_leave_no_note(large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "small").write_bytes(b"w" * 99)
    assert remembered_digest(tmp_path / "small") == bytes_digest(b"w" * 99)
    later(monkeypatch, -60)
    assert remembered_digest(large) == bytes_digest(b"w" * 1000)
    assert not cache_root().exists()


def test_a_cache_that_cannot_be_written_costs_time_only(large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FFE_CACHE_DIR", str(tmp_path / "file"))
    assert remembered_digest(large) == bytes_digest(b"w" * 1000)
