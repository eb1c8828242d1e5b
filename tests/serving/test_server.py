"""What the server answers: the same as the predictor, and refusals in one sentence."""

from __future__ import annotations

import base64
import contextlib
import errno
import io
import json
import os
import select
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ffe
from ffe.errors import EngineError, SpecError
from ffe.serving.metrics import Metrics
from ffe.serving.options import ServeOptions
from ffe.serving.server import open_socket
from ffe.serving.worker import Worker
from tests.serving.served import Served, form, png, served

TEXT = b"this is no picture at all"
NO_PICTURE = "it is no JPEG, PNG, GIF, WebP, AVIF, TIFF, BMP, JPEG 2000 or PNM picture"
TOKEN = "a-token-of-a-test"


@pytest.fixture(scope="module")
def server(fake_bundle: Path) -> Iterator[Served]:
    with served(fake_bundle, max_body=300_000, queue=8, cors=("https://friend.example",)) as found:
        yield found


@pytest.fixture(scope="module")
def guarded(fake_bundle: Path) -> Iterator[Served]:
    with served(fake_bundle, token=TOKEN) as found:
        yield found


def said(model: Path, photo: bytes) -> dict[str, Any]:
    (answer,) = ffe.Predictor(model).predict_bytes([photo])
    return answer.to_json()


def assert_same(value: dict[str, Any], other: dict[str, Any]) -> None:
    """Features are the same whatever a photo was computed with; the head's sums may differ in their last bits."""
    assert value["probabilities"] == pytest.approx(other["probabilities"], abs=1e-6)
    assert value | {"probabilities": {}} == other | {"probabilities": {}}


def test_one_photo_is_answered_as_predict_does(server: Served, fake_bundle: Path) -> None:
    answer = server.ask("/predict", png())
    assert answer.status == 200
    assert answer.value == said(fake_bundle, png())


def test_several_photos_in_a_form(server: Served, fake_bundle: Path) -> None:
    answer = server.ask("/predict", *form({"ä.png": png(), "b.png": png("dog"), "c.txt": TEXT}))
    assert answer.status == 200
    first, second, third = answer.value["predictions"]
    assert first == said(fake_bundle, png()) | {"path": "ä.png"}
    assert second == said(fake_bundle, png("dog")) | {"path": "b.png"}
    assert third == {"path": "c.txt", "label": None, "sure": False, "probabilities": {}, "error": NO_PICTURE}


def test_what_is_no_picture_is_422_with_the_sentence_of_predict(server: Served, fake_bundle: Path) -> None:
    answer = server.ask("/predict", TEXT)
    assert (answer.status, answer.value["error"]) == (422, NO_PICTURE)
    assert answer.value == said(fake_bundle, TEXT)
    cut = server.ask("/predict", png()[:200])
    assert (cut.status, cut.value) == (422, said(fake_bundle, png()[:200]))
    assert server.ask("/predict", b"").value == said(fake_bundle, b"")
    several = server.ask("/predict", *form({"a": TEXT, "b": TEXT}))
    assert (several.status, several.value["error"]) == (422, "No image could be read; give JPEG, PNG or other picture files.")
    assert [one["error"] for one in several.value["predictions"]] == [NO_PICTURE] * 2


def test_heat_maps(server: Served, fake_bundle: Path) -> None:
    answer = server.ask("/explain?class=dog", png())
    (expected,) = ffe.explain(fake_bundle, png(), class_name="dog")
    value = expected.to_json()
    del value["picture"]
    assert answer.status == 200
    assert {name: answer.value[name] for name in value} == value
    assert answer.value["legend"][:2] == ["red speaks for dog", "blue against it"]
    begin, _, data = answer.value["overlay"].partition(",")
    assert begin == "data:image/png;base64"
    assert expected.pixels is not None
    assert np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).shape == expected.pixels.shape
    first, second = server.ask("/explain", *form({"a": png(), "b": TEXT})).value["explanations"]
    assert (first["path"], first["class"], first["error"]) == ("a", first["label"], None)
    assert (second["path"], second["overlay"], second["error"]) == ("b", None, NO_PICTURE)
    assert server.ask("/explain", TEXT).status == 422
    wrong = server.ask("/explain?class=dgo", png())
    assert (wrong.status, wrong.value["error"]) == (
        422,
        f"The model '{fake_bundle}' has no class 'dgo'; it knows 'cat' and 'dog'. Did you mean 'dog'?",
    )


