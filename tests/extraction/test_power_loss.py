"""What reaches the disk when: nothing is renamed into place, or thrown away, before what it stands for is safe."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffe.base.digests import canonical_json
from ffe.base.openvino_ir import IrModel
from ffe.extraction.run import extract
from ffe.store import journal as journal_module
from ffe.store.journal import Journal


class _Disk:
    """Writes down, in order, what a run asks of the disk; paths are relative to a folder."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.calls: list[tuple[str, ...]] = []
        for name in ("fsync", "replace", "unlink", "remove", "rmdir", "mkdir"):
            patch.setattr(os, name, self._noting(name, getattr(os, name)))

    def _noting(self, name: str, inner: Any) -> Any:
        def call(*rest: Any, **options: Any) -> Any:
            paths = [os.readlink(f"/proc/self/fd/{rest[0]}")] if name == "fsync" else rest[: 2 if name == "replace" else 1]
            done = inner(*rest, **options)
            relative = [os.path.relpath(path, self.folder) for path in paths]
            if not relative[0].startswith(".."):
                self.calls.append((name, *relative))
            return done

        return call

    def position(self, *call: str) -> int:
        return self.calls.index(call)


pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="asks Linux's /proc what a descriptor is")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return (tmp_path / "out").resolve()


@pytest.fixture
def disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Disk]:
    with monkeypatch.context() as patch:
        yield _Disk(folder, patch)


def assert_synced_before_renamed(disk: _Disk) -> None:
    """Check that every file was synced under its first name, and the name afterwards, with nothing thrown away in between."""
    renames = [(i, call) for i, call in enumerate(disk.calls) if call[0] == "replace"]
    assert renames
    for i, (_, source, target) in renames:
        assert ("fsync", source) in disk.calls[:i], source
        parent = os.path.dirname(target) or "."
        after = disk.calls[i + 1 :]
        assert ("fsync", parent) in after, target
        between = after[: after.index(("fsync", parent))]
        assert not [call for call in between if call[0] in {"unlink", "remove", "rmdir"} and call[1] != source], target


