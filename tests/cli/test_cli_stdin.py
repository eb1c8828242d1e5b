"""``ffe predict MODEL -``: lists of paths in whatever form programs write them, and images of all kinds."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from ffe.cli import cli
from ffe.cli.stdin import is_image

NFC, NFD = "caf\u00e9", "cafe\u0301"


@pytest.fixture(scope="module")
def names(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two cats: one whose name is ASCII, and one whose name is not."""
    folder = tmp_path_factory.mktemp("listed")
    found = [folder / "a cat.png", folder / "Kätzchen €.png"]
    for i, path in enumerate(found):
        shutil.copy(pictures / "cat" / f"cat_{i:03}.png", path)
    return [str(path) for path in found]


def predict(model: Path, stdin: bytes, *options: str) -> Result:
    return CliRunner().invoke(cli, ["predict", str(model), "-", *options], input=stdin)


def paths_of(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [answer["error"] for answer in answers] == [None] * len(answers)
    return [answer["path"] for answer in answers]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=repr)
def test_lists_of_lines(fake_bundle: Path, names: list[str], encoding: str, end: str) -> None:
    for listed in (names, names[::-1], names * 60):
        assert paths_of(predict(fake_bundle, (end.join(listed) + end).encode(encoding), "--json")) == listed
        assert paths_of(predict(fake_bundle, end.join(listed).encode(encoding), "--json")) == listed


def test_lists_that_find_print0_writes(fake_bundle: Path, names: list[str], pictures: Path, tmp_path: Path) -> None:
    lines = tmp_path / "two\nlines\r"
    shutil.copy(pictures / "cat" / "cat_000.png", lines)
    listed = [*names, str(lines)]
    for option in ("-0", "--null"):
        assert paths_of(predict(fake_bundle, "\0".join(listed).encode() + b"\0", option, "--json")) == listed
    refused = predict(fake_bundle, "\0".join(listed).encode())
    assert (refused.exit_code, refused.stdout) == (3, "")
    assert refused.stderr == (
        "ffe: Standard input is neither a picture nor a list of paths with one on each line: it holds zero bytes; "
        "for paths that end with one, as 'find -print0' writes them, add -0.\n"
    )


def test_zero_bytes_without_standard_input_are_a_usage_error(fake_bundle: Path, names: list[str]) -> None:
    result = CliRunner().invoke(cli, ["predict", str(fake_bundle), names[0], "-0"])
    assert result.exit_code == 2
    assert "-0 says how a list on standard input is written; name - among the images." in result.stderr


def test_names_that_are_no_utf8_are_predicted(fake_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    """A list stays a list wherever such a name stands in it, and the name can be read back from the JSON."""
    odd = os.fsencode(tmp_path) + b"/caf\xe9.png"
    shutil.copy(pictures / "cat" / "cat_000.png", odd)
    good = os.fsencode(pictures / "cat" / "cat_001.png")
    result = predict(fake_bundle, b"\n".join([odd, good, odd]), "--json")
    assert [os.fsencode(path) for path in paths_of(result)] == [odd, good, odd]
    assert rb"caf\udce9.png" in result.stdout_bytes
    shown = predict(fake_bundle, odd, "--top", "1")
    assert shown.stdout.startswith(f"{tmp_path}/caf\\xe9.png: ")


def test_a_name_is_found_in_either_form_and_kept_as_it_was_named(fake_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / NFD).mkdir()
    shutil.copy(pictures / "cat" / "cat_000.png", tmp_path / NFD / f"{NFD}.png")
    named = f"{tmp_path}/{NFC}/{NFC}.png"
    assert paths_of(predict(fake_bundle, named.encode(), "--json")) == [named]
    result = CliRunner().invoke(cli, ["predict", str(fake_bundle), named, f"{tmp_path}/{NFC}", "--json"])
    assert paths_of(result) == [named, f"{tmp_path}/{NFD}/{NFD}.png"]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "AVIF", "TIFF", "BMP", "JPEG2000", "PPM"])
def test_images_are_known_by_their_first_bytes(kind: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (10, 20), "red").save(file, kind)
    assert is_image(file.getvalue()[:4096])


@pytest.mark.parametrize("head", [b"\0\0\0\x18ftypheic", b"%PDF-1.7", b"8BPS\0\1", b"BM\n\0\0\0\0\0"], ids=repr)
def test_pictures_that_ffe_does_not_read_are_no_lists(head: bytes) -> None:
    assert is_image(head)


@pytest.mark.parametrize(
    "head",
    [b"P1 2 1\n0 1\n", b"P4 9 9 \1", b"P4\n8 1\n\xff", b"P5\n# by GIMP\n10 20\n255\n\xff", b"P6\n#1/a.ppm\n10\r\n20#\n255\n"],
    ids=repr,
)
def test_headers_of_pnm_are_images(head: bytes) -> None:
    assert is_image(head)


@pytest.mark.parametrize("head", [b"P6 1.ppm\nP6 2.ppm\n", b"P4 #1/photo.jpg\n", b"P5 12 a.pgm\n", b"P6 3 4.ppm\n"], ids=repr)
def test_names_that_begin_like_pnm_are_a_list(head: bytes) -> None:
    assert not is_image(head)


@pytest.mark.parametrize(
    "head", [b"", b"BM/cat.jpg\n", b"GIF89a/a.gif\n", b"P1 cat.jpg", b"II/a.tif", b"caf\xe9.png\n", b"\xff\xfeP\0"], ids=repr
)
def test_lists_are_no_images(head: bytes) -> None:
    assert not is_image(head)


def test_a_list_in_broken_utf16_is_refused(fake_bundle: Path) -> None:
    result = predict(fake_bundle, b"\xff\xfea\0\0\xdca\0")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith("ffe: The list on standard input is no UTF-16 text (")
    assert result.stderr.endswith("); save it as UTF-8.\n")
