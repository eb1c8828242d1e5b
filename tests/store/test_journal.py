"""Features that are computed but not yet in a finished file."""

from __future__ import annotations

import errno
import json
import threading
import zlib
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffe.base import atomic
from ffe.base.feature_layout import FeatureLayout
from ffe.errors import StaleStoreError, StoreError
from ffe.specs import BackboneSpec, ExtractSpec, PreprocessSpec
from ffe.store import journal as journal_module
from ffe.store.journal import Journal
from ffe.store.journal_records import HEAD_BYTES

SPEC = ExtractSpec(BackboneSpec("fake", "random", "0" * 64), PreprocessSpec((32, 32), "none"))
LAYOUT = FeatureLayout.of_shape((1, 2, 3))
ROWS = np.random.default_rng(0).standard_normal((9, 6)).astype(np.float32)
NAMES = [f"{i:064x}" for i in range(9)]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Where the finished file will be."""
    return tmp_path / "features.h5"


def fill(output: Path, spec: ExtractSpec = SPEC) -> Journal:
    """Write three times three rows, each with a record of its own, and let the output go."""
    journal = Journal(output, spec)
    for start in (0, 3, 6):
        journal.append(NAMES[start : start + 3], ROWS[start : start + 3], LAYOUT)
        journal.commit()
    journal.close()
    return journal


def count(output: Path) -> int:
    """Return how many rows another run would find."""
    journal = Journal(output, SPEC)
    journal.close()
    return len(journal)


def draft(output: Path) -> Path:
    return journal_folder(output) / "draft"


def place(row: int) -> int:
    """Return where a row begins in the draft."""
    return HEAD_BYTES + row * ROWS[0].nbytes


def parts(output: Path) -> list[str]:
    return sorted(path.name for path in journal_folder(output).iterdir() if path.name != "lock")


def journal_folder(output: Path) -> Path:
    return output.with_name("features.h5.partial")


def test_new_journal_is_empty_and_leaves_no_folder(output: Path) -> None:
    journal = Journal(output, SPEC)
    assert len(journal) == 0
    assert journal.layout is None
    assert NAMES[0] not in journal
    journal.commit()
    journal.close()
    assert not journal_folder(output).exists()


def test_second_writer_is_refused_and_harms_nothing(output: Path) -> None:
    first = Journal(output, SPEC)
    with pytest.raises(
        StoreError, match=r"Another process is writing '.*features\.h5'; wait until it is done, or choose another"
    ):
        Journal(output, SPEC)
    first.append(NAMES[:3], ROWS[:3], LAYOUT)
    first.commit()
    with pytest.raises(StoreError, match="Another process is writing"):
        Journal(output, SPEC)
    first.close()
    assert count(output) == 3


def test_overwriting_drops_rows_of_another_spec_and_keeps_its_own(output: Path) -> None:
    fill(output)
    kept = Journal(output, SPEC, overwrite=True)
    assert len(kept) == 9
    kept.close()
    other = Journal(output, replace(SPEC, dtype="float16"), overwrite=True)
    assert len(other) == 0
    other.close()
    assert not journal_folder(output).exists()


@pytest.mark.parametrize("row", range(9))
def test_row_with_a_flipped_byte_is_dropped_alone(output: Path, row: int) -> None:
    fill(output)
    data = bytearray(draft(output).read_bytes())
    data[place(row) + 5] ^= 1
    draft(output).write_bytes(data)
    again = Journal(output, SPEC)
    assert [name in again for name in NAMES] == [i != row for i in range(9)]
    again.close()


def test_rows_survive(output: Path) -> None:
    fill(output)
    again = Journal(output, SPEC)
    assert len(again) == 9
    assert again.layout == LAYOUT
    for i in (8, 0, 4, 3, 0):
        assert NAMES[i] in again
        np.testing.assert_array_equal(again.row(NAMES[i]), ROWS[i])
    assert parts(output) == ["000001.json", "000002.json", "000003.json", "draft"]


def test_fingerprints_survive(output: Path) -> None:
    hashes = [2**64 - 1 - i for i in range(3)]
    journal = Journal(output, SPEC)
    journal.append(NAMES[:3], ROWS[:3], LAYOUT, hashes)
    assert journal.phash(NAMES[0]) == hashes[0]  # at once: a copy may be the next file
    journal.append(NAMES[3:6], ROWS[3:6], LAYOUT)
    journal.commit()
    journal.close()
    again = Journal(output, SPEC)
    assert [again.phash(name) for name in NAMES] == [*hashes, *[0] * 6]


def test_record_with_too_few_fingerprints_drops_its_rows(output: Path) -> None:
    fill(output)
    record = journal_folder(output) / "000002.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "phash": [1, 2]}))
    assert count(output) == 6


def test_rows_have_the_stored_type(output: Path) -> None:
    journal = fill(output, replace(SPEC, dtype="float16"))
    assert journal.row(NAMES[5]).dtype == np.float16
    np.testing.assert_array_equal(journal.row(NAMES[5]), ROWS[5].astype(np.float16))


def test_what_is_not_committed_does_not_count(output: Path) -> None:
    journal = Journal(output, SPEC)
    journal.append(NAMES[:3], ROWS[:3], LAYOUT)
    assert len(journal) == 0
    assert NAMES[0] not in journal
    assert parts(output) == []
    journal.commit()
    journal.close()
    assert len(journal) == count(output) == 3


@pytest.mark.parametrize(("name", "value"), [("_PART_BYTES", 3 * 6 * 4), ("_COMMIT_SECONDS", 0.0)])
def test_writes_by_itself_when_it_is_time(output: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: float) -> None:
    """Much that waits goes to a file; a record, which makes it count for other processes, comes every few seconds."""
    monkeypatch.setattr(journal_module, name, value)
    journal = Journal(output, SPEC)
    journal.append(NAMES[:3], ROWS[:3], LAYOUT)
    journal.append(NAMES[3:6], ROWS[3:6], LAYOUT)  # waits for the part before
    assert NAMES[0] in journal
    assert ("000001.json" in parts(output)) == (name == "_COMMIT_SECONDS")
    journal.commit()
    journal.close()
    assert count(output) == 6


def test_flushed_rows_can_be_read_and_do_not_outlive_a_crash(output: Path) -> None:
    journal = Journal(output, SPEC)
    journal.append(NAMES[:3], ROWS[:3], LAYOUT)
    journal.flush()
    np.testing.assert_array_equal(journal.row(NAMES[1]), ROWS[1])
    assert not [name for name in parts(output) if name.endswith(".json")]
    journal.close()
    assert count(output) == 0


def test_records_are_written_after_their_rows_are_synced(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever instant the power fails at, a record that is there has its rows."""
    done: list[str] = []
    replace_, sync_ = atomic.os.replace, atomic.sync

    def noting_sync(descriptor: int) -> None:
        done.append("sync")
        sync_(descriptor)

    def noting_replace(source: Path, target: Path) -> None:
        done.append(f"record {Path(target).name}")
        replace_(source, target)

    for module in (atomic, journal_module):
        monkeypatch.setattr(module, "sync", noting_sync)
    monkeypatch.setattr(atomic.os, "replace", noting_replace)
    journal = Journal(output, SPEC)
    for start in (0, 3):
        journal.append(NAMES[start : start + 3], ROWS[start : start + 3], LAYOUT)
        journal.flush()
    assert done == []
    journal.commit()
    assert done == ["sync", "sync", "record 000001.json"]
    journal.close()


