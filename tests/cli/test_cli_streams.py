"""Standard streams that are closed, full or read by nobody, and paths that are empty."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import ffe
from ffe.bundle.io import Bundle
from ffe.cli import cli
from ffe.errors import BundleError, SourceError, StoreError
from ffe.store.reader import FeatureStore

needs_posix = pytest.mark.skipif(os.name != "posix" or not Path("/dev/full").exists(), reason="a shell and /dev/full are needed")


def shell(streams: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    line = f'exec "$0" -m ffe "$@" {streams}'
    return subprocess.run(
        ["sh", "-c", line, sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=300
    )


@needs_posix
@pytest.mark.parametrize("what", [("info", "FILE"), ("--help",), ("--version",), ("info", "FILE", "--json")], ids=" ".join)
@pytest.mark.parametrize(("streams", "why"), [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")])
def test_an_answer_that_cannot_be_printed(fake_store: Path, what: tuple[str, ...], streams: str, why: str) -> None:
    done = shell(streams, *[fake_store if word == "FILE" else word for word in what])
    sentence = f"ffe: The answer cannot be written to standard output ({why}); files that were made are kept.\n"
    assert (done.returncode, done.stderr) == (3, sentence)


@needs_posix
@pytest.mark.parametrize("streams", ["2>/dev/full", "2>&-", "<&- 2>&-"])
def test_a_run_goes_on_without_its_progress_and_json_stays_json(pictures: Path, tmp_path: Path, streams: str) -> None:
    output = tmp_path / "features.h5"
    done = shell(streams, "extract", pictures, "-o", output, "--backbone", "fake", "--size", "16", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["rows"] == 40
    assert ffe.verify(output).ok


@needs_posix
def test_no_stream_at_all_and_the_features_are_whole(pictures: Path, tmp_path: Path) -> None:
    output = tmp_path / "features.h5"
    done = shell("<&- >&- 2>&-", "extract", pictures, "-o", output, "--backbone", "fake", "--size", "16")
    assert done.returncode == 3  # the answer has nowhere to go
    assert ffe.verify(output).ok


@needs_posix
def test_who_reads_one_line_gets_it_and_nothing_is_said(fake_store: Path) -> None:
    done = shell("| head -1", "info", fake_store)
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)


@pytest.mark.skipif(os.name != "posix", reason="descriptors that are closed")
def test_python_without_any_stream(pictures: Path, tmp_path: Path) -> None:
    """As under pythonw: no data file gets the number of a standard stream."""
    code = (
        "import os, sys\nsys.stdin = sys.stdout = sys.stderr = None\n[os.close(number) for number in (0, 1, 2)]\nimport ffe\n"
        "ffe.extract(sys.argv[1], sys.argv[2], backbone='fake', size=16)\nassert os.open(os.devnull, os.O_RDONLY) > 2"
    )
    output = tmp_path / "features.h5"
    subprocess.run([sys.executable, "-c", code, str(pictures), str(output)], check=True, timeout=300)
    assert ffe.verify(output).ok


@pytest.mark.parametrize("arguments", [("extract", "", "-o", "x.h5"), ("scan", ""), ("info", ""), ("tune", "f.h5", "-o", "")])
def test_an_empty_path_is_refused(arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 2
    assert "the path is empty; name a file or folder (is a variable unset?)." in result.stderr


def test_an_empty_image_is_refused(fake_bundle: Path) -> None:
    result = CliRunner().invoke(cli, ["predict", str(fake_bundle), ""])
    assert result.exit_code == 2
    assert "The path of an image is empty; name a file or folder (is a variable unset?)." in result.stderr


def test_an_empty_path_is_refused_in_python() -> None:
    with pytest.raises(
        SourceError, match=r"^The source is empty; name the folder or CSV of the images \(is a variable unset\?\)\.$"
    ):
        ffe.scan("")
    with pytest.raises(
        StoreError, match=r"^The name of the feature file is empty; give a feature file \(is a variable unset\?\)\.$"
    ):
        FeatureStore("")
    with pytest.raises(
        BundleError, match=r"^The name of the model file is empty; give a \.ffe file \(is a variable unset\?\)\.$"
    ):
        Bundle("")
