"""Features that are computed but not yet in a finished file: ``OUTPUT.partial/``.

A run appends features under the digest of their image. They go to disk in
parts: an array, and a record that names its rows. Every few seconds the arrays
that are new are synced, and then their records are written, synced and renamed
into place. An array without a record does not count, so a run that is killed
at any instant leaves only whole parts behind, and the next run of the same
command finds them here. A run that ends well does without the last sync: the
finished file is synced instead.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from ffe.errors import SpecError, StaleStoreError, StoreError
from ffe.ir import IrModel, read_ir, write_ir
from ffe.keys import spec_differences
from ffe.specs import ExtractSpec

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

PART_ROW = 96  # bytes of a record for each row

_MODEL = "backbone.zip"
_PART_BYTES = 64 << 20
_COMMIT_SECONDS = 5.0
_HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}  # by another process


class Journal:
    """The parts of one unfinished run.

    Args:
        output: the feature file that is being made; the parts lie beside it.
        spec: what makes the features.
        overwrite: throw parts of another spec away.

    Attributes:
        grid: (h, w, c) of the features; None while there are none.
        seconds: time that writing took so far, in the background.

    Raises:
        StaleStoreError: there are parts of another spec.
        StoreError: another process is writing the same output.
    """

    def __init__(self, output: Path, spec: ExtractSpec, *, overwrite: bool = False) -> None:
        self.folder = _folder(output)
        self.grid: tuple[int, int, int] | None = None
        self.seconds = 0.0
        self._spec = spec
        self._where: dict[str, tuple[Path, int]] = {}
        self._phash: dict[str, int] = {}
        self._pending: list[tuple[str, np.ndarray]] = []
        self._pending_bytes = 0
        self._committed_at = time.monotonic()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="ffe-journal")
        self._writing: Future[None] | None = None
        self._loose: list[tuple[Path, dict[str, object]]] = []  # arrays without a record yet
        self._open: tuple[Path, np.ndarray] | None = None
        self._lasting = self._discarded = False
        self._lock = _locked(self.folder, output)
        try:
            self._read(output, overwrite)
        except (StoreError, OSError):
            self.close()
            raise

    def _read(self, output: Path, overwrite: bool) -> None:
        for path in sorted(self.folder.glob("*.json")):
            record = _record(path)
            if record is None or not _whole(record) or (overwrite and record.spec != self._spec):
                path.unlink()  # its features are computed again
                continue
            refuse_other_run(output, record, self._spec)
            self.grid = record.grid
            self._where.update({sha256: (record.part, i) for i, sha256 in enumerate(record.phash)})
            self._phash.update(record.phash)
        for path in (*self.folder.glob("*.npy"), *self.folder.glob("*.tmp")):
            if path.suffix == ".tmp" or not path.with_suffix(".json").exists():
                path.unlink()  # of a run that was killed: they only take room

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self._where

    def __len__(self) -> int:
        return len(self._where)

    def append(
        self,
        sha256: Sequence[str],
        features: Iterable[np.ndarray],
        grid: tuple[int, int, int],
        phash: Sequence[int] | None = None,
    ) -> None:
        """Take in the features (D,) of each of n images; commit if it is time. The rows are kept, not copied.

        Args:
            sha256: digest of each image.
            features: n rows, float32 (D,).
            grid: (h, w, c) of a row.
            phash: perceptual hash of each image; None = unknown.
        """
        self.grid = grid
        if phash is not None:
            self._phash.update(zip(sha256, phash, strict=True))
        for name, row in zip(sha256, features, strict=True):
            stored = np.ascontiguousarray(row, self._spec.dtype)
            self._pending.append((name, stored))
            self._pending_bytes += stored.nbytes
        due = time.monotonic() - self._committed_at >= _COMMIT_SECONDS
        if due or self._pending_bytes >= _PART_BYTES:
            self._in_background(durable=due)

    def flush(self) -> None:
        """Write all pending features, so that ``row`` finds them; a crash may still take what is not committed."""
        self._in_background(durable=False)
        self._written()

    def commit(self) -> None:
        """Put all features on disk, for good, before returning.

        Raises:
            OSError: not all of them could be written; called again it keeps what can be kept.
        """
        self._in_background(durable=True)
        self._written()

    def _written(self) -> None:
        """Wait for the writer thread; say once what went wrong in it."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _in_background(self, *, durable: bool) -> None:
        """Hand the pending features to the writer thread; wait first if it is a part behind."""
        self._written()
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        if durable:
            self._committed_at = time.monotonic()
        if pending or (durable and self._loose):
            self._writing = self._writer.submit(self._write, pending, durable)

    def _write(self, pending: list[tuple[str, np.ndarray]], durable: bool) -> None:
        started = time.monotonic()
        if pending:
            self._write_part(pending)
        if durable:
            self._settle()
        self.seconds += time.monotonic() - started

    def _write_part(self, pending: list[tuple[str, np.ndarray]]) -> None:
        """Write an array, which counts for this process only."""
        self.folder.mkdir(exist_ok=True)
        last = max((int(part.stem) for part in self.folder.glob("*.npy")), default=0)
        part = self.folder / f"{last + 1:06d}.npy"
        names = [name for name, _ in pending]
        try:
            with part.open("wb") as file:
                np.lib.format.write_array_header_1_0(file, _header(len(pending), pending[0][1]))
                for _, row in pending:
                    file.write(row.data)
        except BaseException:
            part.unlink(missing_ok=True)  # on a full disk the records of the others need the room
            raise
        hashes = [self.phash(name) for name in names]
        self._loose.append((part, {"spec": self._spec.to_json(), "grid": self.grid, "sha256": names, "phash": hashes}))
        self._where.update({name: (part, i) for i, name in enumerate(names)})

    def _settle(self) -> None:
        """Sync the arrays that were written since the last time, then their records: now they count for every process."""
        for entry in list(self._loose):
            try:
                with entry[0].open("rb+") as file:
                    sync(file.fileno())
            except BaseException:
                self._loose.remove(entry)  # what it holds on the disk nobody knows
                raise
        while self._loose:
            part, content = self._loose[0]
            content["crc32"] = _checksum(part)
            record = part.with_suffix(".json")
            with record.with_suffix(".json.tmp").open("w", encoding="utf-8") as text:
                json.dump(content, text)
                text.flush()
                sync(text.fileno())
            os.replace(record.with_suffix(".json.tmp"), record)
            del self._loose[0]
        sync_folder(self.folder)
        if not self._lasting:
            sync_folder(self.folder.parent)  # the name of the folder itself
            self._lasting = True

    def keep_model(self, model: IrModel) -> None:
        """Keep the int8 model of this run, so that a later run can go on with the same one."""
        path = self.folder / _MODEL
        try:
            if read_ir(path).sha256 == model.sha256:
                return
        except (OSError, ValueError):
            pass  # there is none, or a damaged one
        try:
            write_ir(path.with_suffix(".tmp"), model)
            os.replace(path.with_suffix(".tmp"), path)
            sync_folder(self.folder)
        finally:
            path.with_suffix(".tmp").unlink(missing_ok=True)

    def row(self, sha256: str) -> np.ndarray:
        """Return the written features (D,) of an image, as they are to be stored."""
        part, index = self._where[sha256]
        if self._open is None or self._open[0] != part:
            self._open = (part, np.asarray(np.load(part, mmap_mode="r", allow_pickle=False)))
        return self._open[1][index]

    def phash(self, sha256: str) -> int:
        """Return the perceptual hash of an image that was taken in; 0 = unknown."""
        return self._phash.get(sha256, 0)

    def discard(self) -> None:
        """Delete all parts; called once the finished file is in place."""
        self._open = None
        self._where.clear()
        _remove(self.folder)
        self._discarded = True

    def close(self) -> None:
        """Let another process have the output; leave no folder behind that holds no parts."""
        self._open = None
        self._writer.shutdown()
        if not self._discarded and not self._lock.closed and not any(self.folder.glob("*.json")):
            _remove(self.folder)  # once it is gone, one of its name is another process's
        self._lock.close()


