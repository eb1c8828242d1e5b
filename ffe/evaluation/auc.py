"""The area under the ROC curve, of many weightings of the same rows at once."""

from __future__ import annotations

import numpy as np


class WeightedAuc:
    """Rows by a score float (N,) and whether they are positive, bool (N,), ready to be weighted.

    The area is the share of pairs of a positive and a negative row in which
    the positive one has the higher score, ties counted half (Hanley and McNeil
    1982, https://doi.org/10.1148/radiology.143.1.7063747); a row of weight w
    counts as w rows.
    """

    def __init__(self, scores: np.ndarray, positive: np.ndarray) -> None:
        from scipy.sparse import csr_matrix

        order = np.argsort(scores, kind="stable")
        chosen = positive[order]
        self._positives, negatives = order[chosen], order[~chosen]
        below, own = scores[negatives], scores[self._positives]
        first, after = (np.searchsorted(below, own, side=side) for side in ("left", "right"))
        # negatives matter only by the steps between positives: their sums are one sparse product
        steps = np.unique(np.concatenate([[0], first, after, [len(negatives)]]))
        ones = np.ones(len(negatives), np.float32)
        self._sums = csr_matrix((ones, negatives, steps), shape=(len(steps) - 1, len(scores)))
        self._first, self._after = np.searchsorted(steps, first), np.searchsorted(steps, after)

    def areas(self, weights: np.ndarray) -> np.ndarray:
        """Return float64 (b,), in [0, 1], for whole weights float32 (N, b), exact for sums up to 2**23.

        NaN where all positives, or all negatives, have the weight 0.
        """
        sums = np.zeros((self._sums.shape[0] + 1, weights.shape[1]), np.float32)
        np.cumsum(self._sums @ weights, axis=0, out=sums[1:])
        positives = weights[self._positives]
        halves = sums[self._first]
        halves += sums[self._after]
        won = np.einsum("ib,ib->b", halves, positives, dtype=np.float64) / 2
        pairs = positives.sum(axis=0, dtype=np.float64) * sums[-1]
        return np.divide(won, pairs, out=np.full(len(won), np.nan), where=pairs > 0)
