"""From feature files to models: splits, refusals, warnings, and the refit."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffe.backbones.resolve import make_spec
from ffe.base.feature_layout import FeatureLayout
from ffe.bundle.io import Bundle
from ffe.cli.tune import print_result
from ffe.commands.evaluate import evaluate
from ffe.commands.tune import train, tune
from ffe.errors import BundleError, DataError, HeadError, ModelMismatchError, SourceError, SpecError, WeightsError
from ffe.extraction.run import extract
from ffe.heads import find_head
from ffe.images.drawings import draw_folder
from ffe.specs import BackboneSpec, ExtractSpec
from ffe.store.reader import FeatureStore
from ffe.store.schema import Row
from ffe.store.writer import write_store
from ffe.tuning.leak_claim import Leak
from ffe.tuning.tune_result import TuneResult
from ffe.wording.results import leak_text

LAYOUT = FeatureLayout.of_shape((4, 4, 3))


APART = (
    "are further apart than chance brings once in 100 times. "
    "Believe neither before it was tested on more photos: with a larger --test-fraction, or by ffe evaluate."
)
NOT_GROWN = '<p class="absent">It was not measured how accuracy grows with the number of photos'


def _store(
    path: Path,
    labels: Sequence[int],
    *,
    classes: Sequence[str] = ("cat", "dog"),
    splits: Sequence[str] | None = None,
    images: Sequence[int] | None = None,
    spec: ExtractSpec | None = None,
    broken: int | None = None,
    start: int = 0,
    names: Sequence[str] | None = None,
) -> Path:
    """Write a feature file of made-up rows; row i is image ``images[i]``, bright in the channel of its class."""
    images = list(range(start, start + len(labels))) if images is None else images
    values = {}
    rows = []
    for i, (label, image) in enumerate(zip(labels, images, strict=True)):
        features = np.random.default_rng(image).uniform(0, 1, LAYOUT.grid)
        features[:, :, max(label, 0)] += 0.4
        values[f"{i:04d}.png"] = features.reshape(-1).astype(np.float32) * (np.nan if i == broken else 1)
        digest = hashlib.sha256(str(image).encode()).hexdigest()
        given, name = ("" if column is None else column[i] for column in (splits, names))
        rows.append(Row(f"{i:04d}.png", digest, label, given, group=name))
    write_store(
        path,
        spec=spec or make_spec("fake")[0],
        layout=LAYOUT,
        class_names=classes,
        rows=rows,
        features=lambda row: values[row.path],
    )
    return path


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("ffe"), "propagate", True)
    caplog.set_level(logging.INFO, "ffe")
    return caplog


def _quick(store: Path, output: Path | None = None, **options: Any) -> TuneResult:
    return tune(store, output, **{"heads": ("logistic",), "trials": 2, **options})


def test_without_a_split_a_fifth_of_every_class_is_the_test(tmp_path: Path) -> None:
    store = _store(tmp_path / "f.h5", [0] * 40 + [1] * 20)
    result = _quick(store, tmp_path / "m.ffe")
    assert result.rows == {"train": 49, "valid": 0, "test": 11, "left_out": 0}
    assert result.validation == "5-fold cross-validation on 49 rows"
    assert sum(sum(row) for row in result.evaluation.confusion) == 11
    splits = Bundle(tmp_path / "m.ffe").splits()
    of = {name: {row.sha256 for row in splits if row.split == name} for name in ("train", "test")}
    assert len(of["train"]) == 49
    assert not of["train"] & of["test"]
    assert result.evaluation.accuracy > 0.7


def test_the_share_and_the_folds_can_be_chosen(tmp_path: Path) -> None:
    result = _quick(_store(tmp_path / "f.h5", [0, 1] * 20), test_fraction=0.4, folds=3)
    assert result.rows == {"train": 26, "valid": 0, "test": 14, "left_out": 0}
    assert result.validation == "3-fold cross-validation on 26 rows"
    assert result.output is None


def test_identical_images_stand_on_one_side(tmp_path: Path) -> None:
    labels = [0, 1] * 30
    images = [i % 30 for i in range(60)]
    _quick(_store(tmp_path / "f.h5", labels, images=images), tmp_path / "m.ffe")
    splits = Bundle(tmp_path / "m.ffe").splits()
    assert len(splits) == 60
    assert len({(row.sha256, row.split) for row in splits}) == 30


def test_the_splits_of_the_file_are_used(tmp_path: Path) -> None:
    splits = ["train"] * 24 + ["valid"] * 10 + ["test"] * 6
    result = _quick(_store(tmp_path / "f.h5", [0, 1] * 20, splits=splits), tmp_path / "m.ffe")
    assert result.rows == {"train": 24, "valid": 10, "test": 6, "left_out": 0}
    assert result.validation == "10 validation rows"
    assert result.leaderboard[0].spread is None
    assert {row.path: row.split for row in Bundle(tmp_path / "m.ffe").splits()} == {
        f"{i:04d}.png": split for i, split in enumerate(splits)
    }


def test_a_split_with_validation_rows_only_gets_a_test_from_the_training_rows(tmp_path: Path) -> None:
    result = _quick(_store(tmp_path / "f.h5", [0, 1] * 20, splits=["train"] * 30 + ["valid"] * 10))
    assert result.rows == {"train": 25, "valid": 10, "test": 5, "left_out": 0}


def test_other_files_bring_validation_and_test_rows(tmp_path: Path) -> None:
    store = _store(tmp_path / "f.h5", [0, 1] * 12)
    valid = _store(tmp_path / "v.h5", [1, 0] * 4, start=100)
    test = _store(tmp_path / "t.h5", [0] * 5, classes=("dog",), start=200)  # 0 is the dog here
    result = _quick(store, tmp_path / "m.ffe", valid=valid, test=test)
    assert result.rows == {"train": 24, "valid": 8, "test": 5, "left_out": 0}
    assert [sum(row) for row in result.evaluation.confusion] == [0, 5]
    names = {row.path for row in Bundle(tmp_path / "m.ffe").splits()}
    assert {"0000.png", "valid:0000.png", "test:0000.png"} <= names


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], type[Exception], str]] = {
    "other spec": (
        {},
        {"spec": make_spec("fake", 40)[0]},
        ModelMismatchError,
        r"hold different features \(preprocess\.size: stored 40x40, asked 32x32\); "
        r"extract both with the same options, and an int8 file with --like the other\.",
    ),
    "unknown class": ({}, {"classes": ("cat", "emu")}, ModelMismatchError, "has the class 'emu', which .* has not; give both"),
    "own valid rows": (
        {"splits": ["valid"] * 8 + ["train"] * 24},
        {},
        DataError,
        "brings its own valid rows; leave --valid out, or give a file without them",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_validation_file_that_does_not_fit_is_refused(tmp_path: Path, case: str) -> None:
    main, other, error, sentence = REFUSED[case]
    store = _store(tmp_path / "f.h5", [0, 1] * 16, **main)
    valid = _store(tmp_path / "v.h5", [0, 1] * 4, start=100, **other)
    with pytest.raises(error, match=sentence):
        _quick(store, valid=valid)


def test_a_validation_file_without_labels_is_refused(tmp_path: Path) -> None:
    valid = _store(tmp_path / "v.h5", [-1] * 4, classes=(), start=100)
    with pytest.raises(DataError, match=r"No row of '.*v\.h5' has a label; give a labelled file to --valid\."):
        _quick(_store(tmp_path / "f.h5", [0, 1] * 16), valid=valid)


BAD_FILES: dict[str, tuple[list[int], dict[str, Any], str]] = {
    "one class": (
        [0] * 9,
        {"classes": ("cat",)},
        r"All labelled rows of '.*f\.h5' are of one class \('cat'\); a head needs images of at least two classes\.",
    ),
    "class of one image": (
        [0] * 9 + [1],
        {},
        r"The class 'dog' has only 1 image in '.*f\.h5'; give every class at least 3 different images, or leave the class out\.",
    ),
    "class of copies of one image": ([0] * 9 + [1] * 4, {"images": [*range(9), 20, 20, 20, 20]}, "'dog' has only 1 image in"),
    "class of two images": ([0] * 9 + [1] * 2, {}, "The class 'dog' has only 2 images in"),
    "no labels": (
        [-1] * 9,
        {"classes": ()},
        r"No row of '.*f\.h5' has a label; extract from one folder per class, or from a CSV with labels\.",
    ),
    "NaN": (
        [0, 1] * 10,
        {"broken": 5},
        r"The features of '0005\.png' hold NaN or infinity; make them again with 'ffe extract --overwrite'\.",
    ),
    "class without training rows": (
        [0] * 9 + [1] * 5,
        {"splits": ["train"] * 9 + ["test"] * 5},
        r"The class 'dog' has no training rows in '.*f\.h5'; give it some, or drop the class\.",
    ),
    "classes without training rows": (
        [0] * 9 + [1] * 5 + [2] * 5,
        {"splits": ["train"] * 9 + ["test"] * 10, "classes": ("cat", "dog", "emu")},
        r"The classes 'dog' and 'emu' have no training rows in '.*f\.h5'; give them some, or drop the classes\.",
    ),
    "classes of a few images": (
        [0] * 9 + [1] * 2 + [2],
        {"classes": ("cat", "dog", "emu")},
        r"^2 classes have too few images: 'dog' \(2\) and 'emu' \(1\) in '.*f\.h5'; "
        r"give every class at least 3 different images, or leave these classes out\.$",
    ),
    "class with one training row": (
        [0] * 9 + [1] * 5,
        {"splits": ["train"] * 10 + ["test"] * 4},
        r"^In '.*f\.h5', 'dog' has a single training image; add images to it, or give --valid\.$",
    ),
    "classes with one training row": (
        [0] * 9 + [1] * 4 + [2] * 4,
        {"splits": ["train"] * 10 + ["test"] * 3 + ["train"] + ["test"] * 3, "classes": ("cat", "dog", "emu")},
        r"^In '.*f\.h5', 'dog' and 'emu' each have a single training image; add images to them, or give --valid\.$",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_rows_that_cannot_be_learnt_from_are_refused(tmp_path: Path, case: str) -> None:
    labels, options, sentence = BAD_FILES[case]
    store = _store(tmp_path / "f.h5", labels, **options)
    with pytest.raises(DataError, match=sentence):
        _quick(store, tmp_path / "m.ffe")
    assert not (tmp_path / "m.ffe").exists()


def test_a_nan_in_the_test_rows_is_refused_before_the_search(tmp_path: Path) -> None:
    splits = ["train"] * 19 + ["test"]
    store = _store(tmp_path / "f.h5", [0, 1] * 10, splits=splits, broken=19)
    trials: list[Any] = []
    with pytest.raises(DataError, match=r"The features of '0019\.png' hold NaN or infinity"):
        _quick(store, on_progress=trials.append)
    assert trials == []


def test_a_small_class_means_fewer_folds_and_a_warning(tmp_path: Path, warnings: pytest.LogCaptureFixture) -> None:
    result = _quick(_store(tmp_path / "f.h5", [0] * 20 + [1] * 4))
    assert result.validation.startswith("3-fold cross-validation")
    assert "the smallest class has 3 different training images, so there are 3 folds, not 5" in warnings.messages


def test_an_image_in_two_splits_is_warned_of(tmp_path: Path, warnings: pytest.LogCaptureFixture) -> None:
    splits = ["train"] * 20 + ["test"] * 10
    images = [*range(20), 0, 1, *range(22, 30)]
    _quick(_store(tmp_path / "f.h5", [0, 1] * 15, splits=splits, images=images))
    sentence = "2 images stand in the test split and in another one, so the test score is too good ('0020.png' and '0021.png')"
    assert sentence in warnings.messages


def test_an_image_in_two_classes_is_warned_of(tmp_path: Path, warnings: pytest.LogCaptureFixture) -> None:
    page = tmp_path / "page.html"
    train(_store(tmp_path / "f.h5", [0, 1] * 15, images=[0, 0, *range(2, 26), 2, 27, 2, 29]), head="logistic", report=page)
    sentence = "1 photo stands in more than one class ('0000.png' (cat) and '0001.png' (dog)); look for wrong labels"
    assert sentence in warnings.messages
    causes = re.findall("<h3>(the same file[^<]*) <small>", page.read_text("utf-8"))
    assert causes == ["the same file, in more than one class", "the same file"]  # the second one has three


@pytest.mark.parametrize("anonymous", [False, True])
def test_a_page_suspects_one_label_of_an_image_in_two_classes(tmp_path: Path, anonymous: bool) -> None:
    """An anonymous page has no names and no digests to tell the image by."""
    page, splits = tmp_path / "page.html", ["train"] * 20 + ["test"] * 10
    store = _store(tmp_path / "f.h5", [0, 1] * 15, images=[1, 1, *range(2, 30)], splits=splits)
    train(store, head="logistic", report=page, anonymous=anonymous)
    assert len(re.findall("labelled (?:cat|dog)", page.read_text("utf-8"))) == 1


def test_rows_without_labels_are_left_out_with_a_warning(tmp_path: Path, warnings: pytest.LogCaptureFixture) -> None:
    result = _quick(_store(tmp_path / "f.h5", [0, 1] * 10 + [-1] * 3))
    assert sum(result.rows.values()) == 20
    assert any(
        message.startswith("3 rows of ")
        and message.endswith("' have no label and are left out ('0020.png', '0021.png' and '0022.png')")
        for message in warnings.messages
    )


def test_two_runs_give_the_same_model(tmp_path: Path) -> None:
    store = _store(tmp_path / "f.h5", [0, 1] * 20)
    runs = [_quick(store, tmp_path / f"{i}.ffe", heads=("svm", "forest"), trials=1, folds=2, seed=3) for i in range(2)]
    boards = [[dataclasses.replace(trial, fit_seconds=0, finished=0) for trial in run.leaderboard] for run in runs]
    assert boards[0] == boards[1]
    assert runs[0].evaluation == runs[1].evaluation
    arrays = [Bundle(tmp_path / f"{i}.ffe").head().arrays() for i in range(2)]
    for name, array in arrays[0].items():
        np.testing.assert_array_equal(array, arrays[1][name], err_msg=name)
    assert _quick(store, seed=4).rows == {"train": 34, "valid": 0, "test": 6, "left_out": 0}


def test_the_winner_is_fitted_again_on_all_training_rows(tmp_path: Path) -> None:
    path = _store(tmp_path / "f.h5", [0, 1] * 20)
    result = _quick(path, tmp_path / "m.ffe", heads=("svm", "logistic"))
    best = result.leaderboard[0]
    assert (result.head.name, result.head.parameters) == (best.head, best.parameters)
    splits = {row.path: row.split for row in Bundle(tmp_path / "m.ffe").splits()}
    with FeatureStore(path) as store:
        rows = np.asarray([splits[name] == "train" for name in store.paths])
        assert rows.sum() == 34
        again = find_head(best.head)(best.parameters, LAYOUT).fit(store.features()[rows], store.labels[rows], 2)
    for name, array in again.arrays().items():
        np.testing.assert_array_equal(Bundle(tmp_path / "m.ffe").head().arrays()[name], array, err_msg=name)


def test_train_takes_settings(tmp_path: Path) -> None:
    store = _store(tmp_path / "f.h5", [0, 1] * 20)
    result = train(store, tmp_path / "m.ffe", head="svm", settings={"C": "3", "kernel": "linear"})
    assert result.head.parameters == {"pooling": "avg", "scaling": "sqrt_l2", "pca": False, "kernel": "linear", "C": 3.0}
    (trial,) = result.leaderboard
    assert (trial.head, trial.parameters) == ("svm", result.head.parameters)
    assert (result.rivals, result.comparison) == ((), None)
    manifest = Bundle(tmp_path / "m.ffe").manifest
    assert manifest.head.parameters == result.head.parameters
    assert manifest.leaderboard == (json.loads(json.dumps(trial.to_json())),)
    assert manifest.evaluation == {"test": json.loads(json.dumps(result.evaluation.to_json()))}


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"head": "tree"}, HeadError, "There is no head 'tree'"),
        ({"head": "svm", "settings": {"depth": 3}}, HeadError, "The head 'svm' has no parameter 'depth'"),
        ({"head": "svm", "settings": {"C": "many"}}, HeadError, "The parameter 'C' cannot be 'many'"),
    ],
)
def test_train_refuses_what_no_head_has(fake_store: Path, options: dict[str, Any], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        train(fake_store, **options)


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"heads": ("svm", "tree")}, HeadError, "There is no head 'tree'"),
        ({"heads": ()}, SpecError, "a search needs at least one head"),
        ({"trials": 0}, SpecError, "trials is 0, but must be at least 1"),
        ({"test_fraction": 0.9}, SpecError, "test_fraction is 0.9, but must be above 0 and at most 0.5"),
        ({"folds": 1}, SpecError, "folds is 1, but must be at least 2"),
        ({"folds": 30}, DataError, "different images for 30 folds; add images of it, or use fewer --folds"),
    ],
)
def test_tune_refuses_what_makes_no_search(
    fake_store: Path, options: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        _quick(fake_store, **options)


def test_an_output_that_is_no_model_is_left_alone(fake_store: Path, tmp_path: Path) -> None:
    path = tmp_path / "letter.model"
    path.write_text("dear")
    with pytest.raises(BundleError, match=r"letter\.model' exists and is no model file; choose another output\."):
        _quick(fake_store, path)
    assert path.read_text() == "dear"


@pytest.mark.parametrize("name", [".", "none/model.ffe"])
def test_an_output_that_cannot_be_a_file_is_refused(fake_store: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(
        BundleError,
        match=r"is a folder; name a file in an existing folder|lies in a folder that does not exist \('.*'\); name a file",
    ):
        train(fake_store, tmp_path / name, head="logistic")


def test_an_old_model_is_replaced(fake_store: Path, tmp_path: Path) -> None:
    train(fake_store, tmp_path / "m.ffe", head="logistic")
    train(fake_store, tmp_path / "m.ffe", overwrite=True, head="svm")
    assert Bundle(tmp_path / "m.ffe").manifest.head.name == "svm"


def test_other_weights_than_those_of_the_features_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest is compared before anything is built, so any bytes do for a weights file."""
    weights = tmp_path / "mobilenet_0.25_imagenet_no_top.weights.h5"
    weights.write_bytes(b"other weights")
    monkeypatch.setenv("FFE_WEIGHTS_DIR", str(tmp_path))
    spec = make_spec("mobilenet_0.25", 32)[0]
    stored = dataclasses.replace(spec, backbone=BackboneSpec("mobilenet_0.25", "file", "0123456789abcdef" * 4))
    store = _store(tmp_path / "f.h5", [0, 1] * 10, spec=stored)
    sentence = r"are not those that made the features \(0123456789ab\); pass the right file with --weights PATH\."
    with pytest.raises(WeightsError, match=sentence):
        _quick(store, tmp_path / "m.ffe")
    assert _quick(store, tmp_path / "m.ffe", with_backbone=False).output == tmp_path / "m.ffe"
    assert not Bundle(tmp_path / "m.ffe").has_backbone


