"""A server in this process, and clients."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ffe.images.drawings import draw
from ffe.predictor import Predictor
from ffe.serving.app import make_app
from ffe.serving.options import ServeOptions
from ffe.serving.server import open_socket, server_of
from ffe.serving.worker import Worker

BOUNDARY = "line-between-the-parts"


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def value(self) -> Any:
        assert self.headers["Content-Type"] == "application/json"
        return json.loads(self.body)


@dataclass
class Served:
    """A server that answers, and what it stands on."""

    port: int
    predictor: Predictor
    worker: Worker

    def ask(self, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None, method: str = "") -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method or ("GET" if body is None else "POST"), path, body, headers or {}, encode_chunked=True)
            found = connection.getresponse()
            return Answer(found.status, found.headers, found.read())
        finally:
            connection.close()


@contextlib.contextmanager
def served(model: Path, **options: Any) -> Iterator[Served]:
    """Serve a model at a free port; ``options`` are those of ``ServeOptions``."""
    predictor = Predictor(model)
    with open_socket("127.0.0.1", 0) as bound, Worker(predictor) as worker:
        port = bound.getsockname()[1]
        ready = threading.Event()
        server = server_of(make_app(predictor, worker, ServeOptions(port=port, **options), ready.set))
        thread = threading.Thread(target=server.run, args=([bound],))
        thread.start()
        try:
            assert ready.wait(30)
            yield Served(port, predictor, worker)
        finally:
            server.should_exit = True
            thread.join()


def png(kind: str = "cat", number: int = 3, size: tuple[int, int] = (48, 48)) -> bytes:
    file = io.BytesIO()
    draw(kind, number, size).save(file, "PNG")
    return file.getvalue()


def form(files: Mapping[str, bytes]) -> tuple[bytes, dict[str, str]]:
    """Return the body of a form of files, and its headers."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode()
        + data
        for name, data in files.items()
    ]
    body = b"\r\n".join([*parts, f"--{BOUNDARY}--\r\n".encode()])
    return body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
