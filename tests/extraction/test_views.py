"""From a feature file with views to a model, its scores, its report and its averaged answers."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from ffe.backbones.resolve import make_spec
from ffe.base.digests import bytes_digest
from ffe.base.feature_layout import FeatureLayout
from ffe.bundle.io import Bundle
from ffe.bundle.manifest import Manifest
from ffe.cli import cli
from ffe.commands.evaluate import evaluate
from ffe.commands.tune import train, tune
from ffe.dataset.stored_rows import split_rows
from ffe.engines.fake import FakeEngine
from ffe.errors import BundleError, DataError, HeadError, SpecError
from ffe.evaluation.temperature import with_temperature
from ffe.extraction.run import extract
from ffe.heads.logistic import LogisticHead
from ffe.images.augment import augment
from ffe.images.augment_text import parse_augment
from ffe.images.decode import decode
from ffe.predictor import Predictor
from ffe.specs import AugmentSpec, PreprocessSpec, ViewsSpec
from ffe.store.reader import FeatureStore
from ffe.store.schema import Row
from ffe.store.writer import write_store
from ffe.tuning import learning_curve_fits
from ffe.tuning.tune_result import TuneResult
from ffe.wording.results import trained_views_text

LAYOUT = FeatureLayout.of_shape((2, 2, 12))
CHANGES = "flip,zoom=0.6-1.2,brightness=0.7-1.3"
VIEWS = ViewsSpec(3, AugmentSpec(flip=True))


def store_of(
    path: Path, *, splits: Sequence[str] | None = None, views: ViewsSpec | None = VIEWS, numbers: range = range(90)
) -> Path:
    """Write images of two classes that overlap, and views of those that train, which are alike."""
    rows, values = [], {}
    for i in numbers:
        split = "" if splits is None else splits[i % len(splits)]
        plain = np.random.default_rng(i).uniform(0, 1, LAYOUT.grid)
        plain[:, :, 6 * (i % 2) : 6 * (i % 2) + 6] += 0.15
        for view in range(1 + (views.count if views is not None and split in {"", "train"} else 0)):
            moved = plain + (np.random.default_rng([i, view]).normal(0, 0.1, LAYOUT.grid) if view else 0)
            rows.append(Row(f"{i:04d}.png", hashlib.sha256(b"%d" % i).hexdigest(), i % 2, split, view))
            values[rows[-1].path, view] = moved.reshape(-1).astype(np.float32)
    spec = make_spec("fake")[0]
    write_store(
        path,
        spec=spec,
        layout=LAYOUT,
        class_names=("cat", "dog"),
        rows=rows,
        features=lambda row: values[row.path, row.view],
        views=views,
    )
    return path


@pytest.fixture(scope="module")
def with_views(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return store_of(tmp_path_factory.mktemp("views") / "views.h5")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return store_of(tmp_path_factory.mktemp("plain") / "plain.h5", views=None)


def scores(result: TuneResult) -> list[Any]:
    """Return all that a search came to, but for times and views."""
    trials = [dataclasses.replace(trial, fit_seconds=0, finished=0) for trial in result.leaderboard]
    arrays = {name: array.tolist() for name, array in result.head.arrays().items()}
    probabilities = [trial.probabilities.tolist() for trial in trials]
    return [trials, probabilities, arrays, result.evaluation, result.calibration, result.rows, result.validation]


# heads -------------------------------------------------------------------------------------------------------------------


def test_without_its_views_a_file_trains_as_one_that_has_none(
    with_views: Path, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ffe.commands.tune.warm_up", lambda: None)  # two trials are those that a search opens with
    options: dict[str, Any] = {"heads": ["svm", "logistic", "dense"], "trials": 2, "epochs": 4, "ensemble": 2}
    left_out, none = tune(with_views, views="none", **options), tune(plain, **options)
    assert scores(left_out) == scores(none)
    assert none.views is None
    assert left_out.views is not None
    assert trained_views_text(left_out.views.to_json()) == "3 of each training image (flip), not used"
    assert scores(tune(with_views, **options)) != scores(none)


@pytest.mark.parametrize(("head", "views"), [("logistic", None), ("svm", "all"), ("dense", "epoch"), ("logistic", "none")])
def test_scores_are_those_of_plain_rows(with_views: Path, plain: Path, head: str, views: str | None) -> None:
    settings = {"epochs": 3} if head == "dense" else None
    result, other = (train(path, head=head, settings=settings, views=views) for path in (with_views, with_views))
    assert scores(result) == scores(other)
    other = train(plain, head=head, settings=settings)
    assert (result.rows, result.validation, result.evaluation.n) == (other.rows, other.validation, other.evaluation.n)
    assert len(result.leaderboard[0].probabilities) == result.rows["train"]
    with FeatureStore(plain) as store:
        tested = split_rows(store, None, None, 0.2, 0).side == "test"
        predicted = result.head.predict_proba(store.features(np.flatnonzero(tested))).argmax(axis=1)
        assert result.evaluation.accuracy == pytest.approx((predicted == store.labels[tested]).mean())


@pytest.mark.parametrize("views", [None, "none"])
def test_a_model_records_the_views_and_is_scored_on_plain_rows(
    with_views: Path, plain: Path, tmp_path: Path, views: str | None
) -> None:
    train(with_views, tmp_path / "m.ffe", head="logistic", views=views)
    bundle = Bundle(tmp_path / "m.ffe")
    with FeatureStore(plain) as store:
        assert sorted(row.path for row in bundle.splits()) == sorted(store.paths)
    assert bundle.manifest.views is not None
    assert bundle.manifest.views["used"] == (views or "all")
    assert (bundle.manifest.views["count"], bundle.manifest.augment) == (3, VIEWS.augment)
    assert bundle.manifest.search.get("views") == views
    assert evaluate(tmp_path / "m.ffe", with_views).to_json() == evaluate(tmp_path / "m.ffe", plain).to_json()
    train(plain, tmp_path / "none.ffe", head="logistic")
    assert Bundle(tmp_path / "none.ffe").manifest.augment is None


@pytest.mark.parametrize(
    "change",
    [
        {"used": "sometimes"},
        {"count": 0},
        {"count": "many"},
        {"augment": {"flip": True}},
        {"more": 1},
    ],
)
def test_a_record_with_other_views_than_there_can_be_is_refused(trained: Path, change: dict[str, Any]) -> None:
    record = Bundle(trained).manifest.to_json()
    assert Manifest.from_json(record).views == record["views"]
    for views in ({**record["views"], **change}, list(change), "many"):
        with pytest.raises((BundleError, SpecError)):  # Bundle makes the first of the second
            Manifest.from_json({**record, "views": views})


def test_given_splits_choose_and_test_on_plain_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store_of(tmp_path / "f.h5", splits=("train", "train", "train", "valid", "valid", "test", "test"))
    seen = []

    def spying(self: Any, x: np.ndarray, *rest: Any, **options: Any) -> Any:
        seen.append(len(x))
        return whole(self, x, *rest, **options)

    whole = LogisticHead.fit_rowwise
    monkeypatch.setattr(LogisticHead, "fit_rowwise", spying)
    result = train(path, head="logistic")
    assert result.rows["train"] == 39
    assert seen == [39 * 4]
    assert len(result.leaderboard[0].probabilities) == result.rows["valid"] == 26
    assert result.evaluation.n == result.rows["test"] == 25


def test_rows_of_a_second_file_are_plain(with_views: Path, tmp_path: Path) -> None:
    other = store_of(tmp_path / "test.h5", numbers=range(90, 110))
    with FeatureStore(with_views) as store, FeatureStore(other) as test:
        rows = split_rows(store, None, test, 0.2, 0)
    assert rows.counts()["test"] == 20
    assert rows.views.shape == (110, 3)
    assert (rows.views[:90] > 0).all()
    assert (rows.views[90:] == -1).all()


def test_an_interrupted_search_is_not_continued_on_other_views(
    with_views: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ffe.commands.tune.warm_up", lambda: None)
    output, options = tmp_path / "m.ffe", {"heads": ["logistic"], "trials": 2}

    def stop(*rest: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("ffe.commands.tune.refit", stop)
        with pytest.raises(KeyboardInterrupt):
            tune(with_views, output, **options)  # type: ignore[arg-type]
        with pytest.raises(KeyboardInterrupt):
            tune(with_views, output, views="none", **options)  # type: ignore[arg-type]
    assert tune(with_views, output, **options).known == 2  # type: ignore[arg-type]


def test_what_belongs_together_is_found_among_images(with_views: Path, plain: Path, tmp_path: Path) -> None:
    result, other = train(with_views, head="logistic"), train(plain, head="logistic")
    assert result.leak == other.leak
    assert result.leak is None


def test_the_cost_that_is_said_speaks_of_images_and_views(
    with_views: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("ffe"), "propagate", True)
    monkeypatch.setattr("ffe.commands.tune.warm_up", lambda: None)
    caplog.set_level(logging.INFO, "ffe")
    result = tune(with_views, heads=["logistic"], trials=1)
    each = round(result.rows["train"] * 0.8)
    assert f"each fitted 5 times on about {each} images and their views" in caplog.text


def test_the_report_counts_images_and_names_the_views(with_views: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def spying(*rest: Any, **options: Any) -> Any:
        sizes.append([point.size for point in rest[0]])
        return whole(*rest, **options)

    whole = learning_curve_fits.fit_learning_curve
    monkeypatch.setattr(learning_curve_fits, "fit_learning_curve", spying)
    page, other = tmp_path / "r.html", tmp_path / "none.html"
    result = train(with_views, head="logistic", report=page)
    train(with_views, head="logistic", report=other, views="none")
    text = page.read_text("utf-8")
    assert f"{result.rows['train']} train" in text
    assert "3 of each training image (flip)" in text
    assert "3 of each training image (flip), not used" in other.read_text("utf-8")
    assert sizes[0] == sizes[1]
    assert sizes[0][-1] == int(result.rows["train"] * 0.8)


@pytest.mark.parametrize("views", ["all", "epoch"])
def test_views_of_a_file_that_has_none(plain: Path, views: str) -> None:
    with pytest.raises(DataError) as error:
        train(plain, head="dense", views=views)
    assert str(error.value) == (
        f"'{plain}' has no views, so --views {views} has nothing to take; leave it out, "
        f"or add some with 'ffe extract SOURCE -o {plain} --views 4 --augment flip,zoom=0.8-1.2,rotate=15'."
    )


def test_views_drawn_for_epochs_of_heads_that_have_none(with_views: Path) -> None:
    with pytest.raises(HeadError) as error:
        tune(with_views, heads=["svm", "forest"], views="epoch")
    assert str(error.value) == (
        "--views epoch draws a view for each epoch, and of the heads only dense trains by epochs; "
        "search it too, or use --views all."
    )


def test_an_unknown_use_of_views(with_views: Path) -> None:
    with pytest.raises(SpecError, match="views is 'some', but must be one of all, epoch, none"):
        train(with_views, head="svm", views="some")


# answers that are averaged -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of features with views."""
    folder = tmp_path_factory.mktemp("trained")
    extract(pictures, folder / "f.h5", backbone="fake", views=2, augment=CHANGES)
    train(folder / "f.h5", folder / "m.ffe", head="logistic")
    return folder / "m.ffe"


