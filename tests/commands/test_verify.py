"""``verify``: what it finds, what it mends, and what it says where it cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from feature_files import seal

from ffe.backbones.resolve import make_spec
from ffe.base.feature_layout import FeatureLayout
from ffe.base.hdf5_checks import as_text
from ffe.bundle.io import Bundle, write_bundle
from ffe.commands.tune import train
from ffe.commands.verify import _Recomputer, verify
from ffe.dataset.stored_rows import file_finder
from ffe.errors import BundleError, SourceError, SpecError, StoreError, WeightsError
from ffe.extraction.run import extract
from ffe.images import sources
from ffe.images.drawings import draw
from ffe.images.sources import root_of
from ffe.store.journal import Journal
from ffe.store.reader import FeatureStore


@pytest.fixture
def photos(pictures: Path, tmp_path: Path) -> Path:
    shutil.copytree(pictures, tmp_path / "photos")
    return tmp_path / "photos"


@pytest.fixture
def features(photos: Path, tmp_path: Path) -> Path:
    extract(photos, tmp_path / "f.h5", backbone="fake")
    return tmp_path / "f.h5"


def damage(path: Path, *rows: int) -> list[str]:
    """Change a byte in some rows; return their paths."""
    with h5py.File(path) as file:
        begin = file["features"].id.get_chunk_info(0).byte_offset
        names = file["paths"].asstr()[()]
    data = bytearray(path.read_bytes())
    for row in rows:
        data[begin + row * 48 * 4 + 9] ^= 4
    path.write_bytes(data)
    return [str(names[row]) for row in rows]


def test_a_sound_file(features: Path) -> None:
    seen: list[tuple[int, int]] = []
    found = verify(features, recompute=5, progress=lambda done, total: seen.append((done, total)))
    assert (found.ok, found.kind, found.schema, found.rows, found.checksums) == (True, "features", 4, 40, True)
    assert (found.problems, found.notes, found.recomputed, found.repaired) == ((), (), 5, 0)
    assert seen[-1] == (40, 40)


def test_repair_restores_every_bit(features: Path) -> None:
    sound = features.read_bytes()
    names = damage(features, 3, 17, 39)
    found = verify(features)
    assert [problem.text() for problem in found.problems] == [
        f"row {row}, '{name}': its features are not those that were written" for row, name in zip((3, 17, 39), names, strict=True)
    ]
    assert features.read_bytes() != sound
    repaired = verify(features, repair=True)
    assert (repaired.ok, repaired.repaired) == (True, 3)
    assert features.read_bytes() == sound
    assert sorted(file.name for file in features.parent.iterdir()) == ["f.h5", "photos"]


def test_what_a_source_is_is_asked_once_for_all_rows(features: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(sources, "root_of", lambda place: asked.append(place) or root_of(place))  # type: ignore[func-returns-value]
    assert verify(features, recompute=5).recomputed == 5
    assert len(asked) == 1
    with FeatureStore(features) as store:
        assert [*map(file_finder(store), range(5))] == [features.parent / "photos" / path for path in store.paths[:5]]
    assert len(asked) == 2


def test_only_damaged_rows_are_computed(features: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(features, 3, 17)
    computed: list[int] = []
    from ffe.engines.fake import FakeEngine

    real = FakeEngine.start
    monkeypatch.setattr(FakeEngine, "start", lambda self, images: computed.append(len(images)) or real(self, images))  # type: ignore[func-returns-value]
    verify(features, repair=True)
    assert sum(computed) == 2


@pytest.mark.parametrize("compress", ["lzf", "gzip"])
def test_a_chunk_that_cannot_be_read_is_made_again(photos: Path, tmp_path: Path, compress: str) -> None:
    path = tmp_path / "f.h5"
    extract(photos, path, backbone="fake", compress=compress)  # type: ignore[arg-type]
    sound = path.read_bytes()
    with h5py.File(path) as file:
        begin = file["features"].id.get_chunk_info(0).byte_offset
    data = bytearray(sound)
    data[begin : begin + 64] = os.urandom(64)
    path.write_bytes(data)
    assert {problem.message for problem in verify(path).problems} <= {
        "its features cannot be read",
        "its features are not those that were written",
    }
    assert verify(path, repair=True).ok
    assert path.read_bytes() == sound


def test_a_picture_that_is_gone_or_changed_cannot_help(features: Path, photos: Path) -> None:
    sound = features.read_bytes()
    gone, changed, _ = damage(features, 3, 17, 30)
    picture = (photos / changed).read_bytes()
    (photos / gone).rename(photos / "away.png")
    draw("cat", 77, (48, 48)).save(photos / changed)
    found = verify(features, repair=True)
    assert [problem.text() for problem in found.problems] == [
        f"row 3, '{gone}': its features are not those that were written, and its picture is gone (--source names its place)",
        f"row 17, '{changed}': its features are not those that were written, and its picture changed since",
    ]
    assert (found.ok, found.repaired) == (False, 1)
    again = verify(features)  # what could not be mended still shows
    assert [problem.row for problem in again.problems] == [3, 17]
    with FeatureStore(features) as store, pytest.raises(StoreError, match=f"The features of '{gone}', row 3 of"):
        store.features()
    (photos / "away.png").rename(photos / gone)
    (photos / changed).write_bytes(picture)
    assert verify(features, repair=True).ok
    assert features.read_bytes() == sound


def test_pictures_that_moved(features: Path, photos: Path, tmp_path: Path) -> None:
    sound = features.read_bytes()
    damage(features, 3)
    photos.rename(tmp_path / "moved")
    (problem,) = verify(features, repair=True).problems
    assert problem.message.endswith(", and its picture is gone (--source names its place)")
    assert verify(features, repair=True, source=tmp_path / "moved").ok
    assert features.read_bytes() == sound
    with pytest.raises(SourceError) as caught:
        verify(features, recompute=1, source=tmp_path / "none")
    assert str(caught.value) == f"There is no file or folder '{tmp_path / 'none'}'; check the path."


def test_recompute_says_which_pictures_it_could_not_take(features: Path, photos: Path) -> None:
    with FeatureStore(features) as store:
        paths = store.paths
    (photos / paths[4]).unlink()
    draw("cat", 77, (48, 48)).save(photos / paths[5])
    found = verify(features, recompute=100)
    assert (found.ok, found.recomputed) == (True, 38)
    assert found.notes == (
        f"row 4, '{paths[4]}' was not computed again: its picture is gone (--source names its place)",
        f"row 5, '{paths[5]}' was not computed again: its picture changed since",
    )


def test_recompute_is_seeded(features: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[list[int]] = []
    real = _Recomputer.compute
    monkeypatch.setattr(_Recomputer, "compute", lambda self, rows: drawn.append(rows) or real(self, rows))  # type: ignore[func-returns-value]
    for seed in (0, 0, 1):
        verify(features, recompute=6, seed=seed)
    assert drawn[0] == drawn[1] != drawn[2]
    assert [len(rows) for rows in drawn] == [6, 6, 6]


def test_features_that_were_sealed_but_are_none_of_the_picture(features: Path) -> None:
    """Checksums tell damage; only the backbone tells a lie."""
    with h5py.File(features, "r+") as file:
        file["features"][8] *= np.float32(1.01)
        seal(file)
        name = file["paths"].asstr()[8]
    assert verify(features).ok
    (problem,) = verify(features, recompute=40).problems
    assert problem.text() == (
        f"row 8, '{name}': its picture gives other features here, 0.0099 of the largest apart, where 0.0001 may be"
    )


def swapped(file: h5py.File) -> None:
    for name in ("features", "crc32", "paths", "sha256", "labels"):
        file[name][:2] = file[name][:2][::-1]


def doubled(file: h5py.File) -> None:
    file["paths"][1] = file["paths"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (swapped, "its rows do not stand in the order that their paths give them"),
        (doubled, "it has two rows of one image"),
    ],
)
def test_rows_out_of_order(features: Path, change: Callable[[h5py.File], None], message: str) -> None:
    """Sealed, as a program that does not know the promise might do it."""
    with h5py.File(features, "r+") as file:
        change(file)
        seal(file)
    (problem,) = verify(features).problems
    assert problem.text() == message


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file["labels"].__setitem__(0, 1 - file["labels"][0]),
        lambda file: file["paths"].__setitem__(0, b"x"),
        lambda file: file["crc32"].__setitem__(0, 0),
        lambda file: file.attrs.__setitem__("class_names", as_text('["dog", "cat"]')),
        lambda file: file.attrs.__setitem__("source", as_text("/elsewhere")),
        lambda file: file.attrs.__setitem__("sources", as_text('["/elsewhere"]')),
        lambda file: file.__delitem__("group"),
        lambda file: file.__delitem__("phash"),
    ],
)
def test_a_changed_table_is_found_on_open(features: Path, change: Callable[[h5py.File], None]) -> None:
    with h5py.File(features, "r+") as file:
        change(file)
    sentence = f"'{features}' is damaged: its tables are not those that were written; extract it again with --overwrite."
    assert [problem.text() for problem in verify(features).problems] == [sentence]
    with pytest.raises(StoreError) as caught:
        FeatureStore(features)
    assert str(caught.value) == sentence


def test_nothing_but_a_report_for_a_file_that_cannot_be_opened(features: Path) -> None:
    features.write_bytes(features.read_bytes()[:-10])
    found = verify(features, repair=True, recompute=3)
    assert [problem.text() for problem in found.problems] == [
        f"'{features}' is an HDF5 file that is cut off or damaged; if 'ffe extract' wrote it, make it again with --overwrite."
    ]
    assert (found.ok, found.schema, found.rows) == (False, None, None)


def test_no_repair_while_another_process_writes(features: Path) -> None:
    from ffe.store.journal import Journal

    damage(features, 3)
    with FeatureStore(features) as store:
        other = Journal(features, store.spec)
    try:
        with pytest.raises(StoreError, match="Another process is writing"):
            verify(features, repair=True)
    finally:
        other.close()
    assert verify(features, repair=True).ok


def test_a_row_that_comes_out_otherwise_is_not_taken_for_right(features: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on another engine, or another machine."""
    (name,) = damage(features, 3)
    before = features.read_bytes()
    from ffe.engines.fake import FakeEngine

    real = FakeEngine.extract
    monkeypatch.setattr(FakeEngine, "extract", lambda self, images: real(self, images) + np.float32(0.25))
    found = verify(features, repair=True)
    assert [problem.text() for problem in found.problems] == [
        f"row 3, '{name}': its features are not those that were written, and its picture gives other features here, "
        "on another engine or machine than then; extract it again"
    ]
    assert (found.repaired, features.read_bytes()) == (0, before)


