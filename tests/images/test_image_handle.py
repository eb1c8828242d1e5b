"""Images that are no files of their own."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import pytest

from ffe.base.digests import bytes_digest
from ffe.base.file_stat import Stamp
from ffe.dataset.photo_list import listed_names
from ffe.errors import DecodeError
from ffe.images.decode import read_image, too_many_bytes
from ffe.images.image_handle import ImageHandle, content_digest, is_there
from ffe.images.loader import ImageStream
from ffe.images.probe import probe_file
from ffe.images.sources import image_at
from ffe.report.thumbnails import thumbnail
from ffe.specs import PreprocessSpec


@dataclass(frozen=True)
class Held(ImageHandle):
    """An image whose content the handle has."""

    content: bytes = b""

    def read(self, max_bytes: int) -> bytes:
        if len(self.content) > max_bytes:
            raise DecodeError("too-large", too_many_bytes(max_bytes))
        return self.content


STAMP: Stamp = (7, 8)


@pytest.fixture
def held(png: bytes) -> Held:
    return Held("box#cat/1.png", STAMP, png)


@pytest.fixture(scope="module")
def png() -> bytes:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.linear_gradient("L").save(file, "PNG")
    return file.getvalue()


def test_is_read_like_a_file(held: Held, tmp_path: Path) -> None:
    file = tmp_path / "1.png"
    file.write_bytes(held.content)
    assert read_image(held) == read_image(file)
    assert probe_file(held) == probe_file(file)
    assert thumbnail(held, "1.png") == thumbnail(file, "1.png")
    assert content_digest(held) == content_digest(file) == bytes_digest(held.content)
    with ImageStream([held, file], PreprocessSpec((8, 8), "none")) as images:
        one, other = images
    assert (one.pixels == other.pixels).all()  # type: ignore[union-attr]
    assert (one.sha256, one.phash, one.stat) == (other.sha256, other.phash, STAMP)


def test_what_is_no_picture_says_so_as_of_a_file(held: Held) -> None:
    for content, reason in ((b"", "empty"), (b"words", "not-an-image")):
        with pytest.raises(DecodeError) as caught:
            read_image(Held("box#1.png", STAMP, content))
        assert caught.value.reason == reason
    with pytest.raises(DecodeError, match=r"more than 10 bytes \(--max-bytes\)"):
        read_image(held, 10)
    assert probe_file(Held("box#1.png", STAMP)).error is not None


def test_a_handle_is_a_value(held: Held) -> None:
    assert pickle.loads(pickle.dumps(held)) == held  # noqa: S301 (of our own making)
    assert (str(held), held.suffix, held.stamp, is_there(held)) == ("box#cat/1.png", ".png", STAMP, True)
    assert listed_names([held], Path()) == ["box#cat/1.png"]


def test_an_image_is_found_beside_a_list_and_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "list.csv").touch()
    assert image_at(tmp_path, "a/1.png") == image_at(tmp_path / "list.csv", "a/1.png") == tmp_path / "a/1.png"
    assert image_at(tmp_path / "gone.csv", "a/1.png") == tmp_path / "a/1.png"
    gone = image_at(tmp_path, "a/1.png")
    assert not is_there(gone)
