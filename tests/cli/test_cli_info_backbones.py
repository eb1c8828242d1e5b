"""``ffe info`` and ``ffe backbones``."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ffe.backbones.catalog import CATALOG, DEFAULT
from ffe.backbones.families import licence_texts
from ffe.backbones.keras_build import build
from ffe.backbones.resolve import make_spec
from ffe.base.feature_layout import FeatureLayout, Part
from ffe.bundle.card import model_card
from ffe.bundle.io import Bundle, write_bundle
from ffe.cli import cli
from ffe.commands.tune import tune
from ffe.extraction.throughput_log import remember
from ffe.specs import BackboneSpec, ExtractSpec, PreprocessSpec
from ffe.store.reader import FeatureStore


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_info_of_features_as_json(fake_store: Path) -> None:
    result = _run("info", fake_store, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    value = json.loads(result.stdout)
    with FeatureStore(fake_store) as store:
        assert value == json.loads(json.dumps(store.summary()))
        assert value["spec_digest"] == store.spec_digest
        assert value["spec"] == json.loads(json.dumps(store.spec.to_json()))
    assert value["rows"] == 40
    assert value["dims"] == 48
    assert value["grid"] == [4, 4, 3]
    assert value["skipped"] == 0
    assert value["class_names"] == ["cat", "dog"]
    assert value["class_counts"] == {"cat": 20, "dog": 20}


def test_info_of_features_as_text(fake_store: Path) -> None:
    result = _run("info", fake_store)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "rows         40, with 48 features each (4x4x3), float32\n" in result.stdout
    assert "backbone     fake, RANDOM weights (untrained)\n" in result.stdout
    assert result.stdout.endswith("cat        20\ndog        20\n")


def test_info_writes_thousands_with_commas(fake_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = FeatureStore.summary
    many = {"rows": 1200, "class_counts": {"cat": 1200}}
    monkeypatch.setattr(FeatureStore, "summary", lambda store: summary(store) | many)
    lines = _run("info", fake_store).stdout.splitlines()
    assert lines[0].startswith("rows         1,200, with ")
    assert lines[-1].split() == ["cat", "1,200"]


def test_info_names_skipped_files(pictures: Path, tmp_path: Path) -> None:
    rows = [f"{pictures / kind / f'{kind}_000.png'},{kind}\n" for kind in ("cat", "dog")]
    (tmp_path / "list.csv").write_text("".join(["path,label\n", *rows, "none.png,dog\n"]))
    assert _run("extract", tmp_path / "list.csv", "-o", tmp_path / "f.h5", "--backbone", "fake").exit_code == 0
    assert _run("info", tmp_path / "f.h5").stdout.splitlines()[-1].split("  ")[0] == "none.png"
    (skipped,) = json.loads(_run("info", tmp_path / "f.h5", "--json").stdout)["skipped_files"]
    assert skipped == {"path": "none.png", "reason": "missing", "message": "no such file"}


def test_info_of_a_model_as_json(fake_store: Path, tmp_path: Path) -> None:
    model = tmp_path / "m.ffe"
    tune(fake_store, model, heads=("logistic",), trials=2)
    result = _run("info", model, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    value = json.loads(result.stdout)
    manifest = Bundle(model).manifest
    assert value["head"] == "logistic"
    assert value["parameters"] == manifest.head.parameters
    assert value["class_names"] == ["cat", "dog"]
    assert value["spec"] == json.loads(json.dumps(manifest.spec.to_json()))
    assert set(value["evaluation"]["test"]) >= {"accuracy", "balanced_accuracy", "log_loss", "auc", "confusion", "n"}
    assert len(value["leaderboard"]) == 2
    assert value["has_backbone"] is False
    assert "splits" not in value


def test_info_of_a_model_lists_its_splits(fake_bundle: Path) -> None:
    value = json.loads(_run("info", fake_bundle, "--json", "--splits").stdout)
    assert value["splits"] == {row.path: row.split for row in Bundle(fake_bundle).splits()}
    assert Counter(value["splits"].values()) == {"train": 33, "test": 7}
    lines = _run("info", fake_bundle, "--splits").stdout.splitlines()[-40:]
    assert dict(reversed(line.split("\t")) for line in lines) == value["splits"]


def test_info_of_a_model_as_text(fake_bundle: Path) -> None:
    result = _run("info", fake_bundle)
    assert (result.exit_code, result.stderr) == (0, "")
    head, classes = result.stdout.splitlines()[:2]
    assert head.startswith("head         logistic (")
    assert {"pooling=avg", "scaling=sqrt_l2", "C=100"} == set(head.split("(")[1].rstrip(")").split())
    assert classes == "classes      cat, dog"
    assert "backbone     fake, RANDOM weights (untrained), not inside the file\n" in result.stdout
    assert "\nanswers      calibration error " in result.stdout
    assert "\nTest: 7 images\naccuracy " in result.stdout
    assert "\nValidation: 5-fold cross-validation on 33 rows\n\nrank  head      validation" in result.stdout


def test_splits_are_for_models(fake_store: Path) -> None:
    result = _run("info", fake_store, "--splits")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--splits is for model files; a feature file shows its splits without it." in result.stderr


@pytest.mark.parametrize(
    ("content", "sentence"), [(b"text", "is no feature file, or a damaged one"), (None, "There is no feature file")]
)
def test_info_of_something_else_is_refused(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    result = _run("info", tmp_path / "file")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith("ffe: ")
    assert sentence in result.stderr


def test_backbones_as_json_are_the_catalogue() -> None:
    result = _run("backbones", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = json.loads(result.stdout)
    assert [row["name"] for row in rows] == list(CATALOG)
    known = {"name", "size", "min_size", "preprocess", "scaling", "licence", "weights"}
    assert set(rows[0]) == known | {
        *("default", "parameters", "features", "weights_bytes", "gflops", "images_per_second", "imagenet_top1", "family"),
    }
    assert {(row["preprocess"], row["scaling"]) for row in rows} == {
        *(("tf", "values from -1 to 1"), ("caffe", "BGR less the mean of ImageNet"), ("torch", "standardised as ImageNet")),
        *(("none", "values from 0 to 255"),),
    }
    assert [row["name"] for row in rows if row["default"]] == [DEFAULT]
    assert {row["name"] for row in rows if row["weights"]} == {"efficientnetlite0"}  # which comes with the installation


def test_backbones_say_where_weights_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / CATALOG["vgg16"].weights_file).write_bytes(b"")
    monkeypatch.setenv("FFE_WEIGHTS_DIR", str(tmp_path))
    text = _run("backbones").stdout
    lines = {line.split()[0]: line for line in text.partition("\n\n")[0].splitlines()[2:]}
    assert lines.keys() == CATALOG.keys()
    assert {name for name, line in lines.items() if line.endswith("  yes")} == {"vgg16", DEFAULT}
    assert lines["vgg19"].endswith("  no")
    rows = {row["name"]: row for row in json.loads(_run("backbones", "--json").stdout)}
    assert rows["vgg16"]["weights"] == str(tmp_path / CATALOG["vgg16"].weights_file)


def test_backbones_have_what_to_choose_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As published, and as Keras builds them; a rate where a run on this machine has shown one."""
    monkeypatch.setenv("FFE_CACHE_DIR", str(tmp_path))
    assert {row["images_per_second"] for row in json.loads(_run("backbones", "--json").stdout)} == {None}
    spec, _ = make_spec(DEFAULT)
    remember(spec, "auto", FeatureLayout.of_shape((7, 7, 1280)), 1000, 123.4)
    text = _run("backbones").stdout
    line = next(line for line in text.splitlines() if line.startswith(DEFAULT))
    assert line.split()[1:6] == ["75.1", "%", "0.8", "123/s", "3.4"]
    assert max(map(len, text.splitlines())) <= 100
    assert f"\n{DEFAULT} is the default." in text
    for name in ("mobilenet_0.25", DEFAULT):
        model = build(*make_spec(name, 32, "random"))
        assert (model.count_params(), model.output_shape[-1]) == (CATALOG[name].parameters, CATALOG[name].channels)


