"""Fixtures that every test may use. No test needs a network; those that need real data say so and skip."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from ffe.base import file_stat
from ffe.base.system import collector_paused
from ffe.images.drawings import draw_folder

_HERE = Path(__file__).resolve().parent


_OWN_FOLDER = pytest.StashKey[tempfile.TemporaryDirectory]()


settings.register_profile("ffe", deadline=None)  # how long an example takes is no matter of right and wrong
settings.load_profile("ffe")


def pytest_configure(config: pytest.Config) -> None:
    """Let pictures that a test has just drawn count as old ones, and keep the home and the caches of whoever runs this away.

    tests/base/test_file_stat.py looks at new pictures. All processes of a run share one
    cache, so a backbone is converted and a kernel compiled once.
    """
    file_stat.RACY_NS = 0
    if threads := int(os.environ.get("FFE_TEST_CORES", 0)):  # .ci/portable: as if the machine had so many cores
        os.sched_getaffinity = lambda _: set(range(threads))  # type: ignore[attr-defined]
    if hasattr(config, "workerinput"):  # a process of pytest-xdist: its parent's environment is as it should be
        return
    config.stash[_OWN_FOLDER] = tempfile.TemporaryDirectory(prefix="ffe-tests-", ignore_cleanup_errors=True)
    folder = Path(config.stash[_OWN_FOLDER].name)
    for name in ("cache", "home", "keras"):
        (folder / name).mkdir()
    for name in [name for name in os.environ if name.startswith(("XDG_", "FFE_"))]:
        if not name.startswith(("FFE_TEST_", "FFE_BENCH_")):
            del os.environ[name]
    for name in ("NUMBA_CACHE_DIR", "PYTHONDONTWRITEBYTECODE"):  # the latter: each process would compile ffe anew
        os.environ.pop(name, None)
    os.environ.update(FFE_CACHE_DIR=str(folder / "cache"), KERAS_HOME=str(folder / "keras"))
    os.environ.update(HOME=str(folder / "home"), USERPROFILE=str(folder / "home"))
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # threads that spin while they wait take the cores of the other processes


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove what ``pytest_configure`` made."""
    if _OWN_FOLDER in config.stash:
        config.stash[_OWN_FOLDER].cleanup()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out benchmarks, slow proofs and what needs another environment unless -m asks for something."""
    if config.option.markexpr:
        return
    off = ("benchmark", "slow", "without_tensorflow")
    chosen = [item for item in items if not any(item.get_closest_marker(name) for name in off)]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Keep what is imported and collected out of each search for garbage: a million objects that all stay."""
    with collector_paused():
        yield
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Do so with what a module leaves behind, such as TensorFlow's graphs, when its garbage is gone."""
    yield
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True)
def no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights but those that a test names."""
    monkeypatch.setattr("ffe.backbones.weights._unreachable", lambda url: "no network in tests")


@pytest.fixture(scope="session")
def quick_measures() -> Iterator[None]:
    """Rates are measured for a moment only: in tests they decide nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ffe.finetuning.activation_cache._MEASURE_SECONDS", 0.02)
        patch.setattr("ffe.commands.doctor._MEASURE_SECONDS", 0.02)
        patch.setattr("ffe.commands.bench._ALONE_SECONDS", 0.02)
        yield


@pytest.fixture
def quick_searches() -> Iterator[None]:
    """Bake-offs and comparisons search over one head: what is made of the answers is the same. Fixtures of modules take all."""
    from functools import partial

    from ffe.commands.tune import tune

    with pytest.MonkeyPatch.context() as patch:
        for runner in ("bakeoff_runner", "compare_runner"):
            patch.setattr(f"ffe.commands.{runner}.tune", partial(tune, heads="logistic"))
        yield


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 20 drawn cats and 20 drawn dogs, 48x48; treat it as read-only."""
    folder = tmp_path_factory.mktemp("pictures")
    draw_folder(folder, 20, (48, 48))
    return folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real photos and weights, from FFE_TEST_DATA or beside the project."""
    folder = Path(os.environ.get("FFE_TEST_DATA") or _HERE.parent.parent / "shared")
    if not (folder / "weights").is_dir():
        pytest.skip(f"no real photos and weights in '{folder}'; set FFE_TEST_DATA to a folder that has them")
    return folder


@pytest.fixture(scope="session")
def fake_store(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A feature file of the drawn pictures, through the fake backbone; treat it as read-only."""
    from ffe.extraction.run import extract

    path = tmp_path_factory.mktemp("store") / "features.h5"
    extract(pictures, path, backbone="fake")
    return path


@pytest.fixture(scope="session")
def fake_bundle(fake_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A logistic model on the fake features; treat it as read-only."""
    from ffe.commands.tune import train

    path = tmp_path_factory.mktemp("bundle") / "model.ffe"
    train(fake_store, path, head="logistic")
    return path
