"""Feature extraction as a step of a scikit-learn pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.validation import check_is_fitted

from ffe.errors import BackboneError, DecodeError
from ffe.extraction.transformer import FeatureExtractor
from ffe.store.reader import FeatureStore


def test_equals_the_stored_features(pictures: Path, fake_store: Path) -> None:
    with FeatureStore(fake_store) as store:
        paths = [pictures / path for path in store.paths]
        features = FeatureExtractor("fake", batch_size=7, workers=3).fit_transform(paths)
        assert features.dtype == np.float32
        np.testing.assert_array_equal(features, store.features())


def test_equal_pictures_have_equal_rows(pictures: Path) -> None:
    """Here every path gets a row of its own, also a path that comes twice."""
    path = str(pictures / "cat" / "cat_000.png")
    rows = FeatureExtractor("fake").fit_transform([path, str(pictures / "dog" / "dog_000.png"), path])
    assert rows.shape == (3, 48)
    np.testing.assert_array_equal(rows[0], rows[2])
    assert np.abs(rows[0] - rows[1]).max() > 0.01


def test_parameters_and_clone() -> None:
    step = FeatureExtractor("fake", size=24, batch_size=5)
    expected = {
        "backbone": "fake",
        "size": 24,
        "weights": "imagenet",
        "layer": None,
        "batch_size": 5,
        "workers": None,
        "decode": "exact",
        "max_pixels": 178_956_970,
        "max_bytes": 1 << 30,
    }
    assert step.get_params() == expected
    assert clone(step).get_params() == expected
    assert step.set_params(size=40).size == 40
    with pytest.raises(NotFittedError):
        check_is_fitted(step)
    check_is_fitted(step.fit([]))
    assert step.n_features_out_ == 48
    with pytest.raises(NotFittedError):
        check_is_fitted(clone(step))


def test_pipeline_learns(pictures: Path) -> None:
    paths = sorted(pictures.glob("*/*.png"))
    labels = [path.parent.name for path in paths]
    model = make_pipeline(FeatureExtractor("fake"), LogisticRegression(C=100, max_iter=2000)).fit(paths, labels)
    assert set(model.predict(paths[:5])) <= {"cat", "dog"}
    assert model.score(paths, labels) > 0.8  # on what it has seen; chance is 0.5


def test_no_paths_no_rows() -> None:
    assert FeatureExtractor("fake").fit_transform([]).shape == (0, 48)


def test_bad_image_is_named(pictures: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    sentence = r"bad\.png' cannot be decoded: it is no JPEG, PNG, .* picture; remove it from the list\."
    with pytest.raises(DecodeError, match=sentence) as caught:
        FeatureExtractor("fake").fit_transform([pictures / "cat" / "cat_000.png", bad])
    assert caught.value.reason == "not-an-image"


def test_unknown_backbone() -> None:
    with pytest.raises(BackboneError, match="There is no backbone 'vgg20'; did you mean"):
        FeatureExtractor("vgg20").fit([])
