"""Which process of a cluster computes which images: in order, few at a time, and nothing lost where processes die."""

from __future__ import annotations

import heapq
import logging
import time
from collections.abc import Callable, Generator, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from ffe.base.text import duration_text
from ffe.errors import EngineError
from ffe.extraction.runners.worker import ChunkDone, WorkerFacts

log = logging.getLogger("ffe")

AHEAD = 2  # chunks that a process has at a time: the second is decoded while the first has the engine
TRIES = 3  # of a picture alone, before it is given up
_PIECES = 8  # that a chunk is cut into where its process died of it
_WINDOW = 4  # chunks for each process that may be on their way, or wait for earlier ones
_LOOK_SECONDS = 1.0
_SAY_SECONDS = 15.0
_LOST_STARTS = 3  # processes, beside one in each place, that may die before they are ready

Ticket = Hashable  # of something that a process was asked for


class WorkerDiedError(Exception):
    """A process is gone, or cannot be reached, with what it was asked for; the text says why, as far as anybody knows."""


@dataclass(frozen=True, order=True)
class Span:
    """A run of positions that are computed together."""

    first: int
    count: int
    alone: bool = False  # a process died that had it: none has it together with another from now on
    tries: int = 0  # how often a process died that had but this one picture


@dataclass(frozen=True)
class Place:
    """Where a process is wanted: its share of a machine, by number."""

    node: str  # as the cluster names the machine
    name: str  # for people
    number: int
    cores: float
    gpus: float = 0.0


class Pool(Protocol):
    """Processes that compute."""

    def places(self) -> Sequence[Place]:
        """Return the places that there are now."""
        ...

    def start(self, place: Place) -> Ticket:
        """Begin a process; its result is ``WorkerFacts``."""
        ...

    def submit(self, place: Place, span: Span) -> Ticket:
        """Ask the process of a place for images; the result is ``ChunkDone``."""
        ...

    def wait(self, tickets: Sequence[Ticket], seconds: float) -> Sequence[Ticket]:
        """Return those that have a result, or have failed; wait for one."""
        ...

    def result(self, ticket: Ticket) -> WorkerFacts | ChunkDone:
        """Return what was asked for; WorkerDiedError where the process is gone, and the error of the work itself as it is."""
        ...

    def stop(self, place: Place) -> None:
        """End the process of a place, if it is there."""
        ...

    def why_waiting(self) -> str:
        """Say why no process begins, as far as can be seen, and what to do."""
        ...


@dataclass(eq=False)
class _Member:
    """The process of a place."""

    hello: Ticket | None  # None once it is ready
    spans: dict[Ticket, Span] = field(default_factory=dict)

    def takes(self, span: Span) -> bool:
        """Return whether it can have a chunk now."""
        busy = list(self.spans.values())
        return self.hello is None and len(busy) < AHEAD and not (busy and (span.alone or busy[0].alone))


