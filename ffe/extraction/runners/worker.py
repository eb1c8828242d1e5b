"""What one process of a cluster does: open the engine once, then push chunks of files through it."""

from __future__ import annotations

import contextlib
import itertools
import logging
import platform
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ffe.backbones.weights import Weights
from ffe.base.digests import KEY_BYTES, key_of
from ffe.base.file_stat import remembered_digest
from ffe.base.openvino_ir import IrModel
from ffe.base.system import library_version, processor_kind
from ffe.engines.base import Engine, EngineFacts
from ffe.engines.factory import open_engine
from ffe.errors import EngineError
from ffe.extraction.batch_size import BatchSize
from ffe.extraction.incremental import JUDGED_BY
from ffe.extraction.pipeline import ImageFeatures, Pipeline
from ffe.extraction.stage_times import Stages
from ffe.images.image_handle import ImageFile
from ffe.images.limits import Limits
from ffe.images.loader import ImageStream
from ffe.specs import ExtractSpec, ViewsSpec
from ffe.store.journal import names_of

_LIBRARIES = ("numpy", "opencv-python-headless", "simplejpeg", "openvino", "numba")  # that make pixels and features


@dataclass(frozen=True)
class Setup:
    """What all processes of a run are told; it travels by pickle."""

    spec: ExtractSpec
    weights: Weights
    engine: str  # as the user named it
    batch_size: int | None
    workers: int | None  # threads of each process that decode
    limits: Limits
    views: ViewsSpec | None
    model: IrModel | None  # int8, or float32 from the driver; None = the engine needs none, or makes its own
    content: str  # digest of the whole file of weights, as it is for the driver; empty = there is none


@dataclass(frozen=True)
class WorkerFacts:
    """What a process says of itself once its engine is open."""

    engine: EngineFacts
    processor: str  # see ``ffe.base.system.processor_kind``
    versions: Mapping[str, str]


@dataclass(frozen=True)
class ChunkDone:
    """What became of a chunk of files."""

    items: list[ImageFeatures]  # in order, ``index`` from the chunk's beginning; without their features
    computed: np.ndarray  # bool (n,): which of the items have features
    features: np.ndarray  # float32 (their count, D)
    noted: dict[str, list[int]]  # positions in the chunk, see ``ImageStream.noted``
    stages: Stages  # seconds that this chunk added
    engine: EngineFacts
    workers: int  # threads that decoded
    messages: list[tuple[int, str]]  # (level, text) of what was logged since the last chunk


def sorted_keys(keys: np.ndarray) -> np.ndarray:
    """Return the keys of names, uint8 (n, 32), as texts of bytes that can be looked up: dtype S (n,), sorted."""
    return np.sort(np.ascontiguousarray(keys).view(f"S{KEY_BYTES}").reshape(-1))


def versions() -> dict[str, str]:
    """Return what must be the same everywhere for features to be the same: versions by name."""
    found = {name: library_version(name) or "none" for name in _LIBRARIES}
    return {"Python": platform.python_version(), "ffe": JUDGED_BY.removeprefix("ffe "), **found}


class ChunkWorker:
    """Opens an engine (``facts``), and pushes chunks of files through it; of two at a time, the second is decoded ahead."""

    def __init__(self, setup: Setup) -> None:
        self._setup, self._name = setup, names_of(setup.views)
        self._turn = threading.Lock()
        self._streams: list[ImageStream] = []
        self._decoded = 0.0  # processor time of decoding threads that have ended
        self._messages: list[tuple[int, str]] = []

    def keep_messages(self) -> None:
        """Let what is logged here be told with the chunks, for nobody reads this process's log."""
        logging.getLogger("ffe").addHandler(_Kept(self._messages))

    def facts(self) -> WorkerFacts:
        """Open the engine, and return what runs here, and on what."""
        setup = self._setup
        if setup.content and (path := setup.weights.path) and path.is_file() and remembered_digest(path) != setup.content:
            raise EngineError(
                f"The machine {socket.gethostname()} has another weights file '{path}' than the one here; "
                "have the same on all machines of the cluster."
            )
        self._engine: Engine = open_engine(
            setup.spec,
            setup.weights,
            name=setup.engine,
            batch_size=setup.batch_size,
            quantized=setup.model,
        )
        self._sizer = BatchSize(self._engine, fixed=setup.batch_size is not None)
        return WorkerFacts(EngineFacts.of(self._engine), processor_kind(), versions())

    def run(self, files: Sequence[ImageFile], counts: Sequence[int], known: np.ndarray) -> ChunkDone:
        """Compute the features of files, and of so many views of each; equal files once.

        Of ``known`` contents there are features already: keys of their names, ``sorted_keys``.
        """

        def is_known(sha256: str, view: int) -> bool:
            key = np.frombuffer(key_of(self._name(sha256, view)), known.dtype)
            place = int(np.searchsorted(known, key)[0])
            return place < len(known) and bool(known[place] == key[0])

        with self._open(files, counts, is_known) as images, self._turn:
            engine, before, others = self._engine, self._engine.seconds, self._others()
            pipeline = Pipeline(
                images,
                lambda: engine,
                batch_size=self._setup.batch_size,
                dtype=self._setup.spec.dtype,
                known=is_known,
                sizer=self._sizer,
            )
            items = list(itertools.chain.from_iterable(pipeline))
            rows = [item.features for item in items if item.features is not None]
            processor = max(0.0, self._others() - others)
            stages = replace(pipeline.stages, backbone=engine.seconds - before, processor=processor)
            messages, self._messages[:] = self._messages.copy(), []
            return ChunkDone(
                [replace(item, features=None) for item in items],
                np.array([item.features is not None for item in items], bool),
                np.stack(rows) if rows else np.empty((0, engine.layout.dims), np.float32),
                {kind: sorted(where) for kind, where in images.noted.items() if where},
                stages,
                EngineFacts.of(engine),
                images.workers,
                messages,
            )

    @contextlib.contextmanager
    def _open(
        self, files: Sequence[ImageFile], counts: Sequence[int], known: Callable[[str, int], bool]
    ) -> Iterator[ImageStream]:
        setup = self._setup
        with ImageStream(
            files,
            setup.spec.preprocess,
            workers=setup.workers,
            known=known,
            limits=setup.limits,
            views=lambda index: range(1 + counts[index]),
            augment=None if setup.views is None else setup.views.augment,
        ) as images:
            if setup.views is not None:
                images.ahead = max(2, images.ahead // (1 + setup.views.count))
            self._streams.append(images)
            images.prefetch()  # while an earlier chunk has the engine
            try:
                yield images
            finally:
                self._streams.remove(images)
                self._decoded += images.thread_seconds

    def _others(self) -> float:
        """Return the processor time of all threads but those that read and decode, of all chunks."""
        return time.process_time() - self._decoded - sum(images.thread_seconds for images in self._streams)


class _Kept(logging.Handler):
    """Keeps what is logged, to be told elsewhere."""

    def __init__(self, messages: list[tuple[int, str]]) -> None:
        super().__init__(logging.WARNING)
        self._kept = messages

    def emit(self, record: logging.LogRecord) -> None:
        self._kept.append((record.levelno, record.getMessage()))
