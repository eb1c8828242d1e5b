"""Spec and weights -> a running engine."""

from __future__ import annotations

import logging
from pathlib import Path

from ffe.backbones.build import build, load_model
from ffe.backbones.catalog import FAKE
from ffe.backbones.weights import Weights
from ffe.engines.base import Engine
from ffe.engines.fake import FakeEngine
from ffe.errors import EngineError
from ffe.specs import ExtractSpec

log = logging.getLogger("ffe")

ENGINES = ("auto", "keras")


def check_engine(name: str) -> None:
    """Check what a user typed.

    Raises:
        EngineError: there is no such engine.
    """
    if name not in ENGINES:
        raise EngineError(f"There is no engine '{name}'; choose one of {', '.join(ENGINES)}.")


def open_engine(spec: ExtractSpec, weights: Weights, *, name: str = "auto", batch_size: int = 32) -> Engine:
    """Build the backbone of a spec and put it on an engine.

    Raises:
        EngineError: there is no such engine.
        BackboneError: the backbone cannot be built; see ``ffe.backbones.build``.
    """
    check_engine(name)
    if spec.backbone.name == FAKE:
        return FakeEngine(spec, batch_size)
    log.info("loading the backbone %s", spec.backbone.name)
    from ffe.engines.keras import KerasEngine

    return KerasEngine(build(spec, weights), spec, batch_size)


def open_saved_engine(spec: ExtractSpec, model_file: Path, *, batch_size: int = 32) -> Engine:
    """Put a saved backbone (a ``.keras`` file; not read for the fake one) on an engine."""
    if spec.backbone.name == FAKE:
        return FakeEngine(spec, batch_size)
    log.info("loading the backbone %s", spec.backbone.name)
    from ffe.engines.keras import KerasEngine

    return KerasEngine(load_model(model_file), spec, batch_size)
