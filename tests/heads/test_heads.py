"""Every head keeps the contract, and does what it alone promises."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ffe.base.feature_layout import FeatureLayout
from ffe.errors import HeadError
from ffe.evaluation.temperature import softmax, with_temperature
from ffe.heads import HEADS, find_head, nystroem, svm
from ffe.heads.base import FitData, Head
from ffe.heads.dense import DenseHead
from ffe.heads.ensemble import EnsembleHead, head_class
from ffe.heads.forest import ForestHead
from ffe.heads.logistic import LogisticHead
from ffe.heads.search_space import complete
from ffe.heads.svm import SvmHead
from ffe.heads.transform import size_in_bytes
from ffe.testing.head import HeadContract, separable_rows

LAYOUT = FeatureLayout.of_shape((2, 3, 4))


class TestDenseHead(HeadContract):
    head: ClassVar[type[Head]] = DenseHead
    settings: ClassVar[dict[str, Any]] = {"epochs": 12, "learning_rate": 0.01, "batch_size": 16, "dropout_rate": 0.3}


class TestSvmHead(HeadContract):
    head: ClassVar[type[Head]] = SvmHead


class TestLinearSvmHead(HeadContract):
    head: ClassVar[type[Head]] = SvmHead
    settings: ClassVar[dict[str, Any]] = {"kernel": "linear", "scaling": "standard"}


class TestSvmHeadWithPca(HeadContract):
    head: ClassVar[type[Head]] = SvmHead
    settings: ClassVar[dict[str, Any]] = {"scaling": "standard", "pca": True, "components": 32}


class TestSvmHeadOnLandmarks(HeadContract):
    head: ClassVar[type[Head]] = SvmHead

    @pytest.fixture(autouse=True)
    def few_rows_are_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(svm, "EXACT_ROWS", 20)
        monkeypatch.setattr(nystroem, "LANDMARKS", 15)


class TestForestHead(HeadContract):
    head: ClassVar[type[Head]] = ForestHead
    settings: ClassVar[dict[str, Any]] = {"trees": 100}


class TestLogisticHead(HeadContract):
    head: ClassVar[type[Head]] = LogisticHead


class TestEnsembleHead(HeadContract):
    head: ClassVar[type[Head]] = EnsembleHead

    def parameters(self, **settings: Any) -> dict[str, Any]:
        return _members(
            (LogisticHead, {**settings}, 2.0),
            (DenseHead, {**TestDenseHead.settings, **settings}, 1.0),
            (SvmHead, {"scaling": "standard", **settings}, 0.5),
        )


def _members(*members: tuple[type[Head], dict[str, Any], float]) -> dict[str, Any]:
    return {
        "members": [
            {"head": kind.name, "parameters": complete(kind.space, settings, kind.name), "temperature": temperature}
            for kind, settings, temperature in members
        ]
    }


def test_the_heads_by_name() -> None:
    assert {name: kind.name for name, kind in HEADS.items()} == {n: n for n in ("svm", "logistic", "dense", "forest")}
    assert find_head("svm") is SvmHead
    assert head_class("ensemble") is EnsembleHead  # a model may be one; no search tries it
    assert "ensemble" not in HEADS


def test_an_unknown_head_is_named_with_the_known_ones() -> None:
    with pytest.raises(HeadError, match=r"There is no head 'tree'; choose from svm, logistic, dense, forest\."):
        find_head("tree")


def test_size_counts_the_bytes_of_the_arrays() -> None:
    head = LogisticHead(complete(LogisticHead.space, {"scaling": "standard"}, "logistic"), LAYOUT).fit(*separable_rows(3, 10), 3)
    # weights (4, 3) float32, bias (3,) float64, mean and scale (4,) float32
    assert size_in_bytes(head.arrays()) == 4 * 3 * 4 + 3 * 8 + 2 * 4 * 4


def _dense(**settings: Any) -> DenseHead:
    quick = {"learning_rate": 0.01, "batch_size": 16, "first_dense": 8, **settings}
    return DenseHead(complete(DenseHead.space, quick, "dense"), LAYOUT)


def test_rows_count_by_their_class() -> None:
    labels = np.asarray([0, 2, 1, 2])
    np.testing.assert_array_equal(FitData(labels, 3).row_weights, np.ones(4))
    np.testing.assert_array_equal(FitData(labels, 3, class_weights=np.asarray([1.0, 2.0, 5.0])).row_weights, [1, 5, 2, 5])


def test_dense_trains_for_all_its_epochs() -> None:
    features, labels = separable_rows(2, 30)
    shorter, longer = (_dense(epochs=epochs).fit(features, labels, 2, seed=5).arrays()["kernel0"] for epochs in (3, 8))
    assert np.abs(shorter - longer).max() > 1e-3


def test_dense_learns_what_is_mostly_zero() -> None:
    """Rows behind a ReLU go through the sparse kernels."""
    features, labels = separable_rows(3, 40)
    features = np.where(features > 1.2, features, 0)
    features[:, 12:] = 0  # half of the cells are dark
    settings = {"pooling": "flat", "scaling": "l2", "first_dense": 32, "batch_size": 16, "learning_rate": 0.01}
    head = DenseHead(complete(DenseHead.space, {**settings, "epochs": 30}, "dense"), LAYOUT).fit(features, labels, 3)
    assert (head.predict_proba(features).argmax(axis=1) == labels).mean() > 0.9


@pytest.mark.parametrize("classes", [2, 3])
def test_landmarks_stand_in_for_many_rows(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the limit the machine sees landmarks alone, is one against the rest, and answers much as the exact one."""
    features, labels = separable_rows(classes, 100)
    others, truth = separable_rows(classes, 100, seed=1)
    parameters = complete(SvmHead.space, {"pooling": "flat"}, "svm")
    exact = SvmHead(parameters, LAYOUT).fit(features, labels, classes)
    monkeypatch.setattr(svm, "EXACT_ROWS", 199)
    monkeypatch.setattr(nystroem, "LANDMARKS", 60)
    head = SvmHead(parameters, LAYOUT).fit(features, labels, classes, seed=2)
    columns = 1 if classes == 2 else classes
    assert head.arrays()["vectors"].shape == (60, 24)
    assert head.arrays()["pairs"].shape == (60, columns)
    assert head.arrays()["constants"][3] == (1 if classes > 2 else 2)
    assert exact.arrays()["constants"][3] == 2
    answers = head.predict_proba(others).argmax(axis=1)
    assert (answers == truth).mean() > 0.95
    assert (answers == exact.predict_proba(others).argmax(axis=1)).mean() > 0.95


