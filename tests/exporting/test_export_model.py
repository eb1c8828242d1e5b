"""A model becomes a file of another format that answers as it does, or no file at all."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import ffe
from ffe.bundle.io import Bundle
from ffe.cli import cli
from ffe.commands import export_model as command
from ffe.errors import FfeError, ModelMismatchError, ReportError, SpecError
from ffe.exporting.model_card import export_card
from ffe.exporting.model_format import ModelFormat, NoRuntimeError
from ffe.exporting.model_formats import MODEL_FORMATS
from ffe.predictor import Predictor
from tests.images.archives import put_tar

SIZE = 32
NAMES = {"onnx": "m.onnx", "tflite": "m.tflite", "keras": "m.keras", "savedmodel": "m", "openvino": "m.xml"}


@pytest.fixture(scope="module")
def model(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A logistic model on a small backbone with random weights."""
    folder = tmp_path_factory.mktemp("model")
    ffe.extract(pictures, folder / "f.h5", backbone="mobilenet_0.25", size=SIZE, weights="random")
    ffe.train(folder / "f.h5", folder / "model.ffe", head="logistic")
    return folder / "model.ffe"


def needs(kind: ModelFormat) -> None:
    for package in kind.packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed; the extra 'export' brings it")


def refusal(call: Callable[..., Any], *args: Any, **options: Any) -> str:
    with pytest.raises(FfeError) as caught:
        call(*args, **options)
    return str(caught.value)


SLOW = {"savedmodel"}  # it is on the way to tflite


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in NAMES])
def test_file_answers_as_the_model_does(name: str, model: Path, pictures: Path, tmp_path: Path, monkeypatch: Any) -> None:
    needs(MODEL_FORMATS[name])
    monkeypatch.setattr(logging.getLogger("tensorflow"), "level", logging.INFO)
    done = ffe.export(model, tmp_path / NAMES[name], format=name, check=pictures)
    assert logging.getLogger("tensorflow").level == logging.INFO, "a converter has made TensorFlow silent for all that comes"
    assert isinstance(done, command.ModelExport)
    assert done.proof.largest_difference is not None
    assert done.proof.largest_difference <= 1e-5
    assert done.proof.equal_answers == done.proof.pictures == 40 + len(Bundle(model).golden()["images"])
    record = json.loads((tmp_path / f"{NAMES[name]}.proof.json").read_text())
    assert record["ffe_sha256"] == Bundle(model).sha256
    assert record["classes"] == ["cat", "dog"]
    assert record["proof"]["equal_answers"] == done.proof.equal_answers
    assert not list(tmp_path.glob(".ffe-export-*"))

    # the lines of the card do what the model does
    monkeypatch.chdir(tmp_path)
    photo = sorted((pictures / "dog").iterdir())[0]
    with Image.open(photo) as picture:
        picture.save("photo.jpg", "PNG")
    lines = re.search(r"```python\n(.*?)```", (tmp_path / f"{NAMES[name]}.md").read_text("utf-8"), re.DOTALL)
    assert lines is not None
    found: dict[str, Any] = {}
    exec(lines[1], found)
    (wanted,) = Predictor(model).predict(photo)
    np.testing.assert_allclose(found["probabilities"][0], list(wanted.probabilities.values()), atol=1e-5)


@pytest.mark.slow
def test_quiet_is_quiet(model: Path, pictures: Path, tmp_path: Path) -> None:
    """The converter and the runtime write to standard error themselves, the latter once in a process."""
    needs(MODEL_FORMATS["tflite"])
    command = ["export", model, "-o", tmp_path / "m.tflite", "--precision", "int8", "--check", pictures, "--quiet"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, "-m", "ffe", *command], capture_output=True, text=True, env=environment, timeout=300)
    assert (done.stderr, done.returncode) == ("", 0)