def test_what_was_found_is_said_where_the_backbone_cannot_be_had(features: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*rest: object, **options: object) -> None:
        raise WeightsError("There are no weights.")

    monkeypatch.setattr("ffe.extraction.stored_engine.open_engine", none)
    with pytest.raises(WeightsError, match="There are no weights"):
        verify(features, recompute=2)
    damage(features, 3)
    for options in ({"repair": True}, {"recompute": 2}):
        found = verify(features, **options)  # type: ignore[arg-type]
        assert [problem.row for problem in found.problems] == [3]
        said = [*(problem.text() for problem in found.problems), *found.notes]
        assert any("its backbone cannot be used: There are no weights" in text for text in said), said


def test_a_file_that_another_program_changes(features: Path) -> None:
    opens = f"import h5py; file = h5py.File({str(features)!r}, 'r+'); print('open', flush=True); input()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", opens], stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        for check in (FeatureStore, verify):
            with pytest.raises(StoreError) as caught:
                check(features)
            assert str(caught.value) == (
                f"Another program has '{features}' open to change it; close it there, and run this again."
            )
        other.communicate("\n")
    assert verify(features).ok


def test_an_unfinished_run_with_other_options_beside_it(features: Path, photos: Path) -> None:
    damage(features, 3)
    other = make_spec("mobilenet_0.25", 32, "random")[0]
    journal = Journal(features, other)
    journal.append(["0" * 64], [np.zeros(4, np.float32)], FeatureLayout.of_shape((1, 1, 4)))
    journal.commit()
    journal.close()
    with pytest.raises(StoreError) as caught:
        verify(features, repair=True)
    assert str(caught.value) == (
        f"Beside '{features}' stands an unfinished run with other options; "
        f"finish it, or delete '{features}.partial', and repair then."
    )


