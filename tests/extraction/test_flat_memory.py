"""What the driver of a run holds for each image does not grow: some bytes in columns, no object of its own."""

from __future__ import annotations

import gc
import shutil
import tracemalloc
from pathlib import Path

import pytest

from ffe.base import columns
from ffe.extraction.incremental import FoundRows
from ffe.extraction.run import extract
from ffe.images import url_source
from ffe.images.sources import list_images
from ffe.store import journal
from ffe.store.schema import Row
from tests.images.archives import class_files, put_tar, put_zip

FEW, MANY = 2_000, 12_000


def put_many(path: Path, count: int) -> None:
    """Write a list of made-up images."""
    path.write_text("path,label\n" + "".join(f"photos/image_{i:09d}.jpg,class_{i % 100:03d}\n" for i in range(count)))


def held(path: Path, count: int) -> tuple[int, int]:
    """Return the bytes that listing so many images holds, and held at the most."""
    tracemalloc.start()
    found = list_images(path)
    gc.collect()  # what only waits for it is not held
    now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.records) == count
    return now, peak


def test_a_listed_image_takes_a_hundred_bytes(tmp_path: Path) -> None:
    put_many(tmp_path / "few.csv", FEW)
    put_many(tmp_path / "many.csv", MANY)
    few, many = held(tmp_path / "few.csv", FEW), held(tmp_path / "many.csv", MANY)
    now, peak = ((more - less) / (MANY - FEW) for more, less in zip(many, few, strict=True))
    assert now < 100
    assert peak < 300


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_member_of_an_archive_takes_two_hundred_bytes(tmp_path: Path, kind: str) -> None:
    few, many = 200, 1_200
    for name, count in (("few", few), ("many", many)):
        inside = {f"class_{i % 10:03d}/image_{i:09d}.jpg": b"1" for i in range(count)}
        (put_tar if kind == "tar" else put_zip)(tmp_path / f"{name}.{kind}", inside)
    less, more = held(tmp_path / f"few.{kind}", few)[0], held(tmp_path / f"many.{kind}", many)[0]
    assert (more - less) / (many - few) < 200


def test_an_image_at_a_url_takes_three_hundred_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(url_source, "_object_at", lambda url: (url_source.ImageObject(url, (10, 1), url, None, 10), None))
    few, many = 200, 1_200
    for name, count in (("few", few), ("many", many)):
        lines = [f"memory://photos/image_{i:09d}.jpg,cat\n" for i in range(count)]
        (tmp_path / f"{name}.csv").write_text(f"path,label\n{''.join(lines)}")
    less, more = held(tmp_path / "few.csv", few)[0], held(tmp_path / "many.csv", many)[0]
    assert (more - less) / (many - few) < 300


def test_a_row_takes_sixty_bytes_and_comes_back_whole(tmp_path: Path) -> None:
    put_many(tmp_path / "many.csv", MANY)
    records = list_images(tmp_path / "many.csv").records
    tracemalloc.start()
    rows = FoundRows(records)
    for i in reversed(range(0, MANY, 2)):
        rows.put(i, f"{i:064x}", 2**64 - 1 - i, (i, -1))
    now, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert now / MANY < 70
    assert list(rows) == list(range(0, MANY, 2))
    assert rows[4] == Row(records[4].path, f"{4:064x}", records[4].label, "", 0, 2**64 - 5, "", (4, -1))
    assert 5 not in rows


def test_columns_in_files_and_in_memory_make_the_same_file(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From files and from an archive, the first time, and where nothing is new."""
    photos, made = tmp_path / "photos", dict[str, list[bytes]]()
    shutil.copytree(pictures, photos)
    (photos / "cat" / "broken.png").write_bytes(b"no picture")
    tar = put_tar(tmp_path / "photos.tar", {str(file.relative_to(photos)): file.read_bytes() for file in class_files(photos)})
    for place, least in (("memory", 1 << 40), ("files", 1)):
        monkeypatch.setattr(columns, "MAPPED_BYTES", least)
        made[place] = []
        for source in (photos, tar):
            output = tmp_path / f"{place}-{source.stem}{source.suffix}.h5"
            with monkeypatch.context() as fewer:
                fewer.setattr(journal, "_COMMIT_SECONDS", 0.0)
                assert extract(source, output, backbone="fake", batch_size=4).rows == 40
            made[place].append(output.read_bytes())
            assert extract(source, output, backbone="fake").changes.unchanged == 40
            assert output.read_bytes() == made[place][-1]
    assert made["memory"] == made["files"]
