"""One measure for all formats: all pixels there = taken, with a remark; some missing = not. And values that are nearly black."""

from __future__ import annotations

import io
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageFile

from ffe.cli import cli
from ffe.commands.tune import train
from ffe.commands.verify import verify
from ffe.errors import DecodeError
from ffe.extraction.run import extract
from ffe.images import decode as decoding
from ffe.images.decode import CUT, DARK, ENDLESS, UNMATCHED, decode
from ffe.images.drawings import draw
from ffe.images.limits import Limits
from ffe.images.loader import note_text
from ffe.predictor import Predictor
from ffe.specs import PreprocessSpec

FORMATS: list[tuple[str, dict[str, Any], int]] = [  # name, options, bytes behind the last pixel
    ("JPEG", {}, 2),
    ("JPEG", {"progressive": True}, 2),
    ("PNG", {}, 12),
    ("GIF", {}, 1),
    ("BMP", {}, 0),
    ("TIFF", {}, 0),
    ("PPM", {}, 0),
    ("WEBP", {"lossless": True}, 0),
]


def saved(image: Image.Image, name: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


@pytest.mark.parametrize("how", ["exact", "fast"])
@pytest.mark.parametrize(("name", "options", "behind"), FORMATS)
def test_all_pixels_there_is_taken_and_all_else_is_not(name: str, options: dict[str, Any], behind: int, how: Any) -> None:
    whole = saved(draw("cat", 3, (160, 160)), name, **options)
    notes: list[str] = []
    expected = decode(whole, PreprocessSpec((32, 32), "none", decode=how), notes=notes)
    assert notes == []
    for missing in range(1, behind + 1):
        notes = []
        np.testing.assert_array_equal(
            decode(whole[:-missing], PreprocessSpec((32, 32), "none", decode=how), notes=notes), expected
        )
        assert notes == [ENDLESS]
    for missing in (behind + len(whole) // 8, len(whole) // 2):
        with pytest.raises(DecodeError) as caught:
            decode(whole[:-missing], PreprocessSpec((32, 32), "none", decode=how))
        assert caught.value.reason == "truncated"
        if name != "WEBP":  # whose decoder gives nothing of a picture that is cut off
            notes = []
            kept = decode(
                whole[:-missing], PreprocessSpec((32, 32), "none", decode=how), notes=notes, limits=Limits(truncated="keep")
            )
            assert notes == [CUT]
            apart = np.abs(kept.astype(int) - expected)  # BMP files begin at the bottom, progressive JPEG files are coarse
            assert (apart <= 40).mean() > 0.2


def test_a_picture_without_its_directory_is_cut_off_and_cannot_be_kept() -> None:
    data = saved(draw("cat", 3, (60, 60)), "TIFF", compression="tiff_lzw")
    with pytest.raises(DecodeError) as caught:
        decode(data[: len(data) // 2], PreprocessSpec((32, 32), "none"), limits=Limits(truncated="keep"))
    assert caught.value.reason == "truncated"


def test_bytes_behind_the_end_are_no_fault() -> None:
    for name in ("PNG", "GIF", "JPEG"):
        notes: list[str] = []
        decode(saved(draw("cat", 3, (60, 60)), name) + b"IEND and more", PreprocessSpec((32, 32), "none"), notes=notes)
        assert notes == []


def test_the_switch_is_afterwards_as_the_caller_had_it() -> None:
    """Who takes pictures that are cut off in his own program goes on to do so, also in a thread that ffe decoded in."""
    switch = decoding._PerThread(True)
    switch.on = False
    assert not switch
    with ThreadPoolExecutor(1) as other:
        assert other.submit(lambda: bool(switch)).result()
    switch.on = switch.before
    assert switch


def test_keeping_is_of_one_thread_and_one_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's switch stays as it was for whoever else decodes, in this thread and in others."""
    data = saved(draw("cat", 3, (60, 60)), "PNG")[:-400]
    seen: list[bool] = []
    image_open = decoding._opened

    def opened(*arguments: Any) -> Any:
        with ThreadPoolExecutor(1) as other:
            seen.append(other.submit(lambda: bool(ImageFile.LOAD_TRUNCATED_IMAGES)).result())
        return image_open(*arguments)

    monkeypatch.setattr(decoding, "_opened", opened)
    decode(data, PreprocessSpec((32, 32), "none"), limits=Limits(truncated="keep"))
    assert seen
    assert not any(seen)
    with pytest.raises(OSError, match="truncated"):
        Image.open(io.BytesIO(data)).load()


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "TIFF of 32 bits"])
def test_values_that_use_the_lower_bits_alone_are_noted(bits: int, kind: str) -> None:
    values = np.linspace(0, 2**bits - 1, 64 * 64).reshape(64, 64)
    deep = values.astype(np.int32) if "32" in kind else values.astype(np.uint16)
    notes: list[str] = []
    decode(saved(Image.fromarray(deep), kind.partition(" ")[0]), PreprocessSpec((32, 32), "none"), notes=notes)
    assert notes == ([DARK] if bits == 12 else [])


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_colours_that_use_the_lower_bits_alone_are_noted(bits: int, kind: str) -> None:
    values = np.linspace(0, 2**bits - 1, 64 * 64 * 3).reshape(64, 64, 3).astype(np.uint16)
    notes: list[str] = []
    decode(cv2.imencode(f".{kind}", values)[1].tobytes(), PreprocessSpec((32, 32), "none"), notes=notes)
    assert notes == ([DARK] if bits == 12 else [])


@pytest.mark.parametrize(("behind", "expected"), [(12, [UNMATCHED]), (0, [ENDLESS, UNMATCHED])])
def test_a_wrong_checksum_is_noted(behind: int, expected: list[str]) -> None:
    whole = saved(draw("cat", 3, (60, 60)), "PNG")
    at = len(whole) - 13  # the last byte of the checksum of the pixels
    damaged = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 : at + 1 + behind]
    notes: list[str] = []
    np.testing.assert_array_equal(
        decode(damaged, PreprocessSpec((32, 32), "none"), notes=notes), decode(whole, PreprocessSpec((32, 32), "none"))
    )
    assert notes == expected


def test_a_dark_photo_of_8_bits_is_a_dark_photo() -> None:
    notes: list[str] = []
    decode(saved(Image.new("L", (64, 64), 3), "PNG"), PreprocessSpec((32, 32), "none"), notes=notes)
    assert notes == []


@pytest.mark.parametrize(
    ("kind", "count", "sentence"),
    [
        (
            DARK,
            1,
            "1 file uses only the lowest part of its 16 bits, and is nearly black to a backbone ('0.png'); "
            "stretch the values over the whole range, or save 8 bits",
        ),
        (
            DARK,
            5,
            "5 files use only the lowest part of their 16 bits, and are nearly black to a backbone "
            "('0.png', '1.png', '2.png' and 2 more); stretch the values over the whole range, or save 8 bits",
        ),
        (CUT, 1, "1 file is cut off and taken as far as it goes ('0.png')"),
        (CUT, 2, "2 files are cut off and taken as far as they go ('0.png' and '1.png')"),
        (ENDLESS, 1, "1 file lacks its end, but no pixel, and is taken ('0.png')"),
        (ENDLESS, 2, "2 files lack their ends, but no pixels, and are taken ('0.png' and '1.png')"),
        (
            UNMATCHED,
            1,
            "1 file does not match its checksums, and is taken ('0.png'); look at it, for the pixels may be damaged",
        ),
        (
            UNMATCHED,
            2,
            "2 files do not match their checksums, and are taken ('0.png' and '1.png'); "
            "look at them, for the pixels may be damaged",
        ),
    ],
)
def test_the_sentences(kind: str, count: int, sentence: str) -> None:
    assert note_text(kind, [f"{i}.png" for i in range(count)]) == sentence


def test_scan_and_extract_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    photos = tmp_path / "photos"
    for name in ("cat", "dog"):
        (photos / name).mkdir(parents=True)
        for i in range(4):
            (photos / name / f"{i}.jpg").write_bytes(saved(draw(name, i, (48, 48)), "JPEG"))
    (photos / "cat" / "cut.jpg").write_bytes(saved(draw("cat", 9, (48, 48)), "JPEG")[:-2])
    deep = np.linspace(0, 4095, 48 * 48).reshape(48, 48).astype(np.uint16)
    (photos / "dog" / "deep.png").write_bytes(saved(Image.fromarray(deep), "PNG"))
    damaged = bytearray(saved(draw("dog", 9, (48, 48)), "PNG"))
    damaged[-13] ^= 1
    (photos / "dog" / "damaged.png").write_bytes(damaged)
    unmatched = note_text(UNMATCHED, ["dog/damaged.png"])
    dark, endless = note_text(DARK, ["dog/deep.png"]), note_text(ENDLESS, ["cat/cut.jpg"])
    scanned = " ".join(CliRunner().invoke(cli, ["scan", str(photos)]).stdout.split())
    assert f"{dark}." in scanned
    assert f"{endless}." in scanned
    assert f"{unmatched}." in scanned
    monkeypatch.setattr(logging.getLogger("ffe"), "propagate", True)
    with caplog.at_level(logging.WARNING, "ffe"):
        summary = extract(photos, tmp_path / "f.h5", backbone="fake")
    assert (summary.rows, summary.skipped) == (11, 0)
    assert {dark, endless, unmatched} <= {record.getMessage() for record in caplog.records}


def test_keep_takes_what_was_skipped_and_predict_takes_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later run without it drops no row that the file has, as with the limits; verify finds the same pixels."""
    photos = tmp_path / "photos"
    for name in ("cat", "dog"):
        (photos / name).mkdir(parents=True)
        for i in range(5):
            (photos / name / f"{i}.png").write_bytes(saved(draw(name, i, (48, 48)), "PNG"))
    cut = photos / "cat" / "cut.png"
    cut.write_bytes(saved(draw("cat", 9, (48, 48)), "PNG")[:-300])
    features, model = tmp_path / "f.h5", tmp_path / "m.ffe"
    assert extract(photos, features, backbone="fake").skipped == 1
    kept = CliRunner().invoke(cli, ["extract", str(photos), "-o", str(features), "--backbone", "fake", "--truncated", "keep"])
    assert "1 computed, 0 skipped" in kept.stdout
    assert note_text(CUT, ["cat/cut.png"]) in kept.stderr
    assert extract(photos, features, backbone="fake").rows == 11
    assert verify(features, recompute=11, source=photos).problems == ()
    train(features, model, head="logistic")
    (refused,) = Predictor(model).predict(cut)
    assert "cut off" in str(refused.error)
    (answer,) = Predictor(model, truncated="keep").predict(cut)
    assert answer.label in {"cat", "dog"}
