"""An output whose ending is that of another format is refused before anything is computed."""

from __future__ import annotations

import os
import re
import shutil
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from ffe import pack
from ffe.base.atomic import copy_file
from ffe.base.output_file import check_output as check_report
from ffe.base.output_file import check_output_folder, write_output
from ffe.bundle.build import check_place
from ffe.bundle.io import Bundle
from ffe.cli import cli
from ffe.errors import BundleError, ReportError, StoreError
from ffe.extraction.request import check_output
from ffe.report.predictions_csv import check_answers


@pytest.mark.parametrize("suffix", [".csv", ".npz", ".npy", ".parquet", ".json", ".pkl", ".ffe", ".CSV", ".jpg", ".PNG", ".txt"])
def test_features(tmp_path: Path, suffix: str) -> None:
    sentence = f"The features are written as HDF5, not as '{suffix}'; name the output '{tmp_path / 'f.h5'}'."
    with pytest.raises(StoreError, match=f"^{re.escape(sentence)}$"):
        check_output(tmp_path / f"f{suffix}")


@pytest.mark.parametrize("suffix", [".h5", ".hdf5", ".keras", ".pkl", ".onnx", ".json", ".jpg", ".zip", ".npz", ".txt", ".xml"])
def test_a_model(tmp_path: Path, suffix: str) -> None:
    sentence = f"The model is written as ffe's own format, not as '{suffix}'; name the output '{tmp_path / 'm.ffe'}'."
    with pytest.raises(BundleError, match=f"^{re.escape(sentence)}$"):
        check_place(tmp_path / f"m{suffix}", overwrite=True)


@pytest.mark.parametrize("suffix", [".pdf", ".png", ".jpeg", ".zip", ".parquet", ".onnx", ".txt", ".xlsx"])
def test_a_report(tmp_path: Path, suffix: str) -> None:
    sentence = f"The report is written as HTML, not as '{suffix}'; name the output '{tmp_path / 'r.html'}'."
    with pytest.raises(ReportError, match=f"^{re.escape(sentence)}$"):
        check_report(tmp_path / f"r{suffix}")


@pytest.mark.parametrize("suffix", [".jpg", ".html", ".xlsx.gz", ".tsv"])
def test_a_table_of_answers(tmp_path: Path, suffix: str) -> None:
    stem, ending = os.path.splitext(str(tmp_path / f"a{suffix}"))
    sentence = f"The table of answers is written as CSV, not as '{ending}'; name the output '{stem}.csv'."
    with pytest.raises(ReportError, match=f"^{re.escape(sentence)}$"):
        check_answers(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", [".jpg", ".HTML", ".ffe"])
@pytest.mark.parametrize("command", ["compare", "bakeoff --backbones fake,mobilenet", "demo"])
def test_a_folder(pictures: Path, tmp_path: Path, command: str, suffix: str) -> None:
    name, *options = command.split()
    source = [] if name == "demo" else [str(pictures)]
    result = CliRunner().invoke(cli, [name, *source, *options, "-o", str(tmp_path / f"o{suffix}")])
    sentence = f"The output is written as a folder, not as '{suffix}'; name the output '{tmp_path / 'o'}'."
    assert (result.exit_code, result.stdout, result.stderr) == (3, "", f"ffe: {sentence}\n")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_any_kind(tmp_path: Path) -> None:
    sentence = f"The album is written as a folder, not as '.pdf'; name the album '{tmp_path / 'o'}'."
    with pytest.raises(StoreError, match=f"^{re.escape(sentence)}$"):
        check_output_folder(tmp_path / "o.pdf", "album", StoreError)


@pytest.mark.parametrize("name", ["f", "f.hdf5", "f.hdf", "f.features"])
def test_any_other_ending_may_stay(tmp_path: Path, name: str) -> None:
    check_output(tmp_path / name)
    check_place(tmp_path / name.replace("hdf5", "model"), overwrite=True)
    check_report(tmp_path / name)
    check_answers(tmp_path / name)


@pytest.mark.skipif(os.name != "posix", reason="modes and links as POSIX has them")
def test_what_is_replaced_keeps_its_mode_and_a_link_stays_a_link(fake_store: Path, fake_bundle: Path, tmp_path: Path) -> None:
    page, model, features = (tmp_path / name for name in ("page.html", "model.ffe", "f.h5"))
    page.touch()
    for made, place in ((fake_bundle, model), (fake_store, features)):
        shutil.copy(made, place)
    linked = tmp_path / "link"
    linked.mkdir()
    for place in (page, model, features):
        place.chmod(0o640)
        (linked / place.name).symlink_to(place)
    inodes = [place.stat().st_ino for place in (page, model, features)]
    write_output(linked / page.name, b"new")
    copy_file(fake_bundle, model)
    pack([features], linked / features.name, overwrite=True)
    assert [place.stat().st_ino for place in (page, model, features)] != inodes
    assert all(stat.S_IMODE(place.stat().st_mode) == 0o640 for place in (page, model, features))
    assert (linked / page.name).is_symlink()
    assert (linked / features.name).is_symlink()
    assert page.read_bytes() == b"new"
    bundle = Bundle(linked / model.name)
    splits = bundle.splits()
    bundle.replace_splits(splits[1:])
    assert (linked / model.name).is_symlink()
    assert Bundle(model).splits() == splits[1:]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may give a file away")
def test_what_is_replaced_keeps_its_owner(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.touch()
    os.chown(page, 1234, 2345)
    write_output(page, b"new")
    assert (page.stat().st_uid, page.stat().st_gid, page.read_bytes()) == (1234, 2345, b"new")


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    """Also where the file in it could be: what is half written must never stand in its place."""
    for name in ("f.h5", "m.ffe", "r.html"):
        if there:
            (tmp_path / name).touch()
    monkeypatch.setattr("ffe.base.output_file.takes_files", lambda folder: folder != tmp_path)
    why = ", and a file is replaced by a new one that is made beside it" if there else ""
    start = f"^{re.escape(f'The folder {str(tmp_path)!r} cannot be written to{why}; choose another place for the ')}"
    with pytest.raises(StoreError, match=f"{start}output\\.$"):
        check_output(tmp_path / "f.h5")
    with pytest.raises(BundleError, match=f"{start}output\\.$"):
        check_place(tmp_path / "m.ffe", overwrite=True)
    with pytest.raises(ReportError, match=f"{start}report\\.$"):
        check_report(tmp_path / "r.html")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no folder that takes no file whatever its rights say")
def test_a_folder_is_tried_for_its_rights_do_not_tell() -> None:
    """Of everything that is written after long work, before that."""
    sentence = "The folder '/proc' cannot be written to; choose another place for the {}."
    for check, name, error, what in (
        (check_output, "f.h5", StoreError, "output"),
        (check_report, "r.html", ReportError, "report"),
        (check_answers, "a.csv", ReportError, "table of answers"),
    ):
        with pytest.raises(error, match=f"^{re.escape(sentence.format(what))}$"):
            check(Path("/proc") / name)
    with pytest.raises(BundleError, match=f"^{re.escape(sentence.format('output'))}$"):
        check_place(Path("/proc/m.ffe"), overwrite=True)
