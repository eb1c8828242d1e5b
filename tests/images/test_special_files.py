"""Pipes, devices, sockets, links to them, files that grow or have no end: never waited for, never read without bound."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import ffe.images.decode as decoding
from ffe.cli import cli
from ffe.errors import DecodeError, SourceError, StoreError
from ffe.images.decode import read_image
from ffe.images.sources import scan
from ffe.store.reader import FeatureStore

NO_FILE = "a pipe, a device or a socket, not a file"


def answer(path: Path, **options: int) -> tuple[str, str]:
    with pytest.raises(DecodeError) as caught:
        read_image(path, **options)
    return caught.value.reason, str(caught.value)


@pytest.fixture
def special(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """A pipe, a socket, a device (a link to one: only root could make one), and links to the first two."""
    folder = tmp_path / "special"
    folder.mkdir()
    os.mkfifo(folder / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as open_socket:
        here = os.open(folder, os.O_RDONLY)
        try:  # the whole path may be too long for a socket
            before = os.getcwd()
            os.chdir(folder)
            open_socket.bind("socket.jpg")
        finally:
            os.chdir(before)
            os.close(here)
        (folder / "zero.jpg").symlink_to("/dev/zero")
        (folder / "pipe_link.jpg").symlink_to("pipe.jpg")
        (folder / "socket_link.jpg").symlink_to("socket.jpg")
        yield {path.name: path for path in folder.iterdir()}


NAMES = ["pipe.jpg", "socket.jpg", "zero.jpg", "pipe_link.jpg", "socket_link.jpg"]


@pytest.mark.parametrize("name", NAMES)
def test_read_image_refuses_them(special: dict[str, Path], name: str) -> None:
    assert answer(special[name]) == ("not-a-file", NO_FILE)


def test_what_becomes_a_pipe_after_it_was_looked_at_is_not_waited_for(
    special: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    regular = os.stat(__file__)
    monkeypatch.setattr(decoding.os, "stat", lambda path: regular)
    assert answer(special["pipe.jpg"]) == ("not-a-file", NO_FILE)


def test_they_are_not_even_opened(special: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Some devices act when they are opened: a tape rewinds."""
    monkeypatch.setattr(decoding.os, "open", lambda *rest: pytest.fail("it was opened"))
    for path in special.values():
        assert answer(path)[0] == "not-a-file"


