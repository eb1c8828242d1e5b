"""Objects of S3 read by obstore: the same bytes as s3fs reads, and s3fs wherever it cannot."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import fsspec
import pytest

from ffe.errors import DecodeError
from ffe.images import object_store, s3_reader
from ffe.images.object_store import read_object
from tests.base.test_forks import in_child

CONTENT = bytes(range(200))
NAMES = ["1.jpg", "a b.jpg", "é#1.jpg", "50%25.jpg", "p+q~[1]*.jpg", "why?.jpg", "a=b&c;d.jpg", "back\\slash.jpg"]


class Bucket(BaseHTTPRequestHandler):
    """Answers with parts of what has one of the names; counts who asked."""

    asked: list[tuple[str, str]]
    failures: int

    def do_GET(self) -> None:
        self.asked.append((re.split("[ /]", self.headers["User-Agent"])[0], self.headers.get("Authorization", "")))
        if Bucket.failures:
            Bucket.failures -= 1
            self.answer(503, b"")
        elif unquote(self.path.removeprefix("/photos/").partition("?")[0]) in NAMES:
            start, end = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
            part = CONTENT[start : end + 1]
            self.answer(206, part, {"Content-Range": f"bytes {start}-{start + len(part) - 1}/{len(CONTENT)}", "ETag": '"1"'})
        else:
            self.answer(404, b"")

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.send_header("Last-Modified", "Sun, 01 Nov 2026 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Bucket]]:
    pytest.importorskip("s3fs")
    monkeypatch.setattr(object_store, "FIRST_PAUSE", 0.0)
    Bucket.asked, Bucket.failures = [], 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Bucket) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-of-the-environment")
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
            fsspec.get_filesystem_class("s3").clear_instance_cache()
            yield Bucket
        finally:
            fsspec.get_filesystem_class("s3").clear_instance_cache()
            server.shutdown()
            thread.join()


def read_here(name: str = NAMES[0], bucket: str = "photos") -> bytes:
    return read_object("s3://photos", f"{bucket}/{name}", len(CONTENT), 1000)


def read(name: str = NAMES[0], bucket: str = "photos") -> bytes:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(read_here, name, bucket).result()


def test_the_main_thread_reads_by_s3fs_which_ctrl_c_stops_at_once(bucket: type[Bucket]) -> None:
    assert read() == read_here() == CONTENT
    assert [who for who, _ in bucket.asked] == ["object_store", "ffe"]


def test_a_name_that_begins_with_a_slash_is_not_that_without(bucket: type[Bucket]) -> None:
    with pytest.raises(DecodeError, match=r"^no such file$"):
        read(f"/{NAMES[0]}")


def test_a_bucket_that_obstore_cannot_read_is_not_asked_for_again_and_again(bucket: type[Bucket]) -> None:
    assert read() == CONTENT
    for _ in range(2):
        with pytest.raises(DecodeError, match=r"^no such file$"):
            read(bucket="elsewhere")
    assert [who for who, _ in bucket.asked] == ["object_store", "object_store", "ffe", "ffe"]


@pytest.mark.parametrize("name", NAMES)
def test_obstore_reads_what_s3fs_reads(bucket: type[Bucket], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert read(name) == CONTENT
    monkeypatch.setattr("obstore.get_range", lambda *_, **__: (_ for _ in ()).throw(OSError))
    assert read(name) == CONTENT
    (first, signed), (second, also) = bucket.asked
    assert (first, second) == ("object_store", "ffe")
    assert all("Credential=key-of-the-environment/" in one for one in (signed, also))


def test_a_public_bucket_is_asked_without_a_signature(bucket: type[Bucket], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fsspec.config.conf, "s3", {"anon": True})
    assert read() == CONTENT
    assert bucket.asked == [("object_store", "")]


def test_s3fs_reads_where_obstore_never_did(bucket: type[Bucket]) -> None:
    bucket.failures = 1
    assert read() == CONTENT
    assert read() == CONTENT
    assert [who for who, _ in bucket.asked] == ["object_store", "ffe", "ffe"]


def test_s3fs_says_what_an_error_means(bucket: type[Bucket]) -> None:
    assert read() == CONTENT
    with pytest.raises(DecodeError, match=r"^no such file$"):
        read("2.jpg")
    bucket.failures = 2
    assert read() == CONTENT
    assert [who for who, _ in bucket.asked] == ["object_store", "object_store", "ffe", "object_store", "ffe", "object_store"]


@pytest.mark.parametrize(
    "setting",
    [
        {"key": "a", "secret": "b"},
        {"requester_pays": True},
        {"client_kwargs": {"region_name": "eu-west-1"}},
        {"version_aware": True},
    ],
)
def test_settings_that_obstore_may_not_know_are_left_to_s3fs(
    bucket: type[Bucket], monkeypatch: pytest.MonkeyPatch, setting: dict[str, Any]
) -> None:
    monkeypatch.setitem(fsspec.config.conf, "s3", setting)
    assert read() == CONTENT
    assert {who for who, _ in bucket.asked} == {"ffe"}


def test_credentials_are_asked_for_again_but_not_for_each_photo(bucket: type[Bucket], monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    asked = s3_reader._Reader._credentials
    monkeypatch.setattr(s3_reader._Reader, "_credentials", lambda self: told.append(asked(self)) or told[-1])
    for _ in range(3):
        assert read() == CONTENT
        time.sleep(0.15)  # obstore never asks twice in a tenth of a second
    (one,) = told
    assert one.pop("expires_at") > datetime.now(UTC)
    assert one == {"access_key_id": "key-of-the-environment", "secret_access_key": "b", "token": None}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_s3fs_reads_in_a_forked_process(bucket: type[Bucket]) -> None:
    """obstore's threads stay behind: it would wait for them for ever."""
    assert read() == CONTENT
    assert in_child(lambda: read() == CONTENT) == "True"
    assert [who for who, _ in bucket.asked] == ["object_store", "ffe"]
