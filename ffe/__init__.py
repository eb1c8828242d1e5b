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
    "compare",
    "evaluate",
    "extract",
    "finetune",
    "forget",
    "label",
    "pack",
    "preview",
    "scan",
    "scratch",
    "train",
    "tune",
    "verify",
]

_HOMES = {
    "FeatureExtractor": "ffe.extraction.transformer",
    "FeatureStore": "ffe.store.reader",
    "FfeError": "ffe.errors",
    "Predictor": "ffe.predictor",
    "compare": "ffe.workflows.comparing",
    "evaluate": "ffe.workflows.scoring",
    "extract": "ffe.extraction.run",
    "finetune": "ffe.workflows.finetuning",
    "forget": "ffe.workflows.forgetting",
    "label": "ffe.workflows.labelling",
    "scratch": "ffe.workflows.from_scratch",
    "pack": "ffe.workflows.packing",
    "preview": "ffe.workflows.previewing",
    "scan": "ffe.workflows.scanning",
    "train": "ffe.workflows.fitting",
    "tune": "ffe.workflows.fitting",
    "verify": "ffe.workflows.verifying",
}

if TYPE_CHECKING:
    from ffe.errors import FfeError
    from ffe.extraction.run import extract
    from ffe.extraction.transformer import FeatureExtractor
    from ffe.predictor import Predictor
    from ffe.store.reader import FeatureStore
    from ffe.workflows.comparing import compare
    from ffe.workflows.finetuning import finetune
    from ffe.workflows.fitting import train, tune
    from ffe.workflows.forgetting import forget
    from ffe.workflows.from_scratch import scratch
    from ffe.workflows.labelling import label
    from ffe.workflows.packing import pack
    from ffe.workflows.previewing import preview
    from ffe.workflows.scanning import scan
    from ffe.workflows.scoring import evaluate
    from ffe.workflows.verifying import verify


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ffe' has no attribute '{name}'")
    quiet = importlib.import_module("ffe.base.tensorflow_log")  # as on the command line
    quiet.hold_descriptors()
    quiet.quiet_tensorflow()
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
