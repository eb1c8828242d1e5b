"""timm's backbones, with seeded random weights: what they were, OpenVINO gives."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from ffe.backbones import timm as source
from ffe.backbones.keras_build import build as build_for_keras
from ffe.backbones.registry import Wish
from ffe.backbones.resolve import make_spec, weights_of
from ffe.backbones.torch_library import import_library
from ffe.backbones.torch_weights import fill_randomly
from ffe.backbones.weights import Weights
from ffe.base.digests import file_digest
from ffe.base.feature_layout import FeatureLayout, Part
from ffe.cli import cli
from ffe.commands.finetune import finetune
from ffe.commands.tune import tune
from ffe.engines.base import Engine
from ffe.engines.factory import float_model, open_engine
from ffe.errors import BackboneError, EngineError, WeightsError
from ffe.evaluation.temperature import with_temperature
from ffe.extraction.run import extract
from ffe.images.preprocess import preprocess
from ffe.predictor import Predictor
from ffe.specs import ExtractSpec
from ffe.store.reader import FeatureStore
from ffe.testing import EngineContract

pytestmark = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")

SMALL = "timm:mobilenetv4_conv_small_035"
TOLERANCE = 1e-4  # of the largest feature, between PyTorch and OpenVINO

# name, size, the axes of what timm gives, and its part of a row
FAMILIES = [
    ("mobilenetv4_conv_small_035", 64, "NCHW", Part(2, 2, 336)),
    ("mambaout_femto", 64, "NHWC", Part(2, 2, 288)),
    ("vit_tiny_patch16_224", 64, "NTC", Part(4, 4, 192, 1)),
    ("vit_wee_patch16_reg1_gap_256", 64, "NTC", Part(4, 4, 256, 1, class_token=False)),
]
MORE = [
    ("vit_small_patch14_dinov2.lvd142m", 224, "NTC", Part(16, 16, 384, 1)),
    ("vit_small_patch14_reg4_dinov2.lvd142m", 224, "NTC", Part(16, 16, 384, 5)),
    ("vit_small_patch16_dinov3.lvd1689m", 256, "NTC", Part(16, 16, 384, 5)),
    ("vit_base_patch16_clip_224.openai", 224, "NTC", Part(14, 14, 768, 1)),
    ("vit_base_patch16_siglip_224.webli", 224, "NTC", Part(14, 14, 768)),
    ("convnext_tiny.fb_in22k", 224, "NCHW", Part(7, 7, 768)),
    ("efficientnet_b0.ra_in1k", 224, "NCHW", Part(7, 7, 1280)),
    ("mobilenetv4_conv_small.e2400_r224_in1k", 224, "NCHW", Part(7, 7, 960)),
    ("swin_tiny_patch4_window7_224.ms_in1k", 224, "NHWC", Part(7, 7, 768)),
    ("resnet50.a1_in1k", 224, "NCHW", Part(7, 7, 2048)),
    ("eva02_tiny_patch14_224.mim_in22k", 224, "NTC", Part(16, 16, 192, 1)),
]


def theirs(name: str, images: np.ndarray, spec: ExtractSpec, fill: Callable[[Any], None] = fill_randomly) -> np.ndarray:
    """Return what timm itself gives for pictures, as timm lays it out."""
    timm = import_library(name, "timm")
    import torch

    size = spec.preprocess.size
    fixed = timm.models.get_pretrained_cfg(name).fixed_input_size
    model = timm.create_model(name, **({"img_size": size} if fixed else {})).eval()
    fill(model)
    scaled = preprocess(images, "normalize", mean=spec.preprocess.mean, std=spec.preprocess.std)
    with torch.no_grad():
        return np.asarray(model.forward_features(torch.from_numpy(scaled.transpose(0, 3, 1, 2).copy())))


def rows(features: np.ndarray, axes: str) -> np.ndarray:
    return (features.transpose(0, 2, 3, 1) if axes == "NCHW" else features).reshape(len(features), -1)


@pytest.mark.parametrize(
    ("name", "side", "axes", "part"),
    [*FAMILIES, *(pytest.param(*each, marks=pytest.mark.slow) for each in MORE)],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_openvino_gives_what_timm_gives(name: str, side: int, axes: str, part: Part) -> None:
    spec, weights = make_spec(f"timm:{name}", side, "random")
    images = np.random.default_rng(3).integers(0, 256, (3, side, side, 3), np.uint8)
    assert float_model(spec, weights).record["layout"] == FeatureLayout((part,)).to_json()
    found = open_engine(spec, weights, batch_size=4).extract(images)
    expected = rows(theirs(name, images, spec), axes)
    assert found.shape == (3, part.dims)
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()
    spread = expected.std(axis=0).mean() / expected.std()
    assert spread > 0.02, "another picture, other features"


class TestEngineOfTokens(EngineContract):
    """A transformer keeps what an engine promises: its rows do not depend on their batch, to the bit."""

    size = (64, 64)
    tolerance = TOLERANCE

    def make(self, batch_size: int) -> Engine:
        return open_engine(*self.made(), batch_size=batch_size)

    def made(self) -> tuple[ExtractSpec, Weights]:
        return make_spec("timm:vit_tiny_patch16_224", 64, "random")

    def spatial(self, images: np.ndarray) -> np.ndarray:
        return theirs("vit_tiny_patch16_224", images, self.made()[0])


def test_preprocessing_is_the_models_own() -> None:
    clip = make_spec("timm:vit_base_patch16_clip_224.openai", weights="random")[0].preprocess
    assert (clip.size, clip.mode, clip.interpolation) == ((224, 224), "normalize", "bicubic")
    assert (clip.resize, clip.crop, clip.mean) == ("shortest", 0.9, (0.48145466, 0.4578275, 0.40821073))
    squashed = make_spec("timm:coat_lite_medium_384.in1k", weights="random")[0].preprocess
    assert (squashed.size, squashed.resize, squashed.crop) == ((384, 384), None, None)
    bordered = make_spec("timm:deepseek_vit_412m.deepseek_v4_1_flash", weights="random")[0].preprocess
    assert (bordered.resize, bordered.crop) == ("longest", None)
    bilinear = make_spec("timm:tf_mobilenetv3_small_minimal_100.in1k", weights="random")[0].preprocess
    assert (bilinear.interpolation, bilinear.resize, bilinear.crop) == ("bilinear", "shortest", 0.875)


def test_what_the_user_names_comes_first() -> None:
    changes = {"mean": (0.1, 0.2, 0.3), "resize": "stretch", "crop": 1, "channels": "bgr", "interpolation": "lanczos"}
    preprocess = make_spec(SMALL, (64, 96), "random", changes=changes)[0].preprocess
    assert (preprocess.size, preprocess.mean, preprocess.std) == ((64, 96), (0.1, 0.2, 0.3), (0.5, 0.5, 0.5))
    assert (preprocess.resize, preprocess.crop, preprocess.channels, preprocess.interpolation) == (None, None, "bgr", "lanczos")


def test_names_of_layers_are_read_once() -> None:
    spaced, plain = (make_spec(SMALL, 64, "random", layer)[0] for layer in ("blocks.1 , blocks.0", "blocks.1,blocks.0"))
    assert (spaced.backbone.layer, spaced) == ("blocks.1,blocks.0", plain)
    with pytest.raises(BackboneError, match=r"^The layer 'blocks.1' is named twice; name each once.$"):
        make_spec(SMALL, 64, "random", "blocks.1, blocks.1")
    for layer, names in (("blocks.1,", "blocks.1"), (",blocks.1,,norm", "blocks.1,norm"), (",", "a name")):
        with pytest.raises(BackboneError, match=rf"^There is a comma too many in --layer {layer}; write {names}\.$"):
            make_spec(SMALL, 64, "random", layer)


def test_layers_lie_side_by_side() -> None:
    spec, weights = make_spec("timm:test_vit", 64, "random", "blocks.0, norm")
    assert float_model(spec, weights).record["layout"] == [[4, 4, 64, 1]] * 2
    images = np.random.default_rng(3).integers(0, 256, (2, 64, 64, 3), np.uint8)
    found = open_engine(spec, weights).extract(images)
    last, weights = make_spec("timm:test_vit", 64, "random")
    assert np.abs(found[:, 17 * 64 :] - open_engine(last, weights).extract(images)).max() <= 1e-4
    top, weights = make_spec(SMALL, 32, "random", "classifier")
    assert float_model(top, weights).record["layout"] == [1, 1, 1000]


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (
            Wish("timm:resnet81"),
            r"^timm has no model 'resnet81'; 'ffe backbones timm:WORD' lists those with a WORD in their names\. "
            r"Did you mean 'timm:resnet18'\?$",
        ),
        (Wish("timm:resnet18.a9_in1k"), r"timm has no model 'resnet18.a9_in1k'; .* Did you mean 'timm:resnet18.a._in1k'\?"),
        (Wish("timm:hf-hub:timm/resnet18.a1_in1k"), "timm has no model 'hf-hub:timm/resnet18.a1_in1k'"),
        (
            Wish("timm:vit_small_patch14_dinov2", size=(100, 224)),
            "cuts pictures into patches of 14x14 pixels, and 100x224 is no multiple of that; give --size 98x224.",
        ),
        (Wish("timm:xcit_nano_12_p8_224", size=(60, 60)), "cannot take pictures of 60x60 pixels"),
        (
            Wish("timm:maxvit_nano_rw_256", size=(100, 100)),
            r"cannot take pictures of 100x100 pixels \(.*\); its own",
        ),
        (
            Wish("timm:resnet18", layer="layer9"),
            "has no layer 'layer9'; names near it are layer4, layer3, layer2.",
        ),
        (Wish("timm:resnet18", layer="layer1,qqqq"), "has no layer 'qqqq'; names near it are conv1, bn1, act1, maxpool"),
        (Wish("timm:resnet18", changes={"channels": "gray"}), "takes three channels, not one; leave --channels gray out"),
        (
            Wish("timm:resnet18", changes={"interpolation": "random"}),
            "resizes pictures by 'random', which ffe does not have",
        ),
    ],
)
def test_what_cannot_be_had_is_said(wish: Wish, said: str) -> None:
    with pytest.raises(BackboneError, match=said):
        source.resolve(replace(wish, weights="random"))


def test_a_size_that_pytorch_takes_and_openvino_does_not_is_refused_in_a_sentence() -> None:
    spec, weights = make_spec("timm:resnet10t", 8, "random")
    with pytest.raises(BackboneError) as caught:
        float_model(spec, weights)
    assert str(caught.value) == (
        "The backbone 'timm:resnet10t' cannot take pictures of 8x8 pixels: less is left of them inside than it pools; "
        "give a larger --size."
    )


def test_from_photos_to_answers_as_with_other_backbones(pictures: Path, tmp_path: Path) -> None:
    """Dry run, int8, views, going on with the output's own backbone, checks, a model file, its answers."""

    def ffe(*arguments: object) -> str:
        done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
        assert done.exit_code == 0, done.output
        return done.output

    plain, quantised, views, model = (tmp_path / name for name in ("a.h5", "int8.h5", "views.h5", "m.ffe"))
    chosen = ("--backbone", SMALL, "--size", 64, "--weights", "random")
    assert "40 to compute" in ffe("extract", pictures, "-o", plain, *chosen, "--dry-run")
    assert not plain.exists()
    assert "40 rows, 40 computed" in ffe("extract", pictures, "-o", plain, *chosen)
    again = ffe("extract", pictures, "-o", plain)
    assert "40 rows, 0 computed" in again
    assert f"was made with the backbone {SMALL} at 64x64: going on with that" in again
    assert "4 rows computed again" in ffe("verify", plain, "--recompute", 4)
    told = ffe("info", plain)
    assert "1,344 features each (2x2x336)" in told
    assert f"{SMALL}, RANDOM weights" in told
    assert "int8 against float32" in ffe("extract", pictures, "-o", quantised, *chosen, "--precision", "int8")
    assert "120 rows: 40 images with 2 views each" in ffe(
        "extract", pictures, "-o", views, *chosen, "--views", 2, "--augment", "flip"
    )
    ffe("tune", quantised, "-o", model, "--heads", "logistic", "--trials", 2)
    assert "golden pictures computed again" in ffe("verify", model)
    ffe("train", plain, "-o", model, "--head", "logistic", "--overwrite")
    assert "cat" in ffe("predict", model, next(pictures.rglob("*.png")))
    assert f"{SMALL}, RANDOM weights" in ffe("info", model)
    with pytest.raises(BackboneError, match="none of Keras's, so it cannot be trained; take one that 'ffe backbones' lists"):
        finetune(pictures, tmp_path / "f.ffe", model=model, unfreeze="1")


