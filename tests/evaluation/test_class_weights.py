"""Class weights."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from ffe.errors import DataError, SpecError
from ffe.evaluation.class_weights import class_weights

UNEVEN = np.repeat([0, 1, 2], [70, 20, 10])


def test_balanced_equals_sklearn() -> None:
    expected = compute_class_weight("balanced", classes=np.arange(3), y=UNEVEN)
    found = class_weights("balanced", UNEVEN, 3)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected)
    assert found[UNEVEN].mean() == pytest.approx(1)


def test_none_is_one() -> None:
    assert class_weights("none", UNEVEN, 3).tolist() == [1, 1, 1]


@pytest.mark.parametrize(("rare", "balanced"), [(25, False), (24, True)])
def test_auto_balances_where_the_rarest_class_has_less_than_half_its_share(rare: int, balanced: bool) -> None:
    labels = np.repeat([0, 1], [100 - rare, rare])
    found = class_weights("auto", labels, 2)
    assert found.tolist() == class_weights("balanced" if balanced else "none", labels, 2).tolist()
    assert (found[0] != 1) == balanced


def test_a_class_without_rows_does_not_matter() -> None:
    labels = np.repeat([0, 2], [30, 10])
    assert class_weights("balanced", labels, 3).tolist() == pytest.approx([2 / 3, 1, 2])


def test_another_word_is_refused() -> None:
    with pytest.raises(SpecError, match=r"^There are no class weights 'fair'; use auto, balanced or none\.$"):
        class_weights("fair", UNEVEN, 3)


@pytest.mark.parametrize("labels", [[], [0, -1], [0, 3]])
def test_rows_without_a_label_are_refused(labels: list[int]) -> None:
    with pytest.raises(DataError, match=r"^Class weights need rows that all have a label; leave out those without\.$"):
        class_weights("auto", np.asarray(labels, np.int64), 3)
