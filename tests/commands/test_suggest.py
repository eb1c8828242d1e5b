"""``suggest``: what is chosen, what is left out, what extract makes of the list, and what is refused."""

from __future__ import annotations

import csv
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import ffe
from ffe.backbones.resolve import make_spec
from ffe.base.digests import bytes_digest
from ffe.base.feature_layout import FeatureLayout
from ffe.bundle.io import Bundle
from ffe.cli import cli
from ffe.errors import DataError, ModelMismatchError, ReportError, SpecError, WeightsError
from ffe.images.drawings import draw_folder
from ffe.images.sources import scan
from ffe.predictor import Predictor
from ffe.store.reader import FeatureStore
from ffe.store.schema import Row
from ffe.store.writer import write_store


@pytest.fixture(scope="module")
def unlabelled(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 drawn photos in one folder, one of which is there twice, one that the model knows, and a broken one."""
    drawn = tmp_path_factory.mktemp("drawn")
    draw_folder(drawn, 30, (40, 40))
    folder = tmp_path_factory.mktemp("unlabelled") / "photos"
    folder.mkdir()
    for file in sorted(drawn.rglob("*.png"))[15:45]:
        shutil.copy(file, folder / f"{file.parent.name[0]}{file.name}")
    first = min(folder.iterdir())
    shutil.copy(first, folder / "zz_again.png")
    shutil.copy(pictures / "cat" / "cat_003.png", folder / "known.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def features(unlabelled: Path) -> Path:
    ffe.extract(unlabelled, unlabelled.parent / "unlabelled.h5", backbone="fake")
    return unlabelled.parent / "unlabelled.h5"


def read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_photos_and_their_features_give_the_same_list(
    fake_bundle: Path, unlabelled: Path, features: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = ffe.suggest(fake_bundle, unlabelled, tmp_path / "next.csv", count=8)
    assert (found.considered, found.known, found.copies, found.labelled) == (30, 1, 1, 0)
    assert found.skipped == ("broken.png",)
    assert "1 file could not be read ('broken.png')" in caplog.text
    rows = read(tmp_path / "next.csv")
    assert list(rows[0]) == ["path", "label", "guess", "probability", "uncertainty"]
    assert len(rows) == len(found.images) == 8
    assert {row["label"] for row in rows} == {""}
    assert all(
        (tmp_path / row["path"]).resolve().samefile(unlabelled / one.path) for row, one in zip(rows, found.images, strict=True)
    )
    chosen = {one.path for one in found.images}
    assert "known.png" not in chosen
    answers = {Path(one.path).name: one for one in Predictor(fake_bundle).predict([unlabelled / path for path in sorted(chosen)])}
    for one in found.images:
        said = sorted(answers[one.path].probabilities.values(), reverse=True)
        assert one.guess == answers[one.path].label
        assert one.probability == pytest.approx(said[0], abs=1e-6)
        assert one.uncertainty == pytest.approx(1 - said[0] + said[1], abs=1e-5)
    stored = ffe.suggest(fake_bundle, features, tmp_path / "stored.csv", count=8)
    assert [one.path for one in stored.images] == [one.path for one in found.images]
    assert (stored.considered, stored.known, stored.copies) == (30, 1, 1)
    assert (tmp_path / "stored.csv").read_bytes() == (tmp_path / "next.csv").read_bytes()


def test_extract_takes_the_list_back_and_says_which_rows_are_empty(
    fake_bundle: Path, fake_store: Path, features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("labelled.h5").touch()
    answer = CliRunner().invoke(cli, ["suggest", str(fake_bundle), str(features), "-n", "4", "-o", str(tmp_path / "next.csv")])
    assert answer.exit_code == 0, answer.output
    assert "4 photos of 30 to label next (1 known, 1 equal to another: left out)" in answer.output
    following = f"then ffe extract {tmp_path / 'next.csv'} -o labelled-2.h5 --backbone {fake_bundle}"
    assert f"Next: fill in the column 'label', {following}\n" in answer.output
    rows = read(tmp_path / "next.csv")
    for row, label in zip(rows, ("cat", "dog", "cat", ""), strict=True):
        row["label"] = label
    with (tmp_path / "next.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    answer = CliRunner().invoke(
        cli, ["extract", str(tmp_path / "next.csv"), "-o", str(tmp_path / "more.h5"), "--backbone", "fake"]
    )
    assert answer.exit_code == 0, answer.output
    assert f"1 photo has no label, so nothing is learnt from it ('{rows[3]['path']}')" in answer.output
    ffe.pack([fake_store, tmp_path / "more.h5"], tmp_path / "all.h5")
    with FeatureStore(tmp_path / "all.h5") as store:
        assert len(store) == 44
        labels = dict(zip(store.sha256, store.labels.tolist(), strict=True))
    with FeatureStore(tmp_path / "more.h5") as store:
        assert sorted(labels[digest] for digest in store.sha256) == [-1, 0, 0, 1]


def test_what_there_is_nothing_to_choose_from(
    fake_bundle: Path, fake_store: Path, pictures: Path, unlabelled: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(DataError, match="has a label, by its folder or its list; give photos without labels"):
        ffe.suggest(fake_bundle, fake_store, tmp_path / "a.csv")
    flat = tmp_path / "flat"
    flat.mkdir()
    shutil.copy(pictures / "dog" / "dog_001.png", flat)
    with pytest.raises(DataError, match=r"The model knows every photo of '.*flat' already; give it others"):
        ffe.suggest(fake_bundle, flat, tmp_path / "a.csv")
    shutil.copy(unlabelled / "broken.png", flat)
    with pytest.raises(DataError, match=r"The model knows every photo of '.*flat' that can be read already; give it others"):
        ffe.suggest(fake_bundle, flat, tmp_path / "a.csv")
    (flat / "dog_001.png").unlink()
    with pytest.raises(DataError, match="None of the photos without a label in"):
        ffe.suggest(fake_bundle, flat, tmp_path / "a.csv")
    (flat / "broken.png").unlink()
    with pytest.raises(ffe.FfeError, match="There are no images in"):
        ffe.suggest(fake_bundle, flat, tmp_path / "a.csv")
    assert not (tmp_path / "a.csv").exists()
    shutil.copy(unlabelled / "zz_again.png", flat)
    assert len(ffe.suggest(fake_bundle, flat, tmp_path / "a.csv", count=3).images) == 1
    assert "there is no more to choose from than 1 photo, so the list has all of them" in caplog.text


def test_what_is_refused(fake_bundle: Path, features: Path, unlabelled: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="The number of photos to choose is 0, but must be at least 1"):
        ffe.suggest(fake_bundle, features, tmp_path / "a.csv", count=0)
    with pytest.raises(SpecError, match=r"cannot be chosen by 'entropie'; choose margin or entropy\. Did you mean 'entropy'"):
        ffe.suggest(fake_bundle, features, tmp_path / "a.csv", by="entropie")  # type: ignore[arg-type]
    with pytest.raises(ReportError, match=r"takes a list of photos back as a CSV; name the output '.*next\.csv'"):
        ffe.suggest(fake_bundle, features, tmp_path / "next.txt")
    with pytest.raises(ReportError, match="lies in a folder that does not exist"):
        ffe.suggest(fake_bundle, features, tmp_path / "none" / "next.csv")
    (tmp_path / "mine.csv").write_text("path,label\na.png,cat\n")
    with pytest.raises(ReportError, match="is no list of photos of ffe, so it is not replaced"):
        ffe.suggest(fake_bundle, features, tmp_path / "mine.csv", overwrite=True)
    ffe.suggest(fake_bundle, features, tmp_path / "next.csv", count=2)
    with pytest.raises(ReportError, match="exists and is a list of photos; choose another output, or replace it"):
        ffe.suggest(fake_bundle, features, tmp_path / "next.csv", count=2)
    ffe.suggest(fake_bundle, features, tmp_path / "next.csv", count=3, by="entropy", overwrite=True)
    assert len(read(tmp_path / "next.csv")) == 3
    filled = (tmp_path / "next.csv").read_text().replace(",,", ",cat,", 2)
    (tmp_path / "next.csv").write_text(filled)
    for overwrite in (False, True):  # which is not offered, since it would not help
        with pytest.raises(ReportError) as raised:
            ffe.suggest(fake_bundle, features, tmp_path / "next.csv", overwrite=overwrite)
        assert str(raised.value) == (
            f"'{tmp_path / 'next.csv'}' has 2 labels filled in, so it is not replaced; give it to 'ffe extract' first, "
            "and name another output."
        )
    assert (tmp_path / "next.csv").read_text() == filled
    with pytest.raises(ReportError, match="is the list that is read, so it is not replaced"):
        ffe.suggest(fake_bundle, tmp_path / "next.csv", tmp_path / "next.csv", overwrite=True)
    ffe.extract(unlabelled, tmp_path / "other.h5", backbone="fake", size=24)
    with pytest.raises(ModelMismatchError, match="was made for other features than"):
        ffe.suggest(fake_bundle, tmp_path / "other.h5", tmp_path / "a.csv")


def test_photos_need_a_backbone_and_features_do_not(
    fake_store: Path, unlabelled: Path, features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*rest: object) -> None:
        raise WeightsError("There are no weights here.")

    ffe.train(fake_store, tmp_path / "m.ffe", head="logistic", with_backbone=False)
    assert not Bundle(tmp_path / "m.ffe").has_backbone
    monkeypatch.setattr("ffe.backbones.resolve.weights_of_each", none)
    with pytest.raises(WeightsError, match="There are no weights here"):
        ffe.suggest(tmp_path / "m.ffe", unlabelled, tmp_path / "a.csv")
    assert len(ffe.suggest(tmp_path / "m.ffe", features, tmp_path / "a.csv", count=5).images) == 5


def test_a_photo_that_is_gone_is_named_and_a_formula_is_none(
    fake_bundle: Path, unlabelled: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, file in zip(("=cmd.png", "gone.png"), sorted(unlabelled.glob("*_*.png")), strict=False):
        shutil.copy(file, folder / name)
    ffe.extract(folder, tmp_path / "f.h5", backbone="fake")
    (folder / "gone.png").unlink()
    ffe.suggest(fake_bundle, tmp_path / "f.h5", folder / "next.csv", count=2)
    assert "1 photo is not where extraction read from ('gone.png'); the list names the old place" in caplog.text
    assert sorted(row["path"] for row in read(folder / "next.csv")) == ["./=cmd.png", "gone.png"]
    assert len(scan(folder / "next.csv").records) == 2


def write_features(path: Path, count: int, dims: int, classes: tuple[str, ...]) -> None:
    """Write rows of noise, with labels in turn where there are classes."""
    block = np.random.default_rng(len(classes)).normal(size=(512, dims)).astype(np.float32)
    write_store(
        path,
        spec=make_spec("fake")[0],
        layout=FeatureLayout.of_shape((1, 1, dims)),
        class_names=classes,
        rows=[Row(f"{i}.jpg", bytes_digest(f"{len(classes)}{i}".encode()), i % 2 if classes else -1, "") for i in range(count)],
        features=lambda row: np.roll(block[int(row.path[:-4]) % 512], int(row.path[:-4]) // 512),
    )


def test_memory_does_not_grow_with_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """20 times the rows take no more than their names do when the file is opened, and little for their digests."""
    monkeypatch.setattr("ffe.labelling.choice._BLOCK_BYTES", 1 << 18)
    monkeypatch.setattr("ffe.store.row_reader._WINDOW_BYTES", 1 << 18)
    write_features(tmp_path / "labelled.h5", 40, 256, ("cat", "dog"))
    ffe.train(tmp_path / "labelled.h5", tmp_path / "m.ffe", head="logistic", with_backbone=False)
    beyond = []
    for count in (1000, 20_000):
        path = tmp_path / f"{count}.h5"
        write_features(path, count, 256, ())
        tracemalloc.start()
        with FeatureStore(path):
            opened = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        tracemalloc.start()
        assert ffe.suggest(tmp_path / "m.ffe", path, tmp_path / f"{count}.csv", count=10).considered == count
        beyond.append(tracemalloc.get_traced_memory()[1] - opened)
        tracemalloc.stop()
    assert beyond[1] - beyond[0] < 19_000 * 256 * 4 / 5
