"""All images of a source, decoded once."""

from __future__ import annotations

import errno
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ffe.base.arrays import empty_array
from ffe.base.digests import file_digest
from ffe.base.system import taken_disk
from ffe.dataset.table import ImageTable, table_of_files
from ffe.errors import DiskFullError, SourceError
from ffe.images.decode import decode
from ffe.images.limits import Limits
from ffe.images.sources import Scan, scan
from ffe.specs import PreprocessSpec
from ffe.store.writer import in_row_order


def first_cats(pictures: Path) -> Scan:
    found = scan(pictures / "cat")
    return replace(found, records=found.records[:5])


@pytest.mark.parametrize("free", [1 << 30, 8])
def test_they_are_those_that_the_decoder_gives(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    """In memory, or in a temporary file that goes with the array."""
    monkeypatch.setattr("ffe.base.arrays.free_memory", lambda: free)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    five = first_cats(pictures)
    seen: list[tuple[int, int]] = []
    preprocess = PreprocessSpec((20, 30), "none")
    found, images, skipped = table_of_files(five, (), preprocess, Limits(), progress=lambda *now: seen.append(now))
    records = in_row_order(five.records)
    assert (images.paths, skipped) == (tuple(record.path for record in records), 0)
    assert seen == [(i, 5) for i in range(1, 6)]
    assert list(images.sha256) == [file_digest(record.file) for record in records]
    for pixels, record in zip(found, records, strict=True):
        np.testing.assert_array_equal(pixels, decode(record.file.read_bytes(), PreprocessSpec((20, 30), "none")))
    assert any(tmp_path.iterdir()) == (free == 8)
    del pixels, found
    assert not any(tmp_path.iterdir())


def test_where_neither_memory_nor_the_temporary_disk_has_room_it_is_said(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a page of the map is touched: the process would die of it."""
    monkeypatch.setattr("ffe.base.arrays.free_memory", lambda: 8)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("ffe.base.system._fallocate", lambda descriptor, size: errno.ENOSPC)
    for make, sentence in (
        (lambda: table_of_files(first_cats(pictures), (), PreprocessSpec((20, 30), "none"), Limits()), "The pixels take 8.8 KiB"),
        (lambda: empty_array((3, 4)), "The features take 48 B"),
    ):
        with pytest.raises(DiskFullError) as raised:
            make()
        assert str(raised.value) == (
            f"{sentence}, more than half of the free memory, and the temporary folder '{tmp_path}' has not so much room; "
            "name a folder on another disk in the environment variable TMPDIR."
        )
    assert not any(tmp_path.iterdir())


def test_the_room_of_a_map_is_taken_before_it_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ffe.base.arrays.free_memory", lambda: 8)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    array = empty_array((1 << 10, 1 << 10))
    (file,) = tmp_path.rglob("features")
    assert array.shape == (1 << 10, 1 << 10)
    assert taken_disk(file) >= array.nbytes == file.stat().st_size


def test_what_cannot_be_read_leaves_no_row(pictures: Path, tmp_path: Path) -> None:
    for number, record in enumerate(scan(pictures).records[:3]):
        (tmp_path / f"{number}.png").write_bytes(b"no picture" if number == 1 else record.file.read_bytes())
    found, preprocess = scan(tmp_path), PreprocessSpec((8, 8), "none")
    pixels, images, skipped = table_of_files(found, (), preprocess, Limits())
    assert (images.paths, skipped) == (("0.png", "2.png"), 1)
    assert pixels.shape == (2, 8, 8, 3)
    with pytest.raises(
        SourceError, match=r"None of the 3 images could be read \(the first, '0.png': .*check the paths, and that"
    ):
        table_of_files(found, (), preprocess, Limits(bytes=5))


def test_copies_have_one_number_of_content() -> None:
    """The numbers go by digest, whatever the order of the rows."""
    table = ImageTable(("a", "b", "c", "d"), ("9", "1", "9", "5"), *[("",) * 4] * 2, (None,) * 4, np.zeros(4), np.zeros(4))
    assert table.contents().tolist() == [2, 0, 2, 1]
