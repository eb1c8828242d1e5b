"""Heads predict with numpy what the libraries that fitted them predict.

The SVM is compared with ``SVC(break_ties=True)``: where three or more classes
have equal votes, plain ``SVC.predict`` takes the lowest of them, and ffe, like
scikit-learn's own decision function, the one of the greatest confidence. Its
probabilities are not compared: they are a softmax of ffe's own.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from ffe.base.feature_layout import FeatureLayout
from ffe.heads.dense import DenseHead
from ffe.heads.forest import ForestHead
from ffe.heads.logistic import LogisticHead, coordinates_of, coordinates_of_products, logistic_path, weights_of_rows
from ffe.heads.search_space import complete
from ffe.heads.svm import SvmHead, inner_products
from ffe.heads.transform import FeatureMap

LAYOUT = FeatureLayout.of_shape((2, 2, 10))
EXACT = {"solver": "newton-cholesky", "tol": 1e-10}


def _overlapping(classes: int, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Make rows that no head tells apart without mistakes: float32 (rows, 40), int64 (rows,)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    features = rng.gamma(2.0, 1.0, (rows, 40))
    features[np.arange(rows), labels] += 2
    return features.astype(np.float32), labels.astype(np.int64)


def _scaled(scaling: str, features: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    feature_map = FeatureMap({"pooling": "flat", "scaling": scaling}, LAYOUT)
    halves = [feature_map.rowwise(x) for x in (features, others)]
    feature_map.fit_rowwise(halves[0])
    first, second = (feature_map.transform_rowwise(x).astype(np.float64) for x in halves)
    return first, second


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("scaling", ["standard", "sqrt_l2"])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("settings", [{"kernel": "linear", "C": 10.0}, {"kernel": "rbf", "C": 3.0, "gamma": 0.5}], ids=str)
def test_svm_answers_as_svc(settings: dict[str, Any], classes: int, scaling: str, weighted: bool) -> None:
    """Equal labels on 400 rows, some of them wrong: the same mistakes."""
    features, labels = _overlapping(classes, 120, 0)
    others, truth = _overlapping(classes, 400, 1)
    weights = np.linspace(0.5, 1.5, classes) if weighted else None
    parameters = complete(SvmHead.space, {**settings, "pooling": "flat", "scaling": scaling}, "svm")
    head = SvmHead(parameters, LAYOUT).fit(features, labels, classes, class_weights=weights)

    x, y = _scaled(scaling, features, others)
    gamma = settings.get("gamma", 1.0) / (x.shape[1] * x.var())
    by_class = None if weights is None else dict(enumerate(weights))
    reference = SVC(C=settings["C"], kernel=settings["kernel"], gamma=gamma, break_ties=classes > 2, class_weight=by_class)
    expected = reference.fit(x, labels).predict(y)

    np.testing.assert_array_equal(head.predict_proba(others).argmax(axis=1), expected)
    assert 0 < (expected != truth).mean() < 0.6


@pytest.fixture
def converged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let scikit-learn go on to convergence: what is left is the exactness of what ffe makes of it."""
    patient = functools.partial(LogisticRegression, tol=1e-7)
    monkeypatch.setattr("sklearn.linear_model.LogisticRegression", patient)


@pytest.mark.usefixtures("converged")
@pytest.mark.parametrize(("scaling", "strength"), [("standard", 1.0), ("sqrt_l2", 20.0)])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("rows", [30, 160], ids=["fewer rows than features", "more"])
def test_logistic_equals_the_plain_fit_on_all_features(rows: int, classes: int, scaling: str, strength: float) -> None:
    """Probabilities within 1e-4, both solved to convergence."""
    features, labels = _overlapping(classes, rows, 0)
    others, _ = _overlapping(classes, 200, 1)
    weights = np.linspace(0.3, 2, classes) if classes == 4 else None
    parameters = complete(LogisticHead.space, {"pooling": "flat", "scaling": scaling, "C": strength}, "logistic")
    head = LogisticHead(parameters, LAYOUT).fit(features, labels, classes, class_weights=weights)

    x, y = _scaled(scaling, features, others)
    by_class = None if weights is None else dict(enumerate(weights))
    reference = LogisticRegression(C=strength, solver="newton-cholesky", tol=1e-10, class_weight=by_class)
    expected = reference.fit(x, labels).predict_proba(y)
    np.testing.assert_allclose(head.predict_proba(others), expected, atol=1e-4)
    assert expected.std() > 0.02


