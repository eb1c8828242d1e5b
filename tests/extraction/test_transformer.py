"""Feature extraction as a step of a scikit-learn pipeline."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils._set_output import ADAPTERS_MANAGER
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import check_is_fitted

from ffe.base.openvino_ir import import_openvino
from ffe.errors import BackboneError, DecodeError, SourceError, SpecError, WeightsError
from ffe.extraction.transformer import FeatureExtractor
from ffe.store.reader import FeatureStore


def test_equals_the_stored_features(pictures: Path, fake_store: Path) -> None:
    with FeatureStore(fake_store) as store:
        paths = [pictures / path for path in store.paths]
        features = FeatureExtractor("fake", batch_size=7, workers=3).fit_transform(paths)
        assert features.dtype == np.float32
        np.testing.assert_array_equal(features, store.features())


def test_equal_pictures_have_equal_rows(pictures: Path) -> None:
    """Here every path gets a row of its own, also a path that comes twice."""
    path = str(pictures / "cat" / "cat_000.png")
    rows = FeatureExtractor("fake").fit_transform([path, str(pictures / "dog" / "dog_000.png"), path])
    assert rows.shape == (3, 48)
    np.testing.assert_array_equal(rows[0], rows[2])
    assert np.abs(rows[0] - rows[1]).max() > 0.01


def test_parameters_and_clone() -> None:
    step = FeatureExtractor("fake", size=24, batch_size=5)
    expected = {
        "backbone": "fake",
        "size": 24,
        "weights": "imagenet",
        "layer": None,
        "batch_size": 5,
        "workers": None,
        "decode": "exact",
        "max_pixels": 178_956_970,
        "max_bytes": 1 << 30,
        "truncated": "skip",
        **dict.fromkeys(("mean", "std", "resize", "crop", "interpolation", "channels")),
    }
    assert step.get_params() == expected
    assert clone(step).get_params() == expected
    assert step.set_params(size=40).size == 40
    with pytest.raises(NotFittedError):
        check_is_fitted(step)
    check_is_fitted(step.fit([]))
    assert step.n_features_out_ == 48
    with pytest.raises(NotFittedError):
        check_is_fitted(clone(step))


def test_pipeline_learns(pictures: Path) -> None:
    paths = sorted(pictures.glob("*/*.png"))
    labels = [path.parent.name for path in paths]
    model = make_pipeline(FeatureExtractor("fake"), LogisticRegression(C=100, max_iter=2000)).fit(paths, labels)
    assert set(model.predict(paths[:5])) <= {"cat", "dog"}
    assert model.score(paths, labels) > 0.8  # on what it has seen; chance is 0.5


def test_no_paths_no_rows() -> None:
    assert FeatureExtractor("fake").fit_transform([]).shape == (0, 48)


def test_bad_image_is_named(pictures: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    sentence = r"bad\.png' cannot be decoded: it is no JPEG, PNG, .* picture; remove it from the list\."
    with pytest.raises(DecodeError, match=sentence) as caught:
        FeatureExtractor("fake").fit_transform([pictures / "cat" / "cat_000.png", bad])
    assert caught.value.reason == "not-an-image"


def test_unknown_backbone() -> None:
    with pytest.raises(BackboneError, match=r"There is no backbone 'vgg20'; 'ffe backbones' lists all of them\. Did you mean"):
        FeatureExtractor("vgg20").fit([])


def test_how_pictures_are_prepared_is_named_as_for_extract(tmp_path: Path) -> None:
    """Of a network that gives its input, plus one."""
    ov = import_openvino()
    from openvino import opset13 as ops

    source = ops.parameter([-1, 3, 8, 8], ov.Type.f32, "x")
    ov.save_model(ov.Model([ops.add(source, np.float32(1))], [source], "g"), tmp_path / "m.xml", compress_to_fp16=False)
    Image.new("RGB", (16, 8), (255, 0, 51)).save(tmp_path / "a.png")
    options: dict[str, Any] = {"mean": (0.0, 0.5, 0.2), "std": (0.5, 0.5, 0.4), "channels": "bgr", "resize": "longest"}
    step = FeatureExtractor(str(tmp_path / "m.xml"), interpolation="bicubic", crop=0.5, **options)
    rows = step.fit_transform([tmp_path / "a.png"]).reshape(8, 8, 3)
    assert rows[4, 4] == pytest.approx([1.4, 0, 3.0], abs=1e-5)
    spec = step.spec_.preprocess
    assert (spec.interpolation, spec.crop, spec.resize) == ("bicubic", 0.5, "longest")
    for refused, sentence in (
        ({"mean": 0.5}, "mean is 0.5, but must be a tuple or a list"),
        ({"std": (127.5,) * 3}, "divide by 255"),
    ):
        with pytest.raises(SpecError, match=sentence):
            clone(step).set_params(**refused).fit([])
    with pytest.raises(BackboneError, match="How pictures are prepared for the backbone 'fake' is fixed; leave --crop out"):
        FeatureExtractor("fake", crop=0.5).fit([])


def _pickled(step: FeatureExtractor) -> FeatureExtractor:
    return pickle.loads(pickle.dumps(step))  # type: ignore[no-any-return]  # noqa: S301 (our own)


@pytest.mark.parametrize("copied", [_pickled, copy.copy, copy.deepcopy])
def test_a_copy_gives_the_same_rows(pictures: Path, copied: Callable[[FeatureExtractor], FeatureExtractor]) -> None:
    paths = sorted(pictures.glob("cat/*.png"))[:3]
    step = FeatureExtractor("fake", size=24).fit(paths)
    rows = step.transform(paths)
    other = copied(step)
    check_is_fitted(other)
    np.testing.assert_array_equal(other.transform(paths), rows)
    np.testing.assert_array_equal(copied(FeatureExtractor("fake", size=24)).fit_transform(paths), rows)


def test_a_saved_pipeline_answers_as_before(pictures: Path, tmp_path: Path) -> None:
    paths = sorted(pictures.glob("*/*.png"))
    model = make_pipeline(FeatureExtractor("fake"), LogisticRegression()).fit(paths, [path.parent.name for path in paths])
    joblib.dump(model, tmp_path / "model.joblib")
    np.testing.assert_array_equal(joblib.load(tmp_path / "model.joblib").predict_proba(paths), model.predict_proba(paths))


def test_a_copy_does_not_take_other_weights(pictures: Path) -> None:
    saved = pickle.dumps(FeatureExtractor("fake").fit([]))
    other = pickle.loads(saved)  # noqa: S301 (our own)
    other.spec_ = dataclasses.replace(other.spec_, backbone=dataclasses.replace(other.spec_.backbone, weights_sha256="0" * 64))
    with pytest.raises(WeightsError, match="are not those that made the features"):
        other.transform([pictures / "cat" / "cat_000.png"])


class Named:
    """A table, as scikit-learn's ``set_output`` makes it of pandas or polars, with as little as that needs."""

    container_lib = "named"
    columns: list[str]
    rows: np.ndarray

    def create_container(self, rows: np.ndarray, given: object, columns: Callable[[], np.ndarray], inplace: bool = True) -> Any:
        table = Named()
        table.columns, table.rows = list(columns()), getattr(rows, "rows", rows)  # fit_transform wraps what transform has wrapped
        return table