def test_evaluate_on_features_and_on_images_agree(fake_bundle: Path, fake_store: Path, pictures: Path) -> None:
    stored, images = evaluate(fake_bundle, fake_store), evaluate(fake_bundle, pictures)
    assert stored.evaluation.confusion == images.evaluation.confusion
    assert stored.evaluation.log_loss == pytest.approx(images.evaluation.log_loss, abs=1e-6)
    assert stored.seen == images.seen == 33
    assert stored.skipped == images.skipped == 0


def test_evaluate_warns_of_rows_that_were_learnt_from(
    fake_bundle: Path, fake_store: Path, warnings: pytest.LogCaptureFixture
) -> None:
    evaluate(fake_bundle, fake_store)
    assert warnings.messages == [
        "33 of the 40 images were used to fit or choose this model, so the scores are too good; --unseen leaves them out"
    ]


def test_evaluate_unseen_is_the_test_of_the_model(fake_bundle: Path, fake_store: Path) -> None:
    result = evaluate(fake_bundle, fake_store, unseen=True)
    test = Bundle(fake_bundle).manifest.evaluation["test"]
    assert result.seen == 0
    assert result.evaluation.n == test["n"] == 7
    assert [list(row) for row in result.evaluation.confusion] == test["confusion"]
    assert result.evaluation.log_loss == pytest.approx(test["log_loss"], abs=1e-6)


