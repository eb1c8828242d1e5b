"""``ffe extract``."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ffe.cli import cli
from ffe.extraction.run import ExtractSummary, extract
from ffe.images.drawings import draw
from ffe.store.reader import FeatureStore


@pytest.fixture
def source(pictures: Path, tmp_path: Path) -> Path:
    """Five cats, five dogs, and one file that is no picture."""
    folder = tmp_path / "photos"
    for kind in ("cat", "dog"):
        (folder / kind).mkdir(parents=True)
        for file in sorted((pictures / kind).iterdir())[:5]:
            shutil.copy(file, folder / kind)
    (folder / "cat" / "bad.jpg").write_bytes(b"no picture")
    return folder


def test_json_is_one_object_and_all_of_stdout(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "f.h5"
    result = CliRunner().invoke(cli, ["extract", str(source), "-o", str(output), "--backbone", "fake", "--json"])
    assert result.exit_code == 0
    value = json.loads(result.stdout)
    assert result.stdout.count("\n") == 1
    seconds, rate, stages = value.pop("seconds"), value.pop("images_per_second"), value.pop("stages")
    assert stages.pop("limit") in stages
    assert set(stages) == {"read", "decode", "backbone", "write", "backbone_processor"}
    assert all(spent >= 0 for spent in stages.values())
    assert value.pop("workers") >= 1
    assert value == {
        "output": str(output),
        "rows": 10,
        "images": 10,
        "copies": 0,
        "classes": ["cat", "dog"],
        "views": None,
        "computed": 10,
        "read": 11,
        "unchanged": 0,
        "new": 10,
        "changed": 0,
        "removed": 0,
        "renamed": 0,
        "skipped": 1,
        "skipped_reasons": {"not-an-image": 1},
        "skipped_files": ["cat/bad.jpg"],
        "engine": "fake",
        "batch_size": 32,
        "fidelity": None,
        "nodes": {},
        "runner": "local",
    }
    assert seconds > 0
    assert rate > 0
    with FeatureStore(output) as store:
        assert len(store) == 10
        assert store.class_names == ("cat", "dog")
        assert [file.path for file in store.skipped] == ["cat/bad.jpg"]


def test_a_rate_that_leaves_much_out_says_so(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 22 seconds 10 went into images, the others into a conversion."""

    def slowly(*arguments: object, **options: object) -> ExtractSummary:
        return replace(extract(*arguments, **options), seconds=22.0, images_per_second=1.0)  # type: ignore[arg-type]

    monkeypatch.setattr("ffe.extraction.run.extract", slowly)
    result = CliRunner().invoke(cli, ["extract", str(source), "-o", str(tmp_path / "f.h5"), "--backbone", "fake"])
    assert "10 computed, 1 skipped, in 22 s, 1.0 images/s in the 10 s of computing\n" in result.stdout


