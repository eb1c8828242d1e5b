"""Heads predict with numpy what the libraries that fitted them predict.

The SVM is compared with ``SVC(break_ties=True)``: where three or more classes
have equal votes, plain ``SVC.predict`` takes the lowest of them, and ffe, like
scikit-learn's own decision function, the one of the greatest confidence. Its
probabilities are not compared: they are ffe's own calibration.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from ffe.heads.dense import DenseHead, _compiled
from ffe.heads.feature_map import FeatureMap
from ffe.heads.forest import ForestHead
from ffe.heads.logistic import LogisticHead, _coordinates_of_rows
from ffe.heads.probability import softmax, two_columns
from ffe.heads.space import complete
from ffe.heads.svm import SvmHead

GRID = (2, 2, 10)


def _overlapping(classes: int, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Make rows that no head tells apart without mistakes: float32 (rows, 40), int64 (rows,)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    features = rng.gamma(2.0, 1.0, (rows, 40))
    features[np.arange(rows), labels] += 2
    return features.astype(np.float32), labels.astype(np.int64)


@pytest.mark.parametrize("scaling", ["standard", "sqrt_l2"])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("settings", [{"kernel": "linear", "C": 0.1}, {"kernel": "rbf", "C": 3.0, "gamma": 0.5}], ids=str)
def test_svm_answers_as_svc(settings: dict[str, Any], classes: int, scaling: str) -> None:
    """Equal labels on 400 rows, some of them wrong: the same mistakes."""
    features, labels = _overlapping(classes, 120, 0)
    others, truth = _overlapping(classes, 400, 1)
    parameters = complete(SvmHead.space, {**settings, "pooling": "flat", "scaling": scaling}, "svm")
    head = SvmHead(parameters, GRID).fit(features, labels, classes)

    scaled = FeatureMap("flat", scaling, GRID).fit(features)
    x = scaled.transform(features).astype(np.float64)
    gamma = settings.get("gamma", 1.0) / (x.shape[1] * x.var())
    reference = SVC(C=settings["C"], kernel=settings["kernel"], gamma=gamma, break_ties=classes > 2).fit(x, labels)
    expected = reference.predict(scaled.transform(others).astype(np.float64))

    np.testing.assert_array_equal(head.predict_proba(others).argmax(axis=1), expected)
    assert 0 < (expected != truth).mean() < 0.6


@pytest.mark.parametrize(("scaling", "strength"), [("standard", 1.0), ("sqrt_l2", 20.0)])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("rows", [30, 160], ids=["fewer rows than features", "more"])
def test_logistic_equals_the_plain_fit_on_all_features(rows: int, classes: int, scaling: str, strength: float) -> None:
    """Probabilities within 5e-3 of a fit to convergence: the head's solver stops at scikit-learn's default tolerance."""
    features, labels = _overlapping(classes, rows, 0)
    others, _ = _overlapping(classes, 200, 1)
    parameters = complete(LogisticHead.space, {"pooling": "flat", "scaling": scaling, "C": strength}, "logistic")
    head = LogisticHead(parameters, GRID).fit(features, labels, classes)

    scaled = FeatureMap("flat", scaling, GRID).fit(features)
    x = scaled.transform(features).astype(np.float64)
    reference = LogisticRegression(C=strength, tol=1e-10, max_iter=20_000).fit(x, labels)
    expected = reference.predict_proba(scaled.transform(others).astype(np.float64))
    np.testing.assert_allclose(head.predict_proba(others), expected, atol=5e-3)
    assert expected.std() > 0.02


@pytest.mark.parametrize("classes", [2, 4])
def test_the_coordinates_of_the_rows_lose_nothing(classes: int) -> None:
    """Solved to convergence in both, the 30 coordinates and the 40 features give equal probabilities, within 1e-5."""
    features, labels = _overlapping(classes, 30, 0)
    scaled = FeatureMap("flat", "standard", GRID).fit(features)
    x, others = scaled.transform(features), scaled.transform(_overlapping(classes, 200, 1)[0])
    z, back = _coordinates_of_rows(x)
    assert z.shape[1] <= 30
    np.testing.assert_allclose(z @ z.T, x.astype(np.float64) @ x.T, atol=1e-3)
    reduced, plain = (
        LogisticRegression(C=1.0, tol=1e-10, max_iter=20_000).fit(rows, labels) for rows in (z, x.astype(np.float64))
    )
    np.testing.assert_allclose(reduced.predict_proba(others @ back), plain.predict_proba(others.astype(np.float64)), atol=1e-5)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("share", ["sqrt", "0.05"])
def test_forest_equals_sklearn(classes: int, share: str) -> None:
    """Probabilities within 1e-6: the shares in the leaves are kept as float32."""
    features, labels = _overlapping(classes, 120, 0)
    others, _ = _overlapping(classes, 200, 1)
    settings = {"pooling": "flat", "trees": 100, "max_features": share, "min_samples_leaf": 2}
    head = ForestHead(complete(ForestHead.space, settings, "forest"), GRID).fit(features, labels, classes, seed=7)
    reference = RandomForestClassifier(
        100, max_features=share if share == "sqrt" else float(share), min_samples_leaf=2, random_state=7
    ).fit(features, labels)
    np.testing.assert_allclose(head.predict_proba(others), reference.predict_proba(others), atol=1e-6)


@pytest.mark.parametrize(
    ("classes", "layers"),
    [(2, {"first_dense": 16}), (4, {"first_dense": 32, "extra_dense_layer": True, "extra_dense": 16})],
)
def test_dense_forward_pass_equals_keras(classes: int, layers: dict[str, Any]) -> None:
    """The network that was just fitted gives the same probabilities through Keras, within 1e-5."""
    features, labels = _overlapping(classes, 120, 0)
    others, _ = _overlapping(classes, 200, 1)
    settings = {"pooling": "flat", "epochs": 3, "learning_rate": 0.01, "batch_size": 16, **layers}
    p = complete(DenseHead.space, settings, "dense")
    head = DenseHead(p, GRID).fit(features, labels, classes)

    misses = _compiled.cache_info().misses
    model, _ = _compiled(40, classes, p["first_dense"], p.get("extra_dense"), p["dropout_rate"], p["l2"], p["learning_rate"])
    assert _compiled.cache_info().misses == misses, "this is not the model that was fitted"
    scaled = FeatureMap("flat", "standard", GRID).fit(features)
    scores = model.predict(scaled.transform(others), verbose=0)
    expected = softmax(two_columns(scores[:, 0]) if classes == 2 else scores)
    np.testing.assert_allclose(head.predict_proba(others), expected, atol=1e-5)
    assert expected.std() > 0.02
