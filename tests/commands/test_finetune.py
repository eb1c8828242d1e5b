"""``ffe.finetune`` and ``ffe.scratch``, end to end on drawn pictures."""

from __future__ import annotations

import inspect
import logging
import os
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from ffe.backbones.trained import find_in_model, load_backbone
from ffe.backbones.weights import Weights
from ffe.base.clock import Clock, OutOfTimeError
from ffe.bundle.io import Bundle
from ffe.commands.evaluate import evaluate
from ffe.commands.finetune import finetune
from ffe.commands.scratch import scratch
from ffe.commands.tune import train
from ffe.errors import (
    BackboneError,
    BundleError,
    DataError,
    DiskFullError,
    EngineError,
    HeadError,
    ModelMismatchError,
    ReportError,
    SourceError,
    SpecError,
    StoreError,
    WeightsError,
)
from ffe.evaluation.temperature import softmax, with_temperature
from ffe.extraction.run import extract
from ffe.extraction.stage_times import Progress
from ffe.finetuning.activation_cache import ActivationCache
from ffe.finetuning.epochs import Epoch
from ffe.finetuning.graph import tensor_of
from ffe.finetuning.inputs import Activations, DecodedImages
from ffe.finetuning.joined_model import JoinedModel
from ffe.finetuning.split_point import Cut
from ffe.finetuning.trainer import Trainer
from ffe.finetuning.training_options import FinetuneOptions, TrainingOptions
from ffe.finetuning.training_result import TrainingResult
from ffe.images.augment import augment
from ffe.images.drawings import draw_folder
from ffe.images.loader import ImageStream
from ffe.images.preprocess import preprocess
from ffe.images.sources import scan
from ffe.predictor import Predictor
from ffe.specs import AugmentSpec, BackboneSpec, ExtractSpec, PreprocessSpec, ViewsSpec
from ffe.store.reader import FeatureStore
from ffe.wording.results import kept_text

pytestmark = pytest.mark.usefixtures("quick_measures")

BACKBONE, SIZE = "mobilenet_0.25", 32


@dataclass(frozen=True)
class Tuned:
    """A model, what it was fine-tuned to, and the network that was trained."""

    features: Path
    base: Path
    model: Path
    cache: Path
    result: TrainingResult
    network: JoinedModel
    log: str


