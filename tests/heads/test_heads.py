"""Every head keeps the contract, and does what it alone promises."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

from ffe.errors import HeadError
from ffe.heads import HEADS, find_head
from ffe.heads.base import Head, Validation, size_in_bytes
from ffe.heads.dense import DenseHead
from ffe.heads.forest import ForestHead
from ffe.heads.logistic import LogisticHead
from ffe.heads.space import complete
from ffe.heads.svm import SvmHead
from ffe.testing.head import HeadContract, separable_rows

GRID = (2, 3, 4)


class TestDenseHead(HeadContract):
    head: ClassVar[type[Head]] = DenseHead
    settings: ClassVar[dict[str, Any]] = {"epochs": 12, "learning_rate": 0.01, "batch_size": 16, "dropout_rate": 0.3}


class TestSvmHead(HeadContract):
    head: ClassVar[type[Head]] = SvmHead


class TestLinearSvmHead(HeadContract):
    head: ClassVar[type[Head]] = SvmHead
    settings: ClassVar[dict[str, Any]] = {"kernel": "linear", "scaling": "standard"}


class TestForestHead(HeadContract):
    head: ClassVar[type[Head]] = ForestHead
    settings: ClassVar[dict[str, Any]] = {"trees": 100}


class TestLogisticHead(HeadContract):
    head: ClassVar[type[Head]] = LogisticHead


def test_the_heads_by_name() -> None:
    assert {name: kind.name for name, kind in HEADS.items()} == {n: n for n in ("dense", "svm", "forest", "logistic")}
    assert find_head("svm") is SvmHead


def test_an_unknown_head_is_named_with_the_known_ones() -> None:
    with pytest.raises(HeadError, match=r"There is no head 'tree'; choose from dense, svm, forest, logistic\."):
        find_head("tree")


def test_size_counts_the_bytes_of_the_arrays() -> None:
    head = LogisticHead(complete(LogisticHead.space, {"scaling": "standard"}, "logistic"), GRID).fit(*separable_rows(3, 10), 3)
    # weights (4, 3) float32, bias (3,) float64, mean and scale (4,) float32
    assert size_in_bytes(head) == 4 * 3 * 4 + 3 * 8 + 2 * 4 * 4


def _dense(**settings: Any) -> DenseHead:
    quick = {"learning_rate": 0.01, "batch_size": 16, "first_dense": 8, **settings}
    return DenseHead(complete(DenseHead.space, quick, "dense"), GRID)


def test_dense_stops_early_and_keeps_the_best_epoch() -> None:
    """Where the validation labels contradict the training ones, the first epoch is the best."""
    features, labels = separable_rows(2, 30)
    watched, contrary = separable_rows(2, 10, seed=1)
    head = _dense(epochs=40).fit(features, labels, 2, seed=5, validation=Validation(watched, 1 - contrary))
    assert head.found() == {"epochs": 1}
    once = _dense(epochs=1).fit(features, labels, 2, seed=5)
    for name, array in once.arrays().items():
        np.testing.assert_array_equal(head.arrays()[name], array, err_msg=name)


def test_dense_goes_on_while_the_validation_loss_falls() -> None:
    features, labels = separable_rows(2, 30)
    head = _dense(epochs=8).fit(features, labels, 2, validation=Validation(*separable_rows(2, 30, seed=1)))
    assert head.found()["epochs"] > 3


def test_dense_extra_layer_is_a_third_pair_of_arrays() -> None:
    features, labels = separable_rows(3, 10)
    head = _dense(first_dense=32, extra_dense_layer=True, extra_dense=4, epochs=1).fit(features, labels, 3)
    shapes = {name: array.shape for name, array in head.arrays().items() if name.startswith(("kernel", "bias"))}
    assert shapes == {
        "kernel0": (4, 32),
        "bias0": (32,),
        "kernel1": (32, 4),
        "bias1": (4,),
        "kernel2": (4, 3),
        "bias2": (3,),
    }


@pytest.mark.parametrize(("head", "rows"), [(SvmHead, 0), (ForestHead, 0), (LogisticHead, 0)])
def test_other_heads_find_nothing_and_ignore_the_validation_rows(head: type[Head], rows: int) -> None:
    features, labels = separable_rows(2, 15)
    parameters = complete(head.space, {}, head.name)
    plain = head(parameters, GRID).fit(features, labels, 2)
    watching = head(parameters, GRID).fit(features, labels, 2, validation=Validation(features[:5], 1 - labels[:5]))
    assert watching.found() == {}
    for name, array in plain.arrays().items():
        np.testing.assert_array_equal(watching.arrays()[name], array, err_msg=name)


def test_a_linear_svm_keeps_one_vector_per_pair_and_no_rows() -> None:
    features, labels = separable_rows(3, 15)
    head = SvmHead(complete(SvmHead.space, {"kernel": "linear"}, "svm"), GRID).fit(features, labels, 3)
    assert head.arrays()["vectors"].size == 0
    assert head.arrays()["pairs"].shape == (4, 3)


def test_an_rbf_svm_keeps_its_support_vectors_only() -> None:
    features, labels = separable_rows(2, 60)
    head = SvmHead(complete(SvmHead.space, {"gamma": 0.1}, "svm"), GRID).fit(features, labels, 2)
    kept = head.arrays()["vectors"]
    assert 0 < len(kept) < len(features)
    assert kept.shape[1] == 4


def test_an_svm_without_rows_to_calibrate_on_still_answers() -> None:
    """One row of a class is too few for folds: the temperature stays 1."""
    features, labels = separable_rows(2, 10)
    keep = np.concatenate([np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[:1]])
    head = SvmHead(complete(SvmHead.space, {}, "svm"), GRID).fit(features[keep], labels[keep], 2)
    assert head.arrays()["constants"][2] == 1.0
    assert np.isfinite(head.predict_proba(features)).all()


def test_forest_leaf_size_is_obeyed() -> None:
    features, labels = separable_rows(2, 15)
    small = ForestHead(complete(ForestHead.space, {"trees": 100, "min_samples_leaf": 4}, "forest"), GRID).fit(features, labels, 2)
    large = ForestHead(complete(ForestHead.space, {"trees": 100}, "forest"), GRID).fit(features, labels, 2)
    assert len(small.arrays()["feature"]) < len(large.arrays()["feature"])
    assert len(small.arrays()["roots"]) == 100
