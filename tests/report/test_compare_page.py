"""The page of a comparison, and its text."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffe.comparing.compare_result import CompareResult, agreement_of, ranked
from ffe.comparing.roads import ROADS, Road
from ffe.dataset.assign_sides import ImageSplit
from ffe.dataset.table import ImageTable
from ffe.evaluation.scores import evaluate_probabilities
from ffe.report.compare_page import compare_page
from ffe.splits.groups import find_groups
from ffe.wording.compare_text import compare_text

HOSTILE = '<script>alert("x")</script>\u202e\x1b'


def road(name: str, accuracy: float, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "what": f"what {name} is",
        "reason": "",
        "evaluation": {"n": 280, "accuracy": accuracy, "intervals": {"accuracy": (accuracy - 0.02, accuracy + 0.01)}},
        "valid_accuracy": 0.9,
        "seconds": 75.0,
        "own_seconds": 15.0,
        "best_at": 35.0,
        "starts_from": "",
        "reused": False,
        "epochs": None,
        "kept": None,
        "trials": 12,
        "size": 4 << 20,
        "curve": [[30.0, 0.8], [60.0, 0.9]],
        "comparison": None,
        **more,
    }


BEHIND = {
    **{"n": 280, "accuracy_a": 0.97, "accuracy_b": 0.95, "difference": 0.02, "interval": (-0.01, 0.04), "only_a": 8},
    **{"only_b": 2, "p_value": 0.11, "real": False},
}


@pytest.fixture
def record() -> dict[str, Any]:
    far = {**BEHIND, "accuracy_b": 0.7, "difference": 0.27, "interval": (0.2, 0.33), "p_value": 1e-9, "real": True}
    return {
        "roads": [
            road("frozen", 0.95, comparison=BEHIND, reused=True, seconds=40.0),
            road("finetuning", 0.97, epochs=5, kept=0, trials=None, starts_from="frozen"),
            road("scratch", 0.7, epochs=9, kept=7, trials=None, comparison=far),
            {**road("views", 0.5), "reason": "no time left", "curve": []},
        ],
        "best": "finetuning",
        "second": "frozen",
        "quickest": "frozen",
        "comparison": BEHIND,
        "agreement": [
            {"name": "", "both": 264, "only_first": 8, "only_second": 2, "neither": 6},
            {"name": HOSTILE, "both": 264, "only_first": 8, "only_second": 2, "neither": 6},
        ],
        "rows": {"train": 900, "valid": 220, "test": 280, "left_out": 2},
    }


class Reader(HTMLParser):
    """Collects tags, and what is not closed as it was opened."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_text(record: dict[str, Any]) -> None:
    text = compare_text({**record, "agreement": record["agreement"][:1]})
    assert text.splitlines() == [
        "road          test accuracy  95 %            behind the best  validation",
        "------------  -------------  --------------  ---------------  ----------",
        "frozen               95.0 %  93.0 to 96.0 %    2.0 (chance?)      90.0 %",
        "finetuning *         97.0 %  95.0 to 98.0 %                       90.0 %",
        "scratch              70.0 %  68.0 to 71.0 %      27.0 (real)      90.0 %",
        "",
        "road                time  best at  learnt           model",
        "------------  ----------  -------  -------------  -------",
        "frozen            40 s +   35 s +  12 trials      4.0 MiB",
        "finetuning *  1 min 15 s     35 s  0 of 5 epochs  4.0 MiB",
        "scratch       1 min 15 s     35 s  7 of 9 epochs  4.0 MiB",
        "",
        "views: no time left",
        "",
        "All learn from the same 900 images, choose by 220, and are tested on 280; 2 belong to others and are left out.",
        "",
        "The best two: no real difference between finetuning and frozen: 97.0 % and 95.0 % of the same 280 images right, "
        "2.0 points apart (95 %: -1.0 to 4.0; p = 0.11).",
        "",
        "As good as finetuning, as far as these images tell, and quicker: frozen, in 40 s.",
        "",
        "Times include all that a road needs: the features, and the model that it starts from; "
        "'best at' is when the version that is kept was reached. "
        "0 of so many epochs: none was better than what the road began with, so its model is that. "
        "+: without features or activations that an earlier run had computed.",
        "",
        "“Real” means that the interval of the difference leaves out 0 and McNemar's test is below 0.05; “chance?” that the "
        "difference may be luck. The best of several roads is a little lucky too: it was found on these very images.",
        "",
        "test images  both right  only finetuning  only frozen  both wrong",
        "-----------  ----------  ---------------  -----------  ----------",
        "all                 264                8            2           6",
    ]