def test_much_that_is_written_is_synced_before_its_record_is_due(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that little is left to wait for at the end."""
    done: list[int] = []
    monkeypatch.setattr(journal_module, "sync", done.append)
    monkeypatch.setattr(journal_module, "_PART_BYTES", 3 * ROWS[0].nbytes)
    journal = Journal(output, SPEC)
    for start in (0, 3, 6):
        journal.append(NAMES[start : start + 3], ROWS[start : start + 3], LAYOUT)
    journal.flush()
    assert len(done) == 3
    assert parts(output) == ["draft"]
    journal.close()


def test_a_draft_that_ends_too_early_is_gone_on_with(output: Path) -> None:
    """What is lost of it is computed again, into the same place."""
    fill(output)
    whole = draft(output).read_bytes()
    draft(output).write_bytes(whole[: place(4) + 5])
    again = Journal(output, SPEC)
    assert [name in again for name in NAMES] == [True] * 4 + [False] * 5
    assert "000003.json" not in parts(output)
    again.append(NAMES[:4], [None] * 4, LAYOUT)
    again.append(NAMES[4:], ROWS[4:], LAYOUT)
    again.commit()
    assert draft(output).read_bytes() == whole
    assert again.draft(NAMES) is not None
    again.close()
    assert count(output) == 9


@pytest.mark.parametrize("content", [b"", b"no features"])
def test_damaged_draft_is_dropped(output: Path, content: bytes) -> None:
    fill(output)
    draft(output).write_bytes(content)
    assert count(output) == 0
    assert not journal_folder(output).exists()


def test_missing_draft_is_none(output: Path) -> None:
    fill(output)
    draft(output).unlink()
    assert count(output) == 0


def test_rows_without_a_record_do_not_count(output: Path) -> None:
    """The run was killed between the rows and their record; new rows take their place."""
    fill(output)
    (journal_folder(output) / "000003.json").unlink()
    again = Journal(output, SPEC)
    assert len(again) == 6
    again.append(NAMES[7:9], ROWS[7:9], LAYOUT)
    again.commit()
    again.close()
    healed = Journal(output, SPEC)
    assert len(healed) == 8
    np.testing.assert_array_equal(healed.row(NAMES[7]), ROWS[7])
    assert healed.draft([*NAMES[:6], *NAMES[7:]]) is not None
    healed.close()


def test_draft_has_the_rows_in_their_places_with_their_checksums(output: Path) -> None:
    journal = fill(output)
    found = journal.draft(NAMES)
    assert found is not None
    assert found.path.read_bytes()[HEAD_BYTES:] == ROWS.tobytes()
    assert found.crc32.tolist() == [zlib.crc32(row.tobytes()) for row in ROWS]
    assert found.crc32.dtype == np.uint32


def test_draft_of_fewer_rows_is_none_of_more_or_of_others(output: Path) -> None:
    journal = fill(output)
    fewer = journal.draft(NAMES[:5])  # the others were of files that are gone
    assert fewer is not None
    assert len(fewer.crc32) == 5
    for names in ([], [*NAMES, "f" * 64], NAMES[1:], [NAMES[1], NAMES[0], *NAMES[2:]], [NAMES[0], *NAMES]):
        assert journal.draft(names) is None


def test_copies_have_their_own_rows(output: Path) -> None:
    """In the same call, a later one, and a run that goes on: each where the finished file will have it."""
    wanted = [0, 0, 1, 2, 1, 3, 0, 3, 4]
    journal = Journal(output, SPEC)
    journal.append([NAMES[i] for i in wanted[:3]], [ROWS[0], None, ROWS[1]], LAYOUT)
    journal.append([NAMES[2], NAMES[1]], [ROWS[2], None], LAYOUT)
    journal.commit()
    journal.close()
    again = Journal(output, SPEC)
    assert len(again) == 3
    again.append([NAMES[i] for i in wanted[:5]], [None] * 5, LAYOUT)
    again.append([NAMES[i] for i in wanted[5:]], [ROWS[3], None, None, ROWS[4]], LAYOUT)
    again.flush()
    found = again.draft([NAMES[i] for i in wanted])
    assert found is not None
    assert found.path.read_bytes()[HEAD_BYTES:] == ROWS[wanted].tobytes()
    again.close()


def test_rows_that_the_feature_file_has_are_passed_by(output: Path) -> None:
    journal = Journal(output, SPEC)
    journal.append(NAMES[:3], [None, ROWS[1], None], LAYOUT)
    journal.flush()
    assert [name in journal for name in NAMES[:3]] == [False, True, False]
    assert journal.draft(NAMES[:3]) is None
    np.testing.assert_array_equal(journal.row(NAMES[1]), ROWS[1])
    journal.close()


def test_an_interrupt_that_comes_while_the_disk_is_busy(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it is busy with is not lost."""
    gate, write, result = threading.Event(), Journal._write_rows, Future.result

    def slowly(self: Journal, pending: Any) -> None:
        assert gate.wait(30)
        write(self, pending)

    def interrupted(self: Future[None], timeout: float | None = None) -> None:
        monkeypatch.setattr(Future, "result", result)
        raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "_write_rows", slowly)
    monkeypatch.setattr(Future, "result", interrupted)
    journal = Journal(output, SPEC)
    journal.append(NAMES[:5], ROWS[:5], LAYOUT)
    with pytest.raises(KeyboardInterrupt):
        journal.flush()
    gate.set()
    journal.append(NAMES[5:], ROWS[5:], LAYOUT)
    journal.commit()
    journal.close()
    assert count(output) == 9


