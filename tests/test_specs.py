"""Options as values, and their digests."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffe.base.digests import bytes_digest, canonical_json, file_digest
from ffe.errors import SpecError
from ffe.specs import AugmentSpec, BackboneSpec, ExtractSpec, HeadSpec, PreprocessSpec, SearchSpec, spec_differences, spec_digest

SPEC = ExtractSpec(BackboneSpec("vgg19", "file", "a" * 64, "block5_pool"), PreprocessSpec((150, 100), "caffe"))

specs = st.builds(
    ExtractSpec,
    st.builds(
        BackboneSpec, st.text(), st.sampled_from(["file", "random"]), st.text("0123456789abcdef"), st.none() | st.text(min_size=1)
    ),
    st.builds(
        PreprocessSpec,
        st.tuples(st.integers(1, 8192), st.integers(1, 8192)),
        st.sampled_from(["caffe", "tf", "torch", "none"]),
    ),
    st.sampled_from(["float32", "mixed_float16", "mixed_bfloat16"]),
    st.sampled_from(["float32", "float16"]),
)


@given(specs)
def test_extract_spec_goes_through_json_and_back(spec: ExtractSpec) -> None:
    again = ExtractSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec
    assert spec_digest(again) == spec_digest(spec)


@given(specs, specs)
def test_digests_are_equal_where_specs_are(one: ExtractSpec, other: ExtractSpec) -> None:
    assert (spec_digest(one) == spec_digest(other)) == (one == other)
    assert (spec_differences(one, other) == []) == (one == other)


@pytest.mark.parametrize(
    "spec",
    [
        HeadSpec("svm", {"C": 1.5, "kernel": "rbf"}),
        SearchSpec(("dense", "svm"), trials=3, seed=7),
        SearchSpec(
            ("svm",), seconds=60.0, oracle="random", metric="log_loss", fixed={"C": "3"}, ensemble=3, class_weights="none"
        ),
        AugmentSpec(),
        AugmentSpec(flip=True, zoom=(0.5, 1), crop=(0.3, 1), ratio=(0.5, 2), rotate=15, fill="wrap", normalize=True, seed=7),
    ],
)
def test_other_specs_go_through_json_and_back(spec: HeadSpec | SearchSpec | AugmentSpec) -> None:
    assert type(spec).from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_equal_numbers_make_equal_specs_and_equal_json() -> None:
    whole, broken = AugmentSpec(zoom=(1, 2), rotate=15), AugmentSpec(zoom=(1.0, 2.0), rotate=15.0)
    assert whole == broken
    assert canonical_json(whole.to_json()) == canonical_json(broken.to_json())


def test_zero_has_no_sign() -> None:
    one, other = (PreprocessSpec((5, 5), "normalize", mean=(zero,) * 3, std=(1, 1, 1)) for zero in (0.0, -0.0))
    assert canonical_json(one.to_json()) == canonical_json(other.to_json())
    assert canonical_json(AugmentSpec(rotate=-0.0).to_json()) == canonical_json(AugmentSpec(rotate=0).to_json())


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        (replace(SPEC, dtype="float16"), "dtype: stored float32, asked float16"),
        (replace(SPEC, precision="mixed_float16"), "precision: stored float32, asked mixed_float16"),
        (replace(SPEC, backbone=replace(SPEC.backbone, name="vgg16")), "backbone.name: stored vgg19, asked vgg16"),
        (replace(SPEC, backbone=replace(SPEC.backbone, layer=None)), "backbone.layer: stored block5_pool, asked the last"),
        (
            replace(SPEC, backbone=replace(SPEC.backbone, weights_sha256="b" * 64)),
            "backbone.weights_sha256: stored aaaaaaaaaaaa, asked bbbbbbbbbbbb",
        ),
        (
            replace(SPEC, backbone=replace(SPEC.backbone, weights="scratch", weights_sha256="b" * 64)),
            "backbone.weights: stored weights from a file, asked weights trained from scratch",
        ),
        (replace(SPEC, preprocess=PreprocessSpec((100, 150), "caffe")), "preprocess.size: stored 150x100, asked 100x150"),
        (replace(SPEC, preprocess=PreprocessSpec((150, 100), "tf")), "preprocess.mode: stored caffe, asked tf"),
    ],
)
def test_every_field_counts_and_is_named(changed: ExtractSpec, difference: str) -> None:
    assert spec_digest(changed) != spec_digest(SPEC)
    assert spec_differences(SPEC, changed) == [difference]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: PreprocessSpec((0, 5), "tf"), r"size is 0x5, but must be two whole numbers from 1 to 8192"),
        (lambda: PreprocessSpec((5, 8193), "tf"), r"size is 5x8193, but must be two whole numbers"),
        (lambda: PreprocessSpec((5,), "tf"), r"size is 5, but must be two whole numbers"),  # type: ignore[arg-type]
        (lambda: PreprocessSpec((1.5, 2), "tf"), r"size is 1\.5x2, but must be two whole numbers"),  # type: ignore[arg-type]
        (lambda: PreprocessSpec((5, 5), "vgg"), "mode is 'vgg', but must be one of caffe, tf, torch, none"),  # type: ignore[arg-type]
        (
            lambda: PreprocessSpec((5, 5), "tf", interpolation="cubic"),
            "interpolation is 'cubic', but must be one of bilinear, bicubic, lanczos, nearest",
        ),
        (lambda: PreprocessSpec((5, 5), "tf", crop=0.001), r"crop is 0.001, but must be a share from 0\.01 to 1"),
        (
            lambda: PreprocessSpec((5, 5), "torch", channels="bgr"),
            "channels is 'bgr', but the mode torch has its own; leave it out",
        ),
        (
            lambda: PreprocessSpec((5, 5), "tf", crop=0.5, placement="keras"),  # type: ignore[arg-type]
            "placement is 'keras', but must be one of timm, huggingface",
        ),
        (lambda: PreprocessSpec((5, 5), "tf", decode="draft"), "decode is 'draft', but must be one of exact, fast"),
        (lambda: BackboneSpec("vgg19", "web", ""), "weights is 'web', but must be one of file, random"),  # type: ignore[arg-type]
        (
            lambda: replace(SPEC, precision="int4"),
            "precision is 'int4', but must be one of float32, mixed_float16, mixed_bfloat16, int8",
        ),
        (
            lambda: replace(SPEC, quantized_sha256="0" * 64),
            "only the precision int8 has a quantised model, not float32",
        ),
        (lambda: replace(SPEC, dtype="float64"), "dtype is 'float64', but must be one of float32, float16"),
        (lambda: SearchSpec(()), "a search needs at least one head"),
        (lambda: SearchSpec(("svm",), trials=0), "trials is 0, but must be at least 1"),
        (lambda: SearchSpec(("svm",), folds=1), "folds is 1, but must be at least 2"),
        (lambda: SearchSpec(("svm",), test_fraction=0.6), "test_fraction is 0.6, but must be above 0 and at most 0.5"),
        (lambda: SearchSpec(("svm",), seconds=0), "a budget of 0 seconds cannot be kept; give one above 0"),
        (lambda: SearchSpec(("svm",), seconds=float("inf")), "a budget of inf seconds cannot be kept"),
        (lambda: SearchSpec(("svm",), ensemble=-1), "ensemble is -1, but must be at least 0"),
        (lambda: SearchSpec(("svm",), seed=2**31), "a seed must be below 2147483648, and epochs at most 10000"),
        (
            lambda: SearchSpec(("svm",), oracle="grid"),  # type: ignore[arg-type]
            "oracle is 'grid', but must be one of bayesian, hyperband, random",
        ),
        (
            lambda: SearchSpec(("svm",), metric="f1"),  # type: ignore[arg-type]
            "metric is 'f1', but must be one of auto, accuracy, balanced_accuracy, log_loss",
        ),
        (lambda: AugmentSpec(flip=1), "flip is 1, but must be true or false"),  # type: ignore[arg-type]
        (lambda: AugmentSpec(zoom=0.2), r"zoom is 0\.2, but must be a range \(low, high\) with 0\.1 <= low <= high <= 10"),  # type: ignore[arg-type]
        (lambda: AugmentSpec(zoom=(2, 1)), r"zoom is \(2, 1\), but must be a range"),
        (lambda: AugmentSpec(zoom=(0.05, 1)), r"zoom is \(0\.05, 1\), but must be a range"),
        (lambda: AugmentSpec(crop=(0.5, 1.1)), r"crop is \(0\.5, 1\.1\), but must be a range \(low, high\) with 0\.01 <= low"),
        (lambda: AugmentSpec(crop=(0.5, 1), ratio=None), "ratio is None, but must be a range"),  # type: ignore[arg-type]
        (lambda: AugmentSpec(ratio=(1, 2)), "ratio is the shape of what crop cuts out, so it needs crop"),
        (lambda: AugmentSpec(brightness=(0, float("nan"))), r"brightness is \(0, nan\), but must be a range"),
        (lambda: AugmentSpec(contrast=(-1, 1)), r"contrast is \(-1, 1\), but must be a range"),
        (lambda: AugmentSpec(rotate=-5), "rotate is -5, but must be a number from 0 to 180"),
        (lambda: AugmentSpec(shift=True), "shift is True, but must be a number from 0 to 1"),
        (lambda: AugmentSpec(shear=61), "shear is 61, but must be a number from 0 to 60"),
        (lambda: AugmentSpec(fill="mirror"), "fill is 'mirror', but must be one of nearest, reflect, constant, wrap"),  # type: ignore[arg-type]
        (lambda: AugmentSpec(seed=2**31), "seed is 2147483648, but must be a whole number from 0 to 2147483647"),
        (
            lambda: SearchSpec(("svm",), class_weights="even"),  # type: ignore[arg-type]
            "class_weights is 'even', but must be one of auto, balanced, none",
        ),
    ],
)
def test_values_are_checked_once(make: Any, sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        make()


@pytest.mark.parametrize("value", [{}, {"size": [5, 5]}, {"size": [5, 5], "mode": "tf", "colour": 1}, None, []])
def test_json_of_another_shape_is_refused(value: Any) -> None:
    with pytest.raises(
        SpecError, match="a PreprocessSpec needs the fields size, mode, interpolation, orientation, background, decode"
    ):
        PreprocessSpec.from_json(value)


def test_one_way_of_preparing_pictures_has_one_spec() -> None:
    """What changes nothing is no part of it, so older files keep their digests."""
    plain = PreprocessSpec((5, 5), "tf")
    assert PreprocessSpec((5, 5), "tf", resize="stretch", crop=1, channels="rgb", placement="huggingface") == plain
    assert set(plain.to_json()) == {"size", "mode", "interpolation", "orientation", "background", "decode"}
    cut = PreprocessSpec((5, 5), "tf", crop=0.5, placement="timm")
    assert (cut.placement, plain.whole, cut.whole) == (None, True, False)
    assert PreprocessSpec.from_json(replace(cut, placement="huggingface").to_json()).placement == "huggingface"


def test_canonical_json() -> None:
    assert canonical_json({"b": (1, 2.5), "a": "ä", "c": None}) == '{"a":"ä","b":[1,2.5],"c":null}'.encode()
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            canonical_json({"a": value})


def test_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(data)
    assert file_digest(tmp_path / "file") == bytes_digest(data) == hashlib.sha256(data).hexdigest()
