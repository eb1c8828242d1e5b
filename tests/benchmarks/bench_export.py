"""Seven kinds of heads in five formats: what they answer, how large they are, and how fast.

    FFE_TEST_DATA=../shared python -m pytest -m benchmark -s tests/benchmarks/bench_export.py

On MobileNet at 224 pixels. Each file is written by ``ffe.export``, and asked by its own runtime about the golden pictures and 200
photos of flowers. Its rate is that of arrays in memory, one by one and eight at a time, in the fastest of three rounds; rates of
one run compare. ``FFE_BENCH_FORMATS=onnx,keras`` asks for some formats only.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ffe
from ffe.bundle.io import Bundle
from ffe.commands.export_model import ModelExport
from ffe.exporting import parity
from ffe.exporting.model_format import Answer, Exported
from ffe.exporting.model_formats import MODEL_FORMATS
from tests.exporting.seven_heads import FORMATS, MOST_DIFFERENCE, seven_models

pytestmark = pytest.mark.benchmark

PHOTOS, ROUNDS, A_ROUND = 200, 3, 16


def rate(answer: Answer, name: str, pixels: np.ndarray, batch: int) -> float:
    """Return photos a second."""
    best = 0.0
    answer({name: pixels[:batch]})
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for start in range(0, len(pixels), batch):
            answer({name: pixels[start : start + batch]})
        best = max(best, len(pixels) / (time.perf_counter() - started))
    return best


def test_seven_heads_in_five_formats(
    features_of: Any, shared: Path, tmp_path: Path, weights: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    flowers = shared / "images" / "flowers"
    models = seven_models(features_of("flowers", "mobilenet", 224), tmp_path)
    monkeypatch.setattr(parity, "MOST_PHOTOS", PHOTOS)
    exported = Exported(Bundle(models["logistic"]), "float32", False)
    (name,) = exported.inputs
    pixels = np.concatenate([photo.given[name] for photo in parity.photos_of(exported, flowers)[:A_ROUND]])
    print("\n| head | format | largest difference | equal answers | MB | seconds to export | photos/s, one by one | by eight |")
    print(f"|---|---|{'---:|' * 6}")
    wrong = []
    for kind, model in models.items():
        for format in os.environ.get("FFE_BENCH_FORMATS", ",".join(FORMATS)).split(","):
            place = tmp_path / f"out{MODEL_FORMATS[format].suffix}"
            try:
                done = ffe.export(model, place, format=format, check=flowers, overwrite=True)
            except Exception as error:  # the others are measured before it is told
                wrong.append(f"{kind}, {format}: {error}")
                continue
            assert isinstance(done, ModelExport)
            difference, equal, pictures = done.proof.largest_difference, done.proof.equal_answers, done.proof.pictures
            assert pictures >= PHOTOS
            assert difference is not None
            if difference > MOST_DIFFERENCE or equal != pictures:
                wrong.append(f"{kind}, {format}: {done.proof}")
            answer = MODEL_FORMATS[format].open(place)
            print(
                f"| {kind} | {format} | {difference:.0e} | {equal} of {pictures} | {done.bytes / 1e6:.1f} | {done.seconds:.0f} "
                f"| {rate(answer, name, pixels, 1):.0f} | {rate(answer, name, pixels, 8):.0f} |",
                flush=True,
            )
    assert not wrong, "\n".join(wrong)
