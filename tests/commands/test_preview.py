"""Photos and their views on one sheet: which, and that they are what augment() makes."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ffe
from ffe.base.digests import bytes_digest
from ffe.commands.preview import preview
from ffe.errors import DecodeError, ReportError, SourceError, SpecError
from ffe.images.augment import augment
from ffe.images.augment_text import parse_augment
from ffe.images.decode import decode
from ffe.report.contact_sheet import Strip
from ffe.specs import AugmentSpec, PreprocessSpec

CHANGES = "flip,zoom,rotate=15,brightness"


@pytest.fixture
def strips(monkeypatch: pytest.MonkeyPatch) -> list[Strip]:
    """What was laid on the sheet."""
    from ffe.commands import preview

    found: list[Strip] = []
    draw_sheet = preview.contact_sheet

    def noted(title: str, note: str, laid: list[Strip], columns: int) -> Image.Image:
        found.extend(laid)
        return draw_sheet(title, note, laid, columns)

    monkeypatch.setattr(preview, "contact_sheet", noted)
    return found


def test_one_picture_and_its_views_in_four_rows_of_five(pictures: Path, tmp_path: Path, strips: list[Strip]) -> None:
    file = pictures / "cat" / "cat_003.png"
    result = preview(file, tmp_path / "grid.png", augment=CHANGES, size=(40, 60))
    assert (result.size, result.augment) == ((40, 60), "flip,zoom=0.5-1,rotate=15,brightness=0.8-1")
    assert [(row.path, row.label, len(row.views)) for row in result.rows] == [("cat_003.png", None, 19)]
    (strip,) = strips
    data = file.read_bytes()
    pixels = decode(data, PreprocessSpec((40, 60), "none"))
    for view, tile in enumerate(strip.tiles):
        np.testing.assert_array_equal(tile.pixels, augment(pixels, parse_augment(CHANGES), bytes_digest(data), view))
        assert tile.marked == (view == 0)
    assert strip.tiles[0].words == ("the picture itself",)
    assert [", ".join(tile.words) for tile in strip.tiles[1:]] == list(result.rows[0].views)
    assert "rotate" in result.rows[0].views[0]
    with Image.open(tmp_path / "grid.png") as sheet:
        assert 5 * 176 < sheet.width < 6 * 200
        assert sheet.height > 4 * 117


def test_a_copy_under_another_name_has_the_same_views(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    copy = shutil.copy(pictures / "cat" / "cat_000.png", tmp_path / "copy" / "other name.png")
    rows = [preview(p, tmp_path / "g.png", augment=CHANGES).rows[0] for p in (pictures / "cat" / "cat_000.png", copy)]
    assert rows[0].views == rows[1].views
    assert rows[0].path != rows[1].path


def test_the_first_picture_of_each_class_that_can_be_read(
    pictures: Path, tmp_path: Path, strips: list[Strip], caplog: pytest.LogCaptureFixture
) -> None:
    source = tmp_path / "photos"
    for kind in ("cat", "dog"):
        shutil.copytree(pictures / kind, source / kind)
    (source / "cat" / "a.jpg").write_bytes(b"no picture")
    (source / "emu").mkdir()
    (source / "emu" / "b.jpg").write_bytes(b"no picture")
    with caplog.at_level(logging.INFO, "ffe"):
        result = preview(source, tmp_path / "grid.png", augment=AugmentSpec(flip=True))
    assert [(row.path, row.label) for row in result.rows] == [("cat/cat_000.png", "cat"), ("dog/dog_000.png", "dog")]
    assert [(strip.heading, len(strip.tiles)) for strip in strips] == [("cat: cat/cat_000.png", 8), ("dog: dog/dog_000.png", 8)]
    assert {words for row in result.rows for words in row.views} == {"unchanged", "mirrored"}
    assert {tile.words for strip in strips for tile in strip.tiles[1:]} == {("unchanged",), ("mirrored",)}
    assert [record.message for record in caplog.records] == [
        f"'{source / 'cat' / 'a.jpg'}' cannot be read: it is no JPEG, PNG, GIF, WebP, AVIF, TIFF, BMP, JPEG 2000 or PNM picture",
        f"'{source / 'emu' / 'b.jpg'}' cannot be read: it is no JPEG, PNG, GIF, WebP, AVIF, TIFF, BMP, JPEG 2000 or PNM picture",
    ]


def test_an_old_sheet_in_the_source_is_no_picture_of_it(pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures / "cat", tmp_path / "cat")
    output = tmp_path / "cat" / "a_grid.png"
    for _ in range(2):
        assert preview(tmp_path, output, augment="flip").rows[0].path == "cat/cat_000.png"


def test_a_flat_folder_shows_its_first_four(pictures: Path, tmp_path: Path) -> None:
    result = preview(pictures / "cat", tmp_path / "grid.png", augment="flip", views=2)
    assert [(row.path, row.label) for row in result.rows] == [(f"cat_00{i}.png", None) for i in range(4)]
    assert {len(row.views) for row in result.rows} == {2}


def test_many_classes_are_cut_off_and_it_is_said(pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for i in range(14):
        (tmp_path / "photos" / f"{i:02}").mkdir(parents=True)
        shutil.copy(pictures / "cat" / "cat_000.png", tmp_path / "photos" / f"{i:02}")
    with caplog.at_level(logging.INFO, "ffe"):
        result = preview(tmp_path / "photos", tmp_path / "grid.png", augment="flip", views=1)
    assert [row.label for row in result.rows] == [f"{i:02}" for i in range(12)]
    assert [record.message for record in caplog.records] == ["the first 12 of 14 classes are shown; --image shows one picture"]


@pytest.mark.parametrize("image", ["dog/dog_002.png", "23", 23])
def test_one_picture_of_a_source(pictures: Path, tmp_path: Path, image: int | str) -> None:
    result = preview(pictures, tmp_path / "grid.png", augment="flip", image=image)
    assert [(row.path, row.label, len(row.views)) for row in result.rows] == [("dog/dog_002.png", "dog", 19)]


def test_a_csv_is_a_source(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(f"path,label\n{pictures / 'dog' / 'dog_000.png'},rex\n")
    result = preview(tmp_path / "list.csv", tmp_path / "grid.png", augment="flip", views=3)
    assert [(row.label, len(row.views)) for row in result.rows] == [("rex", 3)]


@pytest.mark.parametrize(
    ("arguments", "kind", "sentence"),
    [
        ({"augment": "blur"}, SpecError, "There is no change 'blur' for --augment; known are"),
        ({"views": 0}, SpecError, "views is 0, but must be from 1 to 199"),
        ({"views": 200}, SpecError, "views is 200, but must be from 1 to 199"),
        ({"size": 9000}, SpecError, r"size is 9000x9000, but must be two whole numbers from 1 to 8192"),
        (
            {"image": "cat/none.png"},
            SourceError,
            "There is no picture 'cat/none.png' in '.*'; give a number from 1 to 40, or a path in it, such as 'cat/cat_000.png'",
        ),
        ({"image": 41}, SourceError, "There is no picture '41' in '.*'; give a number from 1 to 40"),
        ({"image": "0"}, SourceError, "There is no picture '0' in '.*'"),
        ({"output": "grid.txt"}, ReportError, r"The picture 'grid\.txt' has no ending of a picture format; name it 'grid\.png'"),
        ({"source": "none"}, SourceError, "There is no file or folder 'none'; check the path"),
    ],
)
def test_what_cannot_be_drawn(pictures: Path, tmp_path: Path, arguments: dict[str, Any], kind: type, sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        preview(**{"source": pictures, "output": tmp_path / "grid.png", "augment": "flip", **arguments})
    assert list(tmp_path.iterdir()) == []


def test_pictures_that_cannot_be_read(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    bad = tmp_path / "cat" / "bad.jpg"
    bad.write_bytes(b"no picture")
    for source, image in ((bad, None), (tmp_path, 1)):
        with pytest.raises(DecodeError, match=r"'.*bad\.jpg' cannot be read: it is no JPEG, PNG, .* or PNM picture\."):
            preview(source, tmp_path / "grid.png", augment="flip", image=image)
    with pytest.raises(SourceError, match=r"No picture in '.*' could be read; 'ffe scan' says why\."):
        preview(tmp_path, tmp_path / "grid.png", augment="flip")
    with pytest.raises(SourceError, match=r"cat_000\.png' is a picture already; leave --image out, or give the folder"):
        preview(pictures / "cat" / "cat_000.png", tmp_path / "grid.png", augment="flip", image=1)


def test_it_is_public() -> None:
    assert ffe.preview is preview
