"""What part of a photo a map is of, where several backbones see it cut in their own ways."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ffe.base.feature_layout import FeatureLayout, Part
from ffe.explaining.area import Window, area_of, on_grid
from ffe.explaining.heatmap import heat_map, without
from ffe.heads.base import Head
from ffe.images.resize import extent, resized
from ffe.specs import BackboneSpec, ExtractSpec, PreprocessSpec


def backbone(*parts: Part, **fields: Any) -> tuple[ExtractSpec, FeatureLayout]:
    spec = ExtractSpec(BackboneSpec("fake", "random", ""), PreprocessSpec(mode="none", **fields))
    return spec, FeatureLayout(parts)


def photo(height: int, width: int) -> bytes:
    """Return a PNG file whose red is the share of the height, and green that of the width, of 255."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = ((np.arange(height) + 0.5) / height * 255)[:, None]
    pixels[..., 1] = ((np.arange(width) + 0.5) / width * 255)[None]
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


@pytest.mark.parametrize("placement", [None, "huggingface"])
@pytest.mark.parametrize("resize", [None, "shortest", "longest"])
@pytest.mark.parametrize("crop", [None, 0.875])
def test_an_extent_is_where_the_pixels_of_a_photo_went(placement: Any, resize: Any, crop: float | None) -> None:
    spec = PreprocessSpec((60, 60), "none", resize=resize, crop=crop, placement=placement)
    with Image.open(io.BytesIO(photo(120, 300))) as picture:
        pixels, _ = resized(picture.convert("RGB"), spec)
    seen = pixels.any(axis=2)
    for axis, (begin, end) in enumerate(extent((120, 300), spec)):
        middles = begin + (end - begin) * (np.arange(60) + 0.5) / 60
        inside = (middles > 0) & (middles < 1)
        assert inside.sum() == pytest.approx(seen.any(axis=1 - axis).sum(), abs=1)
        shown = np.moveaxis(pixels[..., axis], axis, 0).max(axis=1) / 255
        np.testing.assert_allclose(shown[inside][2:-2], middles[inside][2:-2], atol=0.02)


def test_backbones_that_see_the_same_share_a_map_of_it_and_others_one_of_the_whole_photo() -> None:
    cut, larger = {"size": (224, 224), "resize": "shortest", "crop": 0.875}, {"size": (384, 384), "resize": "shortest"}
    part, column = Part(7, 7, 2), Part(1, 1, 9)
    one = area_of([backbone(part, **cut)], b"not looked at")
    assert (one.shown.resize, one.windows, one.parts) == ("shortest", (Window((224, 224)),), (Window((224, 224)),))
    whole = area_of([backbone(part, size=(32, 32)), backbone(column, part, size=(64, 64))], b"not looked at")
    assert whole.shown.size == (32, 32)
    assert whole.parts == (Window((32, 32)), Window((64, 64)), Window((64, 64)))
    alike = area_of([backbone(part, **cut), backbone(part, **larger, crop=0.877)], photo(120, 300))
    assert alike.shown.crop == 0.875
    assert alike.windows[1] == Window((384, 384))
    other = area_of([backbone(part, **cut), backbone(part, **larger)], photo(100, 200))
    assert other.shown == PreprocessSpec((384, 384), "none")
    np.testing.assert_allclose(other.windows[0].rows, (0.0625, 0.9375))
    np.testing.assert_allclose(other.windows[0].columns, (0.28125, 0.71875), atol=0.002)
    assert (other.windows[1].rows, other.windows[1].columns) == ((0, 1), (0.25, 0.75))


def test_an_area_is_left_out_of_each_backbone_where_that_sees_it() -> None:
    """One sees the left half of the photo, in two columns; the other all of it and a filled row above and below."""
    layout = FeatureLayout((Part(4, 2, 1), Part(6, 4, 1)))
    windows = [Window((4, 2), columns=(0.0, 0.5)), Window((6, 4), rows=(-0.25, 1.25))]
    areas = np.zeros((2, 4, 4), bool)
    areas[0, 1, 1], areas[1, 0, 3] = True, True
    features = np.arange(layout.dims, dtype=np.float32) ** 2
    left, right = (row != features for row in without(features, layout, areas, windows))
    np.testing.assert_array_equal(np.flatnonzero(left), [3, 8 + 2 * 4 + 1])
    np.testing.assert_array_equal(np.flatnonzero(right), [8 + 1 * 4 + 3])
    assert not on_grid(np.ones((1, 4, 4), bool), (6, 4), windows[1])[0, [0, 5]].any()


def test_a_map_of_two_backbones_has_the_heat_where_both_see_what_decides() -> None:
    class Corner(Head):
        """Looks at the cell at the left of the middle of the cut picture, and at one at the right of the whole one."""

        def __init__(self) -> None:
            pass

        def predict_proba(self, features: np.ndarray) -> np.ndarray:
            grids = features[:, :36].reshape(-1, 6, 6), features[:, 36:].reshape(-1, 6, 6)
            right = 1 / (1 + np.exp(-(grids[0][:, 0, 0] + grids[1][:, 5, 5]).astype(np.float64)))
            return np.stack([1 - right, right], axis=1)

    layout, features = FeatureLayout((Part(6, 6, 1), Part(6, 6, 1))), np.zeros(72, np.float32)
    features[0], features[71] = 3.0, 2.0
    windows = [Window((96, 96), columns=(0.5, 1.0)), Window((96, 96))]
    found = heat_map(Corner(), layout, features, 1, windows=windows)
    assert found is not None
    assert np.unravel_index(found.cells.argmax(), (6, 6)) in {(0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4)}
    assert found.cells[0, 3] == pytest.approx(3, abs=0.2)
    assert found.cells[5, 5] == pytest.approx(2, abs=0.2)
    assert np.abs(found.cells[:3, :2]).max() < 0.2