def test_folders_missing_files_and_broken_links(tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "round.jpg").symlink_to("round.jpg")
    (tmp_path / "file").write_bytes(b"x")
    assert answer(tmp_path) == ("not-a-file", "a folder, not a file")
    assert answer(tmp_path / "none.jpg") == ("missing", "no such file")
    assert answer(tmp_path / "gone.jpg") == ("missing", "a link to a file that is not there")
    assert answer(tmp_path / "a\0b.jpg") == ("missing", "no such file")
    assert answer(tmp_path / "file" / "below.jpg") == ("unreadable", "Not a directory")
    assert answer(tmp_path / "round.jpg") == ("unreadable", "Too many levels of symbolic links")
    assert answer(tmp_path / ("x" * 300)) == ("unreadable", "File name too long")


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mocked: tests may run as root, who may read everything."""
    (tmp_path / "secret.jpg").write_bytes(b"x")

    def forbid(*rest: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(decoding.os, "open", forbid)
    assert answer(tmp_path / "secret.jpg") == ("unreadable", "Permission denied")


def sparse(path: Path, head: bytes, size: int) -> Path:
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)  # takes no space on the disk
    return path


def test_a_sparse_file_of_100_gib_is_not_read(tmp_path: Path) -> None:
    path = sparse(tmp_path / "huge.jpg", b"\xff\xd8\xff\xe0", 100 << 30)
    assert answer(path) == ("too-large", "the file has more than 1,024 MiB (--max-bytes)")
    assert answer(path, max_bytes=1000) == ("too-large", "the file has more than 1,000 bytes (--max-bytes)")


def test_of_a_file_that_is_no_picture_only_the_start_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    real = os.read

    def read(descriptor: int, count: int) -> bytes:
        counted.append(count)
        return real(descriptor, count)

    monkeypatch.setattr(decoding.os, "read", read)
    assert answer(sparse(tmp_path / "film.mov", b"\0\0\0\x18ftypqt  ", 1 << 30))[0] == "unsupported"
    assert answer(sparse(tmp_path / "zeros.jpg", b"", 1 << 30))[0] == "not-an-image"
    assert counted == [65_536, 65_536]


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 200_000])
def test_a_file_is_read_as_a_whole_though_the_system_gives_less_than_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    path, real = tmp_path / "photo.jpg", os.read
    path.write_bytes(b"\xff\xd8\xff\xe0" + os.urandom(size - 4))
    assert decoding.read_image(path) == path.read_bytes()
    monkeypatch.setattr(decoding.os, "read", lambda descriptor, count: real(descriptor, min(count, 10_000)))
    with path.open("rb") as file:
        assert decoding.read_image(path) == file.read()


def test_a_file_that_grows_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0" + b"x" * 10_000)
    status = os.stat(path)
    with path.open("ab") as file:
        file.write(b"more")
    monkeypatch.setattr(decoding.os, "fstat", lambda descriptor: status)
    sentence = "the file grows while it is read; run this again when it is complete"
    assert answer(path) == ("unreadable", sentence)


def test_a_file_that_is_changed_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0" + b"x" * 10_000)
    monkeypatch.setattr(decoding, "kind_of", lambda data: os.utime(path, ns=(0, 1)))
    assert answer(path) == ("unreadable", "it was changed while it was read; run this again")


def test_a_file_of_no_known_size_is_read_up_to_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As some network file systems have them."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0" + b"x" * 10_000)
    unknown = os.stat_result((stat.S_IFREG | 0o644, *os.stat(path)[1:6], 0, 0, 0, 0))
    monkeypatch.setattr(decoding.os, "fstat", lambda descriptor: unknown)
    assert read_image(path) == path.read_bytes()
    assert answer(path, max_bytes=5000) == ("unreadable", "the file has more than 5,000 bytes (--max-bytes)")


def test_extraction_skips_them_with_a_reason(special: dict[str, Path], pictures: Path, tmp_path: Path) -> None:
    source = tmp_path / "photos"
    source.mkdir()
    (source / "cat").symlink_to(pictures / "cat")
    (source / "dog").symlink_to(pictures / "dog")
    (source / "odd").symlink_to(special["pipe.jpg"].parent)
    arguments = ["extract", str(source), "-o", str(tmp_path / "f.h5"), "--backbone", "fake"]
    assert CliRunner().invoke(cli, arguments).exit_code == 3  # a class that has nothing else
    shutil.copy(pictures / "cat" / "cat_000.png", special["pipe.jpg"].parent)
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.stderr
    with FeatureStore(tmp_path / "f.h5") as store:
        assert len(store) == 41
        assert {file.path: file.message for file in store.skipped} == {f"odd/{name}": NO_FILE for name in NAMES}


def test_a_csv_may_name_them(special: dict[str, Path], pictures: Path, tmp_path: Path) -> None:
    lines = [f"{special[name]},cat" for name in NAMES] + [f"{pictures}/cat/cat_000.png,cat", f"{tmp_path},cat"]
    (tmp_path / "list.csv").write_text("path,label\n" + "\n".join(lines))
    arguments = ["extract", str(tmp_path / "list.csv"), "-o", str(tmp_path / "f.h5"), "--backbone", "fake"]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    with FeatureStore(tmp_path / "f.h5") as store:
        assert len(store) == 1
        found = {Path(file.path).name: file.message for file in store.skipped}
    assert found == {**dict.fromkeys(NAMES, NO_FILE), tmp_path.name: "a folder, not a file"}


def test_predict_answers_for_them(special: dict[str, Path], fake_bundle: Path, pictures: Path) -> None:
    """As arguments, inside a folder, and in a list."""
    good = str(pictures / "cat" / "cat_000.png")
    named = [str(special[name]) for name in NAMES]
    for arguments, listed in (
        ([*named, good], None),
        ([str(special["pipe.jpg"].parent), good], None),
        (["-"], "\n".join([*named, good])),
    ):
        result = CliRunner().invoke(cli, ["predict", str(fake_bundle), *arguments, "--json"], input=listed)
        assert result.exit_code == 0, result.stderr
        errors = {value["path"]: value["error"] for value in map(json.loads, result.stdout.splitlines())}
        assert errors == {**dict.fromkeys(named, NO_FILE), good: None}


def test_a_pipe_is_no_source_no_features_and_no_model(special: dict[str, Path], tmp_path: Path) -> None:
    pipe = special["pipe.jpg"]
    (tmp_path / "list.csv").symlink_to(pipe)
    with pytest.raises(
        SourceError, match=r"list\.csv' is a pipe, a device or a socket, not a file; save the list as a CSV file\.$"
    ):
        scan(tmp_path / "list.csv")
    with pytest.raises(StoreError, match=r"pipe\.jpg' cannot be read: it is a pipe or a device, not a file; give a file\.$"):
        FeatureStore(pipe)
    for arguments in (
        ["info", str(pipe)],
        ["predict", str(pipe), "x.jpg"],
        ["extract", str(tmp_path), "-o", str(pipe), "--overwrite", "--backbone", "fake"],
    ):
        assert CliRunner().invoke(cli, arguments).exit_code == 3


def test_a_csv_without_end_is_not_read(tmp_path: Path) -> None:
    path = sparse(tmp_path / "list.csv", b"path,label\n", 100 << 30)
    with pytest.raises(
        SourceError, match=r"^The CSV '.*list\.csv' has more than 1 GiB; split it up, or check that it is a CSV\.$"
    ):
        scan(path)


def test_a_list_without_end_is_not_read(fake_bundle: Path) -> None:
    result = CliRunner().invoke(cli, ["predict", str(fake_bundle), "-"], input="x" * 200_000)
    assert result.exit_code == 3
    sentence = "ffe: A line on standard input is too long for a path; give one path on each line, or one image.\n"
    assert result.stderr == sentence


def test_an_image_without_end_on_standard_input(fake_bundle: Path, pictures: Path) -> None:
    data = (pictures / "cat" / "cat_000.png").read_bytes()
    arguments = ["predict", str(fake_bundle), "-", "--max-bytes", "8K"]
    result = CliRunner().invoke(cli, arguments, input=data + b"\0" * 100_000)
    assert result.exit_code == 3
    assert result.stderr.startswith("-: cannot be read: the file has more than 8,192 bytes (--max-bytes)\n")
    assert CliRunner().invoke(cli, arguments, input=data).exit_code == 0