# models


def test_a_model_is_asked_about_its_golden_pictures(photos: Path, tmp_path: Path) -> None:
    extract(photos, tmp_path / "f.h5", backbone="mobilenet_0.25", size=32, weights="random")
    train(tmp_path / "f.h5", tmp_path / "m.ffe", head="logistic")
    found = verify(tmp_path / "m.ffe")
    assert (found.ok, found.kind, found.schema, found.recomputed, found.notes) == (True, "model", 4, 2, ())

    bundle = Bundle(tmp_path / "m.ffe")
    golden = bundle.golden()
    apart = "its backbone gives other features for the golden pictures, 0.0099 of the largest apart, where 0.0001 may be"
    other = "its head gives other probabilities for the golden pictures, "
    for name, factor, message in (("features", 1.01, apart), ("probabilities", 0.9, other)):
        changed = {**golden, name: golden[name] * golden[name].dtype.type(factor)}
        parts = {"head": bundle.head(), "splits": bundle.splits(), "card": bundle.card()}
        with bundle.keras_file() as keras_file:
            write_bundle(tmp_path / "other.ffe", bundle.manifest, golden=changed, backbones=[(keras_file, bundle.ir())], **parts)  # type: ignore[arg-type]
        problems = [problem.text() for problem in verify(tmp_path / "other.ffe").problems]
        assert any(text.startswith(message) for text in problems), problems


