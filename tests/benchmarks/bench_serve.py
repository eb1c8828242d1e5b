"""What the server costs: its rate beside that of the predictor, and how long one client waits.

    FFE_TEST_DATA=../shared python -m pytest -m benchmark -s tests/benchmarks/bench_serve.py

With MobileNet and its weights, on real photos. The server is a process of its own; 16 clients keep it busy. Both sides are
measured in turn, in one run: figures of different runs mean little on a shared machine.
"""

from __future__ import annotations

import http.client
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffe.commands.tune import train
from ffe.predictor import Predictor
from tests.serving.test_process import Process, running

pytestmark = pytest.mark.benchmark

CLIENTS, PHOTOS, ALONE, ROUNDS = 16, 320, 100, 5
LEAST_RATE = 0.8  # of the predictor's
MOST_WAITING = 2.5  # times one prediction in process, for 99 of 100 photos of one client


@pytest.fixture(scope="module")
def model(shared: Path, features_of: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FFE_WEIGHTS_DIR", str(shared / "weights"))
        path = tmp_path_factory.mktemp("serve") / "m.ffe"
        train(features_of("dogs_vs_cats", "mobilenet", 224), path, head="logistic")
        yield path


@pytest.fixture(scope="module")
def files(shared: Path) -> list[Path]:
    return sorted((shared / "images" / "dogs_vs_cats").glob("*/*.jpg"))[:PHOTOS]


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Process]:
    with running(model) as found:
        yield found


def client(server: Process, photos: list[bytes]) -> list[float]:
    """Ask about photos, one after the other, over one connection; return the seconds of each."""
    connection, seconds = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60), []
    for photo in photos:
        started = time.perf_counter()
        connection.request("POST", "/predict", photo)
        answer = connection.getresponse()
        assert answer.read()
        assert answer.status == 200
        seconds.append(time.perf_counter() - started)
    connection.close()
    return seconds


def test_16_clients(server: Process, model: Path, files: list[Path]) -> None:
    predictor, photos = Predictor(model), [file.read_bytes() for file in files]
    list(predictor.predict(files[:32]))
    client(server, photos[:8])
    shares, plain, served = [], [], []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        assert all(answer.error is None for answer in predictor.predict(files))
        plain.append(len(files) / (time.perf_counter() - started))
        started = time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as pool:
            waits = list(pool.map(lambda n: client(server, photos[n::CLIENTS]), range(CLIENTS)))
        served.append(len(files) / (time.perf_counter() - started))
        shares.append(served[-1] / plain[-1])
    slowest = np.quantile(np.concatenate(waits), 0.99)
    share = statistics.median(shares)
    print(
        f"predict FOLDER {statistics.median(plain):.1f} photos/s, {CLIENTS} clients {statistics.median(served):.1f}: "
        f"{share:.2f} of it (rounds: {', '.join(f'{one:.2f}' for one in shares)}); p99 of a client {1000 * slowest:.0f} ms"
    )
    assert share >= LEAST_RATE


def test_one_client(server: Process, model: Path, files: list[Path]) -> None:
    predictor, photos = Predictor(model), [file.read_bytes() for file in files[:ALONE]]
    predictor.predict_bytes(photos[:1])
    predictor.predict_bytes(photos[:1])
    client(server, photos[:8])
    alone, waits = [], []
    for _ in range(ROUNDS):
        for photo in photos:
            started = time.perf_counter()
            predictor.predict_bytes([photo])
            alone.append(time.perf_counter() - started)
        waits += client(server, photos)
    one, (half, most) = statistics.median(alone), np.quantile(waits, [0.5, 0.99])
    slowest = float(np.quantile(alone, 0.99))
    print(
        f"one photo in process {1000 * one:.1f} ms (p99 {1000 * slowest:.1f}); "
        f"one client p50 {1000 * half:.1f}, p99 {1000 * most:.1f} ms: {most / one:.2f} times"
    )
    assert most <= MOST_WAITING * one
