"""A bucket on this machine: moto's server in a process of its own, which may fail now and then."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

# Answers a tenth of all reads of photos with errors, and leaves one in a hundred without an answer in time.
_SERVER = """
import random, sys, threading, time
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Response

errors, late, seconds = map(float, sys.argv[1:])
application, dice, lock = DomainDispatcherApplication(create_backend_app), random.Random(1), threading.Lock()

def serve(environ, start_response):
    if environ["REQUEST_METHOD"] == "GET" and environ["PATH_INFO"].endswith(".jpg"):
        with lock:
            number = dice.random()
        if number < errors:
            return Response("<Error><Code>SlowDown</Code></Error>", 503)(environ, start_response)
        if number < errors + late:
            time.sleep(seconds)
    return application(environ, start_response)

WSGIRequestHandler.protocol_version = "HTTP/1.1"
WSGIRequestHandler.log = lambda *_: None
server = make_server("127.0.0.1", 0, serve, threaded=True)
print(server.port, flush=True)
server.serve_forever()
"""


@contextlib.contextmanager
def bucket_of(folder: Path, *, errors: float = 0.0, late: float = 0.0, seconds: float = 0.0) -> Iterator[dict[str, str]]:
    """Run a server with the files of a folder in ``s3://photos``; yield the environment by which it is found."""
    command = [sys.executable, "-c", _SERVER, str(errors), str(late), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{int(server.stdout.readline())}"
            _put(f"{url}/photos", b"")
            for file in sorted(folder.rglob("*")):
                if file.is_file():
                    _put(f"{url}/photos/{file.relative_to(folder).as_posix()}", file.read_bytes())
            yield {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        finally:
            server.kill()


def _put(url: str, content: bytes) -> None:
    request = urllib.request.Request(url, content, method="PUT")
    request.add_header("Content-Type", "application/octet-stream")
    request.add_header("Authorization", "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request")
    with urllib.request.urlopen(request):
        pass