@pytest.mark.parametrize(
    ("golden", "why"),
    [
        ({}, "its test pictures are gone, so nothing shows whether it still answers as it did"),
        ({"images": np.zeros((1, 32, 32, 3), np.uint8)}, "its golden pictures cannot be used (KeyError: 'features')"),
        (
            {"images": np.zeros((0, 32, 32, 3), np.uint8), "features": np.zeros((0, 256)), "probabilities": np.zeros((0, 2))},
            "its golden pictures cannot be used (ValueError: ",
        ),
    ],
    ids=["none", "half", "empty"],
)
def test_golden_pictures_that_are_none(photos: Path, tmp_path: Path, golden: dict[str, np.ndarray], why: str) -> None:
    extract(photos, tmp_path / "f.h5", backbone="mobilenet_0.25", size=32, weights="random")
    train(tmp_path / "f.h5", tmp_path / "m.ffe", head="logistic")
    bundle = Bundle(tmp_path / "m.ffe")
    parts = {"head": bundle.head(), "splits": bundle.splits(), "card": bundle.card(), "backbones": [(None, bundle.ir())]}
    write_bundle(tmp_path / "other.ffe", bundle.manifest, golden=golden, **parts)  # type: ignore[arg-type]
    (problem,) = verify(tmp_path / "other.ffe").problems
    assert problem.text().startswith(why)


def test_a_model_without_its_backbone(fake_store: Path, tmp_path: Path) -> None:
    train(fake_store, tmp_path / "m.ffe", head="logistic", with_backbone=False)
    found = verify(tmp_path / "m.ffe")
    assert (found.ok, found.recomputed) == (True, 0)
    assert found.notes == ("its backbone is not inside the file, so there are no golden pictures to ask it about",)


def test_a_wrong_byte_in_a_model_is_found_or_changes_nothing(fake_bundle: Path, tmp_path: Path) -> None:
    def content(path: Path) -> object:
        bundle = Bundle(path)
        return bundle.manifest, {k: v.tobytes() for k, v in bundle.golden().items()}, bundle.splits(), bundle.card()

    data, path, expected = fake_bundle.read_bytes(), tmp_path / "m.ffe", content(fake_bundle)
    rng, found = np.random.default_rng(0), 0
    for place in rng.choice(len(data), 80, replace=False).tolist():
        wrong = bytearray(data)
        wrong[place] ^= int(rng.integers(1, 256))
        path.write_bytes(wrong)
        if verify(path).ok:
            assert content(path) == expected, place
        else:
            found += 1
    assert found > 40


def test_options_that_a_model_does_not_have(fake_bundle: Path) -> None:
    for options in ({"recompute": 1}, {"repair": True}, {"source": "photos"}):
        with pytest.raises(SpecError) as caught:
            verify(fake_bundle, **options)  # type: ignore[arg-type]
        assert str(caught.value) == ("A model file has no rows to compute again; leave --recompute, --repair and --source out.")


def test_files_that_are_not_there(tmp_path: Path, features: Path) -> None:
    with pytest.raises(StoreError, match="There is no feature file"):
        verify(tmp_path / "none.h5")
    with pytest.raises(StoreError, match="is a folder, not a feature file"):
        verify(tmp_path)
    with pytest.raises(BundleError, match="There is no model file"):
        verify(tmp_path / "none.ffe")
    with pytest.raises(SpecError, match="recompute is -1, but must be at least 0"):
        verify(features, recompute=-1)


def test_float16_rows(photos: Path, tmp_path: Path) -> None:
    extract(photos, tmp_path / "f.h5", backbone="fake", dtype="float16")
    sound = (tmp_path / "f.h5").read_bytes()
    with h5py.File(tmp_path / "f.h5", "r+") as file:
        file["features"][2, 5] += 1
    found = verify(tmp_path / "f.h5", repair=True, recompute=40)
    assert (found.ok, found.repaired, found.recomputed) == (True, 1, 40)
    assert (tmp_path / "f.h5").read_bytes() == sound