def test_landmarks_depend_on_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svm, "EXACT_ROWS", 20)
    monkeypatch.setattr(nystroem, "LANDMARKS", 10)
    features, labels = separable_rows(2, 30)
    heads = [SvmHead(complete(SvmHead.space, {}, "svm"), LAYOUT).fit(features, labels, 2, seed=seed) for seed in (1, 1, 2)]
    first, again, other = (head.arrays()["vectors"] for head in heads)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("constants", [[2.5], [2.5, 0.0]])
def test_svms_of_the_first_models_still_predict(constants: list[float]) -> None:
    """They turned decisions into votes, times a temperature; the very first had three constants."""
    features, labels = separable_rows(3, 15)
    head = SvmHead(complete(SvmHead.space, {"kernel": "linear"}, "svm"), LAYOUT).fit(features, labels, 3)
    kept = head.arrays()
    decisions = head.map.transform_rowwise(head.map.rowwise(features)) @ kept["pairs"] + kept["bias"]
    kept["constants"] = np.asarray([3, 0.0, *constants])
    old = SvmHead.from_arrays({"pooling": "avg", "scaling": "sqrt_l2", "kernel": "linear", "C": 10.0}, LAYOUT, kept)
    np.testing.assert_allclose(old.predict_proba(features), softmax(2.5 * svm.votes_of_pairs(decisions, 3)), atol=1e-12)


def test_an_svm_of_many_classes_is_less_sure_where_classes_meet() -> None:
    """Votes would give every row the same probability, whoever wins and however narrowly."""
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 40)
    centres = np.eye(4, LAYOUT.dims) * 3
    features = (centres[labels] + generator.normal(size=(160, centres.shape[1]))).astype(np.float32)
    settings = {"pooling": "flat", "scaling": "none", "kernel": "linear", "C": 0.1}
    head = SvmHead(complete(SvmHead.space, settings, "svm"), LAYOUT).fit(features[::2], labels[::2], 4)
    between = ((centres[0] + centres[1]) / 2 + 0.01 * generator.normal(size=(20, centres.shape[1]))).astype(np.float32)
    sure = head.predict_proba(centres.astype(np.float32)).max(axis=1).min()
    unsure = head.predict_proba(between)
    assert unsure.max() < 0.7 < sure
    assert np.isin(unsure.argmax(axis=1), [0, 1]).all()