def by_hand(model: Path, file: Path, changes: str, views: int) -> np.ndarray:
    """Return the mean of the probabilities of a picture and of its views: float64 (K,)."""
    bundle = Bundle(model)
    data = file.read_bytes()
    pixels = decode(data, PreprocessSpec((32, 32), "none"))
    pictures = [augment(pixels, parse_augment(changes), bytes_digest(data), view) for view in range(1 + views)]
    features = FakeEngine(bundle.manifest.spec, 8).extract(np.stack(pictures))
    return with_temperature(bundle.head().predict_proba(features), bundle.manifest.temperature).mean(axis=0)


@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_the_answer_is_the_mean_over_the_picture_and_its_views(
    trained: Path, pictures: Path, tmp_path: Path, batch_size: int
) -> None:
    files = sorted(pictures.glob("*/*_00[0-4].png"))
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    predictor = Predictor(trained, tta=3, batch_size=batch_size)
    assert predictor.views == ViewsSpec(3, parse_augment(CHANGES))
    answers = list(predictor.predict([*files[:4], bad, *files[4:]]))
    assert answers.pop(4).label is None
    assert [answer.path for answer in answers] == [str(file) for file in files]
    plain = list(Predictor(trained).predict(files))
    for file, answer in zip(files, answers, strict=True):
        np.testing.assert_allclose(list(answer.probabilities.values()), by_hand(trained, file, CHANGES, 3), atol=1e-6)
    assert any(a.probabilities != b.probabilities for a, b in zip(answers, plain, strict=True))


