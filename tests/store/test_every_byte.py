"""One wrong byte, anywhere: it is found, or it changes nothing that is read."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ffe.base.feature_layout import FeatureLayout
from ffe.errors import StoreError
from ffe.specs import BackboneSpec, Compression, ExtractSpec, PreprocessSpec
from ffe.store.check import check_store
from ffe.store.reader import FeatureStore
from ffe.store.schema import Row, Skipped
from ffe.store.writer import write_store

SPEC = ExtractSpec(BackboneSpec("fake", "random", "0" * 64), PreprocessSpec((32, 32), "none"))
LAYOUT = FeatureLayout.of_shape((1, 1, 200))
FLIPS = 160


def make(path: Path, compress: Compression, count: int = 60) -> Path:
    rng = np.random.default_rng(0)
    rows = [Row(f"cät/{i}.jpg", f"{i:064x}", i % 2, "", phash=i, group=f"g{i}") for i in range(count)]
    values = {row.path: np.maximum(rng.standard_normal(200, np.float32) - 1, 0) for row in rows}
    write_store(
        path,
        spec=SPEC,
        layout=LAYOUT,
        class_names=("cat", "dog"),
        rows=rows,
        features=lambda row: values[row.path],
        skipped=[Skipped("a", "broken", "its header is damaged")],
        source="/pictures",
        compress=compress,
    )
    return path


def all_of(path: Path) -> tuple[list[str], Any]:
    """Return what verify says of the features, and everything that is read."""
    with FeatureStore(path, verify=False) as store:
        problems = [problem.text() for problem in check_store(store)]
        if problems:
            return problems, None
        fields = (store.spec, store.class_names, store.layout, store.source, store.sources, store.rows(), store.skipped)
        return [], (*fields, store.features().tobytes())


class _HangsError(BaseException):
    """Nothing catches it: a hang is no refusal."""


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail, rather than hang."""

    def stop(*rest: object) -> None:
        raise _HangsError

    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def positions(path: Path) -> np.ndarray:
    """Return seeded places in a file: half of them in the features, half in everything else."""
    size = path.stat().st_size
    features = np.zeros(size, bool)
    with h5py.File(path) as file:
        file["features"].id.chunk_iter(lambda c: features.__setitem__(slice(c.byte_offset, c.byte_offset + c.size), True))
    rng = np.random.default_rng(0)
    return np.concatenate([rng.choice(np.flatnonzero(where), FLIPS // 2, replace=False) for where in (features, ~features)])


@pytest.mark.parametrize("compress", ["none", "lzf", "gzip", "zstd"])
def test_a_wrong_byte_is_found_or_changes_nothing(tmp_path: Path, compress: Compression) -> None:
    if compress == "zstd":
        pytest.importorskip("hdf5plugin")
    path = make(tmp_path / "f.h5", compress)
    data, (sound, content) = path.read_bytes(), all_of(path)
    assert sound == []
    bad, outcomes = tmp_path / "bad.h5", {"refused": 0, "found": 0, "unchanged": 0}
    rng = np.random.default_rng(1)
    for place in positions(path).tolist():
        wrong = bytearray(data)
        wrong[place] ^= int(rng.integers(1, 256))
        bad.write_bytes(wrong)
        try:
            with within(10):
                problems, now = all_of(bad)
        except StoreError:
            outcomes["refused"] += 1
            continue
        assert problems or now == content, f"byte {place} of {len(data)}"
        outcomes["found" if problems else "unchanged"] += 1
    assert min(outcomes.values()) > FLIPS // 20, outcomes


@pytest.mark.slow
def test_every_single_byte(tmp_path: Path) -> None:
    """The same at every place of a small file."""
    path = make(tmp_path / "f.h5", "none", 8)
    data, (_, content) = path.read_bytes(), all_of(path)
    bad = tmp_path / "bad.h5"
    for place in range(len(data)):
        for bit in (1, 128):
            wrong = bytearray(data)
            wrong[place] ^= bit
            bad.write_bytes(wrong)
            with contextlib.suppress(StoreError), within(10):
                problems, now = all_of(bad)
                assert problems or now == content, place


@pytest.mark.parametrize("compress", ["none", "gzip"])
def test_damage_is_named_by_row_and_path(tmp_path: Path, compress: Compression) -> None:
    """Of plain features the one row; of compressed ones all rows of the chunk that cannot be read."""
    path = make(tmp_path / "f.h5", compress)
    with FeatureStore(path) as store:
        names = store.paths
    with h5py.File(path) as file:
        chunk = file["features"].id.get_chunk_info(0)
    data = bytearray(path.read_bytes())
    data[chunk.byte_offset + (17 * 800 + 5 if compress == "none" else 100)] ^= 1
    path.write_bytes(data)
    with FeatureStore(path) as store:
        problems = check_store(store)
        if compress == "none":
            assert [p.text() for p in problems] == [f"row 17, '{names[17]}': its features are not those that were written"]
        else:
            assert [p.row for p in problems] == list(range(60))
            assert {p.message for p in problems} == {"its features cannot be read"}
        row = problems[0].row
        assert row is not None
        sentence = (
            f"The features of '{names[row]}', row {row} of '{path}', are damaged; 'ffe verify {path} --repair' makes them again."
        )
        for read in (
            lambda: store.features(),
            lambda: store.features(np.asarray([row])),
            lambda: store.raw_row(row),
            lambda: list(store.batches(7)),
            lambda: list(store.shuffled(7)),
        ):
            with pytest.raises(StoreError) as caught:
                read()
            assert str(caught.value) == sentence
        if compress == "none":
            others = np.asarray([16, 18])
            assert np.isfinite(store.features(others)).all()
            assert len(store._rows._jobs(others)) == 1  # what lies between is read, and not looked at
    if compress == "none":
        with FeatureStore(path, verify=False) as store:
            assert len(store.features()) == 60