def test_tokens_go_from_photos_to_answers(pictures: Path, tmp_path: Path) -> None:
    """The class token beside the mean of the others, of features that were stored and of photos that are asked about."""
    features, model = tmp_path / "f.h5", tmp_path / "m.ffe"
    extract(pictures, features, backbone="timm:test_vit", size=64, weights="random")
    settings = {"pooling": "cls+mean", "scaling": "none"}
    result = tune(features, model, heads="logistic", settings=settings, trials=2)
    with FeatureStore(features) as store:
        assert store.layout == FeatureLayout((Part(4, 4, 64, 1),))
        rows = store.features()
        photos = [pictures / path for path in store.paths]
    tokens = rows.reshape(len(rows), 17, 64)
    pooled = np.concatenate([tokens[:, 0], tokens[:, 1:].mean(axis=1)], axis=1)
    np.testing.assert_allclose(result.head.map.rowwise(rows), pooled, atol=1e-5)
    predictor = Predictor(model)
    expected = with_temperature(result.head.predict_proba(rows), predictor.bundle.manifest.temperature)
    answers = [list(answer.probabilities.values()) for answer in predictor.predict(photos)]
    np.testing.assert_allclose(answers, expected, atol=1e-4)
    assert np.ptp(expected[:, 0]) > 0.02, "another picture, another answer"