@dataclass(eq=False)
class Schedule:
    """Has images computed by a pool.

    ``size`` says of the first process how many images a chunk has at the most; ``ready`` is called for every process that has
    begun; ``patience``: seconds without any process after which an EngineError says so.
    """

    pool: Pool
    size: Callable[[WorkerFacts], int]
    ready: Callable[[Place, WorkerFacts], None]
    patience: float = 600.0

    def __post_init__(self) -> None:
        self._members: dict[Place, _Member] = {}
        self._again: list[Span] = []  # a heap
        self._done: dict[int, tuple[Span, Place | None, ChunkDone | str]] = {}
        self._total = self._cut = self._next = 0  # images; the first that is in no chunk yet; that comes out next
        self._least = self._most = 0  # images in a chunk; 0 = not known yet
        self._lost = 0  # processes that died before they were ready, since anything came of any
        self._alive_at = self._said_at = time.monotonic()

    def run(self, total: int) -> Generator[tuple[Span, Place | None, ChunkDone | str]]:
        """Have so many images computed; yield chunks in order, with the place that computed them.

        A text instead of what was computed is why a picture, alone in its chunk, was given up.
        """
        self._total, self._cut, self._next = total, 0, 0
        self._alive_at = self._said_at = time.monotonic()
        while self._next < total:
            self._start()
            self._submit()
            tickets = {ticket: place for place, member in self._members.items() for ticket in (member.hello, *member.spans)}
            tickets.pop(None, None)
            if tickets:
                for ticket in self.pool.wait(list(tickets), _LOOK_SECONDS):
                    self._take(tickets[ticket], ticket)
            else:
                time.sleep(min(_LOOK_SECONDS, self.patience))
            self._look()
            while self._next in self._done:
                span, place, outcome = self._done.pop(self._next)
                self._next += span.count
                yield span, place, outcome

    def _start(self) -> None:
        """Begin the processes that there should be, and take back what those have whose place is gone."""
        places = self.pool.places()
        for place in [place for place in self._members if place not in places]:
            self._bury(place, "its machine is gone")
        for place in places:
            if place not in self._members:
                self._members[place] = _Member(self.pool.start(place))

    def _submit(self) -> None:
        for _ in range(AHEAD):  # each its first one before any its second one
            for place, member in self._members.items():
                if self._again:  # before anything new, by a process that has nothing else
                    if member.takes(self._again[0]):
                        self._give(place, member, heapq.heappop(self._again))
                elif self._cut < self._total and member.takes(Span(self._cut, 1)) and self._open_spans() < self._window():
                    left = self._total - self._cut
                    ready = sum(other.hello is None for other in self._members.values())
                    share = left // (2 * ready) // self._least * self._least  # so that all end at about the same time
                    span = Span(self._cut, min(left, max(self._least, min(self._most, share))))
                    self._cut += span.count
                    self._give(place, member, span)

    def _give(self, place: Place, member: _Member, span: Span) -> None:
        member.spans[self.pool.submit(place, span)] = span

    def _open_spans(self) -> int:
        return len(self._done) + len(self._again) + sum(len(member.spans) for member in self._members.values())

    def _window(self) -> int:
        return _WINDOW * max(1, sum(member.hello is None for member in self._members.values()))

    def _take(self, place: Place, ticket: Ticket) -> None:
        member = self._members.get(place)
        if member is None or (ticket != member.hello and ticket not in member.spans):
            return  # it died with another of its tickets
        try:
            result = self.pool.result(ticket)
        except WorkerDiedError as error:
            self._bury(place, str(error))
            return
        self._lost = 0
        if isinstance(result, WorkerFacts):
            member.hello = None
            if self._most == 0:
                self._most = max(1, self.size(result))
                self._least = min(result.engine.batch_size, self._most)
            self.ready(place, result)
        else:
            span = member.spans.pop(ticket)
            self._done[span.first] = (span, place, result)

    def _bury(self, place: Place, why: str) -> None:
        """Take back what a dead process had."""
        member = self._members.pop(place)
        self.pool.stop(place)
        if member.hello is not None:
            self._lost += 1
            if self._lost >= _LOST_STARTS + len(self._members):
                raise EngineError(
                    f"The processes of the cluster die before they have opened the backbone (the last one: {why}); "
                    "look into Ray's logs on its machine (/tmp/ray/session_latest/logs), or use --runner local."
                )
            return
        log.warning("a process on %s died (%s); what it had is computed again", place.name, why)
        for span in member.spans.values():
            for piece in self._after_death(span):
                if piece.tries < TRIES:
                    heapq.heappush(self._again, piece)
                else:
                    text = f"the process that read it died {TRIES} times, each time of this picture alone ({why})"
                    self._done[piece.first] = (piece, None, text)

    @staticmethod
    def _after_death(span: Span) -> list[Span]:
        """Return what is tried after a process died that had a span: at last single pictures, each by a process of its own."""
        if span.count == 1:
            return [replace(span, alone=True, tries=span.tries + span.alone)]
        if not span.alone:
            return [replace(span, alone=True)]
        step, end = -(-span.count // _PIECES), span.first + span.count
        return [Span(first, min(step, end - first), alone=True) for first in range(span.first, end, step)]

    def _look(self) -> None:
        """Say, once in a while, that no process begins; give up at last."""
        now = time.monotonic()
        if any(member.hello is None for member in self._members.values()):
            self._alive_at = self._said_at = now
        elif now - self._alive_at > self.patience:
            waited = duration_text(now - self._alive_at)
            raise EngineError(f"No process has begun on the cluster in {waited}: {self.pool.why_waiting()}.")
        elif now - self._said_at > _SAY_SECONDS:
            self._said_at = now + self.patience
            log.warning("waiting for the cluster: %s", self.pool.why_waiting())