def test_a_whole_run(pictures: Path, folder: Path, disk: _Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows, then their record, then the folder; the output, then its folder; and only then the records go."""
    monkeypatch.setattr(journal_module, "_COMMIT_SECONDS", 0.0)
    extract(pictures, folder / "f.h5", backbone="fake", batch_size=20)
    assert_synced_before_renamed(disk)
    parts = "f.h5.partial"
    draft, before = f"{parts}/draft", 0
    for number in ("000001", "000002"):
        record = f"{parts}/{number}.json"
        temporary = f"{record}.tmp-{os.getpid()}"
        renamed = disk.position("replace", temporary, record)
        assert before < disk.calls.index(("fsync", draft), before) < disk.position("fsync", temporary) < renamed
        assert ("fsync", parts) in disk.calls[renamed:]
        before = renamed
    assert disk.position("fsync", ".") > disk.position("mkdir", parts)  # the name of the folder
    assert disk.calls.index(("fsync", ".")) < disk.position("replace", draft, "f.h5")
    assert ("fsync", draft) in disk.calls[before : disk.position("replace", draft, "f.h5")]
    end = disk.calls[disk.position("replace", draft, "f.h5") :]
    assert end[1] == ("fsync", ".")
    thrown = [call for call in end if call[0] in {"unlink", "rmdir"} and call[1].startswith(parts)]
    assert thrown == [
        *(("unlink", f"{parts}/{number}.json") for number in ("000001", "000002")),
        ("unlink", f"{parts}/lock"),
        ("rmdir", parts),
    ]


def test_a_short_run_syncs_its_output_alone(pictures: Path, folder: Path, disk: _Disk) -> None:
    """What would be thrown away at once need not reach the disk."""
    extract(pictures, folder / "f.h5", backbone="fake")
    assert_synced_before_renamed(disk)
    assert [call for call in disk.calls if call[0] == "fsync"] == [("fsync", "f.h5.partial/draft"), ("fsync", ".")]


def test_an_unchanged_source_asks_nothing_of_the_disk(pictures: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extract(pictures, folder / "f.h5", backbone="fake")
    with monkeypatch.context() as patch:
        disk = _Disk(folder, patch)
        extract(pictures, folder / "f.h5", backbone="fake")
    assert not [call for call in disk.calls if call[0] in {"fsync", "replace"}]


def test_the_int8_model_of_a_run(folder: Path, disk: _Disk) -> None:
    from ffe.backbones.resolve import make_spec

    journal = Journal(folder / "f.h5", make_spec("fake")[0])
    journal.keep_model(IrModel(b"<net/>", np.arange(100, dtype=np.uint8)))
    journal.close()
    assert_synced_before_renamed(disk)
    assert ("replace", f"f.h5.partial/backbone.zip.tmp-{os.getpid()}", "f.h5.partial/backbone.zip") in disk.calls


def test_the_check_sees_a_missing_sync(pictures: Path, folder: Path, disk: _Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the tests above can fail."""
    monkeypatch.setattr("ffe.base.atomic.sync", lambda descriptor: None)
    extract(pictures, folder / "f.h5", backbone="fake")
    with pytest.raises(AssertionError, match=r"f\.h5\.partial/draft"):
        assert_synced_before_renamed(disk)


class _Power:
    """Cuts the power: of each file, what was written since its last sync is lost.

    A stand-in for a disk that keeps what it was told to keep and nothing else.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.safe: dict[str, bytes] = {}
        fsync, replace = os.fsync, os.replace

        def keep(descriptor: int) -> None:
            fsync(descriptor)
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            if os.path.isfile(path):
                self.safe[path] = Path(path).read_bytes()

        def moved(source: Any, target: Any) -> None:
            replace(source, target)
            self.safe[os.fspath(target)] = self.safe.pop(os.fspath(source), b"")

        patch.setattr(os, "fsync", keep)
        patch.setattr(os, "replace", moved)

    def cut(self, folder: Path) -> None:
        for path in folder.rglob("*"):
            if path.is_file():
                path.write_bytes(self.safe.get(str(path), b""))


@pytest.mark.parametrize("batches", [1, 3, 5])
def test_what_was_committed_outlives_a_loss_of_power(
    pictures: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches: int
) -> None:
    extract(pictures, tmp_path / "undisturbed.h5", backbone="fake")
    monkeypatch.setattr(journal_module, "_COMMIT_SECONDS", 0.0)
    seen: list[object] = []

    class _CutError(BaseException):
        pass

    def stop(progress: object) -> None:
        seen.append(progress)
        if len(seen) == batches + 1:
            raise _CutError

    with monkeypatch.context() as patch:
        power = _Power(patch)
        patch.setattr(Journal, "close", lambda self: (self._writer.shutdown(), self._lock.release()))
        patch.setattr(Journal, "commit", lambda self: None)  # nobody is there to say good-bye
        with pytest.raises(_CutError):
            extract(pictures, folder / "f.h5", backbone="fake", batch_size=5, progress=stop)
        power.cut(folder)
    summary = extract(pictures, folder / "f.h5", backbone="fake")
    assert 0 < summary.computed <= 40 - 5 * batches
    assert (folder / "f.h5").read_bytes() == (tmp_path / "undisturbed.h5").read_bytes()


def test_a_converted_model_in_the_cache_is_whole_or_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ffe.engines.model_cache import cached, cached_or_made

    monkeypatch.setenv("FFE_CACHE_DIR", str(folder))
    model = IrModel(b"<net/>", np.arange(100, dtype=np.uint8))
    with monkeypatch.context() as patch:
        disk, power = _Disk(folder, patch), _Power(patch)
        cached_or_made("m.zip", lambda: model)
        power.cut(folder)
    assert [call[0] for call in disk.calls if call[0] in {"fsync", "replace"}][:2] == ["fsync", "replace"]
    found = cached("m.zip")
    assert found is not None
    assert found.sha256 == model.sha256


def test_notes_are_not_worth_a_sync_but_never_half(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A note that the power took is made again."""
    from ffe.base.file_stat import write_note

    with monkeypatch.context() as patch:
        disk = _Disk(folder, patch)
        write_note(folder / "notes" / "a.json", {"a": 1})
    assert (folder / "notes" / "a.json").read_bytes() == canonical_json({"a": 1})
    assert [call[0] for call in disk.calls if call[0] != "mkdir"] == ["replace"]
    assert [file.name for file in (folder / "notes").iterdir()] == ["a.json"]