def test_what_it_says_of_itself(server: Served, fake_bundle: Path) -> None:
    assert server.ask("/health").value == {"status": "ok"}
    model = server.ask("/model").value
    bundle = server.predictor.bundle
    assert model["classes"] == ["cat", "dog"]
    assert model["size"] == list(bundle.manifest.spec.preprocess.size)
    assert (model["digest"], model["threshold"]) == (bundle.sha256, 0.0)
    assert model["accuracy"] == bundle.manifest.evaluation["test"]["accuracy"]
    assert server.ask("/openapi.json").value["paths"].keys() == {
        *("/predict", "/explain", "/model", "/metrics", "/health", "/openapi.json")
    }


def test_metrics(fake_bundle: Path) -> None:
    with served(fake_bundle) as server:
        calls = server.worker.calls
        for body in (png(), TEXT):
            server.ask("/predict", body)
        lines = server.ask("/metrics").body.decode().splitlines()
    assert 'ffe_requests_total{path="/predict",status="200"} 1' in lines
    assert 'ffe_requests_total{path="/predict",status="422"} 1' in lines
    assert 'ffe_request_seconds_bucket{path="/predict",le="+Inf"} 2' in lines
    assert 'ffe_request_seconds_count{path="/predict"} 2' in lines
    assert 'ffe_photos_total{outcome="answered"} 1' in lines
    assert 'ffe_photos_total{outcome="unreadable"} 1' in lines
    assert "ffe_requests_waiting 0" in lines
    assert f"ffe_model_calls_total {calls + 2}" in lines


def test_large_counts_are_whole() -> None:
    assert "ffe_model_calls_total 12345678\n" in Metrics().text({"ffe_model_calls_total": 12_345_678})


@pytest.mark.parametrize("declared", [True, False])
def test_a_large_body_is_413(server: Served, declared: bool) -> None:
    body = png() + bytes(300_000)
    chunked = iter([body[:100_000], body[100_000:]])
    headers = {} if declared else {"Transfer-Encoding": "chunked"}
    answer = server.ask("/predict", body if declared else chunked, headers)  # type: ignore[arg-type]
    assert (answer.status, answer.value["error"]) == (
        413,
        "The body has more than 300,000 bytes; send fewer or smaller photos, or raise --max-body.",
    )
    assert server.ask("/predict", png()).status == 200


def test_bodies_that_are_no_forms(server: Served) -> None:
    sentence = "The body is no whole multipart form; send one photo as the body, or several as the files of a form."
    body, headers = form({"a": png()})
    for broken, kind in (
        (body[:-20], headers["Content-Type"]),
        (TEXT, headers["Content-Type"]),
        (body, "multipart/form-data"),
        (body, "multipart/form-data; boundary=another"),
        (body, f"multipart/form-data; boundary={'a' * 300}"),
        (b"", headers["Content-Type"]),
    ):
        answer = server.ask("/predict", broken, {"Content-Type": kind})
        assert (answer.status, answer.value) == (400, {"error": sentence}), (broken[:20], kind)
    empty = server.ask("/predict", form({})[0], headers)
    assert (empty.status, empty.value["error"]) in {(400, "The form has no photo; send each as a file of it."), (400, sentence)}
    many = server.ask("/predict", *form({str(i): b"" for i in range(257)}))
    assert (many.status, many.value["error"]) == (413, "The form has more than 256 photos; send them in several requests.")
    explained = server.ask("/explain", *form({str(i): b"" for i in range(17)}))
    assert (explained.status, explained.value["error"]) == (
        413,
        "The form has more than 16 photos; send them in several requests.",
    )
    packed = server.ask("/predict", png(), {"Content-Encoding": "gzip"})
    assert (packed.status, packed.value["error"]) == (
        415,
        "The body is compressed; send photos as they are, without Content-Encoding.",
    )


