"""Pictures with captions on one sheet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from ffe.errors import ReportError
from ffe.report import contact_sheet as letters
from ffe.report.contact_sheet import Strip, Tile, check_picture, contact_sheet, lettering, write_sheet

RED, GREEN, BLUE = (200, 30, 30), (30, 160, 60), (0, 114, 178)


def tile(colour: tuple[int, int, int], *words: str, size: tuple[int, int] = (200, 200), marked: bool = False) -> Tile:
    return Tile(np.full((*size, 3), colour, np.uint8), words, marked)


def boxes(sheet: Image.Image, colour: tuple[int, int, int]) -> list[tuple[int, int, int, int]]:
    """Return (left, top, width, height) of the fields of a colour, row by row."""
    there = (np.asarray(sheet) == colour).all(axis=2)
    found = []
    while there.any():
        top = int(np.flatnonzero(there.any(axis=1))[0])
        left = int(np.flatnonzero(there[top])[0])
        width = int(np.argmin(np.append(there[top, left:], False)))
        height = int(np.argmin(np.append(there[top:, left], False)))
        there[top : top + height, left : left + width] = False
        found.append((left, top, width, height))
    return found


def test_pictures_stand_in_rows_and_wrap() -> None:
    sheet = contact_sheet("Title", "note", [Strip("", [tile(RED, "a")] * 7)], 3)
    found = boxes(sheet, RED)
    assert [(width, height) for _, _, width, height in found] == [(200, 200)] * 7
    lefts, tops = [left for left, _, _, _ in found], [top for _, top, _, _ in found]
    assert lefts[:3] == lefts[3:6] == sorted(set(lefts))
    assert lefts[6] == lefts[0]
    assert tops == sorted(tops)
    assert len(set(tops)) == 3
    assert sheet.width - max(lefts) - 200 == min(lefts)  # the same margin on both sides
    assert max(tops) + 200 < sheet.height


@pytest.mark.parametrize(
    ("size", "shown"),
    [((200, 200), (200, 200)), ((32, 32), (176, 176)), ((100, 50), (176, 88)), ((300, 600), (144, 288)), ((1, 1000), (1, 288))],
)
def test_every_size_is_shown_in_its_own_shape(size: tuple[int, int], shown: tuple[int, int]) -> None:
    (_, _, width, height), *others = boxes(contact_sheet("Title", "", [Strip("", [tile(GREEN, "word", size=size)])], 5), GREEN)
    assert (height, width) == shown
    assert others == []


def test_the_marked_one_has_a_frame() -> None:
    sheet = contact_sheet("Title", "", [Strip("", [tile(RED, "a", marked=True), tile(RED, "a")])], 5)
    (left, top, _, _), (other, _, _, _) = boxes(sheet, RED)
    assert sheet.getpixel((left - 2, top + 50)) == BLUE
    assert sheet.getpixel((other - 2, top + 50)) != BLUE


def test_captions_take_the_lines_they_need_and_no_more() -> None:
    words = ["mirrored", "zoom ×1.30", "rotate −7°", "brightness ×1.20", "contrast ×0.93"]
    few, many = (contact_sheet("T", "", [Strip("", [tile(RED, *words[:count])])], 1).height for count in (1, 5))
    assert 20 < many - few < 80
    both = contact_sheet("T", "", [Strip("", [tile(RED, *words), tile(RED, words[0])])], 2)
    assert both.height == many


def test_headings_stand_above_their_own_row() -> None:
    strips = [Strip("cat", [tile(RED, "a")]), Strip("dog", [tile(GREEN, "a")])]
    bare = [Strip("", strip.tiles) for strip in strips]
    with_headings, without = (contact_sheet("Title", "", these, 1) for these in (strips, bare))
    assert with_headings.height > without.height
    (_, first, _, _), (_, second, _, _) = boxes(with_headings, RED)[0], boxes(with_headings, GREEN)[0]
    between = np.asarray(with_headings)[first + 200 : second]
    assert (between.min(axis=(1, 2)) < 60).sum() > 8  # dark letters: the heading of the second row


def test_a_long_title_stays_on_the_sheet() -> None:
    short, long = (
        contact_sheet("x" * count, "y" * count, [Strip("z" * count, [tile(RED, "w" * count)])], 1) for count in (3, 900)
    )
    assert long.size == short.size
    margin = np.asarray(long)[:, -20:]
    assert (margin == margin[0, 0]).all()


def test_hostile_names_are_drawn() -> None:
    name = "a\nb\x1b[31m\u202ec\udc80 猫 שלום"
    contact_sheet(name, name, [Strip(name, [tile(RED, name)])], 1)


def test_letters_that_no_font_has_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """With Pillow's own font alone."""
    monkeypatch.setattr(letters, "_FONTS", ())
    text, font = lettering("zoom ×1.3, −7° 猫", 13)
    assert text == "zoom x1.3, -7° ?"
    assert font.getlength(text) > 10


def test_letters_of_a_machine_with_fonts_are_kept() -> None:
    try:
        ImageFont.truetype("DejaVuSans.ttf", 13)
    except OSError:
        pytest.skip("no DejaVu Sans on this machine")
    assert lettering("zoom ×1.3, −7°, chó, mèo", 13)[0] == "zoom ×1.3, −7°, chó, mèo"


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "PNG"])
def test_the_ending_names_the_format(tmp_path: Path, ending: str) -> None:
    place = check_picture(tmp_path / f"grid.{ending}")
    size = write_sheet(place, Image.new("RGB", (40, 30), RED))
    assert size == place.stat().st_size
    with Image.open(place) as image:
        assert image.size == (40, 30)
    assert [file.name for file in tmp_path.iterdir()] == [place.name]
    write_sheet(check_picture(place), Image.new("RGB", (40, 40), RED))  # its own may be replaced


def test_a_photo_is_never_replaced(tmp_path: Path) -> None:
    place = tmp_path / "photo.png"
    Image.new("RGB", (9, 9), RED).save(place)
    with pytest.raises(ReportError) as error:
        check_picture(place)
    assert (
        str(error.value)
        == f"'{place}' exists and is no picture of ffe, so it is not replaced; choose another name for the picture."
    )


def test_places_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ReportError) as error:
        check_picture(tmp_path / "grid.txt")
    assert str(error.value) == f"The picture '{tmp_path / 'grid.txt'}' has no ending of a picture format; name it 'grid.png'."
    with pytest.raises(ReportError, match=r"The picture '.*grid\.hdf' has no ending of a picture format"):
        check_picture(tmp_path / "grid.hdf")
    with pytest.raises(ReportError) as error:
        check_picture(tmp_path)
    assert (
        str(error.value) == f"The picture '{tmp_path}' is a folder; give the name of a file, such as '{tmp_path / 'grid.png'}'."
    )
    with pytest.raises(ReportError, match=r"lies in a folder that does not exist \('.*none'\); create it, or choose another"):
        check_picture(tmp_path / "none" / "grid.png")
    with pytest.raises(ReportError, match=r"The picture '.*grid\.webp' cannot be written \(.*\); name it 'grid\.png'\."):
        write_sheet(tmp_path / "grid.webp", Image.new("RGB", (20000, 1)))
