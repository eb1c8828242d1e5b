"""Small pictures inside a page."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ffe.images.decode import upright_size
from ffe.report.thumbnails import Album, thumbnail


def opened(uri: str) -> Image.Image:
    kind, data = uri.split(",", 1)
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def tile(uri: str) -> str:
    kind, data = uri.split(",", 1)
    assert kind == "data:image/svg+xml;base64"
    return base64.b64decode(data).decode()


@pytest.mark.parametrize(
    ("size", "small"), [((400, 200), (160, 80)), ((200, 400), (80, 160)), ((48, 32), (48, 32)), ((2000, 3), (160, 1))]
)
def test_a_picture_keeps_its_shape_and_is_not_enlarged(tmp_path: Path, size: tuple[int, int], small: tuple[int, int]) -> None:
    Image.new("RGB", size, "red").save(tmp_path / "x.png")
    made = thumbnail(tmp_path / "x.png", "x.png")
    assert (made.width, made.height) == opened(made.uri).size == small
    assert made.found


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_upright(tmp_path: Path, orientation: int) -> None:
    """The upper left corner of the scene is white, wherever it lies in the file."""
    scene = np.zeros((100, 200, 3), np.uint8)
    scene[:50, :100] = 255
    back = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # Pillow's transpositions that undo it
    lying = Image.fromarray(scene) if back is None else Image.fromarray(scene).transpose(Image.Transpose(back))
    exif = Image.Exif()
    exif[0x0112] = orientation
    lying.save(tmp_path / "x.jpg", exif=exif, quality=95)
    assert upright_size((tmp_path / "x.jpg").read_bytes()) == (100, 200)
    made = opened(thumbnail(tmp_path / "x.jpg", "x.jpg").uri)
    assert made.size == (160, 80)
    pixels = np.asarray(made.convert("L"), np.float64)
    assert pixels[:36, :76].mean() > 240
    assert pixels[44:].mean() < 15
    assert pixels[:36, 84:].mean() < 15


def test_real_photos_are_small(shared: Path) -> None:
    files = sorted((shared / "images" / "flowers" / "rose").iterdir())[:12]
    made = [thumbnail(file, file.name) for file in files]
    assert all(picture.found and max(picture.width, picture.height) == 160 for picture in made)
    assert np.mean([len(picture.uri) for picture in made]) < 8000


def test_what_is_gone_or_damaged_gives_a_tile_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    for file in (None, tmp_path / "gone.jpg", tmp_path, tmp_path / "text.jpg", tmp_path / "cut.jpg", Path("a\0b")):
        made = thumbnail(file, "some/folder/<b>&'\"\x1b\udc80.jpg")
        assert not made.found
        assert (made.width, made.height) == (160, 160)
        words = tile(made.uri)
        assert "&lt;b&gt;&amp;" in words
        assert "\x1b" not in words
        assert "folder" not in words
    assert tile(thumbnail(None, "x" * 10_000).uri).count("<text") <= 4


def test_an_album_keeps_its_order(pictures: Path) -> None:
    files = [(file, file.name) for file in sorted(pictures.rglob("*.png"))] + [(None, "gone")]
    album = Album()
    keys = [album.key(*item) for item in files]
    album.make()
    assert keys == [album.key(*item) for item in files] == list(range(len(files)))
    assert [album[key] for key in keys] == [thumbnail(*item) for item in files]
    assert album.gone == 1
