"""Buckets of Google and Azure and a repository of Hugging Face on this machine, which count what is read of them."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

# Azurite's own account and key: every copy of it has them (https://github.com/Azure/Azurite)
_ACCOUNT, _KEY = "devstoreaccount1", "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclass
class Cloud:
    """What a test knows of a server, and says to it.

    Attributes:
        root: the URL of the folder of photos.
        nowhere: a URL in a bucket that is not there.
        environment: by which the library finds the server.
        put: writes an object of (its path below the root, its content).
        wrong: the same environment with a secret that opens nothing.
        refused: paths below the root that nobody has the right to read.
        asked: the number of requests, since a test set it to 0.
        reads: the paths whose content was asked for, since a test emptied it.
    """

    root: str
    nowhere: str
    environment: dict[str, str]
    put: Callable[[str, bytes], None]
    wrong: dict[str, str]
    refused: set[str] = field(default_factory=set)
    asked: int = 0
    reads: list[str] = field(default_factory=list)


Answer = tuple[int, dict[str, str], bytes]


@contextlib.contextmanager
def _server(answer: Callable[[str, str, dict[str, str], bytes], Answer]) -> Iterator[str]:
    """Answer every request by a function of (method, path with query, headers, content); yield the server's address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        log_message = lambda *_: None  # noqa: E731

        def __getattr__(self, name: str) -> Callable[[], None]:
            if name.startswith("do_"):
                return self._any
            raise AttributeError(name)

        def _any(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, headers, body = answer(self.command, self.path, dict(self.headers), content)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if "content-length" not in {name.lower() for name in headers}:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Say nothing of clients that break off."""

    with Server(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def _watched(cloud: Cloud, method: str, path: str) -> bool:
    """Note a request that asks for the content of a photo, and count all; return whether it is refused."""
    cloud.asked += 1
    parts = urlsplit(path)
    name = unquote(parts.path)
    if method != "GET" or ("/storage/v1/" in name and "alt=media" not in parts.query):
        return False
    name = "/".join(name.split("/")[-2:])
    if name.endswith((".png", ".csv")):
        cloud.reads.append(name)
    return name in cloud.refused


def _passed_on(cloud: Cloud, port: int, refusal: bytes) -> Callable[[str, str, dict[str, str], bytes], Answer]:
    """Return what asks an emulator, and refuses what is to be refused."""

    def answer(method: str, path: str, headers: dict[str, str], content: bytes) -> Answer:
        if _watched(cloud, method, path):
            return 403, {"Content-Type": "application/xml"}, refusal
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request(method, path, content, headers)
        response = connection.getresponse()
        body = response.read()
        left_out = {"transfer-encoding", "connection", "date"} | ({"content-length"} if method != "HEAD" else set())
        kept = {name: value for name, value in response.getheaders() if name.lower() not in left_out}
        connection.close()
        return response.status, kept, body

    return answer


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def _emulator(command: list[str], port: int) -> Iterator[None]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(600):
                assert process.poll() is None, command
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.1)
            yield
        finally:
            process.kill()


def _put(url: str, content: bytes, method: str, **headers: str) -> None:
    request = urllib.request.Request(url, content, {"Content-Type": "application/octet-stream", **headers}, method=method)
    with urllib.request.urlopen(request):
        pass


@contextlib.contextmanager
def google() -> Iterator[Cloud]:
    """Run gcp-storage-emulator."""
    for package in ("gcsfs", "gcp_storage_emulator"):
        pytest.importorskip(package)
    port = _free_port()
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--host=127.0.0.1", f"--port={port}", "--in-memory"]
    with _emulator([*command, "--default-bucket=photos"], port):

        def put(name: str, content: bytes) -> None:
            address = f"http://127.0.0.1:{port}/upload/storage/v1/b/photos/o?uploadType=media&name=some/{name}"
            _put(address, content, "POST")

        cloud = Cloud("gs://photos/some", "gs://nowhere/some", {}, put, {})
        with _server(_passed_on(cloud, port, b"no storage.objects.get access")) as address:
            cloud.environment |= {"STORAGE_EMULATOR_HOST": address, "FSSPEC_GS": '{"token": "anon"}'}
            cloud.environment["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"  # it would ask the emulator over gRPC
            cloud.wrong |= {**cloud.environment, "FSSPEC_GS": '{"token": "google_default"}'}
            yield cloud


@contextlib.contextmanager
def azure() -> Iterator[Cloud]:
    """Run Azurite."""
    pytest.importorskip("adlfs")
    azurite = os.environ.get("FFE_TEST_AZURITE") or shutil.which("azurite-blob")
    if azurite is None:
        pytest.skip("azurite-blob is not there: npm install azurite, and its path in FFE_TEST_AZURITE")
    from azure.storage.blob import BlobServiceClient

    def connection(address: str, key: str = _KEY) -> str:
        start = f"DefaultEndpointsProtocol=http;AccountName={_ACCOUNT};AccountKey={key};"
        return f"{start}BlobEndpoint={address}/{_ACCOUNT};"

    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [azurite, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", folder, "--skipApiVersionCheck"]
        with _emulator(command, port):
            client = BlobServiceClient.from_connection_string(connection(f"http://127.0.0.1:{port}"))
            container = client.create_container("photos")

            def put(name: str, content: bytes) -> None:
                container.upload_blob(f"some/{name}", content, overwrite=True)

            cloud = Cloud("az://photos/some", "az://nowhere/some", {}, put, {})
            refusal = b'<?xml version="1.0"?><Error><Code>AuthorizationPermissionMismatch</Code><Message>no</Message></Error>'
            with _server(_passed_on(cloud, port, refusal)) as address:
                cloud.environment["AZURE_STORAGE_CONNECTION_STRING"] = connection(address)
                cloud.wrong["AZURE_STORAGE_CONNECTION_STRING"] = connection(address, "c2VjcmV0LW9mLW1pbmU=")
                yield cloud


@contextlib.contextmanager
def hugging_face() -> Iterator[Cloud]:
    """Serve a data set at the few addresses that huggingface_hub asks for."""
    pytest.importorskip("huggingface_hub")
    objects: dict[str, bytes] = {}
    cloud = Cloud("hf://datasets/somebody/photos/some", "hf://datasets/nobody/nothing/some", {}, lambda *_: None, {})
    cloud.put = lambda name, content: objects.__setitem__(f"some/{name}", content)
    api, files = "/api/datasets/somebody/photos", "/datasets/somebody/photos/resolve/main/"

    def told(value: object) -> Answer:
        return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()

    def entry(path: str) -> dict[str, object]:
        content = objects[path]
        return {"type": "file", "path": path, "size": len(content), "oid": sha1(content).hexdigest()}

    def tree(folder: str, recursive: bool) -> Answer:
        below = [path for path in sorted(objects) if path.startswith(f"{folder}/" if folder else "")]
        if not below:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        start = len(folder) + 1 if folder else 0
        found: list[dict[str, object]] = []
        for path in below:
            parts = path[start:].split("/")
            for depth in range(1, len(parts) if recursive else min(2, len(parts))):
                name = path[:start] + "/".join(parts[:depth])
                if all(one["path"] != name for one in found):
                    found.append({"type": "directory", "path": name, "size": 0, "oid": sha1(name.encode()).hexdigest()})
            if recursive or len(parts) == 1:
                found.append(entry(path))
        return told(found)

    def answer(method: str, path: str, headers: dict[str, str], content: bytes) -> Answer:
        known = {name.lower(): value for name, value in headers.items()}
        if known.get("authorization") == "Bearer secret-of-mine":
            return 401, {"X-Error-Message": "Invalid credentials in Authorization header"}, b""
        refused, parts = _watched(cloud, method, path), urlsplit(path)
        name = unquote(parts.path)
        if refused:
            return 403, {}, b""
        if name in (api, f"{api}/revision/main"):
            return told({"id": "somebody/photos", "sha": "0" * 40})
        if name.startswith(f"{api}/tree/main"):
            recursive = parse_qs(parts.query).get("recursive", ["false"])[0].lower() == "true"
            return tree(name.removeprefix(f"{api}/tree/main").strip("/"), recursive)
        if name == f"{api}/paths-info/main":
            asked = parse_qs(content.decode())["paths"]
            return told([entry(path) for path in asked if path in objects])
        if name.startswith(files):
            data = objects.get(name.removeprefix(files))
            if data is None:
                return 404, {"X-Error-Code": "EntryNotFound"}, b""
            if "range" not in known:
                return 200, {}, data
            first, last = map(int, known["range"].removeprefix("bytes=").split("-"))
            part = data[first : last + 1]
            return 206, {"Content-Range": f"bytes {first}-{first + len(part) - 1}/{len(data)}"}, part
        return 401, {"X-Error-Message": "Invalid username or password."}, b""  # so it says that a repository is not there

    with _server(answer) as address:
        cloud.environment |= {"HF_ENDPOINT": address}
        cloud.wrong |= {**cloud.environment, "HF_TOKEN": "secret-of-mine"}
        yield cloud


CLOUDS = {"gs": google, "az": azure, "hf": hugging_face}