def test_what_needs_keras_is_refused_in_a_sentence(pictures: Path, tmp_path: Path) -> None:
    from ffe.commands.bench import bench
    from ffe.commands.compare import compare
    from ffe.commands.scan import scan

    for command, so in ((bench, "it cannot be measured against Keras"), (scan, "a scan does not know what it needs")):
        with pytest.raises(BackboneError, match=f"^The backbone '{SMALL}' is none of Keras's, so {so}; take one that 'ffe"):
            command(pictures, backbone=SMALL)  # type: ignore[operator]
    with pytest.raises(BackboneError, match="is none of Keras's, so training cannot be compared with it; take"):
        compare(pictures, tmp_path / "roads", backbone=SMALL)


def test_it_cannot_be_trained_or_run_by_keras() -> None:
    spec, weights = make_spec(SMALL, 64, "random")
    with pytest.raises(BackboneError, match=f"The backbone '{SMALL}' is none of Keras's, so it cannot be trained"):
        build_for_keras(spec, weights)
    with pytest.raises(EngineError, match="none of Keras's, so the engine keras cannot run it; use --engine openvino"):
        open_engine(spec, weights, name="keras")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """Write the state of the small model, with other values than the seeded ones, and a number of classes, under a name."""
    timm = import_library(SMALL, "timm")
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("weights")

    def save(name: str, classes: int) -> Path:
        model = timm.create_model(SMALL[5:], num_classes=classes)
        doubled(model)
        if name.endswith(".safetensors"):
            save_file(model.state_dict(), folder / name)
        else:
            torch.save({"model": model.state_dict(), "epoch": 3}, folder / name)
        return folder / name

    return save


