"""``ffe.bakeoff``: several backbones on one split, end to end on drawn pictures."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

import ffe
from ffe.bundle.io import Bundle
from ffe.commands import bakeoff_runner
from ffe.comparing.bakeoff_result import BakeoffResult
from ffe.errors import BackboneError, DataError, SourceError, SpecError, StoreError
from ffe.extraction.run import extract
from ffe.store.reader import FeatureStore

pytestmark = pytest.mark.usefixtures("quick_searches")

NAMES = ("fake", "mobilenet_0.25")
QUICK: dict[str, Any] = {"weights": "random", "trials": 1, "seconds": 200.0}


@pytest.fixture(scope="module")
def first(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[BakeoffResult, Path]:
    """Two backbones on drawn pictures."""
    folder = tmp_path_factory.mktemp("bakeoff")
    return ffe.bakeoff(pictures, folder / "o", backbones=NAMES, report=folder / "page.html", **QUICK), folder


def stats(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in folder.iterdir() if file.suffix in {".h5", ".ffe", ".json", ".csv"}}


def test_all_have_the_same_split(first: tuple[BakeoffResult, Path]) -> None:
    result, _ = first
    assert [one.name for one in result.backbones] == list(NAMES)
    tested = []
    for one in result.backbones:
        assert one.reason == ""
        assert one.model is not None
        assert one.features_file is not None
        tested.append({row.sha256 for row in Bundle(one.model).splits() if row.split == "test"})
        with FeatureStore(one.features_file) as store:
            assert {store.sha256[i] for i in range(len(store)) if store.split[i] == "test"} == tested[-1]
            assert one.features == store.dims
        assert one.evaluation is not None
        assert one.evaluation.n == result.rows["test"] == len(tested[-1])
        assert one.evaluation.accuracy == pytest.approx(Bundle(one.model).manifest.evaluation["test"]["accuracy"])
        assert one.model_bytes == one.model.stat().st_size
        assert one.bytes_per_photo == 4 * one.features
        assert one.images_per_second is not None
        assert one.rate_is_rough  # 40 photos
        assert not one.reused
        assert not one.searched_before
        assert one.extract_seconds > 0
        assert one.search_seconds > 0
    assert tested[0] == tested[1]
    assert result.rows["valid"] == 0
    assert result.best in NAMES
    assert result.take in NAMES
    assert result.second


def test_the_page(first: tuple[BakeoffResult, Path]) -> None:
    page = (first[1] / "page.html").read_text()
    assert all(name in page for name in NAMES)
    assert f"Take {first[0].take}" in page


def test_a_second_run_computes_nothing(
    first: tuple[BakeoffResult, Path], pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, folder = first

    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("this was there already")

    monkeypatch.setattr("ffe.commands.bakeoff_runner.tune", never)
    monkeypatch.setattr("ffe.extraction.runners.collect.collect", never)
    before = stats(folder / "o")
    again = ffe.bakeoff(pictures, folder / "o", backbones=NAMES, **QUICK)
    assert stats(folder / "o") == before
    assert [one.searched_before for one in again.backbones] == [True, True]
    keep = ("evaluation", "images_per_second", "extract_seconds", "search_seconds", "model_bytes", "comparison", "dominated_by")
    for old, new in zip(result.backbones, again.backbones, strict=True):
        assert {name: old.to_json()[name] for name in keep} == {name: new.to_json()[name] for name in keep}
    assert (again.best, again.take) == (result.best, result.take)


def test_one_more_backbone_and_another_order_change_no_side(
    first: tuple[BakeoffResult, Path], pictures: Path, tmp_path: Path
) -> None:
    result, folder = first
    shutil.copytree(folder / "o", tmp_path / "o")
    more = ffe.bakeoff(pictures, tmp_path / "o", backbones=["mobilenet", *reversed(NAMES)], **QUICK)
    assert more.rows == result.rows
    assert [one.searched_before for one in more.backbones] == [False, True, True]
    sides = [json.loads((place / "split.json").read_text())["sides"] for place in (folder / "o", tmp_path / "o")]
    assert sides[0] == sides[1]
    for name in NAMES:
        assert more.backbone(name).evaluation == result.backbone(name).evaluation


def test_another_seed_searches_anew(first: tuple[BakeoffResult, Path], pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(first[1] / "o", tmp_path / "o")
    again = ffe.bakeoff(pictures, tmp_path / "o", backbones=NAMES, seed=1, **QUICK)
    assert [one.searched_before for one in again.backbones] == [False, False]
    assert [one.reused for one in again.backbones] == [True, True]


def test_one_without_weights_is_named_and_the_others_go_on(pictures: Path, tmp_path: Path) -> None:
    result = ffe.bakeoff(pictures, tmp_path / "o", backbones=["vgg16", "fake"], trials=1, weights="imagenet")
    failed, done = result.backbones
    assert failed.reason.startswith("The ImageNet weights of 'vgg16' are not on this machine")
    assert done.reason == ""
    assert (result.best, result.second, result.take) == ("fake", "", "fake")


def test_none_has_weights(pictures: Path, tmp_path: Path) -> None:
    result = ffe.bakeoff(pictures, tmp_path / "o", backbones="vgg16,vgg19", report=tmp_path / "page.html")
    assert result.best == ""
    assert all(one.reason for one in result.backbones)
    assert "No backbone has a result." in (tmp_path / "page.html").read_text()


def test_what_does_not_fit_the_time_says_so(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(source: Any, output: Any, *, backbone: str, progress: Any, **options: Any) -> Any:
        def watch(now: Any) -> None:
            if backbone == "mobilenet_0.25" and now.done < now.total:
                raise bakeoff_runner.TooSlowError(1000.0)
            progress(now)

        return extract(source, output, backbone=backbone, progress=watch, batch_size=8, **options)

    monkeypatch.setattr("ffe.commands.bakeoff_runner.extract", slow)
    result = ffe.bakeoff(pictures, tmp_path / "o", backbones=["mobilenet_0.25", "fake"], **QUICK)
    late, done = result.backbones
    assert late.reason.startswith("its features need about 16 min 40 s more, and 2 min ")
    assert late.reason.endswith(
        "of 200 s are left for features; what was computed is kept, so run the same command again, or give more with --seconds"
    )
    assert done.reason == ""
    assert result.take == "fake"
    monkeypatch.undo()
    monkeypatch.setattr("ffe.backbones.weights._unreachable", lambda url: "no network in tests")
    again = ffe.bakeoff(pictures, tmp_path / "o", backbones=["mobilenet_0.25", "fake"], **QUICK)
    assert [one.reason for one in again.backbones] == ["", ""]
    assert [one.searched_before for one in again.backbones] == [False, True]
    assert again.backbones[0].reused  # the first batch of the run before


def test_one_that_was_too_slow_in_its_turn_is_tried_again(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def slow(source: Any, output: Any, *, backbone: str, progress: Any, **options: Any) -> Any:
        tried.append(backbone)
        if tried == ["mobilenet_0.25"]:
            raise bakeoff_runner.TooSlowError(90.0)
        return extract(source, output, backbone=backbone, progress=progress, **options)

    monkeypatch.setattr("ffe.commands.bakeoff_runner.extract", slow)
    result = ffe.bakeoff(pictures, tmp_path / "o", backbones=["mobilenet_0.25", "fake"], **QUICK)
    assert [one.reason for one in result.backbones] == ["", ""]
    assert tried == ["mobilenet_0.25", "fake", "fake", "mobilenet_0.25"]  # the second is told its sides


def test_a_rate_of_few_photos_is_said_to_be_rough_until_many_were_timed(
    first: tuple[BakeoffResult, Path], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ffe.extraction import throughput_log
    from ffe.wording.bakeoff_text import bakeoff_text

    text = bakeoff_text(first[0].to_json())
    assert text.count("≥") == 3
    assert "≥: few photos were timed, and to begin takes a share of so short a time; the rate is that or higher." in text
    monkeypatch.setenv("FFE_CACHE_DIR", str(tmp_path / "cache"))
    assert first[0].backbones[0].features_file is not None
    with FeatureStore(first[0].backbones[0].features_file) as store:
        throughput_log.remember(store.spec, "auto", store.layout, 100, 5000.0)
    again = ffe.bakeoff(pictures, first[1] / "o", backbones=NAMES, **QUICK)
    assert [one.rate_is_rough for one in again.backbones] == [False, True]
    assert again.backbones[0].images_per_second == 5000.0


def test_no_time_at_all(pictures: Path, tmp_path: Path) -> None:
    result = ffe.bakeoff(pictures, tmp_path / "o", backbones=["fake", "mobilenet_0.25"], **QUICK | {"seconds": 1e-3})
    assert result.best == ""
    for one in result.backbones:
        assert one.reason.startswith("its features have not begun: 0 s of 0.001 s are left for features;")


def test_an_interruption_keeps_what_is_done(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tune, searched = bakeoff_runner.tune, list[str]()

    def stop(features: Path, *arguments: Any, **options: Any) -> Any:
        searched.append(Path(features).name)
        if len(searched) == 2:
            raise KeyboardInterrupt
        return tune(features, *arguments, **options)

    monkeypatch.setattr("ffe.commands.bakeoff_runner.tune", stop)
    result = ffe.bakeoff(pictures, tmp_path / "o", backbones=NAMES, **QUICK)
    assert result.interrupted
    assert [one.reason for one in result.backbones] == ["", "interrupted"]
    searched.clear()
    again = ffe.bakeoff(pictures, tmp_path / "o", backbones=NAMES, **QUICK)
    assert len(searched) == 1
    assert not again.interrupted
    assert [one.reason for one in again.backbones] == ["", ""]


def test_a_photo_that_is_new_is_dealt(pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures, tmp_path / "p")
    for file in list((tmp_path / "p").rglob("*3.png")):
        file.rename(tmp_path / file.name)
    options: dict[str, Any] = {**QUICK, "backbones": ["fake", "mobilenet_0.25"]}
    before = ffe.bakeoff(tmp_path / "p", tmp_path / "o", **options)
    for file in list(tmp_path.glob("*.png")):
        file.rename(tmp_path / "p" / file.name.partition("_")[0] / file.name)
    after = ffe.bakeoff(tmp_path / "p", tmp_path / "o", **options)
    assert sum(after.rows.values()) > sum(before.rows.values())
    assert after.rows["left_out"] == 0
    assert [one.searched_before for one in after.backbones] == [False, False]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"backbones": "fake"}, SpecError, "A bake-off needs two backbones at least; name them with --backbones A,B "),
        ({"backbones": ["fake", "mobilenet", "fake"]}, SpecError, "The backbone 'fake' is named twice; name each once."),
        ({"backbones": "fake,mobilnet"}, BackboneError, "mobilnet"),
        ({"seconds": 0.0}, SpecError, "a budget of 0 seconds cannot be kept; give one above 0 with --seconds."),
        ({"trials": 0}, SpecError, "trials are 0, but must be 1 or more."),
        ({"weights": "w.h5"}, SpecError, "The weights 'w.h5' cannot be those of several backbones; leave --weights out,"),
    ],
)
def test_bad_options(pictures: Path, tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str) -> None:
    began = time.monotonic()
    with pytest.raises(error) as raised:
        ffe.bakeoff(pictures, tmp_path / "o", **{"backbones": NAMES, **options})
    assert message in str(raised.value)
    assert not (tmp_path / "o").exists()
    assert time.monotonic() - began < 60


def test_nearest_names_are_said(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="Did you mean 'mobilenet'"):
        ffe.bakeoff(pictures, tmp_path / "o", backbones="fake,mobilenett")


def test_small_sources_say_what_tune_says(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    shutil.copytree(pictures / "cat", tmp_path / "one" / "cat")
    with pytest.raises(DataError, match=r"are of one class \('cat'\); give at least two classes."):
        ffe.bakeoff(tmp_path / "one", tmp_path / "o", backbones=NAMES)
    (tmp_path / "one" / "dog").mkdir()
    shutil.copy(pictures / "dog" / "dog_000.png", tmp_path / "one" / "dog")
    with pytest.raises(DataError, match="The class 'dog' has only 1 image; give every class at least 3 different ones"):
        ffe.bakeoff(tmp_path / "one", tmp_path / "o", backbones=NAMES)
    with pytest.raises(SourceError):
        ffe.bakeoff(tmp_path / "nothing", tmp_path / "o", backbones=NAMES)
    with pytest.raises(StoreError, match="lies among the images of"):
        ffe.bakeoff(pictures, pictures / "cat", backbones=NAMES)


def test_the_folder_has_the_name_of_the_source(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = ffe.bakeoff(pictures, backbones="vgg16,vgg19")
    assert result.folder == Path(f"{pictures.name}-bakeoff")
    assert result.folder.is_dir()