@given(decisions=arrays(np.float64, (5, 6), elements=st.floats(-3, 3)))
def test_the_answer_is_that_of_the_votes(decisions: np.ndarray) -> None:
    answers = softmax(svm.class_scores(decisions, 4)).astype(np.float32).argmax(axis=1)
    votes = svm.votes_of_pairs(decisions, 4)
    np.testing.assert_array_equal(votes[np.arange(5), answers], votes.max(axis=1))


def test_an_ensemble_predicts_the_mean_of_its_calibrated_members() -> None:
    features, labels = separable_rows(3, 20)
    others, _ = separable_rows(3, 10, seed=1)
    weights = np.asarray([1.0, 2.0, 0.5])
    parameters = _members((LogisticHead, {"pooling": "max"}, 3.0), (ForestHead, {"trees": 100}, 0.25))
    ensemble = EnsembleHead(parameters, LAYOUT).fit(features, labels, 3, seed=4, class_weights=weights)
    expected = np.zeros((30, 3))
    for about in parameters["members"]:
        member = find_head(about["head"])(about["parameters"], LAYOUT).fit(features, labels, 3, seed=4, class_weights=weights)
        expected += with_temperature(member.predict_proba(others), about["temperature"]) / 2
    np.testing.assert_allclose(ensemble.predict_proba(others), expected, atol=1e-12)
    assert size_in_bytes(ensemble.arrays()) == sum(size_in_bytes(member.arrays()) for member in ensemble.members)
    assert {name.partition(".")[0] for name in ensemble.arrays()} == {"0", "1"}


def test_an_ensemble_of_more_than_ten_members_keeps_them_apart() -> None:
    """``1.`` is no beginning of ``10.weights``."""
    features, labels = separable_rows(2, 10)
    parameters = _members(*((LogisticHead, {"C": float(10**i)}, 1.0) for i in range(-4, 4)), *[(LogisticHead, {}, 1.0)] * 4)
    ensemble = EnsembleHead(parameters, LAYOUT).fit(features, labels, 2)
    again = EnsembleHead.from_arrays(ensemble.parameters, LAYOUT, ensemble.arrays())
    np.testing.assert_array_equal(again.predict_proba(features), ensemble.predict_proba(features))


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


def test_a_linear_svm_keeps_one_vector_per_pair_and_no_rows() -> None:
    features, labels = separable_rows(3, 15)
    head = SvmHead(complete(SvmHead.space, {"kernel": "linear"}, "svm"), LAYOUT).fit(features, labels, 3)
    assert head.arrays()["vectors"].size == 0
    assert head.arrays()["pairs"].shape == (4, 3)


@pytest.mark.parametrize("classes", [2, 3])
def test_an_svm_that_does_not_converge_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, classes: int
) -> None:
    rng = np.random.default_rng(0)
    features, labels = rng.normal(0, 100, (90, 8)).astype(np.float32), np.arange(90) % classes  # nothing to learn
    monkeypatch.setattr(svm, "MOST_STEPS", 1_000)
    parameters = complete(SvmHead.space, {"pooling": "flat", "scaling": "none", "kernel": "linear", "C": 1000}, "svm")
    head = SvmHead(parameters, FeatureLayout.of_shape((1, 1, 8))).fit(features, labels, classes)
    assert np.isfinite(head.predict_proba(features)).all()
    assert caplog.messages == [
        "the svm had not converged after 1,000 steps, so it may be worse than it could be: C = 1000 is much for features "
        "of this scale; a smaller C, or scaling=sqrt_l2, mends that"
    ]
    caplog.clear()
    SvmHead({**parameters, "scaling": "sqrt_l2", "C": 0.1}, FeatureLayout.of_shape((1, 1, 8))).fit(features, labels, classes)
    assert not caplog.messages


def test_an_rbf_svm_keeps_its_support_vectors_only() -> None:
    features, labels = separable_rows(2, 60)
    head = SvmHead(complete(SvmHead.space, {"gamma": 0.1}, "svm"), LAYOUT).fit(features, labels, 2)
    kept = head.arrays()["vectors"]
    assert 0 < len(kept) < len(features)
    assert kept.shape[1] == 4


def test_forest_leaf_size_is_obeyed() -> None:
    features, labels = separable_rows(2, 15)
    few = complete(ForestHead.space, {"trees": 100, "min_samples_leaf": 4}, "forest")
    small = ForestHead(few, LAYOUT).fit(features, labels, 2)
    large = ForestHead(complete(ForestHead.space, {"trees": 100}, "forest"), LAYOUT).fit(features, labels, 2)
    assert len(small.arrays()["feature"]) < len(large.arrays()["feature"])
    assert len(small.arrays()["roots"]) == 100
