"""Commands on photos at URLs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from click.testing import CliRunner

import ffe
from ffe.cli import cli
from ffe.commands.verify import verify
from ffe.extraction.run import extract
from ffe.images.sources import list_images
from ffe.report.thumbnails import Album
from ffe.store.reader import FeatureStore


@pytest.fixture(scope="module")
def photos(pictures: Path) -> Iterator[str]:
    """The drawn photos in memory."""
    files = fsspec.filesystem("memory")
    for file in pictures.glob("*/*.png"):
        files.pipe_file(f"/urls/photos/{file.relative_to(pictures).as_posix()}", file.read_bytes())
    yield "memory://urls/photos"
    files.rm("/urls", recursive=True)


def said(*arguments: object) -> str:
    result = CliRunner().invoke(cli, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return result.output


def test_scan_and_its_page(photos: str, pictures: Path, tmp_path: Path) -> None:
    far, near = ffe.scan(photos, report=tmp_path / "scan.html"), ffe.scan(pictures)
    assert (far.classes, far.bytes, far.twins) == (near.classes, near.bytes, near.twins)
    assert (tmp_path / "scan.html").read_text().count("data:image/jpeg") > 2
    assert said("scan", photos).splitlines()[1:] == said("scan", pictures).splitlines()[1:]


def test_predict_a_folder_and_a_photo(fake_bundle: Path, photos: str, pictures: Path) -> None:
    one = "/cat/cat_001.png"
    far = said("predict", fake_bundle, photos, photos + one).replace(photos, str(pictures))
    assert far == said("predict", fake_bundle, pictures, f"{pictures}{one}")
    assert ffe.evaluate(fake_bundle, photos).to_json() == ffe.evaluate(fake_bundle, pictures).to_json()


def test_verify_goes_back_to_them(photos: str, tmp_path: Path, fake_store: Path) -> None:
    extract(photos, tmp_path / "f.h5", backbone="fake")
    found = verify(tmp_path / "f.h5", recompute=3)
    assert (found.ok, found.recomputed, found.notes) == (True, 3, ())
    shutil.copy(fake_store, tmp_path / "moved.h5")
    found = verify(tmp_path / "moved.h5", recompute=3, source=photos)
    assert (found.ok, found.recomputed) == (True, 3)


def test_lists_and_pictures(fake_bundle: Path, photos: str, tmp_path: Path) -> None:
    files = fsspec.filesystem("memory")
    for i, name in enumerate(files.find("/urls/photos")[:5]):
        files.pipe_file(f"/urls/new/{i}.png", files.cat_file(name) + b"new")
    said("suggest", fake_bundle, "memory://urls/new", "-n", "3", "-o", tmp_path / "next.csv")
    listed = list_images(tmp_path / "next.csv").records
    assert all(record.path.startswith("memory://urls/new/") for record in listed)
    assert [len(record.file.read(1 << 20)) > 9 for record in listed if not isinstance(record.file, Path)] == [True] * 3
    said("preview", f"{photos}/cat/cat_001.png", "--augment", "flip", "-o", tmp_path / "one.png")
    said("preview", photos, "--augment", "flip", "-o", tmp_path / "all.png")
    album = Album()
    album.key(list_images(photos).records[0].file, "a.png")
    album.make()
    assert album.gone == 0


def test_what_is_gone_is_noticed(photos: str, pictures: Path, tmp_path: Path) -> None:
    source = "memory://urls/less"
    files = fsspec.filesystem("memory")
    files.copy("/urls/photos", "/urls/less", recursive=True)
    extract(source, tmp_path / "f.h5", backbone="fake")
    files.rm("/urls/less/cat", recursive=True)
    with pytest.raises(ffe.FfeError, match=r"are gone from 'memory://urls/less'.*--prune"):
        extract(source, tmp_path / "f.h5")
    extract(source, tmp_path / "f.h5", prune=True)
    with FeatureStore(tmp_path / "f.h5") as store:
        assert store.class_names == ("dog",)