def test_a_copy_under_another_name_has_the_same_answer(trained: Path, pictures: Path, tmp_path: Path) -> None:
    file = pictures / "dog" / "dog_003.png"
    shutil.copy(file, tmp_path / "other.png")
    one, other = Predictor(trained, tta=5).predict([file, tmp_path / "other.png"])
    (again,) = Predictor(trained, tta=5, batch_size=2).predict_bytes([file.read_bytes()])
    for copy in (other, again):
        np.testing.assert_allclose(list(one.probabilities.values()), list(copy.probabilities.values()), atol=1e-6)


def test_other_changes_may_be_asked_for(fake_bundle: Path, pictures: Path) -> None:
    file = pictures / "dog" / "dog_003.png"
    (answer,) = Predictor(fake_bundle, tta=2, augment="vflip,seed=3").predict([file])
    np.testing.assert_allclose(list(answer.probabilities.values()), by_hand(fake_bundle, file, "vflip,seed=3", 2), atol=1e-6)


def test_scores_of_averaged_answers(trained: Path, pictures: Path) -> None:
    result = evaluate(trained, pictures, tta=3)
    right = []
    for file in sorted(pictures.glob("*/*.png")):
        right.append(("cat", "dog")[by_hand(trained, file, CHANGES, 3).argmax()] == file.parent.name)
    assert result.evaluation.n == 40
    assert result.evaluation.accuracy == pytest.approx(np.mean(right))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"tta": 4},
            "The features of '{model}' had no views, so --tta cannot tell how views are to differ; "
            "add --augment flip,zoom=0.8-1.2, for example.",
        ),
        ({"augment": "flip"}, "--augment says how views differ, but none are averaged; add --tta 4, for example."),
        ({"tta": -1, "augment": "flip"}, "The number of views of an image is -1, but must be 1 to 1000."),
    ],
)
def test_views_that_cannot_be_averaged(fake_bundle: Path, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError) as error:
        Predictor(fake_bundle, **options)
    assert str(error.value) == sentence.format(model=fake_bundle)


