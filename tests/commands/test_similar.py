"""``similar``: what is found, what is drawn, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import ffe
from ffe.cli import cli
from ffe.errors import DecodeError, ReportError, SpecError
from ffe.extraction.run import extract


@pytest.fixture
def store(pictures: Path, tmp_path: Path) -> Path:
    """Features of drawn pictures, one of which is there twice."""
    folder = tmp_path / "photos"
    shutil.copytree(pictures, folder)
    shutil.copy(folder / "cat" / "cat_003.png", folder / "cat" / "again.png")
    extract(folder, tmp_path / "features.h5", backbone="fake")
    return tmp_path / "features.h5"


def test_a_photo_finds_itself_and_its_copy(store: Path) -> None:
    found = ffe.similar(store, store.parent / "photos" / "cat" / "cat_003.png", count=3)
    assert [(one.path, one.same, one.label) for one in found.images[:2]] == [
        ("cat/again.png", True, "cat"),
        ("cat/cat_003.png", True, "cat"),
    ]
    assert [one.similarity for one in found.images[:2]] == [1.0, 1.0]
    assert not found.images[2].same
    assert found.images[2].similarity < 1
    assert found.row is None


def test_a_row_finds_others(store: Path) -> None:
    row = ffe.FeatureStore(store).paths.index("cat/cat_003.png")
    found = ffe.similar(store, row=row, count=2)
    assert (found.asked, found.row) == ("cat/cat_003.png", row)
    assert found.images[0].path == "cat/again.png"
    assert row not in {one.row for one in found.images}
    assert len(found.images) == 2
    by_photo = ffe.similar(store, store.parent / "photos" / "cat" / "cat_003.png", count=3)
    assert found.images[1].row == by_photo.images[2].row


def test_the_sheet_shows_what_was_found_and_what_is_gone(store: Path) -> None:
    (store.parent / "photos" / "cat" / "again.png").unlink()
    sheet = store.parent / "similar.png"
    answer = CliRunner().invoke(cli, ["similar", str(store), "--row", "5", "-n", "41", "--sheet", str(sheet)])
    assert answer.exit_code == 0, answer.output
    lines = answer.output.splitlines()
    assert len([line for line in lines if ".png" in line and "picture" not in line]) == 40
    picture = np.asarray(Image.open(sheet))
    grey = (picture == 236).all(axis=2)
    assert grey.any(axis=1).sum() > 150, "the one that is gone is no grey tile"
    assert (picture[:, :, 0].astype(int) != picture[:, :, 2]).any(), "no photo is drawn"


def test_refusals(store: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"^Nothing is asked for; give a photo, or the number of a row\.$"):
        ffe.similar(store)
    with pytest.raises(SpecError, match=r"^A photo and a row are asked for; give one of the two\.$"):
        ffe.similar(store, "a.png", row=1)
    with pytest.raises(SpecError, match=r"^There is no row 41: '.*features.h5' has the rows 0 to 40\.$"):
        ffe.similar(store, row=41)
    with pytest.raises(SpecError, match=r"^The number of photos to find is 0, but must be at least 1\.$"):
        ffe.similar(store, row=1, count=0)
    with pytest.raises(DecodeError, match=r"^'nope.png' cannot be read: no such file\.$"):
        ffe.similar(store, "nope.png")
    with pytest.raises(ReportError, match=r"has no ending of a picture format; name it 'sheet\.png'"):
        ffe.similar(store, row=1, sheet=tmp_path / "sheet.txt")
    text = tmp_path / "notes.txt"
    text.write_text("no picture")
    with pytest.raises(ReportError, match="exists and is no picture of ffe"):
        ffe.similar(store, row=1, sheet=text)
