"""A model that is fitted on its test photos too, after they have tested it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from ffe.bundle.io import Bundle
from ffe.cli import cli
from ffe.commands.evaluate import evaluate
from ffe.commands.tune import train
from ffe.errors import BundleError
from ffe.finetuning.base_model import open_base
from ffe.splits.holdout import TEST, TESTED, TRAIN
from ffe.store.reader import FeatureStore


@pytest.fixture(scope="module")
def models(fake_store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("refit")
    for refit in ("train", "all"):
        train(fake_store, folder / f"{refit}.ffe", head="logistic", refit=refit)
    return {refit: folder / f"{refit}.ffe" for refit in ("train", "all")}


def test_the_head_has_seen_every_row_and_the_scores_are_those_of_before(models: dict[str, Path], fake_store: Path) -> None:
    plain, every = (Bundle(models[refit]) for refit in ("train", "all"))
    assert every.manifest.evaluation == plain.manifest.evaluation
    assert every.manifest.calibration == plain.manifest.calibration
    with FeatureStore(fake_store) as store:
        features, labels = store.features(), store.labels
        digests = {digest: i for i, digest in enumerate(store.sha256)}
    head = plain.head()
    # the order of the rows in a fit is that of the file
    again = type(head)(head.parameters, plain.manifest.layout).fit(features, labels, len(plain.manifest.class_names))
    np.testing.assert_allclose(every.head().predict_proba(features), again.predict_proba(features), atol=1e-6)
    assert np.abs(head.predict_proba(features) - again.predict_proba(features)).max() > 1e-4
    sides = {digests[row.sha256]: row.split for row in every.splits()}
    assert {i for i, side in sides.items() if side == TESTED} == {digests[r.sha256] for r in plain.splits() if r.split == TEST}
    assert set(sides.values()) == {TRAIN, TESTED}


def test_the_file_says_so(models: dict[str, Path]) -> None:
    said = "all photos, those of the test too, after the test; the scores are those of the head before"
    for refit, told in (("train", False), ("all", True)):
        shown = CliRunner().invoke(cli, ["info", str(models[refit])]).stdout
        assert (f"fitted on    {said}"[:60] in shown) is told
        assert (f"It is fitted on {said}." in Bundle(models[refit]).card()) is told
        assert Bundle(models[refit]).manifest.search["refit"] == refit


def test_its_test_photos_are_no_unseen_photos(models: dict[str, Path], fake_store: Path) -> None:
    seen = {refit: evaluate(path, fake_store).seen for refit, path in models.items()}
    with FeatureStore(fake_store) as store:
        assert seen["all"] == len(store.labels) > seen["train"]


def test_a_model_in_its_place_tests_on_the_same_photos(models: dict[str, Path], fake_store: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.ffe"
    path.write_bytes(models["all"].read_bytes())
    bundle = Bundle(path)
    # another draw than the seed's own, which only the replaced file knows of
    turned = {TRAIN: TRAIN, TESTED: TESTED}
    rows = bundle.splits()
    swap = next(row for row in rows if row.split == TRAIN)
    bundle.replace_splits([replace(row, split=TESTED if row == swap else turned[row.split]) for row in rows])
    train(fake_store, path, head="logistic", overwrite=True)
    assert {row.sha256 for row in Bundle(path).splits() if row.split == TEST} >= {swap.sha256}


def test_it_cannot_be_fine_tuned(models: dict[str, Path]) -> None:
    with pytest.raises(BundleError) as caught:
        open_base(models["all"], "imagenet")
    assert str(caught.value) == (
        f"'{models['all']}' was fitted on its test photos too (--refit all), so none is left to test what becomes of it; "
        "start from a model that was made without that option."
    )
