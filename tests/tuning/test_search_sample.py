"""A search among many rows looks at a sample; the head is fitted on all of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import ffe
from ffe.base.digests import bytes_digest
from ffe.base.feature_layout import FeatureLayout, Part
from ffe.bundle.card import model_card
from ffe.bundle.io import Bundle
from ffe.splits.holdout import LEFT_OUT, TEST, TRAIN, VALID
from ffe.tuning import search_sample
from ffe.tuning.search_sample import searched_sides
from tests.feature_files import write_features

ROWS = 400


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let 100 rows be many."""
    for module in ("search_sample", "setup"):
        monkeypatch.setattr(f"ffe.tuning.{module}.SEARCH_ROWS", 100)
    monkeypatch.setattr("ffe.commands.tune.SEARCH_ROWS", 50)
    monkeypatch.setattr(search_sample, "FIT_ROWS", 40)
    monkeypatch.setattr(search_sample, "_FEWEST_OF_A_CLASS", 4)


def split_of(side: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> Any:
    names = tuple(bytes_digest(str(i).encode()) for i in range(len(labels)))
    images = SimpleNamespace(labels=labels, sha256=names)
    return SimpleNamespace(
        side=side, images=images, groups=SimpleNamespace(ids=groups), rows=lambda of: np.flatnonzero(side == of)
    )


def sides(given: str = TRAIN) -> Any:
    labels = np.where(np.arange(ROWS) % 41 == 0, 2, np.arange(ROWS) % 2)
    groups = np.where(np.arange(ROWS) < 60, np.arange(ROWS) // 6 + 1_000, np.arange(ROWS))
    side = np.where(np.arange(ROWS) % 5 == 0, TEST, np.where(np.arange(ROWS) % 3 == 0, given, TRAIN)).astype("U5")
    return split_of(side, labels, groups)


def test_few_rows_stay_as_they_are() -> None:
    split = sides()
    some = split_of(split.side[:100], split.images.labels[:100], split.groups.ids[:100])
    assert searched_sides(some, None, 0) is some.side


def test_a_sample_is_stratified_keeps_groups_and_leaves_the_test_alone() -> None:
    split = sides()
    side, labels, groups = searched_sides(split, None, 0), split.images.labels, split.groups.ids
    assert 40 <= (side == TRAIN).sum() <= 56
    assert 60 <= (side == VALID).sum() <= 76
    assert not (side[split.side == TEST] != LEFT_OUT).any()
    trained = split.side == TRAIN
    for group in np.unique(groups[trained]).tolist():
        assert len(set(side[trained & (groups == group)].tolist())) == 1
    for name in (TRAIN, VALID):
        shares = np.bincount(labels[side == name]) / (side == name).sum()
        np.testing.assert_allclose(shares[:2], 0.49, atol=0.12)
        assert (labels[side == name] == 2).any()
    assert bytes_digest(",".join(side).encode())[:8] == "6f33d3cd"  # the same on every machine
    assert not np.array_equal(side, searched_sides(split, None, 1))


def test_folds_that_are_asked_for_and_validation_rows_are_kept() -> None:
    side = searched_sides(sides(), 3, 0)
    assert not (side == VALID).any()
    assert 100 <= (side == TRAIN).sum() <= 116
    given = sides(VALID)
    side = searched_sides(given, None, 0)
    assert (given.side[side == VALID] == VALID).all()
    assert (given.side[side == TRAIN] == TRAIN).all()
    assert 60 <= (side == VALID).sum() <= 80


def test_a_class_whose_images_stand_in_groups_of_others_still_trains() -> None:
    labels = np.zeros(300, np.int64)
    labels[150:] = 1
    groups = np.arange(300)
    labels[7], groups[7] = 2, groups[8]
    for seed in range(5):
        side = searched_sides(split_of(np.full(300, TRAIN, "U5"), labels, groups), None, seed)
        assert set(labels[side == TRAIN].tolist()) == {0, 1, 2} or (side[7] == side[8] == TRAIN)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A feature file of 400 rows of two classes."""
    path = tmp_path_factory.mktemp("many") / "many.h5"
    features = np.random.default_rng(0).normal(size=(ROWS, 12)).astype(np.float32)
    layout = FeatureLayout((Part(1, 1, 12),))
    store = write_features(path, features, layout)
    shifted = features + 0.4 * store.labels[np.argsort(store.paths)][:, None]
    path.unlink()
    write_features(path, shifted.astype(np.float32), layout)
    return path


def test_the_head_of_a_sampled_search_is_fitted_on_all_rows(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"head": "logistic", "settings": {"C": 1.0, "scaling": "standard"}, "with_backbone": False}
    with caplog.at_level("INFO", "ffe"):
        made = ffe.train(stored, tmp_path / "many.ffe", **options, report=tmp_path / "r.html")
    assert (
        "It was not measured how accuracy grows with the number of photos: "
        "that is done where the search looks at all photos, up to 50,000 of them.</p>"
    ) in (tmp_path / "r.html").read_text("utf-8")
    train = made.rows["train"]
    (said,) = made.approximations
    assert said == f"the search looked at 102 of {train} images"
    assert said in caplog.text
    assert made.validation == f"61 validation rows, after fits on 41 rows, of {train}"
    assert made.to_json()["approximations"] == [said]
    for module in ("ffe.tuning.search_sample", "ffe.tuning.setup", "ffe.commands.tune"):
        monkeypatch.setattr(f"{module}.SEARCH_ROWS", 50_000)
    whole = ffe.train(stored, tmp_path / "whole.ffe", **options)
    assert whole.approximations == ()
    for one, other in zip(made.head.linear() or (), whole.head.linear() or (), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3)
    manifest = Bundle(tmp_path / "many.ffe").manifest
    assert manifest.search["approximations"] == [said]
    assert f"Approximate: {said}." in model_card(manifest)
    assert "approximations" not in Bundle(tmp_path / "whole.ffe").manifest.search
