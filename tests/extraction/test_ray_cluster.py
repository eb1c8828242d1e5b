"""The runner ray on real clusters: the same file, whatever is killed.

The slow ones take minutes: ``python -m pytest -m slow tests/extraction/test_ray_cluster.py``.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from feature_files import differences
from PIL import Image
from s3_server import bucket_of

from ffe.errors import EngineError
from ffe.extraction.run import extract

pytest.importorskip("ray")
ROOT = Path(__file__).resolve().parent.parent.parent


def test_an_address_where_no_cluster_is(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError) as error:
        extract(pictures, tmp_path / "f.h5", backbone="fake", runner="ray", address="127.0.0.1:9")
    assert str(error.value) == (
        "No Ray cluster answers at '127.0.0.1:9' (Connection refused); check the address, start one with 'ray start --head', "
        "or leave --address out for one of this machine alone."
    )


def test_what_is_no_address_of_a_cluster(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError) as error:
        extract(pictures, tmp_path / "f.h5", backbone="fake", runner="ray", address="headnode")
    assert str(error.value) == "'headnode' is no address of a cluster; give auto, HOST:6379 or ray://HOST:10001."


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_cluster_that_asks_for_a_token(
    scheme: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Ray gives it to no address by itself; its own error does not name what the one below says.

    Without a scheme it is asked once before ``init``, which would go on asking for 20 s; of what it writes nothing is seen.
    """
    import ray

    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")

    def probed(address: str) -> None:
        os.write(2, b"[2026-11-29 22:44:28,899 W 19222 19222] gcs_client.cc:210: Failed to get cluster ID from GCS server\n")
        raise ray.exceptions.AuthenticationError("RPC error: InvalidAuthToken: Authentication token is missing or incorrect")

    def begun(**_: object) -> None:
        assert scheme
        raise ConnectionError("Failed to connect") from RuntimeError("RPC error: Unauthenticated: InvalidAuthToken")

    monkeypatch.setattr(ray._raylet, "GcsClient", probed)
    monkeypatch.setattr(ray, "init", begun)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"{scheme}127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(EngineError) as error:
            extract(pictures, tmp_path / "f.h5", backbone="fake", runner="ray", address=address)
    assert str(error.value) == (
        f"The Ray cluster at '{address}' asks for a token; set RAY_AUTH_MODE=token, and have the token that its own machine "
        "keeps in ~/.ray/auth_token here, too."
    )
    assert "gcs_client" not in capfd.readouterr().err


def draw(folder: Path, count: int) -> None:
    """Write small pictures, all different, in two classes, that seem to lie there for long."""
    for i in range(count):
        target = folder / ("cat", "dog")[i % 2] / f"{i:05d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8)).save(target)


def photos_of(shared: Path, folder: Path, count: int) -> Path:
    """Write a list of real photos, without those that tests use as damaged ones."""
    files = sorted((shared / "images" / "dogs_vs_cats").glob("*/*.jpg"))[:count]
    folder.mkdir(parents=True, exist_ok=True)
    listing = folder / "photos.csv"
    listing.write_text("path,label\n" + "".join(f"{file.resolve()},{file.parent.name}\n" for file in files))
    return listing


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of two machines, with one processor each, on this one."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    from ray.cluster_utils import Cluster

    ray.shutdown()
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    made.wait_for_nodes()
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.mark.slow
def test_a_cluster_of_this_machine_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Started for the run, and stopped with it; the file is the same, with a damaged picture and a copy."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    draw(tmp_path / "source", 60)
    (tmp_path / "source" / "cat" / "bad.png").write_bytes(b"no picture")
    (tmp_path / "source" / "dog" / "copy.png").write_bytes((tmp_path / "source" / "cat" / "00000.png").read_bytes())
    time.sleep(3)  # until the pictures count as old ones everywhere
    views = {"views": 1, "augment": "flip"}
    extract(tmp_path / "source", tmp_path / "local.h5", backbone="fake", **views)
    summary = extract(tmp_path / "source", tmp_path / "ray.h5", backbone="fake", runner="ray", actors=2, **views)
    assert (summary.runner, summary.rows, summary.skipped) == ("ray", 122, 1)
    assert (tmp_path / "local.h5").read_bytes() == (tmp_path / "ray.h5").read_bytes()
    for runner in ("local", "ray"):
        (tmp_path / runner).mkdir()
        extract(tmp_path / "source", tmp_path / runner / "f.h5", backbone="fake", shards=3, runner=runner, **views)  # type: ignore[arg-type]
    for number in (1, 2, 3):
        shards = [tmp_path / runner / f"f-{number:05d}-of-00003.h5" for runner in ("local", "ray")]
        assert shards[0].read_bytes() == shards[1].read_bytes()
    import ray

    assert not ray.is_initialized()


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_two_machines_make_the_file_of_one(shared: Path, tmp_path: Path, cluster: Any, precision: Any) -> None:
    photos = photos_of(shared, tmp_path, 1399)
    extract(photos, tmp_path / "local.h5", precision=precision)
    like = {"like": tmp_path / "local.h5"} if precision == "int8" else {}
    summary = extract(photos, tmp_path / "ray.h5", precision=precision, runner="ray", address=cluster.address, **like)
    assert len(summary.nodes) == 2
    assert (tmp_path / "local.h5").read_bytes() == (tmp_path / "ray.h5").read_bytes()