@pytest.fixture(scope="module")
def base(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Features and a logistic model of the drawn pictures."""
    folder = tmp_path_factory.mktemp("base")
    extract(pictures, folder / "f.h5", backbone=BACKBONE, size=SIZE, weights="random")
    train(folder / "f.h5", folder / "m.ffe", head="logistic", reject=0.6)
    return folder / "f.h5", folder / "m.ffe"


@pytest.fixture(scope="module")
def tuned(pictures: Path, base: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    """Two stages of two epochs each, with a cache that is kept."""
    folder = tmp_path_factory.mktemp("tuned")
    made: list[JoinedModel] = []

    class Remembered(JoinedModel):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("ffe").addHandler(handler)
    logging.getLogger("ffe").setLevel(logging.INFO)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ffe.commands.finetune.JoinedModel", Remembered)
        result = finetune(
            pictures,
            folder / "t.ffe",
            model=base[1],
            unfreeze=("6", "19"),
            epochs=(2,),
            learning_rate=(3e-3, 1e-4),
            batch_size=8,
            cache=folder / "cache",
            keep_cache=True,
            report=folder / "report.html",
            tensorboard=folder / "board",
        )
    logging.getLogger("ffe").removeHandler(handler)
    return Tuned(*base, folder / "t.ffe", folder / "cache", result, made[0], "\n".join(records))


def files_of(pictures: Path, model: Path, split: str) -> list[Path]:
    return [pictures / row.path for row in Bundle(model).splits() if row.split == split]


def pixels_of(files: list[Path], side: int = SIZE) -> np.ndarray:
    with ImageStream(files, PreprocessSpec((side, side), "none")) as images:
        return np.stack([item.pixels for item in images if item.pixels is not None])


def probabilities(predictor: Predictor, files: list[Path]) -> np.ndarray:
    return np.asarray([list(answer.probabilities.values()) for answer in predictor.predict(files)])


def test_predicting_equals_the_network_that_was_trained(tuned: Tuned, pictures: Path) -> None:
    """Decoded, through OpenVINO and the numpy head, against Keras from pixels to logits: within 1e-4."""
    files = files_of(pictures, tuned.model, "test")
    whole = keras.Model(tuned.network.backbone.input, tuned.network._logits)
    logits = np.asarray(whole(preprocess(pixels_of(files), "tf"), training=False))
    factor = Bundle(tuned.model).manifest.temperature
    expected = with_temperature(softmax(np.concatenate([np.zeros_like(logits), logits], axis=1)), factor)
    found = probabilities(Predictor(tuned.model), files)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    before = probabilities(Predictor(tuned.base), files)
    assert np.abs(found - before).max() > 0.01  # something was learnt
    right = (expected.argmax(1) == [file.parent.name == "dog" for file in files]).mean()
    assert tuned.result.evaluation.accuracy == pytest.approx(right)


def test_the_test_images_of_the_model_stay_test(tuned: Tuned) -> None:
    was = {row.sha256: row.split for row in Bundle(tuned.base).splits()}
    now = {row.sha256: row.split for row in Bundle(tuned.model).splits()}
    assert was.keys() == now.keys()
    assert {s for s in was if was[s] == "test"} == {s for s in now if now[s] == "test"}
    valid = {s for s in now if now[s] == "valid"}
    assert valid
    assert all(was[s] == "train" for s in valid)
    assert tuned.result.rows == {name: list(now.values()).count(name) for name in ("train", "valid", "test")} | {"left_out": 0}
    assert "images that validate, so it is fitted again, on the " in tuned.log


def test_a_file_that_a_model_both_learnt_from_and_was_tested_on_does_not_test(
    base: tuple[Path, Path], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its splits leaked; the file goes on training, or is refused where it is to test all the same."""
    splits = Bundle(base[1]).splits()
    leaked = next(row for row in splits if row.split == "train")
    before, after = (replace(leaked, path=name, split="test") for name in ("a.png", "z.png"))
    monkeypatch.setattr(Bundle, "splits", lambda self: [before, *splits, after])
    result = finetune(pictures, tmp_path / "t.ffe", model=base[1], unfreeze=("0",), epochs=(1,))
    assert leaked.sha256 not in result.judged.tested
    assert result.rows["test"] == sum(row.split == "test" for row in splits)
    split = {row.sha256: "valid" if i % 3 == 1 and row.split == "train" else row.split for i, row in enumerate(splits)}
    split[leaked.sha256] = "test"
    with pytest.raises(DataError, match="was made with 1 of the images that are to test"):
        finetune(pictures, tmp_path / "u.ffe", model=base[1], unfreeze=("0",), epochs=(1,), split=split)


def test_what_stays_frozen_is_that_of_the_original_weights(tuned: Tuned, pictures: Path) -> None:
    """The activations of the second stage, made after the first, are those of the tuned backbone too; of the first, not."""
    assert tuned.result.best.stage == 2
    backbone = load_backbone(find_in_model(tuned.model)[0])
    for layer, same in (("conv_pw_10_relu", True), ("conv_pw_12_relu", False)):
        (path,) = tuned.cache.glob(f"{layer}-*.h5")
        with FeatureStore(path) as store:
            pixels = pixels_of([pictures / name for name in store.paths[:6]])
            stored = store.features(np.arange(6))
        part = keras.Model(backbone.input, tensor_of(backbone, layer))
        found = np.asarray(part(preprocess(pixels, "tf"), training=False)).reshape(6, -1)
        assert np.allclose(found, stored, rtol=0, atol=1e-4 * np.abs(stored).max()) == same


def test_what_a_stage_takes_is_said_before(tuned: Tuned) -> None:
    first, second = (line for line in tuned.log.splitlines() if line.startswith("stage "))
    assert first == (
        f"stage 1 of 2: the last 6 layers of {BACKBONE} learn, from conv_dw_13 on (2 have weights to train); "
        "the output of conv_pw_12_relu stays the same, and is computed once: 40 images, about 1 s and 120.6 KiB; "
        "an epoch takes about 1 s"
    )
    assert f"The activations of 40 images take up to 281.2 KiB in '{tuned.cache}', where " in tuned.log.split(first)[0]
    assert second.startswith(f"stage 2 of 2: the last 19 layers of {BACKBONE} learn, from conv_dw_11 on (6 have")


def test_features_of_the_model_before_are_refused(tuned: Tuned, tmp_path: Path) -> None:
    with pytest.raises(ModelMismatchError) as raised:
        evaluate(tuned.model, tuned.features)
    assert str(raised.value) == (
        f"The model '{tuned.model}' was made for other features than '{tuned.features}' holds "
        "(backbone.weights: the file has random weights, the model needs fine-tuned weights); "
        f"those of this model's backbone are made by 'ffe extract SOURCE --backbone {tuned.model} -o new.h5'."
    )


def test_the_tuned_backbone_makes_features(tuned: Tuned, pictures: Path, tmp_path: Path) -> None:
    """Named as the backbone, or as its weights; the same as prediction makes, and good for another head."""
    extract(pictures, tmp_path / "f.h5", backbone=str(tuned.model))
    with FeatureStore(tmp_path / "f.h5") as store:
        assert store.spec == Bundle(tuned.model).manifest.spec
        predicted = Predictor(tuned.model).features(pictures / path for path in store.paths[:4])
        np.testing.assert_allclose(store.features(np.arange(4)), predicted, rtol=0, atol=1e-5 * predicted.max())
        digest = store.spec_digest
    extract(pictures, tmp_path / "g.h5", backbone=BACKBONE, size=SIZE, weights=str(tuned.model))
    with FeatureStore(tmp_path / "g.h5") as store:
        assert store.spec_digest == digest
    scored = evaluate(tuned.model, tmp_path / "f.h5", unseen=True).evaluation
    assert scored.accuracy == tuned.result.evaluation.accuracy
    with pytest.raises(WeightsError) as raised:
        train(tmp_path / "f.h5", tmp_path / "n.ffe", head="logistic")
    assert str(raised.value) == (
        f"The backbone of these features was trained by ffe, and exists in its model file alone ({BACKBONE}, weights "
        f"{Bundle(tuned.model).manifest.spec.backbone.weights_sha256[:12]}); pass that file with --weights MODEL.ffe."
    )
    train(tmp_path / "f.h5", tmp_path / "n.ffe", head="logistic", weights=str(tuned.model))
    load_backbone(find_in_model(tmp_path / "n.ffe")[0])  # another head, the same backbone
    with pytest.raises(WeightsError, match=r"is not the one that made the features \(backbone.weights: the model has random"):
        train(tmp_path / "f.h5", tmp_path / "o.ffe", head="logistic", weights=str(tuned.base))


def test_a_model_file_as_weights_that_does_not_fit(tuned: Tuned, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as raised:
        extract(pictures, tmp_path / "f.h5", backbone="vgg16", weights=str(tuned.model))
    assert str(raised.value) == (
        f"The model file '{tuned.model}' holds the backbone '{BACKBONE}', not 'vgg16'; "
        f"take all of it with --backbone {tuned.model}."
    )
    with pytest.raises(BackboneError, match="takes pictures of 32x32 pixels and no others; leave --size out"):
        extract(pictures, tmp_path / "f.h5", backbone=str(tuned.model), size=64)
    with pytest.raises(
        WeightsError, match=r"There is no model file 'none.ffe'; give one that 'ffe finetune' or 'ffe tune' wrote."
    ):
        extract(pictures, tmp_path / "f.h5", backbone="none.ffe")
    (tmp_path / "folder.ffe").mkdir()
    with pytest.raises(
        WeightsError, match=r"folder.ffe' is a folder; give a model file that 'ffe finetune' or 'ffe tune' wrote\."
    ):
        extract(pictures, tmp_path / "f.h5", backbone=str(tmp_path / "folder.ffe"))
    (tmp_path / "broken.ffe").write_bytes(tuned.model.read_bytes()[:5000])
    with pytest.raises(WeightsError, match="is damaged or no model file"):
        extract(pictures, tmp_path / "f.h5", backbone=str(tmp_path / "broken.ffe"))


def test_weights_that_are_not_those_of_the_digest_are_refused(tuned: Tuned) -> None:
    weights = find_in_model(tuned.model)[0]
    with pytest.raises(WeightsError, match="are not those that its digest names; make the file again"):
        load_backbone(replace(weights, sha256="0" * 64))


def test_the_history_travels_in_the_model(tuned: Tuned) -> None:
    training = Bundle(tuned.model).manifest.training
    assert training["kind"] == "finetuned"
    assert Bundle(tuned.model).manifest.reject == Bundle(tuned.base).manifest.reject == 0.6
    assert training["base"]["weights"] == "random"
    assert training["base"]["weights_sha256"] == Bundle(tuned.base).manifest.spec.backbone.weights_sha256
    assert [(epoch["stage"], epoch["epoch"]) for epoch in training["history"]] == [(1, 0), (1, 1), (1, 2), (2, 1), (2, 2)]
    assert training["history"] == [epoch.to_json() for epoch in tuned.result.epochs]
    assert training["stages"][1] == {
        "number": 2,
        "unfreeze": "19",
        "layers": 19,
        "first": "conv_dw_11",
        "learning": 6,
        "cut": "conv_pw_10_relu",
    }
    assert training["options"]["epochs"] == [2, 2]
    board = tuned.model.parent / "board"
    assert sorted(path.name for path in board.iterdir()) == ["train", "validation"]
    page = (tuned.model.parent / "report.html").read_text("utf-8")
    assert "of photos: &#39;ffe tune&#39; and &#39;ffe train&#39; do so, for heads on stored features.</p>" in page
    assert "Not sure&#39; below 0.6: " in page
    assert "Validation accuracy over time" in page
    assert "The whole network, epoch by epoch; epoch 0: before the first; stage 1: epochs 1 to 2; stage 2: epochs 3 to 4." in page
    assert f"{kept_text(tuned.result.best.to_json(), tuned.result.rows['valid'])} A star marks them in the charts." in page
    assert page.count("<title>the weights that are kept: ") == 3
    assert re.findall(r"; validation: [^;]+? at (\d) to", page) == ["0", "0"]
    assert '<h2 id="comparison-title">Before and after</h2>\n<p class="verdict">' in page
    assert "Leaderboard" not in page


def test_room_for_activations_is_that_of_their_files_less_what_is_there(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is written once, into a draft that becomes it; an unfinished run's draft has its room already."""
    found, free = scan(pictures), [0]
    spec = ExtractSpec(BackboneSpec(BACKBONE, "random", "0" * 64), PreprocessSpec((SIZE, SIZE), "tf"))
    asked = {name: parameter.default for name, parameter in inspect.signature(finetune).parameters.items()}
    asked |= {"source": pictures, "output": tmp_path / "t.ffe", "model": "m.ffe", "unfreeze": "6,19", "cache": tmp_path / "cache"}
    inputs = ActivationCache(FinetuneOptions.of(asked), found, found.class_names, spec, Weights("random", "0" * 64))
    monkeypatch.setattr("ffe.finetuning.activation_cache.free_disk", lambda folder: free[0])
    cuts = [Cut("inside", "a", (1 << 18,)), Cut("inside", "b", (1 << 17,)), Cut("inside", "b", (1 << 17,))]
    features = 4 * len(found.records) * (3 << 17)
    free[0] = features
    with pytest.raises(DiskFullError, match=r"The activations of 40 images would take 60\.\d MiB in "):
        inputs.check_room(cuts)
    free[0] = features + (1 << 19)
    inputs.check_room(cuts)
    draft = Path(f"{inputs._path(cuts[0])}.partial", "draft")
    draft.parent.mkdir(parents=True)
    draft.write_bytes(b"1" * (8 << 20))
    os.sync()
    free[0] -= 8 << 20
    inputs.check_room(cuts)


@pytest.mark.slow
def test_activations_are_used_again_and_then_removed(
    tuned: Tuned, pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The same cache serves another run, which gives the same epochs; without --keep-cache nothing is left that it made."""
    cache = tmp_path / "cache"
    shutil.copytree(tuned.cache, cache)
    with caplog.at_level(logging.INFO, "ffe"):
        result = finetune(
            pictures,
            tmp_path / "t.ffe",
            model=tuned.base,
            unfreeze=("6", "25"),
            epochs=(2,),
            learning_rate=(3e-3,),
            batch_size=8,
            cache=cache,
        )
    assert "the output of conv_pw_12_relu is in '" in caplog.text
    assert caplog.text.count("computed once") == 1  # of the second stage
    same = [epoch.valid_loss for epoch in tuned.result.epochs if epoch.stage == 1]
    assert [epoch.valid_loss for epoch in result.epochs if epoch.stage == 1] == pytest.approx(same, abs=1e-5)
    assert sorted(path.name for path in cache.iterdir()) == sorted(path.name for path in tuned.cache.iterdir())


def test_a_cache_of_others_stays(
    small: tuple[Path, TrainingResult], split_pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Activations that an earlier run kept, and a folder that was there; how many images are new to them is said."""
    cache, source = tmp_path / "cache", tmp_path / "source"
    cache.mkdir()
    shutil.copytree(split_pictures, source)
    options: dict[str, Any] = {"model": small[0], "unfreeze": ("conv4",), "epochs": (1,), "cache": cache, "overwrite": True}
    finetune(source, tmp_path / "t.ffe", **options)
    assert list(cache.iterdir()) == []
    finetune(source, tmp_path / "t.ffe", **options, keep_cache=True)
    (kept,) = cache.iterdir()
    draw_folder(tmp_path / "others", 14, (48, 48))
    for number, file in enumerate(sorted((tmp_path / "others" / "cat").iterdir())[-2:]):
        shutil.copy(file, source / "train" / "cat" / f"new{number}.png")
    with caplog.at_level(logging.INFO, "ffe"):
        finetune(source, tmp_path / "t.ffe", **options)
    assert list(cache.iterdir()) == [kept]
    assert f"activations that an earlier run left stay in '{cache}'; delete what you need no more" in caplog.text
    assert f"'{kept}' already, but for 2 new images, which go through the part that stays first; an epoch" in caplog.text


@pytest.fixture(scope="module")
def split_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn pictures with given splits."""
    drawn, folder = tmp_path_factory.mktemp("drawn"), tmp_path_factory.mktemp("split")
    draw_folder(drawn, 12, (48, 48))
    for kind in ("cat", "dog"):
        for i, file in enumerate(sorted((drawn / kind).iterdir())):
            split = ("train", "train", "valid", "test")[i % 4]
            (folder / split / kind).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder / split / kind / file.name)
    return folder


@pytest.fixture(scope="module")
def small(split_pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainingResult]:
    """A network from scratch."""
    model = tmp_path_factory.mktemp("scratch") / "s.ffe"
    result = scratch(split_pictures, model, size=48, epochs=(3,), learning_rate=(1e-3,), augment=AugmentSpec(flip=True))
    return model, result


def test_a_network_from_scratch_is_an_ordinary_model(
    small: tuple[Path, TrainingResult], split_pictures: Path, tmp_path: Path
) -> None:
    model, result = small
    bundle = Bundle(model)
    assert (bundle.manifest.spec.backbone.name, bundle.manifest.spec.backbone.weights) == ("convnet", "scratch")
    assert bundle.manifest.layout.grid == (1, 1, 128)
    assert bundle.manifest.head.parameters["first_dense"] == 512
    assert result.rows == {"train": 12, "valid": 6, "test": 6, "left_out": 0}
    assert {row.split for row in bundle.splits() if row.path.startswith("test/")} == {"test"}
    assert [epoch.epoch for epoch in result.epochs] == [0, 1, 2, 3]
    golden = bundle.golden()
    predictor = Predictor(model)
    np.testing.assert_allclose(predictor.engine().extract(golden["images"]), golden["features"], rtol=0, atol=1e-5)
    assert Predictor(model, tta=2).views == ViewsSpec(2, AugmentSpec(flip=True))  # as images changed in training
    scored = evaluate(model, split_pictures / "test").evaluation
    assert scored.accuracy == pytest.approx(result.evaluation.accuracy)
    assert scored.log_loss == pytest.approx(result.evaluation.log_loss, abs=1e-4)
    extract(split_pictures, tmp_path / "f.h5", backbone=str(model))
    with FeatureStore(tmp_path / "f.h5") as store:
        assert store.grid == (1, 1, 128)
    with pytest.raises(WeightsError) as raised:
        extract(split_pictures, tmp_path / "g.h5", backbone="convnet")
    assert str(raised.value) == (
        "There are no pretrained weights of 'convnet'; give a model file that 'ffe scratch' wrote as --backbone MODEL.ffe."
    )


def test_a_model_with_validation_images_of_its_own_starts_as_it_is(
    small: tuple[Path, TrainingResult], split_pictures: Path, tmp_path: Path
) -> None:
    """No head is fitted again: before the first epoch the network answers as the model does, within 1e-4."""
    model, _ = small
    result = finetune(split_pictures, tmp_path / "t.ffe", model=model, unfreeze=("conv4",), epochs=(1,), learning_rate=(1e-4,))
    files = [row.path for row in Bundle(model).splits() if row.split == "valid"]
    answers = probabilities(Predictor(model), [split_pictures / file for file in files])
    labels = np.asarray(["dog" in file for file in files], np.int64)
    loss = -np.log(answers[np.arange(len(labels)), labels]).mean()
    assert result.epochs[0].valid_loss == pytest.approx(loss, abs=1e-4)
    assert result.before is not None
    assert result.before.accuracy == small[1].evaluation.accuracy
    assert result.stages[0].cut == "pool3"
    assert [path.name for path in tmp_path.iterdir()] == ["t.ffe"]


def test_pictures_that_change_and_a_head_alone(
    small: tuple[Path, TrainingResult], split_pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """First the head, then the last convolution, then all of it; nothing is kept, in a cache or elsewhere."""
    with caplog.at_level(logging.INFO, "ffe"):
        result = finetune(
            split_pictures,
            tmp_path / "t.ffe",
            model=small[0],
            unfreeze=("0", "conv4", "all"),
            epochs=(1,),
            learning_rate=(1e-2,),
            augment=AugmentSpec(flip=True, rotate=10),
        )
    assert [stage.cut for stage in result.stages] == ["pool4", "pool3", ""]
    assert [epoch.stage for epoch in result.epochs] == [1, 1, 2, 3]
    assert "stage 1 of 3: the head learns, all of convnet stays as it is; images change in every epoch" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["t.ffe"]
    assert Bundle(tmp_path / "t.ffe").manifest.training["options"]["augment"]["rotate"] == 10


@pytest.mark.slow
def test_all_of_a_network_without_changing_pictures(
    small: tuple[Path, TrainingResult], split_pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Activations first, then pixels: the images of both are the same ones; and the budget ends the second stage early."""
    with caplog.at_level(logging.INFO, "ffe"):
        result = finetune(split_pictures, tmp_path / "t.ffe", model=small[0], unfreeze=("conv4", "all"), epochs=(1,))
    assert [stage.cut for stage in result.stages] == ["pool3", ""]
    assert "it learns from the first layer on, so nothing can be kept" in caplog.text
    quick = finetune(split_pictures, tmp_path / "u.ffe", model=small[0], unfreeze=("conv4", "all"), epochs=(500,), budget=1.0)
    assert len(quick.stages) == 1  # the first stage alone took longer
    assert max(epoch.epoch for epoch in quick.epochs) >= 1


@pytest.mark.slow
def test_new_images_join_the_training_but_not_copies_of_test_images(
    small: tuple[Path, TrainingResult], split_pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from PIL import Image

    source = tmp_path / "more"
    shutil.copytree(split_pictures, source)
    draw_folder(tmp_path / "others", 14, (48, 48))
    new = sorted((tmp_path / "others" / "cat").iterdir())[-1]
    shutil.copy(new, source / "train" / "cat" / "new.png")
    known = sorted((source / "test" / "dog").iterdir())[0]
    with Image.open(known) as image:
        image.save(source / "train" / "dog" / "again.png", compress_level=1)  # the same picture in another file
    with caplog.at_level(logging.INFO, "ffe"):
        result = finetune(source, tmp_path / "t.ffe", model=small[0], unfreeze=("conv4",), epochs=(1,), cache=tmp_path / "cache")
    assert "1 image is new to the model; it takes part in the training" in caplog.text
    assert "1 new image is left out: it belongs together with images that test" in caplog.text
    assert result.rows == {"train": 13, "valid": 6, "test": 6, "left_out": 1}


def test_a_split_that_is_given_settles_the_sides(
    base: tuple[Path, Path], small: tuple[Path, TrainingResult], pictures: Path, split_pictures: Path, tmp_path: Path
) -> None:
    """The same rows in both, and their answers can be compared one by one; others are left out."""
    was = {row.sha256: row.split for row in Bundle(base[1]).splits()}
    names = {row.sha256: row.path for row in Bundle(base[1]).splits()}
    train = sorted((s for s in was if was[s] == "train"), key=names.__getitem__)  # cats first, then dogs
    split = (
        {s: "test" for s in was if was[s] == "test"} | dict.fromkeys(train[::4], "valid") | dict.fromkeys(train[1::4], "train")
    )
    ours = finetune(pictures, tmp_path / "t.ffe", model=base[1], unfreeze=("0",), epochs=(1,), split=split)
    theirs = scratch(pictures, tmp_path / "s.ffe", size=48, plain=True, epochs=(1,), split=split)
    counts = {side: list(split.values()).count(side) for side in ("train", "valid", "test")}
    assert ours.rows == theirs.rows == counts | {"left_out": len(was) - len(split)}
    assert ours.judged.tested == theirs.judged.tested
    assert {split[sha256] for sha256 in ours.judged.tested} == {"test"}
    assert ours.judged.test.shape == theirs.judged.test.shape == (counts["test"], 2)
    with pytest.raises(DataError) as raised:
        finetune(
            pictures, tmp_path / "u.ffe", model=base[1], unfreeze=("0",), split=split | {train[1]: "test"}, cache=tmp_path / "c"
        )
    assert str(raised.value) == (
        f"'{base[1]}' was made with 1 of the images that are to test; start from a model of the same split."
    )
    assert not (tmp_path / "c").exists()


def test_activations_of_views_take_turns(
    small: tuple[Path, TrainingResult],
    split_pictures: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are kept, of images that train alone, and are those of the pictures as they look in that view."""
    change = AugmentSpec(flip=True, rotate=20)
    with caplog.at_level(logging.INFO, "ffe"):
        result = finetune(
            split_pictures,
            tmp_path / "t.ffe",
            model=small[0],
            unfreeze=("conv4",),
            epochs=(3,),
            learning_rate=(1e-3,),
            augment=change,
            views=2,
            cache=tmp_path / "cache",
            keep_cache=True,
        )
    assert "computed once: 24 images and 2 views of each image that trains (flip,rotate=20), about" in caplog.text
    assert len(result.epochs) == 4
    manifest = Bundle(tmp_path / "t.ffe").manifest
    assert (manifest.augment, manifest.views and manifest.views["count"]) == (change, 2)
    (path,) = (tmp_path / "cache").iterdir()
    below = load_backbone(find_in_model(small[0])[0])
    part = keras.Model(below.input, tensor_of(below, "pool3"))
    with FeatureStore(path) as store:
        assert np.bincount(store.views).tolist() == [24, 12, 12]
        assert {store.split[row] for row in np.flatnonzero(store.views)} == {"train"}
        activations = Activations(store, (4, 4, 128))
        image = next(i for i, row in enumerate(activations.plain) if store.split[row] == "train")
        row = int(activations.plain[image])
        for view in (0, 1, 2):
            pixels = pixels_of([split_pictures / store.paths[row]], 48)[0]
            seen = augment(pixels, change, store.sha256[row], view) if view else pixels
            expected = np.asarray(part(seen[None].astype(np.float32), training=False))[0]
            found = activations.take(np.asarray([image]), view)[0]
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    turns: list[int] = []

    class Remembered(DecodedImages):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            turns.append(self.views)

    monkeypatch.setattr("ffe.finetuning.activation_cache.DecodedImages", Remembered)
    finetune(split_pictures, tmp_path / "u.ffe", model=small[0], unfreeze="all", epochs=1, augment=change, views=2)
    assert turns == [2]  # where all of it learns, too
    with pytest.raises(SpecError) as raised:
        finetune(split_pictures, tmp_path / "u.ffe", model=small[0], unfreeze=("conv4",), views=2)
    assert str(raised.value) == (
        "--views needs --augment, which says how the views differ; add --augment flip,zoom, for example."
    )


@pytest.mark.slow
def test_that_a_head_loses_its_views_is_said(pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Fitted again it sees the images that train, and no views of them."""
    extract(pictures, tmp_path / "f.h5", backbone=BACKBONE, size=SIZE, weights="random", views=1, augment="flip")
    for views, end in (("all", ", without the views of them that it was fitted on"), ("none", "")):
        train(tmp_path / "f.h5", tmp_path / "m.ffe", head="logistic", views=views, overwrite=True)
        caplog.clear()
        with caplog.at_level(logging.INFO, "ffe"):
            finetune(pictures, tmp_path / "t.ffe", model=tmp_path / "m.ffe", unfreeze=0, epochs=1, overwrite=True)
        assert f"so it is fitted again, on the 25 images that train{end}\n" in caplog.text


def test_where_the_backbone_stays_its_features_stay_good(
    base: tuple[Path, Path], pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The head alone learns, or nothing gets better: it is the same backbone."""
    features, model = base
    with caplog.at_level(logging.INFO, "ffe"):
        result = finetune(pictures, tmp_path / "t.ffe", model=model, unfreeze=("0",), epochs=(2,), learning_rate=(1e-2,))
    assert "the backbone is as it was: features that it made before are good for the new model too" in caplog.text
    assert Bundle(tmp_path / "t.ffe").manifest.spec == Bundle(model).manifest.spec
    assert evaluate(tmp_path / "t.ffe", features, unseen=True).evaluation.accuracy == result.evaluation.accuracy


def test_a_learnt_backbone_that_stays_is_still_that_of_its_digest(
    small: tuple[Path, TrainingResult], split_pictures: Path, tmp_path: Path
) -> None:
    """Its weights come from where they came from, not from themselves."""
    tuned = tmp_path / "t.ffe"
    finetune(split_pictures, tuned, model=small[0], unfreeze=("0",), epochs=(1,))
    assert Bundle(tuned).manifest.spec == Bundle(small[0]).manifest.spec
    load_backbone(find_in_model(tuned)[0])
    finetune(split_pictures, tmp_path / "u.ffe", model=tuned, unfreeze=("conv4",), epochs=(1,), learning_rate=(1e-3,))
    load_backbone(find_in_model(tmp_path / "u.ffe")[0])


@pytest.mark.slow
def test_a_model_of_an_int8_backbone_is_asked_through_that_one(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its head knows no other features; where its backbone cannot run, nothing is said of before."""
    extract(pictures, tmp_path / "f.h5", backbone=BACKBONE, size=SIZE, weights="random", precision="int8")
    model = train(tmp_path / "f.h5", tmp_path / "m.ffe", head="logistic").output
    options: dict[str, Any] = {"model": model, "unfreeze": ("0",), "epochs": (3,), "learning_rate": 1e-2, "overwrite": True}
    result = finetune(pictures, tmp_path / "t.ffe", **options)
    scored = evaluate(model, tmp_path / "f.h5", unseen=True).evaluation
    assert result.before is not None
    assert result.before.log_loss == pytest.approx(scored.log_loss, abs=1e-6)
    assert result.comparison is not None

    def no_engine(*arguments: object, **options: object) -> None:
        raise EngineError("none here")

    monkeypatch.setattr("ffe.finetuning.base_model.Predictor", no_engine)
    result = finetune(pictures, tmp_path / "t.ffe", **options)
    assert result.before is result.comparison is None
    assert "How good the model was before is not said: its int8 backbone cannot run here (none here)." in caplog.text
    monkeypatch.setattr(Trainer, "improved", False)
    with pytest.raises(DataError, match=r"No epoch was better than '.*m.ffe' was before, and it cannot be tested here; use it"):
        finetune(pictures, tmp_path / "u.ffe", **options)


@pytest.mark.slow
def test_a_file_above_the_limits_is_skipped(split_pictures: Path, tmp_path: Path) -> None:
    from PIL import Image

    shutil.copytree(split_pictures, tmp_path / "p")
    Image.new("RGB", (100, 100)).save(tmp_path / "p" / "train" / "cat" / "large.png")
    result = scratch(tmp_path / "p", tmp_path / "s.ffe", size=48, plain=True, epochs=(1,), max_pixels=5000)
    assert (result.skipped, result.rows["train"]) == (1, 12)
    tuned = finetune(tmp_path / "p", tmp_path / "t.ffe", model=result.output, unfreeze=("0",), epochs=(1,), max_pixels=5000)
    assert (tuned.skipped, tuned.rows["train"]) == (1, 12)


def test_interrupted_it_leaves_no_model_and_keeps_the_activations(
    small: tuple[Path, TrainingResult], split_pictures: Path, tmp_path: Path
) -> None:
    def stop(epoch: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(split_pictures, tmp_path / "t.ffe", model=small[0], unfreeze=("conv4",), on_epoch=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["t.ffe.cache"]
    (kept,) = (tmp_path / "t.ffe.cache").glob("*.h5")
    assert kept.name.startswith("pool3-")
    with FeatureStore(kept) as store:
        assert len(store) == 24


def test_what_an_interrupted_run_left_goes_with_the_one_that_needed_it(
    small: tuple[Path, TrainingResult], split_pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And what stands there by --keep-cache, or is not ours, stays."""
    cache = tmp_path / "t.ffe.cache"
    options: dict[str, Any] = {"model": small[0], "epochs": (1,), "overwrite": True}

    def stop(epoch: Any) -> None:
        raise KeyboardInterrupt

    def interrupted(**more: Any) -> None:
        with pytest.raises(KeyboardInterrupt):
            finetune(split_pictures, tmp_path / "t.ffe", **options, **more, on_epoch=stop)

    interrupted(unfreeze=("conv4",))
    caplog.set_level(logging.INFO, "ffe")
    finetune(split_pictures, tmp_path / "t.ffe", **options, unfreeze=("conv4",))
    assert "already" in caplog.text  # it went on with them
    assert "activations that an earlier run left" not in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["t.ffe"]
    interrupted(unfreeze=("conv4",), keep_cache=True)
    interrupted(unfreeze=("0",))
    (cache / "mine.txt").write_text("mine")
    finetune(split_pictures, tmp_path / "t.ffe", **options, unfreeze=("0", "conv4"))
    left = sorted(path.name for path in cache.iterdir())
    assert left[0] == "mine.txt"
    assert [name.split("-")[0] for name in left[1:]] == ["pool3"]
    assert f"activations that an earlier run left stay in '{cache}'" in caplog.text


def test_tensorflow_does_not_advise_against_models_for_each_stage(
    small: tuple[Path, TrainingResult], split_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All else that it logs is still said, and the advice too, once the training has ended."""
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    tensorflow = logging.getLogger("tensorflow")
    advice = "5 out of the last %d calls triggered tf.function retracing."
    tensorflow.addHandler(handler)
    level = tensorflow.level
    tensorflow.setLevel(logging.WARNING)  # the command line, in an earlier test, may have made it silent

    def learnt(epoch: Epoch) -> None:
        tensorflow.warning(advice, 5)
        tensorflow.warning("something else")

    try:
        finetune(split_pictures, tmp_path / "t.ffe", model=small[0], unfreeze=("0",), epochs=(1,), on_epoch=learnt)
        assert told == ["something else"] * 2
        learnt(Epoch(1, 1, None, None, 0.0, 0.0, None, 0.0, 0.0, False))
    finally:
        tensorflow.removeHandler(handler)
        tensorflow.setLevel(level)
    assert told[2:] == [advice % 5, "something else"]


@pytest.mark.parametrize("whose", ["its own", "the caller's"])
def test_time_that_ends_before_a_later_stage_can_learn_keeps_the_stages_before(
    whose: str,
    base: tuple[Path, Path],
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whose time is over while the activations of stage 2 are computed."""
    learnt: list[Epoch] = []

    def watch(now: Progress) -> None:
        if learnt and whose == "the caller's":
            raise OutOfTimeError
        monkeypatch.setattr(Clock, "is_over", bool(learnt))

    monkeypatch.setattr(Clock, "is_over", False)
    with caplog.at_level(logging.INFO, "ffe"):
        result = finetune(
            pictures,
            tmp_path / "t.ffe",
            model=base[1],
            unfreeze=("6", "19"),
            epochs=(1,),
            learning_rate=(1e-2,),
            progress=watch,
            on_epoch=learnt.append,
        )
    assert [epoch.stage for epoch in result.epochs] == [1, 1]
    assert [stage.number for stage in result.stages] == [1]
    assert result.ended_early == (
        "the time was over after epoch 1 of 1 in stage 1 of 2, so the training ended there, and the best weights so far are kept"
    )
    assert "the time was over before stage 2 could learn, so the stages before it are the result" in caplog.messages
    assert [path.name for path in tmp_path.iterdir()] == ["t.ffe"]
    files = files_of(pictures, base[1], "test")
    found = probabilities(Predictor(result.output), files)
    right = (found.argmax(1) == [file.parent.name == "dog" for file in files]).mean()
    assert result.evaluation.accuracy == pytest.approx(right)


def test_time_that_ends_before_the_first_stage_can_learn(base: tuple[Path, Path], pictures: Path, tmp_path: Path) -> None:
    def over(now: Progress) -> None:
        raise OutOfTimeError

    with pytest.raises(OutOfTimeError):
        finetune(pictures, tmp_path / "t.ffe", model=base[1], unfreeze=("6",), progress=over)


@pytest.mark.parametrize(
    ("asked", "stages", "epochs", "rates", "change"),
    [
        ({"unfreeze": "6,all", "epochs": 3, "augment": "flip"}, ("6", "all"), (3, 3), (1e-4, 1e-4), AugmentSpec(flip=True)),
        ({"unfreeze": 6, "learning_rate": 1e-3, "augment": "none"}, ("6",), (15,), (1e-3,), None),
        ({"unfreeze": [6, "19"], "epochs": "2,3", "learning_rate": "1e-3,1e-4"}, ("6", "19"), (2, 3), (1e-3, 1e-4), None),
    ],
)
def test_stages_are_given_as_text_or_values(
    monkeypatch: pytest.MonkeyPatch,
    asked: dict[str, Any],
    stages: tuple[str, ...],
    epochs: tuple[int, ...],
    rates: tuple[float, ...],
    change: AugmentSpec | None,
) -> None:
    class Made(Exception):  # noqa: N818
        pass

    def stop(self: TrainingOptions, *inputs: Any) -> None:
        raise Made(self.spec)

    monkeypatch.setattr(TrainingOptions, "check_outputs", stop)
    with pytest.raises(Made) as made:
        finetune("p", "t.ffe", model="m.ffe", **asked)
    spec = made.value.args[0]
    assert (spec.unfreeze, spec.epochs, spec.learning_rate, spec.augment) == (stages, epochs, rates, change)
    if len(stages) == 1:
        with pytest.raises(Made) as made:
            scratch("p", "s.ffe", **{name: value for name, value in asked.items() if name != "unfreeze"})
        spec = made.value.args[0]
        assert (spec.learning_rate, spec.augment) == (rates, change)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"epochs": 2.5}, "--epochs is 2.5, but takes whole numbers; write, for example, 15 or 15,10."),
        ({"learning_rate": "fast"}, "--learning-rate is 'fast', but takes numbers; write, for example, 1e-4 or 1e-4,1e-5."),
        ({"hold": 3}, "--hold belongs to --schedule exponential; add that, or leave --hold out."),
        ({"augment": "flop"}, "There is no change 'flop' for --augment; known are flip,"),
    ],
)
def test_what_is_no_number_or_change_is_refused(asked: dict[str, Any], message: str) -> None:
    for call in (lambda: finetune("p", "t.ffe", model="m.ffe", unfreeze=6, **asked), lambda: scratch("p", "s.ffe", **asked)):
        with pytest.raises(SpecError) as raised:
            call()
        assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("asked", "option", "example"),
    [({"epochs": "1,2"}, "--epochs", "30"), ({"learning_rate": (1e-3, 1e-4)}, "--learning-rate", "1e-4")],
)
def test_from_scratch_there_is_one_stage(asked: dict[str, Any], option: str, example: str) -> None:
    with pytest.raises(SpecError) as raised:
        scratch("p", "s.ffe", **asked)
    assert str(raised.value) == (
        f"A network from scratch is trained in one stage, so {option} takes one value, not 2; "
        f"write, for example, {option} {example}."
    )


def test_bad_input_is_refused_in_a_sentence(
    base: tuple[Path, Path],
    small: tuple[Path, TrainingResult],
    split_pictures: Path,
    pictures: Path,
    fake_store: Path,
    fake_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before anything slow, and with nothing left behind."""
    _, model = base
    train(fake_store, tmp_path / "forest.ffe", head="forest", settings={"trees": 100})
    flat, others, fewer = tmp_path / "flat", tmp_path / "others", tmp_path / "fewer"
    flat.mkdir()
    for folder, kinds in ((others, ("cat", "emu")), (fewer, ("cat",))):
        for kind in kinds:
            (folder / kind).mkdir(parents=True)
            shutil.copy(next((pictures / "cat").iterdir()), folder / kind)
    shutil.copy(next((pictures / "cat").iterdir()), flat)
    unseen = tmp_path / "unseen"
    shutil.copytree(split_pictures, unseen, ignore=shutil.ignore_patterns("valid"))
    out = tmp_path / "t.ffe"
    shutil.copytree(pictures, tmp_path / "three", ignore=lambda folder, names: sorted(names)[2:] if "dog" in folder else [])
    few = "The class 'dog' has only 2 images; give every class at least 3 different ones: to train, to validate and to test."
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "notes").write_text("mine")
    before = sorted(path.name for path in tmp_path.iterdir())
    for error, options, message in (
        (BackboneError, {"unfreeze": ("87",)}, f"The backbone '{BACKBONE}' has 86 layers, so 87 of them cannot be unfrozen"),
        (
            BackboneError,
            {"unfreeze": "-1"},
            f"-1 layers of the backbone '{BACKBONE}' cannot be unfrozen; "
            "give a whole number from 0 (the head alone) to 86, or 'all'.",
        ),
        (BackboneError, {"unfreeze": 1.5}, f"1.5 layers of the backbone '{BACKBONE}' cannot be unfrozen; give a whole number"),
        (BackboneError, {"unfreeze": ("block9",)}, f"The backbone '{BACKBONE}' has no layer or block 'block9'"),
        (SpecError, {"unfreeze": ("19", "6")}, "Stage 2 unfreezes 6 layers, fewer than the 19 of the stage before it"),
        (SpecError, {"unfreeze": ("6", "19"), "epochs": (1, 2, 3)}, "--unfreeze names 2 stages, but --epochs 3;"),
        (
            HeadError,
            {"model": tmp_path / "forest.ffe"},
            f"The head of '{tmp_path / 'forest.ffe'}' is a forest, which has no layers",
        ),
        (
            BackboneError,
            {"model": fake_bundle},
            f"The backbone of '{fake_bundle}' is the fake one for tests, which has no layers",
        ),
        (BundleError, {"model": flat}, f"'{flat}' is a folder; --from takes a model file (.ffe), such as 'ffe tune' writes."),
        (
            BundleError,
            {"source": model, "model": flat},
            f"'{flat}' is a folder, and '{model}' a model file: they are swapped; write 'ffe finetune {flat} --from {model}',",
        ),
        (BundleError, {"model": tmp_path / "none.ffe"}, f"There is no model file '{tmp_path / 'none.ffe'}'"),
        (
            SourceError,
            {"source": flat},
            f"The images of '{flat}' have no labels; give one folder per class, or a CSV with labels",
        ),
        (
            ModelMismatchError,
            {"source": others},
            f"'{others}' has the class 'emu', which the model '{model}' does not know (it knows cat, dog); "
            "give images of the same classes, or make a model of the new ones with 'ffe tune'.",
        ),
        (ModelMismatchError, {"source": fewer}, f"'{fewer}' has no class 'dog', which the model '{model}' knows"),
        (DataError, {"source": tmp_path / "three"}, few),
        (StoreError, {"cache": pictures / "cache"}, f"The cache '{pictures / 'cache'}' lies among the images of '{pictures}'"),
        (StoreError, {"cache": pictures}, f"The cache '{pictures}' lies among the images of '{pictures}'"),
        (StoreError, {"cache": tmp_path / "notes.txt"}, f"The cache '{tmp_path / 'notes.txt'}' is a file"),
        (StoreError, {"cache": tmp_path / "a" / "b"}, f"The cache '{tmp_path / 'a' / 'b'}' lies in a folder that does not exist"),
        (
            StoreError,
            {"cache": tmp_path / "c.h5"},
            f"The cache is written as a folder, not as '.h5'; name the cache '{tmp_path / 'c'}'.",
        ),
        (
            ReportError,
            {"tensorboard": tmp_path / "notes.txt"},
            f"The TensorBoard log '{tmp_path / 'notes.txt'}' is a file; name a folder with --tensorboard.",
        ),
        (
            ReportError,
            {"tensorboard": tmp_path / "log.csv"},
            f"The TensorBoard log is written as a folder, not as '.csv'; name the TensorBoard log '{tmp_path / 'log'}'.",
        ),
        (
            ReportError,
            {"tensorboard": tmp_path / "notes.txt" / "board"},
            f"TensorBoard's logs cannot be written into '{tmp_path / 'notes.txt' / 'board'}' (Not a directory); "
            "name another folder with --tensorboard.",
        ),
        (BundleError, {"output": tmp_path / "notes"}, f"'{tmp_path / 'notes'}' exists and is no model file"),
        (
            DataError,
            {"source": unseen, "model": small[0], "unfreeze": ("conv4",)},
            f"'{small[0]}' was trained as a whole, on images that are to validate; "
            "give the images that it was made from, with the split of then.",
        ),
    ):
        arguments = {"source": pictures, "output": out, "model": model, "unfreeze": ("6",)} | options
        with pytest.raises(error) as raised:
            finetune(arguments.pop("source"), arguments.pop("output"), **arguments)  # type: ignore[arg-type]
        assert str(raised.value).startswith(message)
    monkeypatch.setattr("ffe.commands.scratch.table_of_files", None)  # nothing is decoded
    with pytest.raises(DataError, match=few):
        scratch(tmp_path / "three", out)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 1000))  # type: ignore[attr-defined]
    with pytest.raises(StoreError) as raised:
        finetune(pictures, out, model=model, unfreeze=("6", "19"))
    assert str(raised.value) == (
        f"The activations of 40 images would take 281.2 KiB in '{out}.cache', where 1000 B are free; "
        "name a folder on another disk with --cache, or unfreeze fewer layers."
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.slow
def test_a_model_without_its_backbone_needs_the_very_weights(base: tuple[Path, Path], pictures: Path, tmp_path: Path) -> None:
    """Those are found by their digest; others are refused."""
    from ffe.backbones.keras_build import build
    from ffe.backbones.resolve import make_spec
    from ffe.finetuning.base_model import open_base

    files = []
    for name, seed in (("right", 0), ("wrong", 1)):
        spec, weights = make_spec(BACKBONE, SIZE, "random")
        network = build(spec, weights)
        if seed:
            network.set_weights([weight * 1.5 for weight in network.get_weights()])
        files.append(tmp_path / f"{name}.weights.h5")
        network.save_weights(files[-1])
    extract(pictures, tmp_path / "f.h5", backbone=BACKBONE, size=SIZE, weights=str(files[0]))
    train(tmp_path / "f.h5", tmp_path / "m.ffe", head="logistic", with_backbone=False, weights=str(files[0]))
    with pytest.raises(WeightsError, match=f"The ImageNet weights of '{BACKBONE}' are not on this machine"):
        finetune(pictures, tmp_path / "t.ffe", model=tmp_path / "m.ffe", unfreeze=("6",))
    with pytest.raises(WeightsError, match="are not those that made the features"):
        finetune(pictures, tmp_path / "t.ffe", model=tmp_path / "m.ffe", unfreeze=("6",), weights=str(files[1]))
    assert open_base(tmp_path / "m.ffe", str(files[0])).found.path == files[0]
