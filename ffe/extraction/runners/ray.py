"""Run a plan on the machines of a Ray cluster: actors read, decode and compute; this process keeps plan, journal and file.

Ray's core alone is used: its data sets retry a picture that kills its process for ever, and cannot name it.
https://docs.ray.io/en/latest/ray-core/fault_tolerance/actors.html
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from ffe.base.feature_layout import FeatureLayout
from ffe.base.file_stat import remembered_digest, stamp_now
from ffe.base.system import CORES_VARIABLE
from ffe.base.tensorflow_log import without_greetings
from ffe.base.text import listed
from ffe.engines.base import EngineFacts
from ffe.engines.factory import model_to_send
from ffe.errors import DecodeError, EngineError, SourceError, one_line
from ffe.extraction.feature_file import Plan
from ffe.extraction.pipeline import ImageFeatures, Taken
from ffe.extraction.request import Job
from ffe.extraction.runners.scheduler import Place, Pool, Schedule, Span, Ticket, WorkerDiedError
from ffe.extraction.runners.worker import ChunkDone, ChunkWorker, Setup, WorkerFacts, sorted_keys, versions
from ffe.extraction.stage_times import Stages
from ffe.extraction.views import counts_of
from ffe.images.archive import GONE, Member
from ffe.images.image_handle import ImageFile, ImageHandle

log = logging.getLogger("ffe")

_ACTOR_CORES = 8  # more share one Python, which then holds them up
_CHUNK = 64  # images; twice the batches of one are decoded while it computes
_CHUNK_BYTES = 16 << 20  # of features
# else the first process takes 75 % of a GPU's memory with JAX, and all of it with TensorFlow
_SHARED_GPU = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
_CONNECT_SECONDS = 5.0
_NODES_SECONDS = 2.0  # that what the cluster says of its machines is taken for true
# of the largest feature: what ``ffe verify --recompute`` allows between kinds of processors
_APART = {"float32": "1e-4", "int8": "0.05", "mixed_float16": "0.02", "mixed_bfloat16": "0.1"}


def places_on(nodes: Sequence[Mapping[str, Any]], actors: int | None, *, gpus: bool) -> list[Place]:
    """Return where processes are wanted on the machines that ``ray.nodes()`` tells of.

    ``actors`` None = one for up to eight cores, or for each GPU (``gpus``: those can be used).
    """
    alive = [node for node in nodes if node["Alive"] and node["Resources"].get("CPU", 0) > 0]
    names = Counter(node["NodeManagerHostname"] for node in alive)
    cpus = [node["Resources"]["CPU"] for node in alive]
    devices = [int(node["Resources"].get("GPU", 0)) if gpus else 0 for node in alive]
    if actors is None:
        counts = [device or math.ceil(cpu / _ACTOR_CORES) for cpu, device in zip(cpus, devices, strict=True)]
    else:
        counts = [0] * len(alive)
        for _ in range(actors if alive else 0):
            counts[max(range(len(alive)), key=lambda i: (cpus[i] / (counts[i] + 1), -i))] += 1
    places = []
    for node, cpu, device, count in zip(alive, cpus, devices, counts, strict=True):
        name = node["NodeManagerHostname"]
        name += f" ({node['NodeID'][:6]})" if names[name] > 1 else ""
        for number in range(count):
            share = cpu / count
            gpu = device // count or (1 / math.ceil(count / device) if device else 0)  # each share lies on one GPU
            places.append(Place(node["NodeID"], name, number, float(int(share)) if share >= 1 else share, float(gpu)))
    return places


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before the import; it reports to its makers otherwise
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    return ray


class _Actor(ChunkWorker):
    """A worker that takes its share of the cores, and of a GPU."""

    def __init__(self, setup: Setup, cores: float, gpus: float) -> None:
        os.environ[CORES_VARIABLE] = str(max(1, int(cores)))
        for name, value in _SHARED_GPU.items() if 0 < gpus < 1 else ():
            os.environ.setdefault(name, value)
        super().__init__(setup)
        self.keep_messages()


class RayPool(Pool):
    """Actors on a Ray cluster; one that was started for this run is stopped with it."""

    def __init__(self, address: str | None, actors: int | None, *, gpus: bool) -> None:
        self._ray = _import_ray()
        self._actors, self._gpus = actors, gpus
        self._handles: dict[Place, Any] = {}
        self._seen: tuple[float, list[Place]] = (-math.inf, [])
        self.setup: Setup | None = None  # until there is one, no process can begin
        self._setup: Any = None
        self._files: Callable[[Span], tuple[list[Any], Sequence[int]]] = lambda span: ([], [])
        self._known: Any = None
        self._owned = not self._ray.is_initialized()
        if self._owned:
            self._connect(address or os.environ.get("RAY_ADDRESS") or "local")

    def _connect(self, address: str) -> None:
        start = "start one with 'ray start --head', or leave --address out for one of this machine alone"
        if address not in {"auto", "local"}:
            host, _, port = address.removeprefix("ray://").rpartition(":")
            if not host or not port.isdecimal():
                raise EngineError(f"'{address}' is no address of a cluster; give auto, HOST:6379 or ray://HOST:10001.")
            try:
                socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
            except (OSError, OverflowError) as error:
                why = getattr(error, "strerror", None) or error
                raise EngineError(f"No Ray cluster answers at '{address}' ({why}); check the address, {start}.") from error
        options: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
        try:
            if ":" in address and "://" not in address and (refusal := self._refusal(address)) is not None:
                raise refusal
            self._ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **options)
        except Exception as error:
            self._ray.shutdown()
            if address == "auto" and isinstance(error, ConnectionError):
                raise EngineError(f"No Ray cluster runs on this machine; {start}.") from error
            if any(sign in f"{error} {error.__cause__}" for sign in ("Unauthenticated", "AuthToken", "AuthenticationError")):
                raise EngineError(
                    f"The Ray cluster at '{address}' asks for a token; set RAY_AUTH_MODE=token, and have the token that its own "
                    "machine keeps in ~/.ray/auth_token here, too."
                ) from error
            raise EngineError(
                f"The Ray cluster at '{address}' cannot be used ({one_line(error)}); the same Python and the same Ray must run "
                f"there as here, or {start}."
            ) from error

    def _refusal(self, address: str) -> Exception | None:
        """Ask as 'ray health-check' does: of a cluster that wants a token, 'init' would ask for 20 s, and print each refusal."""
        with without_greetings():
            try:
                self._ray._raylet.GcsClient(address=address)
            except AttributeError:  # it is no promise of Ray's
                return None
            except Exception as error:
                return error
        return None

    def prepare(self, setup: Setup, known: np.ndarray, files: Callable[[Span], tuple[list[Any], Sequence[int]]]) -> None:
        """Take what the next images need: the setup once, keys of known features, and what gives files and counts of views."""
        if self.setup is None:
            self.setup, self._setup = setup, self._ray.put(setup)
        self._known, self._files = self._ray.put(sorted_keys(known)), files

    def places(self) -> Sequence[Place]:
        """Return where processes are wanted, as the cluster is now."""
        at, places = self._seen
        if time.monotonic() - at > _NODES_SECONDS:
            try:
                places = places_on(self._ray.nodes(), self._actors, gpus=self._gpus)
            except self._ray.exceptions.RayError as error:
                raise EngineError(
                    f"The Ray cluster is gone ({one_line(error)}); run the same command again once it is back: what was "
                    "computed is kept."
                ) from error
            self._seen = time.monotonic(), places
        return places

    def start(self, place: Place) -> Ticket:
        """Begin an actor."""
        strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(place.node, soft=False)
        options = {"num_cpus": place.cores, "num_gpus": place.gpus, "scheduling_strategy": strategy}
        actor = self._ray.remote(_Actor).options(max_concurrency=2, max_restarts=0, max_task_retries=0, **options)
        self._handles[place] = actor.remote(self._setup, place.cores, place.gpus)
        return self._handles[place].facts.remote()  # type: ignore[no-any-return]

    def submit(self, place: Place, span: Span) -> Ticket:
        """Ask an actor for images."""
        files, counts = self._files(span)
        return self._handles[place].run.remote(files, counts, self._known)  # type: ignore[no-any-return]

    def wait(self, tickets: Sequence[Ticket], seconds: float) -> Sequence[Ticket]:
        """Return what is ready."""
        ready, _ = self._ray.wait(list(tickets), num_returns=1, timeout=seconds)
        more, _ = self._ray.wait(list(tickets), num_returns=len(tickets), timeout=0) if ready else (ready, [])
        return list(more)

    def result(self, ticket: Ticket) -> WorkerFacts | ChunkDone:
        """Return what an actor has done."""
        exceptions = self._ray.exceptions
        try:
            found: WorkerFacts | ChunkDone = self._ray.get(ticket)
        except exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, Exception) else error) from error
        except exceptions.RayActorError as error:
            if error.actor_init_failed:
                last = str(error).strip().splitlines()[-1]
                raise EngineError(
                    f"A process of the cluster cannot begin ({last[:200]}); install the same ffe, with Ray, on all its machines."
                ) from error
            self._seen = (-math.inf, [])
            raise WorkerDiedError(_why(error)) from error
        except exceptions.RayError as error:
            self._seen = (-math.inf, [])
            raise WorkerDiedError(_why(error)) from error
        return found

    def stop(self, place: Place) -> None:
        """End the actor of a place."""
        if (actor := self._handles.pop(place, None)) is not None:
            with contextlib.suppress(Exception):  # it may be gone
                self._ray.kill(actor)

    def why_waiting(self) -> str:
        """Say what the cluster has, and what is free."""
        has, free = (resources.get("CPU", 0.0) for resources in (self._ray.cluster_resources(), self._ray.available_resources()))
        wanted = min((place.cores for place in self.places()), default=1)
        return (
            f"a process needs {wanted:g} of its processors, and {free:g} of {has:g} are free; wait until other jobs end, "
            "or give --actors a larger number, for smaller processes"
        )

    def close(self) -> None:
        """End all actors; a cluster of this run alone ends too."""
        for place in list(self._handles):
            self.stop(place)
        if self._owned:
            self._ray.shutdown()


def _absolute(file: ImageFile) -> ImageFile:
    if isinstance(file, Member) and not file.remote:
        return replace(file, archive=os.path.abspath(file.archive))
    return file if isinstance(file, ImageHandle) else Path(os.path.abspath(file))


def _why(error: Exception) -> str:
    """Return what Ray says of a death, in a few words."""
    text = " ".join(str(error).split())
    for sign, why in (
        ("connection error code", "it was killed or crashed"),  # Ray then lists what may be the cause, memory among it
        ("unexpected system error", "it was killed or crashed"),
        ("low on memory", "its machine ran out of memory"),
        ("out of memory", "its machine ran out of memory"),
        ("node has died", "its machine is gone"),
        ("node it was on", "its machine is gone"),
        ("temporarily unavailable", "it does not answer any more"),
    ):
        if sign in text.lower():
            return why
    _, found, why = text.partition("The actor is dead because ")
    return why.partition(". ")[0].rstrip(".")[:200] if found else one_line(error)


class RayRunner:
    """The runner of a Ray cluster."""

    def __init__(self, job: Job, pool: RayPool | None = None) -> None:
        self.engine: EngineFacts | None = None
        self.stages, self.opening = Stages(), 0.0
        self._counts: Counter[str] = Counter()
        self._job = job
        self._noted: dict[str, list[int]] = {}
        self._workers: dict[Place, int] = {}
        self._kinds: dict[str, str] = {}
        self._said = False
        self._opened: Callable[[FeatureLayout], None] | None = None  # to be told the layout
        self._started = 0.0
        self._own = versions()
        gpus = job.spec.precision != "int8" and job.options.engine not in {"openvino", "winograd"}
        self._pool = pool or RayPool(job.options.address, job.options.actors, gpus=gpus)
        self._schedule = Schedule(self._pool, self._chunk, self._ready)

    @property
    def nodes(self) -> Mapping[str, int]:
        """Images, and views, that each machine has computed."""
        return dict(self._counts)

    @property
    def workers(self) -> int:
        """Threads that decode, of all actors."""
        return max(1, sum(self._workers.values()))

    def prefetch(self, positions: Sequence[int]) -> None:
        """Do nothing: actors need the model."""

    def run(self, plan: Plan, opened: Callable[[FeatureLayout], None]) -> Generator[list[ImageFeatures]]:
        """Yield what became of the files, chunk by chunk."""
        job, read = plan.job, plan.known.read
        self.stages, self.opening, self._noted, self._counts = Stages(), 0.0, {}, Counter()
        self._opened, self._started = opened, time.monotonic()
        if self.engine is not None:  # of an earlier plan
            opened(self.engine.layout)
            self._opened = None
        setup = self._pool.setup or self._setup(plan)

        def files(span: Span) -> tuple[list[Any], Sequence[int]]:
            records = [job.records[i] for i in read[span.first : span.first + span.count]]
            return [_absolute(record.file) for record in records], counts_of(records, job.views, len(records))

        self._pool.prepare(setup, np.concatenate([plan.stored.keys(), plan.journal.keys()]), files)
        taken = Taken(plan.has)
        for span, place, outcome in self._schedule.run(len(read)):
            if isinstance(outcome, str):
                yield [ImageFeatures(span.first, "", None, DecodeError("unreadable", outcome))]
            else:
                assert place is not None
                yield self._items(plan, span, place, outcome, taken)

    @staticmethod
    def _setup(plan: Plan) -> Setup:
        """Return what all processes of the run are told."""
        job, options = plan.job, plan.job.options
        model = plan.quantized or model_to_send(plan.spec, job.weights, options.engine, sum(plan.known.missing))
        settings = (options.engine, options.batch_size, options.workers, options.limits)
        path = job.weights.path
        content = remembered_digest(path) if path is not None and path.is_file() else ""
        return Setup(plan.spec, job.weights, *settings, job.views, model, content)

    def _items(self, plan: Plan, span: Span, place: Place, done: ChunkDone, taken: Taken) -> list[ImageFeatures]:
        """Return the items of a chunk with their features, but for contents that are there already."""
        for level, text in done.messages:
            log.log(level, "%s: %s", place.name, text)
        for kind, where in done.noted.items():
            self._noted.setdefault(kind, []).extend(span.first + index for index in where)
        self.stages += done.stages
        self.engine = done.engine
        self._workers[place] = done.workers
        self._counts[place.name] += len(done.features)
        rows, items = iter(done.features), list[ImageFeatures]()
        for item, computed in zip(done.items, done.computed.tolist(), strict=True):
            row, key, index = next(rows) if computed else None, (item.sha256, item.view), span.first + item.index
            if item.error is not None:
                self._check_reachable(plan, index, item.error, place)
            if row is not None and key in taken:
                row = None
            if row is not None:
                taken.add(key)
            items.append(replace(item, index=index, features=row))
        return items

    def _check_reachable(self, plan: Plan, index: int, error: DecodeError, place: Place) -> None:
        """Refuse to go on where a machine cannot see a file that is here: it would skip all of them."""
        file = plan.job.records[plan.known.read[index]].file
        if isinstance(file, Member) and not file.remote:
            path, here = Path(file.archive), stamp_now(file.archive) == file.version
        else:
            path, here = (file, True) if isinstance(file, Path) else (Path(), False)
        denied = error.reason == "missing" or (error.reason == "unreadable" and ("denied" in str(error) or GONE in str(error)))
        if denied and here and os.access(path, os.R_OK):
            raise SourceError(
                f"The machine {place.name} cannot read '{path}' ({error}), which is there on this one; put the photos on a "
                "disk that all machines of the cluster have under the same path, or name them by URLs."
            )

    def _chunk(self, facts: WorkerFacts) -> int:
        """Return how many images a chunk has: a few batches, whose features are no burden."""
        row = 4 * facts.engine.layout.dims * (1 + (self._job.views.count if self._job.views else 0))
        return max(1, min(max(_CHUNK, 4 * facts.engine.batch_size), _CHUNK_BYTES // row))

    def _ready(self, place: Place, facts: WorkerFacts) -> None:
        """Look at a process that has begun: what it has must be what is here; of the first one, tell the layout."""
        others = [name for name, version in self._own.items() if facts.versions.get(name) != version]
        if others:
            theirs, ours = (
                listed([f"{name} {had.get(name, 'none')}" for name in others], "and") for had in (facts.versions, self._own)
            )
            raise EngineError(
                f"The machine {place.name} has {theirs}, and this one {ours}; install the same on all machines of the cluster."
            )
        if self.engine is None:
            self.engine = facts.engine
        elif self.engine.layout != facts.engine.layout:
            raise EngineError(
                f"The backbone gives other features on the machine {place.name}; clear its cache ('ffe cache clear')."
            )
        if self._opened is not None:
            self._opened(self.engine.layout)
            self._opened, self.opening = None, time.monotonic() - self._started
        self._kinds[place.name] = f"{facts.engine.name} on {facts.processor}"
        if len(set(self._kinds.values())) > 1 and not self._said:
            self._said = True
            kinds = "; ".join(f"{name}: {kind}" for name, kind in sorted(self._kinds.items()))
            log.warning(
                "the machines are of several kinds (%s): features of one picture may differ between them, by up to %s of the "
                "largest one, as 'ffe verify --recompute' allows",
                kinds,
                _APART[self._job.spec.precision],
            )

    def noted(self) -> Mapping[str, Sequence[int]]:
        """Return what was noted of files."""
        return self._noted

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the actors, and a cluster of this run alone."""
        self._pool.close()
