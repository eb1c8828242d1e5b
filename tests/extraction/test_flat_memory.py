"""What the driver of a run holds for each image does not grow: some bytes in columns, no object of its own."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

from ffe.extraction.feature_file import FoundRows
from ffe.images.sources import list_images
from ffe.store.schema import Row

FEW, MANY = 2_000, 12_000


def held(path: Path, count: int) -> tuple[int, int]:
    """Return the bytes that listing so many made-up images holds, and held at the most."""
    path.write_text("path,label\n" + "".join(f"photos/image_{i:09d}.jpg,class_{i % 100:03d}\n" for i in range(count)))
    tracemalloc.start()
    found = list_images(path)
    now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.records) == count
    return now, peak


def test_a_listed_image_takes_a_hundred_bytes(tmp_path: Path) -> None:
    few, many = held(tmp_path / "few.csv", FEW), held(tmp_path / "many.csv", MANY)
    now, peak = ((more - less) / (MANY - FEW) for more, less in zip(many, few, strict=True))
    assert now < 100
    assert peak < 300


def test_a_row_takes_sixty_bytes_and_comes_back_whole(tmp_path: Path) -> None:
    held(tmp_path / "many.csv", MANY)
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