def doubled(model: Any) -> None:
    import torch

    fill_randomly(model)
    with torch.no_grad():
        model.conv_stem.weight.mul_(2)


@pytest.mark.parametrize(
    ("name", "classes"),
    [("own.safetensors", 1000), ("none.safetensors", 0), ("five.pth", 5)],
)
def test_a_file_of_weights_gives_its_features(saved: Callable[[str, int], Path], name: str, classes: int) -> None:
    """The last layer is not needed, so a file may know other classes, or none."""
    path = saved(name, classes)
    spec, weights = make_spec(SMALL, 64, str(path))
    assert (spec.backbone.weights, spec.backbone.weights_sha256) == ("file", file_digest(path))
    assert weights_of(spec, str(path)).sha256 == weights.sha256
    images = np.random.default_rng(3).integers(0, 256, (2, 64, 64, 3), np.uint8)
    expected = rows(theirs(SMALL[5:], images, spec, doubled), "NCHW")
    found = open_engine(spec, weights).extract(images)
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch hostile",)


def _evil(path: Path) -> None:
    import torch

    torch.save({"conv_stem.weight": Evil()}, path)


def _evil_before_1_6(path: Path) -> None:
    import torch

    torch.save({"conv_stem.weight": Evil()}, path, _use_new_zipfile_serialization=False)


