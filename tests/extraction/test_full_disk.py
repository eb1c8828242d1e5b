"""A disk that fills up: one sentence, nothing lost, and the same command goes on."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from ffe.base import atomic
from ffe.base.openvino_ir import IrModel
from ffe.cli import cli
from ffe.engines.openvino_convert import to_ir
from ffe.errors import DiskFullError, EngineError
from ffe.extraction.feature_file import open_plans
from ffe.extraction.request import ExtractOptions, make_job
from ffe.extraction.run import ExtractSummary, extract
from ffe.images.drawings import draw_folder
from ffe.images.limits import Limits
from ffe.store import journal, writer
from ffe.store.journal_records import read_records
from ffe.store.reader import FeatureStore

OPTIONS: dict[str, Any] = {
    **{"backbone": "fake", "size": None, "weights": "random", "layer": None, "engine": "auto", "precision": "float32"},
    **{"decode": "exact", "dtype": "float32", "compress": None, "overwrite": False, "rehash": False, "limits": Limits()},
}

SENTENCE = (
    r"The disk of '.*features\.h5' is full: "
    r"(about \d+(\.\d+)? [KM]?i?B are missing|your quota, or its number of files, is used up); "
    r"make room and run the same command again, it goes on with what was saved\."
)


def run(source: Path, output: Path, **options: Any) -> ExtractSummary:
    return extract(source, output, **{"backbone": "fake", "batch_size": 4, **options})


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "features.h5"


class _FullDisk:
    """Stands in for a function that writes: from the call ``at`` on the disk is full."""

    def __init__(self, inner: Callable[..., Any], at: int) -> None:
        self._inner, self._left = inner, at
        self.hit = False

    def __call__(self, *rest: Any, **options: Any) -> Any:
        if self._left == 0:
            self.hit = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._left -= 1
        return self._inner(*rest, **options)


PLACES = {  # what is written where, a module and a name through which it is, and its calls for a commit of four rows
    "rows": (journal, "crc32", 4),
    "sync": (journal, "sync", 1),
    "record": (journal, "atomic_write", 1),
    "record's sync": (atomic, "sync", 1),
    "rename": (atomic.os, "replace", 1),
    "folder": (atomic, "sync_folder", 1),
    "folder's folder": (journal, "sync_folder", 1),
    "file": (writer, "reserve", None),
    "file's sync": (writer, "put_in_place", None),
}


@pytest.mark.parametrize(("lost", "kept"), [(12, 1), (20, 10), (33, 20)])
def test_copies_of_rows_that_found_no_room(
    pictures: Path, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: int, kept: int
) -> None:
    """They are lost with them; all that was written before is kept, though the disk stays full for rows."""
    source = tmp_path / "source"
    for i, file in enumerate(sorted(pictures.glob("*/*.png"))[:20]):
        (source / file.parent.name).mkdir(parents=True, exist_ok=True)
        for copy in range(3):
            shutil.copy(file, source / file.parent.name / f"{i}_{copy}.png")
    run(source, tmp_path / "undisturbed.h5")
    monkeypatch.setattr(journal, "_PART_BYTES", 1)  # no commit comes before
    with monkeypatch.context() as patch:
        patch.setattr(journal, "crc32", _FullDisk(journal.crc32, lost))
        with pytest.raises(DiskFullError, match=SENTENCE):
            run(source, output)
    assert sum(len(record.names) for record in read_records(output)) >= kept
    run(source, output)
    assert output.read_bytes() == (tmp_path / "undisturbed.h5").read_bytes()


def test_rows_of_a_sync_that_failed_get_no_record(pictures: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system says only once that it could not write them."""
    monkeypatch.setattr(journal, "_PART_BYTES", 1)
    synced, sync = list[int](), journal.sync

    def failing(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(journal, "sync", failing)
        with pytest.raises(DiskFullError, match=SENTENCE):
            run(pictures, output)
    kept = {name for record in read_records(output) for name in record.names}
    assert run(pictures, output).computed == 40 - len(kept)
    with FeatureStore(output) as store:
        assert not kept & set(store.sha256[:12])  # three parts of four rows


@pytest.mark.parametrize("at", [0, 1, 4])
@pytest.mark.parametrize("where", PLACES)
def test_wherever_the_disk_is_full_the_run_goes_on_later(
    pictures: Path, output: Path, monkeypatch: pytest.MonkeyPatch, where: str, at: int
) -> None:
    """What was committed stays, no half file is left, and the end is that of an undisturbed run."""
    undisturbed = output.parent.parent / "undisturbed.h5"
    run(pictures, undisturbed)
    monkeypatch.setattr(journal, "_COMMIT_SECONDS", 0.0)
    module, name, calls = PLACES[where]
    full = _FullDisk(getattr(module, name), at)
    with monkeypatch.context() as patch:
        patch.setattr(module, name, full)
        failed = None
        try:
            run(pictures, output)
        except DiskFullError as error:
            failed = str(error)
    assert (failed is not None) == full.hit  # some of them are called less often
    assert failed is None or re.fullmatch(SENTENCE, failed)
    there, rows = output.exists(), sum(len(record.phash) for record in read_records(output))
    if full.hit:
        assert rows >= (4 * (at // calls) if calls else 40)  # all that was committed before
    summary = run(pictures, output)
    assert summary.computed == (0 if there else 40 - rows)
    assert output.read_bytes() == undisturbed.read_bytes()
    assert [file.name for file in output.parent.iterdir()] == ["features.h5"]


def test_the_old_file_stays_while_a_new_one_finds_no_room(
    pictures: Path, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Path(shutil.copytree(pictures, tmp_path / "source"))
    run(source, output)
    before = output.read_bytes()
    for file in sorted((source / "cat").iterdir())[:5]:
        file.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(writer, "reserve", _FullDisk(writer.reserve, 1))
        with pytest.raises(DiskFullError, match=SENTENCE):
            run(source, output)
    assert output.read_bytes() == before
    assert [file.name for file in output.parent.iterdir()] == ["features.h5"]
    assert run(source, output).changes.removed == 5


def test_no_room_for_the_int8_model(pictures: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job(ExtractOptions(pictures, output, backbone="fake"))
    job = replace(job, spec=replace(job.spec, precision="int8"))
    monkeypatch.setattr(journal, "write_ir", _FullDisk(journal.write_ir, 0))
    model = IrModel(b"<net/>", np.zeros(1000, np.uint8))
    with pytest.raises(DiskFullError, match=SENTENCE), open_plans(job, model):
        pass
    assert list(output.parent.iterdir()) == []


def test_no_room_to_convert_the_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO only knows that its stream broke off."""
    import openvino as ov

    def broken(*rest: object, **options: object) -> None:
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setattr(ov, "save_model", broken)
    image = ov.opset13.parameter([1, 4], ov.Type.f32)
    sentence = (
        r"^The converted model cannot be written into '.*' \(RuntimeError: basic_ios::clear: iostream error\); "
        r".* are free there: make room, or name another folder in TMPDIR\.$"
    )
    with pytest.raises(EngineError, match=sentence):
        to_ir(ov.Model([ov.opset13.relu(image)], [image]), {})


def test_on_the_command_line(pictures: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "reserve", _FullDisk(writer.reserve, 0))
    result = CliRunner().invoke(cli, ["extract", str(pictures), "-o", str(output), "--backbone", "fake"])
    assert (result.exit_code, result.stdout) == (3, "")
    assert re.fullmatch(f"ffe: {SENTENCE}", result.stderr.splitlines()[-1])
    shown = CliRunner().invoke(cli, ["info", str(output)])
    assert shown.exit_code == 3
    assert shown.stderr.endswith(
        "is not finished: an unfinished run with 40 rows lies beside it; run the same 'ffe extract' again to go on.\n"
    )


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Give a disk of so many KiB to a test, and another size if it is asked for again."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if sys.platform != "linux" or shutil.which("mount") is None:
        pytest.skip("a small disk is made with Linux's tmpfs")
    on = False

    def mount(size: int) -> Path:
        nonlocal on
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}k" + (",remount" if on else ""), "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"a small disk needs the right to mount one: {done.stderr.strip()}")
        on = True
        return folder

    yield mount
    if on:
        subprocess.run(["umount", str(folder)], check=True)


_MAIN = """
import sys
from ffe.base import file_stat
from ffe.extraction.estimate import Estimate
from ffe.store import journal
file_stat.RACY_NS = 0
journal._COMMIT_SECONDS = 0.05
if sys.argv.pop(1) == "unwarned":  # an estimate that was too low
    Estimate.refuse = lambda self: None
sys.argv[0] = "ffe"
from ffe.cli import main
main()
"""


def in_a_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run ``ffe`` with commits ten times a second."""
    command = [sys.executable, "-c", _MAIN, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env={**os.environ})


@pytest.mark.slow
@pytest.mark.parametrize("how", ["warned", "unwarned"])
def test_a_real_disk_that_is_too_small(
    mounted: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Of every size up to one that does, in steps that end the run in all its phases; then with room it goes on."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parent.parent.parent))
    source = tmp_path / "source"
    draw_folder(source, 500, (16, 16))
    run(source, tmp_path / "undisturbed.h5")
    ends = Counter[str]()
    for size in (8, 24, 60, 100, 140, 180, 220, 260, 300, 340, 380, 420, 460, 500, 540, 580, 620, 700, 900, 1400):
        disk = mounted(size)
        output = disk / "features.h5"
        first = in_a_process(how, "extract", source, "-o", output, "--backbone", "fake")
        last = first.stderr.splitlines()[-1]
        end = "done" if first.returncode == 0 else "refused" if "are needed until" in last else "full"
        assert first.returncode == (0 if end == "done" else 3), first.stderr
        if end == "full":
            assert re.fullmatch(f"ffe: {SENTENCE}", last), first.stderr
        kept = sum(len(record.phash) for record in read_records(output))
        ends[f"full, with {'none' if kept == 0 else 'all' if kept == 1000 else 'some'} kept" if end == "full" else end] += 1
        mounted(8000)
        second = in_a_process("warned", "extract", source, "-o", output, "--backbone", "fake", "--json")
        assert second.returncode == 0, second.stderr
        assert json.loads(second.stdout)["computed"] == (0 if end == "done" else 1000 - kept)
        assert output.read_bytes() == (tmp_path / "undisturbed.h5").read_bytes()
        assert [file.name for file in disk.iterdir()] == ["features.h5"]
        output.unlink()
    print(f"\n{how}: {dict(ends)}")
    assert ends["done"] >= 2
    assert ends["refused"] >= 10 if how == "warned" else ends.total() - ends["done"] >= 10
