"""Who trains, validates and tests where a network is trained: given splits that leak, and images that join later."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ffe.dataset.assign_sides import ImageSplit, Splitter
from ffe.dataset.split_csv import SplitCsv
from ffe.dataset.table import ImageTable, table_of_files
from ffe.errors import SourceError
from ffe.images.limits import Limits
from ffe.images.sources import scan
from ffe.specs import PreprocessSpec
from ffe.splits.groups import find_groups

SPLITTER = Splitter(("cat",), 0.2, 0)


def photos_of(digests: str, given: Sequence[str], named: Sequence[str] | None = None, phash: Sequence[int] = ()) -> ImageTable:
    """Cats, whose files have a letter each for a digest."""
    return ImageTable(
        paths=tuple(f"{i}.png" for i in range(len(digests))),
        sha256=tuple(digests),
        given=tuple(given),
        named=tuple(named or [""] * len(digests)),
        files=tuple(Path(f"{i}.png") for i in range(len(digests))),
        labels=np.zeros(len(digests), np.int64),
        phash=np.asarray(phash or [0] * len(digests), np.uint64),
    )


def anew(photos: ImageTable, *, once: bool = False) -> ImageSplit:
    return SPLITTER.split_anew(photos, find_groups(photos.sha256, photos.phash, names=photos.named), 0.2, once=once)


def as_before(photos: ImageTable, known: dict[str, str]) -> list[str]:
    return SPLITTER.split_as_before(photos, find_groups(photos.sha256, photos.phash, names=photos.named), known).side.tolist()


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "ffe")
    return caplog


def test_given_splits_that_leak_are_warned_of(said: pytest.LogCaptureFixture) -> None:
    hashes = [0b1111 << 40, 0, 0, 0, 0b0111 << 40, 0]
    photos = photos_of("abcaef", ["train", "train", "valid", "test", "test", "test"], ["", "p", "", "", "", "p"], hashes)
    assert anew(photos).side.tolist() == list(photos.given)
    warnings = [
        "1 image stands in the test split and in another one, so the test score is too good ('3.png')",
        "1 image of the test split is an image of another one, saved again or resized, so the test score is too good ('4.png')",
        "1 image of the test split belongs to a group that another one has too, so the test score is too good ('5.png')",
    ]
    assert said.messages == warnings
    said.clear()
    known = dict(zip("fecba", ["test", "test", "valid", "train", "train"], strict=True))
    assert as_before(photos, known) == ["train", "train", "valid", "train", "test", "test"]
    assert said.messages == warnings[1:]


def test_a_file_counts_on_one_side_if_it_is_to(said: pytest.LogCaptureFixture) -> None:
    photos = photos_of("abcabbdd", ["train", "valid", "test", "valid", "test", "valid", "test", "test"])
    assert anew(photos, once=True).side.tolist() == ["train", "valid", "test", "", "", "valid", "test", "test"]
    assert said.messages == [
        "2 images are left out: the same file trains, or validates, and also stands on another side ('3.png' and '4.png')"
    ]


def test_new_images_that_belong_to_others_stand_where_those_do(said: pytest.LogCaptureFixture) -> None:
    """Unless the source wants them elsewhere, or the others stand on both sides: then they are left out."""
    photos = photos_of("abcdefgh", ["", "", "", "", "", "valid", "", ""], ["", "v", "t", "v", "t", "t", "t", "v"])
    known = {"a": "train", "b": "valid", "c": "test"}
    assert as_before(photos, known) == ["train", "valid", "test", "valid", "test", "", "test", "valid"]
    assert said.messages == [
        "2 new images test too: they belong together with images that test ('4.png' and '6.png')",
        "1 new image is left out: it belongs together with images that test ('5.png')",
        "2 new images validate too: they belong together with images that validate ('3.png' and '7.png')",
    ]
    said.clear()
    assert as_before(photos_of("abcd", [""] * 4, ["p", "v", "p", "p"]), known) == ["train", "valid", "test", ""]
    assert said.messages[0] == "1 new image is left out: it belongs together with images that test ('3.png')"
    photos = photos_of("abcd", ["", "", "", "valid"], ["", "v", "", "v"])
    assert as_before(photos, known) == ["train", "valid", "test", "valid"]


def test_a_source_whose_names_are_no_text_is_not_split(tmp_path: Path) -> None:
    """A CSV could not hold them; said before anything is read."""
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    for name in ("cat/a.png", "dog/b.png"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_bytes(b"picture")
    sentence = r"The name 'caf\\xe9/cat/a\.png' is not valid text, which a CSV cannot hold; rename the file or folder\."
    with pytest.raises(SourceError, match=sentence):
        SplitCsv(scan(root), tmp_path / "split.csv")


def test_a_class_of_which_nothing_can_be_read_is_refused_with_its_reason(pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures / "cat", tmp_path / "photos" / "cat")
    (tmp_path / "photos" / "dog").mkdir()
    for i in range(3):
        (tmp_path / "photos" / "dog" / f"{i}.png").write_bytes(b"")
    found = scan(tmp_path / "photos")
    with pytest.raises(
        SourceError, match=r"^None of the 3 files of the class 'dog' can be read \('dog/0\.png': the file is empty\)"
    ):
        table_of_files(found, found.class_names, PreprocessSpec((32, 32), "caffe"), Limits())