def _compressed(path: Path) -> None:
    import zipfile

    import torch

    torch.save({"conv_stem.weight": torch.zeros(1 << 20)}, path.with_suffix(".zip"))
    with zipfile.ZipFile(path.with_suffix(".zip")) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))


def _another(path: Path) -> None:
    import torch

    torch.save({"conv_stem.weight": torch.zeros(3)}, path)


@pytest.mark.parametrize(
    ("name", "write", "said"),
    [
        (
            "a.pth",
            _evil,
            r"cannot be read as weights \(UnpicklingError: .*\); give a .safetensors file, or a .pth file",
        ),
        ("b.pth", _evil_before_1_6, r"cannot be read as weights \(UnpicklingError: "),
        ("c.pth", _compressed, r"cannot be read as weights \(ValueError: its members are compressed\)"),
        ("d.pth", lambda path: path.write_bytes(b"PK\3\4 is no zip"), "cannot be read as weights"),
        ("e.pth", lambda path: path.write_bytes(b""), "cannot be read as weights"),
        ("f.safetensors", lambda path: path.write_bytes(b"\xff" * 64), r"cannot be read as weights \(SafetensorError: "),
        ("g.safetensors", lambda path: path.write_bytes(b""), "cannot be read as weights"),
        ("h.pth", _another, rf"does not fit the backbone '{SMALL}' \(RuntimeError: .*\); give one that was made of it."),
        ("i.npz", lambda path: path.write_bytes(b"x"), "is no weights file of PyTorch, by its name; give a .safetensors"),
    ],
)
def test_hostile_and_foreign_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, write: Callable[[Path], Any], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / name)
    with pytest.raises(WeightsError, match=said):
        open_engine(*make_spec(SMALL, 64, str(tmp_path / name)))
    assert not (tmp_path / "hostile").exists()


