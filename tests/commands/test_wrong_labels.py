"""``suggest --wrong``: which labels are doubted, who judges them, and what extract makes of the corrected list."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import ffe
from ffe.backbones.resolve import make_spec
from ffe.base.feature_layout import FeatureLayout
from ffe.cli import cli
from ffe.errors import DataError, ModelMismatchError, SourceError
from ffe.images.drawings import draw
from ffe.store.reader import FeatureStore
from ffe.store.schema import Row
from ffe.store.writer import write_store

CLASSES, DIMS, COUNT, WRONG = ("cat", "dog", "emu"), 12, 90, (7, 22, 50, 71)


def write(path: Path, seed: int, labels: list[int], classes: tuple[str, ...] = CLASSES) -> Path:
    """Write features that lie around their true class, which is the number of the row modulo 3; labels may be others."""
    rng = np.random.default_rng(seed)
    values = np.eye(DIMS, dtype=np.float32)[np.arange(len(labels)) % 3] + rng.normal(scale=0.02, size=(len(labels), DIMS))
    write_store(
        path,
        spec=make_spec("fake")[0],
        layout=FeatureLayout.of_shape((1, 1, DIMS)),
        class_names=classes,
        rows=[Row(f"{i:03d}.jpg", f"{seed}{i:063x}", label, "", group=f"g{i // 6}") for i, label in enumerate(labels)],
        features=lambda row: values[int(row.path[:3])].astype(np.float32),
    )
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Features with four wrong labels and one row without, a model that was fitted on them, and features of other photos."""
    folder = tmp_path_factory.mktemp("labels")
    wrong = [(i + (i in WRONG)) % 3 for i in range(COUNT)]
    known = write(folder / "known.h5", 1, [*wrong, -1])
    ffe.train(known, folder / "m.ffe", head="logistic", with_backbone=False)
    ffe.train(known, folder / "anonymous.ffe", head="svm", with_backbone=False, anonymous=True)
    return {
        "known": known,
        "model": folder / "m.ffe",
        "anonymous": folder / "anonymous.ffe",
        "other": write(folder / "other.h5", 2, [(i + (i in WRONG)) % 3 for i in range(60)]),
    }


def read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


@pytest.mark.parametrize(
    ("model", "data", "by"), [("model", "known", "folds"), ("anonymous", "known", "folds"), ("model", "other", "model")]
)
def test_the_wrong_labels_come_first_and_no_others(
    files: dict[str, Path], model: str, data: str, by: str, tmp_path: Path
) -> None:
    found = ffe.wrong_labels(files[model], files[data], tmp_path / "wrong.csv")
    count = COUNT if data == "known" else 60
    there = {f"{i:03d}.jpg": i for i in WRONG if i < count}
    assert {one.path for one in found.images} <= set(there)
    assert len(found.images) >= (2 if model == "model" else 4)  # whose label is less sure than the mean is not named
    assert (found.by, found.photos) == (by, count)
    assert found.skipped == (("090.jpg",) if data == "known" else ())
    for one in found.images:
        assert (one.label, one.guess) == (CLASSES[(there[one.path] + 1) % 3], CLASSES[there[one.path] % 3])
        assert one.probability_label < 0.3 < 0.5 < one.probability_guess
    rows = read(tmp_path / "wrong.csv")
    assert list(rows[0]) == ["path", "label", "split", "group", "guess", "probability_label", "probability_guess"]
    assert [Path(row["path"]).name for row in rows[: len(found.images)]] == [one.path for one in found.images]
    rest = [Path(row["path"]).name for row in rows[len(found.images) :]]
    assert rest == sorted(rest)
    assert all(row["guess"] == row["probability_guess"] == "" for row in rows[len(found.images) :])
    assert {row["group"] for row in rows} >= {"g0", "g1"}
    labels = {Path(row["path"]).name: row["label"] for row in rows}
    with FeatureStore(files[data]) as store:
        given = ["" if label < 0 else CLASSES[label] for label in store.labels.tolist()]
        assert labels == dict(zip(store.paths, given, strict=True))


