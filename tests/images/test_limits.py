"""How large a picture may be: an option of extraction, prediction and evaluation, outside the cache key."""

from __future__ import annotations

import io
import json
import shutil
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

import ffe
from ffe.cli import cli
from ffe.errors import DecodeError, SpecError
from ffe.images import decode_memory
from ffe.images.decode import decode
from ffe.images.decode_memory import one_large_file_at_once, reserved_memory
from ffe.images.drawings import draw
from ffe.images.limits import MAX_BYTES, MAX_PIXELS, Limits
from ffe.specs import PreprocessSpec
from ffe.store.reader import FeatureStore


@pytest.fixture
def source(pictures: Path, tmp_path: Path) -> Path:
    """Ten small pictures, one of 200x100 pixels, and one small one in a file of 100 KiB."""
    folder = tmp_path / "photos"
    for kind in ("cat", "dog"):
        (folder / kind).mkdir(parents=True)
        for file in sorted((pictures / kind).iterdir())[:5]:
            shutil.copy(file, folder / kind)
    draw("cat", 7, (100, 200)).save(folder / "cat" / "wide.jpg")
    data = (folder / "dog" / "dog_000.png").read_bytes()
    (folder / "dog" / "heavy.png").write_bytes(data + b"\0" * 100_000)
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


WIDE = ("too-large", "200x100 pixels are more than 10,000 (--max-pixels)")
HEAVY = ("too-large", "the file has more than 65,536 bytes (--max-bytes)")
TIGHT = ("--max-pixels", "10K", "--max-bytes", "64K")


@pytest.mark.parametrize("how", ["exact", "fast"])
def test_extraction_skips_what_is_larger(source: Path, tmp_path: Path, how: str) -> None:
    output = tmp_path / "f.h5"
    arguments = ("extract", source, "-o", output, "--backbone", "fake", "--decode", how)
    assert run(*arguments, *TIGHT).exit_code == 0
    with FeatureStore(output) as store:
        assert {file.path: (file.reason, file.message) for file in store.skipped} == {
            "cat/wide.jpg": WIDE,
            "dog/heavy.png": HEAVY,
        }
        digest = store.spec_digest
    result = run(*arguments, "--json")  # the limits are no part of the spec: the same file takes the others in
    assert json.loads(result.stdout)["rows"] == 12
    with FeatureStore(output) as store:
        assert (store.spec_digest, store.skipped) == (digest, ())


def test_prediction_and_evaluation_refuse_what_is_larger(source: Path, fake_bundle: Path) -> None:
    result = run("predict", fake_bundle, source, "--json", *TIGHT)
    errors = {Path(value["path"]).name: value["error"] for value in map(json.loads, result.stdout.splitlines())}
    assert {name: error for name, error in errors.items() if error} == {"wide.jpg": WIDE[1], "heavy.png": HEAVY[1]}
    result = run("evaluate", fake_bundle, source, "--json", *TIGHT)
    assert json.loads(result.stdout)["n"] == 10
    assert "2 files were left out ('cat/wide.jpg' and 'dog/heavy.png'): no label, or not readable\n" in result.stderr


def test_python_takes_the_same_limits(source: Path, fake_bundle: Path, tmp_path: Path) -> None:
    summary = ffe.extract(source, tmp_path / "f.h5", backbone="fake", max_pixels=10_000, max_bytes=65_536)
    assert summary.skipped_reasons == {"too-large": 2}
    predictor = ffe.Predictor(fake_bundle, max_pixels=10_000)
    assert [answer.error for answer in predictor.predict([source / "cat" / "wide.jpg"])] == [WIDE[1]]
    extractor = ffe.FeatureExtractor("fake", max_bytes=65_536)
    with pytest.raises(DecodeError, match=r"heavy\.png' cannot be decoded: the file has more than 65,536 bytes"):
        extractor.fit_transform([source / "dog" / "heavy.png"])


