"""Seven kinds of heads in five formats: do they answer as ffe does, how large are they, and how fast?

    FFE_TEST_DATA=../shared python -m pytest -m benchmark -s tests/benchmarks/bench_export.py

On 200 photos of flowers with the default backbone; heads are fitted on all 600. Each file is written, opened by its runtime and
asked about all 200, eight at a time. Its rate is that of this run: only those of one table compare. It takes about 10 minutes.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffe.bundle.io import Bundle
from ffe.commands.tune import train
from ffe.exporting import parity
from ffe.exporting.model_format import Exported
from ffe.exporting.model_formats import MODEL_FORMATS
from ffe.heads import HEADS, nystroem, svm
from ffe.heads.base import Head
from ffe.heads.ensemble import EnsembleHead
from ffe.heads.search_space import complete
from ffe.store.reader import FeatureStore

pytestmark = pytest.mark.benchmark

PHOTOS, MOST_DIFFERENCE = 200, 1e-5
FORMATS = ("onnx", "tflite", "keras", "savedmodel", "openvino")
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "logistic": ("logistic", {}),
    "dense": ("dense", {"epochs": 20}),
    "svm, linear": ("svm", {"kernel": "linear", "C": 1.0}),
    "svm, rbf": ("svm", {}),
    "svm, landmarks": ("svm", {}),
    "forest": ("forest", {"trees": 200}),
    "ensemble of three": ("ensemble", {}),
}


class WithHead(Bundle):
    """A model file with another head than its own."""

    other: Head

    def head(self) -> Head:
        return self.other


@pytest.fixture(scope="module")
def store(features_of: Any) -> Path:
    return Path(features_of("flowers", "efficientnetlite0", 224))


def fitted(kind: str, store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> Head:
    name, settings = KINDS[kind]
    if name == "ensemble":
        members = [fitted(one, store, monkeypatch) for one in ("logistic", "dense", "svm, rbf")]
        about = [{"head": m.name, "parameters": m.parameters, "temperature": 0.9} for m in members]
        ensemble = EnsembleHead({"members": about}, store.layout)
        ensemble.members = members
        return ensemble
    monkeypatch.setattr(svm, "EXACT_ROWS", 20 if kind == "svm, landmarks" else 6_000)
    monkeypatch.setattr(nystroem, "LANDMARKS", 256)
    parameters = complete(HEADS[name].space_for(store.layout), settings, name)
    return HEADS[name](parameters, store.layout).fit(store.features(), store.labels, len(store.class_names))


def test_seven_heads_in_five_formats(
    store: Path, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train(store, tmp_path / "model.ffe", head="logistic")
    bundle = WithHead(tmp_path / "model.ffe")
    only = os.environ.get("FFE_BENCH_FORMATS", ",".join(FORMATS)).split(",")
    monkeypatch.setattr(parity, "MOST_PHOTOS", PHOTOS)
    bundle.other = Bundle(tmp_path / "model.ffe").head()
    pictures = parity.photos_of(Exported(bundle, "float32", False), shared / "images" / "flowers")
    assert len(pictures) == PHOTOS
    with capsys.disabled():
        print("\n| head | format | largest difference | equal answers | MB | seconds to export | photos a second |")
        print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    with FeatureStore(store) as opened:
        heads = {kind: fitted(kind, opened, monkeypatch) for kind in KINDS}
    for kind, head in heads.items():
        bundle.other = head
        wanted = parity.answers_of_ffe(Exported(bundle, "float32", False), pictures)
        for name in only:
            exported = Exported(bundle, "float32", False)
            place = tmp_path / f"{len(os.listdir(tmp_path))}{MODEL_FORMATS[name].suffix}"
            started = time.perf_counter()
            MODEL_FORMATS[name].write(exported, place)
            seconds = time.perf_counter() - started
            answer = MODEL_FORMATS[name].open(place)
            parity.answers_of(answer, exported, pictures[:17])  # whatever is made ready at the first call
            started = time.perf_counter()
            found = parity.answers_of(answer, exported, pictures)
            rate = PHOTOS / (time.perf_counter() - started)
            difference = float(np.abs(found - wanted).max())
            equal = int((found.argmax(axis=1) == wanted.argmax(axis=1)).sum())
            size = sum(
                file.stat().st_size
                for part in (place, *(place.with_suffix(suffix) for suffix in MODEL_FORMATS[name].sides))
                for file in (part.rglob("*") if part.is_dir() else [part])
                if file.is_file()
            )
            cells = [
                kind,
                name,
                f"{difference:.1e}",
                f"{equal} of {PHOTOS}",
                f"{size / 1e6:.1f}",
                f"{seconds:.0f}",
                f"{rate:.0f}",
            ]
            with capsys.disabled():
                print(f"| {' | '.join(cells)} |")
            assert difference <= MOST_DIFFERENCE
            assert equal == PHOTOS
