"""``ffe.compare``: several roads on one split, end to end on drawn pictures, and what is made of them."""

from __future__ import annotations

import csv
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ffe
from ffe.backbones.convnet import DROPOUT
from ffe.base.clock import Clock
from ffe.base.digests import bytes_digest
from ffe.bundle.io import Bundle
from ffe.commands.compare_runner import RoadRunner
from ffe.comparing.compare_result import CompareResult, agreement_of, ranked
from ffe.comparing.roads import ROADS, Road
from ffe.errors import BackboneError, DataError, ReportError, SourceError, SpecError, StoreError
from ffe.evaluation.scores import evaluate_probabilities
from ffe.predictor import Predictor
from ffe.store.reader import FeatureStore

pytestmark = pytest.mark.usefixtures("quick_measures", "quick_searches")

BACKBONE, SIZE = "mobilenet_0.25", 32
SMALL: dict[str, Any] = {"backbone": BACKBONE, "size": SIZE, "weights": "random", "trials": 1, "epochs": 1, "views": 1}
THREE = ["frozen", "views", "finetuning"]
FAKE: dict[str, Any] = {"backbone": "fake", "trials": 1, "epochs": 1, "views": 1}


def sides_of(path: Path) -> dict[str, str]:
    """Digest -> side, of the CSV of a split."""
    with path.open(newline="") as file:
        return {bytes_digest((path.parent / row["path"]).read_bytes()): row["split"] for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def compared(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[CompareResult, str]:
    """Three of the roads, and their page."""
    folder = tmp_path_factory.mktemp("compared")
    result = ffe.compare(pictures, folder / "roads", roads=THREE, unfreeze=("6",), report=folder / "page.html", **SMALL)
    return result, (folder / "page.html").read_text()


@pytest.mark.slow
def test_all_roads(pictures: Path, tmp_path: Path) -> None:
    result = ffe.compare(pictures, tmp_path / "o", **SMALL)
    assert [road.name for road in result.roads] == list(ROADS)
    check_split(result)
    _, _, finetuning, head_only, scratch, plain = result.roads
    assert [road.epochs for road in (finetuning, head_only, scratch, plain)] == [2, 1, 1, 1]
    assert finetuning.starts_from == head_only.starts_from
    records = {road.name: Bundle(tmp_path / "o" / f"{road.name}.ffe").manifest.training for road in result.roads[2:]}
    options = {name: record["options"] for name, record in records.items() if record}  # without: a copy, where nothing helped
    assert options.keys() >= {"scratch", "scratch-plain"}
    wanted = {  # layers that train (of 86), whether images stay as they are, dropout
        "finetuning": (["19", "37"], True, None),
        "head-only": (["0"], False, None),
        "scratch": (["all"], False, DROPOUT),
        "scratch-plain": (["all"], True, 0.0),
    }
    for name, record in options.items():
        unfreeze, plain_images, dropout = wanted[name]
        assert (record["unfreeze"], record.get("augment") is None) == (unfreeze, plain_images), name
        assert dropout is None or record["dropout"] == dropout


def test_all_roads_have_the_same_split(compared: tuple[CompareResult, str]) -> None:
    assert [road.name for road in compared[0].roads] == THREE
    check_split(compared[0])


def accuracy_of(road: Road) -> float:
    assert road.evaluation is not None
    return road.evaluation.accuracy


def check_split(result: CompareResult) -> None:
    assert {road.reason for road in result.roads} == {""}
    sides = sides_of(result.folder / "split.csv")
    assert result.rows == {side: list(sides.values()).count(side) for side in ("train", "valid", "test")} | {"left_out": 0}
    for road in result.roads:
        assert road.model is not None
        assert {row.sha256: row.split for row in Bundle(road.model).splits()} == sides
        assert road.evaluation is not None
        assert road.evaluation.n == result.rows["test"]


@pytest.mark.parametrize("name", ["views", "finetuning"])
def test_accuracy_is_what_predicting_the_test_images_gives(compared: tuple[CompareResult, str], name: str) -> None:
    result, _ = compared
    with (result.folder / "split.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    predictor = Predictor(result.folder / f"{name}.ffe")
    answers = predictor.predict(result.folder / row["path"] for row in rows)
    right = [answer.label == row["label"] for answer, row in zip(answers, rows, strict=True)]
    assert accuracy_of(result.road(name)) == pytest.approx(np.mean(right))


def test_what_each_road_took(compared: tuple[CompareResult, str]) -> None:
    result, _ = compared
    frozen, views, finetuning = result.roads
    assert (frozen.trials, views.trials, frozen.epochs) == (4, 4, None)
    assert finetuning.epochs == 1
    assert finetuning.kept == (finetuning.best_at > finetuning.curve[0][0])
    assert frozen.kept is None
    extracting = frozen.seconds - frozen.own_seconds
    assert extracting > 0
    assert views.seconds == pytest.approx(extracting + views.own_seconds)
    assert finetuning.starts_from in {"frozen", "start"}
    assert finetuning.seconds >= frozen.seconds + finetuning.own_seconds - 1e-6
    assert finetuning.curve[0][0] > frozen.seconds
    assert not any(road.reused for road in result.roads)
    for road in result.roads:
        times = [seconds for seconds, _ in road.curve]
        assert times == sorted(times)
        assert 0 < times[0] <= road.best_at <= times[-1] <= road.seconds
        assert road.valid_accuracy is not None
        assert dict(road.curve)[road.best_at] >= road.valid_accuracy  # a search may keep what is worse by chance alone
        assert road.model is not None
        assert road.size == road.model.stat().st_size
    assert [len(road.curve) for road in result.roads] == [4, 4, 2]  # epoch 0 is the state before
    shares = [share for _, share in views.curve]
    assert shares == sorted(shares)
    assert views.valid_accuracy is not None
    assert shares[-1] >= views.valid_accuracy


def test_views_are_made_of_training_images_alone(compared: tuple[CompareResult, str]) -> None:
    result, _ = compared
    with FeatureStore(result.folder / "views.h5") as views, FeatureStore(result.folder / "features.h5") as features:
        assert len(features) == sum(result.rows.values())
        assert len(views) == len(features) + result.rows["train"]
        assert {views.split[i] for i in np.flatnonzero(views.views > 0)} == {"train"}


def test_best_and_second(compared: tuple[CompareResult, str]) -> None:
    result, _ = compared
    best, second = result.road(result.best), result.road(result.second)
    accuracies = sorted(map(accuracy_of, result.roads), reverse=True)
    assert [accuracy_of(best), accuracy_of(second)] == accuracies[:2]
    assert best.comparison is None
    assert second.comparison is not None
    every, *classes = result.agreement
    assert [found.name for found in classes] == ["cat", "dog"]
    assert (every.only_first, every.only_second) == (second.comparison.only_a, second.comparison.only_b)
    assert (every.both + every.only_first) / result.rows["test"] == pytest.approx(accuracy_of(best))
    for name in ("both", "only_first", "only_second", "neither"):
        assert getattr(every, name) == sum(getattr(found, name) for found in classes)
    assert every.both + every.only_first + every.only_second + every.neither == result.rows["test"]


def test_json_and_page(compared: tuple[CompareResult, str]) -> None:
    result, page = compared
    record = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert [road["what"] for road in record["roads"]] == [ROADS[name] for name in THREE]
    assert record["comparison"] == record["roads"][THREE.index(result.second)]["comparison"]
    assert "Validation accuracy over time" in page
    for name in THREE:
        assert ROADS[name] in page
        assert f"</svg>{name}</li>" in page  # the legend of the chart
    assert page.count("data:image/") == result.agreement[0].only_first + result.agreement[0].only_second


def test_a_second_comparison_uses_what_is_there(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("the backbone is not needed")

    result = ffe.compare(pictures, tmp_path / "o", roads=["frozen", "views"], **FAKE)
    assert not any(road.reused for road in result.roads)
    with monkeypatch.context() as patch:
        patch.setattr("ffe.extraction.runners.local.open_engine", never)
        again = ffe.compare(pictures, tmp_path / "o", roads=["views", "frozen", "views"], **FAKE)
    assert [road.name for road in again.roads] == ["frozen", "views"]
    for road in again.roads:
        assert road.reused
        np.testing.assert_array_equal(road.probabilities, result.road(road.name).probabilities)
    other = ffe.compare(pictures, tmp_path / "o", roads=["views"], **{**FAKE, "views": 2})  # what is there is of no use
    assert other.roads[0].reason == ""
    assert FeatureStore(tmp_path / "o" / "views.h5").made_views.count == 2  # type: ignore[union-attr]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_copy_of_the_features_that_breaks_off_leaves_nothing(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def half(source: Path, place: Path) -> None:
        place.write_bytes(source.read_bytes()[:1000])
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfile", half)
        result = ffe.compare(pictures, tmp_path / "o", roads=["frozen", "views"], **FAKE)
    assert result.best == "frozen"
    assert not list((tmp_path / "o").glob("views*"))
    again = ffe.compare(pictures, tmp_path / "o", roads=["views"], **FAKE)
    assert again.roads[0].reason == ""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            OSError(28, "No space left on device", "o/views.h5"),
            "the system refused: No space left on device ('o/views.h5'); mend that, and run the same command again",
        ),
        (OSError("Can't write data"), "the system refused: Can't write data; mend that, and run the same command again"),
        (
            MemoryError("Unable to allocate 9 GiB"),
            "There is not enough memory (Unable to allocate 9 GiB); give a smaller --size, or fewer --views, "
            "or close other programs.",
        ),
        (
            RuntimeError("OOM when allocating tensor with shape[9,9]"),
            "There is not enough memory; give a smaller --size, or fewer --views, or close other programs.",
        ),
    ],
)
def test_a_road_that_the_machine_cannot_go_is_a_row(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    run = RoadRunner.run

    def refuse(self: RoadRunner, name: str, seconds: float | None) -> Road:
        if name == "views":
            raise error
        return run(self, name, seconds)

    monkeypatch.setattr(RoadRunner, "run", refuse)
    result = ffe.compare(pictures, tmp_path / "o", roads=["frozen", "views"], **FAKE)
    assert [road.reason for road in result.roads] == ["", reason]
    assert result.best == "frozen"


def test_without_a_backbone_nothing_is_extracted(pictures: Path, tmp_path: Path) -> None:
    result = ffe.compare(pictures, tmp_path / "o", roads="scratch-plain", epochs=1, size=48, weights="/nowhere")
    assert (result.best, result.second, result.agreement) == ("scratch-plain", "", ())
    assert result.to_json()["comparison"] is None
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["scratch-plain.ffe", "split.csv"]
    check_split(result)
    assert result.roads[0].seconds == result.roads[0].own_seconds


def test_a_road_that_cannot_be_gone_says_why(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "o").mkdir()
    result = ffe.compare(pictures, tmp_path / "o", roads=["frozen", "finetuning"], **FAKE)
    assert result.roads[0].reason == ""
    assert result.roads[1].reason.startswith("The backbone of '")
    assert result.roads[1].reason.endswith("' is the fake one for tests, which has no layers; choose another model.")
    assert (result.best, result.second, result.quickest) == ("frozen", "", "frozen")
    assert not (tmp_path / "o" / "finetuning.ffe").exists()


def test_an_interruption_keeps_what_is_done(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ffe.commands.compare_runner.finetune", stop)
    result = ffe.compare(pictures, tmp_path / "o", roads=["frozen", "head-only", "scratch"], **FAKE)
    assert result.interrupted
    assert [road.reason for road in result.roads] == ["", "interrupted", "interrupted before its turn"]
    assert result.best == "frozen"
    with pytest.raises(KeyboardInterrupt):
        ffe.compare(pictures, tmp_path / "o", roads=["head-only", "scratch"], **FAKE)


def test_no_time_left(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, shares = RoadRunner.run, []

    def slowly(self: RoadRunner, name: str, seconds: float | None) -> Road:
        shares.append(seconds)
        road = run(self, name, seconds)
        self.options = replace(self.options, clock=Clock(time.monotonic() - 100, 60))
        return road

    monkeypatch.setattr(RoadRunner, "run", slowly)
    result = ffe.compare(pictures, tmp_path / "o", roads=["frozen", "views", "scratch"], seconds=60, **FAKE)
    assert result.roads[0].reason == ""
    assert {road.reason for road in result.roads[1:]} == {
        "no time left: the 60 seconds were over before its turn; give more with --budget"
    }
    assert len(shares) == 1
    assert 5 < shares[0] <= 20


def test_time_that_ends_while_images_are_read(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Clock, "is_over", True)
    with pytest.raises(DataError) as raised:
        ffe.compare(pictures, tmp_path / "o", seconds=5, **FAKE)
    assert str(raised.value) == (
        "The 5 seconds were over before all images were read; features that were computed are kept, so run the same command "
        "again, or give more with --budget."
    )


def test_given_splits_are_kept(pictures: Path, tmp_path: Path) -> None:
    given = {}
    with (tmp_path / "list.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "split"))
        for number, path in enumerate(sorted(pictures.glob("*/*.png"))):
            split = ("train", "train", "valid", "test")[number % 4]
            writer.writerow((path, path.parent.name, split))
            given[bytes_digest(path.read_bytes())] = split
    ffe.compare(tmp_path / "list.csv", tmp_path / "o", roads=["frozen"], **FAKE)
    assert sides_of(tmp_path / "o" / "split.csv") == given


def test_a_file_that_stands_on_several_sides_counts_once(
    pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every road has the same rows: the copies are left out of the validation and the test, and of the CSV."""
    source = tmp_path / "p"
    for kind in ("cat", "dog"):
        for i, file in enumerate(sorted((pictures / kind).iterdir())):
            (source / ("train", "train", "valid", "test")[i % 4] / kind).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, source / ("train", "train", "valid", "test")[i % 4] / kind / file.name)
    trained, validated, tested = (sorted((source / side / "cat").iterdir())[0] for side in ("train", "valid", "test"))
    shutil.copy(trained, source / "test" / "cat" / "z.png")
    shutil.copy(trained, source / "valid" / "dog" / "z.png")
    shutil.copy(validated, source / "test" / "cat" / "y.png")
    shutil.copy(tested, source / "test" / "cat" / "x.png")  # both test
    with caplog.at_level("WARNING", "ffe"):
        result = ffe.compare(source, tmp_path / "o", roads=["frozen", "scratch-plain"], **SMALL)
    (said,) = [message for message in caplog.messages if message.startswith("3 images are left out: the same file trains, or")]
    assert all(f"/{name}.png'" in said for name in ("test/cat/y", "test/cat/z", "valid/dog/z"))
    assert not [message for message in caplog.messages if "dropped" in message]  # they are neither gone nor unreadable
    assert result.rows == {"train": 20, "valid": 10, "test": 11, "left_out": 3}
    assert [road.reason for road in result.roads] == [""] * 2
    with (tmp_path / "o" / "split.csv").open(newline="") as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    assert len(paths) == 41
    assert not [path for path in paths if path.endswith(("y.png", "z.png"))]
    for each in result.roads:
        assert each.model is not None
        sides = sorted(row.split for row in Bundle(each.model).splits())
        assert sides == ["test"] * 11 + ["train"] * 20 + ["valid"] * 10
        assert len(each.probabilities) == 11


def make(folder: Path, pictures: Path, **counts: int) -> Path:
    """A folder with so many pictures of each class."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for file in sorted((pictures / name).iterdir())[:count]:
            shutil.copy(file, folder / name)
    return folder


@pytest.mark.parametrize(
    ("counts", "options", "kind", "message"),
    [
        ({"cat": 3, "dog": 3}, {"roads": ["frozen", "svm"]}, SpecError, "There is no road 'svm'; choose among frozen, views, f"),
        (
            {"cat": 3, "dog": 3},
            {"seconds": 0},
            SpecError,
            "a budget of 0 seconds cannot be kept; give one above 0 with --budget",
        ),
        ({"cat": 3, "dog": 3}, {"seconds": float("nan")}, SpecError, "a budget of nan seconds cannot be kept; give one above 0"),
        ({"cat": 3, "dog": 3}, {"epochs": 0}, SpecError, "epochs are 0, but must be from 1 to 10000."),
        ({"cat": 3, "dog": 3}, {"views": 0}, SpecError, "The number of views of an image is 0, but must be 1 to 1000."),
        ({"cat": 3, "dog": 3}, {"backbone": "no"}, BackboneError, "There is no backbone 'no'"),
        ({"cat": 3, "dog": 3}, {"report": "."}, ReportError, "The report '.' is a folder"),
        ({"cat": 3}, {}, DataError, "' are of one class ('cat'); give at least two classes."),
        (
            {"cat": 3, "dog": 2},
            {},
            DataError,
            "The class 'dog' has only 2 images; give every class at least 3 different ones: to train, to validate and to test.",
        ),
    ],
)
def test_bad_input(
    pictures: Path, tmp_path: Path, counts: dict[str, int], options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind) as raised:
        ffe.compare(make(tmp_path / "p", pictures, **counts), tmp_path / "o", **{**FAKE, **options})
    assert message in str(raised.value)
    assert not (tmp_path / "o").exists() or not any((tmp_path / "o").glob("*.ffe"))


def test_images_without_labels(pictures: Path, tmp_path: Path) -> None:
    source = tmp_path / "p"
    shutil.copytree(pictures / "cat", source)
    with pytest.raises(SourceError, match=r"have no labels; give one folder per class, or a CSV with labels\.$"):
        ffe.compare(source, tmp_path / "o", **FAKE)


@pytest.mark.parametrize("name", [" cat", "cat ", "cat\t"])
def test_names_that_a_csv_does_not_keep(pictures: Path, tmp_path: Path, name: str) -> None:
    source = make(tmp_path / "p", pictures, cat=3, dog=3)
    (source / "cat").rename(source / name)
    with pytest.raises(SourceError) as raised:
        ffe.compare(source, tmp_path / "o", **FAKE)
    assert str(raised.value) == (
        f"The name '{name}' in '{source}' begins or ends with a space, which a CSV would not keep; rename the file or folder."
    )


@pytest.mark.parametrize(
    ("unfreeze", "kind", "message"),
    [
        (["87"], BackboneError, "has 86 layers, so 87 of them cannot be unfrozen"),
        (["conv_pw_99"], BackboneError, "has no layer or block 'conv_pw_99'"),
        (["19", "6"], SpecError, "Stage 2 unfreezes 6 layers, fewer than the 19 of the stage before it"),
        (["6", ""], SpecError, "--unfreeze names no layers"),
    ],
)
def test_stages_that_the_backbone_has_not_are_refused_before_a_road_is_gone(
    pictures: Path, tmp_path: Path, unfreeze: list[str], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        ffe.compare(pictures, tmp_path / "o", roads=["frozen", "finetuning"], unfreeze=unfreeze, **SMALL)
    assert not any((tmp_path / "o").iterdir())


@pytest.mark.slow
def test_activations_of_other_stages_are_of_no_use(pictures: Path, tmp_path: Path) -> None:
    """A road is marked as one that found something only if it did."""
    reused = []
    for unfreeze in ("6", "19", "19"):
        shutil.rmtree(tmp_path / "roads", ignore_errors=True)
        (tmp_path / "roads").mkdir()
        if reused:
            shutil.copytree(tmp_path / "activations", tmp_path / "roads" / "activations")
        result = ffe.compare(pictures, tmp_path / "roads", roads=["finetuning"], unfreeze=[unfreeze], **SMALL)
        shutil.copytree(tmp_path / "roads" / "activations", tmp_path / "activations", dirs_exist_ok=True)
        reused.append(result.roads[0].reused)
    assert reused == [False, False, True]


def test_places_that_cannot_be_the_output(pictures: Path, tmp_path: Path) -> None:
    source = make(tmp_path / "p", pictures, cat=3, dog=3)
    (tmp_path / "file").write_text("")
    for place, message in (
        (tmp_path / "file", "is a file; name a folder for the models with -o."),
        (tmp_path / "a" / "b", "lies in a folder that does not exist"),
        (source / "o", "lies among the images of"),
        (source, "lies among the images of"),
    ):
        with pytest.raises(StoreError, match=message):
            ffe.compare(source, place, **FAKE)


def road(name: str, right: list[bool], seconds: float, sure: float = 0.9) -> Road:
    """A road with a result: which of the test images, all of class 0, it has right."""
    probabilities = np.asarray([[sure, 1 - sure] if r else [0.2, 0.8] for r in right])
    evaluation = evaluate_probabilities(probabilities, np.zeros(len(right), np.int64), ["a", "b"])
    return Road(name, evaluation=evaluation, seconds=seconds, probabilities=probabilities)


def test_ranking() -> None:
    """The highest accuracy first, then the lowest log loss; and the quickest of those as good as the best."""
    labels = np.zeros(400, np.int64)
    roads = [
        road("frozen", [True] * 396 + [False] * 4, 30),
        road("views", [True] * 397 + [False] * 3, 90),
        road("finetuning", [True] * 397 + [False] * 3, 60, sure=0.95),
        road("scratch", [True] * 200 + [False] * 200, 10),
        Road("head-only", "no time left"),
    ]
    compared, order, quickest = ranked(roads, labels, None)
    assert order == ["finetuning", "views", "frozen", "scratch"]
    assert quickest == "frozen"
    by_name = {each.name: each for each in compared}
    assert by_name["finetuning"].comparison is None
    assert by_name["head-only"].comparison is None
    scratch, frozen = by_name["scratch"].comparison, by_name["frozen"].comparison
    assert scratch is not None
    assert frozen is not None
    assert (scratch.real, frozen.real) == (True, False)
    few = [replace(each, probabilities=each.probabilities[-8:]) for each in (roads[0], roads[2])]
    _, _, quickest = ranked(few, labels[-8:], None)
    assert quickest == "finetuning"  # eight images cannot tell
    assert ranked([roads[4]], labels, None) == ((roads[4],), [], "")


def test_agreement() -> None:
    first, second = road("frozen", [True, True, False, False], 1), road("views", [True, False, True, False], 1)
    every, a, b = agreement_of(first, second, np.zeros(4, np.int64), ["a", "b"])
    assert (every.both, every.only_first, every.only_second, every.neither) == (1, 1, 1, 1)
    assert replace(every, name="a") == a
    assert (b.both, b.only_first, b.only_second, b.neither) == (0, 0, 0, 0)
