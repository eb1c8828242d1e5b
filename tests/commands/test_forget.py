"""``ffe.forget``: afterwards neither name nor digest nor hash nor picture of a photo is in the raw bytes of a file."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import ffe
from ffe.base.digests import file_digest
from ffe.bundle.io import Bundle
from ffe.cli import cli
from ffe.errors import BundleError, DataError, SourceError, StoreError
from ffe.images.drawings import draw, draw_folder
from ffe.report.thumbnails import thumbnail
from ffe.store.reader import FeatureStore


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos, features with views, an RBF svm, and its report; treat it as read-only."""
    folder = tmp_path_factory.mktemp("made")
    draw_folder(folder / "photos", 12, (48, 48))
    shutil.copy(folder / "photos" / "cat" / "cat_003.png", folder / "photos" / "cat" / "copy_of_it.png")
    (folder / "photos" / "cat" / "broken_one.png").write_text("no picture")
    ffe.extract(folder / "photos", folder / "f.h5", backbone="fake", views=1, augment="flip")
    options: dict[str, Any] = {"head": "svm", "settings": {"kernel": "rbf"}, "report": folder / "r.html"}
    ffe.train(folder / "f.h5", folder / "m.ffe", **options)
    return folder


@pytest.fixture
def files(made: Path, tmp_path: Path) -> Path:
    """A copy of these; the photos lie where they were."""
    for name in ("f.h5", "m.ffe", "r.html"):
        shutil.copy(made / name, tmp_path / name)
    return tmp_path


def trace(made: Path, name: str) -> list[bytes]:
    """Return what a photo could be known by in raw bytes."""
    with FeatureStore(made / "f.h5") as store:
        row = store.paths.index(name)
        phash, features = store.phash[row], store.raw_row(row)
    return [Path(name).name.encode(), file_digest(made / "photos" / name).encode(), phash.tobytes(), features.tobytes()]


def test_nothing_of_the_photo_is_left(made: Path, files: Path) -> None:
    name, copy = "cat/cat_003.png", "cat/copy_of_it.png"
    marks = trace(made, name)
    uri = thumbnail(made / "photos" / name, name).uri.encode()
    raw = {path.name: path.read_bytes() for path in files.iterdir()}
    assert all(mark in raw["f.h5"] for mark in marks)
    assert marks[0] in raw["m.ffe"]
    assert marks[0] in raw["r.html"]
    assert uri in raw["r.html"]
    with FeatureStore(files / "f.h5") as store:
        before = {(row.path, row.view): (row, store.raw_row(i).tobytes()) for i, row in enumerate(store.rows())}
    other = {n: a.tobytes() for n, a in Bundle(files / "m.ffe").arrays("head.npz").items()}
    result = ffe.forget(made / "photos" / name, [files / "f.h5", files / "m.ffe", files / "r.html"])
    assert [set(found.photos) for found in result.files] == [{name, copy}] * 3
    assert (result.files[0].rows, result.unknown, result.written) == (4, (), True)
    for path in files.iterdir():
        content = path.read_bytes()
        assert not [mark for mark in (*marks, b"copy_of_it", uri) if mark in content], path
    with FeatureStore(files / "f.h5") as store:
        after = {(row.path, row.view): (row, store.raw_row(i).tobytes()) for i, row in enumerate(store.rows())}
        assert [item.path for item in store.skipped] == ["cat/broken_one.png"]
    assert after == {key: value for key, value in before.items() if key[0] not in {name, copy}}
    assert {n: a.tobytes() for n, a in Bundle(files / "m.ffe").arrays("head.npz").items()} == other
    assert {row.path for row in Bundle(files / "m.ffe").splits()} == {path for path, _ in after}
    for kind in ("f.h5", "m.ffe"):
        assert run("verify", files / kind).exit_code == 0
    assert sorted(path.name for path in files.iterdir()) == ["f.h5", "m.ffe", "r.html"]


