"""``ffe verify``, ``ffe pack`` and ``ffe extract --compress``: what they print, and how they leave."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import pytest
from click.testing import CliRunner, Result

from ffe.cli import cli
from ffe.store.reader import FeatureStore


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture
def features(fake_store: Path, tmp_path: Path) -> Path:
    shutil.copy(fake_store, tmp_path / "f.h5")
    return tmp_path / "f.h5"


def damage(path: Path, row: int = 7) -> str:
    with h5py.File(path, "r+") as file:
        file["features"][row, 5] += 1
        return str(file["paths"].asstr()[row])


def test_verify_a_sound_file(features: Path) -> None:
    result = _run("verify", features)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{features}: all right, 40 rows checked\n", "")
    result = _run("verify", features, "--recompute", 3, "--seed", 1)
    assert result.stdout == f"{features}: all right, 40 rows checked; 3 rows computed again\n"


def test_verify_names_what_is_damaged_and_repairs_it(features: Path) -> None:
    sound, name = features.read_bytes(), damage(features)
    result = _run("verify", features)
    assert (result.exit_code, result.stderr) == (3, "")
    assert result.stdout == (f"row 7, '{name}': its features are not those that were written\n{features}: NOT RIGHT, 1 problem\n")
    result = _run("verify", features, "--json")
    value = json.loads(result.stdout)
    assert (result.exit_code, value["ok"], value["rows"], value["schema"]) == (3, False, 40, 4)
    assert value["problems"] == [{"message": "its features are not those that were written", "row": 7, "path": name}]
    result = _run("verify", features, "--repair")
    assert (result.exit_code, result.stdout) == (
        0,
        f"{features}: 1 row made again from pictures\n{features}: all right, 40 rows checked\n",
    )
    assert features.read_bytes() == sound


def test_a_repair_that_cannot_be_done_leaves_with_3(features: Path, tmp_path: Path) -> None:
    name = damage(features)
    result = _run("verify", features, "--repair", "--source", tmp_path)
    assert (result.exit_code, result.stderr) == (3, "")
    assert result.stdout == (
        f"row 7, '{name}': its features are not those that were written, and its picture is gone (--source names its place)\n"
        f"{features}: NOT RIGHT, 1 problem\n"
    )


def test_verify_a_file_that_cannot_be_opened(features: Path) -> None:
    features.write_bytes(features.read_bytes()[:-1])
    result = _run("verify", features)
    assert (result.exit_code, result.stderr) == (3, "")
    assert result.stdout == (
        f"'{features}' is an HDF5 file that is cut off or damaged; if 'ffe extract' wrote it, make it again with --overwrite.\n"
        f"{features}: NOT RIGHT, 1 problem\n"
    )


def test_verify_a_model(fake_bundle: Path, tmp_path: Path) -> None:
    result = _run("verify", fake_bundle, "--json")
    value = json.loads(result.stdout)
    assert (result.exit_code, value["ok"], value["kind"], value["recomputed"]) == (0, True, "model", 2)
    assert _run("verify", fake_bundle).stdout == f"{fake_bundle}: all right, the file checked; 2 golden pictures computed again\n"
    data = bytearray(fake_bundle.read_bytes())
    data[data.index(b"head.npz") + 200] ^= 1
    (tmp_path / "m.ffe").write_bytes(data)
    result = _run("verify", tmp_path / "m.ffe")
    assert (result.exit_code, result.stderr) == (3, "")
    assert f"{tmp_path / 'm.ffe'}: NOT RIGHT, 1 problem\n" in result.stdout
    assert _run("verify", fake_bundle, "--repair").exit_code == 3


def test_a_damaged_file_is_not_tuned_on(features: Path, fake_bundle: Path, tmp_path: Path) -> None:
    """Nothing that reads features takes damage for content."""
    name = damage(features)
    sentence = (
        f"ffe: The features of '{name}', row 7 of '{features}', are damaged; 'ffe verify {features} --repair' makes them again.\n"
    )
    for command in (
        ("tune", features, "-o", tmp_path / "m.ffe"),
        ("train", features, "-o", tmp_path / "m.ffe", "--head", "svm"),
        ("evaluate", fake_bundle, features),
        ("pack", features, "-o", tmp_path / "p.h5"),
    ):
        result = _run(*command)
        assert result.exit_code == 3
        assert result.stderr.endswith(sentence), result.stderr


def test_pack(features: Path, tmp_path: Path) -> None:
    shutil.copy(features, tmp_path / "g.h5")
    result = _run("pack", features, tmp_path / "g.h5", "-o", tmp_path / "all.h5", "--compress", "gzip")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{tmp_path / 'all.h5'}: 40 rows of 2 files, 40 duplicate rows left out, ")
    assert result.stdout.endswith("KiB, compression gzip\n")
    result = _run("pack", features, "-o", tmp_path / "v.h5", "--virtual", "--json")
    value = json.loads(result.stdout)
    assert (value["rows"], value["virtual"], value["files"], value["duplicates"]) == (40, True, 1, 0)
    assert _run("pack", features, "-o", tmp_path / "v.h5").stderr == (
        f"ffe: '{tmp_path / 'v.h5'}' exists and is a feature file; choose another output, or replace it with "
        "--overwrite (in Python overwrite=True).\n"
    )
    assert _run("pack", features, "-o", tmp_path / "v.h5", "--overwrite", "--virtual").stdout.endswith(
        ", virtual: keep the files beside it\n"
    )
    assert f"virtual: its features lie in {features} " in " ".join(_run("info", tmp_path / "v.h5").stdout.split())
    assert "compressed by gzip, with checksums\n" in _run("info", tmp_path / "all.h5").stdout
    assert "not compressed, with checksums\n" in _run("info", features).stdout
    assert _run("pack", "-o", tmp_path / "x.h5").exit_code == 2


def test_extract_compresses(pictures: Path, tmp_path: Path) -> None:
    assert _run("extract", pictures, "-o", tmp_path / "f.h5", "--backbone", "fake", "--compress", "lzf").exit_code == 0
    with FeatureStore(tmp_path / "f.h5") as store:
        assert store.compression == "lzf"
    result = _run("extract", pictures, "-o", tmp_path / "f.h5", "--backbone", "fake", "--compress", "rar")
    assert (result.exit_code, "'rar' is not one of 'none', 'lzf', 'gzip', 'zstd'" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("verify", ["--recompute N", "--source PATH", "--weights TEXT", "--repair", "--seed", "--json", "Leaves with code 3"]),
        (
            "pack",
            ["--virtual", "--compress [none|lzf|gzip|zstd]", "--overwrite", "-o, --output PATH", "Rows of one image are kept"],
        ),
        ("extract", ["--compress [none|lzf|gzip|zstd]"]),
    ],
)
def test_help_explains_every_option(command: str, words: list[str]) -> None:
    text = _run(command, "--help").output
    for word in words:
        assert word in text
