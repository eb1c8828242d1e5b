"""Files -> what each of them is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ffe.base.digests import bytes_digest
from ffe.images.decode import decode
from ffe.images.drawings import draw
from ffe.images.phash import UNKNOWN
from ffe.images.probe import ending_format, probe_file, probe_files
from ffe.specs import PreprocessSpec


@pytest.mark.parametrize(
    ("mode", "ending", "format_", "colours"),
    [
        ("RGB", "jpg", "JPEG", "colour"),
        ("L", "jpg", "JPEG", "grey"),
        ("CMYK", "jpg", "JPEG", "CMYK"),
        ("RGBA", "png", "PNG", "colour, transparent"),
        ("LA", "png", "PNG", "grey, transparent"),
        ("P", "png", "PNG", "palette"),
        ("1", "png", "PNG", "black and white"),
        ("I;16", "png", "PNG", "16-bit grey"),
        ("RGB", "webp", "WEBP", "colour"),
        ("RGB", "bmp", "BMP", "colour"),
        ("P", "gif", "GIF", "palette"),
    ],
)
def test_format_and_colours(tmp_path: Path, mode: str, ending: str, format_: str, colours: str) -> None:
    file = tmp_path / f"a.{ending}"
    picture = draw("cat", 0, (30, 50))
    if mode == "I;16":
        Image.fromarray(np.asarray(picture.convert("L"), np.uint16) * 257).save(file)
    else:
        picture.convert(mode).save(file)
    found = probe_file(file)
    assert (found.format, found.colours, found.height, found.width) == (format_, colours, 30, 50)
    assert (found.sha256, found.bytes) == (bytes_digest(file.read_bytes()), file.stat().st_size)
    assert found.error is None
    assert not found.animated
    assert found.phash != UNKNOWN
    assert ending_format(file.name) == format_


def test_size_is_that_of_the_upright_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    draw("dog", 0, (30, 50)).save(tmp_path / "a.jpg", exif=exif)
    found = probe_file(tmp_path / "a.jpg")
    assert (found.height, found.width) == (50, 30)


def test_transparency_of_a_palette_counts(tmp_path: Path) -> None:
    draw("cat", 0, (20, 20)).convert("P").save(tmp_path / "a.png", transparency=0)
    assert probe_file(tmp_path / "a.png").colours == "palette, transparent"


def test_animations_are_known(tmp_path: Path) -> None:
    frames = [draw("cat", i, (20, 20)) for i in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert probe_file(tmp_path / "a.gif").animated


def test_copies_that_were_saved_again_have_nearly_the_same_fingerprint(tmp_path: Path) -> None:
    picture = draw("dog", 3, (100, 120))
    picture.save(tmp_path / "a.png")
    picture.resize((90, 75)).save(tmp_path / "b.jpg", quality=70)
    draw("dog", 4, (100, 120)).save(tmp_path / "c.png")
    a, b, c = (probe_file(tmp_path / name).phash for name in ("a.png", "b.jpg", "c.png"))
    assert (a ^ b).bit_count() <= 2 < (a ^ c).bit_count()


def test_flat_pictures_are_no_copies_of_each_other(tmp_path: Path) -> None:
    for name, colour in (("a.png", "red"), ("b.png", "white")):
        Image.new("RGB", (20, 20), colour).save(tmp_path / name)
        assert probe_file(tmp_path / name).phash == UNKNOWN


@pytest.mark.parametrize(
    ("content", "reason", "known"),
    [(b"", "empty", ""), (b"no picture", "not-an-image", ""), (b"\x89PNG\r\n\x1a\njunk", "broken", ""), (None, "missing", "")],
)
def test_files_that_cannot_be_read_are_values(tmp_path: Path, content: bytes | None, reason: str, known: str) -> None:
    file = tmp_path / "a.jpg"
    if content is not None:
        file.write_bytes(content)
    found = probe_file(file)
    assert found.error is not None
    assert (found.error.reason, found.format, found.phash) == (reason, known, UNKNOWN)


def test_damage_behind_a_sound_header_is_seen(tmp_path: Path) -> None:
    """Only decoding the whole of it shows it; what the header says is kept."""
    draw("cat", 0, (200, 300)).save(tmp_path / "whole.jpg")
    data = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) * 2 // 3])
    found = probe_file(tmp_path / "cut.jpg")
    assert found.error is not None
    assert found.error.reason == "truncated"
    assert (found.format, found.height, found.width) == ("JPEG", 200, 300)


def test_every_odd_file_is_judged_as_extraction_judges_it(shared: Path) -> None:
    """Broken ones, bombs, 16 bit, CMYK, animations."""
    files = sorted(file for file in (shared / "images" / "odd").iterdir() if file.is_file())
    for file, found in zip(files, probe_files(files), strict=True):
        try:
            decode(file.read_bytes(), PreprocessSpec((32, 32), "none"))
            reason = None
        except Exception as error:
            reason = error.reason  # type: ignore[attr-defined]
        assert (found.error.reason if found.error else None) == reason, file.name


def test_order_and_number_are_kept(pictures: Path) -> None:
    files = sorted(pictures.rglob("*.png"))
    found = list(probe_files([*files, pictures / "none.png", *files], workers=3))
    assert len(found) == 81
    assert [each.sha256 for each in found[:40]] == [bytes_digest(file.read_bytes()) for file in files]
    assert found[40].error is not None
    assert found[41:] == found[:40]


def test_a_survey_that_is_left_early_stops(pictures: Path) -> None:
    for _ in probe_files(sorted(pictures.rglob("*.png")) * 50, workers=2):
        break


@pytest.mark.parametrize(
    ("name", "kind"), [("a.JPG", "JPEG"), ("a.jpeg", "JPEG"), ("a.mpo", "JPEG"), ("a.tif", "TIFF"), ("a", ""), ("a.doc", "")]
)
def test_formats_of_endings(name: str, kind: str) -> None:
    assert ending_format(name) == kind
