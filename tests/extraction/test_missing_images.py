"""A source that has lost most of its images, a class or a split: no wish to delete, unless --prune says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ffe.cli import cli
from ffe.errors import SourceError
from ffe.extraction.estimate import dry_run
from ffe.extraction.run import extract
from ffe.store.reader import FeatureStore

ADVICE = (
    ". See whether a disk or a link is missing; if they are gone for good, run the same command with --prune "
    "(in Python prune=True)."
)


@pytest.fixture
def output(source: Path, tmp_path: Path) -> Path:
    path = tmp_path / "features.h5"
    extract(source, path, backbone="fake")
    return path


def run(source: Path, output: Path, *options: str) -> Result:
    return CliRunner().invoke(cli, ["extract", str(source), "-o", str(output), "--backbone", "fake", *options])


def refused(source: Path, output: Path) -> str:
    """Return the sentence with which a run is refused: a dry run says the same, and the file stays as it was."""
    before = output.read_bytes()
    result = run(source, output)
    assert (result.exit_code, result.stdout, output.read_bytes()) == (3, "", before)
    dry = run(source, output, "--dry-run")
    assert (dry.exit_code, dry.stderr) == (3, result.stderr)
    return result.stderr.splitlines()[-1].replace(str(source), "SOURCE").replace(str(output), "OUT").removeprefix("ffe: ")


def lose_most(source: Path) -> str:
    for i in range(4):
        (source / "cat" / f"cat_00{i}.png").unlink()
        (source / "dog" / f"dog_00{i}.png").unlink()
    return "8 of 12 images in 'OUT' are gone from 'SOURCE': 4 of 6 of 'cat' and 4 of 6 of 'dog'"


def lose_a_class(source: Path) -> str:
    shutil.rmtree(source / "dog")
    return "6 of 12 images in 'OUT' are gone from 'SOURCE': 6 of 6 of 'dog'"


@pytest.mark.parametrize("lose", [lose_most, lose_a_class])
def test_most_or_a_class_is_refused_and_pruned_on_request(source: Path, output: Path, lose: object) -> None:
    sentence = lose(source)  # type: ignore[operator]
    assert refused(source, output) == sentence + ADVICE
    assert run(source, output, "--prune").exit_code == 0
    with FeatureStore(output) as store:
        assert len(store) == sum(file.is_file() for file in source.glob("*/*"))
    assert run(source, output).exit_code == 0


def test_python_has_it_too(source: Path, output: Path) -> None:
    lose_a_class(source)
    with pytest.raises(SourceError, match="6 of 6 of 'dog'"):
        dry_run(source, output, backbone="fake")
    assert dry_run(source, output, backbone="fake", prune=True).images == 6
    assert extract(source, output, backbone="fake", prune=True).changes.removed == 6


def test_a_split_that_is_gone_is_refused(source: Path, tmp_path: Path) -> None:
    for kind in ("cat", "dog"):
        for split, numbers in (("train", range(4)), ("test", range(4, 6))):
            (tmp_path / "splits" / split / kind).mkdir(parents=True)
            for i in numbers:
                shutil.copy(source / kind / f"{kind}_00{i}.png", tmp_path / "splits" / split / kind)
    output = tmp_path / "features.h5"
    extract(tmp_path / "splits", output, backbone="fake")
    shutil.rmtree(tmp_path / "splits" / "test")
    assert refused(tmp_path / "splits", output) == (
        "4 of 12 images in 'OUT' are gone from 'SOURCE': 4 of 4 of the split 'test', 2 of 6 of 'cat' and 2 of 6 of 'dog'" + ADVICE
    )


def test_images_of_no_class_are_counted_by_folder(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("path,label\n" + "".join(f"source/{file.parent.name}/{file.name},\n" for file in source.glob("*/*")))
    output = tmp_path / "list.h5"
    extract(path, output, backbone="fake")
    shutil.rmtree(source / "dog")
    assert refused(path, output).startswith("6 of 12 images in 'OUT' are gone from ")
    assert ": 6 of 6 of the folder 'source/dog'. See" in refused(path, output)


def test_a_link_to_nothing_is_refused(source: Path, output: Path) -> None:
    """The walk says so before, whatever the file holds."""
    (source / "dog").rename(source.parent / "disk")
    (source / "dog").symlink_to(source.parent / "disk")
    assert run(source, output).exit_code == 0
    (source.parent / "disk").rename(source.parent / "away")
    assert refused(source, output).startswith("No image can be read in 'dog' of 'SOURCE' (a link to a file that is not there);")


def test_what_moves_is_not_gone(source: Path, output: Path) -> None:
    (source / "dog").rename(source / "hound")
    assert run(source, output).exit_code == 0
    with FeatureStore(output) as store:
        assert (len(store), store.class_names) == (12, ("cat", "hound"))


def test_what_a_list_no_longer_names_is_not_gone(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    lines = [f"source/{file.parent.name}/{file.name},{file.parent.name}" for file in sorted(source.glob("*/*"))]
    path.write_text("\n".join(["path,label", *lines]))
    extract(path, tmp_path / "list.h5", backbone="fake")
    path.write_text("\n".join(["path,label", *lines[:4]]))
    assert run(path, tmp_path / "list.h5").exit_code == 0


def test_a_few_files_are_not_guarded(source: Path, tmp_path: Path) -> None:
    for i in range(2, 6):
        for kind in ("cat", "dog"):
            (source / kind / f"{kind}_00{i}.png").unlink()
    output = tmp_path / "few.h5"
    assert run(source, output).exit_code == 0
    shutil.rmtree(source / "dog")
    assert run(source, output).exit_code == 0


def test_images_that_become_unreadable_are_gone_too(source: Path, output: Path) -> None:
    """Known only after they were read: nothing is written, and a class is told of as a class."""
    for i in range(5):
        (source / "cat" / f"cat_00{i}.png").write_bytes(b"no picture")
        (source / "dog" / f"dog_00{i}.png").write_bytes(b"no picture")
    before = output.read_bytes()
    result = run(source, output)
    assert (result.exit_code, output.read_bytes()) == (3, before)
    assert "10 of 12 images" in result.stderr
    assert run(source, output, "--prune").exit_code == 0


def test_a_class_of_which_nothing_can_be_read_is_refused(source: Path, tmp_path: Path) -> None:
    for file in (source / "dog").iterdir():
        file.write_bytes(b"no picture")
    result = run(source, tmp_path / "f.h5")
    assert result.exit_code == 3
    assert result.stderr.splitlines()[-1] == (
        "ffe: None of the 6 files of the class 'dog' can be read ('dog/dog_000.png': it is no JPEG, PNG, GIF, WebP, AVIF, TIFF, "
        "BMP, JPEG 2000 or PNM picture); mend them, or take what cannot be read out of the source. Features that were computed "
        "are kept for the same command."
    )
    shutil.rmtree(source / "dog")
    again = run(source, tmp_path / "f.h5")
    assert (again.exit_code, again.stdout.splitlines()[0].partition(", in ")[0].partition(": ")[2]) == (
        0,
        "6 rows, 0 computed, 0 skipped",
    )


def test_a_class_whose_files_are_not_there_is_refused_at_once(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("path,label\nsource/cat/cat_000.png,cat\nx/dog.png,dog\nx/emu.png,emu\n")
    for options in ((), ("--dry-run",)):
        result = run(path, tmp_path / "f.h5", *options)
        assert (result.exit_code, result.stderr.splitlines()[-1][:99]) == (
            3,
            "ffe: The only file of the class 'dog' cannot be read ('x/dog.png': no such file), and no file of 'emu'; mend"[:99],
        )


NFC, NFD = "caf\u00e9", "cafe\u0301"


def test_names_in_another_form_are_the_same(source: Path, tmp_path: Path) -> None:
    """As after a copy from a Mac: nothing is new, nothing is gone, and the file names what lies on the disk."""
    (source / "dog").rename(source / NFC)
    (source / NFC / "dog_000.png").rename(source / NFC / f"{NFC}.png")
    output = tmp_path / "f.h5"
    extract(source, output, backbone="fake")
    (source / NFC / f"{NFC}.png").rename(source / NFC / f"{NFD}.png")
    (source / NFC).rename(source / NFD)
    summary = extract(source, output, backbone="fake")
    assert (summary.changes.unchanged, summary.computed, summary.changes.removed, summary.changes.renamed) == (12, 0, 0, 0)
    with FeatureStore(output) as store:
        assert store.class_names == (NFC, "cat")
        assert f"{NFD}/{NFD}.png" in store.paths
        assert all((source / path).exists() for path in store.paths)
