"""The rows of feature files: what belongs together, which side it stands on, what leaks, and how features are read."""

from __future__ import annotations

import gc
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ffe.backbones.resolve import make_spec
from ffe.base.digests import bytes_digest
from ffe.base.feature_layout import FeatureLayout
from ffe.dataset.leaks import leaking
from ffe.dataset.stored_rows import StoredSplit, split_rows
from ffe.errors import DataError
from ffe.store.reader import FeatureStore
from ffe.store.schema import Row
from ffe.store.writer import write_store

LAYOUT = FeatureLayout.of_shape((2, 2, 64))
DIMS = 256


def values(images: Sequence[int]) -> np.ndarray:
    """Return features of unrelated images: float32 (n, D)."""
    return np.stack([np.random.default_rng(image).uniform(0, 1, DIMS) for image in images]).astype(np.float32)


def write(
    path: Path,
    features: np.ndarray,
    *,
    images: Sequence[int] | None = None,
    splits: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    phash: Sequence[int] | None = None,
    labels: Sequence[int] | None = None,
) -> Path:
    """Write a feature file; without labels it is of two classes, which take turns."""
    count = len(features)
    rows = [
        Row(
            f"{i:04d}.png",
            bytes_digest(b"%d" % (i if images is None else images[i])),
            i % 2 if labels is None else labels[i],
            "" if splits is None else splits[i],
            phash=0 if phash is None else phash[i],
            group="" if names is None else names[i],
        )
        for i in range(count)
    ]
    write_store(
        path,
        spec=make_spec("fake")[0],
        layout=LAYOUT,
        class_names=("cat", "dog", "emu")[: max(2, *(row.label + 1 for row in rows))],
        rows=rows,
        features=lambda row: features[int(row.path[:4])],
    )
    return path


def split(path: Path, fraction: float = 0.3, seed: int = 0, **others: Path) -> StoredSplit:
    """Split the rows of files that stay open as long as the rows are used."""
    stores = {name: FeatureStore(other) for name, other in others.items()}
    return split_rows(FeatureStore(path), stores.get("valid"), stores.get("test"), fraction, seed)


def by_name(rows: StoredSplit, column: np.ndarray) -> list[object]:
    return [value for _, value in sorted(zip(rows.images.paths, column.tolist(), strict=True))]


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("ffe"), "propagate", True)
    caplog.set_level(logging.INFO, "ffe")
    return caplog


def test_images_that_are_added_move_none_to_the_other_side(tmp_path: Path) -> None:
    features = values(range(120))
    before, after = split(write(tmp_path / "a.h5", features[:60])), split(write(tmp_path / "b.h5", features))
    sides = by_name(before, before.side)
    assert set(sides) == {"train", "test"}
    assert by_name(after, after.side)[:60] == sides


def test_what_belongs_together_stands_on_one_side(tmp_path: Path) -> None:
    """Near copies by their features, and named groups; nothing is left out."""
    features = values(range(120))
    features[60:90] = features[:30] * np.float32(1.02)
    names = [f"burst {i // 10}" if 90 <= i < 120 else "" for i in range(120)]
    rows = split(write(tmp_path / "f.h5", features, names=names))
    assert rows.counts() == {name: int((rows.side == value).sum()) for name, value in COUNTED.items()}
    assert rows.counts()["left_out"] == 0
    assert sum(rows.counts().values()) == 120
    assert rows.groups.count == 33
    sides = by_name(rows, rows.side)
    for i in range(30):
        assert sides[i] == sides[60 + i]
    for start in (90, 100, 110):
        assert len(set(sides[start : start + 10])) == 1
    assert not leaking(rows.side, rows.groups).any()


def test_four_near_copies_of_each_photo_waste_none(tmp_path: Path) -> None:
    """The share that tests is what was asked, within five points, and no photo is used for nothing."""
    features = np.tile(values(range(150)), (5, 1)) * np.linspace(0.9, 1.1, 5, dtype=np.float32).repeat(150)[:, None]
    rows = split(write(tmp_path / "f.h5", features), fraction=0.2)
    assert rows.groups.count == 150
    assert rows.counts()["left_out"] == 0
    assert 0.15 <= rows.counts()["test"] / 750 <= 0.25
    assert not leaking(rows.side, rows.groups).any()


def test_what_was_moved_or_kept_is_said(tmp_path: Path, warnings: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "f.h5", values(range(60)))
    sentence = "%s moved %s the test, whose share chance had made too %s; more images may move %s back"
    with FeatureStore(path) as store:
        said = {}
        for seed in range(40):
            warnings.clear()
            split_rows(store, None, None, 0.3, seed)
            said.update(dict.fromkeys(warnings.messages))
        assert sentence % ("1 image was", "into", "small", "it") in said
        assert sentence % ("2 images were", "out of", "large", "them") in said
        warnings.clear()
        drawn = split_rows(store, None, None, 0.3, 0)
        tested = [digest for digest, side in zip(drawn.images.sha256, drawn.side, strict=True) if side == "train"][:2]
        for count, stay in (
            (1, "1 image stays in the test, where the model that is replaced had it"),
            (2, "2 images stay in the test, where the model that is replaced had them"),
        ):
            warnings.clear()
            again = split_rows(store, None, None, 0.3, 0, tested[:count])
            assert {again.side[again.images.sha256.index(digest)] for digest in tested[:count]} == {"test"}
            assert stay in warnings.messages


