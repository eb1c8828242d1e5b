"""A graph that takes photos of any size gives a backbone the pixels that Pillow would."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_resize_code import photo

from ffe.errors import EngineError
from ffe.exporting.image_input import check_image_input, image_graph
from ffe.images.resize import resized
from ffe.specs import PreprocessSpec

EXACT = (
    PreprocessSpec((64, 80), "tf"),
    PreprocessSpec((56, 56), "tf", crop=0.8),
    PreprocessSpec((56, 56), "torch", resize="shortest", crop=0.875),
    PreprocessSpec((57, 57), "torch", resize="shortest", crop=0.9, placement="huggingface"),
    PreprocessSpec((56, 64), "tf", resize="shortest"),
    PreprocessSpec((56, 64), "torch", resize="longest"),
    PreprocessSpec((56, 56), "torch", resize="longest", crop=0.8),
)
NEAR = (
    PreprocessSpec((56, 56), "tf", interpolation="bicubic", resize="shortest", crop=0.875),
    PreprocessSpec((56, 64), "torch", interpolation="lanczos", resize="longest"),
)
# in some tall photos, newer versions of Pillow go down first and then across
SHAPES = ((64, 80), (480, 640), (641, 427), (30, 20), (7, 9), (33, 400), (56, 101))
TALL = ((101, 56), (400, 33))


@pytest.fixture(scope="module")
def graph() -> Any:
    return image_graph([*EXACT, *NEAR])


@pytest.mark.parametrize("shape", [*SHAPES, *TALL], ids=str)
def test_pixels_are_those_of_pillow(graph: Any, shape: tuple[int, int]) -> None:
    pixels = photo(*shape)
    for spec, output in zip((*EXACT, *NEAR), graph(pixels[None]), strict=True):
        found, wanted = np.asarray(output)[0].astype(int), resized(Image.fromarray(pixels), spec)[0].astype(int)
        if spec in EXACT and shape not in TALL:
            np.testing.assert_array_equal(found, wanted, str(spec))
        else:
            assert np.abs(found - wanted).max() <= 1, spec
            assert (found == wanted).mean() > (0.7 if shape in TALL else 0.995), spec


def test_a_photo_of_a_telephone_has_the_pixels_of_pillow() -> None:
    pixels = np.tile(photo(500, 400), (8, 10, 1))
    spec = PreprocessSpec((150, 150), "caffe")
    found = np.asarray(image_graph([spec])(pixels[None]))
    np.testing.assert_array_equal(found.reshape(150, 150, 3), resized(Image.fromarray(pixels), spec)[0])


def test_what_a_graph_cannot_do_is_refused() -> None:
    advice = "; leave out --image, and give the file pixels of the model's size."
    for options, why in (
        ({"decode": "fast"}, "decodes photos fast, at a share of their size, which needs the file"),
        ({"interpolation": "nearest"}, "picks single pixels (nearest), which a graph would not pick to the pixel"),
        (
            {"resize": "longest", "placement": "huggingface"},
            "fits photos into its size by Hugging Face's rule, which needs numbers of 64 bits",
        ),
    ):
        with pytest.raises(EngineError) as caught:
            check_image_input([EXACT[0], PreprocessSpec((64, 64), "tf", **options)])
        assert str(caught.value) == f"This model {why}{advice}"
