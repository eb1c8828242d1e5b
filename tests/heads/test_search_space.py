"""Spaces: defaults, conditions, texts, and the sentence of each error."""

from __future__ import annotations

from typing import Any

import pytest

from ffe.errors import HeadError
from ffe.heads import HEADS
from ffe.heads.base import Head
from ffe.heads.dense import DenseHead
from ffe.heads.search_space import Parameter, active, complete
from ffe.heads.svm import SvmHead

NUMBER = Parameter("C", 1.0, low=0.001, high=1000.0, log=True)
COUNT = Parameter("epochs", 50, low=1, high=100)
SWITCH = Parameter("extra", False, (False, True))
UNITS = Parameter("units", 32, (16, 32, 64))


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
def test_defaults_are_complete_and_fit_their_own_ranges(head: type[Head]) -> None:
    values = complete(head.space, {}, head.name)
    assert values == {p.name: p.default for p in head.space if p.when is None or p.name in values}
    for parameter in head.space:
        assert (parameter.name in values) == active(parameter, values)
        assert parameter.parse(parameter.default) == parameter.default


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
def test_a_condition_names_an_earlier_parameter_and_values_it_takes(head: type[Head]) -> None:
    seen: dict[str, Parameter] = {}
    for parameter in head.space:
        if parameter.when is not None:
            parent, wanted = parameter.when
            assert set(wanted) < set(seen[parent].choices)
        seen[parameter.name] = parameter
    assert len(seen) == len(head.space)


@pytest.mark.parametrize("first_dense", [4, 8, 16, 32, 64])
def test_the_extra_layer_exists_only_behind_32_or_64_units(first_dense: int) -> None:
    values = complete(DenseHead.space, {"first_dense": first_dense}, "dense")
    assert ("extra_dense_layer" in values) == (first_dense in (32, 64))
    assert "extra_dense" not in values


def test_the_units_of_the_extra_layer_exist_only_with_it() -> None:
    values = complete(DenseHead.space, {"first_dense": 64, "extra_dense_layer": True}, "dense")
    assert values["extra_dense"] == 8
    off = complete(DenseHead.space, {"first_dense": 64, "extra_dense_layer": False}, "dense")
    assert off["extra_dense_layer"] is False
    assert "extra_dense" not in off


def test_gamma_exists_only_for_the_rbf_kernel() -> None:
    assert complete(SvmHead.space, {"kernel": "rbf"}, "svm")["gamma"] == 1.0
    assert "gamma" not in complete(SvmHead.space, {"kernel": "linear"}, "svm")


@pytest.mark.parametrize(
    ("parameter", "text", "value"),
    [
        (NUMBER, "10", 10.0),
        (NUMBER, "1e-2", 0.01),
        (NUMBER, 3, 3.0),
        (NUMBER, "0.001", 0.001),
        (NUMBER, "1000", 1000.0),
        (COUNT, "7", 7),
        (COUNT, 100, 100),
        (SWITCH, "true", True),
        (SWITCH, "False", False),
        (SWITCH, True, True),
        (UNITS, "64", 64),
        (UNITS, 16, 16),
    ],
)
def test_texts_become_values(parameter: Parameter, text: Any, value: Any) -> None:
    parsed = parameter.parse(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("parameter", "value", "sentence"),
    [
        (NUMBER, "5000", r"The parameter 'C' cannot be '5000'; it takes 0\.001 to 1000\."),
        (NUMBER, 0, r"The parameter 'C' cannot be 0; it takes 0\.001 to 1000\."),
        (NUMBER, "much", r"The parameter 'C' cannot be 'much'; it takes 0\.001 to 1000\."),
        (NUMBER, "nan", r"The parameter 'C' cannot be 'nan'; it takes 0\.001 to 1000\."),
        (NUMBER, None, r"The parameter 'C' cannot be None; it takes 0\.001 to 1000\."),
        (COUNT, "0", r"The parameter 'epochs' cannot be '0'; it takes 1 to 100\."),
        (COUNT, "1.5", r"The parameter 'epochs' cannot be '1\.5'; it takes 1 to 100\."),
        (UNITS, "12", r"The parameter 'units' cannot be '12'; it takes 16, 32 or 64\."),
        (SWITCH, "maybe", r"The parameter 'extra' cannot be 'maybe'; it takes False or True\."),
    ],
)
def test_a_value_out_of_range_is_refused(parameter: Parameter, value: Any, sentence: str) -> None:
    with pytest.raises(HeadError, match=f"^{sentence}$"):
        parameter.parse(value)


def test_an_unknown_parameter_is_refused() -> None:
    with pytest.raises(
        HeadError,
        match=r"^The head 'svm' has no parameter 'c'; it has .*, kernel, C, gamma\. Did you mean 'C'\?$",
    ):
        complete(SvmHead.space, {"c": 1}, "svm")


@pytest.mark.parametrize("head", ["svm", "logistic", "dense"])
def test_components_exist_only_with_pca(head: str) -> None:
    space = HEADS[head].space
    assert "components" not in complete(space, {}, head)
    assert complete(space, {"pca": "true"}, head)["components"] == 128
    assert complete(space, {"pca": True, "components": "32"}, head)["components"] == 32
    with pytest.raises(HeadError, match=f"'components' of the head '{head}' exists only where 'pca' is True; set that too"):
        complete(space, {"components": 32}, head)


def test_without_defaults_settings_are_checked_and_nothing_is_filled_in() -> None:
    assert complete(SvmHead.space, {}, "svm", fill=False) == {}
    assert complete(SvmHead.space, {"C": "3", "kernel": "RBF"}, "svm", fill=False) == {"kernel": "rbf", "C": 3.0}
    assert complete(SvmHead.space, {"gamma": "2"}, "svm", fill=False) == {"gamma": 2.0}  # the default kernel has one
    with pytest.raises(HeadError, match="The parameter 'C' cannot be 'much'"):
        complete(SvmHead.space, {"C": "much"}, "svm", fill=False)
    with pytest.raises(HeadError, match="'gamma' of the head 'svm' exists only where 'kernel' is rbf"):
        complete(SvmHead.space, {"kernel": "linear", "gamma": 2}, "svm", fill=False)


def test_an_inactive_parameter_is_refused() -> None:
    sentence = (
        r"^The parameter 'gamma' of the head 'svm' exists only where 'kernel' is rbf; set that too, or leave 'gamma' out\.$"
    )
    with pytest.raises(HeadError, match=sentence):
        complete(SvmHead.space, {"kernel": "linear", "gamma": 2}, "svm")


def test_an_inactive_parameter_names_all_the_values_that_bring_it() -> None:
    with pytest.raises(HeadError, match=r"'extra_dense_layer' .* exists only where 'first_dense' is 32 or 64; set that too"):
        complete(DenseHead.space, {"first_dense": "4", "extra_dense_layer": "true"}, "dense")


def test_a_parameter_below_an_inactive_one_is_inactive() -> None:
    with pytest.raises(HeadError, match="'extra_dense' of the head 'dense' exists only where 'extra_dense_layer' is True"):
        complete(DenseHead.space, {"first_dense": 4, "extra_dense": 8}, "dense")
