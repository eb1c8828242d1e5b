"""A process that is forked after engines and threads were used: it goes on, or says in a sentence why not."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from ffe.base import forks
from ffe.engines.keras import KerasEngine
from ffe.engines.openvino import OpenVinoEngine
from ffe.errors import EngineError
from ffe.extraction.transformer import FeatureExtractor
from ffe.images import decode_memory
from ffe.images.loader import ImageStream
from ffe.predictor import Predictor
from ffe.specs import PreprocessSpec
from ffe.store.reader import FeatureStore
from tests.engines.test_openvino import float_ir

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


def in_child(work: Callable[[], Any]) -> str:
    """Return what the text of ``work()`` is in a forked child; one that hangs is ended after two minutes."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(120)
        try:
            text = str(work())
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(writing, text.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        text = file.read()
    assert os.waitpid(child, 0)[1] == 0, f"the child died or hung: {text}"
    return text


@pytest.mark.parametrize("batch_size", [1, 4])
def test_openvino_goes_on(batch_size: int) -> None:
    engine = OpenVinoEngine(float_ir(), batch_size)
    images = np.random.default_rng(0).integers(0, 256, (batch_size, *engine.size, 3), np.uint8)
    expected = engine.extract(images)
    running = engine.start(images)  # on its way while the process is forked
    assert in_child(lambda: np.array_equal(engine.extract(images), expected)) == "True"
    np.testing.assert_array_equal(running(), expected)


def test_openvino_that_is_not_used_any_more_does_not_end_the_child() -> None:
    engines = [OpenVinoEngine(float_ir(), 4)]
    engines[0].extract(np.zeros((4, *engines[0].size, 3), np.uint8))
    assert in_child(engines.clear) == "None"


def test_the_engine_winograd_goes_on_and_blas_is_free() -> None:
    from small_network import SIZE, model

    from ffe.base import blas
    from ffe.engines.winograd import WinogradEngine

    engine = WinogradEngine(model(), 4)
    images = np.random.default_rng(0).integers(0, 256, (4, *SIZE, 3), np.uint8)
    rows = engine.extract(images)
    threads = [library["num_threads"] for library in threadpool_info()]

    def held() -> set[int]:
        with blas.one_blas_thread():
            return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

    def held_in_a_thread() -> set[int]:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(held).result()

    with blas.one_blas_thread():  # as while it computes
        assert in_child(held_in_a_thread) == str(held())
        assert in_child(lambda: [library["num_threads"] for library in threadpool_info()]) == str(threads)
        assert in_child(lambda: np.array_equal(engine.extract(images), rows)) == "True"
    assert [library["num_threads"] for library in threadpool_info()] == threads


@pytest.mark.parametrize("decode", ["exact", "fast"])
def test_pictures_features_and_heads_go_on(pictures: Path, fake_bundle: Path, fake_store: Path, decode: str) -> None:
    files = sorted(pictures.glob("*/*.png"))[:4]
    predictor, step = Predictor(fake_bundle), FeatureExtractor("fake", decode=decode)  # type: ignore[arg-type]
    with FeatureStore(fake_store) as store:
        work = [lambda: list(predictor.predict(files)), lambda: step.fit_transform(files).sum(), lambda: store.features().sum()]
        for each in work:
            assert in_child(each) == str(each())


def test_locks_that_another_thread_held_are_free(pictures: Path) -> None:
    with decode_memory._alone, decode_memory._changed:
        assert (
            in_child(lambda: (decode_memory._alone.acquire(timeout=100), decode_memory._changed.acquire(timeout=100)))
            == "(True, True)"
        )


def test_pictures_that_are_being_read_are_not_waited_for(pictures: Path) -> None:
    with ImageStream(sorted(pictures.glob("*/*.png")), PreprocessSpec((8, 8), "none")) as images:
        items = iter(images)
        next(items)
        expected = (
            "EngineError: Images that are being read cannot go on in a forked process; "
            "begin anew in each process, or start processes with multiprocessing.get_context('spawn')."
        )
        assert in_child(lambda: next(items)) == expected


def test_keras_says_that_it_cannot() -> None:
    engine = KerasEngine.__new__(KerasEngine)
    engine._process = os.getpid() - 1
    with pytest.raises(EngineError, match=r"^The engine keras cannot go on in a forked process; begin anew in each process, or "):
        engine.start(np.zeros((1, 4, 4, 3), np.uint8))


def test_tensorflow_that_ran_before_the_fork_is_not_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Context:
        _initialized = True

    class Module:
        _context = Context()

    forks.check_tensorflow()
    monkeypatch.setitem(sys.modules, "tensorflow.python.eager.context", Module())  # type: ignore[arg-type]
    assert in_child(forks.check_tensorflow) == (
        "EngineError: TensorFlow cannot work in a process that was forked from one which has used it; "
        "start processes with multiprocessing.get_context('spawn'), or use the engine openvino."
    )
