"""Int8: calibrated on the user's images, held against float32, travelling with the store and the model."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from feature_files import seal

from ffe.backbones.resolve import make_spec
from ffe.backbones.weights import random_weights
from ffe.bundle.io import Bundle
from ffe.commands.evaluate import evaluate
from ffe.commands.tune import train
from ffe.commands.verify import verify
from ffe.engines import quantize
from ffe.engines.factory import open_engine
from ffe.engines.model_cache import cache_folder
from ffe.engines.quantize import fidelity_of, leave_one_out_accuracy, quantized_for
from ffe.errors import BundleError, EngineError, ModelMismatchError, SourceError, SpecError, StaleStoreError, StoreError
from ffe.extraction.run import extract
from ffe.images.decode import decode
from ffe.images.drawings import draw
from ffe.images.limits import Limits
from ffe.images.records import ImageRecord
from ffe.images.sources import scan
from ffe.predictor import Predictor
from ffe.specs import PreprocessSpec
from ffe.store.reader import FeatureStore
from ffe.store.writer import in_row_order

OPTIONS: dict[str, Any] = {"backbone": "mobilenet_0.25", "size": 32, "weights": "random"}


def run(source: Path, output: Path, **options: Any) -> Any:
    return extract(source, output, **{**OPTIONS, "precision": "int8", **options})


def records_of(source: Path) -> list[ImageRecord]:
    return in_row_order(scan(source).records)


@pytest.fixture(autouse=True)
def log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("ffe"), "propagate", True)
    return caplog


@pytest.fixture(scope="module")
def store(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An int8 feature file of the drawn pictures; treat it as read-only."""
    path = tmp_path_factory.mktemp("int8") / "features.h5"
    run(pictures, path)
    return path


@pytest.fixture(scope="module")
def model(store: Path) -> Path:
    """A model on the int8 features; treat it as read-only."""
    train(store, store.with_name("model.ffe"), head="logistic")
    return store.with_name("model.ffe")


def test_the_model_travels_in_the_store(store: Path, pictures: Path) -> None:
    with FeatureStore(store) as file:
        quantized = file.quantized()
        assert quantized is not None
        assert file.spec.precision == "int8"
        assert file.spec.quantized_sha256 == quantized.sha256
        engine = open_engine(file.spec, random_weights(), quantized=quantized)
        pixels = np.stack([decode((pictures / path).read_bytes(), PreprocessSpec((32, 32), "none")) for path in file.paths[:8]])
        np.testing.assert_array_equal(engine.extract(pixels), file.features(np.arange(8)))
    with h5py.File(store) as plain:
        assert plain["backbone/graph"].dtype == np.uint8


def test_the_summary_states_the_fidelity(pictures: Path, tmp_path: Path, store: Path) -> None:
    summary = run(pictures, tmp_path / "f.h5")
    fidelity = summary.fidelity
    assert fidelity.images == 24  # three fifths of 40
    assert 0.95 < fidelity.worst_cosine <= fidelity.mean_cosine < 1
    assert 0 <= fidelity.int8_accuracy <= 1
    assert 0 <= fidelity.float32_accuracy <= 1
    assert summary.to_json()["fidelity"]["mean_cosine"] == fidelity.mean_cosine
    with FeatureStore(store) as file:
        assert file.summary()["fidelity"] == fidelity.to_json()


def test_the_fidelity_is_that_of_the_features(pictures: Path, store: Path, tmp_path: Path) -> None:
    """The slow way: both files whole, and the cosines of the held-back images among them."""
    run(pictures, tmp_path / "float.h5", precision="float32")
    with FeatureStore(store) as int8, FeatureStore(tmp_path / "float.h5") as plain:
        held = [record.path for record in records_of(pictures)][16:40]
        rows = np.asarray([int8.paths.index(path) for path in held])
        a, b = int8.features(rows), plain.features(rows)
        cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        fidelity = int8.summary()["fidelity"]
    assert fidelity["mean_cosine"] == pytest.approx(cosines.mean(), abs=1e-5)
    assert fidelity["worst_cosine"] == pytest.approx(cosines.min(), abs=1e-5)


def test_images_of_test_and_valid_take_no_part(pictures: Path) -> None:
    records = records_of(pictures)
    split = [replace(record, split="test" if i % 3 == 0 else "train") for i, record in enumerate(records)]
    sample, _ = quantize._sample(split, PreprocessSpec((32, 32), "none"), Limits())
    assert len(sample) == sum(record.split == "train" for record in split)