@dataclass(frozen=True)
class Record:
    """What a part holds: ``phash`` has the digests of its images, in the order of its rows, and their fingerprints."""

    part: Path
    spec: ExtractSpec
    grid: tuple[int, int, int]
    phash: dict[str, int]
    crc32: int


def _record(path: Path) -> Record | None:
    """Read the record of a part; None if it is damaged."""
    try:
        content = json.loads(path.read_text("utf-8"))
        names = list(content["sha256"])
        height, width, channels = (int(n) for n in content["grid"])
        hashes = [int(n) for n in content.get("phash", [0] * len(names))]  # earlier versions kept none
        known = dict(zip(names, hashes, strict=True))
        spec = ExtractSpec.from_json(content["spec"])
        return Record(path.with_suffix(".npy"), spec, (height, width, channels), known, int(content["crc32"]))
    except (ValueError, KeyError, TypeError, SpecError):
        return None


def refuse_other_run(output: Path, record: Record, asked: ExtractSpec) -> None:
    """Make sure that an unfinished run made the features that are asked for.

    Raises:
        StaleStoreError: it made others.
    """
    if record.spec != asked:
        differences = "; ".join(spec_differences(record.spec, asked))
        raise StaleStoreError(
            f"An unfinished run for '{output}' made other features ({differences}); "
            "use the options of that run, another output, or --overwrite."
        )


