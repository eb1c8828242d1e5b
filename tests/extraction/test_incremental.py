"""The same command again: what has not changed is not opened, and the file is that of a fresh run, to the byte."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from feature_files import seal

from ffe.base import file_stat
from ffe.errors import SourceError
from ffe.extraction import incremental as changes_module
from ffe.extraction.run import ExtractSummary, Progress, extract
from ffe.images.drawings import draw
from ffe.store import schema as layout
from ffe.store.reader import FeatureStore

ROOT = Path(__file__).resolve().parent.parent.parent


def run(source: Path, output: Path, **options: Any) -> ExtractSummary:
    return extract(source, output, **{"backbone": "fake", "batch_size": 4, **options})


def counts(summary: ExtractSummary) -> dict[str, int]:
    """Return what changed, without zeros, and what was done about it."""
    found = {**asdict(summary.changes), "computed": summary.computed, "read": summary.read}
    return {name: count for name, count in found.items() if count}


@pytest.fixture
def output(source: Path, tmp_path: Path) -> Path:
    """A feature file of these."""
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "features.h5"
    run(source, path)
    return path


def assert_as_fresh(source: Path, output: Path, **options: Any) -> None:
    """Check that a file has the bytes of a fresh run over the same folder, and that nothing lies beside it."""
    fresh = output.parent.parent / "fresh.h5"
    fresh.unlink(missing_ok=True)
    run(source, fresh, **options)
    assert output.read_bytes() == fresh.read_bytes()
    assert [file.name for file in output.parent.iterdir()] == [output.name]


def add(source: Path) -> dict[str, int]:
    draw("dog", 77, (48, 48)).save(source / "dog" / "new.png")
    return {"unchanged": 12, "new": 1, "computed": 1, "read": 1}


def change(source: Path) -> dict[str, int]:
    draw("dog", 78, (48, 48)).save(source / "dog" / "dog_000.png")
    return {"unchanged": 11, "changed": 1, "computed": 1, "read": 1}


def remove(source: Path) -> dict[str, int]:
    (source / "cat" / "cat_002.png").unlink()
    return {"unchanged": 11, "removed": 1}


def rename(source: Path) -> dict[str, int]:
    (source / "cat" / "cat_002.png").rename(source / "cat" / "tom.png")
    return {"unchanged": 11, "renamed": 1, "read": 1}


def relabel(source: Path) -> dict[str, int]:
    (source / "cat").rename(source / "emu")
    return {"unchanged": 6, "renamed": 6, "read": 6}


def copy(source: Path) -> dict[str, int]:
    for name in ("a", "b"):
        shutil.copy(source / "cat" / "cat_000.png", source / "dog" / f"{name}.png")
    return {"unchanged": 12, "new": 2, "read": 2}


def add_twice(source: Path) -> dict[str, int]:
    draw("dog", 77, (48, 48)).save(source / "dog" / "new.png")
    shutil.copy(source / "dog" / "new.png", source / "cat" / "same.png")
    return {"unchanged": 12, "new": 2, "computed": 1, "read": 2}


def swap(source: Path) -> dict[str, int]:
    one, other = source / "cat" / "cat_000.png", source / "dog" / "dog_000.png"
    one.rename(source / "kept")
    other.rename(one)
    (source / "kept").rename(other)
    return {"unchanged": 10, "changed": 2, "read": 2}


def touch(source: Path) -> dict[str, int]:
    time.sleep(0.02)
    for file in (source / "cat").iterdir():
        file.touch()
    return {"unchanged": 12, "read": 6}


def spoil(source: Path) -> dict[str, int]:
    (source / "cat" / "cat_000.png").write_text("no picture any more")
    return {"unchanged": 11, "removed": 1, "read": 1}


def split(source: Path) -> dict[str, int]:
    for name in ("train", "test"):
        (source / name).mkdir()
    for folder, kind in (("train", "cat"), ("test", "dog")):
        (source / kind).rename(source / folder / kind)
    return {"renamed": 12, "read": 12}


def everything(source: Path) -> dict[str, int]:
    for each in (add, change, remove):
        each(source)
    (source / "cat" / "cat_003.png").rename(source / "dog" / "moved.png")
    (source / "cat" / "note.png").write_text("no picture")
    return {"unchanged": 9, "new": 1, "changed": 1, "removed": 1, "renamed": 1, "computed": 2, "read": 4}


CHANGES = [add, change, remove, rename, relabel, copy, add_twice, swap, touch, spoil, split, everything]


@pytest.mark.parametrize("what", CHANGES, ids=lambda what: what.__name__)
def test_only_what_changed_is_read_and_the_file_is_that_of_a_fresh_run(
    source: Path, output: Path, what: Callable[[Path], dict[str, int]]
) -> None:
    expected = what(source)
    assert counts(run(source, output)) == expected
    assert_as_fresh(source, output)
    again = run(source, output)
    assert (again.computed, again.read, again.changes.unchanged) == (0, 0, again.rows)


def test_changes_one_after_another(source: Path, output: Path) -> None:
    for what in (add, touch, change, rename, swap, spoil, relabel):
        what(source)
        run(source, output)
        assert_as_fresh(source, output)


def test_splits_and_labels_of_a_csv(source: Path, output: Path) -> None:
    """Moved between splits, relabelled or regrouped in the list: the file says so, and no image is opened."""

    def listed(*lines: str) -> ExtractSummary:
        (source / "list.csv").write_text("path,label,split,group\n" + "".join(f"{line}\n" for line in lines))
        return run(source / "list.csv", output)

    output.unlink()
    listed("cat/cat_000.png,cat,train,a", "dog/dog_000.png,dog,test,b", "dog/dog_001.png,dog,,")
    for lines in (
        ("cat/cat_000.png,cat,train,a", "dog/dog_000.png,dog,valid,b", "dog/dog_001.png,dog,,"),
        ("cat/cat_000.png,cat,train,a", "dog/dog_000.png,cat,valid,b", "dog/dog_001.png,dog,,"),
        ("cat/cat_000.png,cat,train,a", "dog/dog_000.png,cat,valid,c", "dog/dog_001.png,dog,,c"),
        ("cat/cat_000.png,tom,train,a", "dog/dog_000.png,tom,valid,c", "dog/dog_001.png,rex,,c"),
    ):
        summary = listed(*lines)
        assert counts(summary) == {"unchanged": 3}
        assert_as_fresh(source / "list.csv", output)


@pytest.mark.parametrize("size", [16, 48])
def test_equal_sizes_and_times_of_another_folder_are_not_believed(source: Path, output: Path, tmp_path: Path, size: int) -> None:
    """A folder that was moved, or another in its place: every file is read once."""
    moved = source.rename(tmp_path / "moved")
    assert counts(run(moved, output)) == {"unchanged": 12, "read": 12}
    assert_as_fresh(moved, output)
    assert counts(run(moved, output)) == {"unchanged": 12}


def test_rehash_reads_every_file(source: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where size and times of change say that nothing happened, and something did."""
    believed = {file: file_stat.stamp_now(file) for file in source.glob("*/*.png")}
    change(source)
    monkeypatch.setattr(changes_module, "stamp_now", believed.__getitem__)
    assert counts(run(source, output)) == {"unchanged": 12}
    assert counts(run(source, output, rehash=True)) == {"unchanged": 11, "changed": 1, "computed": 1, "read": 12}
    assert_as_fresh(source, output)


