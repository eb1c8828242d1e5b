"""The graph of every head answers as the head does."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

from ffe.backbones.keras_convert import convert_keras
from ffe.base.feature_layout import FeatureLayout, Part
from ffe.base.openvino_ir import import_openvino
from ffe.errors import EngineError
from ffe.evaluation.temperature import with_temperature
from ffe.exporting.head_graph import head_graph
from ffe.heads import HEADS, nystroem, svm
from ffe.heads.base import Head
from ffe.heads.ensemble import EnsembleHead
from ffe.heads.search_space import complete

GRID = FeatureLayout((Part(3, 3, 8),))
TOKENS = FeatureLayout((Part(2, 2, 12, 2), Part(2, 3, 6)))
DENSE = {"epochs": 3, "learning_rate": 0.01}


def rows(layout: FeatureLayout, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    labels = np.arange(120) % classes
    means = rng.normal(size=(classes, layout.dims))
    return (2 * means[labels] + rng.normal(size=(120, layout.dims))).astype(np.float32), labels


def fitted(name: str, layout: FeatureLayout, classes: int, **settings: Any) -> Head:
    features, labels = rows(layout, classes)
    parameters = complete(HEADS[name].space_for(layout), settings, name)
    return HEADS[name](parameters, layout).fit(features, labels, classes)


def assert_answers_alike(head: Head, temperature: float, classes: int) -> None:
    features = np.concatenate([rows(head.map.layout, classes)[0], np.zeros((1, head.map.layout.dims), np.float32)])
    wanted = with_temperature(head.predict_proba(features), temperature)
    found = np.asarray(head_graph(head, temperature)(features))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    assert (found.argmax(axis=1) == wanted.argmax(axis=1)).all()


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("logistic", {}),
        ("logistic", {"scaling": "standard", "pooling": "flat"}),
        ("dense", {**DENSE, "first_dense": 32, "extra_dense_layer": True}),
        ("svm", {"kernel": "linear", "scaling": "l2", "pooling": "avgmax"}),
        ("svm", {"scaling": "sqrt_l2", "pooling": "max"}),
        ("svm", {"scaling": "standard", "pca": True, "components": 32}),
        ("forest", {"trees": 100}),
    ],
    ids=str,
)
def test_head_of_one_grid(name: str, settings: dict[str, Any], classes: int) -> None:
    assert_answers_alike(fitted(name, GRID, classes, **settings), 0.7, classes)


@pytest.mark.parametrize("pooling", ["cls", "mean", "cls+mean", "gem", "flat"])
@pytest.mark.parametrize("parts", ["all", "1"])
def test_tokens_and_several_layers(pooling: str, parts: str) -> None:
    if pooling == "cls" and parts == "all":
        pooling = "max"
    assert_answers_alike(fitted("logistic", TOKENS, 3, pooling=pooling, parts=parts), 1.3, 3)


@pytest.mark.parametrize("classes", [2, 3])
def test_landmarks(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svm, "EXACT_ROWS", 20)
    monkeypatch.setattr(nystroem, "LANDMARKS", 15)
    assert_answers_alike(fitted("svm", GRID, classes), 2.0, classes)


def test_votes_of_earlier_models() -> None:
    head = fitted("svm", GRID, 4)
    arrays = head.arrays()
    earlier = type(head).from_arrays(head.parameters, GRID, {**arrays, "constants": arrays["constants"][:3]})
    assert_answers_alike(earlier, 1.0, 4)


def test_ensemble_is_the_mean_of_its_members() -> None:
    axes: dict[str, Any] = {"pca": True, "components": 32, "pooling": "flat"}  # two members with axes of their own
    members = [
        fitted("logistic", GRID, 3, **axes),
        fitted("forest", GRID, 3, trees=100),
        fitted("dense", GRID, 3, **DENSE),
        fitted("logistic", GRID, 3, **{**axes, "components": 64}),
    ]
    temperatures = (0.5, 1, 2, 1)
    about = [{"head": m.name, "parameters": m.parameters, "temperature": t} for m, t in zip(members, temperatures, strict=True)]
    ensemble = EnsembleHead({"members": about}, GRID)
    ensemble.members = members
    assert_answers_alike(ensemble, 1.5, 3)


def test_thresholds_of_trees_are_met_to_the_bit() -> None:
    head = fitted("forest", FeatureLayout((Part(1, 1, 5),)), 2, trees=100, pooling="flat")
    thresholds = head.arrays()["threshold"].astype(np.float32)
    features = np.repeat(thresholds[:200, None], 5, axis=1)
    np.testing.assert_allclose(np.asarray(head_graph(head, 1.0)(features)), head.predict_proba(features), atol=1e-6)


def test_forest_of_too_many_nodes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ffe.exporting.head_graph.MOST_NODES", 10)
    with pytest.raises(
        EngineError, match=r"^The forest has [\d,]+ nodes, and an exported one can have 10; train one with fewer "
    ):
        head_graph(fitted("forest", GRID, 2, trees=100), 1.0)


@pytest.mark.slow
def test_machines_of_several_classes_run_in_int8() -> None:
    """A number without end among the scores left no room for the others, and LiteRT ended the process."""
    tf, litert = pytest.importorskip("tensorflow"), pytest.importorskip("ai_edge_litert.interpreter")
    head, features = fitted("svm", GRID, 3), rows(GRID, 3)[0]
    converter = tf.lite.TFLiteConverter.from_keras_model(head_graph(head, 1.0))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([row[None]] for row in features)
    runner = litert.Interpreter(model_content=converter.convert()).get_signature_runner()
    (found,) = runner(features=features).values()
    assert (found.argmax(axis=1) == head.predict_proba(features).argmax(axis=1)).mean() > 0.9


def test_openvino_model_outlives_the_one_of_keras() -> None:
    head, features = fitted("svm", GRID, 2), rows(GRID, 2)[0]
    model = convert_keras(head_graph(head, 1.0), "head", "another")
    gc.collect()
    others = [np.full((72, 32), i, np.float32) for i in range(2000)]  # they take the memory that was given back
    found = import_openvino().Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(features)[0]
    np.testing.assert_allclose(found, head.predict_proba(features), atol=1e-5)
    assert len(others) == 2000


def test_every_head_has_a_graph() -> None:
    from ffe.exporting.head_graph import _GRAPHS

    assert set(_GRAPHS) == set(HEADS)