def test_model_that_takes_photos_of_any_size(model: Path, pictures: Path, tmp_path: Path) -> None:
    photos = {f"{file.parent.name}/{file.name}": file.read_bytes() for file in sorted(pictures.glob("*/*.png"))}
    done = ffe.export(model, tmp_path / "m.xml", image=True, check=put_tar(tmp_path / "photos.tar", photos))
    assert isinstance(done, command.ModelExport)
    assert done.proof.equal_answers == done.proof.pictures > len(photos)
    assert done.proof.largest_difference is not None
    assert done.proof.largest_difference <= 1e-5
    card = done.card.read_text("utf-8")
    assert "`image`: one photo of any size, uint8 (1, H, W, 3)" in card
    assert "resize" not in card.split("```python")[1].split("```")[0]


def test_card_has_the_facts_of_hugging_face(model: Path, tmp_path: Path) -> None:
    done = ffe.export(model, tmp_path / "m.keras")
    assert isinstance(done, command.ModelExport)
    front, _, rest = done.card.read_text("utf-8").removeprefix("---\n").partition("\n---\n")
    assert "pipeline_tag: image-classification" in front
    assert "- keras" in front
    assert re.search(r"- \{type: accuracy, value: [01]\.\d{4}, name: \"accuracy, 95 %: ", front)
    assert Bundle(model).sha256 in rest
    assert f"photos, uint8 (N, {SIZE}, {SIZE}, 3), stretched to {SIZE}x{SIZE}, bilinear, by Pillow's filter" in rest
    for fence in ("```python", "```js", "```kotlin", "```swift"):
        assert fence in rest


def test_card_licenses_nothing_and_names_what_the_backbone_is_under(model: Path) -> None:
    manifest = Bundle(model).manifest
    backbone = replace(manifest.spec.backbone, weights="file")
    published = replace(manifest, spec=replace(manifest.spec, backbone=backbone))
    card = export_card(published, sha256="", format="keras", precision="float32", inputs={}, run="", proof=[])
    assert "license" not in card.partition("\n---\n")[0]
    assert (
        f"The weights of `{backbone.name}`, which are inside: Apache-2.0.\n"
        "The photos that it learnt from may have terms of their own.\nThe card names no licence of the whole: choose one."
    ) in card


