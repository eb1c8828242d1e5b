"""The thread that owns the model: requests go in, answers come out, and what waits together is computed together."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from ffe.explaining.explanations import Explanation, explanations
from ffe.predictor import Prediction, Predictor

Upload = tuple[str, bytes]  # the name of a photo, and its file
_Ask = Callable[[Predictor, list[bytes]], Iterator[Any]]

_MOST_TOGETHER = 64  # photos in one call: more would let the first one, and those that come meanwhile, wait
_MOST_EXPLAINED = 8  # likewise: an explanation takes as long as many answers


@dataclass(eq=False)
class _Request:
    """Photos that somebody waits for."""

    photos: Sequence[Upload]
    ask: _Ask | None  # None = what the model says of them
    answer: Future[list[Any]] = field(default_factory=Future)
    found: list[Any] = field(default_factory=list)  # of the first photos

    def end(self, error: Exception | None = None) -> None:
        """Give the answer, unless nobody waits for it now."""
        if self.answer.set_running_or_notify_cancel():
            if error is None:
                self.answer.set_result(self.found)
            else:
                self.answer.set_exception(error)

    @property
    def is_open(self) -> bool:
        return not self.answer.done()


class Worker:
    """Answers requests from any thread, one after the other, in a thread that nobody else's calls reach.

    A ``Predictor`` is not for several threads. Requests that have come while it was busy are computed in one call, and large
    ones in several, between which others have their turn. Use it as a context: leaving it answers what waits, and ends the
    thread.

    Args:
        predictor: a model that is open; from now on it belongs to the thread.

    Raises:
        BundleError, EngineError, WeightsError: the model cannot be used; from ``__enter__``.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._begun: deque[_Request] = deque()  # taken from there, and not answered yet; of the thread
        self._thread = threading.Thread(target=self._work, name="ffe-serve")
        self._opened: Future[None] = Future()
        self.calls = 0  # of the model, for photos that came alone or together

    def predict(self, photos: Sequence[Upload]) -> Future[list[Prediction]]:
        """Return what will hold a prediction for each photo, in order; once cancelled, no more of it is computed."""
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
        is_open = True
        while is_open or self._begun:
            is_open = self._take_waiting() and is_open
            self._answer_some()

    def _take_waiting(self) -> bool:
        """Take the requests that have come, and wait for one where there is none; return whether more may come."""
        with contextlib.suppress(queue.Empty):
            while (request := self._requests.get(block=not self._begun)) is not None:
                self._begun.append(request)
            return False
        return True

    def _answer_some(self) -> None:
        """Compute as many photos as go together, of those that wait longest; what is left of their requests comes last."""
        waiting = deque(one for one in self._begun if one.is_open)
        self._begun.clear()
        if not waiting:
            return
        ask, room = waiting[0].ask, _MOST_TOGETHER if waiting[0].ask is None else _MOST_EXPLAINED
        portions: list[tuple[_Request, Sequence[Upload]]] = []
        while waiting and room > 0:
            if portions and (ask is not None or waiting[0].ask is not None):
                self._begun.append(waiting.popleft())  # an explanation is computed by itself
                continue
            request = waiting.popleft()
            portions.append((request, request.photos[len(request.found) :][:room]))
            room -= len(portions[-1][1])
        self._together(portions, ask)
        self._begun += waiting
        self._begun += [request for request, _ in portions if request.is_open]

    def _together(self, portions: list[tuple[_Request, Sequence[Upload]]], ask: _Ask | None) -> None:
        """Compute photos of requests with one call; where it fails, each alone, so that one takes no other along."""
        self.calls += 1
        done = 0
        try:
            files = [data for _, photos in portions for _, data in photos]
            found = self._predictor.predict(files) if ask is None else ask(self._predictor, files)
            for request, photos in portions:
                request.found += [replace(next(found), path=name) for name, _ in photos]
                done += 1
                if len(request.found) == len(request.photos):
                    request.end()
        except Exception as error:
            if len(portions) == 1:
                portions[0][0].end(error)
                return
            for one in portions[done:]:
                self._together([one], ask)