def _folder(output: Path) -> Path:
    """Return where the parts of an output lie: the same for all names of one file."""
    real = Path(os.path.realpath(output))
    return real.with_name(real.name + ".partial")


def unfinished(output: Path) -> list[Record]:
    """Return the records of an unfinished run for ``output``; nothing is locked, checked or changed."""
    records = []
    for path in sorted(_folder(output).glob("*.json")):
        with contextlib.suppress(OSError):  # the run has just ended
            records.append(_record(path))
    return [record for record in records if record is not None]


def has_parts(output: Path) -> bool:
    """Return whether an unfinished run for ``output`` has left features behind."""
    return any(_folder(output).glob("*.json"))


def unfinished_model(output: Path) -> IrModel | None:
    """Return the int8 model of an unfinished run for ``output``, if there is a sound one."""
    try:
        return read_ir(_folder(output) / _MODEL) if has_parts(output) else None
    except (OSError, ValueError):
        return None


def _locked(folder: Path, output: Path) -> IO[str]:
    """Take the lock of an output, for as long as the file that is returned stays open (where the system has such locks)."""
    while True:
        folder.mkdir(exist_ok=True)
        try:
            file = (folder / "lock").open("w")
        except FileNotFoundError:  # a run that ended has just removed the folder
            continue
        if fcntl is None:
            return file
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            if error.errno not in _HELD:
                raise StoreError(
                    f"The disk of '{output}' has no locks ({error.strerror}), so nothing keeps another process from writing it "
                    "too; choose an output on another disk."
                ) from error
            raise StoreError(
                f"Another process is writing '{output}'; wait until it is done, or choose another output."
            ) from error
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(folder / "lock")):
                return file
        file.close()  # the lock of a run that has ended and removed it meanwhile


def _remove(folder: Path) -> None:
    """Delete a folder of parts: first what makes them count, last what keeps other processes away."""
    with contextlib.suppress(OSError):
        names = sorted(os.listdir(folder), key=lambda name: (name == "lock", not name.endswith(".json"), name))
        for name in names:
            with contextlib.suppress(OSError):
                os.unlink(folder / name)
        os.rmdir(folder)


def _header(rows: int, row: np.ndarray) -> dict[str, object]:
    """Return the header of a ``.npy`` file of ``rows`` such rows."""
    return {"descr": row.dtype.str, "fortran_order": False, "shape": (rows, *row.shape)}


def _checksum(part: Path) -> int:
    """Return the CRC-32 of the values of a part; enough to tell a torn write, and fast."""
    return zlib.crc32(np.load(part, mmap_mode="r", allow_pickle=False).data)


def _whole(record: Record) -> bool:
    """Return whether a part has its rows, and the very bytes that were written."""
    try:
        rows = len(np.load(record.part, mmap_mode="r", allow_pickle=False))
        return rows == len(record.phash) and _checksum(record.part) == record.crc32
    except (OSError, ValueError, EOFError):
        return False


def sync(descriptor: int) -> None:
    """Wait until a file's content is on the disk."""
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk (where the system can)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
