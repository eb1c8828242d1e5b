"""The calls behind the commands that take feature files: files in, a value and a file out."""

from ffe.workflows.fitting import TuneResult, train, tune
from ffe.workflows.packing import PackSummary, pack
from ffe.workflows.scoring import EvaluateResult, evaluate
from ffe.workflows.verifying import VerifyResult, verify

__all__ = ["EvaluateResult", "PackSummary", "TuneResult", "VerifyResult", "evaluate", "pack", "train", "tune", "verify"]
