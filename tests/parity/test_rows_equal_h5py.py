"""Plain chunks are read around HDF5: the same bytes as through it, whatever rows are asked for, and whatever the file is like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from ffe.store.chunks import DatasetBlocks, JoinedBlocks

ROWS, DIMS, STEP = 100, 24, 7


def make(path: Path, dtype: str = "float32", **options: object) -> np.ndarray:
    values = np.random.default_rng(0).standard_normal((ROWS, DIMS)).astype(dtype)
    with h5py.File(path, "w", libver="v110", **({"userblock_size": 512} if options.pop("userblock", False) else {})) as file:
        data = file.create_dataset("features", (ROWS, DIMS), dtype, **{"chunks": (STEP, DIMS), **options})  # type: ignore[arg-type]
        order = np.random.default_rng(1).permutation(-(-ROWS // STEP))  # chunks lie in the file as they were written
        for chunk in [*order[: len(order) // 2], *range(len(order))]:
            data[chunk * STEP : (chunk + 1) * STEP] = values[chunk * STEP : (chunk + 1) * STEP]
    return values


@pytest.mark.parametrize(
    ("directly", "options"),
    [
        (True, {}),
        (True, {"dtype": "float16"}),
        (True, {"chunks": (1, DIMS)}),
        (True, {"chunks": (ROWS, DIMS)}),
        (True, {"chunks": (STEP, DIMS), "maxshape": (None, DIMS)}),
        (False, {"dtype": ">f4"}),
        (False, {"chunks": (STEP, DIMS // 2)}),
        (False, {"chunks": None}),
        (False, {"userblock": True}),
        (True, {"compression": "gzip"}),
        (True, {"compression": "gzip", "compression_opts": 9, "dtype": "float16"}),
        (True, {"compression": "gzip", "chunks": (ROWS, DIMS)}),
        (False, {"compression": "gzip", "shuffle": True}),
        (False, {"compression": "lzf", "shuffle": True}),
        (False, {"fletcher32": True}),
    ],
    ids=str,
)
def test_any_rows(tmp_path: Path, directly: bool, options: dict[str, object]) -> None:
    values = make(tmp_path / "f.h5", **options)  # type: ignore[arg-type]
    with h5py.File(tmp_path / "f.h5") as file:
        blocks = DatasetBlocks(file["features"])
        assert (blocks._places is not None) == directly
        for first in range(0, ROWS, 5):
            for count in (0, 1, 2, STEP, STEP + 1, 31, ROWS - first):
                count = min(count, ROWS - first)
                out = np.empty((count, DIMS), blocks.dtype)
                blocks.read(first, out)
                np.testing.assert_array_equal(out, file["features"][first : first + count])
                np.testing.assert_array_equal(out, values[first : first + count])
                scattered = np.empty((2 * count, DIMS), blocks.dtype)
                blocks.read(first, [scattered[2 * i] for i in reversed(range(count))])
                np.testing.assert_array_equal(scattered[::2][::-1], out)


def test_chunks_that_were_never_written_are_read_by_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        data = file.create_dataset("features", (ROWS, DIMS), "float32", chunks=(STEP, DIMS), fillvalue=np.nan)
        data[:STEP] = 1
    with h5py.File(tmp_path / "f.h5") as file:
        blocks, out = DatasetBlocks(file["features"]), np.empty((ROWS, DIMS), np.float32)
        blocks.read(0, out)
        assert (out[:STEP] == 1).all()
        assert np.isnan(out[STEP:]).all()


def test_large_reads_go_on_where_the_system_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system call may give fewer bytes than were asked for."""
    import os

    values, real = make(tmp_path / "f.h5"), os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, buffers, at: real(fd, [memoryview(buffers[0]).cast("B")[:80]], at))
    with h5py.File(tmp_path / "f.h5") as file:
        for out in (np.empty((ROWS, DIMS), np.float32), [np.empty(DIMS, np.float32) for _ in range(ROWS)]):
            DatasetBlocks(file["features"]).read(0, out)
            np.testing.assert_array_equal(np.stack(list(out)), values)


def test_a_closed_file_is_not_read_from(tmp_path: Path) -> None:
    """Its descriptor may be another file's by then."""
    make(tmp_path / "f.h5")
    with h5py.File(tmp_path / "f.h5") as file:
        blocks = DatasetBlocks(file["features"])
    with pytest.raises(ValueError, match="the file is closed"):
        blocks.read(0, np.empty((1, DIMS), np.float32))


@pytest.mark.parametrize("runs", [[(0, 100)], [(0, 30), (31, 1), (50, 50)], [(5, 1)] * 9])
def test_runs_of_several_files(tmp_path: Path, runs: list[tuple[int, int]]) -> None:
    """The rows of a virtual file, as one slice after the other."""
    both = [make(tmp_path / "a.h5"), -make(tmp_path / "b.h5", compression="gzip")]
    with h5py.File(tmp_path / "a.h5") as a, h5py.File(tmp_path / "b.h5", "r+") as b:
        b["features"][()] = both[1]
        joined = JoinedBlocks([(DatasetBlocks(file["features"]), *run) for file in (a, b) for run in runs])
        expected = np.concatenate([values[first : first + count] for values in both for first, count in runs])
        assert joined.shape == expected.shape
        for first, count in ((0, len(expected)), (3, 1), (len(expected) - 1, 1), (len(expected) // 2 - 2, 5), (4, 0)):
            out = np.empty((count, DIMS), np.float32)
            joined.read(first, out)
            np.testing.assert_array_equal(out, expected[first : first + count])


@pytest.fixture
def on_hdf5(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.delattr("os.preadv")


def test_a_store_reads_the_same_with_and_without(fake_store: Path, on_hdf5: Callable[[], None]) -> None:
    """So it is on systems without ``preadv``."""
    from ffe.store.reader import FeatureStore

    rows = np.random.default_rng(0).integers(0, 40, 100)
    with FeatureStore(fake_store) as store:
        direct = [store.features(), store.features(rows), *(x for x, _ in store.shuffled(3))]
    on_hdf5()
    with FeatureStore(fake_store) as store:
        assert store.blocks._places is None  # type: ignore[attr-defined]
        for one, other in zip(direct, [store.features(), store.features(rows), *(x for x, _ in store.shuffled(3))], strict=True):
            np.testing.assert_array_equal(one, other)
