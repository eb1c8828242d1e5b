"""The page of a bake-off of backbones, and its text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffe.comparing.bakeoff_result import BakeoffResult, Contestant, judged
from ffe.evaluation.scores import evaluate_probabilities
from ffe.report.bakeoff_page import bakeoff_page
from ffe.wording.bakeoff_text import advice, bakeoff_text, notes, verdict

HOSTILE = '<script>alert("x")</script>\u202e\x1b'
LABELS = np.arange(200) % 2


def contestant(name: str, wrong: int, rate: float | None, *, first: int = 0, **more: Any) -> Contestant:
    """A backbone that has so many of the 200 test images wrong, from the number ``first`` on."""
    said = LABELS.copy()
    said[first : first + wrong] ^= 1
    answers = np.where(said[:, None] == np.arange(2), 0.9, 0.1)
    evaluation = evaluate_probabilities(answers, LABELS, ("cat", "dog"))
    known: dict[str, Any] = {"features": 1024, "bytes_per_photo": 4096, "size": (224, 224), "model_bytes": 9 << 20}
    known |= {"head": "svm", "trials": 64}
    times = {"extract_seconds": 40.0, "search_seconds": 20.0}
    return Contestant(name, evaluation=evaluation, images_per_second=rate, probabilities=answers, **known | times | more)


def result_of(*found: Contestant, **more: Any) -> BakeoffResult:
    ranked, order, take = judged(found, LABELS, None)
    best, second = [*order, "", ""][:2]
    given: dict[str, Any] = {"classes": ("cat", "dog"), "rows": {"train": 800, "valid": 0, "test": 200, "left_out": 0}}
    given |= {"folder": Path("o"), "budget": 300.0, "seed": 0, "interrupted": False, "seconds": 250.0}
    return BakeoffResult(backbones=ranked, best=best, second=second, take=take, **given | more)


def test_the_faster_of_two_that_cannot_be_told_apart_is_taken() -> None:
    result = result_of(contestant("slow", 4, 10.0), contestant("fast", 5, 32.0))
    assert (result.best, result.take) == ("slow", "fast")
    said = "Take fast, the faster one: these photos cannot tell it from slow, and it is 3.2 times as fast."
    assert advice(result.to_json()) == said
    assert bakeoff_text(result.to_json()).endswith(f"\n\n{said}")
    assert said in bakeoff_page(result, "photos")


def test_one_that_is_really_better_is_taken() -> None:
    result = result_of(contestant("slow", 4, 10.0), contestant("fast", 60, 32.0))
    assert advice(result.to_json()) == "Take slow: it is really better than fast."
    assert verdict(result.to_json()).startswith(
        "The best two: slow is better than fast: 98.0 % and 70.0 % of the same 200 images"
    )


def test_too_few_photos_to_tell_are_called_so() -> None:
    result = result_of(contestant("slow", 6, 10.0), contestant("fast", 15, 32.0, first=6), contestant("bad", 100, 99.0))
    said = "Take slow: it is right most often, but 200 test photos are too few to say that fast is worse."
    assert advice(result.to_json()) == said


def test_the_faster_of_two_that_are_right_equally_often_is_taken_however_few_the_photos() -> None:
    result = result_of(contestant("slow", 15, 10.0), contestant("fast", 15, 32.0, first=15))
    assert not result.backbone("fast").as_good, "else it shows nothing"
    assert [one.name for one in result.frontier] == ["fast"]
    assert result.take == "fast"
    assert advice(result.to_json()) == (
        "Take fast, the faster one: these photos cannot tell it from slow, and it is 3.2 times as fast."
    )


def test_the_best_that_is_the_fastest_too() -> None:
    result = result_of(contestant("a", 4, 50.0), contestant("b", 5, 32.0))
    assert advice(result.to_json()) == "Take a: no other is right more often, and none is faster."
    assert [one.name for one in result.frontier] == ["a"]
    assert result.backbone("b").dominated_by == "a"
    assert "faster: a alone." in bakeoff_text(result.to_json())


def test_the_fastest_of_those_that_are_alike_but_not_of_all() -> None:
    result = result_of(contestant("a", 4, 50.0), contestant("b", 5, 32.0), contestant("c", 90, 99.0))
    assert advice(result.to_json()) == "Take a, the fastest of those that these photos cannot tell apart: a and b."


def test_one_or_none_has_a_result() -> None:
    failed = Contestant("b", "the weights are missing")
    one = result_of(contestant("a", 4, 50.0), failed)
    assert advice(one.to_json()) == "Take a: no other has a result to compare it with."
    text = bakeoff_text(one.to_json())
    assert "b: the weights are missing" in text
    assert "Only a has a result." in text
    assert "the weights are missing" in bakeoff_page(one, "photos")
    none = result_of(failed, rows={})
    assert bakeoff_text(none.to_json()) == "b: the weights are missing\n\nNo backbone has a result."
    assert "No backbone has a result." in bakeoff_page(none, "photos")


def test_equal_ones_do_not_dominate_each_other() -> None:
    result = result_of(contestant("a", 4, 50.0), contestant("b", 4, 50.0), contestant("c", 4, 49.0))
    assert [one.name for one in result.frontier] == ["a", "b"]
    assert result.backbone("c").dominated_by == "a"


def test_a_rate_that_is_not_known() -> None:
    result = result_of(contestant("a", 4, None), contestant("b", 30, 50.0))
    assert [one.name for one in result.frontier] == ["b"]
    assert result.backbone("a").dominated_by == ""
    assert "unknown" in bakeoff_text(result.to_json())
    assert "<circle" in bakeoff_page(result, "photos")


def test_the_table() -> None:
    found = contestant("a", 4, 8.25, reused=True), contestant("b", 30, 1250.0)
    lines = bakeoff_text(result_of(*found).to_json()).splitlines()
    assert lines[0].split() == ["backbone", "accuracy", "95", "%", "photos/s", "a", "photo", "model", "time"]
    assert re.fullmatch(r"a +98\.0 % +\S+ to \S+ +8\.2 +4\.0 KiB +9\.0 MiB +60 s \+ +take", lines[2])
    assert re.fullmatch(r"b +85\.0 % +\S+ to \S+ +1,250 +4\.0 KiB +9\.0 MiB +60 s +frontier", lines[3])
    assert "+: features or models of an earlier run were taken" in notes(result_of(*found).to_json())
    assert "+:" not in notes(result_of(*found[1:]).to_json())


def test_searches_that_differ_much_are_told() -> None:
    said = "The time was short: the searches made from 3 to 64 trials; give more with --seconds."
    assert said in notes(result_of(contestant("a", 4, 8.0), contestant("b", 9, 9.0, trials=3)).to_json())
    assert "The time was short" not in notes(result_of(contestant("a", 4, 8.0), contestant("b", 9, 9.0, trials=32)).to_json())


@pytest.fixture
def page() -> str:
    """Eight backbones, some with long names, close to each other; one with a hostile name."""
    names = ("timm:vit_small_patch14_dinov2.lvd142m", "hf:facebook/dinov2-small", "mobilenet", "efficientnetlite0", "vgg19")
    found = [
        contestant(name, wrong, rate)
        for name, wrong, rate in zip(names, (5, 6, 12, 10, 14), (9.1, 9.0, 90.0, 70.0, 4.0), strict=True)
    ]
    found += [contestant(HOSTILE, 13, 85.0), contestant("mobilenet_0.25", 40, 280.0), contestant("resnet50", 11, 15.0)]
    return bakeoff_page(result_of(*found, Contestant("timm:swin", HOSTILE)), HOSTILE)


def test_every_point_is_drawn_and_named(page: str) -> None:
    chart = page[page.index("<figure") : page.index("</figure>")]
    labels = re.findall(r'<text class="label" text-anchor="(\w+)" x="([\d.]+)" y="([\d.]+)">([^<]*)</text>', chart)
    assert len(labels) == 8
    drawn = chart.partition("</svg>")[0]
    assert drawn.count("<circle ") == 8
    assert drawn.count('<circle class="ring"') == 4
    assert chart.count("<li>") == 2
    boxes = []
    for anchor, x, y, text in labels:
        left = float(x) - 6.6 * len(text) * (anchor == "end")
        boxes.append((left, float(y) - 11, left + 6.6 * len(text), float(y) + 3))
    for i, one in enumerate(boxes):
        assert one[0] >= 40
        assert one[2] <= 420
        for other in boxes[:i]:
            apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
            assert apart, (one, other)


def test_nothing_in_a_name_is_code(page: str) -> None:
    assert "<script" not in page
    assert "\u202e" not in page
    assert "\x1b" not in page
    assert "&lt;script&gt;" in page


def test_an_interrupted_one_says_so() -> None:
    result = result_of(contestant("a", 4, 50.0), Contestant("b", "interrupted"), interrupted=True)
    assert ", interrupted" in bakeoff_page(result, "photos")