def test_evaluate_unseen_needs_something_unseen(fake_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    known = next(row.path for row in Bundle(fake_bundle).splits() if row.split == "train")
    (tmp_path / "known.csv").write_text(f"path,label\n{pictures / known},{known.split('/')[0]}\n")
    sentence = r"The model was fitted or chosen on every image of '.*known\.csv'; score it on others\."
    with pytest.raises(DataError, match=sentence):
        evaluate(fake_bundle, tmp_path / "known.csv", unseen=True)


def test_evaluate_counts_what_it_leaves_out(fake_bundle: Path, tmp_path: Path) -> None:
    draw_folder(tmp_path / "new", 3, (50, 50))
    (tmp_path / "new" / "cat" / "bad.png").write_bytes(b"no picture")
    (tmp_path / "new" / "loose.png").write_bytes(b"outside")
    result = evaluate(fake_bundle, tmp_path / "new")
    assert result.evaluation.n == 6
    assert result.skipped == 2
    assert result.seen == 0


def test_evaluate_refuses_features_of_another_spec(fake_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    extract(pictures, tmp_path / "other.h5", backbone="fake", size=40)
    sentence = (
        r"was made for other features than '.*other\.h5' holds \(preprocess\.size: the file has 40x40, the model needs 32x32\)"
    )
    with pytest.raises(ModelMismatchError, match=sentence):
        evaluate(fake_bundle, tmp_path / "other.h5")


@pytest.mark.parametrize(
    ("table", "error", "sentence"),
    [
        (
            "path,label\n{image},emu\n",
            ModelMismatchError,
            r"has the class 'emu', which the model .* does not know \(it knows cat, dog\)",
        ),
        ("path,label\n{image},\n", SourceError, "have no labels; give one folder per class, or a CSV with labels"),
        ("path,label\nnone.png,cat\n", SourceError, "None of the images in .* could be decoded; check that it holds pictures"),
    ],
)
def test_evaluate_refuses_images_that_it_cannot_score(
    fake_bundle: Path, pictures: Path, tmp_path: Path, table: str, error: type[Exception], sentence: str
) -> None:
    (tmp_path / "table.csv").write_text(table.format(image=pictures / "cat" / "cat_000.png"))
    with pytest.raises(error, match=sentence):
        evaluate(fake_bundle, tmp_path / "table.csv")


@pytest.mark.parametrize("seed", range(6))
def test_an_image_in_two_classes_counts_once_for_the_folds(tmp_path: Path, seed: int) -> None:
    images = [*range(11), 10, *range(11, 16)]
    store = _store(tmp_path / "f.h5", [0] * 11 + [1] * 6, images=images)
    assert _quick(store, seed=seed).leaderboard


def test_many_rows_for_the_svm_are_approximated_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings: pytest.LogCaptureFixture
) -> None:
    for module in ("ffe.heads.svm", "ffe.tuning.score_svm"):
        monkeypatch.setattr(f"{module}.EXACT_ROWS", 20)
    store = _store(tmp_path / "f.h5", [0, 1] * 20)
    assert _quick(store, heads=("logistic", "svm")).rows["train"] == 34
    sentence = "above 20 training rows the svm works on an approximation of its kernel from 1024 of them (Nyström)"
    assert sentence in warnings.messages


def test_a_head_named_twice_is_searched_once(tmp_path: Path) -> None:
    store = _store(tmp_path / "f.h5", [0, 1] * 10)
    assert len(_quick(store, heads=("logistic", "logistic"), trials=1).leaderboard) == 1


def test_two_images_a_class_do_where_the_splits_are_given(tmp_path: Path) -> None:
    store = _store(tmp_path / "f.h5", [0, 1] * 2)
    test = _store(tmp_path / "t.h5", [0, 1] * 2, start=50)
    assert _quick(store, test=test, trials=1).rows == {"train": 4, "valid": 0, "test": 4, "left_out": 0}


def test_copies_are_counted_and_what_they_would_have_claimed(tmp_path: Path) -> None:
    """Labels that nothing tells: only copies on both sides of a fold would find them."""
    images = [i // 2 for i in range(80)]
    labels = np.random.default_rng(3).integers(0, 2, 40)[images].tolist()
    path = _store(tmp_path / "f.h5", labels, images=images, classes=("cat", "dog"))
    with FeatureStore(path) as store:
        assert len(set(store.sha256)) == 40
    result = _quick(path, heads=("svm",), trials=3)
    leak = result.leak
    assert leak is not None
    assert (leak.groups, leak.images, leak.links["copies"]) == (40, 80, 40)
    assert leak.claimed is not None
    assert leak.claimed >= leak.honest
    assert (leak.test_leaking, leak.test_clean) == (0, None)
    right = result.leaderboard[0].probabilities.argmax(axis=1)
    assert len(right) == result.rows["train"]
    assert result.to_json()["leak"] == leak.to_json()


def test_where_the_time_is_over_what_is_only_told_is_left_out(tmp_path: Path) -> None:
    store = _store(tmp_path / "f.h5", [0, 1] * 30, images=[i % 30 for i in range(60)])
    result = _quick(store, budget=0.001, report=tmp_path / "r.html")
    assert result.leak is not None
    assert (result.leak.extra["copies"], result.leak.claimed) == (30, None)
    why = "the time of --budget was over before; give more, or leave --budget out."
    assert f"{NOT_GROWN}: {why}</p>" in (tmp_path / "r.html").read_text("utf-8")
    assert len(result.leaderboard) == 1


def test_a_class_that_is_too_small_for_a_learning_curve_is_said_to_be(tmp_path: Path) -> None:
    _quick(_store(tmp_path / "f.h5", [0] * 40 + [1] * 10), report=tmp_path / "r.html")
    why = "a class has fewer than 8 training photos in a fold; add photos to it."
    assert f"{NOT_GROWN}: {why}</p>" in (tmp_path / "r.html").read_text("utf-8")


@pytest.mark.parametrize("wrong", [False, True])
def test_where_validation_and_test_are_further_apart_than_chance_it_is_said(
    tmp_path: Path, wrong: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    store = _store(tmp_path / "f.h5", [0, 1] * 40)
    _store(tmp_path / "right.h5", [0, 1] * 20, start=100)
    _store(tmp_path / "wrong.h5", [0, 1] * 20, start=200, classes=("dog", "cat"))
    result = _quick(store, test=tmp_path / ("wrong.h5" if wrong else "right.h5"), report=tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text("utf-8")
    assert (result.evaluation.accuracy < 0.5) is wrong
    assert bool(result.apart) is (APART in page) is wrong
    print_result(result, "m.ffe", None, as_json=False)
    assert (APART in capsys.readouterr().out) is wrong
    if wrong:
        figures = r"Validation \([\d.]+ % of 80 images right\) and test \([\d.]+ % of 40 images\) "
        assert re.fullmatch(figures + APART, result.apart)


def test_leaks_of_a_given_split_are_told(tmp_path: Path) -> None:
    splits = ["train"] * 30 + ["test"] * 10
    result = _quick(_store(tmp_path / "f.h5", [0, 1] * 20, splits=splits, images=[*range(30), *range(5), *range(35, 40)]))
    assert result.leak is not None
    assert result.leak.test_leaking == 5
    assert result.leak.test_clean is not None
    text = leak_text(result.leak.to_json(), result.evaluation.accuracy)
    assert "one side" not in text
    assert "The given split leaks: 5 test images belong together with images of the other splits. The test says " in text
    assert text.endswith(f"without those images it would say {result.leak.test_clean:.4f}.")


LEAK = Leak(
    *(2, 5, {}),
    honest=0.9,
    claimed=0.95,
    test_leaking=0,
    test_clean=None,
    extra={"copies": 1, "re-encoded": 0, "near": 2, "named": 0},
)
START = "3 images belong to others (1 the same file, 2 much alike), in 2 groups"
ALIKE = f"{START}; each group stays on one side."


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {},
            f"{ALIKE} Cross-validation says 0.9000; with the groups torn apart it would say 0.9500, which is too good.",
        ),
        (
            {"claimed": 0.89},
            f"{ALIKE} Cross-validation says 0.9000; with the groups torn apart it would say 0.8900, which is no better.",
        ),
        ({"claimed": None}, ALIKE),
        (
            {"claimed": None, "test_leaking": 1, "test_clean": 0.7},
            f"{START}. The given split leaks: 1 test image belongs together with images of the other splits. "
            "The test says 0.8000; without those images it would say 0.7000.",
        ),
        (
            {"claimed": None, "valid_leaking": 3},
            f"{START}. The given split leaks: 3 validation images belong together with images that train, "
            "so the validation is too good.",
        ),
        (
            {"groups": 1, "images": 2, "extra": {"copies": 1}, "claimed": None},
            "1 image belongs to others (1 the same file), in 1 group; each group stays on one side.",
        ),
    ],
)
def test_leaks_in_words(changes: dict[str, Any], text: str) -> None:
    assert leak_text(dataclasses.replace(LEAK, **changes).to_json(), 0.8) == text


def test_without_copies_nothing_is_said_of_leaks(fake_store: Path) -> None:
    result = _quick(fake_store, trials=1)
    assert result.leak is None


def test_a_model_that_is_replaced_keeps_its_test_images(tmp_path: Path, warnings: pytest.LogCaptureFixture) -> None:
    """Near copies join it: under the same seed and share its test images test again, in tune and in train."""
    model = tmp_path / "m.ffe"
    _quick(_store(tmp_path / "a.h5", [0, 1] * 30), model, trials=1, with_backbone=False)
    names = [f"group {i % 60}" for i in range(240)]
    more = _store(tmp_path / "b.h5", [0, 1] * 120, names=names)

    def tested() -> set[str]:
        return {row.sha256 for row in Bundle(model).splits() if row.split == "test"}

    before = tested()
    warnings.clear()
    _quick(more, model, overwrite=True, trials=1, with_backbone=False)
    assert before < tested()
    assert any(" in the test, where the model that is replaced had " in message for message in warnings.messages)
    before = tested()
    train(more, model, overwrite=True, head="logistic", with_backbone=False)
    assert tested() == before
    train(more, model, overwrite=True, head="logistic", with_backbone=False, seed=1)
    assert not before <= tested()


def test_what_was_left_out_of_the_test_is_not_unseen(tmp_path: Path, warnings: pytest.LogCaptureFixture) -> None:
    """Images saved again, whose originals validate: no fresh test either."""
    values = {f"{i:04d}.png": np.random.default_rng(i % 30).uniform(0, 1, 256).astype(np.float32) for i in range(60)}
    hashes = np.random.default_rng(0).integers(1, 2**63, 30)
    rows = [
        Row(name, hashlib.sha256(name.encode()).hexdigest(), i % 2, "valid" if i < 20 else "", phash=int(hashes[i % 30]))
        for i, name in enumerate(values)
    ]
    path = tmp_path / "f.h5"
    spec, classes = make_spec("fake")[0], ("cat", "dog")
    write_store(
        path,
        spec=spec,
        layout=FeatureLayout.of_shape((2, 2, 64)),
        class_names=classes,
        rows=rows,
        features=lambda row: values[row.path],
    )
    result = _quick(path, tmp_path / "m.ffe", trials=1, with_backbone=False)
    left_out, tested = result.rows["left_out"], result.rows["test"]
    assert min(left_out, tested) > 0
    assert evaluate(tmp_path / "m.ffe", path).seen == 60 - tested
    assert warnings.messages[-1] == (
        f"{60 - tested} of the 60 images were used to fit or choose this model, or belong together with such images, "
        "so the scores are too good; --unseen leaves them out"
    )
    assert evaluate(tmp_path / "m.ffe", path, unseen=True).evaluation.n == tested