@pytest.mark.slow
def test_machines_that_read_a_bucket_make_the_file_of_one(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Every machine asks the bucket itself; beside the file from the disk, the source is another, and the stamps are its own."""
    pytest.importorskip("moto")
    folder = shared / "images" / "dogs_vs_cats"
    extract(folder, tmp_path / "disk.h5")
    with bucket_of(folder) as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        cluster = request.getfixturevalue("cluster")  # its machines have the environment, too
        extract("s3://photos", tmp_path / "local.h5")
        summary = extract("s3://photos", tmp_path / "ray.h5", runner="ray", address=cluster.address)
    assert (len(summary.nodes), sum(summary.nodes.values()), summary.rows) == (2, 1399, 1399)
    assert (tmp_path / "local.h5").read_bytes() == (tmp_path / "ray.h5").read_bytes()
    assert differences(tmp_path / "disk.h5", tmp_path / "ray.h5") == {"stat", "source", "tables_sha256"}


_CHILD = """
import sys, json
from ffe.extraction.run import extract
def told(progress):
    print(progress.done, flush=True)
extract(sys.argv[1], sys.argv[2], runner="ray", address=sys.argv[3], progress=told, **json.loads(sys.argv[4]))
"""


def start(source: Path, output: Path, address: str, **options: Any) -> subprocess.Popen[str]:
    """Start an extraction in a process of its own."""
    command = [sys.executable, "-c", _CHILD, str(source), str(output), address, json.dumps(options)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def actors_of(cluster: Any) -> list[psutil.Process]:
    """Return the processes of a cluster that compute."""
    raylets = [node.all_processes["raylet"][0].process.pid for node in cluster.list_all_nodes()]
    children = [child for pid in raylets for child in psutil.Process(pid).children(recursive=True)]
    found = []
    for child in children:
        try:
            if "_Actor" in " ".join(child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
def test_kills_of_workers_and_of_the_driver(shared: Path, tmp_path: Path, cluster: Any) -> None:
    """Twenty workers and five drivers are killed at random moments; each run ends in the file of an undisturbed one.

    A moment is a number of photos that are done, or one before the first. A run that is over before its moment comes does
    not count, and is made again.
    """
    photos, expected = photos_of(shared, tmp_path, 1399), tmp_path / "expected.h5"
    extract(photos, expected)
    chance, equal, late = random.Random(0), 0, 0
    victims = ["worker", "worker", "worker", "worker", "driver"] * 5
    while victims:
        output = tmp_path / "work" / f"{len(victims)}-{late}" / "features.h5"
        output.parent.mkdir(parents=True)
        process = start(photos, output, cluster.address)
        while not actors_of(cluster) and process.poll() is None:
            time.sleep(0.05)
        moment = chance.randrange(-200, 1399)
        time.sleep(max(0, -moment) / 50)
        assert process.stdout is not None
        while moment > 0 and int(process.stdout.readline() or 1399) < moment:
            pass
        time.sleep(chance.random())
        there = actors_of(cluster)
        if process.poll() is not None or not there:
            process.communicate(timeout=3000)
            late += 1
            assert late <= 25, "these runs are over too soon to be disturbed"
            continue
        (process if victims.pop() == "driver" else chance.choice(there)).kill()
        process.communicate(timeout=3000)
        if process.returncode == -signal.SIGKILL:
            process = start(photos, output, cluster.address)
            _, errors = process.communicate(timeout=3000)
            assert process.returncode == 0, errors
        assert process.returncode == 0
        equal += output.read_bytes() == expected.read_bytes()
        assert [file.name for file in output.parent.iterdir()] == ["features.h5"]
        output.unlink()
        print(f"{25 - len(victims)} kills, {equal} files equal, {late} runs over before", flush=True)
    assert equal == 25


@pytest.mark.slow
def test_a_machine_that_is_lost(tmp_path: Path, cluster: Any) -> None:
    draw(tmp_path / "source", 3000)
    time.sleep(3)
    extract(tmp_path / "source", tmp_path / "expected.h5", backbone="fake")
    lost = cluster.add_node(num_cpus=1)
    process = start(tmp_path / "source", tmp_path / "features.h5", cluster.address, backbone="fake", batch_size=1)
    assert process.stdout is not None
    process.stdout.readline()
    cluster.remove_node(lost, allow_graceful=False)
    _, errors = process.communicate(timeout=3000)
    assert process.returncode == 0, errors
    assert (tmp_path / "features.h5").read_bytes() == (tmp_path / "expected.h5").read_bytes()
