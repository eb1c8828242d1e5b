"""Several feature files of the same photos as one problem: how rows meet, what is refused, and the model that comes of it."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import ffe
from ffe.base.feature_layout import FeatureLayout, Part
from ffe.bundle.io import Bundle
from ffe.cli import cli
from ffe.commands.finetune import finetune
from ffe.dataset.feature_files import side_by_side
from ffe.errors import BundleError, DataError, FfeError, ModelMismatchError, SpecError, StoreError, WeightsError
from ffe.extraction.run import extract
from ffe.heads import find_head
from ffe.heads.ensemble import EnsembleHead
from ffe.store.reader import FeatureStore
from ffe.tuning.fusion import files_looked_at, on_files


@pytest.fixture(scope="module")
def files(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The same pictures through three backbones: 48 features, a network's 1x1x256, and 48 of larger pictures in float16."""
    folder = tmp_path_factory.mktemp("fusion")
    a, b, c = (folder / f"{name}.h5" for name in "abc")
    extract(pictures, a, backbone="fake")
    extract(pictures, b, backbone="mobilenet_0.25", size=32, weights="random")
    extract(pictures, c, backbone="fake", size=48, dtype="float16")
    return a, b, c


@pytest.fixture(scope="module")
def fused(files: tuple[Path, Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of all three; treat it as read-only."""
    path = tmp_path_factory.mktemp("fused") / "m.ffe"
    ffe.train(files, path, head="logistic", settings={"pooling": "avg"}, report=path.with_suffix(".html"))
    return path


# rows


def test_rows_meet_by_their_digest_whatever_their_order(pictures: Path, files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """Renamed photos stand in another order; each row holds the features of one photo all the same."""
    for photo in pictures.rglob("*.png"):
        target = tmp_path / "photos" / photo.parent.name / f"{99 - int(photo.stem[-3:]):03d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, target)
    extract(tmp_path / "photos", tmp_path / "other.h5", backbone="fake", size=48)
    with FeatureStore(files[0]) as one, FeatureStore(tmp_path / "other.h5") as other:
        assert one.sha256 != other.sha256
        joined = side_by_side([one, other])
        rows = np.asarray([3, 1, 20])
        assert joined.layout == FeatureLayout((Part(4, 4, 3), Part(4, 4, 3)))
        assert joined.dims == 96
        found = joined.features(rows)
        for i, row in enumerate(rows.tolist()):
            theirs = other.sha256.index(one.sha256[row])
            np.testing.assert_array_equal(found[i], np.concatenate([one.features()[row], other.features()[theirs]]))


def test_copies_and_views_of_a_photo_meet_too(pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures, tmp_path / "p")
    shutil.copy(pictures / "cat" / "cat_000.png", tmp_path / "p" / "cat" / "again.png")
    views = {"views": 2, "augment": "flip,rotate=15"}
    extract(tmp_path / "p", tmp_path / "a.h5", backbone="fake", **views)
    extract(tmp_path / "p", tmp_path / "b.h5", backbone="fake", size=48, **views)
    extract(tmp_path / "p", tmp_path / "plain.h5", backbone="fake", size=24)
    with FeatureStore(tmp_path / "a.h5") as a, FeatureStore(tmp_path / "b.h5") as b, FeatureStore(tmp_path / "plain.h5") as plain:
        (_, places) = side_by_side([a, b]).places
        assert sorted(places.tolist()) == list(range(len(a)))
        assert [(b.sha256[i], b.views[i], b.paths[i]) for i in places] == list(zip(a.sha256, a.views, a.paths, strict=True))
        with pytest.raises(DataError, match="hold different views of their photos; extract both with the same --views and --aug"):
            side_by_side([a, plain])


def _table(path: Path, photos: list[Path], **columns: dict[int, str]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split", "group"])
        for i, photo in enumerate(photos):
            usual = {"label": photo.parent.name, "split": "test" if i % 4 == 0 else "train", "group": ""}
            writer.writerow([photo, *(columns.get(name, {}).get(i, value) for name, value in usual.items())])
    return path


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        (
            {"label": {1: "dog"}},
            r"' has the label 'cat' in '.*a\.h5' and 'dog' in '.*b\.h5'; make it like the other one with 'ffe ",
        ),
        ({"split": {0: "train"}}, r"cat_000\.png' has the split 'test' in '.*a\.h5' and 'train' in '.*b\.h5'; make it like"),
        ({"group": {2: "burst"}}, r"cat_002\.png' has the group none in '.*a\.h5' and 'burst' in '.*b\.h5'; make it like"),
    ],
)
def test_another_label_split_or_group_is_refused(
    pictures: Path, tmp_path: Path, columns: dict[str, dict[int, str]], sentence: str
) -> None:
    photos = sorted(pictures.rglob("*.png"))
    extract(_table(tmp_path / "a.csv", photos), tmp_path / "a.h5", backbone="fake")
    extract(_table(tmp_path / "b.csv", photos, **columns), tmp_path / "b.h5", backbone="fake", size=48)
    with pytest.raises(DataError, match=sentence):
        ffe.tune([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "m.ffe")
    assert not (tmp_path / "m.ffe").exists()


def test_files_of_different_photos_are_refused_and_the_command_mends_it(pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures, tmp_path / "p")
    extract(tmp_path / "p", tmp_path / "a.h5", backbone="fake")
    for name in ("cat_001", "cat_002"):
        (tmp_path / "p" / "cat" / f"{name}.png").unlink()
    extract(tmp_path / "p", tmp_path / "b.h5", backbone="fake", size=48)
    a, b = tmp_path / "a.h5", tmp_path / "b.h5"
    lacks = (
        rf"^'{b}' lacks 2 photos of '{a}' \(the first 'cat/cat_001\.png'\), and only files of the same photos can be joined; "
        rf"make it like the other one with 'ffe extract {tmp_path / 'p'} -o {b}'\.$"
    )
    for order in ([a, b], [b, a]):
        with pytest.raises(DataError, match=lacks):
            ffe.tune(order, tmp_path / "m.ffe")
    extract(tmp_path / "p", a)
    assert ffe.train([a, b], head="logistic").features == (a, b)


def test_the_same_features_twice_too_many_files_and_none(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"hold the same features \(fake, and all else alike\); give files of different backb"):
        ffe.tune([files[0], files[1], files[0]])
    with FeatureStore(files[0]) as store, pytest.raises(DataError, match="feature files are too many to be joined; give 8 at"):
        side_by_side([store] * 9)
    with pytest.raises(SpecError, match="No feature file is named; give one, or several of the same photos"):
        ffe.tune([])
    with pytest.raises(StoreError, match="There is no feature file"):
        ffe.tune([files[0], tmp_path / "none.h5"])


def test_validation_files_come_one_for_each_in_the_same_order(pictures: Path, tmp_path: Path) -> None:
    photos = sorted(pictures.rglob("*.png"))
    for name, some in (("main", photos[::2]), ("more", photos[1::2])):
        table = _table(tmp_path / f"{name}.csv", some, split=dict.fromkeys(range(len(some)), ""))
        for size in (32, 48):
            extract(table, tmp_path / f"{name}{size}.h5", backbone="fake", size=size)
    main, more = ([tmp_path / f"{name}{size}.h5" for size in (32, 48)] for name in ("main", "more"))
    result = ffe.train(main, head="logistic", test=more)
    assert result.evaluation.n == len(photos[1::2])
    assert result.head.map.layout.dims == 96
    with pytest.raises(DataError, match="There are 2 feature files and 1 file of --test; give --test one for each, in the same"):
        ffe.train(main, head="logistic", test=more[0])
    with pytest.raises(ModelMismatchError, match="hold different features"):
        ffe.train(main, head="logistic", test=more[::-1])


# heads


def _fitted(name: str, layouts: list[FeatureLayout], x: np.ndarray, **settings: object) -> object:
    whole = FeatureLayout(tuple(part for layout in layouts for part in layout.parts))
    from ffe.heads.search_space import complete

    kind = find_head(name)
    return kind(complete(kind.space_for(whole), settings, name), whole).fit(x, np.arange(len(x)) % 2, 2)


@pytest.mark.parametrize("pooling", ["flat", "mean", "cls+mean", "max", "gem"])
@pytest.mark.parametrize("scaling", ["sqrt_l2", "standard"])
def test_a_head_on_one_part_is_the_same_head_on_its_file_alone(pooling: str, scaling: str) -> None:
    """Also where the poolings were those of the tokens in the other file, and where its file has two parts."""
    layouts = [FeatureLayout((Part(2, 2, 4),)), FeatureLayout((Part(2, 2, 3, 1), Part(1, 1, 5, 2)))]
    x = np.random.default_rng(0).random((40, sum(layout.dims for layout in layouts)), np.float32)
    for part, used, columns in (("1", (0,), slice(0, 16)), ("3", (1,), slice(16, None))):
        head = _fitted("logistic", layouts, x, pooling=pooling, scaling=scaling, parts=part)
        assert files_looked_at(head, layouts) == used
        alone = on_files(head, layouts, used)
        np.testing.assert_array_equal(alone.predict_proba(x[:, columns]), head.predict_proba(x))
        assert alone.parameters.get("parts") == (None if part == "1" else "2")
    assert files_looked_at(_fitted("logistic", layouts, x, pooling=pooling, scaling=scaling), layouts) == (0, 1)


SETTINGS = {"pooling": "avg", "scaling": "l2", "pca": False, "C": 1.0}


def test_an_ensemble_needs_the_files_of_all_its_members() -> None:
    layouts = [FeatureLayout((Part(2, 2, 4),))] * 3
    x = np.random.default_rng(0).random((40, 48), np.float32)
    whole = FeatureLayout(layouts[0].parts * 3)
    members = [
        {
            "head": "logistic",
            "temperature": 1.5,
            "parameters": {"pooling": "avg", "parts": part, "scaling": "l2", "pca": False, "C": 1.0},
        }
        for part in ("3", "1")
    ]
    head = EnsembleHead({"members": members}, whole).fit(x, np.arange(40) % 2, 2)
    assert files_looked_at(head, layouts) == (0, 2)
    alone = on_files(head, layouts, (0, 2))
    kept = np.concatenate([x[:, :16], x[:, 32:]], axis=1)
    np.testing.assert_array_equal(alone.predict_proba(kept), head.predict_proba(x))
    assert [member["parameters"]["parts"] for member in alone.parameters["members"]] == ["2", "1"]


# models


def test_a_model_holds_every_backbone_and_says_so(fused: Path, files: tuple[Path, Path, Path]) -> None:
    bundle = Bundle(fused)
    manifest = bundle.manifest
    assert manifest.schema == 5
    assert [spec.backbone.name for spec, _ in manifest.backbones] == ["fake", "mobilenet_0.25", "fake"]
    assert [layout.dims for _, layout in manifest.backbones] == [48, 256, 48]
    assert manifest.search["joined"] == ["1 fake at 32x32", "2 mobilenet_0.25 at 32x32", "3 fake at 48x48"]
    assert {"backbone2.keras", "backbone2.xml", "backbone2.bin"} <= set(manifest.members)
    assert {name: array.shape for name, array in bundle.golden().items() if name != "probabilities"} == {
        **{"images": (2, 32, 32, 3), "images2": (2, 32, 32, 3), "images3": (2, 48, 48, 3)},
        **{"features": (2, 48), "features2": (2, 256), "features3": (2, 48)},
    }
    assert type(manifest).from_json(manifest.to_json()) == manifest
    text = CliRunner().invoke(cli, ["info", str(fused)]).stdout
    assert text.count("backbone     ") == 3
    assert "joined       parts 1 fake at 32x32, 2 mobilenet_0.25 at 32x32, 3 fake at 48x48" in text
    assert "Backbones `fake` (UNTRAINED" in bundle.card()
    page = fused.with_suffix(".html").read_text("utf-8")
    assert "fake at 32x32, mobilenet_0.25 at 32x32 and fake at 48x48" in page
    assert "the head looks at all" in page
    assert "352 of each photo (4x4x3; 1x1x256; 4x4x3)" in page


def test_prediction_sees_what_training_saw_and_decodes_each_photo_once(
    fused: Path, files: tuple[Path, Path, Path], pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ffe.images.decode as decoding

    opened: list[int] = []
    before = decoding._opened
    monkeypatch.setattr(decoding, "_opened", lambda *given: opened.append(1) or before(*given))
    photos = sorted(pictures.rglob("*.png"))
    predictor = ffe.Predictor(fused, batch_size=5)
    rows = predictor.features(photos)
    assert len(opened) == len(photos)
    stores = [FeatureStore(path) for path in files]
    stored = np.concatenate([store.features() for store in stores], axis=1)
    order = [stores[0].paths.index(photo.relative_to(pictures).as_posix()) for photo in photos]
    np.testing.assert_allclose(rows, stored[order], rtol=0, atol=1e-5 * np.abs(stored).max())
    answers = list(predictor.predict([photos[0], pictures / "none.png", photos[-1]]))
    assert [answer.error is None for answer in answers] == [True, False, True]
    one = predictor.probabilities(stored[order[:1]])[0]
    assert list(answers[0].probabilities.values()) == pytest.approx(one.tolist(), abs=1e-4)
    for store in stores:
        store.close()


def test_verify_asks_every_backbone(fused: Path, tmp_path: Path) -> None:
    from ffe.bundle.io import write_bundle

    found = ffe.verify(fused)
    assert (found.ok, found.recomputed) == (True, 2)
    bundle = Bundle(fused)
    golden = bundle.golden()
    golden["features3"] = golden["features3"] * np.float32(1.01)
    with bundle.keras_file(1) as file:
        saved = [(None, None), (file, bundle.ir(1)), (None, None)]
        parts = {"head": bundle.head(), "splits": bundle.splits(), "card": bundle.card()}
        write_bundle(tmp_path / "m.ffe", bundle.manifest, golden=golden, backbones=saved, **parts)  # type: ignore[arg-type]
    problems = [problem.text() for problem in ffe.verify(tmp_path / "m.ffe").problems]
    assert problems[0].startswith("its backbone fake gives other features for the golden pictures, 0.0098 of the largest apart")


@pytest.mark.parametrize("parts", [[0], [2, 1], [1.0], [1] * 8])
def test_a_manifest_whose_parts_do_not_add_up_is_refused(fused: Path, parts: list[object]) -> None:
    record = Bundle(fused).manifest.to_json()
    record["beside"] = [{**record["beside"][0], "parts": part} for part in parts]
    with pytest.raises(BundleError, match="parts of further backbones"):
        type(Bundle(fused).manifest).from_json(record)


def test_a_winner_that_looks_at_one_file_is_an_ordinary_model(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    result = ffe.train(files[:2], tmp_path / "m.ffe", head="logistic", settings={"parts": "2", "pooling": "avg"})
    assert result.features == (files[1],)
    assert "parts" not in result.head.parameters
    manifest = Bundle(tmp_path / "m.ffe").manifest
    assert (manifest.schema, manifest.beside, manifest.spec.backbone.name) == (4, (), "mobilenet_0.25")
    alone = ffe.train(files[1], tmp_path / "alone.ffe", head="logistic", settings={"pooling": "avg"})
    assert result.evaluation.to_json() == alone.evaluation.to_json()
    assert ffe.verify(tmp_path / "m.ffe").ok
    assert ffe.evaluate(tmp_path / "m.ffe", files[1]).evaluation.n == 40


def test_a_search_tries_every_file_and_all(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["tune", *map(str, files[:2]), "-o", str(tmp_path / "m.ffe"), "--heads", "logistic"])
    assert result.exit_code == 0, result.output
    tried = {trial["parameters"]["parts"] for trial in Bundle(tmp_path / "m.ffe").manifest.leaderboard}
    assert tried == {"all", "1", "2"}


def test_without_backbones_they_are_looked_for(files: tuple[Path, Path, Path], pictures: Path, tmp_path: Path) -> None:
    ffe.train(files[:2], tmp_path / "m.ffe", head="logistic", settings={"pooling": "avg"}, with_backbone=False)
    bundle = Bundle(tmp_path / "m.ffe")
    assert not bundle.has_backbone
    (answer,) = ffe.Predictor(bundle).predict(pictures / "cat" / "cat_000.png")
    assert answer.error is None
    assert ffe.evaluate(tmp_path / "m.ffe", pictures).evaluation.n == 40


def test_an_int8_file_among_them_predicts_through_its_own_model(
    files: tuple[Path, Path, Path], pictures: Path, tmp_path: Path
) -> None:
    quantised = tmp_path / "int8.h5"
    layer = {"layer": "conv_pw_4_relu", "precision": "int8"}
    extract(pictures, quantised, backbone="mobilenet_0.25", size=32, weights="random", **layer)
    both, model = [files[0], quantised], tmp_path / "m.ffe"
    settings = {"pooling": "avg", "parts": "all"}
    result = ffe.tune(both, model, heads="logistic", settings=settings, trials=2)
    assert result.features == tuple(both)
    (_, (spec, _)) = Bundle(model).manifest.backbones
    assert (spec.precision, Bundle(model).ir(1).sha256) == ("int8", spec.quantized_sha256)
    photos = sorted(pictures.rglob("*.png"))
    predictor = ffe.Predictor(model)
    rows = predictor.features(photos)
    stored = []
    for path in both:
        with FeatureStore(path) as store:
            places = [store.paths.index(photo.relative_to(pictures).as_posix()) for photo in photos]
            stored.append(store.features()[places])
    expected = np.concatenate(stored, axis=1)
    np.testing.assert_allclose(rows, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    answers = [list(answer.probabilities.values()) for answer in predictor.predict(photos)]
    np.testing.assert_allclose(answers, predictor.probabilities(expected), atol=1e-4)
    assert ffe.verify(model).ok


def test_views_are_averaged_for_every_backbone(fused: Path, pictures: Path) -> None:
    photo = pictures / "cat" / "cat_000.png"
    (plain,), (viewed,) = (
        list(ffe.Predictor(fused, **options).predict(photo)) for options in ({}, {"tta": 2, "augment": "flip,rotate=20"})
    )
    assert viewed.error is None
    assert viewed.probabilities != plain.probabilities


def test_photos_are_forgotten_in_it(fused: Path, pictures: Path, tmp_path: Path) -> None:
    shutil.copy(fused, tmp_path / "m.ffe")
    found = ffe.forget([name := "cat/cat_001.png"], [tmp_path / "m.ffe"])
    assert found.files[0].photos == (name,)
    assert name not in {row.path for row in Bundle(tmp_path / "m.ffe").splits()}
    assert ffe.verify(tmp_path / "m.ffe").ok


@pytest.mark.parametrize(
    ("use", "kind", "sentence"),
    [
        (
            lambda m, p, t: ffe.evaluate(m, t[0]),
            ModelMismatchError,
            "has 3 backbones, and '.*' holds features of one; give the",
        ),
        (lambda m, p, t: extract(p, t[0].parent / "x.h5", backbone=str(m)), WeightsError, "holds several backbones; name one of"),
        (
            lambda m, p, t: finetune(p, t[0].parent / "x.ffe", model=m, unfreeze=1),
            BundleError,
            "has 3 backbones, and fine-tuning trains one; start from a model that 'ffe tune' made of one feature file",
        ),
    ],
)
def test_what_needs_one_backbone_says_so(
    fused: Path, pictures: Path, files: tuple[Path, Path, Path], use: object, kind: type[FfeError], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        use(fused, pictures, files)  # type: ignore[operator]
    assert not list(files[0].parent.glob("x.*"))