def test_other_paths_and_methods(server: Served) -> None:
    nowhere = server.ask("/nowhere")
    assert (nowhere.status, nowhere.value["error"]) == (
        404,
        "There is nothing here; the page is at /, and /openapi.json says what else there is.",
    )
    got = server.ask("/predict")
    assert (got.status, got.value["error"]) == (405, "GET is not for this address; /openapi.json says what is.")
    assert got.headers["Allow"] == "POST"


def test_a_name_of_a_stranger_is_refused(server: Served) -> None:
    """So that a page whose name leads here once its own server has answered (DNS rebinding) learns nothing."""
    answer = server.ask("/model", headers={"Host": f"evil.example:{server.port}"})
    assert (answer.status, answer.value["error"]) == (
        403,
        f"This server answers under the names of its own machine alone, not as 'evil.example:{server.port}'; "
        f"ask it at http://localhost:{server.port}.",
    )
    for name in (f"localhost:{server.port}", "localhost", "127.0.0.1", f"[::1]:{server.port}"):
        assert server.ask("/model", headers={"Host": name}).status == 200


def test_pages_elsewhere_may_not_post(server: Served) -> None:
    own = {"Host": f"localhost:{server.port}", "Origin": f"http://localhost:{server.port}"}
    assert server.ask("/predict", png(), own).status == 200
    for origin in ("https://evil.example", "null", "http://[x"):
        answer = server.ask("/predict", png(), {"Origin": origin})
        assert (answer.status, answer.value["error"]) == (
            403,
            f"Pages of '{origin}' may not ask this server; allow them with --cors {origin}.",
        )
        assert "Access-Control-Allow-Origin" not in answer.headers
    friend = server.ask("/predict", png(), {"Origin": "https://friend.example"})
    assert (friend.status, friend.headers["Access-Control-Allow-Origin"]) == (200, "https://friend.example")
    asked = {"Origin": "https://friend.example", "Access-Control-Request-Method": "POST"}
    assert server.ask("/predict", headers=asked, method="OPTIONS").status == 200


def test_a_token(guarded: Served) -> None:
    missing = guarded.ask("/model")
    assert (missing.status, missing.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert missing.value["error"] == "The token is missing; send the server's own as 'Authorization: Bearer TOKEN'."
    for path, body in (("/predict", png()), ("/metrics", None), ("/explain", png()), ("/nowhere", None)):
        wrong = guarded.ask(path, body, {"Authorization": "Bearer another-token"})
        assert (wrong.status, wrong.value["error"]) == (
            401,
            "The token is wrong; send the server's own as 'Authorization: Bearer TOKEN'.",
        )
    right = {"Authorization": f"bearer {TOKEN}"}
    assert guarded.ask("/predict", png(), right).status == 200
    assert guarded.ask("/predict", png(), right | {"Host": "photos.example"}).status == 200
    assert guarded.ask("/health").status == 200
    assert guarded.ask("/openapi.json").status == 401  # it has the names of the classes
    assert guarded.ask("/openapi.json", headers=right).value["components"]["securitySchemes"] == {
        "token": {"type": "http", "scheme": "bearer"}
    }


def test_answers_are_not_kept_and_framed_by_nobody(server: Served) -> None:
    headers = server.ask("/health").headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]