def test_file_that_answers_otherwise_is_not_kept(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = MODEL_FORMATS["keras"]

    def wrong(path: Path) -> Any:
        answer = kind.open(path)
        return lambda arrays: answer(arrays)[:, ::-1]

    monkeypatch.setitem(MODEL_FORMATS, "keras", replace(kind, open=wrong))
    text = refusal(ffe.export, model, tmp_path / "m.keras")
    assert re.fullmatch(
        r"The keras file answers otherwise than the model: \d of \d answers are equal, and a probability differs by \S+ "
        r"\(at most 1e-05 is taken\); it is not kept\. Choose another --format, and tell the makers of ffe\.",
        text,
    )
    assert list(tmp_path.iterdir()) == []


def test_what_has_no_runtime_here_is_said_to_be_unproven(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(path: Path) -> Any:
        raise NoRuntimeError("Core ML runs on macOS alone")

    monkeypatch.setitem(MODEL_FORMATS, "keras", replace(MODEL_FORMATS["keras"], open=none))
    done = CliRunner().invoke(cli, ["export", str(model), "-o", str(tmp_path / "m.keras")])
    assert done.exit_code == 0, done.output
    assert "Not proven: Core ML runs on macOS alone.\n" in done.stdout


def test_file_that_cannot_be_run_or_written_is_not_kept(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = MODEL_FORMATS["openvino"]

    def write_half(exported: Any, path: Path) -> None:
        kind.write(exported, path)
        path.write_text("<net>")

    monkeypatch.setitem(MODEL_FORMATS, "openvino", replace(kind, write=write_half))
    text = refusal(ffe.export, model, tmp_path / "m.xml")
    assert re.match(r"The openvino file cannot be run by openvino \d\S+ \(.+\); it is not kept\. Choose another --format", text)
    assert "\n" not in text

    def write_none(exported: Any, path: Path) -> None:
        raise ValueError("no such operation")

    monkeypatch.setitem(MODEL_FORMATS, "openvino", replace(kind, write=write_none))
    assert refusal(ffe.export, model, tmp_path / "m.xml") == (
        "The model cannot be written as openvino (ValueError: no such operation); choose another --format."
    )
    no_number = replace(kind, open=lambda path: lambda arrays: np.full((len(next(iter(arrays.values()))), 2), np.nan))
    monkeypatch.setitem(MODEL_FORMATS, "openvino", no_number)
    assert "answers otherwise than the model" in refusal(ffe.export, model, tmp_path / "m.xml")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["m.bin", "m.xml.md", "m.xml.proof.json"])
def test_files_beside_that_are_somebody_elses_stay(name: str, model: Path, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    assert refusal(ffe.export, model, tmp_path / "m.xml", overwrite=True) == (
        f"The export would replace '{tmp_path / name}', which is none of ffe's; choose another name."
    )
    assert [file.read_text() for file in tmp_path.iterdir()] == ["mine"]


def test_a_forest_is_not_rounded(model: Path, pictures: Path, tmp_path: Path) -> None:
    ffe.train(model.with_name("f.h5"), tmp_path / "forest.ffe", head="forest", settings={"trees": 100})
    assert refusal(ffe.export, tmp_path / "forest.ffe", tmp_path / "m.onnx", precision="float16") == (
        "A forest needs float32: in float16 its thresholds and the numbers of its nodes would be rounded; "
        "leave out --precision float16."
    )


def test_outputs_that_are_refused(model: Path, tmp_path: Path) -> None:
    assert refusal(ffe.export, model, tmp_path / "m.bin") == (
        f"The ending of '{tmp_path / 'm.bin'}' is that of no exported model; "
        "end the name in .onnx, .tflite, .keras, .xml or .mlpackage, or name a folder, without an ending, and add "
        "--format savedmodel."
    )
    assert refusal(ffe.export, model, tmp_path / "m.onnx", format="onxx") == (
        "A model cannot be exported as 'onxx'; choose onnx, tflite, keras, savedmodel, openvino or coreml. Did you mean 'onnx'?"
    )
    assert refusal(ffe.export, model, tmp_path / "m.onnx", format="keras") == (
        f"'{tmp_path / 'm.onnx'}' has not the ending of the format keras; name the output '{tmp_path / 'm.keras'}'."
    )
    assert refusal(ffe.export, model, tmp_path / "no" / "m.keras") == (
        f"The export '{tmp_path / 'no' / 'm.keras'}' lies in a folder that does not exist ('{tmp_path / 'no'}'); "
        "create it, or choose another place."
    )
    assert refusal(ffe.export, model, tmp_path / "m.h5", format="savedmodel") == (
        f"The output is written as a folder, not as '.h5'; name the output '{tmp_path / 'm'}'."
    )
    (tmp_path / "mine.keras").write_text("mine")
    assert refusal(ffe.export, model, tmp_path / "mine.keras", overwrite=True) == (
        f"'{tmp_path / 'mine.keras'}' exists and is no export of ffe, so it is not replaced; choose another name."
    )
    (tmp_path / "mine.keras.proof.json").write_text('{"ffe_sha256": ""}')
    with pytest.raises(ReportError, match="exists and is a model for other programs; "):
        ffe.export(model, tmp_path / "mine.keras")


@pytest.mark.parametrize(
    ("name", "output", "options"),
    [
        ("modle.ffe", "x.onnx", {}),
        ("modle.ff", "x.XML", {}),
        ("modle", "x", {"format": "savedmodel"}),
        ("modle", "x.keras", {"image": True}),
    ],
)
def test_a_model_that_is_not_there_is_called_a_model(
    name: str, output: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model.ffe").touch()
    assert refusal(ffe.export, name, output, **options).startswith(f"There is no model file '{name}'; ")
    assert refusal(ffe.export, "modle.ffe", "x.onnx").endswith(" Did you mean 'model.ffe'?")
    assert refusal(ffe.export, "modle.h5", "x.csv").startswith("There is no feature file 'modle.h5'; ")
    Path("notes").write_text("none")
    assert refusal(ffe.export, "notes", "x.onnx").startswith("'notes' is no model file")


def test_options_that_are_refused(model: Path, fake_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "m.keras"
    assert refusal(ffe.export, model, place, precision="float16") == (
        "The format keras has no precision float16; use --format onnx, tflite, openvino or coreml, or --precision float32."
    )
    assert refusal(ffe.export, model, place, precision="int4") == (
        "There is no precision 'int4' of an export; choose float32, float16 or int8. Did you mean 'int8'?"
    )
    assert refusal(ffe.export, model, tmp_path / "m.xml", precision="int8") == (
        "int8 needs photos, whose values set its ranges; name a folder of some with --check."
    )
    assert refusal(ffe.export, model, place, check=tmp_path / "none") == (
        f"There is no folder '{tmp_path / 'none'}' of photos to compare answers on; name one with --check."
    )
    said = CliRunner().invoke(cli, ["export", str(model), "-o", str(place), "--check", "memory://none"])
    assert said.stderr.startswith("ffe: There is nothing at 'memory://none'; check the names")
    assert refusal(ffe.export, fake_store, tmp_path / "t.csv", image=True) == (
        "--precision, --image and --check are for models; a feature file is written as it is."
    )
    lacking = replace(MODEL_FORMATS["keras"], packages=("no_such_package",))
    monkeypatch.setitem(MODEL_FORMATS, "keras", lacking)
    assert refusal(ffe.export, model, place) == (
        "The format keras needs the package no_such_package, which is not installed; install it with "
        "'pip install no_such_package', or choose another --format."
    )


def test_models_that_are_refused(pictures: Path, model: Path, tmp_path: Path) -> None:
    ffe.train(model.with_name("f.h5"), tmp_path / "head.ffe", head="logistic", with_backbone=False)
    with pytest.raises(ModelMismatchError, match="was written without its backbone, so it takes features alone and cannot be "):
        ffe.export(tmp_path / "head.ffe", tmp_path / "m.keras")
    options = {"backbone": "mobilenet_0.25", "size": SIZE, "weights": "random", "precision": "int8", "layer": "conv_pw_4_relu"}
    ffe.extract(pictures, tmp_path / "int8.h5", **options)  # type: ignore[arg-type]
    ffe.train(tmp_path / "int8.h5", tmp_path / "int8.ffe", head="logistic")
    for precision, output, text in (
        ("float32", "m.onnx", "is int8, and is held as an OpenVINO model; use --format openvino."),
        ("int8", "m.xml", "is int8 already, and would be quantised twice; leave out --precision int8."),
    ):
        with pytest.raises(ModelMismatchError, match=re.escape(text)):
            ffe.export(tmp_path / "int8.ffe", tmp_path / output, precision=precision, check=pictures)
    done = ffe.export(tmp_path / "int8.ffe", tmp_path / "m.xml", check=pictures)  # its own int8 model goes on
    assert isinstance(done, command.ModelExport)
    assert done.proof.largest_difference is not None
    assert done.proof.largest_difference <= 1e-5


def test_options_of_the_command_line(model: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["export", str(model), "-o", str(tmp_path / "m.xml"), "--precision", "float16", "--json"])
    assert done.exit_code == 0, done.output
    value = json.loads(done.stdout)
    assert value["format"] == "openvino"
    assert value["precision"] == "float16"
    assert value["proof"]["bound"] == 0.02


@pytest.fixture(scope="module")
def fused(model: Path, pictures: Path) -> Path:
    """A model on two backbones, of which one is held as an OpenVINO model alone, and cuts photos."""
    folder = model.parent
    pixels = keras.Input((24, 24, 3))
    keras.Model(pixels, keras.layers.Conv2D(5, 5, strides=4, activation="relu")(pixels)).save(folder / "own.keras")
    ffe.extract(
        pictures, folder / "b.h5", backbone=str(folder / "own.keras"), mean=(0.5,), std=(0.5,), resize="shortest", crop=0.8
    )  # type: ignore[arg-type]
    ffe.train([folder / "f.h5", folder / "b.h5"], folder / "fused.ffe", head="svm")
    return folder / "fused.ffe"


@pytest.mark.parametrize("image", [False, True])
def test_backbones_that_are_held_as_openvino_models(image: bool, fused: Path, pictures: Path, tmp_path: Path) -> None:
    done = ffe.export(fused, tmp_path / "m.xml", image=image, check=pictures)
    assert isinstance(done, command.ModelExport)
    assert done.proof.largest_difference is not None
    assert done.proof.largest_difference <= 1e-5
    record = json.loads(done.record.read_text("utf-8"))
    assert record["inputs"].keys() == ({"image"} if image else {"pixels", "pixels2"})
    with pytest.raises(ModelMismatchError, match=r"is held as an OpenVINO model, so it cannot become keras; use --format openv"):
        ffe.export(fused, tmp_path / "m.keras")


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["mobilenet_0.25", "efficientnetlite0"])  # Keras calls the first one by its size too
def test_two_sizes_of_one_backbone(backbone: str, pictures: Path, tmp_path: Path) -> None:
    for size in (SIZE, 40):
        ffe.extract(pictures, tmp_path / f"{size}.h5", backbone=backbone, size=size, weights="random")
    ffe.train([tmp_path / f"{SIZE}.h5", tmp_path / "40.h5"], tmp_path / "m.ffe", head="logistic")
    for name, image in (("keras", True), ("tflite", False)):
        needs(MODEL_FORMATS[name])
        done = ffe.export(tmp_path / "m.ffe", tmp_path / NAMES[name], image=image, check=pictures)
        assert isinstance(done, command.ModelExport)
        assert done.proof.equal_answers == done.proof.pictures


@pytest.mark.slow
def test_core_ml_is_written_and_said_to_be_unproven(model: Path, tmp_path: Path) -> None:
    needs(MODEL_FORMATS["coreml"])
    level = logging.getLogger("tensorflow").level
    done = ffe.export(model, tmp_path / "m.mlpackage")
    assert logging.getLogger("tensorflow").level == level, "coremltools, where it was loaded now, has made TensorFlow silent"
    assert isinstance(done, command.ModelExport)
    coremltools = pytest.importorskip("coremltools")
    written = coremltools.models.MLModel(str(tmp_path / "m.mlpackage"), skip_model_load=True)
    assert json.loads(written.user_defined_metadata["classes"]) == ["cat", "dog"]
    if sys.platform == "darwin":
        assert done.proof.equal_answers == done.proof.pictures
    else:
        assert done.proof.unproven is not None
        assert done.proof.unproven.startswith("Core ML runs on macOS alone")
    with pytest.raises(SpecError, match=r"^The format coreml takes pictures of one size; leave out --image\.$"):
        ffe.export(model, tmp_path / "n.mlpackage", image=True)


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("openvino", "int8"),
        pytest.param("onnx", "float16", marks=pytest.mark.slow),
        pytest.param("tflite", "float16", marks=pytest.mark.slow),
        pytest.param("tflite", "int8", marks=pytest.mark.slow),
    ],
)
def test_smaller_numbers(name: str, precision: str, model: Path, pictures: Path, tmp_path: Path) -> None:
    needs(MODEL_FORMATS[name])
    done = ffe.export(model, tmp_path / NAMES[name], precision=precision, check=pictures)
    assert isinstance(done, command.ModelExport)
    assert done.proof.equal_answers is not None
    assert done.proof.equal_answers >= 0.9 * done.proof.pictures
    assert f"Precision: {precision}." in done.card.read_text("utf-8")
