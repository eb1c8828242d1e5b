"""Photos at URLs: listed, read many at once, tried again; what fails says why, and no secret shows."""

from __future__ import annotations

import errno
import io
import random
import re
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from ffe.base.digests import bytes_digest
from ffe.base.file_stat import NO_STAMP
from ffe.commands.verify import verify
from ffe.dataset.split_csv import SplitCsv
from ffe.dataset.stored_rows import named_files
from ffe.errors import DecodeError, FfeError, SourceError, StaleStoreError
from ffe.extraction.incremental import Changes
from ffe.extraction.run import extract
from ffe.images import archive_file, archive_sources, object_store, read_ahead
from ffe.images.archive import Member
from ffe.images.archive_sources import KINDS
from ffe.images.image_handle import are_there, content_digest
from ffe.images.loader import ImageStream
from ffe.images.object_store import Unreachable, read_object, stamp_of, tried
from ffe.images.sources import image_at, list_images, scan
from ffe.images.url_source import objects_at
from ffe.redaction import redacted
from ffe.specs import PreprocessSpec
from ffe.store.reader import FeatureStore
from tests.images.archives import class_files, put_parquet, put_tar, put_zip


class Bucket(MemoryFileSystem):
    """Objects with tags, which are read by ``act`` of (path, how often it was asked for)."""

    protocol = "bucket"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    asked: ClassVar[dict[str, int]] = {}
    act: Any = None

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.replace("bucket://", "memory://", 1))

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        path = self._strip_protocol(path)
        with threading.Lock():
            self.asked[path] = self.asked.get(path, 0) + 1
        if Bucket.act is not None:
            Bucket.act(path, self.asked[path])
        return super().cat_file(path, start=start, end=end)

    def _tagged(self, info: dict[str, Any]) -> dict[str, Any]:
        if info["type"] == "file":
            info["ETag"] = bytes_digest(self.store[info["name"]].getvalue())
        return info

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        return self._tagged(super().info(path, **options))

    def find(self, path: str, **options: Any) -> Any:
        return {name: self._tagged(info) for name, info in super().find(path, **options).items()}

    def ls(self, path: str, **options: Any) -> Any:
        return [self._tagged(info) for info in super().ls(path, **options)]


fsspec.register_implementation("bucket", Bucket, clobber=True)