def start(server: Served, sent: bytes, head: bytes = b"Content-Length: 900") -> socket.socket:
    """Return a connection on which a photo is sent, and perhaps not all of it."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n\r\n" + sent)
    return connection


def all_of(connection: socket.socket) -> bytes:
    """Return what comes until a JSON ends, or the connection."""
    said = b""
    while not said.endswith(b"}") and (piece := connection.recv(1 << 16)):
        said += piece
    return said


def test_slow_bodies_take_no_place_and_end(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them than may wait; one goes on sending a byte, and has no longer than the others."""
    monkeypatch.setattr("ffe.serving.app._PATIENCE", 1.0)
    monkeypatch.setattr("ffe.serving.app._LEAST_RATE", 1e9)
    slow = [start(server, b"half") for _ in range(10)]
    wait_for(lambda: gauge(server, "ffe_bytes_held") == 40)
    assert server.ask("/predict", png()).status == 200
    assert waiting(server) == 0
    with contextlib.suppress(ConnectionError):
        for _ in range(400):
            slow[0].sendall(b".")
            if select.select(slow[:1], (), (), 0.05)[0]:
                break
        else:
            raise AssertionError("it was not ended")
    for connection in slow:
        said = all_of(connection)
        assert said.startswith(b"HTTP/1.1 408 ")
        assert b'{"error": "The rest of the body did not come; send the photo again."}' in said
        connection.close()
    wait_for(lambda: gauge(server, "ffe_bytes_held") == 0)


def test_bytes_are_counted_as_they_come(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ffe.serving.app._HELD_BYTES", 5000)
    photo, chunked = png(), b"Transfer-Encoding: chunked"
    assert len(photo) < 4900
    with start(server, b"64\r\n" + bytes(100) + b"\r\n", chunked), start(server, b"", b"Content-Length: 200000"):
        wait_for(lambda: gauge(server, "ffe_bytes_held") == 100)
        assert server.ask("/predict", photo).status == 200
        full = server.ask("/predict", bytes(4950))
        assert (full.status, full.headers["Retry-After"]) == (503, "1")
        assert full.value["error"] == "Too many photos wait already; send this one again in a moment."
        assert gauge(server, "ffe_bytes_held") == 100
    wait_for(lambda: gauge(server, "ffe_bytes_held") == 0)
    assert server.ask("/predict", bytes(6000)).status == 422  # alone it may be large


def test_connections_that_ask_nothing_are_closed(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Silent ones, those that send half a head, and those that do so once they were answered."""
    monkeypatch.setattr("ffe.serving.server.HEAD_SECONDS", 0.3)
    connections = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(3)]
    connections[1].sendall(b"GET /hea")
    connections[2].sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert all_of(connections[2]).endswith(b'{"status": "ok"}')
    connections[2].sendall(b"GET /hea")
    for connection in connections:
        assert connection.recv(100) == b""
        connection.close()


def test_whoever_is_at_work_is_not_closed(server: Served, held: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ffe.serving.server.HEAD_SECONDS", 0.1)
    with start(server, png(), b"Content-Length: %d" % len(png())) as connection:
        wait_for(lambda: waiting(server) == 1)
        assert select.select([connection], (), (), 0.4)[0] == []
        held.set()
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


def test_without_files_for_a_photo_it_is_503(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(files: Any) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(server.predictor, "predict", fails)
    answer = server.ask("/predict", png())
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert answer.value["error"] == "There are no free file descriptors now; send the photo again."


def test_health_where_the_thread_has_ended(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Worker, "works", False)
    answer = server.ask("/health")
    assert (answer.status, answer.value["error"]) == (503, "The thread of the model has ended; start the server again.")


@pytest.mark.parametrize("broken", ["ffe.serving.metrics.Metrics.text", "ffe.serving.guard.Guard._refusal"])
def test_whatever_fails_is_one_sentence(
    server: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    def fails(*_: object) -> str:
        raise RuntimeError("no such thing")

    sentence = "This should not happen: RuntimeError: no such thing; please report it."
    monkeypatch.setattr(broken, fails)
    answer = server.ask("/metrics")
    assert (answer.status, answer.value["error"]) == (500, sentence)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    wait_for(lambda: caplog.messages == [sentence])


def test_what_is_refused_is_read_to_its_end(server: Served) -> None:
    """Who sends it would not hear why, if the server hung up on him while he sends."""
    body = bytes(600_000)
    with start(server, b"", b"Origin: https://evil.example\r\nContent-Length: %d" % len(body)) as connection:
        assert select.select([connection], (), (), 0.2)[0] == []
        connection.sendall(body)
        assert all_of(connection).startswith(b"HTTP/1.1 403 ")
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert all_of(connection).endswith(b'{"status": "ok"}')


def test_what_is_refused_and_does_not_come_is_not_waited_for(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ffe.serving.guard._DRAIN_SECONDS", 0.1)
    with start(server, b"half", b"Origin: https://evil.example\r\nContent-Length: 900") as connection:
        assert all_of(connection).startswith(b"HTTP/1.1 403 ")


@pytest.fixture
def held(server: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The model answers once this is set."""
    go, predict = threading.Event(), server.predictor.predict

    def wait(files: Any) -> Any:
        assert go.wait(30)
        return predict(files)

    monkeypatch.setattr(server.predictor, "predict", wait)
    yield go
    go.set()


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not happen in 10 s")


def gauge(server: Served, name: str) -> int:
    (line,) = (line for line in server.ask("/metrics").body.decode().splitlines() if line.startswith(f"{name} "))
    return int(line.split()[1])


def waiting(server: Served) -> int:
    return gauge(server, "ffe_requests_waiting")


def test_a_full_queue_is_503_and_what_waits_is_computed_together(
    server: Served, held: threading.Event, fake_bundle: Path
) -> None:
    calls = server.worker.calls
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(server.ask, "/predict", png("cat", number)) for number in range(8)]
        wait_for(lambda: waiting(server) == 8)
        full = server.ask("/predict", png())
        assert (full.status, full.headers["Retry-After"]) == (503, "1")
        assert full.value["error"] == "Too many photos wait already; send this one again in a moment."
        assert server.ask("/health").status == 200
        held.set()
        answers = [one.result() for one in asked]
    for number, answer in enumerate(answers):
        assert_same(answer.value, said(fake_bundle, png("cat", number)))
    assert server.worker.calls - calls <= 2  # the first alone, or with some; the others, that came meanwhile, together


def test_whoever_hangs_up_is_forgotten(server: Served, held: threading.Event) -> None:
    calls = server.worker.calls
    first = socket.create_connection(("127.0.0.1", server.port))
    request = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s"
    first.sendall(request % (len(png()), png()))
    wait_for(lambda: server.worker.calls == calls + 1)
    leaving = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(5)]
    for connection in leaving:
        connection.sendall(request % (len(png()), png()))
    wait_for(lambda: waiting(server) == 6)
    for connection in leaving[:3]:
        connection.close()
    half = socket.create_connection(("127.0.0.1", server.port))
    half.sendall((request % (len(png()), png()))[:-20])
    half.close()
    wait_for(lambda: waiting(server) == 3)
    held.set()
    for connection in (first, *leaving[3:]):
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        connection.close()
    assert 'ffe_requests_total{path="/predict",status="499"}' in server.ask("/metrics").body.decode()
    assert waiting(server) == 0


