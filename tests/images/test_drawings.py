"""The pictures that ffe draws itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ffe.images.drawings import KINDS, draw, draw_folder


def test_same_arguments_same_picture() -> None:
    for kind in KINDS:
        first, again = draw(kind, 3, (40, 56)), draw(kind, 3, (40, 56))
        assert first.mode == "RGB"
        assert first.size == (56, 40)
        np.testing.assert_array_equal(np.asarray(first), np.asarray(again))


def test_every_number_and_kind_is_another_picture() -> None:
    pictures = {draw(kind, number, (32, 32)).tobytes() for kind in KINDS for number in range(12)}
    assert len(pictures) == 24


def test_folder_holds_one_folder_per_kind(tmp_path: Path) -> None:
    draw_folder(tmp_path, 2, (24, 24))
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert names == ["cat/cat_000.png", "cat/cat_001.png", "dog/dog_000.png", "dog/dog_001.png"]
    with Image.open(tmp_path / "dog" / "dog_001.png") as image:
        np.testing.assert_array_equal(np.asarray(image), np.asarray(draw("dog", 1, (24, 24))))
