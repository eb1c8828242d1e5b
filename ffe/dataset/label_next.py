"""Which photos to label next: those that a model is least sure of, spread out so that they are not all alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from ffe.base.feature_layout import FeatureLayout
from ffe.dataset.neighbours import pooled

By = Literal["margin", "entropy"]
WAYS: tuple[By, ...] = get_args(By)

_DIGITS = 6  # values that differ by less are the same on no two processors, so the first photo counts
_FOR_EACH, _LEAST, _MOST = 20, 1000, 20_000


def uncertainty(probabilities: np.ndarray, by: By) -> np.ndarray:
    """Return how unsure answers float64 (N, K) are: float64 (N,) in [0, 1], 0 = sure, to six digits.

    ``margin``: 1 less the distance of the best probability to the second. ``entropy``: that of the answer, as a share of the
    largest that K classes can have.
    """
    if by == "margin":
        second, first = np.partition(probabilities, -2, axis=1)[:, -2:].T
        return np.round(1.0 - (first - second), _DIGITS)
    logs = np.log(np.maximum(probabilities, 1e-300))
    return np.round(-(probabilities * logs).sum(axis=1) / np.log(probabilities.shape[1]), _DIGITS)


def most_kept(count: int) -> int:
    """Return how many photos stay in the choice of so many: 20 for each, at least 1,000, and beyond 20,000 no more than asked."""
    return max(_LEAST, min(_FOR_EACH * count, _MOST), count)


@dataclass(frozen=True, eq=False)
class Candidates:
    """The least sure photos that were seen so far, the least sure first, of equal ones the first."""

    rows: np.ndarray  # int64 (n,), their numbers
    unsure: np.ndarray  # float64 (n,), in [0, 1]
    guesses: np.ndarray  # int64 (n,), the most probable class
    probabilities: np.ndarray  # float64 (n,), its probability
    directions: np.ndarray  # float32 (n, d), pooled features, of length 1

    @classmethod
    def none(cls) -> Candidates:
        """Return no photos."""
        return cls(np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64), np.empty(0), np.empty((0, 0), np.float32))

    def joined(
        self, rows: np.ndarray, features: np.ndarray, probabilities: np.ndarray, layout: FeatureLayout, *, by: By, most: int
    ) -> Candidates:
        """Return the ``most`` least sure of these and of further photos, whose numbers int64 (m,) are larger.

        ``features`` float32 (m, D) and ``probabilities`` float64 (m, K) are theirs.
        """
        unsure = uncertainty(probabilities, by)
        places = np.argsort(-unsure, kind="stable")[:most]
        if len(self.rows) >= most:
            places = places[unsure[places] > self.unsure[-1]]
        if not len(places):
            return self
        views = pooled(features[places], layout).astype(np.float32)
        views /= np.maximum(np.sqrt(np.einsum("ij,ij->i", views, views)), 1e-12)[:, None]
        answers = probabilities[places]
        further = (rows[places], unsure[places], answers.argmax(axis=1), answers.max(axis=1), views)
        own = vars(self).values() if len(self.rows) else [part[:0] for part in further]
        columns = [np.concatenate(parts) for parts in zip(own, further, strict=True)]
        order = np.argsort(-columns[1], kind="stable")[:most]
        return Candidates(*(column[order] for column in columns))


def spread_out(candidates: Candidates, count: int) -> np.ndarray:
    """Return which candidates to label, int64 (min(count, n),) places, in the order in which they were chosen.

    The first is the least sure one. Then comes, again and again, the one with the largest product of its uncertainty and its
    distance to the nearest that is chosen already: greedy k-centre, Sener and Savarese 2018,
    https://arxiv.org/abs/1708.00489, weighted by uncertainty among the least sure, as Zhdanov 2019,
    https://arxiv.org/abs/1901.05954, weights clusters. The distance is that of pooled features of length 1, in [0, 2]. Nothing
    is drawn at random.
    """
    directions, chosen = candidates.directions, np.zeros(len(candidates.rows), bool)
    distance = np.full(len(chosen), 2.0)
    order: list[int] = []
    for _ in range(min(count, len(chosen))):
        place = int(np.where(chosen, -1.0, np.round(candidates.unsure * distance, _DIGITS)).argmax())
        order.append(place)
        chosen[place] = True
        cosine = np.einsum("ij,j->i", directions, directions[place])
        distance = np.minimum(distance, np.sqrt(np.maximum(0.0, 2.0 - 2.0 * cosine.astype(np.float64))))
    return np.asarray(order, np.int64)