def test_an_error_of_the_model_is_one_sentence_and_takes_no_other_request_along(
    server: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    predict = server.predictor.predict

    def fails(files: list[bytes]) -> Any:
        if png("dog") in files:
            raise MemoryError
        return predict(files)

    monkeypatch.setattr(server.predictor, "predict", fails)
    answer = server.ask("/predict", png("dog"))
    assert (answer.status, answer.value["error"]) == (
        500,
        "There is not enough memory; send smaller photos, or close other programs.",
    )
    assert server.ask("/predict", png()).status == 200


@pytest.mark.parametrize("count", [128, pytest.param(1000, marks=pytest.mark.slow)])
def test_many_requests_from_32_clients(server: Served, fake_bundle: Path, count: int) -> None:
    expected = [said(fake_bundle, png("cat", number)) for number in range(4)]

    def ask(number: int) -> Any:
        while (answer := server.ask("/predict", png("cat", number % 4))).status == 503:  # 8 may wait
            threading.Event().wait(0.01)
        return answer.value

    with ThreadPoolExecutor(32) as pool:
        for number, value in enumerate(pool.map(ask, range(count))):
            assert_same(value, expected[number % 4])


_opened: list[Any] | None = None


def _note_files(event: str, arguments: Any) -> None:
    if _opened is not None and event == "open":
        path, mode, flags = arguments
        if (flags or 0) & (os.O_WRONLY | os.O_RDWR) or set(mode or "r") & set("wax+"):
            _opened.append(path)


def test_no_photo_is_written_to_disk(server: Served, fake_bundle: Path, tmp_path: Path) -> None:
    """Starlette's own parser of forms would put parts of more than a mebibyte into files."""
    global _opened
    large = Image.fromarray(np.random.default_rng(0).integers(0, 256, (900, 900, 3), np.uint8))
    file = io.BytesIO()
    large.save(file, "PNG", compress_level=0)
    assert len(file.getvalue()) > 2 << 20
    sys.addaudithook(_note_files)
    with served(fake_bundle) as own:
        _opened = []
        try:
            both = form({"a.png": file.getvalue(), "b.png": file.getvalue()})
            assert own.ask("/predict", *both).status == 200
            assert own.ask("/explain", *both).status == 200
            assert own.ask("/predict", file.getvalue()).status == 200
            assert _opened == []
            (tmp_path / "file").write_bytes(b"")  # so that the test can fail
            assert _opened == [str(tmp_path / "file")] or [os.fspath(path) for path in _opened] == [str(tmp_path / "file")]
        finally:
            _opened = None


def test_the_description_is_json_that_names_the_classes(server: Served) -> None:
    value = server.ask("/openapi.json").value
    assert value["components"]["schemas"]["Prediction"]["properties"]["label"]["anyOf"][0]["enum"] == ["cat", "dog"]
    text = json.dumps(value)
    for part in text.split('"$ref": "')[1:]:
        place: Any = value
        for name in part.split('"')[0].removeprefix("#/").split("/"):
            place = place[name]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"host": "0.0.0.0"},
            "Other machines could ask the server at '0.0.0.0'; give it a token of at least 8 characters in the variable "
            "FFE_TOKEN, or with --token, or leave --host out.",
        ),
        (
            {"token": "short"},
            "The token must have at least 8 letters, digits or signs of ASCII and no spaces; "
            "'openssl rand -hex 16' makes a good one.",
        ),
        ({"cors": ("*",)}, "'*' is no origin of a page; write it as https://example.org, without a path."),
        ({"port": 70000}, "The port is 70000, but must be 0 to 65535; 0 takes any that is free."),
        ({"queue": 0}, "queue is 0, but must be at least 1."),
    ],
)
def test_refused_before_the_model_is_opened(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError) as error:
        ffe.serve("no-such.ffe", **options)
    assert str(error.value) == sentence