def test_other_families_say_how_they_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ffe.backbones.families.find_spec", lambda package: None if package == "timm" else object())
    text = _run("backbones").stdout
    families = {line.partition("  ")[0]: line for line in text.splitlines()}
    assert re.fullmatch(r"timm +timm: +timm:resnet50.a1_in1k +no", families["timm"])
    assert re.fullmatch(r"Hugging Face +hf: +hf:facebook/dinov2-small +yes", families["Hugging Face"])
    assert re.fullmatch(r"keras-hub +keras-hub: +keras-hub:dinov2_small +yes", families["keras-hub"])
    assert re.fullmatch(r"a file +.onnx, .xml, .keras +model.onnx +yes", families["a file"])
    assert "DINOv3 has a licence of its own, dinov3-license: commercial use is allowed" in " ".join(text.split())


def test_a_foreign_backbone_shows_its_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFE_CACHE_DIR", str(tmp_path))
    assert "measured here" not in _run("backbones").stdout
    spec = ExtractSpec(BackboneSpec("timm:vit_x", "file", "0" * 64), PreprocessSpec((224, 196), "torch"))
    remember(spec, "auto", FeatureLayout((Part(16, 14, 384, 1),)), 1000, 9.12)
    remember(make_spec(DEFAULT)[0], "auto", FeatureLayout.of_shape((7, 7, 1280)), 1000, 123.4)
    lines = _run("backbones").stdout.splitlines()
    assert re.fullmatch(r"measured here +rate +size +features", lines[-3])
    assert re.fullmatch(r"timm:vit_x +9\.1/s +224x196 +225 tokens of 384 \(class token, 16x14\)", lines[-1])


