"""Views of a picture: what is drawn, what it does to the pixels, and that it is always the same."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffe.base.digests import bytes_digest
from ffe.images.augment import Change, apply, augment, draw, source_of
from ffe.images.drawings import draw as draw_picture
from ffe.specs import AugmentSpec

ROOT = Path(__file__).resolve().parents[2]
DIGEST = bytes_digest(b"a picture")
EVERYTHING = AugmentSpec(
    flip=True,
    vflip=True,
    zoom=(0.5, 1.5),
    crop=(0.3, 1),
    rotate=40,
    shift=0.2,
    shear=10,
    fill="reflect",
    brightness=(0.5, 1.5),
    contrast=(0.5, 1.5),
    normalize=True,
    seed=3,
)


def picture(height: int = 40, width: int = 40, kind: str = "cat") -> np.ndarray:
    return np.asarray(draw_picture(kind, 0, (height, width)))  # type: ignore[arg-type]


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def ranges(least: float, most: float) -> st.SearchStrategy[tuple[float, float]]:
    numbers = st.floats(least, most)
    return st.tuples(numbers, numbers).map(lambda pair: (min(pair), max(pair)))


specs = st.builds(
    AugmentSpec,
    flip=st.booleans(),
    vflip=st.booleans(),
    zoom=st.none() | ranges(0.1, 10),
    crop=ranges(0.01, 1),
    ratio=ranges(0.1, 10),
    rotate=st.floats(0, 180),
    shift=st.floats(0, 1),
    shear=st.floats(0, 60),
    fill=st.sampled_from(["nearest", "reflect", "constant", "wrap"]),
    brightness=st.none() | ranges(0, 10),
    contrast=st.none() | ranges(0, 10),
    normalize=st.booleans(),
    seed=st.integers(0, 2**31 - 1),
)


@given(specs, st.integers(1, 10**9))
def test_what_is_drawn_lies_in_its_range(spec: AugmentSpec, view: int) -> None:
    drawn = draw(spec, DIGEST, view)
    for name in ("zoom", "brightness", "contrast"):
        low, high = getattr(spec, name) or (1.0, 1.0)
        assert low <= getattr(drawn, name) <= high
    for name in ("rotate", "shear"):
        assert abs(getattr(drawn, name)) <= getattr(spec, name)
    assert max(map(abs, drawn.shift)) <= spec.shift
    assert spec.flip or not drawn.flip
    assert spec.vflip or not drawn.vflip
    assert drawn.normalize == spec.normalize
    assert spec.crop is not None
    width, height = drawn.crop
    assert 0 < width <= 1
    assert 0 < height <= 1
    assert spec.crop[0] - 1e-9 <= width * height <= spec.crop[1] + 1e-9
    fitting = [min(max(end, width * height), 1 / (width * height)) for end in spec.ratio]  # in the picture, whatever was asked
    assert fitting[0] * (1 - 1e-9) <= width / height <= fitting[1] * (1 + 1e-9)
    assert all(0 <= place <= 1 for place in (*drawn.zoom_at, *drawn.crop_at))


@given(specs, st.integers(1, 99), st.sampled_from([(1, 1), (3, 8), (20, 17)]))
@settings(max_examples=50)
def test_every_view_is_a_picture_of_the_same_shape_and_the_same_again(
    spec: AugmentSpec, view: int, size: tuple[int, int]
) -> None:
    image = noise(*size)
    before = image.copy()
    image.setflags(write=False)  # as the decoder gives it
    found = augment(image, spec, DIGEST, view)
    assert (found.shape, found.dtype, found.flags.c_contiguous) == (image.shape, np.uint8, True)
    np.testing.assert_array_equal(found, augment(image, spec, DIGEST, view))
    np.testing.assert_array_equal(image, before)


def test_draws_spread_over_their_ranges() -> None:
    spec = AugmentSpec(flip=True, zoom=(0.5, 1), rotate=15)
    drawn = [draw(spec, DIGEST, view) for view in range(1, 2001)]
    assert 0.45 < np.mean([change.flip for change in drawn]) < 0.55
    for values, low, high in (([c.zoom for c in drawn], 0.5, 1), ([c.rotate for c in drawn], -15, 15)):
        share = np.histogram(values, 10, (low, high))[0] / 2000
        assert share.min() > 0.07
        assert share.max() < 0.13
    assert abs(np.corrcoef([c.zoom for c in drawn], [c.rotate for c in drawn])[0, 1]) < 0.1


def test_the_picture_the_view_and_the_seed_decide() -> None:
    others = [
        draw(EVERYTHING, DIGEST, 1),
        draw(EVERYTHING, DIGEST, 2),
        draw(EVERYTHING, bytes_digest(b"another"), 1),
        draw(replace(EVERYTHING, seed=4), DIGEST, 1),
    ]
    assert len({(change.zoom, change.rotate) for change in others}) == len(others)


def test_one_more_change_leaves_the_others_as_they_were() -> None:
    few = draw(AugmentSpec(flip=True, rotate=15), DIGEST, 5)
    more = draw(AugmentSpec(flip=True, rotate=30, zoom=(0.5, 1), brightness=(0.8, 1)), DIGEST, 5)
    assert (more.flip, more.rotate) == (few.flip, pytest.approx(2 * few.rotate))


def test_view_0_is_the_picture_itself() -> None:
    image = picture()
    assert augment(image, EVERYTHING, DIGEST, 0) is image
    assert draw(EVERYTHING, DIGEST, 0) == Change()


def test_without_changes_every_view_is_the_picture() -> None:
    image = picture()
    for view in range(5):
        np.testing.assert_array_equal(augment(image, AugmentSpec(), DIGEST, view), image)


@pytest.mark.parametrize("change", [Change(flip=True), Change(vflip=True), Change(flip=True, vflip=True)])
def test_mirrors_are_exact_and_undo_themselves(change: Change) -> None:
    image = noise(7, 10)
    rows, columns = (slice(None, None, -1 if mirrored else 1) for mirrored in (change.vflip, change.flip))
    mirrored = apply(image, change)
    np.testing.assert_array_equal(mirrored, image[rows, columns])
    np.testing.assert_array_equal(apply(mirrored, change), image)
    x, y = source_of(change, 7, 10) @ (2, 3, 1)  # by the matrix, which is used where more is changed
    np.testing.assert_array_equal(image[round(y), round(x)], mirrored[3, 2])


@pytest.mark.parametrize(
    ("fill", "left", "top"),
    [("nearest", [0, 0, 0], 0), ("reflect", [2, 1, 0], 1), ("constant", [None, None, None], None), ("wrap", [17, 18, 19], 9)],
)
def test_a_shift_of_whole_pixels_is_exact_and_fills_as_it_says(fill: str, left: list[int | None], top: int | None) -> None:
    """Three pixels to the right of 20, two down of 10; behind them, the columns and the row that stand there."""
    image = noise(10, 20)
    moved = apply(image, Change(shift=(3 / 20, 2 / 10)), fill)  # type: ignore[arg-type]
    np.testing.assert_array_equal(moved[2:, 3:], image[:-2, :-3])
    black = np.zeros((8, 3), np.uint8)
    for column, source in enumerate(left):
        np.testing.assert_array_equal(moved[2:, column], black if source is None else image[:-2, source])
    np.testing.assert_array_equal(moved[1, 3:], np.zeros((17, 3)) if top is None else image[top if fill != "reflect" else 0, :-3])


def test_a_quarter_turn_is_exact_and_goes_against_the_clock() -> None:
    image = noise(9, 9)
    np.testing.assert_array_equal(apply(image, Change(rotate=90)), np.rot90(image))
    np.testing.assert_array_equal(apply(image, Change(rotate=-90)), np.rot90(image, -1))


def test_zoom_shows_a_part_of_the_picture_enlarged() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    image[:20, 20:] = 200
    corner = apply(image, Change(zoom=0.5, zoom_at=(1.0, 0.0)))  # half of the sides, at the upper right
    assert (corner[2:-2, 2:-2] == 200).all()
    assert (apply(image, Change(zoom=0.5, zoom_at=(0.0, 1.0)))[2:-2, 2:-2] == 0).all()
    small = apply(image, Change(zoom=2.0), "constant")  # the whole picture, on half of the sides, in the middle
    assert (small[11:19, 21:29] == 200).all()
    assert small.sum() == pytest.approx(image.sum() / 4, rel=0.1)


def test_crop_has_a_shape_of_its_own() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    image[:, 10:20] = 200
    found = apply(image, Change(crop=(0.25, 1.0), crop_at=(1 / 3, 0.5)))  # the columns 10 to 20
    assert (found[:, 3:-3] == 200).all()


def test_shear_is_that_of_keras() -> None:
    """Rows slide along themselves, by the sine of the angle for each pixel from the middle; see tests/parity."""
    x, y = source_of(Change(shear=30), 21, 21) @ (10, 20, 1)
    assert (x, y) == (pytest.approx(10 - 10 * 0.5), pytest.approx(10 + 10 * np.cos(np.pi / 6)))


def test_brightness_is_a_factor_that_is_cut_off() -> None:
    image = noise(8, 8)
    expected = np.rint(np.minimum(image * 1.5, 255)).astype(np.uint8)
    np.testing.assert_array_equal(apply(image, Change(brightness=1.5)), expected)
    assert not apply(image, Change(brightness=0.0)).any()


def test_contrast_is_around_the_mean() -> None:
    image = noise(16, 16)
    grey = image @ (0.299, 0.587, 0.114)
    assert np.unique(apply(image, Change(contrast=0.0))).tolist() == [round(float(grey.mean()))]
    half = apply(image, Change(contrast=0.5)).astype(float)
    assert (half @ (0.299, 0.587, 0.114)).mean() == pytest.approx(grey.mean(), abs=0.5)
    assert half.std() == pytest.approx(image.std() / 2, rel=0.02)


def test_normalized_channels_have_the_mean_and_deviation_of_imagenet() -> None:
    image = np.random.default_rng(0).integers((70, 110, 30), (120, 140, 90), (64, 64, 3), np.uint8)
    found = apply(image, Change(normalize=True)).reshape(-1, 3) / 255
    np.testing.assert_allclose(found.mean(axis=0), (0.485, 0.456, 0.406), atol=0.01)
    np.testing.assert_allclose(found.std(axis=0), (0.229, 0.224, 0.225), rtol=0.03)


def test_normalized_picture_enters_a_backbone_as_the_article_has_it() -> None:
    """Less its mean, by its deviation, channel by channel; but for rounding and what is cut off."""
    from ffe.images.preprocess import preprocess

    image = picture(64, 64)
    rows = image.reshape(-1, 3).astype(float)
    standard = ((rows - rows.mean(axis=0)) / rows.std(axis=0)).reshape(image.shape)
    entered = preprocess(apply(image, Change(normalize=True))[None], "torch")[0]
    inside = (np.abs(standard) < 1.8).all(axis=2)  # what is further off is cut off
    assert inside.mean() > 0.6
    np.testing.assert_allclose(entered[inside], standard[inside], atol=0.02)


@pytest.mark.parametrize("level", [0, 90, 255])
def test_a_flat_picture_stays_flat(level: int) -> None:
    image = np.full((8, 8, 3), level, np.uint8)
    found = apply(image, Change(normalize=True, contrast=2.0, rotate=20))
    assert len(np.unique(found.reshape(-1, 3), axis=0)) == 1


def test_normalize_comes_before_brightness_and_undoes_none_of_it() -> None:
    image = picture()
    dark, bright = (apply(image, Change(normalize=True, brightness=factor)).mean() for factor in (0.5, 1.0))
    assert dark == pytest.approx(bright / 2, rel=0.05)


def test_black_beyond_the_edge_stays_black() -> None:
    found = apply(np.full((8, 8, 3), 200, np.uint8), Change(shift=(0.5, 0.0), normalize=True, brightness=1.5), "constant")
    assert not found[:, :3].any()
    assert found[:, 5:].all()


def test_words_say_what_was_drawn() -> None:
    change = Change(
        True, True, 0.5, (0.1, 0.9), (0.5, 0.4), (0.2, 0.3), -7.4, (0.1, -0.2), 3.0, brightness=0.9, contrast=1.25, normalize=True
    )
    assert change.words == (
        "mirrored",
        "upside down",
        "zoom ×2.00",
        "crop 50×40 %",
        "rotate −7°",
        "shift +10 −20 %",
        "shear +3°",
        "normalized",
        "brightness ×0.90",
        "contrast ×1.25",
    )
    assert Change().words == ()
    assert draw(EVERYTHING, DIGEST, 0).words == ()


@pytest.mark.parametrize("field", [field.name for field in fields(Change) if field.name not in {"zoom_at", "crop_at"}])
def test_every_change_has_its_word_and_its_effect(field: str) -> None:
    new = {
        "zoom": 0.6,
        "crop": (0.5, 0.7),
        "rotate": 20.0,
        "shift": (0.1, 0.2),
        "shear": 20.0,
        "brightness": 0.5,
        "contrast": 0.5,
    }
    change = replace(Change(), **{field: new.get(field, True)})
    assert len(change.words) == 1
    image = picture()
    assert (apply(image, change) != image).mean() > 0.1


def test_equal_in_threads_and_in_another_process() -> None:
    image = picture(64, 48)
    views = range(1, 9)
    here = [bytes_digest(augment(image, EVERYTHING, DIGEST, view).tobytes()) for view in views]
    with ThreadPoolExecutor(4) as pool:
        again = pool.map(lambda view: augment(image, EVERYTHING, DIGEST, view).tobytes(), [*views] * 8)
    assert [bytes_digest(pixels) for pixels in again] == here * 8
    code = (
        "import json, sys\nimport numpy as np\nfrom ffe.images.augment import augment\nfrom ffe.images.drawings import draw\n"
        "from ffe.base.digests import bytes_digest\nfrom ffe.specs import AugmentSpec\n"
        f"spec = AugmentSpec.from_json(json.loads({json.dumps(json.dumps(EVERYTHING.to_json()))}))\n"
        "image = np.asarray(draw('cat', 0, (64, 48)))\n"
        f"views = [augment(image, spec, {DIGEST!r}, view) for view in reversed(range(1, 9))]\n"
        "print(json.dumps([bytes_digest(view.tobytes()) for view in views]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300, cwd=ROOT)
    assert json.loads(done.stdout) == here[::-1]


def test_threads_of_opencv_change_nothing() -> None:
    """A picture so large that OpenCV shares it out; its settings are put back."""
    import cv2

    image = noise(700, 900)
    before = cv2.getNumThreads()
    try:
        found = []
        for threads in (1, 2, 4):
            cv2.setNumThreads(threads)
            found.append(augment(image, EVERYTHING, DIGEST, 1))
    finally:
        cv2.setNumThreads(before)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


GOLDEN_SPEC = AugmentSpec(flip=True, zoom=(0.5, 1), rotate=15, shift=0.1, shear=5, brightness=(0.8, 1), contrast=(0.8, 1.2))


def test_draws_never_change_by_accident() -> None:
    """Another draw makes the stored features of every view stale."""
    words = [draw(GOLDEN_SPEC, "0" * 64, view).words for view in (1, 2)]
    assert words == [
        ("mirrored", "zoom ×1.96", "rotate +1.0°", "shift +5 −9 %", "shear +3°", "brightness ×0.86", "contrast ×1.04"),
        ("zoom ×1.03", "rotate +11°", "shift −2 +2 %", "shear −2°", "brightness ×0.95", "contrast ×0.96"),
    ]
    crop = draw(AugmentSpec(crop=(0.08, 1)), "0" * 64, 1)
    assert (crop.crop, crop.crop_at) == (pytest.approx((0.98501, 0.98122), abs=1e-5), pytest.approx((0.01483, 0.46583), abs=1e-5))


def test_pixels_never_change_by_accident() -> None:
    """Tolerance: 2 levels of 255, for another processor or another release of OpenCV."""
    image = (np.add.outer(np.arange(16) * 9, np.arange(16) * 5)[..., None] + (0, 7, 14)).astype(np.uint8)
    found = augment(image, GOLDEN_SPEC, "0" * 64, 1)
    golden = [[98, 87, 75, 65], [118, 106, 95, 86], [138, 126, 114, 106], [153, 142, 131, 123]]
    np.testing.assert_allclose(found[::5, ::5, 1], golden, rtol=0, atol=2)
