"""Several files into one, and files whose features lie in others."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from feature_files import seal

from ffe.base.hdf5_checks import as_text
from ffe.commands.pack import pack
from ffe.commands.tune import train
from ffe.commands.verify import verify
from ffe.errors import StaleStoreError, StoreError
from ffe.extraction.run import extract
from ffe.images.drawings import draw
from ffe.store.journal import Journal
from ffe.store.reader import FeatureStore


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sources: a (cats, dogs), b (cats, horses; one picture of a again), and both in one folder."""
    root = tmp_path_factory.mktemp("photos")
    for name, kinds in {"a": {"cat": range(12), "dog": range(9)}, "b": {"cat": range(8, 20), "horse": range(30, 37)}}.items():
        for kind, numbers in kinds.items():
            both, own = root / "both" / kind, root / name / kind
            both.mkdir(parents=True, exist_ok=True)
            own.mkdir(parents=True, exist_ok=True)
            for i in numbers:
                place = both / f"{i:03d}.png"
                if not place.exists():
                    draw("dog" if kind == "horse" else kind, i, (40, 40)).save(place)  # type: ignore[arg-type]
                os.link(place, own / place.name)  # one file, so one time of change
    (root / "both" / "horse" / "bad.png").write_bytes(b"no picture")
    os.link(root / "both" / "horse" / "bad.png", root / "b" / "horse" / "bad.png")
    return root


@pytest.fixture(scope="module")
def made(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    for name in ("a", "b", "both"):
        extract(photos / name, folder / f"{name}.h5", backbone="fake")
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    for file in made.iterdir():
        shutil.copy(file, tmp_path)
    return tmp_path


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_packed_is_what_one_extraction_would_have_made(here: Path, photos: Path, order: str) -> None:
    summary = pack([here / f"{name}.h5" for name in order], here / "all.h5")
    assert (summary.files, summary.rows, summary.duplicates) == (2, 36, 4)
    assert summary.class_names == ("cat", "dog", "horse")
    with FeatureStore(here / "all.h5") as packed, FeatureStore(here / "both.h5") as whole:
        assert packed.class_names == whole.class_names
        assert packed.rows() == whole.rows()
        assert packed.skipped == whole.skipped
        assert packed.crc32 is not None
        assert packed.crc32.tolist() == whole.crc32.tolist()  # type: ignore[union-attr]
        np.testing.assert_array_equal(packed.features(), whole.features())
        assert packed.sources == tuple(str((photos / name).resolve()) for name in order)
        assert packed.source == "; ".join(packed.sources)
    assert verify(here / "all.h5").ok
    assert not list(here.glob("*.partial"))


def test_one_file_packed_is_the_same_file(here: Path) -> None:
    pack([here / "a.h5"], here / "again.h5")
    assert (here / "again.h5").read_bytes() == (here / "a.h5").read_bytes()
    pack([here / "a.h5"], here / "a.h5", compress="gzip", overwrite=True)
    with FeatureStore(here / "a.h5") as store:
        assert store.compression == "gzip"
    pack([here / "a.h5"], here / "again.h5", overwrite=True)  # compressed as its part was
    assert (here / "again.h5").read_bytes() == (here / "a.h5").read_bytes()


def test_pictures_of_all_sources_are_found_again(here: Path) -> None:
    pack([here / "a.h5", here / "b.h5"], here / "all.h5")
    found = verify(here / "all.h5", recompute=36)
    assert (found.ok, found.recomputed, found.notes) == (True, 36, ())


def test_damage_is_not_packed(here: Path) -> None:
    with h5py.File(here / "b.h5", "r+") as file:
        file["features"][7, 7] += 1
    before = sorted(here.iterdir())
    with pytest.raises(StoreError, match=r"row 7 of '.*b\.h5', are damaged; 'ffe verify .*b\.h5 --repair' makes them again"):
        pack([here / "a.h5", here / "b.h5"], here / "all.h5")
    assert sorted(here.iterdir()) == before


def test_another_spec_is_refused(here: Path, photos: Path) -> None:
    extract(photos / "b", here / "c.h5", backbone="fake", size=48)
    with pytest.raises(StaleStoreError) as caught:
        pack([here / "a.h5", here / "c.h5"], here / "all.h5")
    assert str(caught.value) == (
        f"'{here / 'c.h5'}' and '{here / 'a.h5'}' hold different features "
        f"(preprocess.size: '{here / 'c.h5'}' has 48x48, '{here / 'a.h5'}' has 32x32); "
        "pack files that were extracted with the same options, and int8 files with --like the first."
    )


def test_another_picture_under_the_same_path_is_refused(here: Path, tmp_path: Path) -> None:
    (here / "c" / "cat").mkdir(parents=True)
    draw("dog", 1, (40, 40)).save(here / "c" / "cat" / "003.png")
    extract(here / "c", here / "c.h5", backbone="fake")
    with pytest.raises(StoreError) as caught:
        pack([here / "a.h5", here / "c.h5"], here / "all.h5")
    assert str(caught.value) == (
        f"'cat/003.png' is one picture in '{here / 'a.h5'}' and another in '{here / 'c.h5'}'; "
        "extract both sources from a folder above them, so that their paths differ."
    )


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("cat/003.png,dog,,", "'cat/003.png' has the class 'cat' in '{a}' and 'dog' in '{c}'"),
        ("cat/003.png,,,", "'cat/003.png' has the class 'cat' in '{a}' and 'none' in '{c}'"),
        ("cat/003.png,cat,test,", "'cat/003.png' has the split 'none' in '{a}' and 'test' in '{c}'"),
        ("cat/003.png,cat,,burst", "'cat/003.png' has the group 'none' in '{a}' and 'burst' in '{c}'"),
    ],
)
def test_files_that_contradict_each_other_are_refused(here: Path, photos: Path, line: str, sentence: str) -> None:
    shutil.copytree(photos / "a", here / "c")
    (here / "c" / "list.csv").write_text(f"path,label,split,group\n{line}\ndog/001.png,dog,,\n")
    extract(here / "c" / "list.csv", here / "c.h5", backbone="fake")
    with pytest.raises(StoreError) as caught:
        pack([here / "a.h5", here / "c.h5"], here / "all.h5")
    said = sentence.format(a=here / "a.h5", c=here / "c.h5")
    assert str(caught.value) == f"{said}; extract one of them again with the right one."