@pytest.fixture
def bucket(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """The drawn photos at bucket://b/photos, and no pauses."""
    archive_sources._far_version.cache_clear()
    monkeypatch.setattr(object_store, "FIRST_PAUSE", 0.0)
    files: Bucket = fsspec.filesystem("bucket")
    for file in pictures.glob("*/*.png"):
        files.pipe_file(f"/b/photos/{file.relative_to(pictures).as_posix()}", file.read_bytes())
    yield files
    Bucket.store.clear()
    Bucket.pseudo_dirs[:] = [""]
    Bucket.asked.clear()
    Bucket.act = None


def run(source: object, output: Path, **options: Any) -> Any:
    return extract(source, output, backbone="fake", **{"batch_size": 4, **options})  # type: ignore[arg-type]


def rows(path: Path) -> dict[str, tuple[Any, ...]]:
    with FeatureStore(path) as store:
        return {name: (store.sha256[i], int(store.labels[i]), store.raw_row(i).tobytes()) for i, name in enumerate(store.paths)}


def test_a_folder_in_a_bucket_gives_what_one_on_the_disk_does(bucket: Bucket, pictures: Path, tmp_path: Path) -> None:
    run(pictures, tmp_path / "disk.h5")
    run("bucket://b/photos/", tmp_path / "far.h5")
    assert rows(tmp_path / "far.h5") == rows(tmp_path / "disk.h5")
    with FeatureStore(tmp_path / "far.h5") as store:
        assert store.source == "bucket://b/photos"
        assert (store.stat[:, 0] > 0).all()


def test_what_did_not_change_is_not_read_again(bucket: Bucket, tmp_path: Path) -> None:
    output = tmp_path / "f.h5"
    run("bucket://b/photos", output)
    bucket.asked.clear()
    assert run("bucket://b/photos", output).read == 0
    assert not bucket.asked
    name = next(iter(rows(output)))
    bucket.pipe_file(f"/b/photos/{name}", bucket.cat_file(f"/b/photos/{name}") + b"more")
    bucket.asked.clear()
    assert run("bucket://b/photos", output).read == 1
    assert set(bucket.asked) == {f"/b/photos/{name}"}


def test_splits_and_lists(bucket: Bucket, pictures: Path, tmp_path: Path) -> None:
    photo = next(pictures.glob("*/*.png")).read_bytes()
    for name in ("train/cat/1.png", "train/dog/2.png", "test/cat/3.png", "test/dog/.hidden.png", "test/dog/4.png", "test//5.png"):
        bucket.pipe_file(f"/b/parted/{name}", photo)
    found = list_images("bucket://b/parted")
    assert [(r.path, r.split) for r in found.records] == [
        (f"{split}/{name}", split) for split, name in (("test", "cat/3.png"), ("test", "dog/4.png"), ("train", "cat/1.png"))
    ] + [("train/dog/2.png", "train")]
    assert found.left_out == (("test//5.png", "its name has a part that is empty, or dots alone; rename it"),)
    text = f"path,label\nparted/train/cat/1.png,cat\nbucket://b/parted/train/dog/2.png,dog\n{tmp_path}/here.png,dog\n"
    (tmp_path / "here.png").write_bytes(photo)
    (tmp_path / "list.csv").write_text(text.replace("parted/train/c", "bucket://b/parted/train/c", 1))
    bucket.pipe_file("/b/list.csv", text.rsplit("\n", 2)[0].encode())
    for source, paths in (
        ("bucket://b/list.csv", ["bucket://b/parted/train/dog/2.png", "parted/train/cat/1.png"]),
        (
            tmp_path / "list.csv",
            [f"{tmp_path}/here.png", "bucket://b/parted/train/cat/1.png", "bucket://b/parted/train/dog/2.png"],
        ),
    ):
        found = list_images(source)
        assert [record.path for record in found.records] == paths
        assert {len(record.file.read(1 << 20)) for record in found.records if not isinstance(record.file, Path)} == {len(photo)}


class AnswerError(OSError):
    """A library's error with the status of an answer."""

    def __init__(self, status: int) -> None:
        super().__init__(errno.EIO, f"status {status} of https://me:secret@host/1.jpg?X-Amz-Signature=abc")
        self.status = status


def test_tenths_of_errors_lose_nothing(bucket: Bucket, tmp_path: Path) -> None:
    dice = random.Random(3)
    lock = threading.Lock()

    def act(path: str, times: int) -> None:
        with lock:
            number = dice.random()
        if number < 0.1:
            raise dice.choice(
                [AnswerError(503), AnswerError(429), ConnectionResetError("reset"), OSError(errno.EBUSY, "slow down")]
            )
        if number < 0.11:
            raise TimeoutError

    Bucket.act = staticmethod(act)
    done = run("bucket://b/photos", tmp_path / "f.h5")
    assert done.skipped == 0
    assert sum(bucket.asked.values()) > len(bucket.asked)


def hidden_failure() -> FileNotFoundError:
    """Return what fsspec says of a web server that cannot be reached."""
    error = FileNotFoundError("https://host/1.jpg")
    error.__cause__ = type("ClientError", (OSError,), {"__module__": "aiohttp.client"})("Cannot connect to host")
    return error


@pytest.mark.parametrize(
    ("error", "tries", "reason", "text"),
    [
        (AnswerError(404), 1, "missing", "no such file"),
        (FileNotFoundError(), 1, "missing", "no such file"),
        (
            AnswerError(403),
            1,
            "unreadable",
            "you have no right to read it (AnswerError: [Errno 5] status 403 of https://host/1.jpg)",
        ),
        (
            OSError("Forbidden: b/photos/1.jpg"),
            1,
            "unreadable",
            "you have no right to read it (OSError: Forbidden: b/photos/1.jpg)",
        ),
        (
            type("ConnectError", (Exception,), {"__module__": "httpx2"})("refused"),
            object_store.TRIES,
            "unreadable",
            "it did not come in 7 tries (ConnectError: refused)",
        ),
        (AnswerError(400), 1, "unreadable", "AnswerError: [Errno 5] status 400 of https://host/1.jpg"),
        (
            AnswerError(503),
            object_store.TRIES,
            "unreadable",
            "it did not come in 7 tries (AnswerError: [Errno 5] status 503 of https://host/1.jpg)",
        ),
        (TimeoutError("slow"), object_store.TRIES, "unreadable", "it did not come in 7 tries (TimeoutError: slow)"),
        (hidden_failure(), object_store.TRIES, "unreadable", "it did not come in 7 tries (ClientError: Cannot connect to host)"),
        (KeyError("odd"), 1, "unreadable", "KeyError: 'odd'"),
        (
            type("NoCredentialsError", (Exception,), {})("Unable to locate credentials"),
            1,
            "unreadable",
            "no credentials were found for it (NoCredentialsError: Unable to locate credentials)",
        ),
        (
            type("ClientResponseError", (OSError,), {"__module__": "aiohttp.client", "status": 403})("Forbidden"),
            1,
            "unreadable",
            "you have no right to read it (ClientResponseError: Forbidden); if a signature opens it, give its URL with one that "
            "still holds: in a list each line needs its own",
        ),
    ],
)
def test_what_is_tried_again_and_what_is_said(
    monkeypatch: pytest.MonkeyPatch, error: Exception, tries: int, reason: str, text: str
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    with pytest.raises(DecodeError) as raised:
        tried(lambda: (_ for _ in ()).throw(error))
    assert (raised.value.reason, str(raised.value), len(pauses)) == (reason, text, tries - 1)
    assert all(0.1 * 2**i <= pause <= 0.2 * 2**i for i, pause in enumerate(pauses))


def test_a_hanging_read_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.asyn import AsyncFileSystem

    class Hanging(AsyncFileSystem):
        protocol = "hanging"
        times = 0

        async def _cat_file(self, path: str, start: Any = None, end: Any = None, **_: Any) -> bytes:
            import asyncio

            Hanging.times += 1
            await asyncio.sleep(60)
            return b""

    fsspec.register_implementation("hanging", Hanging, clobber=True)
    monkeypatch.setattr(object_store, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(object_store, "READ_SECONDS", 0.01)
    with pytest.raises(Unreachable, match="did not come in 7 tries"):
        read_object("hanging://a", None, 10, 100)
    assert Hanging.times == object_store.TRIES


def test_what_fails_is_named_and_read_by_the_next_run(
    bucket: Bucket, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, bad = tmp_path / "f.h5", sorted(rows_of(pictures))[0]

    def act(path: str, times: int) -> None:
        if path.endswith(bad):
            raise AnswerError(403)

    Bucket.act = staticmethod(act)
    assert run("bucket://b/photos", output).skipped_files == (bad,)
    with FeatureStore(output) as store:
        (item,) = store.skipped
        assert (item.reason, item.stat) == ("unreadable", NO_STAMP)
        assert "no right" in item.message
        assert "secret" not in item.message
    Bucket.act = None
    done = run("bucket://b/photos", output)
    assert (done.read, done.skipped) == (1, 0)
    monkeypatch.setattr(Bucket, "open", lambda *_, **__: (_ for _ in ()).throw(AnswerError(403)))
    (note,) = verify(output, recompute=1).notes
    assert note.endswith(
        "was not computed again: its picture cannot be read: you have no right to read it (AnswerError: [Errno 5] status 403 of "
        "https://host/1.jpg)"
    )


def rows_of(pictures: Path) -> list[str]:
    return [file.relative_to(pictures).as_posix() for file in pictures.glob("*/*.png")]


@pytest.mark.parametrize(("status", "then"), [(503, "see to the network"), (403, "see to your rights there")])
def test_all_in_vain_ends_early(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, then: str) -> None:
    monkeypatch.setattr(object_store, "MOST_FAILURES", 3)

    def act(path: str, times: int) -> None:
        raise AnswerError(status)

    Bucket.act = staticmethod(act)
    with pytest.raises(SourceError, match=rf"^\d+ images in a row could not be read \(the last, 'bucket://.*{then}, and run"):
        run("bucket://b/photos", tmp_path / "f.h5")


def test_many_are_read_at_once_and_bytes_are_bounded(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once, most, lock = 0, 0, threading.Lock()

    def act(path: str, times: int) -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.02)
        with lock:
            at_once -= 1

    Bucket.act = staticmethod(act)
    files = [record.file for record in list_images("bucket://b/photos").records] * 4
    with ImageStream(files, PreprocessSpec((8, 8), "none"), workers=1) as images:
        assert [item.index for item in images] == list(range(len(files)))
    assert most > 8
    most = 0
    monkeypatch.setattr(read_ahead, "_MOST_BYTES", 1)
    with ImageStream(files[:8], PreprocessSpec((8, 8), "none"), workers=1) as images:
        assert all(item.error is None for item in images)
    assert most == 1


def test_an_object_that_changes_while_it_is_read(bucket: Bucket, tmp_path: Path) -> None:
    (first, *_) = list_images("bucket://b/photos").records
    assert not isinstance(first.file, Path)
    path = f"/b/photos/{first.path}"
    bucket.pipe_file(path, bucket.cat_file(path) + b"more")
    with pytest.raises(DecodeError, match=r"^it was changed after it had been listed; run this again$"):
        first.file.read(1 << 20)
    with pytest.raises(DecodeError, match=r"^the file has more than 5 bytes \(--max-bytes\)$"):
        first.file.read(5)
    bucket.pipe_file("/b/photos/a/large.bin", b"\0" * (5 << 20))
    bucket.asked.clear()
    large = next(record for record in list_images("bucket://b/photos").records if record.path == "a/large.bin")
    with pytest.raises(DecodeError) as raised:
        large.file.read(1 << 30)  # type: ignore[union-attr]
    assert raised.value.reason == "not-an-image"
    assert bucket.asked == {"/b/photos/a/large.bin": 1}
    photo = b"\xff\xd8\xff" + b"\0" * (5 << 20)
    bucket.pipe_file("/b/large/a/1.jpg", photo)
    (large,) = list_images("bucket://b/large").records
    Bucket.act = staticmethod(lambda path, times: times == 2 and bucket.pipe_file(path, photo[:-1] + b"\1"))
    with pytest.raises(DecodeError, match=r"^it was changed after it had been listed; run this again$"):
        large.file.read(1 << 30)  # type: ignore[union-attr]


def test_what_is_replaced_between_listing_and_reading_is_what_was_read(bucket: Bucket, tmp_path: Path) -> None:
    """By another of the same size: its row is of the new content, and the next run looks again."""
    path = "/b/photos/cat/first.png"
    old, new = (next(iter(Bucket.store.values())).getvalue() + end for end in (b"old", b"new"))
    bucket.pipe_file(path, old)
    Bucket.act = staticmethod(lambda asked, times: asked == path and bucket.pipe_file(path, new))
    run("bucket://b/photos", tmp_path / "f.h5")
    assert rows(tmp_path / "f.h5")["cat/first.png"][0] == bytes_digest(new)
    again = run("bucket://b/photos", tmp_path / "f.h5")
    assert (again.read, again.computed, again.changes.changed) == (1, 0, 0)


@pytest.mark.parametrize("asked", ["isdir", "ls"])
def test_a_bucket_without_credentials(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise type("NoCredentialsError", (Exception,), {})("Unable to locate credentials")

    monkeypatch.setattr(Bucket, asked, refuse)
    with pytest.raises(SourceError) as raised:
        list_images("bucket://b/photos")
    assert str(raised.value) == (
        "'bucket://b/photos' cannot be read: no credentials were found for it (NoCredentialsError: Unable to locate "
        "credentials); give its library your credentials as it wants them."
    )


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("https://example.org/photos/", "is no list of images, and a web server lists no folders; give a CSV"),
        ("bucket://none", "There is nothing at 'bucket://none'; check the names of the bucket and of the folder or file."),
        ("bucket://b/none.csv", "There is nothing at 'bucket://b/none.csv'"),
        ("nowhere://x", "Protocol not known: nowhere"),
        ("bucket://b/photos/a.tar9", "There is nothing at"),
    ],
)
def test_sources_that_are_none(bucket: Bucket, source: str, text: str) -> None:
    with pytest.raises(SourceError) as raised:
        list_images(source)
    assert text in str(raised.value)
    with pytest.raises(SourceError, match="was a URL, of which pathlib has taken a slash; give it as text"):
        list_images(Path(source))


@pytest.mark.parametrize(
    ("refuse", "said"),
    [
        (type("DefaultCredentialsError", (Exception,), {})("not found"), "DefaultCredentialsError: not found"),
        (ValueError("Give account_name with credentials!!"), "ValueError: Give account_name with credentials!!"),
        (ValueError("Connection string is malformed."), "ValueError: Connection string is malformed"),
    ],
)
@pytest.mark.parametrize(
    ("url", "where"),
    [
        (
            "s3://x",
            "AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; for a public bucket FSSPEC_S3='{\"anon\": true}'",
        ),
        (
            "gs://x",
            "GOOGLE_APPLICATION_CREDENTIALS, or 'gcloud auth application-default login'; for a public bucket "
            'FSSPEC_GS=\'{"token": "anon"}\'',
        ),
        (
            "zip://a::az://x/a.zip",
            "AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY; for a public "
            "container AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ANON=true",
        ),
        ("hf://datasets/me/x", "HF_TOKEN, or 'hf auth login'"),
    ],
)
def test_a_library_that_does_not_begin_without_credentials(
    monkeypatch: pytest.MonkeyPatch, url: str, where: str, refuse: Exception, said: str
) -> None:
    """Some say so at once and not when something is read: Google's by an error of its own, Azure's by a ValueError."""
    monkeypatch.setattr("fsspec.core.url_to_fs", lambda *_, **__: (_ for _ in ()).throw(refuse))
    with pytest.raises(SourceError) as raised:
        list_images(url)
    assert str(raised.value) == (f"'{url}' cannot be read: {said}; give its library your credentials as it wants them ({where}).")


def test_a_library_that_does_not_begin_for_another_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse = TypeError("unexpected keyword 'anom'")
    monkeypatch.setattr("fsspec.core.url_to_fs", lambda *_, **__: (_ for _ in ()).throw(refuse))
    with pytest.raises(SourceError) as raised:
        list_images("s3://x")
    assert str(raised.value) == (
        "'s3://x' cannot be read (TypeError: unexpected keyword 'anom'); give a URL that fsspec opens, such as s3://, gs://, "
        "az://, hf:// or https://, or a folder or CSV on this machine."
    )


def test_a_missing_package_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fsspec.core.url_to_fs", lambda *_, **__: (_ for _ in ()).throw(ImportError("no")))
    with pytest.raises(SourceError, match=r"^Reading from 'gs://x' needs the package gcsfs, which is not installed; install"):
        list_images("gs://x")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:pw@host/1.jpg?id=7&token=abc", "https://host/1.jpg?id=7"),
        (
            "s3.example/1.jpg at https://h/1.jpg?X-Amz-Date=1&X-Amz-Signature=f00 failed",
            "s3.example/1.jpg at https://h/1.jpg failed",
        ),
        ("https://a.blob.core.windows.net/c/1.jpg?sv=2&se=3&sig=a%2B=", "https://a.blob.core.windows.net/c/1.jpg"),
        ("abfs://container@account.dfs.core.windows.net/1.jpg", "abfs://container@account.dfs.core.windows.net/1.jpg"),
        ("az://container@account.dfs.core.windows.net/1.jpg", "az://container@account.dfs.core.windows.net/1.jpg"),
        ("https://h/1.jpg?access_key=S&subscription-key=S&apiKey=S&monkey=1", "https://h/1.jpg?monkey=1"),
        ("sftp://me@host/photos", "sftp://host/photos"),
        ("hf://datasets/me/pets@main/cat/1.jpg", "hf://datasets/me/pets@main/cat/1.jpg"),
        ("photos/a?token=b", "photos/a?token=b"),
    ],
)
def test_secrets_of_urls_do_not_show(url: str, shown: str) -> None:
    assert redacted(url) == shown
    assert str(FfeError(f"'{url}' is odd.")) == f"'{shown}' is odd."
    assert shown in str(SourceError(url))


def test_no_secret_is_stored(bucket: Bucket, pictures: Path, tmp_path: Path) -> None:
    lines = ["path,label"]
    for i, name in enumerate(sorted(rows_of(pictures))):
        bucket.pipe_file(f"/b/photos/{name}?X-Amz-Signature=f00dfeed{i}", (pictures / name).read_bytes())
        bucket.rm_file(f"/b/photos/{name}")
        lines.append(f"bucket://b/photos/{name}?X-Amz-Signature=f00dfeed{i},{name.split('/')[0]}")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    run(tmp_path / "list.csv", tmp_path / "f.h5")
    assert set(rows(tmp_path / "f.h5")) == {f"bucket://b/photos/{name}" for name in rows_of(pictures)}
    assert b"f00dfeed" not in (tmp_path / "f.h5").read_bytes()
    assert verify(tmp_path / "f.h5", recompute=2).recomputed == 2  # it goes back through the list
    with FeatureStore(tmp_path / "f.h5") as store:
        assert {*map(content_digest, named_files(store, range(len(store))))} == set(store.sha256)  # as reports do
    split = SplitCsv(scan(tmp_path / "list.csv"), tmp_path / "split.csv")  # of compare and bakeoff: it has names alone
    assert b"f00dfeed" not in split.path.read_bytes()
    run(split.path, tmp_path / "split.h5")
    assert rows(tmp_path / "split.h5") == rows(tmp_path / "f.h5")
    assert b"f00dfeed" not in (tmp_path / "split.h5").read_bytes()
    assert verify(tmp_path / "split.h5", recompute=2, source=tmp_path / "list.csv").recomputed == 2
    path = split.path
    del split
    with pytest.raises(SourceError, match="None of the 40 files could be read"):
        run(path, tmp_path / "other.h5")
    bucket.pipe_file("/b/list.csv", "\n".join(lines).replace("bucket://b/", "").encode())
    record = list_images("bucket://b/list.csv").records[0]
    assert record.path == f"photos/{sorted(rows_of(pictures))[0]}"
    assert image_at("bucket://b/list.csv", record.path).read(1 << 20) == record.file.read(1 << 20)  # type: ignore[call-arg,union-attr]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_newer_list_of_signed_urls_goes_on_with_the_file(bucket: Bucket, pictures: Path, tmp_path: Path, ending: str) -> None:
    """Signatures expire: the list of today is gone, and that of tomorrow has another name."""
    names = sorted(rows_of(pictures))
    if ending == "parquet":
        pytest.importorskip("pyarrow")

    def listed(place: str, names: list[str]) -> Path:
        path = tmp_path / f"{place}.{ending}"
        path.parent.mkdir(exist_ok=True)
        urls = {name: f"/b/photos/{name}?X-Amz-Signature=f00d{len(place)}" for name in names}
        Bucket.store.update({url: Bucket.store[f"/b/photos/{name}"] for name, url in urls.items()})
        lines = "path,label\n" + "".join(f"bucket:/{url},{name[:3]}\n" for name, url in urls.items())
        if ending == "parquet":
            from pyarrow import csv, parquet

            parquet.write_table(csv.read_csv(io.BytesIO(lines.encode())), path)
        else:
            path.write_text(lines)
        return path

    output = tmp_path / "f.h5"
    today = listed("today", names)
    run(today, output)
    today.unlink()
    tomorrow = listed("tomorrow", names[1:])
    Bucket.asked.clear()
    assert run(tomorrow, output).changes == Changes(unchanged=39, removed=1)
    assert not Bucket.asked
    with FeatureStore(output) as store:
        assert store.source == str(tomorrow.resolve())
    assert verify(output, recompute=2).recomputed == 2
    elsewhere = listed("other/list", names[2:])
    sentence = f"'{output}' holds 1 row of '{tomorrow.resolve()}' that '{elsewhere}' has not; choose another output, or"
    with pytest.raises(StaleStoreError, match=f"^{re.escape(sentence)}"):
        run(elsewhere, output)
    latest = tmp_path / f"latest.{ending}"
    latest.symlink_to(listed("other/list", names[1:]))
    assert run(latest, output).read == 0
    with FeatureStore(output) as store:
        assert store.source == str(latest.parent.resolve() / latest.name)


def test_stamps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "RACY_NS", 2_000_000_000)
    now = time.time()
    tag, when = {"size": 3, "ETag": "a"}, {"size": 3, "mtime": now - 100}
    assert stamp_of(tag) == stamp_of(dict(tag)) != stamp_of({**tag, "ETag": "b"})
    assert stamp_of(tag)[0] == stamp_of(when)[0] == 3
    assert 0 <= stamp_of(tag)[1] < 1 << 63
    assert stamp_of({"size": 3}) == stamp_of({"size": None, "ETag": "a"}) == stamp_of({"ETag": "a"}) == NO_STAMP
    old, fresh = (formatdate(now - age, usegmt=True) for age in (100, 0))
    assert stamp_of({"size": 3, "Last-Modified": old})[0] == stamp_of({"size": 3, "ETag": "a", "Last-Modified": old})[0] == 3
    assert stamp_of({"size": 3, "ETag": "a", "LastModified": datetime.now(UTC)})[0] == 3
    for said in ({"Last-Modified": fresh}, {"ETag": "a", "Last-Modified": fresh}, {"updated": "soon"}):
        assert stamp_of({"size": 3, **said}) == NO_STAMP


