"""Maps over photos: red and blue where they belong, on black and on white, and nothing where there is nothing."""

from __future__ import annotations

import numpy as np
import pytest

from ffe.explaining.overlay import overlay


@pytest.mark.parametrize("light", [0, 128, 255])
def test_red_speaks_for_and_blue_against_on_dark_and_light_photos(light: int) -> None:
    pixels = np.full((70, 140, 3), light, np.uint8)
    cells = np.zeros((7, 7), np.float32)
    cells[1, 1], cells[5, 5] = 2, -2
    drawn = overlay(pixels, cells).astype(int)
    assert drawn.shape == pixels.shape
    red, blue, grey = drawn[15, 30], drawn[55, 110], drawn[35, 70]
    assert red[0] - max(red[1:]) > 60
    assert blue[2] - max(blue[:2]) > 60
    assert np.ptp(grey) == 0
    assert 40 < grey[0] < 230


def test_a_map_of_next_to_nothing_stays_grey() -> None:
    cells = np.random.default_rng(0).uniform(-0.02, 0.02, (7, 7)).astype(np.float32)
    pixels = np.full((224, 224, 3), 128, np.uint8)
    assert np.ptp(overlay(pixels, cells).astype(int), axis=2).max() < 12
    assert np.ptp(overlay(pixels, 100 * cells).astype(int), axis=2).max() > 60
    assert np.ptp(overlay(pixels, cells, exact=True).astype(int), axis=2).max() > 20  # of one cell alone that is not so little