def test_names_and_tables(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(path) for path in sorted(pictures.glob("cat/*.png"))[:2]]
    monkeypatch.setitem(ADAPTERS_MANAGER.adapters, "named", Named())
    step = FeatureExtractor("fake").set_output(transform="named")
    table = step.fit_transform(paths)
    assert table.columns == list(step.get_feature_names_out()) == [f"featureextractor{i}" for i in range(48)]
    np.testing.assert_array_equal(table.rows, FeatureExtractor("fake").fit_transform(paths))


def test_pictures_in_other_forms(pictures: Path) -> None:
    paths = [str(path) for path in sorted(pictures.glob("cat/*.png"))[:2]]
    step = FeatureExtractor("fake")
    rows = step.fit_transform(paths)
    for same in (np.asarray(paths), np.asarray(paths)[:, None], [Image.open(path) for path in paths]):
        np.testing.assert_array_equal(step.transform(same), rows)


def test_what_is_no_picture_is_refused_by_name() -> None:
    with pytest.raises(SourceError, match=r"^A float64 is no picture; give a path, "):
        FeatureExtractor("fake").fit_transform(np.zeros(3))


_NUMBERS = "its input is pictures, and this check gives it numbers, which it refuses"
_UNREAD = "fit looks at no picture, so it cannot refuse what it is given"
EXPECTED_TO_FAIL = {
    **dict.fromkeys(
        (
            "check_fit_score_takes_y",
            "check_dont_overwrite_parameters",
            "check_estimators_dtypes",
            "check_pipeline_consistency",
            "check_estimators_pickle",
            "check_f_contiguous_array_estimator",
            "check_transformer_general",
            "check_methods_sample_order_invariance",
            "check_methods_subset_invariance",
            "check_fit2d_1sample",
            "check_fit2d_1feature",
            "check_dict_unchanged",
            "check_fit_idempotent",
        ),
        _NUMBERS,
    ),
    "check_transformers_unfitted": "transform fits by itself where nothing was fitted, for there is nothing to learn",
    "check_estimator_sparse_tag": _UNREAD,
    "check_estimator_sparse_array": _UNREAD,
}


@pytest.mark.filterwarnings("ignore")
def test_the_checks_of_scikit_learn() -> None:
    results = check_estimator(FeatureExtractor("fake"), expected_failed_checks=EXPECTED_TO_FAIL, on_fail=None, on_skip=None)
    assert [result["check_name"] for result in results if result["status"] == "failed"] == []
    assert {result["check_name"] for result in results if result["status"] == "xfail"} == set(EXPECTED_TO_FAIL)
    assert sum(result["status"] == "passed" for result in results) >= 15