def test_the_same_images_give_the_same_model_from_the_cache(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, weights = make_spec("mobilenet_0.25", 32, "random", precision="int8")
    first = quantized_for(spec, weights, records_of(pictures))
    monkeypatch.setattr("ffe.engines.openvino_convert.quantize", lambda *rest: pytest.fail("it was calibrated already"))
    assert quantized_for(spec, weights, records_of(pictures)).sha256 == first.sha256
    assert quantized_for(replace(spec, dtype="float16"), weights, records_of(pictures)).sha256 == first.sha256
    assert fidelity_of(first).images == 24


def test_prediction_uses_the_very_model(store: Path, model: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, whatever the batch size; and nothing looks for weights."""
    monkeypatch.setattr("ffe.backbones.resolve.weights_of", lambda *rest: pytest.fail("the predictor looked for weights"))
    with FeatureStore(store) as file:
        files, stored = [pictures / path for path in file.paths], file.features()
        quantized = file.quantized()
    for batch_size in (None, 1, 3):
        np.testing.assert_array_equal(Predictor(model, batch_size=batch_size).features(files), stored)
    ir = Bundle(model).ir()
    assert ir is not None
    assert quantized is not None
    assert ir.sha256 == quantized.sha256
    with Bundle(model).keras_file() as keras_file:
        assert keras_file is None


def test_damaged_rows_are_made_again_by_the_model_in_the_file(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    shutil.copy(store, path)
    with h5py.File(path, "r+") as file:
        file["features"][2, 5] += 1
    found = verify(path, repair=True, recompute=4)
    assert (found.ok, found.repaired, found.recomputed) == (True, 1, 4)
    assert path.read_bytes() == store.read_bytes()
    with h5py.File(path, "r+") as file:
        file["backbone/weights"][7] ^= 1
    (problem,) = verify(path).problems
    assert problem.text() == f"'{path}' holds another quantised backbone than its spec names; extract it again with --overwrite."


def test_keras_cannot_run_it(model: Path, pictures: Path) -> None:
    with pytest.raises(EngineError, match="The engine keras has no precision int8"):
        Predictor(model, engine="keras").features([pictures / "cat" / "cat_000.png"])


def test_a_model_without_its_int8_backbone_is_refused(store: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError) as caught:
        train(store, tmp_path / "m.ffe", head="logistic", with_backbone=False)
    assert str(caught.value) == (
        "An int8 backbone exists nowhere else, so it must be in the model file; leave --without-backbone out."
    )


@pytest.fixture
def copy(pictures: Path, store: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The pictures and their int8 file, to be changed."""
    shutil.copytree(pictures, tmp_path / "pictures")
    shutil.copy(store, tmp_path / "features.h5")
    return tmp_path / "pictures", tmp_path / "features.h5"


def test_more_images_later_go_through_the_model_of_the_store(
    copy: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Even where the cache is gone, and the sample would be another one now."""
    source, output = copy
    with FeatureStore(output) as file:
        before, old = file.spec, dict(zip(file.sha256, file.features(), strict=True))
    for i in range(30):
        draw("dog", 100 + i, (48, 48)).save(source / "dog" / f"a{i}.png")
    monkeypatch.setenv("FFE_CACHE_DIR", str(tmp_path / "empty"))
    summary = run(source, output)
    assert summary.computed == 30
    assert summary.fidelity.images == 24
    with FeatureStore(output) as file:
        assert file.spec == before
        assert len(file) == 70
        rows = dict(zip(file.sha256, file.features(), strict=True))
    assert all((rows[sha256] == features).all() for sha256, features in old.items())
    assert not (tmp_path / "empty").exists()


def test_an_interrupted_run_goes_on_with_its_model(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache is lost, and the images that it was calibrated on are not the first any more: the same file comes out."""
    source = tmp_path / "pictures"
    shutil.copytree(pictures, source)
    run(source, tmp_path / "undisturbed.h5")
    stopped: list[int] = []

    def stop(progress: Any) -> None:
        stopped.append(progress.done)
        if progress.done >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path / "f.h5", progress=stop)
    monkeypatch.setenv("FFE_CACHE_DIR", str(tmp_path / "empty"))
    monkeypatch.setattr("ffe.engines.quantize.quantized_for", lambda *rest: pytest.fail("the unfinished run has a model"))
    summary = run(source, tmp_path / "f.h5")
    assert summary.computed == 40 - stopped[-1]
    assert (tmp_path / "f.h5").read_bytes() == (tmp_path / "undisturbed.h5").read_bytes()


@pytest.mark.parametrize(("other", "difference"), [("float32", "precision: stored int8, asked float32"), ("int8", "dtype")])
def test_other_features_are_refused(copy: tuple[Path, Path], other: str, difference: str) -> None:
    source, output = copy
    with pytest.raises(StaleStoreError, match=difference):
        run(source, output, precision=other, dtype="float32" if other == "float32" else "float16")


def test_float32_features_are_not_taken_for_int8(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before anything is calibrated."""
    run(pictures, tmp_path / "f.h5", precision="float32")
    monkeypatch.setattr("ffe.engines.quantize.quantized_for", lambda *rest: pytest.fail("too late"))
    with pytest.raises(StaleStoreError, match="precision: stored float32, asked int8"):
        run(pictures, tmp_path / "f.h5")


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_a_store_that_lost_its_model_is_refused(copy: tuple[Path, Path], damage: str) -> None:
    source, output = copy
    with h5py.File(output, "r+") as file:
        if damage == "gone":
            del file["backbone"]
            seal(file)
        else:
            file["backbone/weights"][7] ^= 1
    sentence = "has lost its quantised backbone" if damage == "gone" else "holds another quantised backbone than its spec names"
    for action in (lambda: run(source, output), lambda: train(output, output.with_name("m.ffe"), head="logistic")):
        with pytest.raises(StoreError, match=sentence):
            action()


def test_another_source_takes_the_model_of_the_first(store: Path, model: Path, tmp_path: Path) -> None:
    """Calibrated on its own images it would have features of its own; with --like they can be tuned and scored together."""
    other = tmp_path / "other"
    for kind in ("cat", "dog"):
        (other / kind).mkdir(parents=True)
        for i in range(12):
            draw(kind, 500 + i, (48, 48)).save(other / kind / f"{i}.png")  # type: ignore[arg-type]
    run(other, tmp_path / "own.h5")
    with pytest.raises(ModelMismatchError, match=r"quantized_sha256: .* \(int8 with --like its feature file\)"):
        evaluate(model, tmp_path / "own.h5")
    with pytest.raises(ModelMismatchError, match="and an int8 file with --like the other"):
        train(store, tmp_path / "m.ffe", head="logistic", test=tmp_path / "own.h5")
    run(other, tmp_path / "like.h5", like=store)
    assert evaluate(model, tmp_path / "like.h5").evaluation.n == 24
    train(store, tmp_path / "m.ffe", head="logistic", test=tmp_path / "like.h5")
    with FeatureStore(tmp_path / "like.h5") as a, FeatureStore(store) as b:
        assert a.spec == b.spec
    assert run(other, tmp_path / "like.h5").computed == 0  # the file has its model by now


def test_like_is_for_int8_and_for_the_same_options(store: Path, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        run(pictures, tmp_path / "f.h5", precision="float32", like=store)
    assert str(caught.value) == "--like takes the int8 model of another feature file, so it needs --precision int8."
    with pytest.raises(StaleStoreError, match=r"holds other features than these \(preprocess.size: stored 32x32, asked 64x64\)"):
        run(pictures, tmp_path / "f.h5", size=64, like=store)


def test_the_model_of_another_unfinished_run_is_not_taken(pictures: Path, tmp_path: Path) -> None:
    """Its records are gone with their rows, but the model lies there: another backbone must not run on it."""

    def stop(progress: Any) -> None:
        if progress.done >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(pictures, tmp_path / "f.h5", progress=stop)
    (tmp_path / "f.h5.partial" / "draft").write_bytes(b"torn")
    run(pictures, tmp_path / "f.h5", size=48)
    run(pictures, tmp_path / "fresh.h5", size=48)
    assert (tmp_path / "f.h5").read_bytes() == (tmp_path / "fresh.h5").read_bytes()


def test_an_unfinished_run_of_other_options_is_refused_before_the_calibration(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(progress: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(pictures, tmp_path / "f.h5", precision="float32", progress=stop)
    monkeypatch.setattr("ffe.engines.quantize.quantized_for", lambda *rest: pytest.fail("too late"))
    with pytest.raises(StaleStoreError, match=r"An unfinished run for .* made other features \(precision: stored float32"):
        run(pictures, tmp_path / "f.h5")


def test_a_bundle_with_another_int8_backbone_is_refused(model: Path, tmp_path: Path) -> None:
    from ffe.base.openvino_ir import IrModel
    from ffe.bundle.io import write_bundle

    bundle = Bundle(model)
    ir = bundle.ir()
    assert ir is not None
    other = IrModel(ir.xml, np.concatenate([ir.weights, np.zeros(1, np.uint8)]))
    parts = {"head": bundle.head(), "golden": bundle.golden(), "splits": bundle.splits(), "card": bundle.card()}
    write_bundle(tmp_path / "m.ffe", bundle.manifest, **parts, backbones=[(None, other)])  # type: ignore[arg-type]
    with pytest.raises(BundleError, match="holds another int8 backbone than its spec names; make it again"):
        Bundle(tmp_path / "m.ffe").ir()


def test_files_that_are_no_pictures_are_no_part_of_the_sample(pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures, tmp_path / "p")
    for i in range(30):
        (tmp_path / "p" / "cat" / f"x{i}.png").write_text(f"no picture {i}")
    summary = run(tmp_path / "p", tmp_path / "f.h5")
    assert summary.skipped == 30
    assert summary.fidelity.images == 24


def test_too_few_images_are_refused(pictures: Path, tmp_path: Path) -> None:
    for kind in ("cat", "dog"):
        (tmp_path / "few" / kind).mkdir(parents=True)
        for i in range(6):
            shutil.copy(pictures / kind / f"{kind}_{i:03d}.png", tmp_path / "few" / kind)
    (tmp_path / "few" / "cat" / "broken.png").write_text("no picture")
    shutil.copy(pictures / "cat" / "cat_000.png", tmp_path / "few" / "cat" / "again.png")
    with pytest.raises(SourceError) as caught:
        run(tmp_path / "few", tmp_path / "f.h5")
    assert str(caught.value) == (
        "The precision int8 is calibrated on your images and needs at least 20 different ones for training, "
        "but there are only 12; add images, or use --precision float32."
    )
    assert not (tmp_path / "f.h5").exists()
    assert not (tmp_path / "f.h5.partial").exists()


def test_features_that_change_too_much_are_refused(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "LEAST_COSINE", 0.99999)
    with pytest.raises(EngineError) as caught:
        run(pictures, tmp_path / "f.h5")
    assert str(caught.value).startswith(
        "Int8 changes the features of 'mobilenet_0.25' too much: their mean cosine to float32 is 0.9"
    )
    assert str(caught.value).endswith("on 24 images, and 0.99999 is needed; use --precision float32.")


def test_a_broken_cache_is_made_again(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Any) -> None:
    monkeypatch.setenv("FFE_CACHE_DIR", str(tmp_path / "cache"))
    run(pictures, tmp_path / "a.h5")
    for file in cache_folder().iterdir():
        file.write_bytes(file.read_bytes()[:1000])
    run(pictures, tmp_path / "b.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    assert log.text.count("cannot be used (") == 2


def test_unlabelled_images_have_a_fidelity_without_accuracies(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    for file in pictures.glob("*/*.png"):
        shutil.copy(file, tmp_path / "flat")
    fidelity = run(tmp_path / "flat", tmp_path / "f.h5").fidelity
    assert fidelity.mean_cosine > 0.95
    assert fidelity.int8_accuracy is fidelity.float32_accuracy is None


def test_leave_one_out_is_what_it_says() -> None:
    """Against the slow way: a ridge classifier of scikit-learn, fitted anew without every row in turn."""
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(0)
    labels = np.repeat([4, 7, 9], 12)
    features = rng.normal(size=(36, 5)) + 0.8 * labels[:, None] * rng.normal(size=5)
    centred = features - features.mean(axis=0)
    gram = centred @ centred.T
    scaled = centred / np.sqrt(np.trace(gram) / len(gram))
    right = 0
    for i in range(36):
        keep = np.arange(36) != i
        targets = np.where(labels[:, None] == np.unique(labels), 1.0, -1.0)
        # the constant term is penalised like the others: a column of ones
        with_one = np.concatenate([scaled, np.ones((36, 1))], axis=1)
        fitted = Ridge(alpha=quantize._RIDGE, fit_intercept=False).fit(with_one[keep], targets[keep])
        right += np.unique(labels)[fitted.predict(with_one[i : i + 1]).argmax()] == labels[i]
    assert leave_one_out_accuracy(features, labels) == pytest.approx(right / 36)
    assert 0.4 < right / 36 < 1


def test_the_sample_is_prepared_as_the_images_are(pictures: Path) -> None:
    """But decoded exactly, so that the model serves both ways of decoding."""
    wanted = PreprocessSpec((32, 32), "none", "bicubic", resize="shortest", crop=0.8)
    records = records_of(pictures)
    sample, _ = quantize._sample(records, wanted, Limits())
    np.testing.assert_array_equal(sample, [decode(record.file.read_bytes(), wanted) for record in records])
