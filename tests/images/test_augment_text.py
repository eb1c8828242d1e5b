"""``flip,zoom,rotate=15`` <-> AugmentSpec."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffe.errors import SpecError
from ffe.images.augment_text import DEFAULTS, augment_text, parse_augment
from ffe.specs import AugmentSpec

ALL = "flip, vflip, zoom, crop, rotate, shift, shear, brightness, contrast, normalize"


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("flip", AugmentSpec(flip=True)),
        (" flip , vflip,", AugmentSpec(flip=True, vflip=True)),
        ("zoom", AugmentSpec(zoom=(0.5, 1))),
        ("zoom=0.2", AugmentSpec(zoom=(0.8, 1.2))),
        ("brightness=0.7", AugmentSpec(brightness=(0.3, 1.7))),
        ("brightness", AugmentSpec(brightness=(0.8, 1))),
        ("contrast=.5-2", AugmentSpec(contrast=(0.5, 2))),
        ("zoom=0.5-1,rotate=15,brightness=0.5-1.5", AugmentSpec(zoom=(0.5, 1), rotate=15, brightness=(0.5, 1.5))),
        ("crop", AugmentSpec(crop=(0.08, 1))),
        ("crop=0.3,ratio=0.5-2", AugmentSpec(crop=(0.3, 1), ratio=(0.5, 2))),
        (
            "flip,rotate=40,shift=0.2,shear=0.2,zoom=0.2,fill=nearest",
            AugmentSpec(flip=True, rotate=40, shift=0.2, shear=0.2, zoom=(0.8, 1.2)),
        ),
        ("normalize,seed=7,fill=wrap", AugmentSpec(normalize=True, seed=7, fill="wrap")),
        ("shift=5e-2", AugmentSpec(shift=0.05)),
    ],
)
def test_text_is_read(text: str, spec: AugmentSpec) -> None:
    assert parse_augment(text) == spec
    assert parse_augment(augment_text(spec)) == spec


def ranges(least: float, most: float) -> st.SearchStrategy[tuple[float, float]]:
    numbers = st.floats(least, most)
    return st.tuples(numbers, numbers).map(lambda pair: (min(pair), max(pair)))


@given(
    st.builds(
        AugmentSpec,
        flip=st.just(True),
        zoom=st.none() | ranges(0.1, 10),
        crop=ranges(0.01, 1),
        ratio=ranges(0.1, 10),
        rotate=st.floats(0, 180),
        shift=st.floats(0, 1),
        fill=st.sampled_from(["nearest", "reflect", "constant", "wrap"]),
        brightness=st.none() | ranges(0, 10),
        normalize=st.booleans(),
        seed=st.integers(0, 2**31 - 1),
    )
)
def test_text_goes_there_and_back(spec: AugmentSpec) -> None:
    assert parse_augment(augment_text(spec)) == spec


def test_every_name_has_a_default_that_is_a_spec() -> None:
    for name in DEFAULTS:
        assert getattr(parse_augment(name), name) == DEFAULTS[name] != getattr(AugmentSpec(), name)


def test_text_has_no_needless_digits() -> None:
    assert augment_text(parse_augment("zoom=0.7,rotate=15.0,crop,seed=2")) == "zoom=0.3-1.7,crop=0.08-1,rotate=15,seed=2"
    assert augment_text(AugmentSpec()) == ""


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", f"--augment names no change; name at least one of {ALL}."),
        ("fill=wrap,seed=1", f"--augment names no change; name at least one of {ALL}."),
        ("rotat=3", f"There is no change 'rotat' for --augment; known are {ALL}, ratio, fill, seed. Did you mean 'rotate'?"),
        ("blur", f"There is no change 'blur' for --augment; known are {ALL}, ratio, fill, seed."),
        ("flip,flip", "--augment names 'flip' twice; keep one of them."),
        ("flip,fill", "--augment names 'fill' without a value; write fill=reflect."),
        ("crop,ratio", "--augment names 'ratio' without a value; write ratio=0.75-1.33."),
        ("flip,seed", "--augment names 'seed' without a value; write seed=1."),
        ("flip=0.5", "--augment has flip=0.5, but it takes no value."),
        ("normalize=yes", "--augment has normalize=yes, but it takes no value."),
        (
            "zoom=1.5",
            "--augment has zoom=1.5, but it takes a range within 0.1-10, "
            "such as 0.8-1.2, or a number below 1, such as 0.2 for the same.",
        ),
        (
            "brightness=a",
            "--augment has brightness=a, but it takes a range within 0-10, "
            "such as 0.8-1.2, or a number below 1, such as 0.2 for the same.",
        ),
        (
            "contrast=0.5-",
            "--augment has contrast=0.5-, but it takes a range within 0-10, "
            "such as 0.8-1.2, or a number below 1, such as 0.2 for the same.",
        ),
        ("crop=", "--augment has crop=, but it takes a range such as 0.3-1, or 0.3 for the same."),
        ("crop,ratio=2", "--augment has ratio=2, but it takes a range such as 0.75-1.33."),
        ("rotate=-15", "--augment has rotate=-15, but it takes a number of degrees such as 15."),
        ("shear=5-10", "--augment has shear=5-10, but it takes a number of degrees such as 10."),
        ("shift=20%", "--augment has shift=20%, but it takes a share of the width and height such as 0.2."),
        ("flip,seed=1.5", "--augment has seed=1.5, but it takes a whole number from 0, such as 1."),
        ("flip,seed=-1", "--augment has seed=-1, but it takes a whole number from 0, such as 1."),
        (
            "contrast=100",
            "--augment has contrast=100, but it takes a range within 0-10, "
            "such as 0.8-1.2, or a number below 1, such as 0.2 for the same.",
        ),
        ("zoom=0", "--augment has zoom=0, which changes nothing; leave 'zoom' out, or give a value above 0."),
        ("flip,rotate=0.0", "--augment has rotate=0.0, which changes nothing; leave 'rotate' out, or give a value above 0."),
        ("flip,fill=mirror", "--augment has fill=mirror; use nearest, reflect, constant or wrap."),
        ("rotate=270", "rotate is 270.0, but must be a number from 0 to 180."),
        ("zoom=2-1", "zoom is (2.0, 1.0), but must be a range (low, high) with 0.1 <= low <= high <= 10."),
        ("crop=2", "crop is (2.0, 1.0), but must be a range (low, high) with 0.01 <= low <= high <= 1."),
        ("flip,ratio=0.5-2", "ratio is the shape of what crop cuts out, so it needs crop."),
    ],
)
def test_text_that_is_not_understood(text: str, sentence: str) -> None:
    with pytest.raises(SpecError) as error:
        parse_augment(text)
    assert str(error.value) == sentence
