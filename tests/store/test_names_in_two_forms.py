"""``é`` as one character (NFC) and as two (NFD): one class and one file, whatever wrote the name."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from feature_files import seal

from ffe.backbones.resolve import make_spec
from ffe.base.digests import bytes_digest
from ffe.base.feature_layout import FeatureLayout
from ffe.base.hdf5_checks import as_text
from ffe.cli import cli
from ffe.commands.evaluate import evaluate
from ffe.commands.pack import pack
from ffe.commands.tune import train
from ffe.errors import StoreError
from ffe.extraction.run import extract
from ffe.extraction.shards import shard_of
from ffe.predictor import Predictor
from ffe.store.merge import merge
from ffe.store.reader import FeatureStore
from ffe.store.schema import Row, Skipped
from ffe.store.writer import write_store

NFC, NFD = "caf\u00e9", "cafe\u0301"


def photos(pictures: Path, folder: Path, name: str, start: int = 0) -> Path:
    """Eight cats in a class of a name and eight dogs in another; one file bears the name too."""
    for kind, called in (("cat", name), ("dog", "tea")):
        (folder / called).mkdir(parents=True)
        for i in range(start, start + 8):
            shutil.copy(pictures / kind / f"{kind}_{i:03}.png", folder / called / f"{i}.png")
    (folder / name / f"{start}.png").rename(folder / name / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def nfc(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nfc")
    extract(photos(pictures, folder / "photos", NFC), folder / "f.h5", backbone="fake")
    train(folder / "f.h5", folder / "m.ffe", head="logistic")
    return folder


@pytest.fixture(scope="module")
def nfd(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same photos under names as a Mac writes them."""
    folder = tmp_path_factory.mktemp("nfd")
    extract(photos(pictures, folder / "photos", NFD), folder / "f.h5", backbone="fake")
    return folder


def rename_classes(path: Path, *names: str) -> None:
    """Make a feature file one of an earlier version, which kept names as they came."""
    with h5py.File(path, "r+") as file:
        del file.attrs["class_names"]
        file.attrs["class_names"] = as_text(json.dumps(names))
        seal(file)


def test_a_model_scores_either_form(nfc: Path, nfd: Path) -> None:
    for data in ("photos", "f.h5"):
        wanted = evaluate(nfc / "m.ffe", nfc / data).evaluation
        assert wanted.n == 16
        assert evaluate(nfc / "m.ffe", nfd / data).evaluation.confusion == wanted.confusion


def test_packed_files_have_one_class_and_each_image_once(nfc: Path, nfd: Path, tmp_path: Path) -> None:
    summary = pack([nfc / "f.h5", nfd / "f.h5"], tmp_path / "both.h5")
    assert (summary.class_names, summary.rows, summary.duplicates) == ((NFC, "tea"), 16, 16)
    with FeatureStore(tmp_path / "both.h5") as store:
        assert f"{NFC}/{NFC}.png" in store.paths


def test_files_of_one_folder_that_only_look_the_same_are_two(pictures: Path, tmp_path: Path) -> None:
    folder = photos(pictures, tmp_path / "photos", NFC)
    shutil.copy(pictures / "cat" / "cat_009.png", folder / NFC / f"{NFD}.png")
    extract(folder, tmp_path / "f.h5", backbone="fake")
    assert pack([tmp_path / "f.h5"], tmp_path / "packed.h5").rows == 17


def test_a_file_that_only_looks_like_a_row_of_its_folder_stays_skipped(nfc: Path, pictures: Path, tmp_path: Path) -> None:
    """What looks like a row of another folder is that row's picture."""
    folder = photos(pictures, tmp_path / "photos", NFC)
    (folder / NFC / f"{NFD}.png").touch()

    def skipped(*files: Path) -> list[str]:
        extract(folder, tmp_path / "f.h5", backbone="fake", overwrite=True)
        pack([*files, tmp_path / "f.h5"], tmp_path / "packed.h5", overwrite=True)
        with FeatureStore(tmp_path / "packed.h5") as store:
            return [item.path for item in store.skipped]

    assert skipped() == skipped(nfc / "f.h5") == [f"{NFC}/{NFD}.png"]
    (folder / NFC / f"{NFC}.png").unlink()
    assert skipped() == [f"{NFC}/{NFD}.png"]
    assert skipped(nfc / "f.h5") == []


def test_shards_of_one_folder_have_both_of_two_files_that_only_look_the_same(pictures: Path, tmp_path: Path) -> None:
    folder = photos(pictures, tmp_path / "photos", NFC)
    shutil.copy(pictures / "cat" / "cat_009.png", folder / NFC / f"{NFD}.png")
    count = next(count for count in (2, 3, 4) if len({shard_of(f"{NFC}/{name}.png", count) for name in (NFC, NFD)}) == 2)
    assert extract(folder, tmp_path / "f.h5", backbone="fake", shards=count).rows == 17
    with FeatureStore(tmp_path / "f.h5") as store:
        assert {f"{NFC}/{NFC}.png", f"{NFC}/{NFD}.png"} <= {*store.paths}


def test_what_is_packed_does_not_depend_on_how_often_a_folder_comes(nfc: Path, nfd: Path, tmp_path: Path) -> None:
    again = shutil.copy(nfd / "f.h5", tmp_path / "again.h5")
    for number, files in enumerate(itertools.permutations([nfc / "f.h5", nfd / "f.h5", again])):
        summary = pack(files, tmp_path / f"{number}.h5")
        assert (summary.rows, summary.duplicates) == (16, 32)


