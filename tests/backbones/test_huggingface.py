"""Backbones of transformers, built small from their configurations: what they were, OpenVINO gives."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffe.backbones import huggingface as source
from ffe.backbones.registry import Wish
from ffe.backbones.resolve import make_spec, weights_of
from ffe.backbones.torch_library import import_library
from ffe.base.digests import file_digest
from ffe.engines.factory import float_model, open_engine
from ffe.engines.model_cache import model_key
from ffe.errors import BackboneError, EngineError, WeightsError
from ffe.images.preprocess import preprocess
from ffe.images.resize import goal
from ffe.specs import ExtractSpec

pytestmark = pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="transformers is not installed")

TOLERANCE = 1e-4  # of the largest feature, between PyTorch and OpenVINO

TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL = TINY | {"image_size": 32, "patch_size": 8}
TEXT = TINY | {"vocab_size": 100, "bos_token_id": 1, "eos_token_id": 2}
PATCH14 = {name: value for name, value in TINY.items() if name != "intermediate_size"} | {"image_size": 42, "patch_size": 14}

EDGE_224, EDGE_384 = {"shortest_edge": 224}, {"shortest_edge": 384}

# the class of the configuration, its arguments, the side of a picture, and its layout
MODELS = {
    "dinov2": ("Dinov2Config", PATCH14, 28, [[2, 2, 32, 1]]),
    "registers": ("Dinov2WithRegistersConfig", PATCH14 | {"num_register_tokens": 4}, 28, [[2, 2, 32, 5]]),
    "vit": ("ViTConfig", SMALL, 64, [[8, 8, 32, 1]]),
    "clip": ("CLIPConfig", {"vision_config": SMALL, "text_config": TEXT}, 32, [[4, 4, 32, 1]]),
    "siglip": ("SiglipConfig", {"vision_config": SMALL, "text_config": TEXT}, 32, [4, 4, 32]),
    "resnet": (
        "ResNetConfig",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
        32,
        [4, 4, 16],
    ),
    "convnext": ("ConvNextConfig", {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}, 64, [2, 2, 32]),
    "swin": (
        "SwinConfig",
        {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4, "image_size": 32},
        32,
        [4, 4, 16],
    ),
}


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Write a seeded model, and how its pictures are prepared, into a folder."""
    folder = tmp_path_factory.mktemp("models")

    def write(name: str) -> Path:
        if not (folder / name).exists():
            kind, arguments, side, _ = MODELS[name]
            save(folder / name, kind, arguments)
            transformers = import_library("hf:x", "transformers")
            transformers.CLIPImageProcessor(
                size={"shortest_edge": side}, crop_size={"height": side, "width": side}
            ).save_pretrained(folder / name)
        return folder / name

    return write


def save(folder: Path, kind: str, arguments: dict[str, Any]) -> None:
    transformers = import_library("hf:x", "transformers")
    import torch

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.AutoModel.from_config(getattr(transformers, kind)(**arguments)).save_pretrained(folder)


def theirs(folder: Path, images: np.ndarray, mean: Any, std: Any) -> np.ndarray:
    """Return what transformers itself gives for pictures, channels innermost, a row for each."""
    transformers = import_library("hf:x", "transformers")
    import torch

    whole = transformers.AutoModel.from_pretrained(folder).eval()
    model = getattr(whole, "vision_model", whole)
    options = {"interpolate_pos_encoding": True} if whole.config.model_type == "vit" else {}
    scaled = preprocess(images, "normalize", mean=mean, std=std).transpose(0, 3, 1, 2).copy()
    with torch.no_grad():
        features = model(pixel_values=torch.from_numpy(scaled), **options).last_hidden_state.numpy()
    return (features.transpose(0, 2, 3, 1) if features.ndim == 4 else features).reshape(len(features), -1)


