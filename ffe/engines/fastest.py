"""Which engine runs a backbone fastest on this machine, and in which batches: measured once, and remembered."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ffe.base.file_stat import read_note, write_note
from ffe.base.openvino_ir import IrModel
from ffe.base.system import cache_root, cores, library_version
from ffe.engines.openvino import BATCH_SIZE, OpenVinoEngine
from ffe.engines.throughput import run_for, this_machine
from ffe.engines.winograd import BATCH_SIZE as WINOGRAD_BATCH_SIZE
from ffe.engines.winograd import WinogradEngine, read_graph
from ffe.engines.winograd_convert import VERSION, gains
from ffe.errors import EngineError

log = logging.getLogger("ffe")

RUNS_ON = "runs_on"  # in the record of a model that is sent to other machines: the ``Choice``
_LEAST_IMAGES = 200  # fewer do not wait for a measurement
_WORTH_SECONDS = 20.0  # nor do those that are done sooner
_SECONDS, _ROUNDS = 0.25, 3  # for which each way runs in a round; its best round counts, for what disturbs only slows down
_LONG_CALL = 1.0
_BETTER_BATCH = 1.03  # what a way must be faster by, to be taken
_BETTER_ENGINE = 1.05


class Choice(NamedTuple):
    """An engine, ``openvino`` or ``winograd``, and the images in one of its calls."""

    engine: str
    batch_size: int


USUAL = Choice("openvino", BATCH_SIZE)


def opened(chosen: Choice, model: IrModel, batch_size: int | None = None) -> OpenVinoEngine | WinogradEngine:
    """Put a float32 IR model on an engine; ``batch_size`` is what the user named."""
    return (WinogradEngine if chosen.engine == "winograd" else OpenVinoEngine)(model, batch_size or chosen.batch_size)


def choice(key: str, model: IrModel, images: int = 0, engine: str = "auto") -> Choice:
    """Return what computes most images a second here, for a float32 IR model that ``key`` names.

    It is measured where so many ``images`` take longer than measuring does, once. A model that is sent to other machines
    says itself what it is to run on, so that all give the same features: those of one engine have the same bits in all
    batches, those of two have not.
    """
    if engine == "winograd":
        return Choice("winograd", WINOGRAD_BATCH_SIZE)
    if engine == "auto" and RUNS_ON in model.record:
        return Choice(*model.record[RUNS_ON])
    rates = remembered(key)
    if engine == "auto" and len(rates) < 2 and images >= max(_LEAST_IMAGES, _WORTH_SECONDS * max(rates.values(), default=0.0)):
        rates = _measured(model, images)
        kept = {f"{way.engine} {way.batch_size}": round(rate, 2) for way, rate in rates.items()}
        write_note(_note(key), {**read_note(_note(key)), _here(): kept})
    return winner({way: rate for way, rate in rates.items() if engine in {"auto", way.engine}})


def _measured(model: IrModel, images: int) -> dict[Choice, float]:
    """Return images a second, were all cores at work on nothing else; of one way alone where ``images`` are soon done.

    It is the time of the processor that counts, for it is told apart from that of other programs. Larger batches are tried
    where calls are short, and the largest where the trend goes there; the engine winograd where products are largely of 3x3
    convolutions.
    """
    engines: dict[Choice, OpenVinoEngine | WinogradEngine] = {}
    rates: dict[Choice, float] = {}

    def measure(ways: Iterable[Choice]) -> float:
        for way in ways:
            if way not in engines:
                engines[way] = opened(way, model)
            size = engines[way].size
            pixels = np.random.default_rng(0).integers(0, 256, (2 * way.batch_size, *size, 3), np.uint8)
            count, _, busy = run_for(engines[way], pixels, _SECONDS)
            rates[way] = max(rates.get(way, 0.0), count * cores() / max(busy, 1e-9))
        return rates[way]

    rate = measure([Choice("openvino", 2)])
    if images < _WORTH_SECONDS * rate:
        return rates
    log.info("measuring how this backbone runs fastest here, once")
    for size in (4, 8, 16):
        if size * cores() > _LONG_CALL * rate or (size == 16 and rates[Choice("openvino", 4)] > rate):
            break
        rate = measure([Choice("openvino", size)])
    with contextlib.suppress(EngineError):  # an operation that is not written for it
        if gains(read_graph(model)):
            measure([Choice("winograd", WINOGRAD_BATCH_SIZE)])
    for _ in range(_ROUNDS - 1):
        measure(engines)
    return rates


def winner(rates: dict[Choice, float]) -> Choice:
    """Return what to take, of images a second of each way; the usual one unless another is faster by more than chance."""
    ours = {way: rate for way, rate in rates.items() if way.engine == "openvino"}
    if len(ours) < 2:
        return USUAL
    usual = USUAL if USUAL in ours else min(ours)
    best = max(ours, key=ours.__getitem__)
    if ours[best] <= _BETTER_BATCH * ours[usual]:
        best = usual
    for way in rates.keys() - ours.keys():
        if rates[way] > _BETTER_ENGINE * ours[best]:
            return way
    return best


def remembered(key: str) -> dict[Choice, float]:
    """Return images a second of each way that a model was measured in here; empty = it was not."""
    with contextlib.suppress(ValueError, TypeError, LookupError, AttributeError):
        ways = read_note(_note(key))[_here()].items()
        return {Choice(engine, int(size)): float(rate) for (engine, size), rate in ((way.split(), rate) for way, rate in ways)}
    return {}


def _note(key: str) -> Path:
    return cache_root() / "engines" / f"{key}.json"


def _here() -> str:
    versions = (library_version(name) or "" for name in ("openvino", "numpy", "numba"))
    return this_machine(f"winograd {VERSION} by {WINOGRAD_BATCH_SIZE}", *versions)