@pytest.mark.parametrize("classes", [2, 4])
def test_the_coordinates_of_the_rows_lose_nothing(classes: int) -> None:
    """Solved to convergence in both, the 30 coordinates and the 40 features give equal probabilities, within 1e-5.

    Half of the rows are there twice.
    """
    features, labels = (np.concatenate([each[:20], each[:10]]) for each in _overlapping(classes, 30, 0))
    x, others = _scaled("standard", features, _overlapping(classes, 200, 1)[0])
    z = coordinates_of_products(inner_products(x.astype(np.float32)))
    assert z.shape == (30, 30)
    np.testing.assert_allclose(z @ z.T, x @ x.T, atol=1e-3)
    reduced, plain = (LogisticRegression(C=1.0, tol=1e-10, max_iter=20_000).fit(rows, labels) for rows in (z, x))
    np.testing.assert_allclose(reduced.predict_proba(coordinates_of(z, others @ x.T)), plain.predict_proba(others), atol=1e-5)
    carried = x.T @ weights_of_rows(z, reduced.coef_.T)
    np.testing.assert_allclose(carried, plain.coef_.T, atol=1e-5)


def _path_and_single_fits(rows: int, classes: int, **options: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the probabilities of 200 rows by a path, and by a fit of its own for each ``C``, with options of scikit-learn."""
    features, labels = _overlapping(classes, rows, 0)
    x, others = _scaled("standard", features, _overlapping(classes, 200, 1)[0])
    weights = np.linspace(0.3, 2, classes)
    penalties = [1e-3, 1e-2, 0.1, 1.0, 10.0]
    for penalty, (coefficients, bias) in zip(penalties, logistic_path(x, labels, penalties, weights), strict=True):
        reference = LogisticRegression(C=penalty, class_weight=dict(enumerate(weights)), **options)
        expected = reference.fit(x, labels).predict_proba(others)
        reference.coef_, reference.intercept_ = coefficients.T, bias
        yield reference.predict_proba(others), expected


@pytest.mark.usefixtures("converged")
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("rows", [30, 160], ids=["fewer rows than features", "more"])
def test_a_path_equals_single_fits(rows: int, classes: int) -> None:
    """Each ``C`` begins where the one before it ended; converged, probabilities are within 1e-4 of a fit from nothing."""
    previous = None
    for found, expected in _path_and_single_fits(rows, classes, **EXACT):
        np.testing.assert_allclose(found, expected, atol=1e-4)
        assert previous is None or np.abs(expected - previous).max() > 0.05
        previous = expected


@pytest.mark.parametrize("classes", [2, 4])
def test_a_path_stops_no_earlier_than_single_fits(classes: int) -> None:
    """At scikit-learn's own tolerance both are off by up to 0.05 at C=10; the path by no more than half as much again."""
    exact = [expected for _, expected in _path_and_single_fits(160, classes, **EXACT)]
    for (path, single), truth in zip(_path_and_single_fits(160, classes, max_iter=2000), exact, strict=True):
        assert np.abs(path - truth).max() < 1.5 * np.abs(single - truth).max() + 2e-3


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("share", ["sqrt", "log2", "0.05"])
def test_forest_equals_sklearn(classes: int, share: str) -> None:
    """Probabilities within 1e-6: the shares in the leaves are kept as float32."""
    features, labels = _overlapping(classes, 120, 0)
    others, _ = _overlapping(classes, 200, 1)
    weights = np.linspace(0.3, 2, classes)
    settings = {"pooling": "flat", "trees": 100, "max_features": share, "min_samples_leaf": 2}
    head = ForestHead(complete(ForestHead.space, settings, "forest"), LAYOUT)
    head.fit(features, labels, classes, seed=7, class_weights=weights)
    reference = RandomForestClassifier(
        100,
        max_features=float(share) if share == "0.05" else share,
        min_samples_leaf=2,
        random_state=7,
        class_weight=dict(enumerate(weights)),
    ).fit(features, labels)
    np.testing.assert_allclose(head.predict_proba(others), reference.predict_proba(others), atol=1e-6)


@pytest.mark.parametrize(
    ("classes", "settings"),
    [
        (2, {"first_dense": 16, "pooling": "avgmax", "pca": True, "components": 32}),
        (4, {"first_dense": 32, "extra_dense_layer": True, "extra_dense": 16, "pooling": "flat"}),
        (3, {"scaling": "sqrt_l2", "pooling": "max"}),
        (2, {"scaling": "l2", "pooling": "avg", "pca": True}),
    ],
)
def test_a_dense_head_saved_for_keras_predicts_the_same(classes: int, settings: dict[str, Any], tmp_path: Path) -> None:
    """The ``.keras`` file takes features and gives probabilities, within 1e-5, map and PCA included."""
    features, labels = _overlapping(classes, 120, 0)
    others, _ = _overlapping(classes, 200, 1)
    quick = {"epochs": 3, "learning_rate": 0.01, "batch_size": 16, **settings}
    head = DenseHead(complete(DenseHead.space, quick, "dense"), LAYOUT).fit(features, labels, classes)
    head.save_keras(tmp_path / "head.keras")
    model = keras.models.load_model(tmp_path / "head.keras")
    expected = head.predict_proba(others)
    np.testing.assert_allclose(model.predict(others, verbose=0), expected, atol=1e-5)
    assert expected.std() > 0.02
