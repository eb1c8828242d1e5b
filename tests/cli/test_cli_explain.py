"""``ffe explain``: pictures, JSON, names that do not collide, and codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from ffe.cli import cli
from ffe.images.drawings import draw


def _run(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(cli, ["explain", *map(str, arguments)], input=stdin)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photos of one name in several folders, and in two formats."""
    folder = tmp_path / "photos"
    for name in ("a/anna.png", "b/Anna.png", "b/anna.jpg", "c/anna-2.png", "c/ben.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        draw("cat", len(name), (48, 64)).save(folder / name)
    return folder


def test_each_photo_has_a_picture_of_its_own(fake_bundle: Path, photos: Path, tmp_path: Path) -> None:
    result = _run(fake_bundle, photos, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert len(lines) == 5
    assert all(f"{photos}/" in line.replace("\\", "/") and "%: " in line for line in lines)
    made = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert len({name.lower() for name in made}) == 5
    assert {"anna.png", "ben.png"} <= {name.lower() for name in made}
    with Image.open(tmp_path / "out" / "ben.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert (pixels[:, :, 0] - pixels[:, :, 1:].max(axis=2)).max() > 50  # something speaks for it
    again = _run(fake_bundle, photos, "-o", tmp_path / "out")
    assert again.stdout == result.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == made


def test_files_of_others_are_not_replaced(fake_bundle: Path, photos: Path) -> None:
    before = (photos / "c" / "ben.png").read_bytes()
    result = _run(fake_bundle, photos / "c" / "ben.png", "-o", photos / "c")
    assert result.exit_code == 0, result.output
    assert (photos / "c" / "ben.png").read_bytes() == before
    assert (photos / "c" / "ben-2.png").exists()


def test_json_has_the_cells_and_needs_no_folder(fake_bundle: Path, photos: Path, tmp_path: Path) -> None:
    photo = photos / "c" / "ben.png"
    value = json.loads(_run(fake_bundle, photo, "--json", "--class", "dog").stdout)
    assert list(value) == [
        *("path", "label", "class", "probability", "log_odds", "bias", "cells", "way", "picture", "error"),
    ]
    assert (value["path"], value["class"], value["way"], value["picture"]) == (str(photo), "dog", "features", None)
    assert np.asarray(value["cells"]).shape == (4, 4)
    value = json.loads(_run(fake_bundle, photo, "--json", "-o", tmp_path / "out").stdout)
    assert value["picture"] == str(tmp_path / "out" / "ben.png")


def test_folders_lists_and_standard_input_are_taken_as_predict_takes_them(
    fake_bundle: Path, photos: Path, tmp_path: Path
) -> None:
    photo = photos / "c" / "ben.png"
    listed = _run(fake_bundle, "-", "--json", stdin=f"{photo}\n".encode())
    assert (
        listed.stdout
        == _run(fake_bundle, photo, "--json").stdout
        == _run(fake_bundle, "-", "-0", "--json", stdin=bytes(photo)).stdout
    )
    piped = _run(fake_bundle, "-", "-o", tmp_path / "out", stdin=photo.read_bytes())
    assert piped.exit_code == 0, piped.output
    assert (tmp_path / "out" / "photo.png").exists()
    assert "Standard input is empty" in _run(fake_bundle, "-", "--json", stdin=b"").stderr


def test_what_cannot_be_read_is_said_and_the_others_are_explained(fake_bundle: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "c" / "bad.jpg").write_text("no picture")
    result = _run(fake_bundle, photos / "c", "-o", tmp_path / "out", "--strict")
    assert result.exit_code == 1
    assert f"{photos / 'c' / 'bad.jpg'}: cannot be read: it is no JPEG" in result.stderr
    assert len(result.stdout.splitlines()) == 2
    assert _run(fake_bundle, photos / "c", "-o", tmp_path / "out").exit_code == 0
    alone = _run(fake_bundle, photos / "c" / "bad.jpg", "--json")
    assert alone.exit_code == 3
    assert alone.stderr.endswith("ffe: No image could be read; give JPEG, PNG or other picture files.\n")
    assert json.loads(alone.stdout)["error"].startswith("it is no JPEG")


def test_wrong_words_are_refused(fake_bundle: Path, photos: Path, tmp_path: Path) -> None:
    photo = photos / "c" / "ben.png"
    result = _run(fake_bundle, photo)
    assert result.exit_code == 2
    assert "Nothing would be written or printed; name a folder for the pictures with -o, or add --json." in result.stderr
    result = _run(fake_bundle, photo, "--json", "--class", "cta")
    assert (result.exit_code, result.stdout) == (3, "")
    assert f"ffe: The model '{fake_bundle}' has no class 'cta'; it knows 'cat' and 'dog'. Did you mean 'cat'?" in result.stderr
    model = shutil.copy(fake_bundle, tmp_path / "m.ffe")
    result = _run(photo, model, "--json")
    assert f"The model file comes first; write 'ffe explain {model} {photo}'." in result.stderr
    assert "The path of an image is empty" in _run(model, "", "--json").stderr
