"""The ``head.keras`` of a model file, loaded by Keras alone, says what the head says of stored features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ffe.base.feature_layout import FeatureLayout, Part
from ffe.heads.dense import DenseHead
from ffe.heads.search_space import complete
from ffe.heads.transform import SCALING, poolings_of
from ffe.testing.head import separable_rows

LAYOUT = FeatureLayout.of_shape((2, 3, 4))
TOKENS = FeatureLayout((Part(2, 2, 4, prefix=2),))
MIXED = FeatureLayout((Part(1, 2, 4), Part(1, 3, 4, prefix=1)))
TOLERANCE = 2e-5  # of a probability: float32 in Keras, float32 and float64 in numpy


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("components", [None, 32])
@pytest.mark.parametrize("scaling", SCALING.choices)
@pytest.mark.parametrize("pooling", poolings_of(LAYOUT))
def test_every_map_goes_into_the_keras_model(
    pooling: str, scaling: str, components: int | None, classes: int, tmp_path: Path
) -> None:
    """Pooling, scaling and PCA included: it takes the features as they are stored."""
    import keras

    settings = {"pooling": pooling, "scaling": scaling, "first_dense": 8, "epochs": 5}
    if components is not None:
        settings |= {"pca": True, "components": components}
    features, labels = separable_rows(classes, 20)
    features -= 0.5  # some are below 0
    features[0] = 0  # a row without length
    features[:, 5] = 0.25  # a feature that never varies
    head = DenseHead(complete(DenseHead.space, settings, "dense"), LAYOUT).fit(features, labels, classes)
    head.save_keras(tmp_path / "head.keras")
    loaded = keras.models.load_model(tmp_path / "head.keras", safe_mode=True)
    others = np.concatenate([separable_rows(classes, 10, seed=1)[0] - np.float32(0.5), features[:1]])
    said = loaded.predict(others, verbose=0)
    assert said.shape == (len(others), classes)
    np.testing.assert_allclose(said, head.predict_proba(others), atol=TOLERANCE)


@pytest.mark.parametrize("scaling", ["standard", "sqrt_l2"])
@pytest.mark.parametrize(
    ("layout", "pooling", "parts"),
    [
        *((TOKENS, pooling, None) for pooling in poolings_of(TOKENS)),
        *((MIXED, pooling, "all") for pooling in poolings_of(MIXED)),
        (MIXED, "cls", "2"),
        (MIXED, "flat", "1"),
    ],
)
def test_tokens_and_layers_go_too(layout: FeatureLayout, pooling: str, parts: str | None, scaling: str, tmp_path: Path) -> None:
    import keras

    settings = {"pooling": pooling, "scaling": scaling, "first_dense": 8, "epochs": 3} | ({"parts": parts} if parts else {})
    features, labels = separable_rows(2, 20)
    features -= 0.5
    head = DenseHead(complete(DenseHead.space_for(layout), settings, "dense"), layout).fit(features, labels, 2)
    head.save_keras(tmp_path / "head.keras")
    loaded = keras.models.load_model(tmp_path / "head.keras", safe_mode=True)
    np.testing.assert_allclose(loaded.predict(features, verbose=0), head.predict_proba(features), atol=TOLERANCE)


def test_the_extra_layer_goes_too(tmp_path: Path) -> None:
    import keras

    settings = {"first_dense": 32, "extra_dense_layer": True, "extra_dense": 4, "epochs": 5}
    features, labels = separable_rows(3, 20)
    head = DenseHead(complete(DenseHead.space, settings, "dense"), LAYOUT).fit(features, labels, 3)
    head.save_keras(tmp_path / "head.keras")
    loaded = keras.models.load_model(tmp_path / "head.keras", safe_mode=True)
    assert [layer.units for layer in loaded.layers if isinstance(layer, keras.layers.Dense)] == [32, 4, 3]
    np.testing.assert_allclose(loaded.predict(features, verbose=0), head.predict_proba(features), atol=TOLERANCE)