NAMES = {"one": "\u1e17.png", "two": "\u0113\u0301.png", "three": "e\u0304\u0301.png", "plain": "e.png"}
NAMES |= {"nfc": f"{NFC}.png", "nfd": f"{NFD}.png"}


def feature_file(path: Path, source: str, skipped: str | None = None, **pictures: str) -> FeatureStore:
    """Write a file with a row for each name, of a picture, and one name whose file gave none."""
    rows = [Row(NAMES[name], bytes_digest(picture.encode()), 0, "") for name, picture in pictures.items()]
    unreadable = [Skipped(NAMES[skipped], "unreadable", "It is no picture.")] if skipped else []
    write_store(
        path, spec=make_spec("fake")[0], layout=FeatureLayout.of_shape((4,)), class_names=("e",), rows=rows, source=source,
        skipped=unreadable, features=lambda row: np.zeros(4, np.float32),
    )  # fmt: skip
    return FeatureStore(path)


def pictures_of(*stores: FeatureStore) -> dict[str, str]:
    """Return the digest of each path of the files, merged."""
    return {row.path: row.sha256 for row in merge(stores).rows}


def test_each_source_keeps_its_own_in_any_order_of_files(tmp_path: Path) -> None:
    """What one source tells apart is told apart in all; of other names that look the same, the first is taken."""
    stores = [
        feature_file(tmp_path / "0.h5", "x", one="a", plain="c"),
        feature_file(tmp_path / "1.h5", "y", three="d", plain="c", nfd="e"),
        feature_file(tmp_path / "2.h5", "x", three="d", two="b", nfc="e"),
        feature_file(tmp_path / "3.h5", "y", two="b", one="a"),
        feature_file(tmp_path / "4.h5", "z", three="d", nfc="e"),
    ]
    for order in itertools.permutations(stores):
        merged = merge(order)
        spelt = {row.path for row in merged.rows}
        cafe = next(name for store in order for name in store.paths if name in {NAMES["nfc"], NAMES["nfd"]})
        assert spelt == {NAMES[name] for name in ("one", "two", "three", "plain")} | {cafe}
        assert merged.duplicates == 7


def test_two_files_of_one_source_are_no_contradiction_to_one_of_another(tmp_path: Path) -> None:
    one = feature_file(tmp_path / "one.h5", "x", nfc="a")
    both = feature_file(tmp_path / "both.h5", "y", nfc="a", nfd="b")
    assert pictures_of(one, both) == pictures_of(both, one) == pictures_of(both)
    parts = [feature_file(tmp_path / "2.h5", "y", nfd="b"), feature_file(tmp_path / "3.h5", "y", nfc="a")]
    for order in itertools.permutations([one, *parts]):
        assert pictures_of(*order) == pictures_of(both)
    other = feature_file(tmp_path / "other.h5", "z", nfd="a")
    for order in ([one, both, other], [other, both, one], [both, one, other]):
        with pytest.raises(StoreError, match=r"is one picture in .* and another in "):
            merge(order)


def test_a_skipped_file_is_known_as_rows_are(tmp_path: Path) -> None:
    row = feature_file(tmp_path / "row.h5", "x", nfc="a")
    bad = feature_file(tmp_path / "bad.h5", "y", skipped="nfd", plain="c")
    both = feature_file(tmp_path / "both.h5", "z", skipped="nfd", nfc="a")
    again = feature_file(tmp_path / "again.h5", "v", skipped="nfc", plain="c")

    def skipped(*stores: FeatureStore) -> set[tuple[str, ...]]:
        return {tuple(item.path for item in merge(order).skipped) for order in itertools.permutations(stores)}

    assert skipped(row, bad) == {()}
    assert skipped(row, both) == skipped(row, bad, both) == {(NAMES["nfd"],)}
    assert skipped(bad, again) == {(NAMES["nfc"],), (NAMES["nfd"],)}  # as the first file spells it, once
    assert {row.path for row in merge([bad, row]).rows} == {NAMES["nfc"], NAMES["plain"]}


def test_earlier_files_and_models_are_read_in_one_form(nfc: Path, tmp_path: Path) -> None:
    old = shutil.copy(nfc / "f.h5", tmp_path / "old.h5")
    rename_classes(old, NFD, "tea")
    with FeatureStore(old) as store, FeatureStore(nfc / "f.h5") as now:
        assert store.class_names == (NFC, "tea")
        assert store.labels.tolist() == now.labels.tolist()


def test_two_forms_of_a_class_in_an_earlier_file_are_one_class(nfc: Path, tmp_path: Path) -> None:
    old = shutil.copy(nfc / "f.h5", tmp_path / "old.h5")
    rename_classes(old, NFD, NFC)
    with FeatureStore(old) as store:
        assert (store.class_names, set(store.labels.tolist())) == ((NFC,), {0})


def test_reports_and_checks_find_pictures_in_either_form(nfc: Path, nfd: Path, tmp_path: Path) -> None:
    arguments = ["verify", str(nfc / "f.h5"), "--recompute", "16", "--source", str(nfd / "photos"), "--json"]
    result = CliRunner().invoke(cli, arguments)
    assert (result.exit_code, json.loads(result.stdout)["recomputed"]) == (0, 16)


def test_a_model_answers_with_one_form(nfc: Path) -> None:
    assert Predictor(nfc / "m.ffe").class_names == (NFC, "tea")
