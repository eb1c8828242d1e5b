"""Two processes at one feature file: one writes, and readers see what was committed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ffe.cli import cli
from ffe.errors import StaleStoreError, StoreError
from ffe.extraction.run import extract
from ffe.store import journal as journal_module
from ffe.store.journal import Journal
from ffe.store.reader import FeatureStore

ROOT = Path(__file__).resolve().parent.parent.parent

# Extracts, and waits in the middle of it until it is killed.
_WRITER = """
import sys, time
from pathlib import Path
from ffe.engines.fake import FakeEngine
from ffe.extraction.run import extract

def wait(self, images):
    print("computing", flush=True)
    time.sleep(600)

FakeEngine.extract = wait
extract(Path(sys.argv[1]), Path(sys.argv[2]), backbone="fake", overwrite=True)
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.fixture(scope="module")
def busy(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An output that is there, and that another process is replacing."""
    folder = tmp_path_factory.mktemp("busy") / "real"
    folder.mkdir()
    extract(pictures, folder / "features.h5", backbone="fake", size=16)
    writer = start(_WRITER, pictures, folder / "features.h5")
    assert writer.stdout is not None
    assert writer.stdout.readline() == "computing\n"
    (folder.parent / "link.h5").symlink_to(folder / "features.h5")
    (folder.parent / "folder").symlink_to(folder)
    (folder.parent / "to link.h5").symlink_to("link.h5")
    yield folder
    writer.send_signal(signal.SIGKILL)
    writer.communicate()


@pytest.mark.parametrize("name", ["real/features.h5", "link.h5", "to link.h5", "folder/features.h5", "real/../real/features.h5"])
@pytest.mark.parametrize("options", [[], ["--overwrite"], ["--size", "16"], ["--precision", "int8"]], ids=" ".join)
@pytest.mark.parametrize("relative", [False, True])
def test_a_second_writer_leaves_with_one_sentence(
    busy: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, name: str, options: list[str], relative: bool
) -> None:
    """By whatever name it calls the file, and whatever it wants with it."""
    monkeypatch.chdir(busy.parent)
    output = name if relative else str(busy.parent / name)
    before = (busy / "features.h5").read_bytes()
    result = CliRunner().invoke(cli, ["extract", str(pictures), "-o", output, "--backbone", "fake", *options])
    assert (result.exit_code, result.stdout) == (3, "")
    last = result.stderr.splitlines()[-1]
    if options == ["--precision", "int8"]:  # refused before it comes to that: the file holds others
        assert "holds other features than these" in last
    else:
        assert last == f"ffe: Another process is writing '{output}'; wait until it is done, or choose another output."
    assert (busy / "features.h5").read_bytes() == before
    assert (busy / "features.h5.partial" / "lock").exists()


def test_readers_and_dry_runs_do_not_mind_a_writer(busy: Path, pictures: Path) -> None:
    with FeatureStore(busy / "features.h5") as store:
        assert len(store.features()) == 40
    arguments = ["extract", str(pictures), "-o", str(busy / "features.h5"), "--backbone", "fake", "--size", "16", "--dry-run"]
    assert CliRunner().invoke(cli, arguments).exit_code == 0


def test_an_output_behind_a_link_is_written_where_the_link_points(pictures: Path, tmp_path: Path) -> None:
    """The link stays one; the unfinished run lies beside the file itself."""
    (tmp_path / "real").mkdir()
    link, real = tmp_path / "link.h5", tmp_path / "real" / "features.h5"
    link.symlink_to(real)

    def stop(progress: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(pictures, link, backbone="fake", batch_size=10, progress=stop)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["link.h5", "real"]
    assert extract(pictures, real, backbone="fake").computed == 30
    assert extract(pictures, link, backbone="fake").changes.unchanged == 40
    assert extract(pictures, link, backbone="fake", size=16, overwrite=True).computed == 40
    assert link.is_symlink()
    with FeatureStore(real) as store:
        assert store.spec.preprocess.size == (16, 16)
    assert [file.name for file in real.parent.iterdir()] == ["features.h5"]


def test_a_link_into_nowhere(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "link.h5").symlink_to(tmp_path / "none" / "features.h5")
    with pytest.raises(
        StoreError, match=r"link\.h5' lies in a folder that does not exist \('.*none'\); name a file in an existing"
    ):
        extract(pictures, tmp_path / "link.h5", backbone="fake")


def test_what_another_process_has_written_meanwhile_is_not_lost(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends between the moment when a run looks at the output and the moment when it takes hold of it."""
    output = tmp_path / "features.h5"
    lock_output = journal_module.lock_output

    def ended_just_now(*arguments: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(journal_module, "lock_output", lock_output)
            extract(pictures, output, backbone="fake", size=16)
        return lock_output(*arguments)

    monkeypatch.setattr(journal_module, "lock_output", ended_just_now)
    with pytest.raises(StaleStoreError, match=r"holds other features than these \(preprocess\.size: stored 16x16, asked 32x32\)"):
        extract(pictures, output, backbone="fake")
    with FeatureStore(output) as store:
        assert store.spec.preprocess.size == (16, 16)


def test_a_lock_that_was_removed_while_it_was_taken_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run ends, and removes its folder, between another's opening the lock and taking it."""
    from ffe.backbones.resolve import make_spec

    spec, _ = make_spec("fake")
    folder = tmp_path / "features.h5.partial"
    fcntl = pytest.importorskip("fcntl")
    flock, removed = fcntl.flock, []

    def removing(file: Any, how: int) -> None:
        if not removed:
            removed.append(folder)
            shutil.rmtree(folder)
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", removing)
    first = Journal(tmp_path / "features.h5", spec)
    assert removed
    with pytest.raises(StoreError, match="Another process is writing"):
        Journal(tmp_path / "features.h5", spec)
    first.close()
    assert not folder.exists()


def test_a_run_that_has_ended_leaves_the_next_one_alone(tmp_path: Path) -> None:
    """Between the end of its parts and the end of its process another may have begun."""
    from ffe.backbones.resolve import make_spec

    spec, _ = make_spec("fake")
    first = Journal(tmp_path / "features.h5", spec)
    first.discard()
    second = Journal(tmp_path / "features.h5", spec)
    first.close()
    assert (tmp_path / "features.h5.partial" / "lock").exists()
    with pytest.raises(StoreError, match="Another process is writing"):
        Journal(tmp_path / "features.h5", spec)
    second.close()


# Replaces a file again and again by two states in turn.
_REPLACER = """
import sys
from pathlib import Path
from ffe.base import file_stat
from ffe.extraction.run import extract
file_stat.RACY_NS = 0
print("started", flush=True)
for i in range(10_000):
    source = Path(sys.argv[1 + i % 2])
    extract(source, Path(sys.argv[3]), backbone="fake", overwrite=True)
    print(i, flush=True)
"""


def test_readers_see_one_committed_state_or_another(pictures: Path, tmp_path: Path) -> None:
    """Never a mixture, never nothing, while the file is replaced again and again."""
    few = tmp_path / "few"
    for kind in ("cat", "dog"):
        shutil.copytree(pictures / kind, few / kind, ignore=lambda folder, names: sorted(names)[7:])
    states = {}
    for source in (pictures, few):
        extract(source, tmp_path / "state.h5", backbone="fake", overwrite=True)
        with FeatureStore(tmp_path / "state.h5") as store:
            states[store.paths] = (store.sha256, store.labels.tobytes(), store.stat.tobytes(), store.features().tobytes())
    output = tmp_path / "features.h5"
    shutil.copy(tmp_path / "state.h5", output)
    writer = start(_REPLACER, pictures, few, output)
    assert writer.stdout is not None
    writer.stdout.readline()
    reads, seen, inodes, deadline = 0, set(), set(), time.monotonic() + 300
    try:
        while (len(inodes) < 12 or len(seen) < 2) and time.monotonic() < deadline:
            with FeatureStore(output) as store:
                found = (store.sha256, store.labels.tobytes(), store.stat.tobytes(), store.features().tobytes())
                assert states[store.paths] == found
                seen.add(store.paths)
            reads += 1
            inodes.add(output.stat().st_mtime_ns)
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.communicate()
    assert len(seen) == 2
    assert len(inodes) >= 12
    assert reads > 12


def test_info_tells_of_an_unfinished_run(pictures: Path, tmp_path: Path) -> None:
    def stop(progress: object) -> None:
        raise KeyboardInterrupt

    source, output = tmp_path / "source", tmp_path / "features.h5"
    for kind in ("cat", "dog"):
        shutil.copytree(pictures / kind, source / kind, ignore=lambda folder, names: sorted(names)[7:])
    text = "an unfinished run with 10 rows lies beside it; run the same 'ffe extract' again to go on"
    with pytest.raises(KeyboardInterrupt):
        extract(source, output, backbone="fake", batch_size=10, progress=stop)
    result = CliRunner().invoke(cli, ["info", str(output)])
    assert (result.exit_code, result.stderr) == (3, f"ffe: '{output}' is not finished: {text}.\n")
    extract(source, output, backbone="fake")
    assert "unfinished" not in CliRunner().invoke(cli, ["info", str(output)]).stdout
    with pytest.raises(KeyboardInterrupt):
        extract(pictures, output, backbone="fake", batch_size=10, progress=stop, overwrite=True)
    assert f"unfinished {text} " in " ".join(CliRunner().invoke(cli, ["info", str(output)]).stdout.split())
    assert json.loads(CliRunner().invoke(cli, ["info", str(output), "--json"]).stdout)["unfinished_rows"] == 10