def test_features_have_no_other_views(trained: Path) -> None:
    features = trained.with_name("f.h5")
    with pytest.raises(SpecError) as error:
        evaluate(trained, features, tta=2)
    assert str(error.value) == (
        f"--tta makes views of pictures, and '{features}' holds features; give the folder or CSV of the pictures."
    )


# the command line --------------------------------------------------------------------------------------------------------


def ran(*arguments: object) -> str:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_commands_speak_of_images_and_their_views(pictures: Path, tmp_path: Path) -> None:
    features, model = tmp_path / "f.h5", tmp_path / "m.ffe"
    asked = ("extract", pictures, "-o", features, "--backbone", "fake", "--views", 2, "--augment", CHANGES)
    assert ran(*asked, "--dry-run").startswith("40 files and 80 views: 120 to compute, ")
    done = ran(*asked)
    assert done.startswith(f"{features}: 120 rows: 40 images with 2 views each, 120 computed, 0 skipped, in ")
    assert " rows/s\n" in done
    for other, gone in (("flip,rotate=3", 80), (CHANGES, 40)):  # made otherwise, or more than are asked for
        again = ran(*asked[:-3], 1, "--augment", other, "--dry-run")
        assert f", {gone} views in it not asked for any more: thrown away, " in again
    assert "thrown away" not in ran(*asked, "--dry-run")
    shown = ran("info", features)
    assert "rows         120 (40 images and 80 views), with 48 features each" in shown
    assert f"views        2 views of each image that trains ({CHANGES})" in shown
    assert "cat        20" in shown
    trained = ran("train", features, "-o", model, "--head", "logistic", "--views", "all")
    assert trained.startswith("logistic: ")
    about = f"2 of each training image ({CHANGES})"
    assert f"views        {about}" in ran("info", model)
    assert f"Views of the photos: {about}." in Bundle(model).card()
    answer = ran("predict", model, pictures / "cat" / "cat_000.png", "--tta", 2)
    assert answer.startswith(f"{pictures}/cat/cat_000.png: ")
    assert ran("evaluate", model, pictures, "--tta", 1, "--augment", "flip").startswith("40 images")
