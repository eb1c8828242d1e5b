"""The calls behind ``ffe tune``, ``ffe train`` and ``ffe evaluate``: files in, a value and a file out."""

from ffe.workflows.fitting import TuneResult, train, tune
from ffe.workflows.scoring import EvaluateResult, evaluate

__all__ = ["EvaluateResult", "TuneResult", "evaluate", "train", "tune"]
