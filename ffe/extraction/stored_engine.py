"""The backbone that made a feature file -> a running engine, and features of further pictures."""

from __future__ import annotations

import contextlib

from ffe.backbones.resolve import weights_of
from ffe.engines.base import Engine
from ffe.engines.factory import open_engine, open_saved_engine
from ffe.store.reader import FeatureStore


def open_stored_engine(store: FeatureStore, weights: str = "imagenet", engine: str = "auto") -> Engine:
    """Return the backbone of a feature file on an engine: its own int8 model, or from weights that are those of its spec.

    Raises:
        WeightsError: the weights are not here, or are others.
        EngineError: the engine is not here, or cannot run the backbone.
    """
    spec, quantized = store.spec, store.quantized()
    if quantized is not None:
        none = contextlib.nullcontext(None)
        return open_saved_engine(spec, ir=quantized, keras_file=lambda: none, name=engine)
    return open_engine(spec, weights_of(spec, weights), name=engine)
