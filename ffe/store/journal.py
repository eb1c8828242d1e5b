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

import json
import os
import shutil
import time
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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

_MODEL = "backbone.zip"
_PART_BYTES = 64 << 20
_COMMIT_SECONDS = 5.0


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
        self.folder.mkdir(exist_ok=True)
        self._lock = (self.folder / "lock").open("w")
        try:
            _lock(self._lock, output)
        except StoreError:
            self._lock.close()
            raise
        try:
            self._read(output, overwrite)
        except StoreError:
            self.close()
            raise

    def _read(self, output: Path, overwrite: bool) -> None:
        for record in sorted(self.folder.glob("*.json")):
            part = record.with_suffix(".npy")
            try:
                content = json.loads(record.read_text("utf-8"))
                spec, names = ExtractSpec.from_json(content["spec"]), list(content["sha256"])
                height, width, channels = (int(n) for n in content["grid"])
                hashes = [int(n) for n in content.get("phash", [0] * len(names))]  # earlier versions kept none
                known = dict(zip(names, hashes, strict=True))
                whole = _whole(part, len(names), content["crc32"])
            except (ValueError, KeyError, TypeError, SpecError):
                whole = False
            if not whole or (overwrite and spec != self._spec):
                record.unlink()  # its features are computed again
                continue
            if spec != self._spec:
                differences = "; ".join(spec_differences(spec, self._spec))
                raise StaleStoreError(
                    f"An unfinished run for '{output}' made other features ({differences}); "
                    "use the options of that run, another output, or --overwrite."
                )
            self.grid = (height, width, channels)
            self._where.update({sha256: (part, i) for i, sha256 in enumerate(names)})
            self._phash.update(known)

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
        if self._writing is not None:
            self._writing.result()

    def commit(self) -> None:
        """Put all features on disk, for good, before returning."""
        self._in_background(durable=True)
        if self._writing is not None:
            self._writing.result()

    def _in_background(self, *, durable: bool) -> None:
        """Hand the pending features to the writer thread; wait first if it is a part behind."""
        if self._writing is not None:
            self._writing.result()
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
        with part.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, _header(len(pending), pending[0][1]))
            for _, row in pending:
                file.write(row.data)
        hashes = [self.phash(name) for name in names]
        self._loose.append((part, {"spec": self._spec.to_json(), "grid": self.grid, "sha256": names, "phash": hashes}))
        self._where.update({name: (part, i) for i, name in enumerate(names)})

    def _settle(self) -> None:
        """Sync the arrays that were written since the last time, then their records: now they count for every process."""
        for part, _ in self._loose:
            with part.open("rb+") as file:
                sync(file.fileno())
        for part, content in self._loose:
            content["crc32"] = _checksum(part)
            record = part.with_suffix(".json")
            with record.with_suffix(".json.tmp").open("w", encoding="utf-8") as text:
                json.dump(content, text)
                text.flush()
                sync(text.fileno())
            os.replace(record.with_suffix(".json.tmp"), record)
        sync_folder(self.folder)
        self._loose = []

    def keep_model(self, model: IrModel) -> None:
        """Keep the int8 model of this run, so that a later run can go on with the same one."""
        path = self.folder / _MODEL
        try:
            if read_ir(path).sha256 == model.sha256:
                return
        except (OSError, ValueError):
            pass  # there is none, or a damaged one
        write_ir(path.with_suffix(".tmp"), model)
        os.replace(path.with_suffix(".tmp"), path)

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
        shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """Let another process have the output; leave no folder behind that holds no parts."""
        self._open = None
        self._writer.shutdown()
        if self.folder.is_dir() and not any(self.folder.glob("*.json")) and not self._lock.closed:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()


def _folder(output: Path) -> Path:
    return output.with_name(output.name + ".partial")


def has_parts(output: Path) -> bool:
    """Return whether an unfinished run for ``output`` has left features behind."""
    return any(_folder(output).glob("*.json"))


def unfinished_model(output: Path) -> IrModel | None:
    """Return the int8 model of an unfinished run for ``output``, if there is a sound one."""
    try:
        return read_ir(_folder(output) / _MODEL) if has_parts(output) else None
    except (OSError, ValueError):
        return None


def _lock(file: IO[str], output: Path) -> None:
    """Take the lock of an output, for as long as the file stays open (where the system has such locks)."""
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise StoreError(f"Another process is writing '{output}'; wait until it is done, or choose another output.") from error


def _header(rows: int, row: np.ndarray) -> dict[str, object]:
    """Return the header of a ``.npy`` file of ``rows`` such rows."""
    return {"descr": row.dtype.str, "fortran_order": False, "shape": (rows, *row.shape)}


def _checksum(part: Path) -> int:
    """Return the CRC-32 of the values of a part; enough to tell a torn write, and fast."""
    return zlib.crc32(np.load(part, mmap_mode="r", allow_pickle=False).data)


def _whole(part: Path, rows: int, crc32: int) -> bool:
    """Return whether a part has its rows, and the very bytes that were written."""
    try:
        return len(np.load(part, mmap_mode="r", allow_pickle=False)) == rows and _checksum(part) == crc32
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
