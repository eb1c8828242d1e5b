"""Every kind of head in every format answers about 200 real photos as ffe does.

FFE_TEST_DATA=../shared python -m pytest -m slow tests/exporting/test_every_head_and_format.py
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import ffe
from ffe.bundle.io import Bundle
from ffe.commands.export_model import ModelExport
from ffe.exporting import parity
from ffe.exporting.model_formats import MODEL_FORMATS
from ffe.store.reader import FeatureStore
from tests.exporting.seven_heads import FORMATS, KINDS, MOST_DIFFERENCE, seven_models

pytestmark = pytest.mark.slow

PHOTOS, SIZE = 200, 128


@pytest.fixture(scope="module")
def features(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The features of 600 flowers of five kinds, by MobileNet with its real weights."""
    path = tmp_path_factory.mktemp("features") / "f.h5"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FFE_WEIGHTS_DIR", str(shared / "weights"))
        ffe.extract(shared / "images" / "flowers", path, backbone="mobilenet", size=SIZE)
    return path


@pytest.fixture(scope="module")
def models(features: Path, shared: Path) -> dict[str, Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FFE_WEIGHTS_DIR", str(shared / "weights"))
        return seven_models(features, features.parent)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_ffe(
    kind: str, format: str, models: dict[str, Path], shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in MODEL_FORMATS[format].packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed; the extra 'export' brings it")
    monkeypatch.setattr(parity, "MOST_PHOTOS", PHOTOS)
    written = tmp_path / f"out{MODEL_FORMATS[format].suffix}"
    done = ffe.export(models[kind], written, format=format, check=shared / "images" / "flowers")
    assert isinstance(done, ModelExport)
    assert done.proof.pictures >= PHOTOS
    assert done.proof.largest_difference is not None
    assert done.proof.largest_difference <= MOST_DIFFERENCE
    assert done.proof.equal_answers == done.proof.pictures


def test_models_differ(features: Path, models: dict[str, Path]) -> None:
    """What is compared is no constant, and each head has its own opinion."""
    with FeatureStore(features) as store:
        answers = {kind: Bundle(path).head().predict_proba(store.features()) for kind, path in models.items()}
    for i, (kind, answer) in enumerate(answers.items()):
        assert len(np.unique(answer.argmax(axis=1))) == 5, kind
        assert all(np.abs(answer - other).max() > 0.01 for other in list(answers.values())[:i]), kind
