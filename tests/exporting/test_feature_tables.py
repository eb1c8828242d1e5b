"""Feature files as tables: each format holds all of the file, memory stays flat, and what cannot be is said in one sentence."""

from __future__ import annotations

import csv
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from ffe.base.digests import bytes_digest
from ffe.base.feature_layout import FeatureLayout, Part
from ffe.base.file_stat import NO_STAMP
from ffe.base.text import bytes_text
from ffe.bundle.io import Bundle
from ffe.cli import cli
from ffe.commands.evaluate import evaluate
from ffe.commands.export import export
from ffe.commands.export_features import export_features
from ffe.commands.tune import train
from ffe.errors import FfeError
from ffe.exporting import feature_table
from ffe.exporting.read_table import open_features
from ffe.exporting.table_formats import TABLE_FORMATS
from ffe.specs import AugmentSpec, BackboneSpec, ExtractSpec, PreprocessSpec, StoredDtype, ViewsSpec
from ffe.store.reader import FeatureStore
from ffe.store.schema import Row
from ffe.store.writer import write_store

pyarrow = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402

TEXTS = ("path", "label", "split", "group", "sha256")
LAYOUT = FeatureLayout((Part(2, 3, 4, prefix=1),))


def write_features(path: Path, count: int, layout: FeatureLayout, dtype: StoredDtype = "float32") -> np.ndarray:
    """Write rows with everything that a row can have; return their features in the order of the file."""
    spec = ExtractSpec(BackboneSpec("fake", "random", "0" * 64), PreprocessSpec((32, 32), "none"), dtype=dtype)
    rng = np.random.default_rng(0)
    features = {
        (f"{'=1' if i % 4 < 2 else 'cät'},\n {i // 2}.jpg", i % 2): rng.standard_normal(layout.dims).astype(dtype)
        * 10.0 ** (i % 9 - 4)
        for i in range(count)
    }
    rows = [
        Row(
            name,
            bytes_digest(name.encode()),
            i // 2 % 3 - 1,
            ("train", "valid", "test", "")[i // 2 % 4],
            view,
            2**64 - 1 - i,
            "bürst" if i // 2 % 5 else "",
        )
        for i, (name, view) in enumerate(features)
    ]
    write_store(
        path,
        spec=spec,
        layout=layout,
        class_names=("=cat", "dög"),
        rows=rows,
        features=lambda row: features[row.path, row.view],
        source="photos",
        views=ViewsSpec(1, AugmentSpec(flip=True)),
    )
    with FeatureStore(path) as store:
        return np.stack([store.raw_row(i) for i in range(count)])


def read_parquet(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    table = parquet.read_table(path)
    columns = {name: table[name].to_pylist() for name in table.column_names}
    assert not any("" in columns[name] for name in TEXTS)  # nulls instead
    columns |= {name: [text or "" for text in columns[name]] for name in TEXTS}
    columns["features"] = table["features"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
    return json.loads(table.schema.metadata[b"ffe"]), columns


def read_npz(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    with np.load(path) as file:
        about = json.loads(file["ffe.json"])
        assert file["class_names"].tolist() == about["class_names"]
        return about, {name: file[name] for name in file.files if name not in {"ffe.json", "class_names"}}


def read_csv(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    about = json.loads(Path(f"{path}.json").read_text("utf-8"))
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    columns: dict[str, Any] = {name: [row[i] for row in rows] for i, name in enumerate(header)}
    dtype = np.dtype(about["spec"]["dtype"])
    features = np.asarray([columns.pop(name) for name in header if name.startswith("feature_")]).T.astype(dtype)
    assert all(label.startswith(("'=cat", "dög")) for label in columns["label"] if label)  # spreadsheets calculate none
    columns["label"] = [label.removeprefix("'") for label in columns["label"]]
    columns |= {name: list(map(int, columns[name])) for name in ("label_index", "view", "phash")}
    return about, {**columns, "features": features}


def read_torch(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read it by the format's own description, and where they are installed, check that its library sees the same."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    about = json.loads(header.pop("__metadata__")["ffe"])
    types = {"F32": "<f4", "F16": "<f2", "I64": "<i8", "U64": "<u8", "U8": "u1"}
    columns: dict[str, Any] = {}
    for name, value in header.items():
        first, end = value["data_offsets"]
        columns[name] = np.frombuffer(data[start + first : start + end], types[value["dtype"]]).reshape(value["shape"])
    try:
        from safetensors.numpy import load_file
    except ImportError:
        pass
    else:
        theirs = load_file(path)
        assert set(theirs) == set(columns)
        assert all(theirs[name].dtype == columns[name].dtype for name in theirs)
        assert all(np.array_equal(theirs[name], columns[name]) for name in theirs)
    return about, columns | {name: [bytes(row).rstrip(b"\0").decode() for row in columns[name]] for name in TEXTS}


READERS: dict[str, Callable[[Path], tuple[dict[str, Any], dict[str, Any]]]] = {
    **{"parquet": read_parquet, "npz": read_npz, "csv": read_csv, "torch": read_torch},
}


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("features") / "features.h5"
    write_features(path, 60, LAYOUT)
    return path


def test_there_is_a_reader_for_each_format() -> None:
    assert set(READERS) == set(TABLE_FORMATS)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_table_holds_all_that_the_file_holds(
    tmp_path: Path, name: str, dtype: StoredDtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_table, "_BLOCK_BYTES", 1000)  # several blocks
    stored = write_features(tmp_path / "f.h5", 60, LAYOUT, dtype)
    done = export_features(tmp_path / "f.h5", tmp_path / "out", format=name)
    assert (done.format, done.rows, done.dims, done.bytes) == (name, 60, LAYOUT.dims, (tmp_path / "out").stat().st_size)
    about, columns = READERS[name](tmp_path / "out")
    assert columns["features"].dtype == np.dtype(dtype)
    assert np.array_equal(columns["features"], stored)
    with FeatureStore(tmp_path / "f.h5") as store:
        names = (*store.class_names, "")
        wanted = {
            "path": [f"./{path}" if name == "csv" and path.startswith("=") else path for path in store.paths],
            "label": [names[label] for label in store.labels],
            "label_index": store.labels.tolist(),
            **{"split": store.split, "group": store.group, "sha256": store.sha256},
            **{"view": store.views.tolist(), "phash": store.phash.tolist()},
        }
        assert {one: list(columns[one]) for one in wanted} == {one: list(values) for one, values in wanted.items()}
        assert ExtractSpec.from_json(about["spec"]) == store.spec
        assert (about["layout"], about["class_names"]) == (store.layout.to_json(), ["=cat", "dög"])
    assert about["views"] is not None
    assert set(columns) == {*wanted, "features"}


@pytest.mark.parametrize("name", READERS)
def test_memory_stays_flat(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_table, "_BLOCK_BYTES", 64 << 10)
    layout, most, before = FeatureLayout.of_shape((256,)), 0, pyarrow.total_allocated_bytes()
    raw_rows = FeatureStore.raw_rows

    def counted(store: FeatureStore, first: int, count: int) -> np.ndarray:
        nonlocal most
        most = max(most, count * 1024, pyarrow.total_allocated_bytes() - before)
        return raw_rows(store, first, count)

    monkeypatch.setattr(FeatureStore, "raw_rows", counted)
    peaks = []
    for rows in (250, 2000):
        write_features(tmp_path / "f.h5", rows, layout)
        before = pyarrow.total_allocated_bytes()
        tracemalloc.start()
        done = export_features(tmp_path / "f.h5", tmp_path / f"{rows}", format=name)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert done.bytes > rows * 900
    small_columns = 1750 * 700  # names, digests and so on, which an open feature file holds
    assert peaks[1] - peaks[0] < small_columns, peaks  # the features are 1.8 MB more
    assert most < 1 << 20


@pytest.mark.parametrize("name", ["parquet", "npz"])
def test_a_table_trains_and_scores_as_its_feature_file_does(fake_store: Path, tmp_path: Path, name: str) -> None:
    table = export_features(fake_store, tmp_path / f"table.{name}").output
    wanted = train(fake_store, tmp_path / "of_file.ffe", head="logistic")
    found = train(table, tmp_path / "of_table.ffe", head="logistic")
    of_file, of_table = (Bundle(tmp_path / f"{name}.ffe") for name in ("of_file", "of_table"))
    records = [one.manifest.to_json() for one in (of_file, of_table)]
    assert len(records[0].pop("leaderboard")) == len(records[1].pop("leaderboard"))  # it tells how long it took
    assert records[0] == records[1]  # the digests of head, splits and card too
    assert found.evaluation == wanted.evaluation
    scores = [evaluate(tmp_path / "of_file.ffe", data).to_json(answers=True) for data in (fake_store, table)]
    assert scores[0] == scores[1]


def test_rows_may_be_fewer_and_in_another_order_and_labels_others(features: Path, tmp_path: Path) -> None:
    table = parquet.read_table(export_features(features, tmp_path / "a.parquet").output)
    order = [*range(59, 9, -1)]
    labels = pyarrow.array(["emu" if text is None else text for text in table["label"].to_pylist()])
    changed = table.set_column(table.column_names.index("label"), "label", labels).take(order)
    parquet.write_table(changed, tmp_path / "b.parquet", row_group_size=7)
    with FeatureStore(features) as store, open_features(tmp_path / "b.parquet") as found:
        assert found.class_names == ("=cat", "dög", "emu")
        assert len(found) == 50
        place = {(path, view): i for i, (path, view) in enumerate(zip(store.paths, store.views.tolist(), strict=True))}
        rows = np.asarray([place[key] for key in zip(found.paths, found.views.tolist(), strict=True)])
        assert np.array_equal(found.features(), store.features(rows))
        assert np.array_equal(found.labels, np.where(store.labels[rows] < 0, 2, store.labels[rows]))
        assert (found.spec, found.layout, found.made_views) == (store.spec, store.layout, store.made_views)
        assert found.path == tmp_path / "b.parquet"


def _edited(table: Any, **changes: Any) -> Any:
    about = json.loads(table.schema.metadata[b"ffe"])
    about |= changes
    return table.replace_schema_metadata({"ffe": json.dumps(about)})


def test_tables_that_cannot_be_read_say_why(features: Path, tmp_path: Path) -> None:
    table = parquet.read_table(export_features(features, tmp_path / "a.parquet").output)
    with FeatureStore(features) as store:
        int8 = replace(store.spec, precision="int8", quantized_sha256="1" * 64).to_json()
    place = tmp_path / "b.parquet"
    sentences = {
        "does not say which network made its features, as tables of 'ffe export' do; give one of those, or a feature file.": (
            table.replace_schema_metadata(None)
        ),
        "was written by a later version of ffe (9.9); install that version.": _edited(table, version=2, ffe_version="9.9"),
        "holds int8 features, whose backbone only the feature file has; give the feature file.": _edited(table, spec=int8),
        "lacks what it had (KeyError": table.drop_columns(["view"]),
        "(ValueError: two rows have the same path and view); export it again.": pyarrow.concat_tables([table, table]),
        "export it again.": _edited(table, layout=[1, 1, 5]),
    }
    for sentence, changed in sentences.items():
        parquet.write_table(changed, place)
        with pytest.raises(FfeError) as raised, open_features(place):
            pass
        assert sentence in str(raised.value)
        assert f"'{place}'" in str(raised.value)
    place.write_bytes(place.read_bytes()[:3000])
    damaged = r"The table '.*b\.parquet' is damaged, or lacks what it had \(.*\); export it again\."
    with pytest.raises(FfeError, match=damaged), open_features(place):
        pass
    np.savez(tmp_path / "foreign.npz", features=np.zeros((3, 4)), label=np.zeros(3))
    with pytest.raises(FfeError, match=r"'.*foreign\.npz' does not say which network made its features"):
        train(tmp_path / "foreign.npz", head="logistic")


def _refusal(place: Path) -> str:
    with pytest.raises(FfeError) as raised, open_features(place):
        pass
    return str(raised.value)


def test_an_npz_that_numpy_wrote_again_is_the_same(features: Path, tmp_path: Path) -> None:
    with np.load(export_features(features, tmp_path / "a.npz").output) as file:
        arrays = {name: file[name] for name in file.files}
    place = tmp_path / "b.npz"
    np.savez(place, **arrays | {"features": np.asfortranarray(arrays["features"])})
    with FeatureStore(features) as store, open_features(place) as found:
        assert np.array_equal(found.features(), store.features())
        assert found.rows() == [replace(row, stat=NO_STAMP) for row in store.rows()]
    np.savez(place, **arrays | {"features": arrays["features"].astype(np.float64)})
    assert _refusal(place) == f"The features of '{place}' are float64, but were float32; write them so, or export it again."
    empty = {name: arrays[name][:0] for name in (*TEXTS, "label_index", "view", "phash", "features")}
    np.savez(place, **arrays | empty)
    assert _refusal(place) == f"The table '{place}' has no rows; give one with some, or the feature file."
    np.savez(place, **arrays | {"split": np.full(60, "tset")})
    assert _refusal(place) == f"'{place}' has the split 'tset'; use train, valid or test, or leave it empty."
    damaged = f"The table '{place}' is damaged, or lacks what it had ({{}}); export it again."
    np.savez(place, **arrays | {"view": np.arange(60)})
    assert _refusal(place) == damaged.format("its columns do not fit together")
    np.savez(place, **arrays | {name: arrays[name][1:] for name in empty if name != "features"})
    assert _refusal(place) == damaged.format("ValueError: it has not as many features as paths")


def test_parquet_may_have_lists_of_any_kind(features: Path, tmp_path: Path) -> None:
    table = parquet.read_table(export_features(features, tmp_path / "a.parquet").output)
    at, place = table.column_names.index("features"), tmp_path / "b.parquet"
    values = table["features"].to_pylist()

    def written(rows: list[Any], kind: Any) -> Path:
        parquet.write_table(table.set_column(at, "features", pyarrow.array(rows, kind)), place)
        return place

    plain = pyarrow.list_(pyarrow.float32())
    for kind in (plain, pyarrow.large_list(pyarrow.float32())):
        with FeatureStore(features) as store, open_features(written(values, kind)) as found:
            assert np.array_equal(found.features(), store.features())
    for wrong in ([*values[:-2], values[-2][:-1], [*values[-1], 0.0]], [*values[:-1], None]):  # the first has as many in all
        assert "(ValueError: a row has not 28 features); export it again." in _refusal(written(wrong, plain))
    assert "are float64, but were float32; write them so" in _refusal(written(values, pyarrow.list_(pyarrow.float64())))
    assert "lacks what it had (" in _refusal(written([1.0] * 60, pyarrow.float32()))
    parquet.write_table(table.slice(0, 0), place)
    assert _refusal(place) == f"The table '{place}' has no rows; give one with some, or the feature file."


@pytest.mark.parametrize("name", ["parquet", "npz"])
def test_commands_that_take_no_table_say_that_it_is_one(features: Path, tmp_path: Path, name: str) -> None:
    place = export_features(features, tmp_path / f"a.{name}").output
    said = f"ffe: '{place}' is a table, which 'ffe tune', 'train' and 'evaluate' take; give "
    of_features = (["similar", place, "--row", "0"], ["info", place], ["export", place, "-o", "x.csv"])
    for command in of_features:
        result = CliRunner().invoke(cli, list(map(str, command)))
        assert result.stderr == f"{said}the feature file that it was made of.\n"
    result = CliRunner().invoke(cli, ["predict", str(place), str(tmp_path)])
    assert f"{said}a model.\n" in result.stderr


@pytest.mark.parametrize("name", READERS)
def test_progress_is_told_block_by_block(features: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_table, "_BLOCK_BYTES", 25 * LAYOUT.dims * 4)
    told: list[tuple[int, int]] = []
    export(features, tmp_path / "out", format=name, progress=lambda done, total: told.append((done, total)))
    assert told == [(25, 60), (50, 60), (60, 60)]


@pytest.mark.parametrize("name", ["parquet", "npz"])
def test_a_damaged_byte_is_found_or_changes_nothing(features: Path, tmp_path: Path, name: str) -> None:
    place = tmp_path / f"a.{name}"
    data = export_features(features, place).output.read_bytes()
    said: list[str] = []
    with FeatureStore(features) as store:
        rows, values = [replace(row, stat=NO_STAMP) for row in store.rows()], store.features()
        for at in np.random.default_rng(0).integers(4, len(data), 60).tolist():
            place.write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
            try:
                with open_features(place) as table:
                    assert (table.rows(), table.class_names, table.spec) == (rows, store.class_names, store.spec), at
                    assert np.array_equal(table.features(), values), at
            except FfeError as error:
                said.append(str(error))
    assert len(said) >= 30
    assert all(str(place) in text for text in said)


@pytest.mark.parametrize("name", READERS)
def test_a_full_disk_leaves_nothing_and_is_said(features: Path, tmp_path: Path, name: str) -> None:
    """The limit on the size of a file stands in for the end of the disk: the system itself refuses to write."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(FfeError) as raised:
            export_features(features, tmp_path / "out", format=name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(raised.value) == (
        f"The table '{tmp_path / 'out'}' cannot be written: the disk of '{tmp_path}', or a limit of yours (ulimit -f), "
        "takes no file so large; raise it, or choose another place."
    )
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_killed_leaves_no_half_table(features: Path, tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom ffe.commands.export_features import export_features\n"
        "from ffe.exporting import feature_table\nfeature_table._BLOCK_BYTES = 1000\n"
        "from ffe.store.reader import FeatureStore\nread = FeatureStore.raw_rows\n"
        "def killed(store, first, count):\n"
        "    if first > 20: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return read(store, first, count)\n"
        "FeatureStore.raw_rows = killed\nexport_features(sys.argv[1], sys.argv[2], overwrite=True)\n"
    )
    place = tmp_path / "out.csv"
    before = export_features(features, place).output.read_bytes()
    done = subprocess.run([sys.executable, "-c", code, features, place], timeout=100, check=False)
    assert done.returncode == -signal.SIGKILL
    assert place.read_bytes() == before


def test_outputs_that_cannot_be_are_refused(features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(output: object, source: Path = features, **options: Any) -> str:
        with pytest.raises(FfeError) as raised:
            export_features(source, str(output), **options)
        return str(raised.value)

    for name in ("x.txt", "x.onnx", "x"):
        assert refused(name) == (
            f"The ending of '{name}' is that of no table of features; end the name in .parquet, .npz, .csv or .safetensors."
        )
    assert refused("x", format="parquets") == (
        "A feature file cannot be exported as 'parquets'; choose parquet, npz, csv or torch. Did you mean 'parquet'?"
    )
    assert refused("a/x.csv", format="npz") == ("'a/x.csv' has the ending of another format than npz; name the output 'a/x.npz'.")
    own = tmp_path / "own.h5"
    shutil.copy(features, own)
    assert refused(own, own, format="npz", overwrite=True) == (
        f"'{own}' is a feature file that is read, so it is not replaced; choose another output."
    )
    (tmp_path / "mine.csv").write_text("path,label\n")
    for overwrite in (False, True):
        assert refused(tmp_path / "mine.csv", overwrite=overwrite) == (
            f"'{tmp_path / 'mine.csv'}' exists and is no table of ffe, so it is not replaced; choose another name for the table."
        )
    for name, kind in TABLE_FORMATS.items():
        place = tmp_path / f"again{kind.suffix}"
        first = export_features(features, place)
        before = place.read_bytes()
        assert (
            refused(place) == f"'{place}' exists and is a table; choose another output, or replace it with --overwrite "
            "(in Python overwrite=True)."
        )
        assert export_features(features, place, overwrite=True) == first
        assert place.read_bytes() == before, name  # the same file, the same bytes
    assert first.to_json()["about"] is None
    os.unlink(tmp_path / "again.csv")
    assert f"'{tmp_path / 'again.csv.json'}' exists and is a table" in refused(tmp_path / "again.csv")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert refused(tmp_path / "x.parquet") == (
        "The format parquet needs the package pyarrow, which is not installed; "
        "install it with 'pip install pyarrow', or choose another --format."
    )
    with (
        pytest.raises(FfeError, match=r"A Parquet file needs the package pyarrow, which is not installed; .*, or give a feature"),
        open_features(tmp_path / "again.parquet"),
    ):
        pass


def test_the_command_says_what_it_wrote(features: Path, tmp_path: Path) -> None:
    def run(*arguments: object) -> Result:
        return CliRunner().invoke(cli, ["export", *map(str, arguments)])

    place = tmp_path / "t.csv"
    result = run(features, "-o", place)
    size = bytes_text(place.stat().st_size)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{place}: 60 rows of 28 features, csv, {size}\n{place}.json: how the features were made\n"
    found = json.loads(run(features, "-o", tmp_path / "t.npz", "--json").stdout)
    assert (found["format"], found["rows"], found["about"]) == ("npz", 60, None)
    assert run(features, "-o", place).stderr.startswith(f"ffe: '{place}' exists and is a table; ")