def test_a_full_disk_gets_back_what_was_half_written(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record of the rows before needs the room."""
    journal = Journal(output, SPEC)
    journal.append(NAMES[:3], ROWS[:3], LAYOUT)
    journal.flush()
    checksum, left = journal_module.crc32, [4]

    def full(row: np.ndarray) -> int:
        left[0] -= 1
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return checksum(row)

    with monkeypatch.context() as patch:
        patch.setattr(journal_module, "crc32", full)
        journal.append(NAMES[3:], ROWS[3:], LAYOUT)
        with pytest.raises(OSError, match="No space left"):
            journal.flush()
    assert draft(output).stat().st_size == place(3)
    journal.commit()
    journal.close()
    assert count(output) == 3


@pytest.mark.parametrize("content", [b"", b'{"spec": {', b"\xff\xfe", b"{}"])
def test_damaged_record_drops_its_rows(output: Path, content: bytes) -> None:
    fill(output)
    (journal_folder(output) / "000002.json").write_bytes(content)
    again = Journal(output, SPEC)
    assert [name in again for name in NAMES] == [True] * 3 + [False] * 3 + [True] * 3


def test_half_written_files_are_passed_over(output: Path) -> None:
    fill(output)
    (journal_folder(output) / "draft.tmp").write_bytes(b"half")
    (journal_folder(output) / "000004.json.tmp").write_bytes(b"{")
    assert count(output) == 9


def test_rows_of_another_spec_are_refused(output: Path) -> None:
    fill(output)
    other = replace(SPEC, preprocess=PreprocessSpec((64, 64), "none"))
    sentence = (
        r"An unfinished run for '.*features\.h5' made other features \(preprocess\.size: stored 32x32, asked 64x64\); "
        r"use the options of that run, another output, or --overwrite \(in Python overwrite=True\)\."
    )
    with pytest.raises(StaleStoreError, match=sentence):
        Journal(output, other)
    assert count(output) == 9  # and nothing was lost by asking


def test_discard_leaves_nothing(output: Path) -> None:
    fill(output).discard()
    assert not journal_folder(output).exists()


def test_a_disk_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*rest: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    with pytest.raises(StoreError) as caught:
        Journal(tmp_path / "f.h5", SPEC)
    assert str(caught.value) == (
        f"The disk of '{tmp_path / 'f.h5'}' has no locks (No locks available), so nothing keeps another process from writing it "
        "too; choose an output on another disk."
    )