def test_a_word_finds_backbones_of_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ffe.backbones.families.find_spec", lambda package: None)
    rows = json.loads(_run("backbones", "mobilenetv3", "--json").stdout)
    assert {row["name"] for row in rows} == {name for name in CATALOG if "mobilenetv3" in name}
    text = _run("backbones", "mobilenetv3").stdout
    assert len(text.splitlines()) == 2 + len(rows)
    nothing = _run("backbones", "mobilenetx")
    assert nothing.exit_code == 3
    assert nothing.stderr.startswith("ffe: No backbone has 'mobilenetx' in its name; 'ffe backbones' lists those of Keras, ")
    assert "Did you mean 'mobilenet" in nothing.stderr


@pytest.mark.parametrize("word", ["hf:dino", "keras-hub:x"])
def test_what_cannot_be_listed_says_so(word: str) -> None:
    result = _run("backbones", word)
    assert result.exit_code == 3
    assert result.stderr.startswith("ffe: ffe cannot list the backbones of ")
    assert "take a name from its own pages, such as " in result.stderr


def test_timm_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec("timm") is None:
        pytest.skip("timm is not installed")
    monkeypatch.setenv("FFE_CACHE_DIR", str(tmp_path))
    rows = {row["name"]: row for row in json.loads(_run("backbones", "timm:patch16_dinov3.", "--json").stdout)}
    small = rows["timm:vit_small_patch16_dinov3.lvd1689m"]
    assert (small["licence"], small["size"], small["weights"], small["parameters"]) == ("dinov3-license", 256, None, None)
    assert set(small) == set(json.loads(_run("backbones", "--json").stdout)[0])
    again = _run("backbones", "timm:patch16_dinov3.")
    # the list was kept
    assert again.stderr == "the rate comes from 'ffe extract': it is empty until 100 photos or more went through here\n"
    text = again.stdout
    assert "timm:vit_huge_plus_patch16_dinov3.lvd1689m " in text
    assert "under the same terms with a copy of them" in " ".join(text.split())
    assert "dinov3-license" not in _run("backbones", "timm:mobilenetv4").stdout
    both = _run("backbones", "mobilenetv2").stdout
    assert "\nmobilenetv2 " in both
    assert "\ntimm:mobilenetv2_100.ra_in1k " in both
    some = _run("backbones", "timm:mobilenetv*gemma").stdout
    assert "timm:mobilenetv5_300m.gemma3n " in some
    assert "https://ai.google.dev/gemma/terms" in some
    assert "timm:mobilenetv2" not in some


def test_licences_that_ask_something_are_named_each_once() -> None:
    page = "before you use or pass on such weights, read what the model's page says, https://huggingface.co/timm/NAME."
    assert licence_texts(["mit", "apache-2.0", "bsd-3-clause", "cc-by-4.0"]) == []
    assert licence_texts(["", "new-1.0", "unknown", "mit", "new-1.0", "apple-amlr"]) == [
        f"Of some the licence is not known: {page}",
        f"new-1.0 is a licence of its own: {page}",
        "apple-amlr, Apple's licence for models of its research, allows research alone, and no commercial use.",
    ]


def test_timm_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFE_CACHE_DIR", str(tmp_path))
    monkeypatch.setitem(sys.modules, "timm", None)
    result = _run("backbones", "timm:dino")
    assert result.exit_code == 3
    assert "needs the packages timm and torch" in result.stderr


def test_info_tells_the_temperature_and_the_threshold_of_a_model(fake_bundle: Path, tmp_path: Path) -> None:
    bundle, path = Bundle(fake_bundle), tmp_path / "tuned.ffe"
    calibration = {"temperature": 0.59, "error_before": 0.031, "error_after": 0.012}
    manifest = dataclasses.replace(bundle.manifest, calibration=calibration, reject=0.9)
    card = model_card(manifest)
    assert "for any picture at all. Below 90.0 % it says that it is not sure." in card
    assert "not sure" not in bundle.card()
    write_bundle(path, manifest, head=bundle.head(), golden=bundle.golden(), splits=bundle.splits(), card=card)
    text = _run("info", path).stdout
    assert "\nnot sure     below 90.0 %\n" in text
    assert "\nanswers      calibration error 0.031 -> 0.012, by scaling that lowers the model's confidence\n" in text
    plain = _run("info", fake_bundle).stdout
    assert "not sure" not in plain


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("tf", "values from -1 to 1"),
        ("caffe", "BGR less the mean of ImageNet"),
        ("torch", "standardised as ImageNet"),
        ("none", "values from 0 to 255"),
    ],
)
@pytest.mark.parametrize(("decode", "how"), [("exact", "exactly"), ("fast", "fast")])
def test_what_a_network_is_given_in_common_words(mode: str, words: str, decode: str, how: str) -> None:
    from ffe.specs import PreprocessSpec
    from ffe.wording.input_text import input_text

    assert input_text(PreprocessSpec((32, 64), mode, decode=decode)) == f"32x64, {words}, decoded {how}"


def test_every_scaling_has_its_words() -> None:
    from typing import get_args

    from ffe.images.preprocess import SCALING
    from ffe.specs import PreprocessMode

    assert set(SCALING) == set(get_args(PreprocessMode))
