"""Runners: what they promise, and which process of a cluster computes what where some die. No Ray is needed here."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffe._version import __version__
from ffe.backbones.weights import Weights
from ffe.base.digests import bytes_digest
from ffe.base.feature_layout import FeatureLayout
from ffe.engines.base import EngineFacts
from ffe.errors import EngineError, SourceError, SpecError
from ffe.extraction.request import ExtractOptions, Job, make_job
from ffe.extraction.run import extract
from ffe.extraction.runners import base
from ffe.extraction.runners.local import LocalRunner
from ffe.extraction.runners.ray import RayRunner, _why, places_on
from ffe.extraction.runners.scheduler import Place, Schedule, Span, WorkerDiedError
from ffe.extraction.runners.worker import ChunkDone, ChunkWorker, Setup, WorkerFacts, sorted_keys, versions
from ffe.images.archive import GONE
from ffe.images.limits import Limits
from ffe.store.reader import FeatureStore
from ffe.testing import RunnerContract
from tests.images.archives import put_tar

NAMES = ("XLA_PYTHON_CLIENT_PREALLOCATE", "TF_FORCE_GPU_ALLOW_GROWTH")
PLACES = [Place("n1", "one", 0, 1.0), Place("n2", "two", 0, 1.0)]
FACTS = WorkerFacts(EngineFacts("fake", FeatureLayout.of_shape((4,)), 2), "x86_64", {})


class FakePool:
    """Processes in this one; what is asked for is done when it is waited for, in any order."""

    def __init__(
        self,
        work: Callable[[Place, Span], Any],
        *,
        dies: Callable[[Place, Span | None, int], bool] = lambda *_: False,
        seed: int = 0,
    ) -> None:
        self.work, self.dies, self.chance = work, dies, random.Random(seed)
        self.open: dict[int, tuple[Place, Span | None]] = {}
        self.alive: dict[Place, int] = {}
        self.given: list[tuple[Place, Span]] = []
        self.born = self.most = self.tickets = 0
        self.now = list(PLACES)

    def places(self) -> Sequence[Place]:
        return self.now

    def start(self, place: Place) -> int:
        self.born += 1
        self.alive[place] = self.born
        return self._ask(place, None)

    def _ask(self, place: Place, span: Span | None) -> int:
        self.tickets += 1
        self.open[self.tickets] = place, span
        self.most = max(self.most, sum(span is not None for _, span in self.open.values()))
        return self.tickets

    def submit(self, place: Place, span: Span) -> int:
        self.given.append((place, span))
        return self._ask(place, span)

    def wait(self, tickets: Sequence[Any], seconds: float) -> Sequence[Any]:
        return [self.chance.choice(list(tickets))]

    def result(self, ticket: Any) -> Any:
        place, span = self.open.pop(ticket)
        if self.dies(place, span, self.alive.get(place, 0)):
            raise WorkerDiedError("it was killed")
        return FACTS if span is None else self.work(place, span)

    def stop(self, place: Place) -> None:
        self.alive.pop(place, None)
        self.open = {ticket: asked for ticket, asked in self.open.items() if asked[0] != place}

    def why_waiting(self) -> str:
        return "0 of 2 processors are free"


def run(pool: FakePool, total: int, size: int = 8, **options: Any) -> list[tuple[Span, Any]]:
    schedule = Schedule(pool, lambda facts: size, lambda place, facts: None, **options)
    return [(span, outcome) for span, _, outcome in schedule.run(total)]


def covered(found: Sequence[tuple[Span, Any]]) -> list[int]:
    return [i for span, _ in found for i in range(span.first, span.first + span.count)]


def spans(place: Place, span: Span) -> Any:
    return span


@pytest.mark.parametrize("seed", range(5))
def test_chunks_come_in_order_and_few_are_on_their_way(seed: int) -> None:
    pool, found = FakePool(spans, seed=seed), list[tuple[Span, Any]]()
    schedule = Schedule(pool, lambda facts: 8, lambda place, facts: None)
    for span, _, outcome in schedule.run(1000):
        found.append((span, outcome))
        assert max(given.first for _, given in pool.given) < span.first + 9 * 8  # eight may be open, and one has come out
    assert covered(found) == list(range(1000))
    assert pool.most <= 4
    assert found[-1][0].count < 8  # the last ones are smaller, so that all end at about the same time


@pytest.mark.parametrize("seed", range(20))
def test_processes_that_die_at_random_lose_nothing(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    chance = random.Random(seed)
    pool = FakePool(spans, dies=lambda place, span, born: chance.random() < 0.1, seed=seed)
    found = run(pool, 300)
    assert covered(found) == list(range(300))
    assert all(isinstance(outcome, Span) for _, outcome in found)
    assert pool.born > 2
    assert set(caplog.messages) <= {
        f"a process on {place.name} died (it was killed); what it had is computed again" for place in PLACES
    }
    assert caplog.messages


@pytest.mark.parametrize("poison", [{0}, {57}, {56, 57}, {5, 199}])
def test_a_picture_that_kills_its_process_is_given_up_and_nothing_else(poison: set[int]) -> None:
    pool = FakePool(
        spans, dies=lambda place, span, born: span is not None and any(span.first <= i < span.first + span.count for i in poison)
    )
    found = run(pool, 200)
    assert covered(found) == list(range(200))
    given_up = {span.first: outcome for span, outcome in found if isinstance(outcome, str)}
    assert set(given_up) == poison
    assert all(span.count == 1 for span, outcome in found if isinstance(outcome, str))
    text = "the process that read it died 3 times, each time of this picture alone (it was killed)"
    assert set(given_up.values()) == {text}
    alone = Counter(span.first for _, span in pool.given if span.count == 1 and span.alone)
    assert all(alone[i] == 3 for i in poison)
    assert pool.born <= 2 + 7 * len(poison)


def test_a_suspect_has_its_process_for_itself() -> None:
    pool = FakePool(spans, dies=lambda place, span, born: span is not None and span.first <= 57 < span.first + span.count)
    submit, alone = pool.submit, []

    def watched(place: Place, span: Span) -> int:
        others = [other for at, other in pool.open.values() if at == place and other is not None]
        alone.append((span, others))
        return submit(place, span)

    pool.submit = watched  # type: ignore[method-assign]
    run(pool, 200)
    assert any(span.alone for span, _ in alone)
    assert not any(others for span, others in alone if span.alone)
    assert not any(other.alone for _, others in alone for other in others)


def test_a_machine_that_goes_and_one_that_comes() -> None:
    seen: list[str] = []

    def work(place: Place, span: Span) -> Span:
        if span.first >= 40 and PLACES[0] in pool.now:
            pool.now = [PLACES[1], Place("n3", "three", 0, 1.0)]
        seen.append(place.name)
        return span

    pool = FakePool(work)
    assert covered(run(pool, 300, size=2)) == list(range(300))
    assert set(seen) == {"one", "two", "three"}
    assert "one" not in seen[-10:]


def test_processes_that_never_begin() -> None:
    with pytest.raises(EngineError) as error:
        run(FakePool(spans, dies=lambda place, span, born: span is None), 10)
    assert str(error.value) == (
        "The processes of the cluster die before they have opened the backbone (the last one: it was killed); "
        "look into Ray's logs on its machine (/tmp/ray/session_latest/logs), or use --runner local."
    )


def test_a_cluster_without_free_processors(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ffe.extraction.runners.scheduler._SAY_SECONDS", 0.01)
    pool = FakePool(spans)
    monkeypatch.setattr(pool, "wait", lambda tickets, seconds: [])
    with pytest.raises(EngineError, match=r"^No process has begun on the cluster in .*: 0 of 2 processors are free\.$"):
        run(pool, 10, patience=0.1)
    assert caplog.messages == ["waiting for the cluster: 0 of 2 processors are free"]


def test_an_error_of_the_work_ends_the_run() -> None:
    def work(place: Place, span: Span) -> Any:
        raise SourceError("no")

    with pytest.raises(SourceError, match=r"^no$"):
        run(FakePool(work), 10)


# the contract, and whole runs --------------------------------------------------------------------------------------------


class WorkersPool(FakePool):
    """Workers as they are on a cluster, in this process."""

    setup: Any = None

    def __init__(self, **options: Any) -> None:
        super().__init__(self.compute, **options)
        self.workers: dict[Place, ChunkWorker] = {}

    def prepare(self, setup: Any, known: np.ndarray, files: Any) -> None:
        self.setup, self.known, self.files = self.setup or setup, sorted_keys(known), files

    def start(self, place: Place) -> int:
        self.workers[place] = ChunkWorker(self.setup)
        return super().start(place)

    def result(self, ticket: Any) -> Any:
        place, _ = self.open[ticket]
        found = super().result(ticket)
        return self.workers[place].facts() if found is FACTS else found

    def compute(self, place: Place, span: Span) -> ChunkDone:
        return self.workers[place].run(*self.files(span), self.known)

    def close(self) -> None:
        pass


class TestLocalRunner(RunnerContract):
    def make(self, job: Job) -> base.Runner:
        return LocalRunner(job)


class TestRayRunner(RunnerContract):
    options = {"runner": "ray"}  # noqa: RUF012

    def make(self, job: Job) -> base.Runner:
        runner = RayRunner(job, WorkersPool())  # type: ignore[arg-type]
        runner._schedule.size = lambda facts: 3
        return runner


@pytest.fixture
def on_workers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., WorkersPool]:
    """Let ``--runner ray`` compute with workers in this process."""

    def use(**options: Any) -> WorkersPool:
        pool = WorkersPool(**options)
        monkeypatch.setattr("ffe.extraction.run.open_runner", lambda job: RayRunner(job, pool))  # type: ignore[arg-type]
        monkeypatch.setattr("ffe.extraction.runners.ray._CHUNK", 4)
        return pool

    return use


@pytest.mark.parametrize("more", [{}, {"views": 2, "augment": "flip"}, {"dtype": "float16"}, {"shards": 2}])
def test_the_file_is_the_same(source: Path, tmp_path: Path, on_workers: Callable[..., WorkersPool], more: dict[str, Any]) -> None:
    (source / "cat" / "copy.png").write_bytes(next((source / "dog").glob("*.png")).read_bytes())
    (source / "cat" / "bad.png").write_bytes(b"no picture")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    extract(source, tmp_path / "a" / "f.h5", backbone="fake", batch_size=1, **more)
    chance = random.Random(1)
    on_workers(dies=lambda place, span, born: chance.random() < 0.2)
    summary = extract(source, tmp_path / "b" / "f.h5", backbone="fake", batch_size=1, runner="ray", **more)
    assert (summary.runner, summary.to_json()["runner"]) == ("ray", "ray")
    assert sum(summary.nodes.values()) >= summary.computed
    assert set(summary.nodes) == {"one", "two"}
    files = sorted(file.name for file in (tmp_path / "a").iterdir())
    assert files == sorted(file.name for file in (tmp_path / "b").iterdir())
    for name in files[: len(files) - ("shards" in more)]:  # what shows shards as one says when they were made
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_poisoned_picture_is_skipped_and_tried_again(
    source: Path, tmp_path: Path, on_workers: Callable[..., WorkersPool]
) -> None:
    files = sorted(source.glob("*/*.png"))

    def kills(place: Place, span: Span | None, born: int) -> bool:
        return span is not None and any(file.samefile(files[4]) for file in pool.files(span)[0])

    pool = on_workers(dies=kills)
    summary = extract(source, tmp_path / "f.h5", backbone="fake", batch_size=1, runner="ray")
    assert (summary.rows, summary.skipped_reasons) == (11, {"unreadable": 1})
    with FeatureStore(tmp_path / "f.h5") as store:
        (skipped,) = store.skipped
    name = files[4].relative_to(source).as_posix()
    assert (skipped.path, skipped.message[:40]) == (name, "the process that read it died 3 times, e")
    on_workers()
    assert extract(source, tmp_path / "f.h5", runner="ray").rows == 12


def test_an_interrupted_run_goes_on(source: Path, tmp_path: Path, on_workers: Callable[..., WorkersPool]) -> None:
    def stop(progress: Any) -> None:
        if progress.done >= 6:
            assert sum(progress.nodes.values()) > 0
            raise KeyboardInterrupt

    on_workers()
    with pytest.raises(KeyboardInterrupt):
        extract(source, tmp_path / "f.h5", backbone="fake", batch_size=1, runner="ray", progress=stop)
    pool = on_workers()
    summary = extract(source, tmp_path / "f.h5", backbone="fake", batch_size=1, runner="ray")
    assert 0 < summary.computed < 12
    assert sum(summary.nodes.values()) == summary.computed  # nothing that is there is computed by a worker
    assert pool.born == 2
    extract(source, tmp_path / "g.h5", backbone="fake")
    assert (tmp_path / "f.h5").read_bytes() == (tmp_path / "g.h5").read_bytes()


def test_a_machine_without_the_photos(source: Path, tmp_path: Path, on_workers: Callable[..., WorkersPool]) -> None:
    pool = on_workers()
    prepare = pool.prepare

    def elsewhere(setup: Any, known: Any, files: Any) -> None:
        prepare(setup, known, lambda span: ([Path("/nowhere") / file.name for file in files(span)[0]], files(span)[1]))

    pool.prepare = elsewhere  # type: ignore[method-assign]
    with pytest.raises(SourceError) as error:
        extract(source, tmp_path / "f.h5", backbone="fake", runner="ray")
    assert "which is there on this one; put the photos on a disk that all machines of the cluster have" in str(error.value)


def test_a_machine_without_the_archive(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_workers: Callable[..., WorkersPool]
) -> None:
    put_tar(tmp_path / "photos.tar", {f"{file.parent.name}/{file.name}": file.read_bytes() for file in source.glob("*/*")})
    monkeypatch.chdir(tmp_path)
    pool, archives = on_workers(), set[str]()
    prepare = pool.prepare

    def elsewhere(setup: Any, known: Any, files: Any) -> None:
        def moved(span: Span) -> tuple[list[Any], list[int]]:
            given, counts = files(span)
            archives.update(file.archive for file in given)
            return [replace(file, archive="/nowhere/photos.tar") for file in given], counts

        prepare(setup, known, moved)

    pool.prepare = elsewhere  # type: ignore[method-assign]
    with pytest.raises(SourceError) as error:
        extract("photos.tar", tmp_path / "f.h5", backbone="fake", runner="ray")
    assert str(error.value).startswith("The machine ")
    assert f" cannot read 'photos.tar' ({GONE}), which is there on this one" in str(error.value)
    assert archives == {str(tmp_path / "photos.tar")}


def runner_of(tmp_path: Path, source: Path) -> RayRunner:

    return RayRunner(make_job(ExtractOptions(source, tmp_path / "f.h5", backbone="fake")), WorkersPool())  # type: ignore[arg-type]


def test_a_machine_with_other_versions(tmp_path: Path, source: Path) -> None:
    assert versions()["ffe"].startswith(f"{__version__}, Pillow ")
    other = {**versions(), "openvino": "2020.1"}
    with pytest.raises(EngineError) as error:
        runner_of(tmp_path, source)._ready(PLACES[0], replace(FACTS, versions=other))
    assert str(error.value) == (
        f"The machine one has openvino 2020.1, and this one openvino {versions()['openvino']}; "
        "install the same on all machines of the cluster."
    )


def test_a_machine_with_another_model(tmp_path: Path, source: Path) -> None:
    (tmp_path / "w.weights.h5").write_bytes(b"others")
    weights = Weights("file", "0" * 64, tmp_path / "w.weights.h5")
    setup = Setup(None, weights, "auto", None, None, Limits(), None, None, bytes_digest(b"ours"))  # type: ignore[arg-type]
    with pytest.raises(EngineError) as error:
        ChunkWorker(setup).facts()
    assert str(error.value) == (
        f"The machine {socket.gethostname()} has another weights file '{weights.path}' than the one here; have the same on all "
        "machines of the cluster."
    )
    runner = runner_of(tmp_path, source)
    facts = replace(FACTS, versions=versions())
    runner._ready(PLACES[0], facts)
    with pytest.raises(EngineError) as error:
        runner._ready(PLACES[1], replace(facts, engine=replace(facts.engine, layout=FeatureLayout.of_shape((5,)))))
    assert str(error.value) == ("The backbone gives other features on the machine two; clear its cache ('ffe cache clear').")


def test_machines_of_several_kinds_are_said_once(tmp_path: Path, source: Path, caplog: pytest.LogCaptureFixture) -> None:
    runner = runner_of(tmp_path, source)
    for place, kind in zip([*PLACES, *PLACES], ("a", "a", "b", "c"), strict=True):
        runner._ready(place, replace(FACTS, versions=versions(), processor=kind))
    assert caplog.messages == [
        "the machines are of several kinds (one: fake on b; two: fake on a): features of one picture may differ between them, "
        "by up to 1e-4 of the largest one, as 'ffe verify --recompute' allows"
    ]


# places ------------------------------------------------------------------------------------------------------------------


def node(name: str, cpus: float, gpus: float = 0, *, alive: bool = True) -> dict[str, Any]:
    return {"NodeID": f"id-{name}", "Alive": alive, "NodeManagerHostname": name, "Resources": {"CPU": cpus, "GPU": gpus}}


@pytest.mark.parametrize(
    ("nodes", "actors", "gpus", "expected"),
    [
        ([node("a", 2)], None, True, [("a", 2.0, 0.0)]),
        ([node("a", 1), node("b", 1)], None, True, [("a", 1.0, 0.0), ("b", 1.0, 0.0)]),
        ([node("a", 20)], None, True, [("a", 6.0, 0.0)] * 3),
        ([node("a", 8, 2)], None, True, [("a", 4.0, 1.0)] * 2),
        ([node("a", 8, 2)], None, False, [("a", 8.0, 0.0)]),
        ([node("a", 8), node("b", 4)], 3, True, [("a", 4.0, 0.0)] * 2 + [("b", 4.0, 0.0)]),
        ([node("a", 2)], 4, True, [("a", 0.5, 0.0)] * 4),
        ([node("a", 2), node("b", 2, alive=False), node("c", 0)], None, True, [("a", 2.0, 0.0)]),
        ([], 3, True, []),
        ([node("a", 6, 2)], 3, True, [("a", 2.0, 0.5)] * 3),
    ],
)
def test_where_processes_are_wanted(nodes: Any, actors: int | None, gpus: bool, expected: Any) -> None:
    places = places_on(nodes, actors, gpus=gpus)
    assert [(place.name, place.cores, place.gpus) for place in places] == expected
    assert len(set(places)) == len(places)


def test_machines_of_one_name_are_told_apart() -> None:
    first, second = node("a", 1), node("a", 1) | {"NodeID": "other-id"}
    assert [place.name for place in places_on([first, second], None, gpus=False)] == ["a (id-a)", "a (other-)"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Worker exits unexpectedly. Worker exits with unexpected system error.", "it was killed or crashed"),
        ("The actor died because its node has died.", "its machine is gone"),
        ("killed due to the node running low on memory (OOM)", "its machine ran out of memory"),
        (
            "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker "
            "unexpectedly exits with a connection error code 2. End of file. There are some potential root causes. (1) The "
            "process is killed by SIGKILL by OOM killer due to high memory usage.",
            "it was killed or crashed",
        ),
        (
            "The actor died.\n\tclass_name: A\nThe actor is dead because all references were\nremoved. More.",
            "all references were removed",
        ),
        (
            "The actor 1d8b is unavailable: The actor is temporarily unavailable: RpcError: Socket closed.",
            "it does not answer any more",
        ),
        ("else", "ValueError: else"),
    ],
)
def test_why_a_process_died(text: str, why: str) -> None:
    assert _why(ValueError(text)) == why


# options -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"runner": "spark"}, "There is no runner 'spark'; choose one of local, ray."),
        ({"actors": 2}, "--actors is of a cluster, and the runner local has none; add --runner ray, or leave it out."),
        ({"address": "auto"}, "--address is of a cluster, and the runner local has none; add --runner ray, or leave it out."),
        ({"runner": "ray", "actors": 0}, "actors is 0, but must be at least 1."),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    with pytest.raises(SpecError) as error:
        ExtractOptions("a", "b", **options)
    assert str(error.value) == text


@pytest.mark.parametrize(
    ("gpus", "user", "found"),
    [(0.5, {}, ["false", "true"]), (0.5, {NAMES[0]: "true"}, ["true", "true"]), (1.0, {}, ["", ""]), (0.0, {}, ["", ""])],
)
def test_processes_that_share_a_gpu_take_its_memory_as_they_need_it(gpus: float, user: dict[str, str], found: list[str]) -> None:
    code = (
        "import os\nfrom types import SimpleNamespace\nfrom ffe.extraction.runners.ray import _Actor\n"
        f"_Actor(SimpleNamespace(views=None), 1.0, {gpus})\nprint([os.environ.get(name, '') for name in {NAMES}])"
    )
    environment = {name: value for name, value in os.environ.items() if name not in NAMES} | user
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment)
    assert (done.stdout, done.returncode) == (f"{found}\n", 0), done.stderr


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EngineError) as error:
        ExtractOptions("a", "b", runner="ray")
    assert str(error.value) == (
        "The runner ray needs the package ray, which is not installed; install it with 'pip install ray', or use --runner local."
    )


def test_the_rate_of_each_machine_is_shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from ffe.cli.progress import ExtractProgress
    from ffe.extraction.stage_times import Progress, Stages

    monkeypatch.setattr("ffe.cli.progress.quiet", lambda: False)
    ExtractProgress()(Progress(10, 10, 0, 30.0, 0.0, Stages(), {"b": 10.0, "a": 20.0}))
    assert capsys.readouterr().err.startswith("10/10 images, 30.0 images/s (a 20.0, b 10.0) (")
    ExtractProgress()(Progress(10, 10, 0, 30.0, 0.0, Stages(), {f"n{i:02d}": 3.0 for i in range(10)}))
    assert ", n07 3.0 and 2 more) (" in capsys.readouterr().err
