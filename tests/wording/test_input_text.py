"""How pictures are prepared, in words."""

from __future__ import annotations

from typing import Any

import pytest

from ffe.specs import PreprocessSpec
from ffe.wording.input_text import input_text, resizing_text


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ""),
        ({"interpolation": "bicubic"}, "stretched to 96x160, bicubic"),
        ({"crop": 0.8}, "stretched to 120x200, the middle cut out, bilinear"),
        ({"resize": "shortest"}, "made to cover 96x160, the middle cut out, bilinear"),
        ({"resize": "longest", "interpolation": "nearest"}, "made to fit into 96x160, the rest filled, nearest"),
        ({"resize": "longest", "crop": 0.8}, "made to fit into 120x200, the rest filled, the middle cut out, bilinear"),
    ],
)
def test_resizing(fields: dict[str, Any], expected: str) -> None:
    assert resizing_text(PreprocessSpec((96, 160), "none", **fields)) == expected


def test_all_of_it() -> None:
    assert input_text(PreprocessSpec((64, 64), "caffe")) == "64x64, BGR less the mean of ImageNet, decoded exactly"
    grey = PreprocessSpec((64, 64), "normalize", mean=(0.5,), std=(0.5,), channels="gray", crop=0.5, decode="fast")
    assert input_text(grey) == (
        "64x64, stretched to 128x128, the middle cut out, bilinear, standardised by its own mean and deviation, "
        "one channel of grey, decoded fast"
    )
