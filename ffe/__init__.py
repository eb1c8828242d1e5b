"""ffe, fast feature extraction: labelled photos -> a good classifier, on an ordinary machine.

Every name is imported when it is first used; ``import ffe`` itself loads
nothing but the standard library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ffe._version import __version__

__all__ = [
    "FeatureExtractor",
    "FeatureStore",
    "FfeError",
    "Predictor",
    "__version__",
    "bakeoff",
    "compare",
    "evaluate",
    "explain",
    "export",
    "extract",
    "finetune",
    "forget",
    "label",
    "pack",
    "preview",
    "scan",
    "scratch",
    "serve",
    "similar",
    "suggest",
    "train",
    "tune",
    "verify",
    "wrong_labels",
]

_HOMES = {
    "FeatureExtractor": "ffe.extraction.transformer",
    "FeatureStore": "ffe.store.reader",
    "FfeError": "ffe.errors",
    "Predictor": "ffe.predictor",
    "bakeoff": "ffe.commands.bakeoff",
    "compare": "ffe.commands.compare",
    "evaluate": "ffe.commands.evaluate",
    "explain": "ffe.commands.explain",
    "export": "ffe.commands.export",
    "extract": "ffe.extraction.run",
    "finetune": "ffe.commands.finetune",
    "forget": "ffe.commands.forget",
    "label": "ffe.commands.label",
    "scratch": "ffe.commands.scratch",
    "pack": "ffe.commands.pack",
    "preview": "ffe.commands.preview",
    "scan": "ffe.commands.scan",
    "serve": "ffe.commands.serve",
    "similar": "ffe.commands.similar",
    "suggest": "ffe.commands.suggest",
    "train": "ffe.commands.tune",
    "tune": "ffe.commands.tune",
    "verify": "ffe.commands.verify",
    "wrong_labels": "ffe.commands.suggest_wrong",
}

if TYPE_CHECKING:
    from ffe.commands.bakeoff import bakeoff
    from ffe.commands.compare import compare
    from ffe.commands.evaluate import evaluate
    from ffe.commands.explain import explain
    from ffe.commands.export import export
    from ffe.commands.finetune import finetune
    from ffe.commands.forget import forget
    from ffe.commands.label import label
    from ffe.commands.pack import pack
    from ffe.commands.preview import preview
    from ffe.commands.scan import scan
    from ffe.commands.scratch import scratch
    from ffe.commands.serve import serve
    from ffe.commands.similar import similar
    from ffe.commands.suggest import suggest
    from ffe.commands.suggest_wrong import wrong_labels
    from ffe.commands.tune import train, tune
    from ffe.commands.verify import verify
    from ffe.errors import FfeError
    from ffe.extraction.run import extract
    from ffe.extraction.transformer import FeatureExtractor
    from ffe.predictor import Predictor
    from ffe.store.reader import FeatureStore


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ffe' has no attribute '{name}'")
    importlib.import_module("ffe.base.tensorflow_log").hold_descriptors()  # as on the command line
    importlib.import_module("ffe.base.stopping").watch_imports()
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
