"""Half numbers that are widened by their bits."""

from __future__ import annotations

import numpy as np
import pytest

from ffe.base import arrays
from ffe.base.arrays import as_float32

EVERY = np.arange(65_536, dtype=np.uint16).view(np.float16)


def bits(values: np.ndarray) -> list[int]:
    found: list[int] = values.view(np.uint32).tolist()
    return found


@pytest.mark.portable
@pytest.mark.parametrize("values", [EVERY[np.isfinite(EVERY)], EVERY[~np.isnan(EVERY)], EVERY[:0], EVERY[:9].reshape(3, 3).T])
def test_every_half_number_is_widened_to_the_bit(values: np.ndarray) -> None:
    assert bits(as_float32(values).ravel()) == bits(values.astype(np.float32).ravel())


def test_nan_stays_nan() -> None:
    assert np.isnan(as_float32(np.asarray([1, np.nan], np.float16))).tolist() == [False, True]


def test_a_thread_that_takes_small_numbers_for_zero_is_left_to_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "_SMALLEST", np.zeros(1, np.float32))
    assert bits(as_float32(EVERY[1:3])) == bits(EVERY[1:3].astype(np.float32))


def test_other_types_are_numpys() -> None:
    single = np.ones(3, np.float32)
    assert as_float32(single) is single
    assert as_float32(EVERY[1:3].astype(">f2")).tolist() == EVERY[1:3].tolist()