def test_roads_that_are_right_as_often(record: dict[str, Any]) -> None:
    same = {**BEHIND, "accuracy_b": 0.97, "difference": 0.0, "interval": (-0.0, 0.0), "p_value": 1.0}
    roads = [{**road, "comparison": same} if road["name"] != "finetuning" else road for road in record["roads"]]
    text = compare_text({**record, "roads": roads[:2], "comparison": same})
    assert "0.0 points apart (95 %: 0.0 to 0.0; p = 1). Frozen is right as often as finetuning, which comes first" in text
    assert "Real" not in text
    text = compare_text({**record, "roads": roads[:3], "comparison": same})
    assert "Frozen and scratch are right as often as finetuning, which comes first because its log loss is lower." in text


TESTED = 280


def trained(name: str, wrong: int, **more: Any) -> Road:
    """A road that has the first images of the test wrong, all of class 0."""
    probabilities = np.tile([0.9, 0.1], (TESTED, 1))
    probabilities[:wrong] = [0.2, 0.8]
    evaluation = evaluate_probabilities(probabilities, np.zeros(TESTED, np.int64), ["cat", HOSTILE])
    known: dict[str, Any] = {"valid_accuracy": 0.9, "seconds": 75.0, "best_at": 35.0, "size": 4 << 20, **more}
    return Road(name, evaluation=evaluation, curve=((30.0, 0.8), (60.0, 0.9)), probabilities=probabilities, **known)


def page_of(folder: Path, *roads: Road) -> str:
    """The page of roads that were tested on images that are gone."""
    labels = np.zeros(TESTED, np.int64)
    sha256, names = tuple(f"{i:064x}" for i in range(TESTED)), tuple(f"{HOSTILE}{i}.jpg" for i in range(TESTED))
    empty, phash = ("",) * TESTED, np.arange(TESTED, dtype=np.uint64) << np.uint64(32)
    images = ImageTable(names, sha256, empty, empty, tuple(folder / f"{i}.jpg" for i in range(TESTED)), labels, phash)
    assigned = ImageSplit(images, find_groups(sha256, phash), np.full(TESTED, "test", "U5"))
    compared, order, quickest = ranked(roads, labels, None)
    best, second = [*order, "", ""][:2]
    by_name = {road.name: road for road in compared}
    result = CompareResult(
        folder=folder,
        roads=compared,
        best=best,
        second=second,
        quickest=quickest,
        agreement=agreement_of(by_name[best], by_name[second], labels, ("cat", HOSTILE)) if second else (),
        classes=("cat", HOSTILE),
        rows={"train": 900, "valid": 220, "test": TESTED, "left_out": 0},
        backbone=HOSTILE,
        size=(224, 224),
        scratch_size=(150, 150),
        budget=None,
        seed=0,
        interrupted=False,
        seconds=100.0,
    )
    return compare_page(result, assigned, HOSTILE)


def test_one_road_alone(tmp_path: Path) -> None:
    text = page_of(tmp_path, trained("finetuning", 8, epochs=5, kept=0))
    assert "Only finetuning has a result." in text
    assert "McNemar" not in text


def test_page(tmp_path: Path) -> None:
    frozen = trained("frozen", 38, trials=12, reused=True)
    finetuning, scratch = trained("finetuning", 8, epochs=5, kept=0), trained("scratch", 84, epochs=9, kept=7)
    text, reader = page_of(tmp_path, frozen, finetuning, scratch, Road("views", "no time left")), Reader()
    reader.feed(text)
    assert not any(tag == "script" for tag, _ in reader.tags)
    assert not set("\u202e\x1b") & set(text)
    ids = {attributes.get("id") for _, attributes in reader.tags}
    links = [str(attributes["href"]) for tag, attributes in reader.tags if tag == "a"]
    assert {link.removeprefix("#") for link in links} <= ids
    assert sum(tag == "img" for tag, _ in reader.tags) == 24
    for words in (
        "97.1",
        ROADS["scratch"],
        "Best at",
        "7 of 9 epochs",
        "no time left",
        "30 photos, 24 shown</small>",
        "There is no such photo.",
        "27.1 (real)",
    ):
        assert words in text
    drawn = text.split('id="time"')[1].split("</section>")[0]
    assert "time, without what an earlier run had computed" in drawn
    assert [name in drawn for name in ("frozen", "finetuning", "scratch", "views")] == [True, True, True, False]


def test_page_without_a_result(record: dict[str, Any], tmp_path: Path) -> None:
    text = page_of(tmp_path, Road("views", "no time left"))
    for words in ("No road has a result.", "No road came far enough to be drawn.", "There are not two roads to compare."):
        assert words in text
    nothing = {
        **record,
        **{"roads": record["roads"][3:], "best": "", "second": "", "quickest": "", "comparison": None, "agreement": []},
    }
    assert compare_text(nothing).startswith("views: no time left\n\nAll learn from")