COUNTED = {"train": "train", "valid": "valid", "test": "test", "left_out": ""}


def test_validation_rows_that_are_given_stay_and_keep_their_like_out_of_the_test(tmp_path: Path) -> None:
    features = values(range(100))
    features[50:90] = features[:40] * np.float32(1.02)
    rows = split(write(tmp_path / "f.h5", features, splits=["valid"] * 50 + [""] * 50))
    sides = by_name(rows, rows.side)
    assert sides[:50] == ["valid"] * 50
    assert set(sides[50:90]) == {"train", ""}  # they have a near copy that chooses the head
    assert set(sides[90:]) <= {"train", "test"}


def test_leaks_of_given_splits_are_counted_by_cause(tmp_path: Path, warnings: pytest.LogCaptureFixture) -> None:
    features = values(range(60))
    images, names, phash = list(range(60)), [""] * 60, [0] * 60
    images[40] = 0  # a copy
    phash[1], phash[41] = 0b1111 << 40, 0b0111 << 40
    features[41] = np.abs(features[1] + np.random.default_rng(99).uniform(-0.4, 0.4, DIMS))  # saved again
    features[42] = features[2] * np.float32(1.02)  # near
    features[43] = features[3] * np.float32(1.02)
    names[44] = names[4] = "patient 4"
    splits = ["train"] * 20 + ["valid"] * 20 + ["test"] * 20
    rows = split(write(tmp_path / "f.h5", features, images=images, names=names, phash=phash, splits=splits))
    assert by_name(rows, rows.side) == splits
    assert [i for i, leaks in enumerate(by_name(rows, leaking(rows.side, rows.groups))) if leaks] == [40, 41, 42, 43, 44]
    assert [i for i, leaks in enumerate(by_name(rows, leaking(rows.side, rows.groups, "re-encoded"))) if leaks] == [40, 41]
    sentences = [
        "1 image stands in the test split and in another one, so the test score is too good",
        "1 image of the test split is an image of another one, saved again or resized, so the test score is too good",
        "2 images of the test split look nearly like images of another one, so the test score may be too good",
        "1 image of the test split belongs to a group that another one has too, so the test score is too good",
    ]
    named = ["'0040.png'", "'0041.png'", "'0042.png' and '0043.png'", "'0044.png'"]
    assert warnings.messages == [f"{said} ({names})" for said, names in zip(sentences, named, strict=True)]


def test_validation_images_that_are_known_from_the_training_are_warned_of(
    tmp_path: Path, warnings: pytest.LogCaptureFixture
) -> None:
    """A copy, one saved again, and a near one; copies within the validation do no harm."""
    features = values(range(60))
    images, phash = list(range(60)), [0] * 60
    images[30], images[34] = 0, 36
    phash[1], phash[31] = 0b1111 << 40, 0b0111 << 40
    features[31] = np.abs(features[1] + np.random.default_rng(99).uniform(-0.4, 0.4, DIMS))
    features[32] = features[2] * np.float32(1.02)
    splits = ["train"] * 30 + ["valid"] * 15 + ["test"] * 15
    split(write(tmp_path / "f.h5", features, images=images, phash=phash, splits=splits))
    assert warnings.messages == [
        "3 images of the validation split belong together with images that train, so its scores are too good "
        "('0030.png', '0031.png' and '0032.png')"
    ]


def test_leaks_between_files_are_found(tmp_path: Path) -> None:
    main = write(tmp_path / "f.h5", values(range(40)))
    features = values(range(100, 110))
    features[3] = values([7])[0] * np.float32(1.02)
    rows = split(main, test=write(tmp_path / "t.h5", features, images=range(100, 110)))
    assert [rows.images.paths[i] for i in np.flatnonzero(leaking(rows.side, rows.groups))] == ["test:0003.png"]


@pytest.mark.parametrize("name", ["valid", "test"])
def test_files_that_do_not_suit_validation_or_test_are_refused(tmp_path: Path, name: str) -> None:
    main = write(tmp_path / "f.h5", values(range(40)))
    sentence = rf"Every labelled image of '.*f\.h5' is in '.*f\.h5' too; give --{name} a file of other images, or leave it out\."
    with pytest.raises(DataError, match=sentence):
        split(main, **{name: main})
    other = write(tmp_path / "o.h5", values(range(10)))  # a part of the main file
    with pytest.raises(DataError, match=r"Every labelled image of '.*o\.h5' is in '.*f\.h5' too; "):
        split(main, **{name: other})
    other = write(tmp_path / "u.h5", values(range(100, 110)), images=range(100, 110), labels=[-1] * 10)
    with pytest.raises(DataError, match=rf"No row of '.*u\.h5' has a label; give a labelled file to --{name}\."):
        split(main, **{name: other})