def test_an_existing_output_is_kept(here: Path) -> None:
    with pytest.raises(StoreError) as caught:
        pack([here / "a.h5"], here / "b.h5")
    said = "exists and is a feature file; choose another output, or replace it with --overwrite (in Python overwrite=True)."
    assert str(caught.value) == f"'{here / 'b.h5'}' {said}"
    (here / "text.h5").write_text("text")
    with pytest.raises(StoreError, match="exists and is no feature file, so it is not replaced"):
        pack([here / "a.h5"], here / "text.h5", overwrite=True)


# virtual files


@pytest.fixture
def virtual(here: Path) -> Path:
    """A virtual file of both parts, which lie in a folder beside it under names that HDF5 could misread."""
    (here / "pärts 100%b").mkdir()
    for name in "ab":
        (here / f"{name}.h5").rename(here / "pärts 100%b" / f"{name}.h5")
    pack([here / "pärts 100%b" / f"{name}.h5" for name in "ab"], here / "all.h5", virtual=True)
    return here / "all.h5"


def part(virtual: Path, name: str = "b") -> Path:
    return virtual.parent / "pärts 100%b" / f"{name}.h5"


def test_a_virtual_file_has_the_rows_of_its_parts(virtual: Path) -> None:
    with FeatureStore(virtual) as store, FeatureStore(part(virtual, "a")) as a, FeatureStore(virtual.parent / "both.h5") as both:
        assert store.class_names == both.class_names
        assert store.rows()[: len(a)] == a.rows()
        rows = {row.path: i for i, row in enumerate(store.rows())}
        assert sorted(rows) == sorted(both.paths)
        places = np.asarray([rows[path] for path in both.paths])
        np.testing.assert_array_equal(store.features(places), both.features())
        assert [store.rows()[i] for i in places] == both.rows()
        order = np.concatenate([found for _, found in store.batches(5)])
        assert order.tolist() == store.labels.tolist()
        mixed = np.concatenate([x for x, _ in store.shuffled(5)])
        assert sorted(map(bytes, mixed)) == sorted(map(bytes, both.features()))
        assert store.summary()["parts"] == [str(part(virtual, name)) for name in "ab"]
    found = verify(virtual, recompute=10)
    assert (found.ok, found.recomputed) == (True, 10)