@pytest.mark.parametrize("how", ["name", "digest", "old path", "path in the source"])
def test_a_photo_that_is_gone_is_known_by_other_means(made: Path, files: Path, how: str) -> None:
    with FeatureStore(files / "f.h5") as store:
        digest = store.sha256[store.paths.index("dog/dog_005.png")]
    asked = {
        "name": "dog/dog_005.png",
        "digest": digest,
        "old path": "/elsewhere/photos/dog/dog_005.png",
        "path in the source": str(made / "photos" / "dog" / ".." / "dog" / "dog_005.png"),
    }[how]
    result = ffe.forget(asked, [files / "r.html", files / "m.ffe", files / "f.h5"])
    assert [found.photos for found in result.files] == [("dog/dog_005.png",)] * 3
    assert b"dog_005" not in b"".join(path.read_bytes() for path in files.iterdir())


def test_another_photo_of_the_same_name_is_not_meant(
    made: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "two" / "cat" / "cat_003.png"
    other.parent.mkdir(parents=True)
    shutil.copy(made / "photos" / "dog" / "dog_001.png", other)
    other.write_bytes(other.read_bytes() + b"other")
    monkeypatch.chdir(tmp_path / "two")
    assert ffe.forget("cat", files / "f.h5", dry_run=True).files[0].rows == 0
    for asked in (other, "cat/cat_003.png"):
        with pytest.raises(DataError, match=r"None of the files knows '.*'; check the name: "):
            ffe.forget(asked, [files / "f.h5", files / "m.ffe"])


def test_a_photo_that_was_edited_since_is_known_by_its_place(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "photos", tmp_path / "photos")
    ffe.extract(tmp_path / "photos", tmp_path / "f.h5", backbone="fake")
    photo = tmp_path / "photos" / "dog" / "dog_001.png"
    photo.write_bytes(photo.read_bytes() + b"edited")
    assert ffe.forget(photo, tmp_path / "f.h5").files[0].photos == ("dog/dog_001.png",)


def test_damage_in_the_last_file_leaves_all_as_they_were(files: Path) -> None:
    damaged = files / "g.h5"
    shutil.copy(files / "f.h5", damaged)
    with FeatureStore(damaged) as store:
        features = store.raw_row(store.paths.index("dog/dog_005.png")).tobytes()
    damaged.write_bytes(damaged.read_bytes().replace(features, bytes(len(features))))
    before = {path.name: path.read_bytes() for path in files.iterdir()}
    with pytest.raises(StoreError, match=r"g\.h5'"):
        ffe.forget("dog/dog_001.png", [files / "f.h5", files / "m.ffe", files / "r.html", damaged])
    assert {path.name: path.read_bytes() for path in files.iterdir()} == before


def test_a_folder_and_a_file_that_was_skipped(made: Path, files: Path) -> None:
    result = ffe.forget([made / "photos" / "cat" / "broken_one.png", "dog"], files / "f.h5")
    assert len(result.files[0].photos) == 13
    with FeatureStore(files / "f.h5") as store:
        assert {path.split("/")[0] for path in store.paths} == {"cat"}
        assert store.skipped == ()
    assert b"broken_one" not in (files / "f.h5").read_bytes()


def test_the_command(made: Path, files: Path) -> None:
    trained = next(row.path for row in Bundle(files / "m.ffe").splits() if row.split == "train")
    before = {path.name: path.read_bytes() for path in files.iterdir()}
    asked = (trained, "nobody.jpg", files / "f.h5", files / "m.ffe", files / "r.html")
    dry = run("forget", *asked, "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert {path.name: path.read_bytes() for path in files.iterdir()} == before
    assert dry.stderr == "warning: none of the files knows 'nobody.jpg'\n"
    assert f"{files / 'f.h5'}: would forget 1 photo, 2 rows: {trained}\n" in dry.stdout
    done = run("forget", *asked)
    assert f"{files / 'm.ffe'}: forgot 1 photo: {trained}\n" in done.stdout
    kept = "its svm head keeps features of some training photos as they are; make it again without these photos: "
    assert f"  {kept}ffe train {files / 'f.h5'} -o {files / 'm.ffe'} --overwrite --head svm --set pooling=" in done.stdout
    command = done.stdout.split("these photos: ffe ")[1].splitlines()[0].split()
    command[command.index("-o") + 1] = str(files / "again.ffe")
    assert run(*command).exit_code == 0
    again = run("forget", *asked)
    assert (again.exit_code, again.stdout) == (3, "")
    assert f"ffe: None of the files knows '{trained}' or the others; check the name: " in again.stderr


def test_the_command_that_is_given_makes_the_model_as_it_was_made(made: Path, files: Path, tmp_path: Path) -> None:
    model = tmp_path / "my model.ffe"
    asked = "--head logistic --set C=3 --reject 0.8 --seed 3 --class-weights none --test-fraction 0.3 --folds 3 --refit all"
    assert run("train", files / "f.h5", "-o", model, *asked.split(), "--views", "none").exit_code == 0
    before = Bundle(model).manifest
    (photo, *_) = (row.path for row in Bundle(model).splits() if row.split == "train")
    said = run("forget", photo, model).stdout.split("these photos: ")[1]
    assert f"ffe train FEATURES.h5 -o '{model}' --overwrite --head logistic " in said
    result = ffe.forget("dog/dog_001.png", [model, files / "f.h5"])
    again = shlex.split(result.files[0].stays.split("these photos: ")[1])
    assert again[:2] == ["ffe", "train"]
    assert again[2] == str(files / "f.h5")
    done = run(*again[1:])
    assert done.exit_code == 0, done.output
    after = Bundle(model).manifest
    assert after.reject == before.reject == 0.8
    assert after.head == before.head
    told = {"rows", "leak", "validation", "fixed"}  # fixed: now those that were defaults too
    assert {k: v for k, v in after.search.items() if k not in told} == {k: v for k, v in before.search.items() if k not in told}


def test_files_of_validation_and_test_rows_are_named(made: Path, files: Path, tmp_path: Path) -> None:
    for name, first in (("v", 100), ("t", 200)):
        for kind in ("cat", "dog"):
            (tmp_path / name / kind).mkdir(parents=True)
            for i in range(first, first + 4):
                draw(kind, i, (48, 48)).save(tmp_path / name / kind / f"{i}.png")
        ffe.extract(tmp_path / name, tmp_path / f"{name}.h5", backbone="fake")
    model, v, t = (tmp_path / name for name in ("given.ffe", "v.h5", "t.h5"))
    ffe.train(files / "f.h5", model, head="logistic", valid=v, test=t)
    asked = {(): "FEATURES.h5 {} --valid VALID.h5 --test TEST.h5", (t, files / "f.h5", v): "{f} {} --valid {v} --test {t}"}
    for others, named in asked.items():
        said = ffe.forget("dog/dog_001.png", [*others, model], dry_run=True).files[-1].stays
        command = named.format(f"-o {model} --overwrite", f=files / "f.h5", v=v, t=t)
        assert f"these photos: ffe train {command} --head logistic --set " in said


def test_json(made: Path, files: Path) -> None:
    record = json.loads(run("forget", "dog/dog_001.png", files / "f.h5", "--json").stdout)
    (found,) = record["files"]
    assert (record["written"], record["unknown"]) == (True, [])
    assert {"file": str(files / "f.h5"), "kind": "features", "photos": ["dog/dog_001.png"], "rows": 2, "stays": ""}.items() <= (
        found.items()
    )


def test_photos_that_look_alike_are_named(made: Path, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FeatureStore(files / "f.h5") as store:
        plain = store.plain
        phash = store.phash.copy()
    a, b = plain[0], plain[1]
    phash[b] = phash[a] ^ np.uint64(0b101)
    read = FeatureStore._read

    def patched(self: FeatureStore) -> None:
        read(self)
        self.phash = phash

    monkeypatch.setattr(FeatureStore, "_read", patched)
    with FeatureStore(files / "f.h5") as store:
        first, second = store.paths[a], store.paths[b]
    result = run("forget", first, files / "f.h5", "--dry-run")
    assert f"  {second} looks much like one of them and stays; name it too, if it is to go\n" in result.stdout


def test_what_cannot_be_done_is_refused_and_nothing_is_changed(made: Path, files: Path) -> None:
    before = (files / "f.h5").read_bytes()
    photo = "dog/dog_001.png"
    with pytest.raises(DataError, match=r"All photos of '.*f\.h5' are to be forgotten; delete the file instead\."):
        ffe.forget(["cat", "dog"], [files / "f.h5"])
    (files / "other.html").write_text("<p>mine</p>")
    with pytest.raises(SourceError, match=r"other\.html' is no report of ffe; delete it, or take the photos out by hand\."):
        ffe.forget(photo, [files / "f.h5", files / "other.html"])
    with pytest.raises(SourceError, match=r"There is no report '.*none\.html'; check the path\."):
        ffe.forget(photo, [files / "f.h5", files / "none.html"])
    with pytest.raises(BundleError, match=r"There is no model file '.*none\.ffe'; make one"):
        ffe.forget(photo, [files / "f.h5", files / "none.ffe"])
    with pytest.raises(SourceError, match=r"^Name the photos to forget, and the files to forget them in; for example: "):
        ffe.forget([], files / "f.h5")
    ffe.pack([files / "f.h5"], files / "v.h5", virtual=True)
    with pytest.raises(StoreError, match=r"v\.h5' is virtual, its photos lie in its parts; forget them in those, and pack them"):
        ffe.forget(photo, files / "v.h5")
    assert (files / "f.h5").read_bytes() == before


# --anonymous -------------------------------------------------------------------------------------------------------------


def names_and_digests(folder: Path) -> list[bytes]:
    files = [path for path in folder.rglob("*.png") if path.stem != "broken_one"]
    return [mark.encode() for path in files for mark in (path.stem, file_digest(path))]


def found_in(path: Path, marks: list[bytes]) -> list[bytes]:
    content = path.read_bytes()
    return [mark for mark in marks if mark in content]


def test_an_anonymous_model_and_its_report_know_no_photo(made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, page = tmp_path / "m.ffe", tmp_path / "r.html"
    result = run("train", made / "f.h5", "-o", model, "--head", "logistic", "--report", page, "--anonymous")
    assert result.exit_code == 0, result.output
    marks = names_and_digests(made / "photos")
    assert found_in(made / "m.ffe", marks)
    assert found_in(model, marks) == found_in(page, marks) == []
    assert b"data:image/jpeg" not in page.read_bytes()
    assert "not found where the features were made" not in result.stderr
    assert Bundle(model).splits() == []
    assert run("verify", model).exit_code == 0
    scored = run("evaluate", model, made / "f.h5")
    said = "warning: the model keeps no list of its photos (--anonymous), so it is not known whether it was fitted on these"
    assert said in scored.stderr.splitlines()
    unseen = run("evaluate", model, made / "f.h5", "--unseen")
    assert unseen.exit_code == 3
    assert "so nothing tells which it has not seen; leave --unseen out." in unseen.stderr
    tuned = run("finetune", made / "photos", "--from", model, "-o", tmp_path / "t.ffe", "--unfreeze", 0)
    assert tuned.exit_code == 3
    assert "so nothing tells which of them may test; start from a model that was made without that option." in tuned.stderr


def test_trainings_may_be_anonymous_too(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = names_and_digests(made / "photos")
    model = tmp_path / "s.ffe"
    options = ("--size", 48, "--plain", "--epochs", 1)
    page = tmp_path / "r.html"
    result = run("scratch", made / "photos", "-o", tmp_path / "a.ffe", *options, "--anonymous", "--report", page)
    assert result.exit_code == 0, result.output
    assert found_in(tmp_path / "a.ffe", marks) == found_in(page, marks) == []
    assert run("scratch", made / "photos", "-o", model, *options).exit_code == 0
    for name, better in (("b.ffe", True), ("c.ffe", False)):  # trained, or a copy of the given file
        monkeypatch.setattr("ffe.finetuning.trainer.Trainer.improved", better)
        tuned = ("--from", model, "-o", tmp_path / name, "--unfreeze", 0, "--epochs", 1, "--anonymous")
        result = run("finetune", made / "photos", *tuned)
        assert result.exit_code == 0, result.output
        assert found_in(tmp_path / name, marks) == []
        assert run("verify", tmp_path / name).exit_code == 0
