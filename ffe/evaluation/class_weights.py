"""How much a photo of each class counts in a fit."""

from __future__ import annotations

import numpy as np

from ffe.errors import DataError, SpecError

WEIGHTINGS = ("auto", "balanced", "none")

FAIR_SHARE = 0.5  # of 1 / K: a class with less is rare


def class_weights(weighting: str, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return float64 (K,), the weight of a row of each class; their mean over the rows is 1.

    ``balanced``: N / (K * n_k), as in scikit-learn, so that every class counts
    as much as every other; ``none``: all 1; ``auto``: balanced where the rarest
    class has less than half its share (n_min / N < 0.5 / K), else none. Labels are
    int64 (N,), in [0, K); a class without rows gets 1 and is not counted in K.
    """
    if weighting not in WEIGHTINGS:
        raise SpecError(f"There are no class weights '{weighting}'; use {', '.join(WEIGHTINGS[:-1])} or {WEIGHTINGS[-1]}.")
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= classes:
        raise DataError("Class weights need rows that all have a label; leave out those without.")
    counts = np.bincount(labels, minlength=classes)
    present = counts > 0
    fair = len(labels) / present.sum()
    weights = np.ones(classes)
    if weighting == "balanced" or (weighting == "auto" and counts[present].min() < FAIR_SHARE * fair):
        weights[present] = fair / counts[present]
    return weights