def test_a_server_without_ranges_answers_with_all_at_once(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"\xff\xd8\xff" + b"\0" * (5 << 20)
    bucket.pipe_file("/b/large.jpg", data)
    monkeypatch.setattr(Bucket, "cat_file", lambda self, path, **_: data)
    assert read_object("bucket://b/large.jpg", None, len(data), 1 << 30) == data


def test_a_change_that_no_stamp_tells_is_seen_by_the_next_look(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(object_store, "stamp_of", lambda info: NO_STAMP)
    clock = [0.0]
    monkeypatch.setattr("ffe.images.archive_sources.time.monotonic", lambda: clock[0])
    for turn, data in enumerate((b"1", b"2")):
        clock[0] = 1000.0 * turn
        bucket.pipe_file("/b/x.tar", put_tar(tmp_path / "x.tar", {f"cat/{turn}.png": data, "dog/1.png": data}).read_bytes())
        assert {r.file.read(9) for r in list_images("bucket://b/x.tar").records} == {data}  # type: ignore[union-attr]
        assert isinstance(image_at("bucket://b", f"x.tar#cat/{turn}.png"), Member)
    file = list_images("bucket://b/x.tar").records[0].file
    archive_file._blocks.clear()
    bucket.pipe_file("/b/x.tar", bucket.cat_file("/b/x.tar") + bytes(512))
    with pytest.raises(DecodeError, match=r"^its archive was changed since it was listed; run this again$"):
        file.read(9)  # type: ignore[union-attr]


def test_lists_are_asked_for_anew(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(Bucket, "invalidate_cache", lambda self, path=None: calls.append(1), raising=False)
    objects_at([f"bucket://b/photos/{number}.png" for number in range(3)])
    assert calls == [1]


@pytest.fixture
def archives(bucket: Bucket, pictures: Path, tmp_path: Path) -> dict[str, tuple[str, Path]]:
    """Archives in a bucket, and on the disk."""
    pytest.importorskip("pyarrow")
    files = class_files(pictures)
    inside = {f"{file.parent.name}/{file.name}": file.read_bytes() for file in files}
    folder = tmp_path / "archives"
    (folder / "shards").mkdir(parents=True)
    put_tar(folder / "a.tar", inside)
    put_zip(folder / "a.zip", inside)
    label = [int(file.parent.name == "dog") for file in files]
    put_parquet(folder / "a.parquet", list(inside.values()), ("cat", "dog"), label=label)
    for number, part in enumerate((files[::2], files[1::2])):
        members: list[tuple[str, bytes]] = []
        for file in part:
            members += [(file.name, file.read_bytes()), (f"{file.stem}.cls", b"%d" % (file.parent.name == "dog"))]
        put_tar(folder / "shards" / f"s-{number}.tar", members)
    (folder / "shards" / "classes.txt").write_text("cat\ndog\n")
    for file in folder.rglob("*.*"):
        bucket.pipe_file(f"/b/{file.relative_to(folder).as_posix()}", file.read_bytes())
    return {
        name: (f"bucket://b/{name}", folder / name) for name in ("a.tar", "a.zip", "a.parquet", "shards", "shards/s-{0..1}.tar")
    }


@pytest.mark.parametrize("kind", ["a.tar", "a.zip", "a.parquet", "shards", "shards/s-{0..1}.tar"])
def test_archives_at_urls(
    archives: dict[str, tuple[str, Path]], tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They give what those on the disk do; and what did not change is neither listed nor read again."""
    monkeypatch.setattr(archive_file, "_BLOCK", 5000)
    far, near = archives[kind]
    run(near, tmp_path / "near.h5")
    run(far, tmp_path / "far.h5")
    assert rows(tmp_path / "far.h5") == rows(tmp_path / "near.h5")
    assert verify(tmp_path / "far.h5", recompute=2).recomputed == 2
    SplitCsv(scan(far), tmp_path / "list.csv")
    listed = {content_digest(record.file) for record in scan(tmp_path / "list.csv").records}
    assert listed == {row[0] for row in rows(tmp_path / "far.h5").values()}
    archive_file._blocks.clear()
    Bucket.asked.clear()
    assert run(far, tmp_path / "far.h5").read == 0
    if kind == "a.tar":
        assert not Bucket.asked


def test_archives_at_urls_that_are_no_good(
    archives: dict[str, tuple[str, Path]], bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        bucket.pipe_file(f"/b/part-{number}/a.tar", bucket.cat_file("/b/a.tar"))
    parts = list_images("bucket://b/part-{0..1}/a.tar")
    assert (parts.root, len({r.path for r in parts.records})) == ("bucket://b", 80)
    assert {r.path.partition("#")[0] for r in parts.records} == {"part-0/a.tar", "part-1/a.tar"}
    found = list_images("bucket://b/a.tar").records
    data = bucket.cat_file("/b/a.tar")
    archive_file._blocks.clear()
    bucket.pipe_file("/b/a.tar", data + b"\0" * 10240)
    with pytest.raises(DecodeError, match=r"^its archive was changed since it was listed; run this again$"):
        found[0].file.read(1 << 30)  # type: ignore[union-attr]
    bucket.pipe_file("/b/a.tar", data[: len(data) // 2])
    with pytest.raises(SourceError, match=r"^'bucket://b/a.tar' is cut off or damaged behind '.*'; fetch it again"):
        scan("bucket://b/a.tar")
    with pytest.raises(SourceError, match=r"^There is nothing at 'bucket://b/none.zip'; check"):
        scan("bucket://b/none.zip")


def test_what_is_no_longer_listed_is_asked_for_with_all_that_opens_it(
    bucket: Bucket, pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Here a secret is a part of the path: without it nothing is found."""
    lines = [f"{file.relative_to(pictures).as_posix()},{file.parent.name}" for file in class_files(pictures)]
    for file in class_files(pictures):
        bucket.pipe_file(f"/me:pw@b/{file.relative_to(pictures).as_posix()}", file.read_bytes())
    for some in (lines, [*lines[:2], *lines[-2:]]):
        bucket.pipe_file("/me:pw@b/list.csv", "\n".join(["path,label", *some]).encode())
        with caplog.at_level("INFO"):
            run("bucket://me:pw@b/list.csv", tmp_path / "f.h5")
    assert f"{len(lines) - 4} files are no longer listed" in caplog.text
    assert "pw@" not in caplog.text


def test_a_member_of_a_signed_archive_is_asked_for_with_its_signature(monkeypatch: pytest.MonkeyPatch, pictures: Path) -> None:
    archive = KINDS[".tar"](put_tar(pictures.parent / "signed.tar", {"cat/1.png": b"1"}))
    asked: list[object] = []
    monkeypatch.setattr("ffe.images.archive_sources.archive_version", lambda place: (1, 1))
    monkeypatch.setattr("ffe.images.archive_sources._kept", lambda place, version, turn: asked.append(place) or archive)
    image_at("https://h/part-{0..1}/a.tar?sig=S", "part-1/a.tar#cat/1.png")
    assert asked.pop() == "https://h/part-1/a.tar?sig=S"
    there = are_there([image_at("https://h/a.tar?sig=S", f"a.tar#cat/{number}.png") for number in (1, 2)])
    assert (there, set(asked)) == ([True, False], {"https://h/a.tar?sig=S"})
    with pytest.raises(DecodeError, match="its archive has no such member"):
        image_at("https://h/a.tar?sig=S", "a.tar#cat/2.png").read(1)  # type: ignore[union-attr, call-arg]


def test_an_object_that_vanished_is_not_there_though_an_earlier_listing_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Files:
        """A file system that answers from what it saw before."""

        listed = True

        def invalidate_cache(self) -> None:
            self.listed = False

        def info(self, path: str) -> dict[str, int]:
            if not self.listed:
                raise FileNotFoundError(path)
            return {"size": 1}

    files = Files()
    monkeypatch.setattr("ffe.images.url_source.opened", lambda url: (files, "b/1.png"))
    assert are_there([image_at("s3://b", "1.png")]) == [False]