def test_hosts_of_this_machine_need_no_token() -> None:
    for host in ("127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost"):
        assert ServeOptions(host=host).host == host
    for host in ("0.0.0.0", "::", "192.168.0.5", "photos.example", "127.0.0.1.evil.example"):
        with pytest.raises(SpecError, match="Other machines could ask"):
            ServeOptions(host=host)


def test_small_answers_do_not_wait_for_a_word_of_the_client() -> None:
    """Without TCP_NODELAY each answer waits 40 ms; asyncio sets it on sockets that are named TCP."""
    with open_socket("127.0.0.1", 0) as bound:
        assert bound.proto == socket.IPPROTO_TCP


def test_a_port_in_use_and_other_addresses(fake_bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SpecError) as error:
            ffe.serve(fake_bundle, port=port)
    assert str(error.value) == (
        f"The port {port} is in use by another program; give another with --port, or --port 0 for any that is free."
    )
    with pytest.raises(SpecError) as error:
        ffe.serve(fake_bundle, host="192.0.2.1", token=TOKEN, port=0)
    assert str(error.value) == "'192.0.2.1' is no address of this machine; give one with --host, or leave it out."


def test_a_missing_package_names_itself(fake_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EngineError) as error:
        ffe.serve(fake_bundle)
    assert str(error.value) == (
        "ffe serve needs the packages starlette and uvicorn and python-multipart, which are not installed; "
        "install them with 'pip install starlette uvicorn python-multipart'."
    )