def test_plain_h5py_reads_it_too(
    virtual: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    with FeatureStore(virtual) as store, h5py.File(virtual) as file:
        assert file["features"].is_virtual
        np.testing.assert_array_equal(file["data"][()], store.features())
        assert file["labels"][()].tolist() == store.labels.tolist()


def test_it_moves_together_with_its_parts(virtual: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    moved = tmp_path_factory.mktemp("moved") / "here"
    shutil.copytree(virtual.parent, moved)
    shutil.rmtree(virtual.parent)
    assert verify(moved / "all.h5").ok


def test_one_real_file_of_it(virtual: Path) -> None:
    pack([virtual], virtual.parent / "one.h5")
    pack([part(virtual, name) for name in "ab"], virtual.parent / "direct.h5")
    assert (virtual.parent / "one.h5").read_bytes() == (virtual.parent / "direct.h5").read_bytes()


def gone(path: Path) -> None:
    path.unlink()


def moved(path: Path) -> None:
    path.rename(path.with_name("other.h5"))


def replaced(path: Path) -> None:
    shutil.copy(path.with_name("a.h5"), path)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def one_row_changed(path: Path) -> None:
    """Features and their checksum: a sound file, but another one."""
    with h5py.File(path, "r+") as file:
        file["features"][3] = 0
        seal(file)


def no_hdf5(path: Path) -> None:
    path.write_bytes(b"")


NOT_THERE = "'{v}' is virtual, and its part '{p}' is not there; put it back, or make it again with 'ffe extract' or 'ffe pack'."
ANOTHER = (
    "'{v}' is virtual, and its part '{p}' is not the file that was packed; "
    "put that back, or make it again with 'ffe extract' or 'ffe pack'."
)
CUT_OFF = "'{p}' is an HDF5 file that is cut off or damaged; if 'ffe extract' wrote it, make it again with --overwrite."
EMPTY = "'{p}' is empty; make it with 'ffe extract SOURCE -o {p} --overwrite'."


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (gone, NOT_THERE),
        (moved, NOT_THERE),
        (replaced, ANOTHER),
        (one_row_changed, ANOTHER),
        (truncated, CUT_OFF),
        (no_hdf5, EMPTY),
    ],
)
def test_a_part_that_is_not_what_it_was_is_an_error_on_open(virtual: Path, damage: Callable[[Path], None], sentence: str) -> None:
    damage(part(virtual))
    expected = sentence.format(v=virtual, p=part(virtual))
    with pytest.raises(StoreError) as caught:
        FeatureStore(virtual)
    assert str(caught.value) == expected
    found = verify(virtual)
    assert [problem.text() for problem in found.problems] == [expected]
    with pytest.raises(StoreError):
        train(virtual, virtual.with_suffix(".ffe"), head="logistic", with_backbone=False)


def test_a_damaged_row_of_a_part_is_named(virtual: Path) -> None:
    with h5py.File(part(virtual), "r+") as file:
        file["features"][3, 3] += 1
        name = file["paths"].asstr()[3]
    with FeatureStore(virtual) as store:
        row = store.paths.index(name)
        with pytest.raises(StoreError, match=f"The features of '{name}', row {row} of '.*all.h5', are damaged"):
            store.features()
    (problem,) = verify(virtual).problems
    assert (problem.row, problem.path) == (row, name)
    with pytest.raises(StoreError) as caught:
        verify(virtual, repair=True)
    assert str(caught.value) == (
        f"'{virtual}' is virtual, its features lie in other files; repair those: '{part(virtual, 'a')}', '{part(virtual)}'."
    )
    verify(part(virtual), repair=True)
    assert verify(virtual).ok


