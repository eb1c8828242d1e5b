"""The thread that owns the model: requests go in, answers come out, and what waits together is computed together."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from ffe.explaining.explanations import Explanation, explanations
from ffe.predictor import Prediction, Predictor

Upload = tuple[str, bytes]  # the name of a photo, and its file
_Ask = Callable[[Predictor, list[bytes]], Iterator[Any]]

_MOST_TOGETHER = 64  # photos in one call: more would let the first one wait


@dataclass(eq=False)
class _Request:
    """Photos that somebody waits for."""

    photos: Sequence[Upload]
    ask: _Ask | None  # None = what the model says of them
    answer: Future[list[Any]] = field(default_factory=Future)


class Worker:
    """Answers requests from any thread, one after the other, in a thread that nobody else's calls reach.

    A ``Predictor`` is not for several threads. Requests that have come while it was busy are computed in one call. Use it as a
    context: leaving it answers what waits, and ends the thread.

    Args:
        predictor: a model that is open; from now on it belongs to the thread.

    Raises:
        BundleError, EngineError, WeightsError: the model cannot be used; from ``__enter__``.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="ffe-serve")
        self._opened: Future[None] = Future()
        self.calls = 0  # of the model, for photos that came alone or together

    def predict(self, photos: Sequence[Upload]) -> Future[list[Prediction]]:
        """Return what will hold a prediction for each photo, in order; cancelled ones are not computed."""
        return self._put(_Request(photos, None))

    def explain(self, photos: Sequence[Upload], class_name: str | None = None) -> Future[list[Explanation]]:
        """Return what will hold an explanation of each photo, in order; see ``ffe.explaining.explanations``."""
        return self._put(_Request(photos, lambda predictor, files: explanations(predictor, files, class_name)))

    @property
    def works(self) -> bool:
        """Whether the thread is there to answer."""
        return self._thread.is_alive()

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._opened.result()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._requests.put(None)
        self._thread.join()

    def _put(self, request: _Request) -> Future[list[Any]]:
        self._requests.put(request)
        return request.answer

    def _work(self) -> None:
        try:
            for _ in range(2):  # a graph for many and one for a single photo; see ``ffe.engines.openvino``
                list(self._predictor.predict(np.zeros((8, 8, 3), np.uint8)))
        except BaseException as error:
            self._opened.set_exception(error)
            return
        self._opened.set_result(None)
        while self._answer_waiting():
            pass

    def _answer_waiting(self) -> bool:
        """Wait for requests, and answer those that are there; return whether more may come."""
        waiting = [self._requests.get()]
        photos = 0
        with contextlib.suppress(queue.Empty):
            while waiting[-1] is not None and (photos := photos + len(waiting[-1].photos)) < _MOST_TOGETHER:
                waiting.append(self._requests.get_nowait())
        asked = [one for one in waiting if one is not None and one.answer.set_running_or_notify_cancel()]
        if plain := [one for one in asked if one.ask is None]:
            self._together(plain)
        for one in asked:
            if one.ask is not None:
                self._together([one], one.ask)
        return waiting[-1] is not None

    def _together(self, requests: list[_Request], ask: _Ask | None = None) -> None:
        """Answer requests with one call; where it fails, each alone, so that one takes no other along."""
        self.calls += 1
        try:
            files = [data for one in requests for _, data in one.photos]
            found = self._predictor.predict(files) if ask is None else ask(self._predictor, files)
            for one in requests:
                one.answer.set_result([replace(next(found), path=name) for name, _ in one.photos])
        except Exception as error:
            left = [one for one in requests if not one.answer.done()]
            if len(requests) == 1:
                left[0].answer.set_exception(error)
                return
            for one in left:
                self._together([one], ask)
