"""The numpy reference of pixel scaling, against keras.applications and against the engine."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from ffe.backbones.catalog import CATALOG, Backbone
from ffe.images.preprocess import preprocess
from ffe.specs import PreprocessMode

# float32 carries 24 bits: two ways to round a value of at most 256 differ by less than this
TOLERANCE = 3e-5

EVERY_VALUE = np.stack([np.roll(np.arange(256, dtype=np.uint8), shift) for shift in (0, 85, 170)], axis=-1).reshape(1, 16, 16, 3)


def of_keras(row: Backbone) -> np.ndarray:
    """Return EVERY_VALUE, scaled by the ``preprocess_input`` beside the factory of a row."""
    import keras

    module = sys.modules[getattr(keras.applications, row.application or "MobileNet").__module__]
    return np.asarray(module.preprocess_input(EVERY_VALUE.astype(np.float32)))  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(CATALOG))
def test_every_row_has_the_mode_of_its_application(name: str) -> None:
    row = CATALOG[name]
    np.testing.assert_allclose(preprocess(EVERY_VALUE, row.mode), of_keras(row), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("module", "mode"), [("vgg19", "caffe"), ("mobilenet", "tf"), ("densenet", "torch"), ("efficientnet", "none")]
)
def test_equals_the_public_preprocess_input(module: str, mode: PreprocessMode) -> None:
    """Each mode against the documented ``keras.applications.<module>.preprocess_input``."""
    import keras

    expected = getattr(keras.applications, module).preprocess_input(EVERY_VALUE.astype(np.float32))
    scaled = preprocess(EVERY_VALUE, mode)
    assert scaled.dtype == np.float32
    assert scaled.shape == EVERY_VALUE.shape
    np.testing.assert_allclose(scaled, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("mode", ["caffe", "tf", "torch", "none"])
def test_equals_the_scaling_on_the_device(mode: PreprocessMode) -> None:
    from ffe.engines.keras import _scaling_layer

    scaled = np.asarray(_scaling_layer(mode)(EVERY_VALUE))
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, preprocess(EVERY_VALUE, mode), rtol=0, atol=TOLERANCE)


def test_modes_differ_from_each_other() -> None:
    """So that the comparisons above can fail."""
    scaled = [preprocess(EVERY_VALUE, mode) for mode in ("caffe", "tf", "torch", "none")]
    assert all(np.abs(a - b).max() > 0.5 for i, a in enumerate(scaled) for b in scaled[:i])


def test_ranges_are_those_that_the_docstring_states() -> None:
    tf, caffe, torch = (preprocess(EVERY_VALUE, mode) for mode in ("tf", "caffe", "torch"))
    assert (tf.min(), tf.max()) == (-1, 1)
    assert caffe.min() == pytest.approx(-123.68)
    assert caffe.max() == pytest.approx(151.061)
    assert -2.2 < torch.min() < -2.1
    assert 2.6 < torch.max() < 2.7


def test_input_is_left_alone() -> None:
    images = EVERY_VALUE.copy()
    for mode in ("caffe", "tf", "torch", "none"):
        preprocess(images, mode)
    np.testing.assert_array_equal(images, EVERY_VALUE)