def test_extract_takes_the_corrected_list_back_and_computes_nothing(pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(pictures, folder)
    ffe.extract(folder, tmp_path / "f.h5", backbone="fake")
    ffe.train(tmp_path / "f.h5", tmp_path / "m.ffe", head="logistic")
    options = ["suggest", str(tmp_path / "m.ffe"), str(tmp_path / "f.h5"), "--wrong", "-o", str(folder / "wrong.csv")]
    answer = CliRunner().invoke(cli, [*options, "--json"])
    assert answer.exit_code == 0, answer.output
    found = json.loads(answer.stdout)
    assert found["photos"] == 40
    rows = read(folder / "wrong.csv")
    assert {row["path"] for row in rows} == {f"{kind}/{kind}_{i:03d}.png" for kind in ("cat", "dog") for i in range(20)}
    rows[0]["label"], rows[1]["label"] = "dog", "emu"
    with (folder / "wrong.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    summary = ffe.extract(folder / "wrong.csv", tmp_path / "f.h5")
    assert (summary.computed, summary.read, summary.images) == (0, 0, 40)
    with FeatureStore(tmp_path / "f.h5") as store:
        labels = {path: store.class_names[label] for path, label in zip(store.paths, store.labels.tolist(), strict=True)}
    assert (labels[rows[0]["path"]], labels[rows[1]["path"]]) == ("dog", "emu")
    assert labels[rows[2]["path"]] == rows[2]["label"]


def test_photos_that_the_model_does_not_know_are_read_and_others_need_features(
    fake_bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"The model was fitted on '.*' of '.*', so it cannot judge its label; make a"):
        ffe.wrong_labels(fake_bundle, pictures, tmp_path / "wrong.csv")
    for kind in ("cat", "dog"):
        (tmp_path / "new" / kind).mkdir(parents=True)
        for number in range(40, 52):
            draw(kind, number, (48, 48)).save(tmp_path / "new" / kind / f"{number}.png")
    (tmp_path / "new" / "cat" / "broken.png").write_bytes(b"no picture")
    answer = CliRunner().invoke(
        cli, ["suggest", str(fake_bundle), str(tmp_path / "new"), "--wrong", "-o", str(tmp_path / "wrong.csv")]
    )
    assert answer.exit_code == 0, answer.output
    assert "probably wrong, of 24 photos" in answer.output
    assert "1 file was not judged, for want of a label or of a picture ('cat/broken.png')" in answer.output
    assert len(read(tmp_path / "wrong.csv")) == 25


@pytest.mark.parametrize("read_anew", [False, True], ids=["features", "photos"])
def test_a_photo_in_two_classes_comes_first_and_both_places_are_said(fake_bundle: Path, tmp_path: Path, read_anew: bool) -> None:
    for kind in ("cat", "dog"):
        (tmp_path / "new" / kind).mkdir(parents=True)
        for number in range(40, 52):
            draw(kind, number, (48, 48)).save(tmp_path / "new" / kind / f"{number}.png")
    shutil.copy(tmp_path / "new" / "cat" / "45.png", tmp_path / "new" / "dog" / "twin.png")
    if not read_anew:
        ffe.extract(tmp_path / "new", tmp_path / "new.h5", backbone="fake")
    out = tmp_path / "wrong.csv"
    asked = ["suggest", str(fake_bundle), str(tmp_path / ("new" if read_anew else "new.h5")), "--wrong", "-o", str(out)]
    answer = CliRunner().invoke(cli, asked)
    assert answer.exit_code == 0, answer.output
    assert "1 photo stands in more than one class ('cat/45.png' (cat) and 'dog/twin.png' (dog)); look for" in answer.stderr
    first = read(out)[0]
    assert (first["path"].endswith("new/dog/twin.png"), first["label"], first["guess"]) == (True, "dog", "cat")
    assert answer.stdout.splitlines()[1].startswith("  dog/twin.png: dog, rather cat (")


def test_what_is_refused(files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "wrong.csv"
    with pytest.raises(SourceError, match="have no labels; give one folder per class"):
        ffe.wrong_labels(files["model"], write(tmp_path / "none.h5", 3, [-1] * 5, ()), out)
    with pytest.raises(DataError, match="are of one class"):
        ffe.wrong_labels(files["anonymous"], write(tmp_path / "one.h5", 3, [0] * 9), out)
    with pytest.raises(DataError, match=r"The class 'emu' of '.*' has a single photo, or photos that all belong together"):
        ffe.wrong_labels(files["anonymous"], write(tmp_path / "alone.h5", 3, [*([0, 1] * 9), 2]), out)
    with pytest.raises(ModelMismatchError, match="has the class 'fox', which the model"):
        ffe.wrong_labels(files["model"], write(tmp_path / "fox.h5", 3, [0, 1] * 3, ("cat", "fox")), out)
    monkeypatch.setattr("ffe.labelling.judged.find_label_errors", lambda *given: None)
    with pytest.raises(DataError, match="The answers are too unclear to tell which labels are wrong"):
        ffe.wrong_labels(files["model"], files["other"], out)
    assert not out.exists()
    asked = ["suggest", str(files["model"]), str(files["known"]), "--wrong", "-n", "5", "-o", str(out)]
    assert "-n and --by choose photos to label; with --wrong all are listed" in CliRunner().invoke(cli, asked).output


def test_a_network_that_learnt_from_the_photos_does_not_judge_them(
    fake_bundle: Path, fake_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ffe.labelling.judged.LEARNT", ("imagenet", "none", "fake", "random", ""))
    with pytest.raises(DataError, match=r"The whole network of '.*' may have learnt from photos of"):
        ffe.wrong_labels(fake_bundle, fake_store, tmp_path / "wrong.csv")


def test_blocks_are_all_that_is_read_at_once(files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_at_once = []
    features = FeatureStore.features

    def counted(self: FeatureStore, rows: np.ndarray | None = None) -> np.ndarray:
        read_at_once.append(len(self) if rows is None else len(rows))
        return features(self, rows)

    monkeypatch.setattr(FeatureStore, "features", counted)
    monkeypatch.setattr("ffe.tuning.out_of_fold._BLOCK_BYTES", 10 * 4 * DIMS)
    ffe.wrong_labels(files["model"], files["other"], tmp_path / "wrong.csv")
    assert (max(read_at_once), sum(read_at_once)) == (10, 60)