def test_missing_weights_say_where_they_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    name = "timm:resnet18.a1_in1k"
    with pytest.raises(WeightsError) as caught:
        make_spec(name)
    assert str(caught.value) == (
        f"The weights of '{name}' are not on this machine: looked for 'timm/resnet18.a1_in1k' in the cache of Hugging Face, "
        f"'{tmp_path / 'hub'}' (no network in tests); run the command once with a network so that they are fetched, "
        "or pass --weights FILE (.safetensors), or try it out with --weights random."
    )
    with pytest.raises(WeightsError, match=r"hub'; run the command once with a network"):
        make_spec(name, download=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE forbids to fetch them"):
        make_spec(name)
    with pytest.raises(WeightsError, match=r"There is no weights file 'randon'; .* Did you mean 'random'"):
        make_spec(name, weights="randon")
    with pytest.raises(WeightsError, match=f"There are no pretrained weights of '{SMALL}' on the hub; pass --weights FILE"):
        make_spec(SMALL)


def hub_with(folder: Path, repository: str, *files: Path) -> None:
    """Lay files out as the cache of the hub has them."""
    snapshot = folder / f"models--{repository.replace('/', '--')}" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0123")
    for file in files:
        (snapshot / file.name).write_bytes(file.read_bytes())


def test_weights_in_the_cache_of_the_hub_are_found_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved: Callable[[str, int], Path]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    path = saved("model.safetensors", 1000)
    hub_with(tmp_path, "timm/resnet18.a1_in1k", path)
    spec, weights = make_spec("timm:resnet18.a1_in1k")
    assert weights.path == tmp_path / "models--timm--resnet18.a1_in1k" / "snapshots" / "0123" / "model.safetensors"
    assert spec.backbone.weights_sha256 == file_digest(path)


def test_weights_are_fetched_where_the_hub_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import EntryNotFoundError

    asked = []

    def fetch(repository: str, name: str) -> str:
        asked.append((repository, name))
        if name.endswith(".safetensors"):
            raise EntryNotFoundError("404")
        (tmp_path / name).write_bytes(b"weights")
        return str(tmp_path / name)

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("ffe.backbones.weights._unreachable", lambda url: "" if url == "https://huggingface.co" else url)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    assert make_spec("timm:resnet18.a1_in1k")[1].path == tmp_path / "pytorch_model.bin"
    assert asked == [("timm/resnet18.a1_in1k", name) for name in ("model.safetensors", "pytorch_model.bin")]

    def fail(repository: str, name: str) -> str:
        raise RuntimeError("gone\naway")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(WeightsError, match=r"\(the download failed: gone away\); run"):
        make_spec("timm:resnet18.a1_in1k")


_BLOCK = """
import importlib.util, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Blocked())
_find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in {names!r} else _find(name, package)
"""


def run(code: str, *, blocked: str = "", path: str = "") -> str:
    """Run code in a new process, in which some libraries are missing, and others shadow what is installed."""
    done = subprocess.run(
        [sys.executable, "-c", _BLOCK.replace("{names!r}", repr(blocked.split())) + code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([path, *sys.path])},
    )
    assert not done.returncode, done.stderr
    return done.stdout.strip()


def test_a_missing_library_names_itself() -> None:
    code = (
        "from ffe.backbones.registry import Wish; from ffe.backbones import timm\n"
        "try: timm.resolve(Wish('timm:resnet10t', weights='random'))\nexcept Exception as error: print(error)"
    )
    for blocked in ("timm", "torch", "timm torch"):
        assert run(code, blocked=blocked) == (
            "The backbone timm:resnet10t needs the packages timm and torch, which are not installed; "
            "install them with 'pip install timm torch'."
        )


def test_once_converted_neither_library_is_needed(pictures: Path, tmp_path: Path) -> None:
    from ffe.extraction.run import extract
    from ffe.store.reader import FeatureStore

    options = {"backbone": SMALL, "size": 64, "weights": "random"}
    extract(pictures, tmp_path / "a.h5", **options)  # type: ignore[arg-type]
    code = (
        "import ffe, numpy as np; from pathlib import Path; from ffe.store.reader import FeatureStore\n"
        f"ffe.extract({str(pictures)!r}, {str(tmp_path / 'b.h5')!r}, **{options!r})\n"
        f"ffe.train({str(tmp_path / 'b.h5')!r}, {str(tmp_path / 'm.ffe')!r}, head='logistic')\n"
        f"with FeatureStore({str(tmp_path / 'b.h5')!r}) as store: np.save({str(tmp_path / 'b.npy')!r}, store.features())\n"
        f"answer = ffe.Predictor({str(tmp_path / 'm.ffe')!r}).predict(sorted(Path({str(pictures)!r}).rglob('*.png'))[0])\n"
        "print(sys.modules.keys() & {'torch', 'timm', 'torchvision', 'transformers'})"
    )
    assert run(code, blocked="torch timm torchvision transformers safetensors") == "set()"
    with FeatureStore(tmp_path / "a.h5") as store:
        assert np.array_equal(store.features(), np.load(tmp_path / "b.npy"))


def test_a_sound_torchvision_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("sound = True")
    code = (
        "import torch; from ffe.backbones import torch_library as library; library._import_torchvision(); import torchvision\n"
        "print(torchvision.sound, library._defined, hasattr(torch.ops.torchvision, 'nms'))"
    )
    assert run(code, path=str(tmp_path)) == "True [] False"


def test_a_torchvision_without_its_operators_is_imported(tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(
        "import torch\nfor name in ('nms', 'qnms'): torch.library.register_fake('torchvision::' + name)(print)\nsound = False"
    )
    code = (
        "from ffe.backbones import torch_library as library; library._import_torchvision(); import torchvision\n"
        "print(torchvision.sound, len(library._defined))"
    )
    assert run(code, path=str(tmp_path)) == "False 1"
    (tmp_path / "torchvision" / "__init__.py").write_text("raise RuntimeError('another reason')")
    code = (
        "from ffe.backbones import torch_library as library\n"
        "try: library.import_library('timm:x', 'timm')\nexcept Exception as error: print(error)"
    )
    assert run(code, path=str(tmp_path)) == (
        "The package timm, which the backbone timm:x needs, does not work here (RuntimeError: another reason); "
        "install it anew with 'pip install --force-reinstall timm'."
    )


def test_random_weights_are_the_same_everywhere() -> None:
    timm = import_library(SMALL, "timm")
    model = timm.create_model("vit_tiny_patch16_224", depth=1)
    fill_randomly(model)
    stem = model.patch_embed.proj.weight.detach().numpy()
    assert stem.ravel()[:3] == pytest.approx([0.009645386, 0.02591037, 0.04505147], rel=1e-6)
    assert model.cls_token.std() < 0.1
    assert all(0.8 <= value <= 1.2 for value in model.norm.weight)
