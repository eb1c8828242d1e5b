"""Which engine runs a backbone fastest on this machine: measured once, and remembered."""

from __future__ import annotations

import contextlib
import itertools
import logging
from pathlib import Path

import numpy as np

from ffe.base.file_stat import read_note, write_note
from ffe.base.openvino_ir import IrModel
from ffe.base.system import cache_root, library_version
from ffe.engines.ncnn import NcnnEngine, read_graph
from ffe.engines.ncnn_convert import gains
from ffe.engines.openvino import BATCH_SIZE, OpenVinoEngine
from ffe.engines.throughput import images_per_second, this_machine
from ffe.errors import EngineError

log = logging.getLogger("ffe")

ENGINE = "engine"  # in the record of a model: what it is to run on
_SECONDS = 0.5
_ROUNDS = 2  # in turn, so that a machine that is busy for a moment decides nothing
_WORTH_IT = 1.05  # what OpenVINO is slower by, to be left: its graphs take all backbones


def fastest(key: str, model: IrModel, batch_size: int | None = None) -> OpenVinoEngine | NcnnEngine:
    """Put a float32 IR model on the engine that computes most images a second here; ``key`` names the model.

    A model that is sent to other machines says itself which engine it is for, so that all give the same features.
    """
    return _opened(model.record.get(ENGINE) or choice(key, model), model, batch_size or BATCH_SIZE)


def choice(key: str, model: IrModel) -> str:
    """Return ``openvino`` or ``ncnn``, whichever is the faster here for a float32 IR model.

    Only networks whose products are largely of 3x3 convolutions are measured, for about three seconds, once: others gain
    nothing on ncnn.
    """
    rates = remembered(key)
    if rates is None:
        rates = {"openvino": 0.0}
        with contextlib.suppress(EngineError):  # an operation that is not written for ncnn
            if gains(read_graph(model)):
                rates = _measured({name: _opened(name, model, BATCH_SIZE) for name in ("openvino", "ncnn")})
        write_note(_note(key), {**read_note(_note(key)), _here(): rates})
    return winner(rates)


def _measured(engines: dict[str, OpenVinoEngine | NcnnEngine]) -> dict[str, float]:
    """Return images a second of each engine."""
    log.info("measuring which engine runs this backbone faster here, once")
    pixels = np.random.default_rng(0).integers(0, 256, (2 * BATCH_SIZE, *engines["openvino"].size, 3), np.uint8)
    rates = dict.fromkeys(engines, 0.0)
    for _, (name, engine) in itertools.product(range(_ROUNDS), engines.items()):
        rates[name] = max(rates[name], round(images_per_second(engine, pixels, _SECONDS), 2))
    return rates


def _opened(name: str, model: IrModel, batch_size: int) -> OpenVinoEngine | NcnnEngine:
    return (NcnnEngine if name == "ncnn" else OpenVinoEngine)(model, batch_size)


def winner(rates: dict[str, float]) -> str:
    """Return the engine to take, of images a second of each."""
    return "ncnn" if rates.get("ncnn", 0.0) > _WORTH_IT * rates.get("openvino", 0.0) else "openvino"


def remembered(key: str) -> dict[str, float] | None:
    """Return images a second of each engine that a model was measured on here; one of 0 alone = there was no choice."""
    with contextlib.suppress(ValueError, TypeError, LookupError, AttributeError):
        return {str(name): float(rate) for name, rate in read_note(_note(key))[_here()].items()}
    return None


def _note(key: str) -> Path:
    return cache_root() / "engines" / f"{key}.json"


def _here() -> str:
    return this_machine(*(library_version(name) or "" for name in ("openvino", "ncnn")))
