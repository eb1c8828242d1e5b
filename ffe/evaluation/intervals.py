"""How far a figure may be off: bootstrap resamples, percentile intervals, and Wilson's for plain proportions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ffe.base.text import counted
from ffe.errors import DataError

Interval = tuple[float, float]

RESAMPLES = 2000

_MOST_DRAWS = 200_000_000  # of rows, where there are many of them: their intervals are narrow, and told by fewer resamples
_LEAST_RESAMPLES = 400
_BLOCK_BYTES = 8 << 20
Z = 1.959963984540054  # the 97.5 % point of the normal distribution
_LEVELS = (0.025, 0.975)


def group_numbers(groups: np.ndarray | None, rows: int) -> np.ndarray:
    """Return int64 (N,): for each row the number of its group, from 0 on; without groups each row is its own."""
    if groups is None:
        return np.arange(rows)
    if len(groups) != rows:
        raise DataError(f"There are {counted(len(groups), 'group number')} for {counted(rows, 'row')}; give one for each row.")
    return np.unique(groups, return_inverse=True)[1].reshape(-1)


def resamples_of(rows: int) -> int:
    """Return how many resamples are drawn: 2,000, or of more than 100,000 rows fewer, down to 400."""
    return min(RESAMPLES, max(_LEAST_RESAMPLES, _MOST_DRAWS // rows))


def resampled_weights(groups: np.ndarray) -> Iterator[np.ndarray]:
    """Yield how often each row is drawn, in blocks of ``resamples_of`` resamples in all: the bootstrap of Efron 1979.

    Whole groups (int64 (N,), from ``group_numbers``) are drawn, as many as there
    are, with replacement: rows of one group (photos of one person, frames of one
    video) are not independent, and resampling them one by one would give intervals
    that are too narrow. Field and Welsh 2007,
    https://doi.org/10.1111/j.1467-9868.2007.00593.x, call it the cluster bootstrap.
    Blocks are float32 (N, b), whole numbers, of about 8 MiB; they do not change the draws.
    """
    rng = np.random.default_rng(0)
    count = int(groups.max()) + 1
    own = count == len(groups) and bool((groups == np.arange(count)).all())
    block = max(1, _BLOCK_BYTES // (4 * len(groups)))
    resamples = resamples_of(len(groups))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = rng.integers(0, count, (size, count))
        drawn += np.arange(size)[:, None] * count
        weights = np.bincount(drawn.reshape(-1), minlength=size * count).reshape(size, count)
        columns = np.ascontiguousarray(weights.T, dtype=np.float32)
        yield columns if own else columns[groups]


def wilson(share: float, n: float) -> Interval:
    """Return the 95 % interval of a share, in [0, 1], seen in n > 0 independent rows.

    Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953. Unlike the
    bootstrap it stays honest at a share of 0 or 1 and for a single row: 300
    right out of 300 gives 0.987 to 1. Recommended for that by Brown, Cai and
    DasGupta 2001, https://doi.org/10.1214/ss/1009213286.
    """
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * (share * (1 - share) / n + Z**2 / (4 * n**2)) ** 0.5
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return (0.0 if share == 0 else low), (1.0 if share == 1 else high)


def percentile_intervals(samples: np.ndarray) -> np.ndarray:
    """Return float64 (2, M), the 2.5 % and 97.5 % points of each column of samples (B, M), NaN left out; of none, NaN."""
    found = np.full((2, samples.shape[1]), np.nan)
    for column in range(samples.shape[1]):  # one at a time: a partition needs a copy
        values = samples[:, column]
        values = values[~np.isnan(values)]
        if len(values):
            found[:, column] = np.quantile(values, _LEVELS)
    return found


def share_intervals(samples: np.ndarray, shares: np.ndarray, rows: np.ndarray, groups: np.ndarray) -> list[Interval | None]:
    """Return the interval of each share (M,): Wilson's, of as many independent rows as tell as much.

    Rows (M,) that are as many as their groups (M,) are independent. Others count as so many whose share would vary as
    that of the resamples, samples (B, M), does, at most as all: the effective sample size of Korn and Graubard 1998
    (Survey Methodology 24, 193), here with Wilson's interval, as Franco et al. 2019 recommend,
    https://pmc.ncbi.nlm.nih.gov/articles/PMC6690503. So an end is 0 or 1 only where the share is, as that of a percentile
    interval is not: many resamples leave out the few rows that were wrong. Where all resamples agree, groups count; of a
    single one, on another share than 0 or 1, nothing can be told: (0, 1). None: there were no rows (NaN).

    Their factor for few groups is left out: of fewer than about ten groups that differ, an interval is too short.
    """
    result: list[Interval | None] = []
    for values, share, n, g in zip(samples.T, shares.tolist(), rows.tolist(), groups.tolist(), strict=True):
        drawn = values[~np.isnan(values)]
        if np.isnan(share) or not len(drawn):
            result.append(None)
        else:
            count = _effective(drawn, share, n, g)
            result.append(wilson(share, count) if count else (0.0, 1.0))
    return result


def _effective(drawn: np.ndarray, share: float, n: int, g: int) -> float:
    """Return how many independent rows tell as much of a share as n in g groups, by its resamples (B,); 0 = nothing is told."""
    if n == g:
        return n
    if drawn.min() < drawn.max():
        return min(n, share * (1 - share) / float(drawn.var(dtype=np.float64)))
    return g if g > 1 or share in (0, 1) else 0


def effective_rows(right: np.ndarray, groups: np.ndarray | None = None) -> float:
    """Return how many independent images tell as much of the share of right answers, bool (N,); see ``share_intervals``."""
    numbers = group_numbers(groups, len(right))
    count = int(numbers.max()) + 1
    drawn = [right.astype(np.float32) @ weights / weights.sum(axis=0) for weights in resampled_weights(numbers)]
    return _effective(np.concatenate(drawn), float(right.mean()), len(right), count)


def accuracy_intervals(right: np.ndarray, groups: np.ndarray | None = None) -> list[Interval]:
    """Return the interval of the share of right answers in each row of bool (M, N), of the same N > 0 images.

    Those of one group, int64 (N,), are not independent; see ``share_intervals``.
    """
    numbers = group_numbers(groups, right.shape[1])
    drawn = [(right.astype(np.float32) @ weights / weights.sum(axis=0)).T for weights in resampled_weights(numbers)]
    rows, count = (np.full(len(right), most) for most in (len(numbers), int(numbers.max()) + 1))
    return [found or (0.0, 1.0) for found in share_intervals(np.concatenate(drawn), right.mean(axis=1), rows, count)]
