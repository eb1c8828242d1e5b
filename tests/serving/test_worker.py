"""The thread that owns the model, with a model that waits to be let go."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest

from ffe.predictor import Prediction, Predictor
from ffe.serving.worker import Worker


class Model:
    """Answers with the size of each file, once ``go`` is set; a file ``broken`` fails."""

    def __init__(self) -> None:
        self.go, self.busy = threading.Event(), threading.Event()
        self.calls: list[list[bytes]] = []

    def predict(self, files: Any) -> Iterator[Prediction]:
        if isinstance(files, np.ndarray):  # it is warmed up
            return
        self.busy.set()
        assert self.go.wait(30)
        self.calls.append(files)
        for file in files:
            if file == b"broken":
                raise ValueError("broken")
            yield Prediction("-", str(len(file)), True, {}, None)


def test_what_waits_is_computed_together_and_what_is_cancelled_not_at_all() -> None:
    model = Model()
    with Worker(cast(Predictor, model)) as worker:
        first = worker.predict([("a", b"1")])
        assert model.busy.wait(30)
        others = [worker.predict([("b", b"22"), ("c", b"333")]), worker.predict([("d", b"4444")]), worker.predict([("e", b"5")])]
        assert others[2].cancel()
        model.go.set()
        assert [(one.path, one.label) for one in first.result(30)] == [("a", "1")]
        assert [(one.path, one.label) for one in others[0].result(30)] == [("b", "2"), ("c", "3")]
        assert [(one.path, one.label) for one in others[1].result(30)] == [("d", "4")]
    assert model.calls == [[b"1"], [b"22", b"333", b"4444"]]
    assert not worker.works


def test_one_that_fails_takes_no_other_along() -> None:
    model = Model()
    with Worker(cast(Predictor, model)) as worker:
        first = worker.predict([("a", b"1")])
        assert model.busy.wait(30)
        asked = [worker.predict([(name.decode(), name)]) for name in (b"x", b"broken", b"y")]
        model.go.set()
        assert first.result(30)
        assert asked[0].result(30)[0].label == asked[2].result(30)[0].label == "1"
        with pytest.raises(ValueError, match="broken"):
            asked[1].result(30)


def test_leaving_answers_what_waits() -> None:
    model = Model()
    model.go.set()
    with Worker(cast(Predictor, model)) as worker:
        asked = [worker.predict([("a", bytes(number))]) for number in range(100)]
    assert [one.result(0)[0].label for one in asked] == [str(number) for number in range(100)]


def test_a_model_that_cannot_be_used_is_no_thread() -> None:
    class Broken(Model):
        def predict(self, files: Any) -> Iterator[Prediction]:
            raise ValueError("it is broken")

    worker = Worker(cast(Predictor, Broken()))
    with pytest.raises(ValueError, match="it is broken"), worker:
        raise AssertionError
    assert not worker.works


def test_large_requests_let_others_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the worker is left meanwhile; whose answer is cancelled between two calls is computed no further."""
    model = Model()
    monkeypatch.setattr("ffe.serving.worker.explanations", lambda predictor, files, name: predictor.predict(files))
    with Worker(cast(Predictor, model)) as worker:
        first = worker.predict([("a", b"1")])
        assert model.busy.wait(30)
        gone = worker.predict([("g", b"g")] * 200)
        large = worker.predict([(str(i), bytes(i)) for i in range(150)])
        heat = worker.explain([(str(i), bytes(i)) for i in range(20)])
        small = worker.predict([("b", b"22")])
        small.add_done_callback(lambda _: gone.cancel())
        model.go.set()
    assert [one.path for one in first.result(0) + small.result(0)] == ["a", "b"]
    for answer, count in ((large, 150), (heat, 20)):
        assert [(one.path, one.label) for one in answer.result(0)] == [(str(i), str(i)) for i in range(count)]
    sizes = [len(call) for call in model.calls]
    assert max(sizes) == 64
    assert sum(sizes) == 1 + (64 + 63) + 150 + 20 + 1  # the second 63 went with the small one
    assert next(i for i, call in enumerate(model.calls) if b"22" in call) < len(sizes) - 2
    assert gone.cancelled()


def test_one_that_fails_late_takes_no_other_along() -> None:
    model = Model()
    with Worker(cast(Predictor, model)) as worker:
        first = worker.predict([("a", b"1")])
        assert model.busy.wait(30)
        bad = worker.predict([("x", b"x")] * 99 + [("b", b"broken")])
        good = worker.predict([(str(i), bytes(i)) for i in range(70)])
        model.go.set()
        assert first.result(30)
        with pytest.raises(ValueError, match="broken"):
            bad.result(30)
        assert [one.label for one in good.result(30)] == [str(i) for i in range(70)]
