"""Each of the awkward files, by name: the right picture or a reason, by both ways of decoding, in extraction and prediction."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from ffe.cli import cli
from ffe.commands.tune import train
from ffe.errors import DecodeError
from ffe.images.decode import decode, read_image
from ffe.specs import Decode, PreprocessSpec
from ffe.store.reader import FeatureStore

Colour = tuple[int, int, int]

HOPPER = ((94, 73, 81), (108, 117, 155), (81, 57, 54), (76, 74, 93))
LANDSCAPE = ((138, 168, 203), (93, 108, 126), (81, 95, 103), (82, 92, 104))
PORTRAIT = ((145, 159, 168), (178, 188, 196), (122, 133, 139), (132, 143, 149))
DICE = ((181, 166, 209), (188, 199, 173), (237, 223, 218), (238, 223, 217))
GREY_HOPPER = ((80,) * 3, (118,) * 3, (63,) * 3, (76,) * 3)
BLACK = ((0, 0, 0),) * 4

# the mean colours of the quarters, row by row, as they were when each picture was looked at; they tell every turn from
# every other, and alpha on white from alpha on black
PICTURES: dict[str, tuple[Colour, ...]] = {
    "16bit.cropped.tif": ((1, 1, 1),) * 4,  # its values are 291 to 694 of 65,535
    "Landscape_1.jpg": LANDSCAPE,
    "Landscape_6.jpg": LANDSCAPE,
    "Portrait_3.jpg": PORTRAIT,
    "Portrait_8.jpg": PORTRAIT,
    "anim_frame1.webp": ((255, 255, 255), (255, 255, 255), (245, 226, 227), (248, 239, 238)),
    "exif_gps.jpg": BLACK,
    "first_frame_transparency.gif": ((170, 255, 170),) * 4,
    "hopper_16bit.pgm": GREY_HOPPER,
    "hopper_16bit_qtables.jpg": HOPPER,
    "hopper_1bit.pbm": ((75,) * 3, (107,) * 3, (60,) * 3, (95,) * 3),
    "hopper_bad_exif.jpg": ((107,) * 3, (169,) * 3, (92,) * 3, (134,) * 3),  # torn in itself: every viewer shows it so
    "hopper_gray.jpg": GREY_HOPPER,
    **{f"hopper_orientation_{n}.jpg": HOPPER for n in range(2, 9)},
    "hopper_orientation_6.webp": HOPPER,
    "invalid-exif.jpg": ((195,) * 3, (74,) * 3, (78,) * 3, (22,) * 3),
    "iss634.webp": ((76, 121, 92), (131, 139, 89), (157, 142, 87), (175, 144, 93)),
    "no_palette.gif": BLACK,
    "pil123rgba.png": ((185, 172, 133), (206, 205, 203), (157, 165, 140), (214, 213, 213)),
    "pil_sample_cmyk.jpg": ((56, 7, 9), (36, 6, 8), (17, 5, 6), (12, 5, 6)),
    "tiff_16bit_RGB.tiff": ((16, 13, 11), (51, 28, 20), (32, 22, 16), (68, 52, 40)),
    "transparent.gif": DICE,
    "transparent.png": DICE,
    "truncated_app14.jpg": ((52, 8, 6), (34, 5, 4), (15, 2, 2), (11, 2, 1)),
    "truncated_jpeg.jpg": ((128,) * 3,) * 4,  # noise, all of it; only half of its end marker is missing
}
REFUSED: dict[str, tuple[str, str]] = {
    "broken.png": ("broken", "it starts like a PNG file, but its header is damaged"),
    "broken_data_stream.png": (
        "broken",
        "the picture is damaged (unrecognized data stream contents when reading image file)",
    ),
    "decompression_bomb.gif": ("too-large", "65535x66601 pixels are more than 178,956,970 (--max-pixels)"),
    "truncated_image.png": ("truncated", "the picture is cut off (image file is truncated)"),
    "zero_width.gif": ("broken", "it starts like a GIF file, but its header is damaged"),
}

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def odd(shared: Path) -> Path:
    return shared / "images" / "odd"


def test_every_file_is_named_here(odd: Path) -> None:
    assert {file.name for file in odd.iterdir()} == PICTURES.keys() | REFUSED.keys()


@pytest.mark.parametrize("how", ["exact", "fast"])
@pytest.mark.parametrize("name", PICTURES)
def test_the_right_picture(odd: Path, name: str, how: Decode) -> None:
    pixels = decode(read_image(odd / name), PreprocessSpec((64, 64), "none", decode=how))
    quarters = pixels.reshape(2, 32, 2, 32, 3).mean(axis=(1, 3)).reshape(4, 3)
    np.testing.assert_allclose(quarters, PICTURES[name], atol=4)


@pytest.mark.parametrize("how", ["exact", "fast"])
@pytest.mark.parametrize("name", REFUSED)
def test_the_right_reason(odd: Path, name: str, how: Decode) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(read_image(odd / name), PreprocessSpec((64, 64), "none", decode=how))
    assert (caught.value.reason, str(caught.value)) == REFUSED[name]


@pytest.mark.parametrize("how", ["exact", "fast"])
def test_extraction_and_prediction_agree(odd: Path, pictures: Path, tmp_path: Path, how: Decode) -> None:
    """A row or a line in /skipped for each; the model that was made of them says the same of each."""
    source = tmp_path / "photos"
    shutil.copytree(pictures, source)
    shutil.copytree(odd, source / "odd")
    store, model = tmp_path / "f.h5", tmp_path / "m.ffe"
    arguments = ["extract", str(source), "-o", str(store), "--backbone", "fake", "--decode", how, "--json"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.stderr
    with FeatureStore(store) as file:
        rows = {Path(path).name for path in file.paths if path.startswith("odd/")}
        skipped = {Path(item.path).name: (item.reason, item.message) for item in file.skipped}
    assert rows == PICTURES.keys()
    assert skipped == REFUSED
    train(store, model, head="logistic")
    answers = CliRunner().invoke(cli, ["predict", str(model), str(odd), "--json"]).stdout.splitlines()
    errors = {Path(answer["path"]).name: answer["error"] for answer in map(json.loads, answers)}
    assert errors == {**dict.fromkeys(PICTURES), **{name: message for name, (_, message) in REFUSED.items()}}