@pytest.mark.parametrize("name", MODELS)
def test_openvino_gives_what_transformers_gives(name: str, folder_of: Callable[[str], Path]) -> None:
    folder, side, layout = folder_of(name), *MODELS[name][2:]
    spec, weights = make_spec(f"hf:{folder}")
    assert spec.preprocess.size == (side, side)
    assert spec.backbone.weights_sha256 == file_digest(folder / "model.safetensors")
    assert float_model(spec, weights).record["layout"] == layout
    images = np.random.default_rng(3).integers(0, 256, (3, side, side, 3), np.uint8)
    found = open_engine(spec, weights).extract(images)
    expected = theirs(folder, images, spec.preprocess.mean, spec.preprocess.std)
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()
    assert weights_of(spec).path == weights.path, "the folder is known from before"


def test_a_conversion_that_is_wrong_is_refused(tmp_path: Path) -> None:
    """OpenVINO 2026.4 converts MobileViT of transformers without a word, and wrongly."""
    save(tmp_path, "MobileViTConfig", {"image_size": 64})
    changes = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    spec, weights = make_spec(f"hf:{tmp_path}", 64, changes=changes)
    with pytest.raises(EngineError, match=r"wrongly: a feature is off by \d+.\d% of the largest, where 0.1% is allowed; choose"):
        open_engine(spec, weights)


@pytest.mark.parametrize(
    ("kind", "arguments", "fields"),
    [
        ("ViTImageProcessor", {"size": {"height": 64, "width": 96}}, ((64, 96), "bilinear", None, None, 0.5, 0.5)),
        (
            "ConvNextImageProcessor",
            {"size": EDGE_224, "crop_pct": 0.875},
            ((224, 224), "bicubic", "shortest", 0.875, 0.5, 0.5),
        ),
        (
            "ConvNextImageProcessor",
            {"size": EDGE_384, "crop_pct": 0.875},
            ((384, 384), "bicubic", None, None, 0.5, 0.5),
        ),
        (
            "BitImageProcessor",
            {
                "size": {"shortest_edge": 256},
                "crop_size": {"height": 224, "width": 224},
                "resample": 2,
                "image_mean": [0.4] * 3,
                "image_std": [0.2] * 3,
            },
            ((224, 224), "bilinear", "shortest", 0.875, 0.4, 0.2),
        ),
        ("DeiTImageProcessor", {}, ((224, 224), "bicubic", None, 0.875, 0.5, 0.5)),
        ("EfficientNetImageProcessor", {}, ((346, 346), "bicubic", None, None, 0.5, 0.25)),
        ("ViTImageProcessor", {"do_normalize": False}, ((224, 224), "bilinear", None, None, 0.0, 1.0)),
        ("ViTImageProcessor", {"do_rescale": False}, ((224, 224), "bilinear", None, None, 0.5 / 255, 0.5 / 255)),
        ("ViTImageProcessor", {"rescale_factor": 1 / 127.5}, ((224, 224), "bilinear", None, None, 0.25, 0.25)),
    ],
)
def test_preprocessing_is_what_the_processor_does(
    kind: str, arguments: dict[str, Any], fields: tuple[Any, ...], folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    getattr(import_library("hf:x", "transformers"), kind)(**arguments).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes((folder_of("resnet") / "config.json").read_bytes())
    found = make_spec(f"hf:{tmp_path}", weights="random")[0].preprocess
    assert (found.size, found.interpolation, found.resize, found.crop) == fields[:4]
    assert found.placement == (None if found.whole else "huggingface")
    assert found.mode == "normalize"
    assert (found.mean, found.std) == (pytest.approx((fields[4],) * 3), pytest.approx((fields[5],) * 3))


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        *(
            ("BitImageProcessor", {"size": {"shortest_edge": edge}, "crop_size": {"height": side, "width": side}})
            for edge, side in ((248, 224), (235, 224), (333, 299))
        ),
        *(("ConvNextImageProcessor", {"size": EDGE_224, "crop_pct": share}) for share in (0.9, 0.93, 0.95)),
    ],
)
def test_sizes_are_rounded_down_as_processors_do(kind: str, arguments: dict[str, Any]) -> None:
    processor = getattr(import_library("hf:x", "transformers"), kind)(**arguments)
    assert source._difference(processor, source._fields(processor)) < source._NEAR / 2