def test_text_is_one_line_and_the_rest_goes_to_stderr(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "f.h5"
    result = CliRunner().invoke(cli, ["extract", str(source), "-o", str(output), "--backbone", "fake"])
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{output}: 10 rows, 10 computed, 1 skipped, in ")
    assert result.stdout.count("\n") == 1
    assert f"skipped: 1 not-an-image ('cat/bad.jpg'); 'ffe info {output}' says why\n" in result.stderr
    assert "11/11 images" in result.stderr


def test_a_second_run_computes_nothing(source: Path, tmp_path: Path) -> None:
    arguments = ["extract", str(source), "-o", str(tmp_path / "f.h5"), "--backbone", "fake", "--json"]
    CliRunner().invoke(cli, arguments)
    before = (tmp_path / "f.h5").read_bytes()
    value = json.loads(CliRunner().invoke(cli, arguments).stdout)
    assert (value["rows"], value["computed"], value["skipped"]) == (10, 0, 1)
    assert (tmp_path / "f.h5").read_bytes() == before


def test_strict_leaves_with_1_where_files_were_skipped(source: Path, tmp_path: Path) -> None:
    arguments = ["extract", str(source), "-o", str(tmp_path / "f.h5"), "--backbone", "fake", "--strict"]
    assert CliRunner().invoke(cli, arguments).exit_code == 1
    (source / "cat" / "bad.jpg").unlink()
    assert CliRunner().invoke(cli, arguments).exit_code == 0


def test_options_reach_the_spec(source: Path, tmp_path: Path) -> None:
    arguments = ["--backbone", "fake", "--size", "20x30", "--dtype", "float16", "--batch-size", "3", "--workers", "1"]
    result = CliRunner().invoke(cli, ["extract", str(source), "-o", str(tmp_path / "f.h5"), *arguments])
    assert result.exit_code == 0
    with FeatureStore(tmp_path / "f.h5") as store:
        assert store.spec.preprocess.size == (20, 30)
        assert store.spec.dtype == "float16"


def test_overwrite_replaces_other_features(source: Path, tmp_path: Path) -> None:
    base = ["extract", str(source), "-o", str(tmp_path / "f.h5"), "--backbone", "fake"]
    assert CliRunner().invoke(cli, base).exit_code == 0
    refused = CliRunner().invoke(cli, [*base, "--size", "40"])
    assert refused.exit_code == 3
    assert refused.stdout == ""
    assert refused.stderr.startswith("ffe: ")
    assert "holds other features than these (preprocess.size: stored 32x32, asked 40x40)" in refused.stderr
    assert "replace it with --overwrite (in Python overwrite=True)." in refused.stderr
    assert CliRunner().invoke(cli, [*base, "--size", "40", "--overwrite"]).exit_code == 0


@pytest.mark.parametrize("size", ["big", "0", "10x20x30", "-5", "3x"])
def test_a_size_that_is_none_is_a_usage_error(source: Path, tmp_path: Path, size: str) -> None:
    result = CliRunner().invoke(cli, ["extract", str(source), "-o", str(tmp_path / "f.h5"), f"--size={size}"])
    assert result.exit_code == 2
    assert "give one number of pixels, such as 150, or HEIGHTxWIDTH, such as 128x192." in result.stderr


def extracted(source: Path, tmp_path: Path, *options: str) -> Result:
    return CliRunner().invoke(cli, ["extract", str(source), "-o", str(tmp_path / "f.h5"), "--backbone", "fake", *options])


def test_what_it_takes_is_said_before_it_starts(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFE_CACHE_DIR", str(tmp_path / "cache"))
    first, second, third = extracted(source, tmp_path).stderr.splitlines()[:3]
    assert first == "11 files: 11 to compute, 0 copied from the file, 0 skipped so far; time unknown until the first batches"
    assert re.fullmatch(rf"{tmp_path}/f\.h5: size unknown until the backbone is loaded; .* free", second)
    assert re.fullmatch(rf"{tmp_path}/f\.h5: \d+\.\d KiB, needs \d+\.\d KiB while it is made; .* free", third)
    draw("dog", 77).save(source / "dog" / "new.png")
    (source / "dog" / "dog_000.png").touch()
    first, second = extracted(source, tmp_path).stderr.splitlines()[:2]
    assert first == (
        "12 files: 1 to compute, 9 copied from the file, 1 to compare with it by content, 1 skipped so far; "
        "time unknown until the first batches"
    )
    assert re.fullmatch(rf"{tmp_path}/f\.h5: \d+\.\d KiB, needs \d+\.\d KiB while it is made; .* free", second)
    first, second = extracted(source, tmp_path).stderr.splitlines()[:2]
    assert first == "12 files: 0 to compute, 11 copied from the file, 1 skipped so far"
    assert re.fullmatch(rf"{tmp_path}/f\.h5: \d+\.\d KiB, nothing to write; .* free", second)


def test_copies_are_counted_so_that_the_numbers_add_up(source: Path, tmp_path: Path) -> None:
    shutil.copy(source / "cat" / "cat_000.png", source / "cat" / "twin.png")
    assert extracted(source, tmp_path).stdout.startswith(
        f"{tmp_path}/f.h5: 11 rows (1 copy of another), 10 computed, 1 skipped, in "
    )
    for name in ("a", "b"):
        shutil.copy(source / "dog" / "dog_000.png", source / "dog" / f"{name}.png")
    assert extracted(source, tmp_path).stdout.startswith(f"{tmp_path}/f.h5: 13 rows (3 copies of others), 0 computed, 1 sk")
    shown = extracted(source, tmp_path, "-o", str(tmp_path / "views.h5"), "--views", "2", "--augment", "flip,rotate=9").stdout
    assert f"{tmp_path}/views.h5: 39 rows: 13 images with 2 views each (3 copies of others), 30 computed, 1 skipped" in shown


def test_what_changed_is_said_afterwards(source: Path, tmp_path: Path) -> None:
    assert extracted(source, tmp_path).stdout.count("\n") == 1
    draw("dog", 77).save(source / "dog" / "new.png")
    draw("dog", 78).save(source / "dog" / "dog_000.png")
    (source / "dog" / "dog_001.png").unlink()
    (source / "dog" / "dog_002.png").rename(source / "cat" / "moved.png")
    lines = extracted(source, tmp_path).stdout.splitlines()
    assert lines[0].startswith(f"{tmp_path}/f.h5: 10 rows, 2 computed, 1 skipped, in ")
    assert lines[1:] == ["7 unchanged, 1 new, 1 changed, 1 removed, 1 renamed"]
    value = json.loads(extracted(source, tmp_path, "--rehash", "--json").stdout)
    assert {name: value[name] for name in ("unchanged", "new", "changed", "removed", "renamed", "read", "computed")} == {
        **{"unchanged": 10, "new": 0, "changed": 0, "removed": 0, "renamed": 0},
        **{"read": 11, "computed": 0},
    }


def test_a_dry_run_says_it_and_does_nothing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFE_CACHE_DIR", str(tmp_path / "cache"))  # which remembers no earlier run
    result = extracted(source, tmp_path, "--dry-run")
    assert (result.exit_code, result.stderr) == (0, "")
    first, second = result.stdout.splitlines()
    assert first == "11 files: 11 to compute, 0 copied from the file, 0 skipped so far; time unknown until the first batches"
    assert re.fullmatch(rf"{tmp_path}/f\.h5: \d+\.\d KiB, needs \d+\.\d KiB while it is made; .* free", second)
    assert [file.name for file in tmp_path.iterdir()] == ["photos"]
    value = json.loads(extracted(source, tmp_path, "--dry-run", "--json").stdout)
    assert (value["output"], value["images"], value["compute"], value["seconds"]) == (f"{tmp_path}/f.h5", 11, 11, None)
    assert value["free_bytes"] > value["needed_bytes"] > value["file_bytes"] > 0


def test_a_dry_run_of_what_does_not_fit(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what it knows, and is refused as the run would be."""
    monkeypatch.setattr("ffe.extraction.estimate.free_disk", lambda folder: 1000)
    result = extracted(source, tmp_path, "--dry-run")
    assert result.exit_code == 3
    assert "1000 B free" in result.stdout
    assert result.stderr.startswith(f"ffe: The disk of '{tmp_path}/f.h5' has 1000 B free, but at least ")


def test_what_comes_next_is_said(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    output = str(tmp_path / "f.h5")
    labelled = CliRunner().invoke(cli, ["extract", str(pictures), "-o", output, "--backbone", "fake"])
    assert labelled.stdout.startswith(f"{output}: ")
    assert labelled.stderr.endswith(f"Next: ffe tune {output} -o model.ffe\n")
    for name in ("model.ffe", "model-2.ffe"):
        Path(name).touch()
    spaced = CliRunner().invoke(cli, ["extract", str(pictures), "-o", "my f.h5", "--backbone", "fake"])
    assert spaced.stderr.endswith("Next: ffe tune 'my f.h5' -o model-3.ffe\n")
    shards = [  # the first two times one file is there, in the end three
        CliRunner().invoke(cli, ["extract", str(pictures), "-o", "s.h5", "--backbone", "fake", "--shards", asked])
        for asked in ("2/3", "2/3", "1/3", "3/3", "3")
    ]
    assert [done.stdout.splitlines()[0].partition(": ")[0] for done in shards] == [
        *("s-00002-of-00003.h5",) * 2,
        "s-00001-of-00003.h5",
        "s-00003-of-00003.h5",
        "s.h5",
    ]
    for done, lack in zip(shards, ("1/3 and 3/3", "1/3 and 3/3", "3/3"), strict=False):
        assert done.stderr.endswith(
            f"Next: the same command with --shards {lack}, and when all are there, with --shards 3, which makes s.h5 of them\n"
        )
    assert shards[3].stderr.endswith("Next: the same command with --shards 3, which makes s.h5 of them\n")
    assert all("beside it" not in done.stderr for done in shards[:4])
    assert "The features lie in 3 files beside it" in shards[4].stderr
    assert shards[4].stderr.endswith("Next: ffe tune s.h5 -o model-3.ffe\n")
    flat = CliRunner().invoke(cli, ["extract", str(pictures / "cat"), "-o", str(tmp_path / "flat.h5"), "--backbone", "fake"])
    assert flat.stderr.endswith(
        "no image has a label: to learn from them, give a folder with one folder per class, or a CSV with labels\n"
    )


@pytest.mark.parametrize(
    "arguments", [["extract", "{}/phtos", "-o", "{}/f.h5"], ["predict", "{}/model.ff", "x"], ["info", "{}/f.h"]]
)
def test_a_path_that_is_nearly_right_is_named(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("model.ffe", "f.h5"):
        (tmp_path / name).touch()
    result = CliRunner().invoke(cli, [part.format(tmp_path) for part in arguments])
    meant = {"extract": "photos", "predict": "model.ffe", "info": "f.h5"}[arguments[0]]
    assert result.exit_code == 3
    assert result.stderr.endswith(f" Did you mean '{tmp_path}/{meant}'?\n")
