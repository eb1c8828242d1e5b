"""The learning curve of a head, as it is measured."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ffe.evaluation.intervals import wilson
from ffe.specs import SearchSpec
from ffe.testing.head import separable_rows
from ffe.tuning.learning_curve_fits import measure_learning_curve
from ffe.tuning.problem import Problem, fold_parts
from ffe.tuning.search import score_once

from .conftest import LAYOUT


@pytest.mark.parametrize("together", [1, 4])
def test_a_head_that_is_always_right_is_not_sure_to_stay_so(together: int) -> None:
    """Its interval is Wilson's, of as many photos, or groups of them, as score."""
    features, labels = separable_rows(2, 40)
    train = np.arange(80)
    problem = Problem(features, labels, train, fold_parts(train, train // together % 4), 2, LAYOUT, groups=train // together)
    spec = SearchSpec(("logistic",))
    found = measure_learning_curve(problem, spec, score_once(problem, spec, "logistic", {}))
    assert found is not None
    assert (found.points[-1].size, found.points[-1].accuracy) == (60, 1)
    assert found.points[-1].interval == wilson(1.0, 80 / together)
    assert found.interval is not None
    assert found.interval[0] < 1


def test_too_few_of_a_class_for_a_quarter(problem: Problem) -> None:
    spec, train = SearchSpec(("logistic",)), np.arange(12)
    few = dataclasses.replace(problem, labels=np.arange(30) % 2, train=train, parts=fold_parts(train, train // 4))
    assert measure_learning_curve(few, spec, score_once(few, spec, "logistic", {})) is None
