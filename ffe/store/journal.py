"""Features that are computed but not yet in a finished file: ``OUTPUT.partial/``; see docs/design/journal.md."""

from __future__ import annotations

import contextlib
import json
import os
import time
from array import array
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ffe.base.atomic import atomic_write, sync, sync_folder
from ffe.base.columns import Numbers
from ffe.base.digests import DigestIndex, bytes_digest, canonical_json, key_of
from ffe.base.feature_layout import FeatureLayout
from ffe.base.file_access import unopened
from ffe.base.openvino_ir import IrModel, read_ir, write_ir
from ffe.base.system import taken_disk
from ffe.errors import StoreError
from ffe.specs import ExtractSpec, ViewsSpec
from ffe.store.compression import crc32
from ffe.store.journal_folder import DRAFT, MODEL, delete_folder, journal_folder, lock_output, release_output
from ffe.store.journal_records import HEAD_BYTES, Record, check_same_spec, intact_rows, read_record, row_bytes

_PART_BYTES = 16 << 20
_COMMIT_SECONDS = 5.0


def names_of(views: ViewsSpec | None) -> Callable[[str, int], str]:
    """Return what names features by what made them, a view's augmentation too: (digest of the content, view) -> name."""
    made = "" if views is None else bytes_digest(canonical_json(views.augment.to_json()))[:16]
    return lambda sha256, view: f"{sha256} {view} {made}" if view else sha256


def held_in(name: Callable[[str, int], str], *places: Any) -> Callable[[str, int], bool]:
    """Return what says whether the features of (digest, view) are in one of some places, by their names there."""
    return lambda sha256, view: any(name(sha256, view) in place for place in places)