@pytest.mark.parametrize("limits", [{"max_pixels": 0}, {"max_bytes": -1}, {"max_pixels": 1.5}])
def test_limits_that_are_none(source: Path, fake_bundle: Path, tmp_path: Path, limits: dict[str, int]) -> None:
    ((name, value),) = limits.items()
    sentence = rf"^{name} is {value}, but must be a whole number of at least 1\.$"
    with pytest.raises(SpecError, match=sentence):
        ffe.extract(source, tmp_path / "f.h5", backbone="fake", **limits)
    with pytest.raises(SpecError, match=sentence):
        ffe.Predictor(fake_bundle, **limits)


@pytest.mark.parametrize("text", ["0", "-5", "1.5M", "many", "M", "", "5T", "9" * 16])
@pytest.mark.parametrize("option", ["--max-pixels", "--max-bytes"])
def test_amounts_that_are_none(option: str, text: str) -> None:
    result = run("predict", "m.ffe", "x.jpg", f"{option}={text}")
    assert result.exit_code == 2
    assert f"'{text}' is no amount; give a whole number above 0, such as 500000 or 200M." in result.stderr


def test_defaults_stand_in_the_help() -> None:
    for command in ("extract", "predict", "evaluate"):
        text = " ".join(run(command, "--help").stdout.split())
        assert f"[default: {MAX_PIXELS:,}]" in text
        assert "[default: 1G]" in text
    assert Limits() == Limits(MAX_PIXELS, MAX_BYTES)
    assert MAX_BYTES == 1 << 30


def test_the_largest_picture_with_16_bits_fits_into_the_largest_file() -> None:
    assert 0 <= MAX_BYTES - 6 * MAX_PIXELS < 6


def test_pillows_own_limit_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # it refuses twice as many
    buffer = io.BytesIO()
    draw("cat", 0, (64, 64)).save(buffer, "PNG")
    assert decode(buffer.getvalue(), PreprocessSpec((8, 8), "none"), limits=Limits(5000)).shape == (8, 8, 3)
    assert Image.MAX_IMAGE_PIXELS == 5000


def test_large_pictures_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of 40 % of the room are decoded together, a third waits; one that is larger than the room goes alone."""
    monkeypatch.setattr(decode_memory, "total_memory", lambda: 1000 << 20)
    share = int(0.4 * 0.5 * (1000 << 20) / 20)
    assert most_at_once([share] * 6, threading.Barrier(2)) == 2
    assert most_at_once([100 * share] * 3) == 1
    assert most_at_once([100] * 8, threading.Barrier(8)) == 8  # small ones do not ask


def most_at_once(pixels: list[int], meeting: threading.Barrier | None = None) -> int:
    """Return how many threads were in the room together; where there is a meeting, they wait for it there."""
    inside: list[int] = []
    counts = []

    def enter(count: int) -> None:
        with reserved_memory(count):
            inside.append(count)
            counts.append(len(inside))
            meeting.wait(120) if meeting is not None else time.sleep(0.05)
            inside.remove(count)

    threads = [threading.Thread(target=enter, args=(count,)) for count in pixels]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(counts) == len(pixels)
    return max(counts)


def test_a_picture_that_fails_gives_its_room_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_memory, "total_memory", lambda: 1)
    for _ in range(2):
        with pytest.raises(MemoryError), reserved_memory(1 << 30):
            raise MemoryError


def test_one_large_file_at_a_time_is_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_memory, "_LARGE_BYTES", 100)
    (tmp_path / "large").write_bytes(b"x" * 200)
    (tmp_path / "small").write_bytes(b"x")
    with one_large_file_at_once(tmp_path / "large"):
        assert decode_memory._alone.locked()
        with (
            one_large_file_at_once(tmp_path / "small"),
            one_large_file_at_once(tmp_path / "none"),
            one_large_file_at_once(b"x" * 200),
        ):
            pass
    with one_large_file_at_once(tmp_path / "small"):
        assert not decode_memory._alone.locked()