def test_a_file_that_changed_just_before_it_was_read_is_read_again(
    source: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two seconds, as git has it: within them a second change could leave no trace."""
    monkeypatch.setattr(file_stat, "RACY_NS", 2_000_000_000)
    add(source)
    run(source, output)
    with FeatureStore(output) as store:
        assert store.stat[store.paths.index("dog/new.png")].tolist() == [-1, -1]
    now = time.time_ns
    monkeypatch.setattr(file_stat.time, "time_ns", lambda: now() + 3_000_000_000)
    assert counts(run(source, output)) == {"unchanged": 13, "read": 1}
    assert_as_fresh(source, output)
    assert counts(run(source, output)) == {"unchanged": 13}


def test_a_file_from_the_future_is_read_every_time_and_nothing_is_written(source: Path, output: Path) -> None:
    os.utime(source / "cat" / "cat_000.png", (time.time() + 1000,) * 2)
    run(source, output)
    status = output.stat()
    assert counts(run(source, output)) == {"unchanged": 12, "read": 1}
    assert (output.stat().st_ino, output.stat().st_mtime_ns) == (status.st_ino, status.st_mtime_ns)
    assert_as_fresh(source, output)


@pytest.mark.parametrize("schema", [1, 2])
def test_a_file_of_an_earlier_schema_gains_what_it_lacks(source: Path, output: Path, schema: int) -> None:
    with h5py.File(output, "r+") as file:
        del file[layout.STAT], file[layout.SKIPPED_STAT]
        file.attrs["ffe_schema"] = schema
    assert counts(run(source, output)) == {"unchanged": 12, "read": 12}
    assert_as_fresh(source, output)
    assert counts(run(source, output)) == {"unchanged": 12}


def test_unreadable_pictures_are_opened_once(source: Path, output: Path) -> None:
    """Those whose content is to blame; what may change without the file changing is tried again."""
    good = (source / "cat" / "cat_000.png").read_bytes()
    for name, content in (("half", good[: len(good) // 2]), ("text", b"no picture"), ("empty", b"")):
        (source / "cat" / f"{name}.png").write_bytes(content)
    (source / "stray.txt").write_text("notes")
    first = run(source, output)
    assert (first.read, first.skipped) == (3, 4)
    again = run(source, output)
    assert (again.read, again.skipped, again.skipped_reasons) == (0, 4, first.skipped_reasons)
    assert_as_fresh(source, output)
    (source / "cat" / "half.png").write_bytes(good)
    assert counts(run(source, output)) == {"unchanged": 12, "new": 1, "read": 1}
    assert_as_fresh(source, output)


def test_what_another_program_could_not_read_is_tried_again(source: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source / "cat" / "text.png").write_bytes(b"no picture")
    run(source, output)
    assert run(source, output).read == 0
    for module in ("incremental", "feature_file"):
        monkeypatch.setattr(f"ffe.extraction.{module}.JUDGED_BY", "ffe of next year")
    assert run(source, output).read == 1
    assert run(source, output).read == 0


@pytest.mark.parametrize("reason", ["missing", "unreadable", "too-large"])
def test_what_may_end_otherwise_is_tried_again(source: Path, output: Path, monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    """Rights, memory and limits change, and the file stays as it is."""
    from ffe.errors import DecodeError
    from ffe.images.loader import read_image

    def refusing(file: Path, max_bytes: int) -> bytes:
        if file.name == "new.png":
            raise DecodeError(reason, "not today")
        return read_image(file, max_bytes)

    add(source)
    with monkeypatch.context() as patch:
        patch.setattr("ffe.images.loader.read_image", refusing)
        assert run(source, output).skipped_reasons == {reason: 1}
        assert run(source, output).read == 1
    assert counts(run(source, output)) == {"unchanged": 12, "new": 1, "computed": 1, "read": 1}
    assert_as_fresh(source, output)


def test_a_folder_that_has_lost_all_its_pictures_leaves_the_file_alone(source: Path, output: Path) -> None:
    before = output.read_bytes()
    for file in source.glob("*/*.png"):
        file.write_text("no picture")
    with pytest.raises(SourceError, match="None of the 12 files could be read"):
        run(source, output)
    assert output.read_bytes() == before


def test_old_rows_are_copied_as_they_are(source: Path, output: Path) -> None:
    """Bits that the backbone would not give today stay."""
    with h5py.File(output, "r+") as file:
        marked = np.frombuffer(np.arange(48, dtype=np.float32).tobytes(), np.float32)
        file["features"][3] = marked
        path = file["paths"][3].decode()
        seal(file)
    add(source)
    run(source, output)
    with FeatureStore(output) as store:
        np.testing.assert_array_equal(store.raw_row(store.paths.index(path)), marked)


def test_progress_counts_what_was_copied(source: Path, output: Path) -> None:
    seen: list[Progress] = []
    run(source, output, progress=seen.append)
    assert [(p.done, p.total, p.rate, p.remaining) for p in seen] == [(12, 12, 0.0, 0.0)]
    seen.clear()
    everything(source)
    run(source, output, progress=seen.append)
    assert {p.total for p in seen} == {13}
    assert seen[0].done > 9
    assert (seen[-1].done, seen[-1].skipped) == (13, 1)


# Runs the command line, and tells which files it opened and which modules it loaded.
_WATCHED = """
import json, sys
opened = []
def hook(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        opened.append(arguments[0] if isinstance(arguments[0], str) else arguments[0].decode())
sys.addaudithook(hook)
sys.argv[0] = "ffe"
from ffe.base import file_stat
file_stat.RACY_NS = 0
from ffe.cli import main
try:
    main()
except SystemExit as done:
    assert not done.code, done.code
names = sorted({name.partition(".")[0] for name, module in sys.modules.items() if module is not None})
print("\\n" + json.dumps([opened, names]))
"""
HEAVY = {"tensorflow", "keras", "openvino", "nncf", "cv2", "simplejpeg", "sklearn", "scipy", "numba", "joblib", "rich", "torch"}


def watched(source: Path, output: Path, *options: str) -> tuple[dict[str, Any], set[str], set[str]]:
    """Run ``ffe extract --json``; return its summary, the image files that it opened, and the modules that it loaded."""
    command = ["extract", str(source), "-o", str(output), "--json", *options]
    done = subprocess.run(
        [sys.executable, "-c", _WATCHED, *command],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    summary, _, last = done.stdout.strip().splitlines()
    opened, modules = json.loads(last)
    return json.loads(summary), {Path(name).name for name in opened if name.endswith((".png", ".weights.h5"))}, set(modules)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_an_unchanged_source_opens_no_image_and_loads_nothing_heavy(pictures: Path, tmp_path: Path, precision: str) -> None:
    """Not even of a backbone with weights of its own; nor are these read."""
    options = {"backbone": "mobilenet_0.25", "size": 32, "precision": precision}
    source = tmp_path / "source"
    shutil.copytree(pictures, source)
    (source / "cat" / "text.png").write_text("no picture")
    extract(source, tmp_path / "f.h5", weights="random", **options)  # type: ignore[arg-type]
    arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    summary, opened, modules = watched(source, tmp_path / "f.h5", *arguments, "--weights", "random")
    assert (summary["rows"], summary["unchanged"], summary["read"], summary["computed"], summary["skipped"]) == (40, 40, 0, 0, 1)
    assert opened == set()
    assert modules & HEAVY == set()
    assert {"h5py", "numpy"} <= modules


def test_the_test_above_sees_what_it_forbids(source: Path, output: Path) -> None:
    add(source)
    summary, opened, _ = watched(source, output, "--backbone", "fake")
    assert summary["read"] == 1
    assert opened == {"new.png"}
    options = ("--backbone", "mobilenet_0.25", "--size", "32", "--weights", "random")
    _, opened, modules = watched(source, output.with_name("other.h5"), *options)
    assert len(opened) == 13
    assert modules & HEAVY != set()


def test_weights_are_not_read_again(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their digest is remembered; those that are large enough to be worth it."""
    from ffe.backbones.keras_build import build
    from ffe.backbones.resolve import make_spec

    spec, found = make_spec("mobilenet_0.25", 32, "random")
    weights = tmp_path / "mine.weights.h5"
    build(spec, found).save_weights(weights)
    options: dict[str, Any] = {"backbone": "mobilenet_0.25", "size": 32, "weights": str(weights), "engine": "keras"}
    monkeypatch.setattr(file_stat, "_WORTH_BYTES", 1000)
    run(pictures, tmp_path / "f.h5", **options)
    monkeypatch.setattr(file_stat, "file_digest", lambda path: pytest.fail("it is known"))
    assert run(pictures, tmp_path / "f.h5", **options).read == 0


def test_a_file_whose_name_only_looks_like_a_known_one_is_new(source: Path, output: Path) -> None:
    """An ``é`` of one character and one of two are two files, though alike to the byte; where one goes, the other stays."""
    one, two = source / "dog" / "caf\u00e9.png", source / "dog" / "cafe\u0301.png"
    draw("dog", 77, (48, 48)).save(one)
    run(source, output)
    shutil.copy(one, two)
    if len(list(source.glob("dog/caf*"))) < 2:
        pytest.skip("the names are one on this disk")
    assert counts(run(source, output)) == {"unchanged": 13, "new": 1, "read": 1}
    assert_as_fresh(source, output)
    one.unlink()
    assert counts(run(source, output)) == {"unchanged": 13, "removed": 1}
    assert_as_fresh(source, output)
