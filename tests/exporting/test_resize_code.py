"""The lines that model cards give do what ffe does with a photo."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from ffe.exporting.resize_code import other_code, python_code
from ffe.images.decode import decode
from ffe.images.resize import resized
from ffe.specs import PreprocessSpec

STRETCHED = PreprocessSpec((64, 80), "tf")
CUT = PreprocessSpec((56, 56), "torch", interpolation="bicubic", resize="shortest", crop=0.875)
SPECS = (
    STRETCHED,
    CUT,
    PreprocessSpec((57, 57), "torch", interpolation="bicubic", resize="shortest", crop=0.9, placement="huggingface"),
    PreprocessSpec((56, 50), "tf", interpolation="lanczos", crop=0.8),
    PreprocessSpec((56, 80), "tf", resize="shortest"),
    PreprocessSpec((56, 80), "torch", resize="longest"),
    PreprocessSpec((56, 80), "torch", resize="longest", crop=0.8),
    PreprocessSpec((56, 56), "torch", resize="longest", placement="huggingface"),
)


def photo(height: int = 123, width: int = 171) -> np.ndarray:
    rng = np.random.default_rng(height)
    small = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    noise = rng.integers(-30, 31, (height, width, 3))
    return np.clip(np.asarray(small).astype(int) + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_lines_of_python_give_the_pixels_of_ffe(spec: PreprocessSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for shape in ((123, 171), (171, 124), (31, 20)):
        exif = Image.Exif()
        exif[0x0112] = 6  # it lies on its side
        Image.fromarray(photo(*shape)).save("photo.jpg", exif=exif)
        names = {"Image": Image, "ImageOps": ImageOps, "np": np}
        exec(python_code(spec, "pixels"), names)
        pixels = names["pixels"]
        assert isinstance(pixels, np.ndarray)
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels[0], decode(Path("photo.jpg").read_bytes(), spec))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_show_white(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen = np.random.default_rng(0).integers(0, 256, (40, 60, 1), np.uint8)
    Image.fromarray(np.concatenate([photo(40, 60), seen], axis=2)).convert(mode).save(
        "photo.jpg", "PNG", transparency=3 if mode == "P" else None
    )
    names = {"Image": Image, "ImageOps": ImageOps, "np": np}
    exec(python_code(STRETCHED, "pixels"), names)
    np.testing.assert_array_equal(names["pixels"][0], decode(Path("photo.jpg").read_bytes(), STRETCHED))


def test_lines_of_python_leave_a_photo_its_size_where_the_model_resizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photo()).save("photo.jpg", format="PNG")
    names = {"Image": Image, "ImageOps": ImageOps, "np": np}
    exec(python_code(None, "image"), names)
    np.testing.assert_array_equal(names["image"], photo()[None])  # type: ignore[arg-type]


# what the lines of JavaScript ask of a browser, for a photo that stands upright and is nowhere transparent
BROWSER = """
const createImageBitmap = async (file) => file;
class OffscreenCanvas {
  getContext() {
    return {fillRect() {}, drawImage(bitmap) { this.bitmap = bitmap; }, getImageData() { return {data: this.bitmap.rgba}; }};
  }
}
const all = [];
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="no Node.js on this machine; it runs the lines of JavaScript")
def test_lines_of_javascript_run_as_printed_and_give_the_pixels_of_pillow() -> None:
    wanted, blocks = [], []
    for spec in (*SPECS[:3], None):
        lines = other_code("js", spec)
        assert lines is not None
        for shape in ((123, 171), (150, 123), (31, 20)):
            pixels = photo(*shape)
            wanted.append(pixels if spec is None else resized(Image.fromarray(pixels), spec)[0])
            rgba = np.dstack([pixels, np.full(shape, 255, np.uint8)]).ravel().tolist()
            file = f"{{width: {shape[1]}, height: {shape[0]}, rgba: Uint8ClampedArray.from({json.dumps(rgba)})}}"
            blocks.append(f"{{\nconst file = {file};\n{lines}\nall.push([...pixels]);\n}}\n")
    done = subprocess.run(
        ["node", "--input-type=module", "-"],
        input=BROWSER + "".join(blocks) + "console.log(JSON.stringify(all));",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    for pixels, expected in zip(json.load(io.StringIO(done.stdout)), wanted, strict=True):
        np.testing.assert_array_equal(np.reshape(pixels, expected.shape), expected)


@pytest.mark.parametrize("language", ["js", "kt", "swift"])
def test_each_function_stands_above_what_calls_it(language: str) -> None:
    """In a function of Kotlin that is a must; as these lines are copied, nobody can know where to."""
    text = other_code(language, CUT)
    assert text is not None
    names = re.findall(r"^(?:function|fun|func) (\w+)", text, re.MULTILINE)
    assert set(names) == {"pass", "half", "resized"}
    for name in names:
        first, *calls = (found.start() for found in re.finditer(rf"\b{name}\(", text))
        assert calls
        assert text[:first].rstrip().endswith(("function", "fun", "func"))


@pytest.mark.parametrize("language", ["js", "kt", "swift"])
def test_lines_of_other_languages_are_whole_or_there_are_none(language: str) -> None:
    for spec in SPECS[:3]:
        text = other_code(language, spec)
        assert text is not None
        assert "@" not in text
        assert f"({spec.size[0]}, {spec.size[1]}, 3)" in text
    assert other_code(language, PreprocessSpec((56, 80), "torch", resize="longest")) is None
    assert other_code(language, PreprocessSpec((56, 80), "tf", interpolation="lanczos")) is None
    raw = other_code(language, None)
    assert raw is not None
    assert "resized" not in raw