class Journal:
    """The rows of one unfinished run, beside the feature file that is being made; ``overwrite`` throws rows of another spec away.

    A StaleStoreError says that there are such rows; a StoreError, that another process is writing the same output.
    """

    def __init__(self, output: Path, spec: ExtractSpec, *, overwrite: bool = False) -> None:
        self.folder = journal_folder(output)
        self.layout: FeatureLayout | None = None  # how the features lie in a row; None while there are none
        self.seconds = 0.0  # that writing took so far, in the background
        self.reused_bytes = 0  # of the finished file that are on the disk already, once its draft was asked for
        self._spec = spec
        self._written = DigestIndex()  # the rows of the draft, in order
        self._crc32, self._phash = Numbers("I"), Numbers("Q")  # of these
        self._unrecorded: list[str] = []  # names of the last of them
        self._pending: list[tuple[str, np.ndarray | None]] = []  # None: a row that is there already, once more
        self._unwritten: dict[str, int] = {}  # names that were taken in and are no rows of the draft yet, and their fingerprints
        self._rows = 0  # that were taken in, written or not
        self._passed = 0  # rows of the finished file that this run has come by
        self._recorded = 0
        self._records = 0
        self._committed_at = time.monotonic()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="ffe-journal")
        self._writing: Future[None] | None = None
        self._file: BinaryIO | None = None
        self._reader: FileIO | None = None
        self._lasting = self._discarded = False
        self._lock = lock_output(self.folder, output)
        try:
            self._read(output, overwrite)
        except StoreError:
            self.close()
            raise
        except OSError as error:  # its rows are there still, for a run that can read them
            self.close()
            raise StoreError(unopened(Path(error.filename or self.folder), error)) from error

    def _read(self, output: Path, overwrite: bool) -> None:
        draft = self.folder / DRAFT
        for path in sorted(self.folder.glob("*.json")):
            self._records = max(self._records, int(path.stem) if path.stem.isdecimal() else 0)
            record = read_record(path)
            if record is None or (overwrite and record.spec != self._spec) or not any(sound := intact_rows(draft, record)):
                path.unlink()  # its features are computed again
                continue
            check_same_spec(output, record, self._spec)
            self._take(record, sound)
        for path in (*self.folder.glob("*.tmp*"), *self.folder.glob("*.npy")):
            path.unlink()  # of a run that was killed, or of an earlier version: they only take space
        self._written.keep_whole()  # new rows take the place of those that are lost
        self._recorded = self._rows = self._written.rows
        self._keep(self._rows)
        if not self._written:
            draft.unlink(missing_ok=True)

    def _take(self, record: Record, sound: Sequence[bool]) -> None:
        """Take in those rows of a record that are sound."""
        self.layout = record.layout
        for i, (name, whole) in enumerate(zip(record.names, sound, strict=True)):
            if whole:
                row = record.first + i
                self._crc32.put(row, record.crc32[i])
                self._phash.put(row, record.phash[i])
                self._written.put(row, key_of(name))

    def _keep(self, rows: int) -> None:
        """Forget all rows behind the first ones."""
        self._written.keep(rows)
        self._crc32.keep(rows)
        self._phash.keep(rows)

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self._written

    def __len__(self) -> int:
        return len(self._written)

    def keys(self) -> np.ndarray:
        """Return what stands for the names of all rows, see ``ffe.base.digests``: uint8 (N, 32)."""
        return self._written.keys()

    def append(
        self,
        sha256: Sequence[str],
        features: Iterable[np.ndarray | None],
        layout: FeatureLayout,
        phash: Sequence[int] | None = None,
    ) -> None:
        """Take in the features of n images, in the order of the finished file; commit if it is time. Rows are kept, not copied.

        ``features`` are n rows float32 (D,), or None for those that are here already under that digest.
        """
        self.layout = layout
        for i, (name, row) in enumerate(zip(sha256, features, strict=True)):
            if row is not None:
                self._unwritten[name] = self.phash(name) if phash is None else phash[i]
                self._pending.append((name, np.ascontiguousarray(row, self._spec.dtype)))
                self._rows += 1
            elif self._passed == self._rows and (name in self._unwritten or name in self._written):  # a copy, and the next row
                self._pending.append((name, None))
                self._rows += 1
            self._passed += 1
        due = time.monotonic() - self._committed_at >= _COMMIT_SECONDS
        if due or len(self._pending) * self._row_bytes() >= _PART_BYTES:
            self._in_background(durable=due)

    def flush(self) -> None:
        """Write all pending features, so that ``row`` finds them; a crash may still take what is not committed."""
        self._in_background(durable=False)
        self._wait()

    def commit(self) -> None:
        """Put all features on disk, for good; after an OSError it can be called again, and keeps what can be kept."""
        self._in_background(durable=True)
        self._wait()

    def _wait(self) -> None:
        """Wait for the writer thread; say once what went wrong in it."""
        if (writing := self._writing) is not None:
            try:
                writing.result()
            finally:
                if writing.done():  # else an interrupt came in between
                    self._writing = None

    def _in_background(self, *, durable: bool) -> None:
        """Hand the pending features to the writer thread; wait first if it is a part behind."""
        self._wait()
        pending, self._pending = self._pending, []
        if durable:
            self._committed_at = time.monotonic()
        if pending or (durable and self._recorded < self._written.rows):
            self._writing = self._writer.submit(self._write, pending, durable)

    def _write(self, pending: list[tuple[str, np.ndarray | None]], durable: bool) -> None:
        started = time.monotonic()
        try:
            if pending:
                self._write_rows(pending)
        finally:
            if durable:
                self._write_record()
        if not durable and len(pending) * self._row_bytes() >= _PART_BYTES:
            self._sync()  # so that little is left to wait for at the end
        self.seconds += time.monotonic() - started

    def _write_rows(self, pending: list[tuple[str, np.ndarray | None]]) -> None:
        """Append rows to the draft; they count for this process only."""
        draft, first = self._draft(), self._written.rows
        new = {name for name, row in pending if row is not None}
        pending = [item for item in pending if item[0] in new or item[0] in self._written]  # no copies of rows that were lost
        names, checksums = [name for name, _ in pending], list[int]()
        place: dict[str, int] = {}
        try:
            draft.seek(self._offset(first))
            for i, (name, row) in enumerate(pending):
                if row is None:
                    row = self.row(name) if name in self._written else pending[place[name]][1]
                assert row is not None
                place.setdefault(name, i)
                checksums.append(crc32(row))
                draft.write(row.data)
            draft.flush()
        except BaseException:
            self._truncate(first)  # on a full disk the records of the others need the space
            raise
        self._crc32.extend(array("I", checksums))
        self._phash.extend(array("Q", map(self.phash, names)))
        self._unrecorded += names
        for name in names:
            self._written.append(key_of(name))
        for name in new:
            self._unwritten.pop(name, None)

    def _write_record(self) -> None:
        """Sync the draft, then write a record of the rows that are new in it: now they count for every process."""
        first, last = self._recorded, self._written.rows
        if first == last or not (self.folder / DRAFT).exists():  # it has become the feature file
            return
        self._sync()
        assert self.layout is not None
        content = {
            "spec": self._spec.to_json(),
            "grid": self.layout.to_json(),
            "first": first,
            "names": self._unrecorded,
            "phash": self._phash[first:last].tolist(),
            "crc32": self._crc32[first:last].tolist(),
        }
        with atomic_write(self.folder / f"{self._records + 1:06d}.json") as temporary:
            temporary.write_text(json.dumps(content), "utf-8")
        self._recorded, self._records, self._unrecorded = last, self._records + 1, []
        if not self._lasting:
            sync_folder(self.folder.parent)  # the name of the folder itself
            self._lasting = True

    def _sync(self) -> None:
        """Wait until the rows are on the disk; take back those without a record if they are not: nobody knows what it holds."""
        try:
            sync(self._draft().fileno())
        except BaseException:
            first = self._recorded
            self._keep(first)
            self._unrecorded = []
            self._truncate(first)
            raise

    def _truncate(self, rows: int) -> None:
        """Give the disk back what lies behind the first rows."""
        file, self._file = self._file, None
        with contextlib.suppress(OSError):
            if file is not None:
                file.close()  # it may try to write what it still holds
        with contextlib.suppress(OSError):
            os.truncate(self.folder / DRAFT, self._offset(rows))

    def _draft(self) -> BinaryIO:
        """Return the draft, open."""
        if self._file is None:
            path = self.folder / DRAFT
            path.touch()
            self._file = path.open("rb+")
        return self._file

    def _row_bytes(self) -> int:
        assert self.layout is not None
        return row_bytes(self.layout, self._spec)

    def _offset(self, row: int) -> int:
        """Return where a row begins in the draft."""
        return HEAD_BYTES + row * self._row_bytes()

    def keep_model(self, model: IrModel) -> None:
        """Keep the int8 model of this run, so that a later run can go on with the same one."""
        path = self.folder / MODEL
        with contextlib.suppress(FileNotFoundError, ValueError):  # there is none, or a damaged one
            if read_ir(path).sha256 == model.sha256:
                return
        with atomic_write(path) as temporary:
            write_ir(temporary, model)

    def row(self, sha256: str) -> np.ndarray:
        """Return the written features (D,) of an image, as they are to be stored."""
        if (row := self._written.row(sha256)) < 0:
            raise KeyError(sha256)
        if self._reader is None:
            self._reader = (self.folder / DRAFT).open("rb", buffering=0)
        self._reader.seek(self._offset(row))
        return np.frombuffer(self._reader.read(self._row_bytes()), self._spec.dtype)

    def draft(self, names: Iterable[str]) -> Draft | None:
        """Return the draft, if its rows, all flushed, begin with those of some names, in their order; else None."""
        count = self._written.begins_with(names)
        if not count:
            return None
        if not _same_disk(self.folder, self.folder.parent):
            return None
        self._close_file()
        self.reused_bytes = taken_disk(self.folder / DRAFT)
        return Draft(self.folder / DRAFT, self._crc32.array()[:count])

    def phash(self, sha256: str) -> int:
        """Return the perceptual hash of an image that was taken in; 0 = unknown."""
        found = self._unwritten.get(sha256)
        if found is None and (row := self._written.row(sha256)) >= 0:
            found = self._phash[row]
        return found or 0

    def discard(self) -> None:
        """Delete all rows; called once the finished file is in place."""
        self._close_file()
        self._written = DigestIndex()
        delete_folder(self.folder)
        self._discarded = True

    def close(self) -> None:
        """Let another process have the output; leave no folder behind that holds no rows."""
        self._writer.shutdown()
        self._close_file()
        if not self._discarded and self._lock.is_locked and not any(self.folder.glob("*.json")):
            delete_folder(self.folder)  # once it is gone, one of its name is another process's
        release_output(self._lock)

    def _close_file(self) -> None:
        for file in (self._file, self._reader):
            if file is not None:
                file.close()
        self._file = self._reader = None


@dataclass(frozen=True)
class Draft:
    """The rows of a feature file from ``HEAD_BYTES`` on, without all else that it says; ``crc32`` of each is uint32 (N,)."""

    path: Path
    crc32: np.ndarray


def _same_disk(*folders: Path) -> bool:
    """Return whether a file can be renamed from one folder into the other: one of them may be a link."""
    return len({os.stat(folder).st_dev for folder in folders}) == 1