def test_a_part_that_was_deleted_later_is_still_read(virtual: Path) -> None:
    """Opening a virtual file takes hold of its parts."""
    with FeatureStore(virtual.parent / "both.h5") as both, FeatureStore(virtual) as store:
        part(virtual).unlink()
        assert sorted(map(bytes, store.features())) == sorted(map(bytes, both.features()))


def test_virtual_files_have_no_virtual_parts(virtual: Path) -> None:
    with pytest.raises(StoreError) as caught:
        pack([virtual], virtual.parent / "more.h5", virtual=True)
    sentence = f"'{virtual}' is virtual, so it cannot be a part of another file; pack it into one file first."
    assert str(caught.value) == sentence
    shutil.copy(virtual, part(virtual))  # a ring: the virtual file as its own part
    with pytest.raises(StoreError) as caught:
        FeatureStore(virtual)
    assert str(caught.value) == sentence.replace(str(virtual), str(part(virtual)))


def test_a_virtual_file_is_not_its_own_part(here: Path) -> None:
    with pytest.raises(StoreError) as caught:
        pack([here / "a.h5"], here / "a.h5", virtual=True, overwrite=True)
    assert str(caught.value) == f"'{here / 'a.h5'}' cannot be virtual and one of its own parts; choose another output."


def test_nothing_to_compress_in_a_virtual_file(here: Path) -> None:
    with pytest.raises(StoreError) as caught:
        pack([here / "a.h5"], here / "v.h5", virtual=True, compress="gzip")
    assert str(caught.value) == ("A virtual file holds no features that could be compressed; leave --compress or --virtual out.")


def test_a_virtual_dataset_that_says_something_else_is_refused(virtual: Path) -> None:
    """What plain h5py would read is what ffe reads."""
    with h5py.File(virtual, "r+") as file:
        parts = json.loads(file.attrs["parts"])
        parts[1]["runs"][0][0] += 1
        file.attrs["parts"] = as_text(json.dumps(parts))
        seal(file)
    with pytest.raises(StoreError, match=r"is damaged \(its virtual dataset and its parts contradict each other\)"):
        FeatureStore(virtual)


def test_a_virtual_file_by_another_name(here: Path) -> None:
    """Its parts are where the file is, not where a link to it stands; written through a link, too."""
    pack([here / "a.h5", here / "b.h5"], here / "v.h5", virtual=True)
    (here / "deep" / "er").mkdir(parents=True)
    (here / "deep" / "er" / "v.h5").symlink_to("../../v.h5")
    (here / "deep" / "w.h5").symlink_to("../w.h5")
    (here / "w.h5").touch()
    shutil.copy(here / "a.h5", here / "w.h5")
    pack([here / "a.h5", here / "b.h5"], here / "deep" / "w.h5", virtual=True, overwrite=True)
    for name in ("v.h5", "deep/er/v.h5", "w.h5", "deep/w.h5"):
        with FeatureStore(here / name) as store:
            assert len(store.features()) == 36


def test_what_is_packed_cannot_change_meanwhile(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is packed onto itself is another process's until it is opened, and nobody's afterwards."""
    from ffe.commands import pack as packing

    real, tried = packing.merge, []

    def merge(stores: list[FeatureStore]) -> object:
        with pytest.raises(StoreError, match="Another process is writing") as caught:
            Journal(here / "a.h5", stores[0].spec)
        tried.append(caught.value)
        return real(stores)

    monkeypatch.setattr(packing, "merge", merge)
    pack([here / "a.h5"], here / "a.h5", overwrite=True)
    assert len(tried) == 1
    Journal(here / "a.h5", FeatureStore(here / "b.h5").spec).close()
