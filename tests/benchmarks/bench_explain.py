"""What a heat map costs beside the prediction of its photo.

    python -m pytest -m benchmark -s tests/benchmarks/bench_explain.py

With the default backbone, on drawn photos, for each kind of head, averaged and
flat features. Prediction and explanation of the same photos are measured in
turn, in one run, with the engine warm: seconds alone mean little on a shared
machine. A kernel on flat features costs most where it was fitted on many photos:
that is measured on random features, beside what a map costs whose rows are all
asked about from their first value to the last.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffe.base.feature_layout import FeatureLayout
from ffe.commands.explain import Explainer
from ffe.commands.tune import train
from ffe.explaining.heatmap import heat_map
from ffe.extraction.run import extract
from ffe.heads import find_head
from ffe.heads.search_space import complete
from ffe.images.drawings import draw_folder

pytestmark = pytest.mark.benchmark

TRAINED, ASKED, ROUNDS = 60, 8, 5
MANY = 1_000
MOST_SECONDS = 0.3  # of a photo, beside its prediction
HEADS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("logistic", {"pooling": "avg", "scaling": "standard"}),
    ("logistic", {"pooling": "avg"}),
    ("svm", {"pooling": "avg"}),
    ("svm", {"pooling": "flat"}),
    ("dense", {"pooling": "avg"}),
    ("forest", {"pooling": "avg"}),
    ("forest", {"pooling": "flat"}),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explain")
    draw_folder(folder / "photos", TRAINED, (224, 224))
    extract(folder / "photos", folder / "f.h5")
    return folder


def seconds(call: Callable[[], Iterable[object]]) -> float:
    started = time.perf_counter()
    for _ in call():
        pass
    return (time.perf_counter() - started) / ASKED


@pytest.mark.parametrize(("head", "settings"), HEADS, ids=str)
def test_a_map_takes_little_beside_the_prediction(folder: Path, tmp_path: Path, head: str, settings: dict[str, Any]) -> None:
    train(folder / "f.h5", tmp_path / "m.ffe", head=head, settings=settings)
    photos = sorted((folder / "photos").glob("*/*.png"))[:ASKED]
    explainer = Explainer(tmp_path / "m.ffe", batch_size=ASKED)
    drawer = Explainer(tmp_path / "m.ffe", batch_size=ASKED, output=tmp_path / "why")
    for warm in (explainer, drawer):
        list(warm.explain(photos))
    rounds = [
        (
            seconds(lambda: explainer.predictor.predict(photos)),
            seconds(lambda: explainer.explain(photos)),
            seconds(lambda: drawer.explain(photos)),
        )
        for _ in range(ROUNDS)
    ]
    predicted, explained, drawn = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(
        f"{head} {settings}: prediction {1000 * predicted:.0f} ms a photo; "
        f"beside it the map {1000 * (explained - predicted):.0f} ms, and its picture {1000 * (drawn - explained):.0f} ms"
    )
    assert drawn - predicted <= MOST_SECONDS


def test_a_map_of_a_kernel_on_many_flat_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    layout, kind = FeatureLayout.of_shape((7, 7, 1280)), find_head("svm")
    rows = np.random.default_rng(0).exponential(size=(MANY, layout.dims)).astype(np.float32)
    head = kind(complete(kind.space, {"pooling": "flat"}, "svm"), layout).fit(rows, np.arange(MANY) % 2, 2)

    def milliseconds(call: Callable[[], object]) -> float:
        started = time.perf_counter()
        call()
        return 1000 * (time.perf_counter() - started)

    def of_whole_rows() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(kind, "proba_of_replaced", lambda *given: None)
            heat_map(head, layout, rows[0], 0)

    calls = (lambda: head.predict_proba(rows[:1]), lambda: heat_map(head, layout, rows[0], 0), of_whole_rows)
    for call in calls:
        call()
    predicted, mapped, whole = np.median([[milliseconds(call) for call in calls] for _ in range(ROUNDS)], axis=0)
    print(
        f"svm on {MANY:,} flat photos: the head answers in {predicted:.0f} ms, "
        f"its map takes {mapped:.0f} ms, and {whole:.0f} ms from whole rows"
    )
    assert mapped <= 1000 * MOST_SECONDS
    assert mapped < whole