def test_the_cut_is_as_large_as_the_processor_says(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    """34 of 50 is 0.68, and 34 / 0.68 is a little less than 50 in floats."""
    arguments = {"size": {"shortest_edge": 50}, "crop_size": {"height": 34, "width": 34}}
    import_library("hf:x", "transformers").BitImageProcessor(**arguments).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes((folder_of("resnet") / "config.json").read_bytes())
    found = make_spec(f"hf:{tmp_path}", weights="random")[0].preprocess
    assert (found.size, goal(found)) == ((34, 34), (50, 50))


@pytest.mark.parametrize(
    ("kind", "arguments", "why"),
    [
        ("ViTImageProcessor", {"do_resize": False}, r"\(of its preprocessor_config.json: to which size is not said\)"),
        ("LevitImageProcessor", {}, r"\(what LevitImageProcessor does is none of what ffe can do\)"),
        ("CLIPImageProcessor", {"do_center_crop": False}, r"\(of its preprocessor_config.json: pictures keep their shapes\)"),
        (
            "CLIPImageProcessor",
            {"crop_size": {"height": 224, "width": 112}},
            r"\(of its .*: what is cut out has another shape\)",
        ),
        (
            "BitImageProcessor",
            {"size": {"shortest_edge": 256.5}, "crop_size": {"height": 224, "width": 224}},
            r"\(of its .*: its sizes are no whole numbers above 0\)",
        ),
        ("ViTImageProcessor", {"resample": 4}, r"\(of its .*: it resizes by the filter 4 of Pillow, which ffe does not have\)"),
        (None, {}, r"\(its preprocessor_config.json is missing\)"),
    ],
)
def test_preprocessing_that_is_not_known_is_asked_for(
    kind: str | None, arguments: dict[str, Any], why: str, folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    if kind is not None:
        getattr(import_library("hf:x", "transformers"), kind)(**arguments).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes((folder_of("resnet") / "config.json").read_bytes())
    with pytest.raises(BackboneError, match=f"How pictures are prepared for .* is not known {why}; give --mean, --std, --size"):
        make_spec(f"hf:{tmp_path}", weights="random")
    changes = {"mean": (0.5,) * 3, "std": (0.25,) * 3, "resize": "shortest"}
    found = make_spec(f"hf:{tmp_path}", 64, "random", changes=changes)[0].preprocess
    assert (found.size, found.std, found.resize, found.interpolation) == ((64, 64), (0.25,) * 3, "shortest", "bilinear")


def test_what_cannot_be_had_is_said(folder_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "hub" / "models--facebook--dinov2-small").mkdir(parents=True)
    save(tmp_path / "text", "BertConfig", TEXT | {"num_hidden_layers": 1})
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "config.json").write_text(json.dumps({"model_type": "ours", "auto_map": {"AutoConfig": "evil.Config"}}))
    (tmp_path / "code" / "evil.py").write_text(f"open({str(tmp_path / 'hostile')!r}, 'w')")
    (tmp_path / "timm").mkdir()
    (tmp_path / "timm" / "config.json").write_text(json.dumps({"architecture": "resnet18"}))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.json").write_text("{")
    sides = {"mean": (0.5,) * 3, "std": (0.5,) * 3}

    def refused(name: str, said: str, **wish: Any) -> None:
        with pytest.raises(BackboneError, match=said):
            source.resolve(Wish(f"hf:{name}", **({"size": (56, 56), "weights": "random", "changes": sides} | wish)))

    refused(str(tmp_path / "text"), r"is no model of pictures: it takes input_ids \(bert\); name another one.")
    refused(str(tmp_path / "code"), "transformers cannot build the backbone .*ffe runs no code of a repository")
    assert not (tmp_path / "hostile").exists()
    small = json.loads((folder_of("vit") / "config.json").read_text())
    for number, extra in enumerate(
        ({"attn_implementation": "evil/kernel"}, {"vision_config": {"_attn_implementation": "a/b@1:c"}})
    ):
        (tmp_path / f"kernel{number}").mkdir()
        (tmp_path / f"kernel{number}" / "config.json").write_text(json.dumps(small | extra))
        refused(str(tmp_path / f"kernel{number}"), "names code of another repository, which ffe does not run; take it out.")
    refused(str(tmp_path / "timm"), "is a model of timm; take it from there, with --backbone timm:MODEL.")
    refused(str(tmp_path / "damaged"), r"config.json' is damaged \(.*\); fetch it again.")
    refused(str(tmp_path), "holds no model of transformers: there is no config.json; name another one.")
    refused("timm/resnet18.a1_in1k", "is a model of timm; take --backbone timm:resnet18.a1_in1k.")
    (tmp_path / "damaged" / "config.json").write_text('{"a":' * 100_000)
    refused(str(tmp_path / "damaged"), r"config.json' is damaged \(RecursionError: .*\); fetch it again.")
    for repository in ("no/such/folder", "owner/my--model", "owner/.x", "фу/бар", "~nosuchuser/x"):
        refused(repository, f"There is no folder '{repository}', and no model of the hub has such a name; give hf:OWNER/MODEL.")
    refused(
        "facebook/dinov2-smal",
        r"The model 'facebook/dinov2-smal' is not on this machine: looked for its config.json in the cache of Hugging Face, "
        r"'.*hub' \(no network in tests\); run the command once .* hf:FOLDER. Did you mean 'facebook/dinov2-small'\?",
    )
    refused(str(folder_of("vit")), "patches of 8x8 pixels, and 60x64 is no multiple of that; give --size 64x64.", size=(60, 64))
    refused(str(folder_of("vit")), r"has no layer 'layers.7'; names near it are layers.1, layers.0", layer="layers.7")


def test_weights_of_another_network_are_refused(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    """What a file lacks would be drawn by chance: it is not a number, and shows where it takes part."""
    from safetensors.torch import load_file, save_file

    folder = folder_of("vit")
    spec, weights = make_spec(f"hf:{folder}", weights=str(folder_of("resnet") / "model.safetensors"))
    with pytest.raises(WeightsError, match=r"The weights of the backbone .* are not whole: what it gives .* is nan; give a"):
        open_engine(spec, weights)
    tensors = load_file(folder / "model.safetensors")
    save_file({name: value for name, value in tensors.items() if "pooler" not in name}, tmp_path / "no_pooler.safetensors")
    images = np.zeros((1, 64, 64, 3), np.uint8)
    own = open_engine(*make_spec(f"hf:{folder}")).extract(images)
    without = make_spec(f"hf:{folder}", weights=str(tmp_path / "no_pooler.safetensors"))
    assert np.array_equal(own, open_engine(*without).extract(images))
    save_file({name: value.repeat_interleave(2, 0) for name, value in tensors.items()}, tmp_path / "wider.safetensors")
    with pytest.raises(WeightsError, match=r"wider.safetensors' does not fit the backbone '.*' \(RuntimeError: "):
        open_engine(*make_spec(f"hf:{folder}", weights=str(tmp_path / "wider.safetensors")))


def test_weights_that_need_other_packages_are_refused(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    for file in folder_of("vit").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    wanted = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}
    (tmp_path / "config.json").write_text(json.dumps(config | wanted))
    with pytest.raises(WeightsError, match=r"model.safetensors' does not fit the backbone '.*' \(ImportError: .*bitsandbytes"):
        open_engine(*make_spec(f"hf:{tmp_path}"))


def test_a_folder_is_known_by_what_it_holds(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    folder = folder_of("resnet")
    spec = make_spec(f"hf:{folder}")[0]
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert make_spec(f"hf:{copy}")[0] == spec
    assert len(spec.backbone.name) == len("hf:") + 12
    config = copy / "config.json"
    config.write_text(config.read_text().replace('"relu"', '"gelu"'))
    assert make_spec(f"hf:{copy}")[0].backbone.name != spec.backbone.name
    with pytest.raises(WeightsError, match=rf"a model in a folder \({spec.backbone.name}\), which is gone or has changed; give"):
        weights_of(spec)
    make_spec(f"hf:{folder}")
    assert weights_of(spec).path == (folder / "model.safetensors").resolve()
    (copy / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"holds no model.safetensors and no pytorch_model.bin; pass --weights FILE"):
        make_spec(f"hf:{copy}")


def in_the_hub(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a model into the cache of the hub, as ``hf:someone/tower``; return the folder of its files there."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    snapshot = cache / "models--someone--tower" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0123")
    for file in folder.iterdir():
        (snapshot / file.name).write_bytes(file.read_bytes())
    return snapshot


def test_a_model_in_the_cache_of_the_hub_is_found(
    folder_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = in_the_hub(folder_of("clip"), tmp_path, monkeypatch)
    spec, weights = make_spec("hf:someone/tower")
    assert (spec.backbone.name, weights.path) == ("hf:someone/tower", snapshot / "model.safetensors")
    images = np.random.default_rng(3).integers(0, 256, (2, 32, 32, 3), np.uint8)
    own = open_engine(*make_spec(f"hf:{folder_of('clip')}")).extract(images)
    assert np.array_equal(open_engine(spec, weights).extract(images), own)
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="The weights of 'hf:someone/tower' are not on this machine"):
        make_spec("hf:someone/tower")
    assert make_spec("hf:someone/tower", weights="random")[1].kind == "random"


def test_another_configuration_is_another_backbone_whatever_the_weights(
    folder_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a weight does not show, such as the activation, changes features: it is in the digest, and in the key of the cache."""
    snapshot = in_the_hub(folder_of("resnet"), tmp_path / "hub", monkeypatch)
    (tmp_path / "own.safetensors").write_bytes((snapshot / "model.safetensors").read_bytes())
    images = np.random.default_rng(3).integers(0, 256, (2, 32, 32, 3), np.uint8)
    wishes = ("imagenet", str(tmp_path / "own.safetensors"), "random")

    def made() -> tuple[list[ExtractSpec], np.ndarray]:
        specs = [make_spec("hf:someone/tower", weights=weights)[0] for weights in wishes]
        return specs, open_engine(specs[0], weights_of(specs[0])).extract(images)

    before, features = made()
    assert before[0] == before[1], "the same weights, wherever they are"
    config = (snapshot / "config.json").read_text()
    assert '"relu"' in config
    (snapshot / "config.json").write_text(config.replace('"relu"', '"gelu"'))
    after, others = made()
    for old, new, weights in zip(before, after, wishes, strict=True):
        assert replace(old.backbone, weights_sha256="") == replace(new.backbone, weights_sha256="")
        assert old.backbone.weights_sha256 != new.backbone.weights_sha256
        assert model_key(old) != model_key(new)
        with pytest.raises(WeightsError) as error:
            weights_of(old, weights)
        where = "" if weights == "random" else f" in '{snapshot / 'model.safetensors' if weights == 'imagenet' else weights}'"
        assert str(error.value) == (
            f"The weights of 'hf:someone/tower'{where} (SHA-256 {new.backbone.weights_sha256[:12]}), with the configuration "
            f"'{snapshot / 'config.json'}', are not those that made the features ({old.backbone.weights_sha256[:12]}); pass the "
            "right file with --weights PATH, or put the configuration of that time back."
        )
    assert np.abs(others - features).max() > 0.01 * np.abs(features).max()
    (snapshot / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"The model 'someone/tower' is not on this machine: looked for its config\.json"):
        weights_of(after[1], wishes[1])
