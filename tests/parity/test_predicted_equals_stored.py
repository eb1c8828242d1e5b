"""What the predictor computes is what extraction stored, through Keras and through the backbone of the bundle.

The stored rows were computed 16 at a time by the backbone as it was built; the
predictor runs the saved copy on batches of another size. Matrix products may
round differently, hence a tolerance: 1e-5 of the largest feature.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ffe.bundle.io import Bundle
from ffe.commands.tune import train
from ffe.extraction.run import extract
from ffe.predictor import Predictor
from ffe.store.reader import FeatureStore


@pytest.fixture(scope="module")
def keras_store(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keras") / "features.h5"
    extract(pictures, path, backbone="mobilenet_0.25", size=32, weights="random", batch_size=16)
    return path


@pytest.fixture(scope="module")
def keras_bundle(keras_store: Path) -> Path:
    path = keras_store.with_name("model.ffe")
    train(keras_store, path, head="logistic")
    return path


def test_predicted_features_equal_stored_ones(
    keras_store: Path, keras_bundle: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backbone of the bundle is used: nothing looks for weights."""

    def forbidden(*arguments: object, **options: object) -> None:
        raise AssertionError("the predictor looked for weights")

    monkeypatch.setattr("ffe.backbones.resolve.weights_of", forbidden)
    monkeypatch.setattr("ffe.predictor.open_engine", forbidden)
    predictor = Predictor(keras_bundle, batch_size=7)
    assert predictor.bundle.has_backbone
    with FeatureStore(keras_store) as store:
        stored, files = store.features(), [pictures / path for path in store.paths]
    predicted = predictor.features(files)
    np.testing.assert_allclose(predicted, stored, atol=1e-5 * np.abs(stored).max(), rtol=0)
    assert stored.std() > 0

    expected = predictor.head.predict_proba(stored)
    answers = list(predictor.predict(files))
    np.testing.assert_allclose([list(a.probabilities.values()) for a in answers], expected, atol=1e-3)


def test_the_golden_pictures_still_give_their_features(keras_bundle: Path) -> None:
    golden = Bundle(keras_bundle).golden()
    features = Predictor(keras_bundle, batch_size=1).engine().extract(golden["images"][:1])
    np.testing.assert_allclose(features, golden["features"][:1], atol=1e-5 * np.abs(golden["features"]).max(), rtol=0)


def test_features_of_float16_files_are_rounded_alike_at_prediction(pictures: Path, tmp_path: Path) -> None:
    extract(pictures, tmp_path / "f.h5", backbone="fake", dtype="float16")
    train(tmp_path / "f.h5", tmp_path / "m.ffe", head="logistic")
    with FeatureStore(tmp_path / "f.h5") as store:
        predicted = Predictor(tmp_path / "m.ffe").features(pictures / path for path in store.paths)
        np.testing.assert_array_equal(predicted, store.features())
