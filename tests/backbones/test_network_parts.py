"""What the shape of an output says, and what has to be told: one rule for files and for networks of PyTorch."""

from __future__ import annotations

import logging

import pytest

from ffe.backbones.network_parts import Output, class_tokens, has_class_token, part_of, warn_of_tokens
from ffe.base.feature_layout import Part

SIZE = (64, 96)  # 4x6 patches of 16 pixels


@pytest.mark.parametrize(
    ("tokens", "prefix", "class_token", "expected"),
    [
        (24, None, None, Output("NTC", Part(4, 6, 3))),
        (25, None, None, Output("NTC", Part(4, 6, 3, 1, False), told=False)),
        (25, None, True, Output("NTC", Part(4, 6, 3, 1, True))),
        (25, 1, False, Output("NTC", Part(4, 6, 3, 1, False))),
        (29, 5, True, Output("NTC", Part(4, 6, 3, 5, True))),
        (29, 5, None, Output("NTC", Part(4, 6, 3, 5, False), told=False)),
        (24, 5, True, Output("NTC", Part(4, 6, 3))),  # of a layer before they are put there
        (27, 5, True, Output("NTC", Part(4, 6, 3, 3, False), told=False)),  # of which nobody says what they are
        (35, 0, None, Output("NTC", Part(5, 7, 3))),  # patches that are cut off at the edge
        (41, None, True, None),
        (23, 0, None, None),
    ],
)
def test_tokens_stand_before_a_grid_of_the_pictures_shape(
    tokens: int, prefix: int | None, class_token: bool | None, expected: Output | None
) -> None:
    assert part_of((tokens, 3), SIZE, "NCHW", prefix, class_token) == expected


@pytest.mark.parametrize("left", range(1, 9))
def test_of_no_number_of_tokens_the_first_is_taken_for_a_class_token_by_itself(left: int) -> None:
    """One register alone (``reg1_gap``) looks like one class token."""
    assert part_of((24 + left, 3), SIZE, "NCHW") == Output("NTC", Part(4, 6, 3, left, False), told=False)


@pytest.mark.parametrize(
    ("shape", "axes", "expected"),
    [
        ((7,), "NCHW", Output("NC", Part(1, 1, 7))),
        ((8, 4, 6), "NCHW", Output("NCHW", Part(4, 6, 8))),
        ((4, 6, 8), "NCHW", Output("NHWC", Part(4, 6, 8))),  # both would do: this one has the very shape
        ((4, 6, 9), "NCHW", Output("NCHW", Part(6, 9, 4))),  # both have it
        ((4, 6, 9), "NHWC", Output("NHWC", Part(4, 6, 9))),
        ((6, 6, 9), "NHWC", Output("NCHW", Part(6, 9, 6))),
        ((3, 200, 300), "NCHW", None),  # more cells than pixels
        ((2, 2, 4, 6), "NCHW", None),
    ],
)
def test_a_grid_has_the_shape_of_the_picture(shape: tuple[int, ...], axes: str, expected: Output | None) -> None:
    assert part_of(shape, SIZE, axes) == expected  # type: ignore[arg-type]


def test_a_class_token_is_known_by_its_name() -> None:
    assert class_tokens(["cls_token", "vit.embeddings.distillation_token", "cls_token_norm.weight", "head.weight"]) == 2
    assert has_class_token(["self.cls_token", "self.reg_token"]) is True
    assert has_class_token(["cls_token_0", "cls_token1"]) is True
    assert has_class_token(["blocks.0.weight", "reg_token"]) is False
    assert has_class_token(["blocks.0.weight", "Constant_12"]) is None


def test_what_is_not_known_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "ffe")
    untold = Output("NTC", Part(4, 6, 3, 5, False), told=False)
    warn_of_tokens([untold, untold, Output("NC", Part(1, 1, 7))], "the network in 'm.onnx'", "say so")
    assert [record.getMessage() for record in caplog.records] == [
        "the network in 'm.onnx' puts 5 tokens before its grid, and nothing says whether the first is a class token: none is "
        "taken for it, so no head looks at it; say so"
    ]