def test_validation_of_one_class_is_refused_and_of_some_is_warned_of(tmp_path: Path, warnings: pytest.LogCaptureFixture) -> None:
    main = write(tmp_path / "f.h5", values(range(60)), labels=[i % 3 for i in range(60)])
    other = write(tmp_path / "v.h5", values(range(100, 110)), images=range(100, 110), labels=[1] * 10)
    sentence = (
        r"All labelled images of '.*v\.h5' are of one class \('dog'\), by which no head can be chosen; "
        r"give --valid images of every class\."
    )
    with pytest.raises(DataError, match=sentence):
        split(main, valid=other)
    assert split(main, test=other).counts()["test"] == 10
    split(
        main, valid=write(tmp_path / "w.h5", values(range(100, 110)), images=range(100, 110), labels=[i % 2 for i in range(10)])
    )
    assert f"'{tmp_path / 'w.h5'}' has no image of 'emu', so the other classes alone choose the head" in warnings.messages


def test_where_nothing_is_left_to_test_on_nothing_is_searched(tmp_path: Path) -> None:
    main = write(tmp_path / "f.h5", values(range(40)))
    valid = write(tmp_path / "v.h5", values(range(40)) * np.float32(1.02), images=range(100, 140))
    sentence = (
        "No image is left to test on: all that could test belong together with images that validate; "
        "give a feature file of other images with --test."
    )
    with pytest.raises(DataError) as raised:
        split(main, valid=valid)
    assert str(raised.value) == sentence


def test_a_class_that_had_to_get_a_test_image_is_warned_of(tmp_path: Path, warnings: pytest.LogCaptureFixture) -> None:
    rows = split(write(tmp_path / "f.h5", values(range(8))), fraction=0.001)
    assert rows.counts() == {"train": 6, "valid": 0, "test": 2, "left_out": 0}
    assert warnings.messages == [
        "2 classes ('cat' and 'dog') are so small that a test or training image had to be picked for each; "
        "the pick may change when images are added"
    ]


def test_a_class_whose_images_all_show_the_same_is_refused(tmp_path: Path) -> None:
    names = ["", "patient 1"] * 20
    sentence = (
        r"The class 'dog' has only 1 group of images that belong together in '.*f\.h5'; "
        r"give every class at least 3 different images, or leave the class out\."
    )
    with pytest.raises(DataError, match=sentence):
        split(write(tmp_path / "f.h5", values(range(40)), names=names))


def test_constant_features_are_refused(tmp_path: Path) -> None:
    sentence = (
        r"All 12 rows of '.*f\.h5' hold the same features, so nothing can be learnt from them; "
        r"check that the images differ, and make the features again with 'ffe extract --overwrite'\."
    )
    with pytest.raises(DataError, match=sentence):
        split(write(tmp_path / "f.h5", np.ones((12, DIMS), np.float32)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_no_numbers_are_refused(tmp_path: Path, value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ffe.dataset.load_features._PIECE_BYTES", 5 * 4 * DIMS)
    features = values(range(20))
    features[13, 200] = value
    sentence = r"The features of '0013\.png' hold NaN or infinity; make them again with 'ffe extract --overwrite'\."
    with pytest.raises(DataError, match=sentence):
        split(write(tmp_path / "f.h5", features))


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_rows_are_loaded_in_order_from_all_files(tmp_path: Path, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ffe.dataset.load_features._PIECE_BYTES", piece * 4 * DIMS)
    main, other = values(range(30)), values(range(100, 110))
    rows = split(write(tmp_path / "f.h5", main), test=write(tmp_path / "t.h5", other, images=range(100, 110)))
    chosen = np.random.default_rng(0).random(40) < 0.5
    expected = [(other if name.startswith("test:") else main)[int(name[-8:-4])] for name in rows.images.paths]
    loaded = rows.load(chosen)
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, np.stack(expected)[chosen])
    assert rows.load(np.zeros(40, bool)).shape == (0, DIMS)


def test_rows_that_memory_cannot_hold_lie_on_the_disk_while_they_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = split(write(tmp_path / "f.h5", values(range(30))))
    everything = np.ones(30, bool)
    in_memory = rows.load(everything)
    assert not isinstance(in_memory, np.memmap)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr("ffe.base.arrays.free_memory", lambda: 2 * in_memory.nbytes - 1)
    on_disk = rows.load(everything)
    assert isinstance(on_disk, np.memmap)
    np.testing.assert_array_equal(on_disk, in_memory)
    part = np.asarray(on_disk)[3:5]
    del on_disk
    gc.collect()
    assert len(list((tmp_path / "temporary").iterdir())) == 1  # a view still needs it
    np.testing.assert_array_equal(part, in_memory[3:5])
    del part
    gc.collect()
    assert list((tmp_path / "temporary").iterdir()) == []
    monkeypatch.setattr("ffe.base.arrays.free_memory", lambda: 2 * in_memory.nbytes)
    assert not isinstance(rows.load(everything), np.memmap)
