"""A view moves pixels as Keras's ImageDataGenerator does, which interpolates with SciPy.

Tolerance: values are rounded to whole ones (0.5 of 255); releases of OpenCV
before 5 take the places between pixels in steps of 1/32, which on a picture as
smooth as this one makes up to 2. At a border where the filling jumps (black, or
the other side) the two begin to fill up to a pixel apart, so there the outermost
pixels are not compared. The picture is square: of others Keras confounds the two
coordinates of the centre.
"""

from __future__ import annotations

import numpy as np
import pytest

from ffe.images.augment import Change, apply
from ffe.specs import Fill


@pytest.fixture(scope="module")
def smooth() -> np.ndarray:
    """Waves of different length in each channel: uint8 (72, 72, 3)."""
    y, x = np.mgrid[0:72, 0:72]
    waves = [127 + 120 * np.sin(x / length + y / (length + 3)) for length in (9, 13, 17)]
    return np.rint(np.stack(waves, axis=-1)).astype(np.uint8)


@pytest.mark.parametrize("fill", ["nearest", "reflect", "constant", "wrap"])
@pytest.mark.parametrize(
    "change",
    [
        Change(rotate=33),
        Change(shift=(0.1, -0.2)),
        Change(shear=20),
        Change(zoom=0.8),
        Change(zoom=1.2),
        Change(zoom=0.9, rotate=-25, shift=(0.15, 0.1), shear=-12),
    ],
    ids=lambda change: " ".join(change.words),
)
def test_as_keras(smooth: np.ndarray, change: Change, fill: Fill) -> None:
    from tensorflow.keras.preprocessing.image import apply_affine_transform

    height, width, _ = smooth.shape
    right, down = change.shift

    def keras(pixels: np.ndarray, fill: str) -> np.ndarray:
        return apply_affine_transform(
            pixels.astype(np.float32),
            theta=change.rotate,
            tx=-right * width,  # Keras shifts to the left and up
            ty=-down * height,
            shear=change.shear,
            zx=change.zoom,
            zy=change.zoom,
            row_axis=0,
            col_axis=1,
            channel_axis=2,
            fill_mode=fill,
            order=1,
        )

    compared = np.ones((height, width), bool)
    if fill in {"constant", "wrap"}:
        inside = keras(np.full_like(smooth, 200), "constant")[..., 0] == 200
        compared = inside & np.roll(inside, 1, 0) & np.roll(inside, -1, 0) & np.roll(inside, 1, 1) & np.roll(inside, -1, 1)
    difference = np.abs(apply(smooth, change, fill) - keras(smooth, fill))[compared]
    assert compared.mean() > 0.5
    assert difference.max() < 2
    assert difference.mean() < 0.6
