"""Where weights are looked for, and what is said when there are none."""

from __future__ import annotations

import re
import socket
import threading
import urllib.error
from pathlib import Path
from typing import Any

import pytest

from ffe.backbones import weights as weights_module
from ffe.backbones.catalog import CATALOG, Backbone, find
from ffe.backbones.weights import candidates, keras_home, random_weights, resolve
from ffe.base.digests import bytes_digest
from ffe.errors import WeightsError

ROW = CATALOG["mobilenet_0.25"]
SIZE = (128, 128)
UNREACHABLE = weights_module._unreachable  # kept before a fixture replaces it


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Every place that holds weights, each with a content of its own."""
    folder, home = tmp_path / "weights", tmp_path / "home"
    monkeypatch.setenv("FFE_WEIGHTS_DIR", str(folder))
    monkeypatch.setenv("KERAS_HOME", str(home))
    found = {
        "path": tmp_path / "mine.weights.h5",
        "folder": folder / "mobilenet_0.25_imagenet_no_top.weights.h5",
        "folder, Keras's name": folder / "mobilenet_2_5_128_tf_no_top.h5",
        "cache": home / "models" / "mobilenet_2_5_128_tf_no_top.h5",
    }
    for name, path in found.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return found


def test_first_the_path_then_the_folder_then_the_cache(places: dict[str, Path]) -> None:
    found = resolve(ROW, SIZE, str(places["path"]))
    assert found.path == places["path"]
    for name in ("folder", "folder, Keras's name", "cache"):
        found = resolve(ROW, SIZE)
        assert found.path == places[name]
        assert found.kind == "file"
        assert found.sha256 == bytes_digest(name.encode())
        places[name].unlink()
    with pytest.raises(WeightsError, match="are not on this machine"):
        resolve(ROW, SIZE)


def test_candidates_stand_in_that_order(places: dict[str, Path]) -> None:
    assert candidates(ROW, SIZE) == list(places.values())[1:]


def test_keras_cache_is_in_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert candidates(ROW, SIZE) == [tmp_path / ".keras" / "models" / "mobilenet_2_5_128_tf_no_top.h5"]


def test_weights_that_are_here_are_not_downloaded(places: dict[str, Path]) -> None:
    def download(row: Backbone, size: tuple[int, int]) -> None:
        raise AssertionError("nothing had to be downloaded")

    assert resolve(ROW, SIZE, download=download).path == places["folder"]


def test_random_is_seeded() -> None:
    found = resolve(ROW, SIZE, "random")
    assert found == resolve(CATALOG["vgg19"], (150, 150), "random") == random_weights(0)
    assert found.kind == "random"
    assert found.path is None
    assert random_weights(1).sha256 != found.sha256


def test_fake_backbone_needs_no_weights() -> None:
    assert resolve(find("fake"), (32, 32)).kind == "random"


def test_missing_path() -> None:
    with pytest.raises(WeightsError, match=r"There is no weights file 'none\.h5'; give the path of a Keras \.weights\.h5 file"):
        resolve(ROW, SIZE, "none.h5")


def test_missing_weights_say_where_and_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence, at once: every place looked at, the network's answer, and three ways out."""
    monkeypatch.setenv("FFE_WEIGHTS_DIR", str(tmp_path / "weights"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    with pytest.raises(WeightsError) as caught:
        resolve(ROW, SIZE, download=lambda row, size: pytest.fail("there is no network to download from"))
    assert str(caught.value) == (
        f"The ImageNet weights of 'mobilenet_0.25' are not on this machine: looked for "
        f"'{tmp_path}/weights/mobilenet_0.25_imagenet_no_top.weights.h5', "
        f"'{tmp_path}/weights/mobilenet_2_5_128_tf_no_top.h5', "
        f"'{tmp_path}/home/models/mobilenet_2_5_128_tf_no_top.h5' (no network in tests); "
        "run the command once with a network so that Keras downloads them, "
        "or put 'mobilenet_0.25_imagenet_no_top.weights.h5' into a folder that FFE_WEIGHTS_DIR names, "
        "or pass --weights PATH, or take --backbone efficientnetlite0, whose weights are installed with ffe."
    )


def test_failed_download_gives_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_module, "_unreachable", lambda url: "")

    def download(row: Backbone, size: tuple[int, int]) -> None:
        raise Exception("URL fetch failure:\n 404 -- Not Found")

    with pytest.raises(
        WeightsError, match=re.escape("(the download failed: URL fetch failure: 404 -- Not Found); run the command")
    ):
        resolve(ROW, SIZE, download=download)


def test_download_that_works_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(weights_module, "_unreachable", lambda url: "")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))

    def download(row: Backbone, size: tuple[int, int]) -> None:
        (tmp_path / "models").mkdir()
        (tmp_path / "models" / row.keras_cache_name(size)).write_bytes(b"weights")

    found = resolve(ROW, SIZE, download=download)
    assert found.sha256 == bytes_digest(b"weights")
    assert found.path == tmp_path / "models" / "mobilenet_2_5_128_tf_no_top.h5"


def test_host_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking up a name may hang without limit; the probe waits for its own limit, at most 5 seconds."""
    assert weights_module._PROBE_SECONDS <= 5
    monkeypatch.setattr(weights_module, "_PROBE_SECONDS", 0.3)
    release = threading.Event()

    def urlopen(*rest: Any, **options: Any) -> Any:
        release.wait(120)
        raise OSError("too late")

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    try:
        assert UNREACHABLE(weights_module._PROBE_URL) == "the download host does not answer"
    finally:
        release.set()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (urllib.error.URLError(socket.gaierror(-2, "Name or service not known")), "Name or service not known"),
        (TimeoutError("timed out"), "timed out"),
    ],
)
def test_host_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch, error: OSError, reason: str) -> None:
    def urlopen(*rest: Any, **options: Any) -> Any:
        raise error

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    answer = UNREACHABLE(weights_module._PROBE_URL)
    assert answer.startswith("the download host cannot be reached: ")
    assert reason in answer


def test_host_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    class Response:
        def close(self) -> None: ...

    asked: list[Any] = []

    def urlopen(request: Any, timeout: float) -> Response:
        asked.append((request.get_method(), request.full_url.startswith("https://storage.googleapis.com/tensorflow/"), timeout))
        return Response()

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    assert UNREACHABLE(weights_module._PROBE_URL) == ""
    assert asked == [("HEAD", True, weights_module._PROBE_SECONDS)]


def test_a_user_without_a_home_has_no_weights_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user id stands in no table."""
    monkeypatch.delenv("KERAS_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("USERPROFILE", raising=False)
    monkeypatch.setattr("os.getuid", lambda: 987_654_321, raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 987_654_321, raising=False)
    assert keras_home().name == ".keras"
