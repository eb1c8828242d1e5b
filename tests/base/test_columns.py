"""Columns say the same in memory, in a file, and where the disk is full."""

from __future__ import annotations

import errno
import random
import sys
import tracemalloc
import unicodedata
from array import array
from mmap import mmap

import numpy as np
import pytest

from ffe.base import columns, system
from ffe.base.columns import Numbers, Pairs, Texts, filled, joined
from ffe.base.digests import DigestIndex, key_of
from ffe.images.file_names import ByName, places_of


@pytest.fixture(params=["in memory", "in files", "on a full disk"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(columns, "MAPPED_BYTES", 1 << 40 if request.param == "in memory" else 1)
    if request.param == "on a full disk":
        monkeypatch.setattr(system, "_fallocate", lambda descriptor, size: errno.ENOSPC)
    return str(request.param)


def test_numbers_texts_and_keys(place: str) -> None:
    draw = random.Random(0)
    values = [draw.randrange(1 << 63) for _ in range(500)]
    numbers = Numbers("Q", values)
    assert isinstance(numbers[:].obj, mmap) == (place == "in files" and sys.platform.startswith("linux"))
    view = numbers.array()
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
    numbers.keep(400)
    numbers.extend(array("Q", values[400:]))
    numbers.put(502, 7)
    assert list(numbers) == [*values, 0, 0, 7]
    assert numbers[3:5].tolist() == values[3:5]
    assert numbers[-1] == 7
    assert view.tolist() == values  # of before it grew, as another thread may still have it
    texts = Texts(f"{value:x}\udce9ü"[draw.randrange(9) :] for value in values)
    assert [texts[i] for i in texts.order()] == sorted(texts)
    assert list(Pairs(zip(values[::2], values[1::2], strict=True)))[-1] == tuple(values[-2:])
    assert filled(iter(values), np.uint64, len(values)).tolist() == values
    index = DigestIndex(map(str, values))
    assert [index.row(str(value)) for value in values] == list(range(500))
    index.append(key_of("another"))
    index.keep(499)
    assert (len(index), "another" in index, str(values[498]) in index) == (499, False, True)


def test_few_files_are_open_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "MAPPED_BYTES", 1)
    before = len(columns._files)
    many = [Numbers("B", b"ab") for _ in range(columns._MOST_FILES + 10)]
    assert len(columns._files) == columns._MOST_FILES
    assert {bytes(numbers[:]) for numbers in many} == {b"ab"}
    del many
    assert len(columns._files) == before


def test_sequences_behind_each_other() -> None:
    assert list(joined([range(3), [], range(5, 7)])) == [0, 1, 2, 5, 6]
    assert joined([range(3), range(5, 7)])[-1] == 6
    assert list(joined([])) == []


def test_names_are_found_as_by_a_dict() -> None:
    """Also those that only look the same; the very name goes first."""
    names = [f"{i}/café {i}.jpg" if i % 3 else f"{i}.jpg" for i in range(50)]
    stored = [unicodedata.normalize("NFD", name) if i % 2 else name for i, name in enumerate(names)]
    stored.append(unicodedata.normalize("NFC", stored[1]))
    by_name = ByName((name, place) for place, name in enumerate(stored))
    for asked in (names[::-1], stored, ["none.jpg", "née.jpg"]):
        assert places_of(asked, stored).tolist() == [by_name.get(name, -1) for name in asked]
        assert places_of(asked, []).tolist() == [-1] * len(asked)
    assert places_of([], stored).tolist() == []


def test_no_two_names_have_one_place() -> None:
    """Å has three forms, and files of one folder may have all of them."""
    sign, one, two = "\u212b.jpg", "\u00c5.jpg", "A\u030a.jpg"
    assert places_of([two, one], [one]).tolist() == [-1, 0]
    assert places_of([sign, two], [one]).tolist() == [0, -1]
    assert places_of([sign, one], [two, one]).tolist() == [0, 1]
    assert places_of([one], [two, one, sign]).tolist() == [1]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere no room is reserved, so columns lie in memory")
def test_sorting_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "MAPPED_BYTES", 1)
    texts = Texts(f"{7919 * i % 20011:06d}" for i in range(20_000))
    tracemalloc.start()
    order = texts.order()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [texts[i] for i in order] == sorted(texts)
    assert peak < 4 * len(texts)
