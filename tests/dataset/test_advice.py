"""What a look showed -> what to do about it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ffe.dataset.advice import advise
from ffe.dataset.scan_result import Advice, ClassCount, Dimensions, OtherEnding, ScanResult, SkippedFile, Spread, Twins

# two classes of 100 photos, 300 x 400, nothing odd about them
SOUND = ScanResult(
    source="photos",
    kind="class folders",
    files=200,
    photos=200,
    unlabelled=0,
    bytes=0,
    classes=(ClassCount("cat", 100, 100, {}, 0), ClassCount("dog", 100, 100, {}, 0)),
    splits={},
    formats={"JPEG": 200},
    colours={"colour": 200},
    animated=0,
    dimensions=Dimensions(Spread(400, 400, 400), Spread(300, 300, 300), Spread(1.3, 1.3, 1.3), 0, 0),
    twins=(),
    skipped=(),
    left_out=(),
    other_endings=(),
    findings=(),
    backbone="mobilenet",
    size=(224, 224),
    advice=(),
    seconds=0.0,
)


def advised(found: ScanResult) -> tuple[Advice, ...]:
    return advise(found, 32)


def counts(*numbers: int, **others: Any) -> ScanResult:
    """Return classes a, b, c ... of so many photos, all different."""
    classes = tuple(ClassCount(name, number, number, {}, 0) for name, number in zip("abcdefgh", numbers, strict=False))
    return replace(SOUND, classes=classes, photos=sum(numbers), **others)


def sized(height: float = 300, width: float = 400, smaller: int = 0, elongated: int = 0) -> ScanResult:
    spreads = [Spread(each, each, each) for each in (width, height, width / height)]
    return replace(SOUND, dimensions=Dimensions(*spreads, smaller, elongated))


def skipped(**reasons: str) -> tuple[SkippedFile, ...]:
    """Return files by the reason, each a letter."""
    return tuple(SkippedFile(path, reason, "") for reason, paths in reasons.items() for path in paths.split())


def twins(*groups: tuple[tuple[str, ...], tuple[str | None, ...], tuple[str, ...]], **others: Any) -> ScanResult:
    return replace(SOUND, twins=tuple(Twins("the same file", *group) for group in groups), **others)


def test_sound_photos_need_no_advice() -> None:
    assert advised(SOUND) == ()


@pytest.mark.parametrize(
    ("found", "level", "text"),
    [
        (
            replace(SOUND, classes=()),
            "note",
            "No photo has a label, so nothing can be learnt from them; put them into one folder per class to train on them.",
        ),
        (counts(9), "refused", "All photos are of one class ('a'); a head needs at least two classes."),
        (
            counts(100, 2),
            "refused",
            "Too few different photos of 'b' (2): tune needs at least 3 of each class. Add some, or leave the class out.",
        ),
        (
            counts(0, 1, 2, 2, 100),
            "refused",
            "Too few different photos of 'a' (0), 'b' (1), 'c' (2) and 1 more: tune needs at least 3 of each class. "
            "Add some, or leave the class out.",
        ),
        (
            counts(100, 1, splits={"train": 100, "test": 1}),
            "refused",
            "Too few different photos of 'b' (1): tune needs at least 2 of each class. Add some, or leave the class out.",
        ),
        (
            replace(
                SOUND,
                classes=(SOUND.classes[0], ClassCount("dog", 100, 100, {"valid": 50, "test": 50}, 0)),
                splits={"train": 100, "valid": 50, "test": 50},
            ),
            "refused",
            "No training photos of 'dog': give the training split some, or leave the class out.",
        ),
        (
            counts(5, 5),
            "warning",
            "The smallest class, 'a', has 5 different photos, of which about 4 will train: tune then deals about 4 folds, not 5, "
            "and the scores are rough. 50 of each class are a good start.",
        ),
        (
            counts(3, 4),
            "warning",
            "The smallest class, 'a', has 3 different photos, of which about 2 will train: tune then deals about 2 folds, not 5, "
            "and the scores are rough. 50 of each class are a good start.",
        ),
        (
            counts(100, 30),
            "warning",
            "The rarest class, 'b', has 30 training photos, 0.46 of a fair share. --class-weights auto makes all classes count "
            "the same where the rarest has less than 0.5 of a fair share: here it does ('none' turns it off). "
            "Look at the balanced accuracy.",
        ),
        (
            counts(100, 50),
            "note",
            "The rarest class, 'b', has 50 training photos, 0.67 of a fair share. --class-weights auto makes all classes count "
            "the same where the rarest has less than 0.5 of a fair share: here it does not; 'balanced' asks for it.",
        ),
        (
            replace(SOUND, skipped=skipped(truncated="a b", broken="c")),
            "warning",
            "3 files cannot be read (1 broken, 2 truncated: 'a', 'b' and 'c'), and extraction will skip them; "
            "mend or remove them. --truncated keep takes those that are cut off.",
        ),
        (
            replace(SOUND, skipped=skipped(empty="a.png")),
            "warning",
            "1 file cannot be read (1 empty: 'a.png'), and extraction will skip it; mend or remove it.",
        ),
        (
            replace(SOUND, left_out=(("notes.txt", "why"), ("b\n", "why"))),
            "note",
            r"2 files or folders in the source are left out ('notes.txt' and 'b\n').",
        ),
        (replace(SOUND, left_out=(("a", "why"),)), "note", "1 file or folder in the source is left out ('a')."),
        (
            sized(smaller=40),
            "note",
            "40 photos are smaller than the input of mobilenet at 224x224, and will be enlarged, which adds nothing.",
        ),
        (
            sized(170, 180, smaller=200),
            "note",
            "All photos are smaller than the input of mobilenet at 224x224, and will be enlarged, which adds nothing; "
            "--size 160 is as much as most of them hold.",
        ),
        (
            sized(30, 30, smaller=200),
            "note",
            "All photos are smaller than the input of mobilenet at 224x224, and will be enlarged, which adds nothing.",
        ),
        (
            sized(600, 800),
            "note",
            "Most photos are much larger than the input of mobilenet at 224x224: --decode fast reads such JPEG files quicker.",
        ),
        (
            sized(elongated=1),
            "note",
            "1 photo is more than twice as long one way as the other, and will be squeezed to 224x224; cut out what matters, "
            "or give --size HEIGHTxWIDTH if all are of such a shape.",
        ),
        (
            sized(elongated=120),
            "warning",
            "120 photos are more than twice as long one way as the other, and will be squeezed to 224x224; cut out what matters, "
            "or give --size HEIGHTxWIDTH if all are of such a shape.",
        ),
        (
            replace(SOUND, other_endings=(OtherEnding("a.jpg", "PNG"),)),
            "note",
            "1 photo is named as another format than it holds; ffe goes by the content, other programs may not.",
        ),
        (
            replace(SOUND, other_endings=(OtherEnding("a.jpg", "PNG"),) * 2),
            "note",
            "2 photos are named as another format than they hold; ffe goes by the content, other programs may not.",
        ),
        (
            replace(SOUND, colours={"colour": 197, "colour, transparent": 2, "grey, transparent": 1}),
            "note",
            "3 photos may be transparent in part; white will show through.",
        ),
        (replace(SOUND, animated=1), "note", "1 file is animated; the first picture will be taken."),
    ],
)
def test_each_finding_has_its_sentence(found: ScanResult, level: Any, text: str) -> None:
    first, *others = advised(found)
    assert first == Advice(level, text)
    assert level == "refused" or others == []


def test_large_png_files_are_not_told_to_decode_fast() -> None:
    assert advised(replace(sized(600, 800), formats={"PNG": 200})) == ()


def test_folds_are_no_matter_where_a_split_validates() -> None:
    assert advised(counts(5, 5, splits={"train": 4, "valid": 4, "test": 2})) == ()


def test_where_a_test_is_given_all_others_train() -> None:
    assert advised(counts(5, 5, splits={"train": 8, "test": 2})) == ()


def test_copies() -> None:
    (same,) = advised(twins((("a.png", "b.png", "c.png"), ("cat", "cat", "cat"), ("", "", ""))))
    assert same == Advice(
        "note",
        "2 photos are there already: the same file, or saved again or resized. "
        "tune keeps copies on one side of every split that it makes; nothing needs to be removed. "
        "tune counts them in the same way, but compares features too, so it may find more: cut, brighter, or of a burst.",
    )
    mixed, copies = advised(twins((("a.png", "b.png"), ("cat", "dog"), ("", ""))))
    assert "nothing needs to be removed" not in copies.text
    assert mixed == Advice(
        "warning", "1 photo stands in more than one class ('a.png' (cat) and 'b.png' (dog)); look for wrong labels."
    )
    mixed, _ = advised(twins(*[(("a.png", "b.png"), ("cat", "dog"), ("", ""))] * 3))
    three = "; ".join(["'a.png' (cat) and 'b.png' (dog)"] * 3)
    assert mixed.text == f"3 photos stand in more than one class ({three}); look for wrong labels."
    copied = (("cat/a.png", "cat/b.png", "dog/c.png"), ("cat", "cat", "dog"), ("", "", ""))
    mixed, _ = advised(twins(*[copied] * 5))  # of each class the first
    three = "; ".join(["'cat/a.png' (cat) and 'dog/c.png' (dog)"] * 3)
    assert f"({three}; 2 more); look" in mixed.text
    unlabelled = (("a.png", "b.png"), ("cat", None), ("", ""))  # contradicts no label
    assert len(advised(twins(unlabelled))) == 1
    odd, _ = advised(twins((("a or b.png", "c.png"), ("cat", "dog"), ("", ""))))
    assert "('a or b.png' (cat) and 'c.png' (dog))" in odd.text
    leak, _ = advised(twins((("a.png", "b.png"), ("cat", "cat"), ("train", "test"))))
    assert leak == Advice(
        "warning", "1 test photo is a copy of photos in other splits, so the test score will be too good; remove one of each."
    )
    leak, _ = advised(twins((("a.png", "b.png", "c.png"), ("cat", "cat", "cat"), ("valid", "test", "test"))))
    assert leak.text.startswith("2 test photos are copies of photos in other splits")
    assert len(advised(twins((("a.png", "b.png"), ("cat", "cat"), ("test", "test"))))) == 1


def test_copies_that_choose() -> None:
    groups = [
        (("a.png", "b.png"), (None, None), ("train", "valid")),
        (("c.png", "d.png", "e.png"), (None, None, None), ("valid", "train", "valid")),
        (("f.png", "g.png"), (None, None), ("valid", "valid")),
    ]
    found = advised(twins(*groups, splits={"train": 190, "valid": 10}))
    assert [(advice.level, advice.text[:60]) for advice in found] == [
        ("warning", "3 validation photos are copies of training photos, so what i"),
        ("note", "4 photos are there already: the same file, or saved again or"),
    ]
    assert "nothing needs to be removed" not in found[1].text


def test_the_gravest_comes_first() -> None:
    found = advised(counts(100, 2, left_out=(("a", "why"),), skipped=skipped(broken="b"), animated=1))
    assert [advice.level for advice in found] == ["refused", "warning", "warning", "note", "note"]


def test_without_any_photo_only_files_are_spoken_of() -> None:
    nothing = counts(0, 0, dimensions=None, formats={}, skipped=skipped(broken="a b c d"))
    assert [advice.text[:7] for advice in advised(nothing)] == ["4 files"]
