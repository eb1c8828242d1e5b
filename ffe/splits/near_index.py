"""Which of many images are near, without looking at all pairs.

Hashes by multi-index look-up, exact: Norouzi, Punjani and Fleet 2012, https://doi.org/10.1109/CVPR.2012.6248043. Features by
tables of random planes: Charikar 2002, https://doi.org/10.1145/509907.509965; rows in one cell of a table are compared
exactly. Whole numbers decide everything, so all machines find the same.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from dataclasses import dataclass

import numpy as np

from ffe.base.compiled import compiled
from ffe.splits.whole_numbers import BITS, WholeRows

RECALL = 0.998  # the chance that a pair at the very bound shares a cell; that of nearer ones is larger

_WINDOW = 256  # a row is compared with so many others of its cell, or of those with one hash, ...
_MOST_TRIED = 4096  # ... and in all with so many that turn out not to be near
_SPREADS = 4.5  # standard deviations that a signature may be off


@dataclass(frozen=True, eq=False)
class NearPairs:
    """What was linked: a forest that joins the same rows as all links would."""

    roots: np.ndarray  # int64 (n,), a row of the tree that each row is in
    count: int  # links found, each once, or the least that join as much, where only those are known
    compared: int  # pairs that were looked at


@compiled
def _ones(x):  # type: ignore[no-untyped-def]
    """Count the bits of an uint64."""
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((x * np.uint64(0x0101010101010101)) >> np.uint64(56))


@compiled
def _root(parents, i):  # type: ignore[no-untyped-def]
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = parents[i]
    return i


@compiled
def _join(parents, i, j):  # type: ignore[no-untyped-def]
    a, b = _root(parents, i), _root(parents, j)
    parents[max(a, b)] = min(a, b)


@compiled
def _apart(signatures, i, j, few, many):  # type: ignore[no-untyped-def]
    """Say whether the first 256 bits of two signatures differ in more than ``few``, or all in more than ``many``."""
    found = 0
    for word in range(4):
        found += _ones(signatures[i, word] ^ signatures[j, word])
    if found > few:
        return True
    for word in range(4, signatures.shape[1]):
        found += _ones(signatures[i, word] ^ signatures[j, word])
    return found > many


@compiled
def _close(rows, squares, i, j, cosine):  # type: ignore[no-untyped-def]
    """Say whether the cosine of two rows of whole numbers is at least so much; exact."""
    product = np.int64(0)
    for k in range(rows.shape[1]):
        product += np.int64(rows[i, k]) * np.int64(rows[j, k])
    return product > 0 and np.float64(product) * product >= cosine * cosine * squares[i] * squares[j]


@compiled
def _link_two(members, starts, u, v, rows, squares, signatures, limits, cosine, tried, compared, parents):  # type: ignore[no-untyped-def]
    """Link the images of two hashes, or of one, whose features are close enough; return how many pairs."""
    a, b = (u, v) if starts[u + 1] - starts[u] >= starts[v + 1] - starts[v] else (v, u)
    most, least = starts[a + 1] - starts[a], starts[b + 1] - starts[b]
    count = 0
    for p in range(most):
        i = members[starts[a] + p]
        if u == v:
            first, last = p + 1, min(p + 1 + _WINDOW, least)
        else:
            first = max(0, min(p * least // most - _WINDOW // 2, least - _WINDOW))
            last = min(least, first + _WINDOW)
        for q in range(first, last):
            j = members[starts[b] + q]
            if tried[i] >= _MOST_TRIED or tried[j] >= _MOST_TRIED:
                continue
            compared[0] += 1
            if not _apart(signatures, i, j, limits[0], limits[1]) and _close(rows, squares, i, j, cosine):
                _join(parents, i, j)
                count += 1
            else:
                tried[i] += 1
                tried[j] += 1
    return count


@compiled
def _link_hashes(  # type: ignore[no-untyped-def]
    values, bits, shifts, masks, radius, flips, places, cells, members, starts,
    by_features, rows, squares, signatures, limits, cosine, tried, compared, parents,
):  # fmt: skip
    """Link the images whose hashes differ in at most so many bits; return how many pairs."""
    count = 0
    for u in range(len(values)):
        own = starts[u + 1] - starts[u]
        if own > 1:
            if by_features:
                count += _link_two(
                    members, starts, u, u, rows, squares, signatures, limits, cosine, tried, compared, parents
                )  # fmt: skip
            else:
                count += own * (own - 1) // 2
                for p in range(starts[u], starts[u + 1]):
                    _join(parents, members[starts[u]], members[p])
        for band in range(len(shifts)):
            key = (values[u] >> shifts[band]) & masks[band]
            for flip in flips:
                if flip > masks[band]:
                    continue
                cell = np.int64(key ^ flip)
                for p in range(cells[band, cell], cells[band, cell + 1]):
                    v = places[band, p]
                    compared[0] += 1
                    differing = values[u] ^ values[v]
                    if v <= u or _ones(differing) > bits:
                        continue
                    seen = False
                    for before in range(band):
                        seen = seen or _ones((differing >> shifts[before]) & masks[before]) <= radius
                    if seen:
                        continue
                    if by_features:
                        count += _link_two(
                            members, starts, u, v, rows, squares, signatures, limits, cosine, tried, compared, parents
                        )  # fmt: skip
                    else:
                        count += own * (starts[v + 1] - starts[v])
                        _join(parents, members[starts[u]], members[starts[v]])
    return count


def near_hashes(phash: np.ndarray, bits: int, order: np.ndarray, whole: WholeRows | None, cosine: float) -> NearPairs:
    """Link images whose hashes, uint64 (n,), 0 = unknown, differ in at most so many bits, and whose features are close.

    Without features it is exact. With them, images of a hash that more than 256 have are compared with so many others, those
    that stand about them in ``order``, int64 (n,), a permutation of the rows; an image that is unlike 4,096 others that its
    hash is like is compared no further.
    """
    order = order[phash[order] != 0]
    if whole is not None:
        order = order[np.argsort(whole.signatures[order, 0], kind="stable")]
    members = order[np.argsort(phash[order], kind="stable")]
    values, first = np.unique(phash[members], return_index=True)
    starts = np.append(first, len(members)).astype(np.int64)
    bands = 4 if bits > 2 else 3
    widths = [(64 + band) // bands for band in range(bands)]
    shifts = np.asarray(np.cumsum([0, *widths[:-1]]), np.uint64)
    masks = np.asarray([(1 << width) - 1 for width in widths], np.uint64)
    radius = bits // bands
    chosen = [some for n in range(radius + 1) for some in itertools.combinations(range(max(widths)), n)]
    flips = np.asarray([sum(1 << bit for bit in some) for some in chosen], np.uint64)
    cells, places = np.zeros((bands, (1 << max(widths)) + 1), np.int64), np.empty((bands, len(values)), np.int64)
    for band in range(bands):
        keys = ((values >> shifts[band]) & masks[band]).astype(np.int64)
        places[band] = np.argsort(keys, kind="stable")
        cells[band, 1:] = np.cumsum(np.bincount(keys, minlength=cells.shape[1] - 1))
    parents, compared = np.arange(len(phash)), np.zeros(1, np.int64)
    features = whole or WholeRows(np.zeros((0, 0), np.int16), np.zeros(0), np.zeros((0, 16), np.uint64))
    count = _link_hashes(
        *(values, bits, shifts, masks, radius, flips, places, cells, members, starts, whole is not None),
        *(features.rows, features.squares, features.signatures, _limits(cosine), cosine),
        *(np.zeros(len(phash), np.int64), compared, parents),
    )
    return NearPairs(_roots_of(parents), int(count), int(compared[0]))


@compiled
def _keys(signatures, bits):  # type: ignore[no-untyped-def]
    """Return the cell of each row in a table, uint64 (n,): the chosen bits of its signature, the first one highest."""
    keys = np.zeros(len(signatures), np.uint64)
    for i in range(len(signatures)):
        key = np.uint64(0)
        for bit in bits:
            key = (key << np.uint64(1)) | ((signatures[i, bit >> 6] >> np.uint64(bit & 63)) & np.uint64(1))
        keys[i] = key
    return keys


@compiled
def _link_cells(  # type: ignore[no-untyped-def]
    order, keys, shift, linked, phash, bits, rows, squares, signatures, limits, cosine, tried, compared, parents
):  # fmt: skip
    """Link the close rows of each cell of a table, which stand one behind the other; but those that their hashes have linked."""
    count = 0
    for p in range(len(order)):
        i = order[p]
        if squares[i] == 0:
            continue
        for q in range(p + 1, min(p + 1 + _WINDOW, len(order))):
            if (keys[p] ^ keys[q]) >> shift or tried[i] >= _MOST_TRIED:
                break
            j = order[q]
            compared[0] += 1
            if _apart(signatures, i, j, limits[0], limits[1]) or _root(parents, i) == _root(parents, j):
                continue
            if linked[i] == linked[j] and phash[i] != 0 and phash[j] != 0 and _ones(phash[i] ^ phash[j]) <= bits:
                continue
            if _close(rows, squares, i, j, cosine):
                _join(parents, i, j)
                count += 1
            else:
                tried[i] += 1
    return count


def near_rows(whole: WholeRows, cosine: float, phash: np.ndarray, bits: int, linked: np.ndarray, order: np.ndarray) -> NearPairs:
    """Link rows of at least such a cosine, in [0, 1], but those whose hashes differ in at most so many bits.

    Such pairs are left to ``near_hashes``; ``linked``, int64 (n,), are the trees that it found.

    A pair at the bound shares a cell of a table with a chance of ``RECALL``, nearer ones with more. A row is compared with
    the next 256 rows of its cell, of those that lie as nearly alike in ``order``, int64 (n,), a permutation of the rows; one
    that is unlike 4,096 others that looked near is compared no further. Time grows as n^1.4 at the most.
    """
    count = len(whole.rows)
    wide = min(32, max(8, round(math.log2(max(count, 2))) - 4))
    tables = max(1, math.ceil(math.log(1 - RECALL) / math.log1p(-min(0.999, (1 - _angle(cosine)) ** wide))))
    parents, tried, compared = np.arange(count), np.zeros(count, np.int64), np.zeros(1, np.int64)
    found = 0
    for table in range(tables):
        keys = _keys(whole.signatures, _chosen_bits(table))[order]
        by_key = np.argsort(keys, kind="stable")
        found += _link_cells(
            *(order[by_key], keys[by_key], np.uint64(64 - wide), linked, phash, bits),
            *(whole.rows, whole.squares, whole.signatures, _limits(cosine), cosine, tried, compared, parents),
        )
    return NearPairs(_roots_of(parents), int(found), int(compared[0]))


def _chosen_bits(table: int) -> np.ndarray:
    """Return 64 different bits of a signature for a table, int64 (64,), the same for ever."""
    drawn = np.frombuffer(hashlib.shake_256(f"table {table}".encode()).digest(2 * BITS), "<u2")
    return np.argsort(drawn, kind="stable")[:64].astype(np.int64)


def _angle(cosine: float) -> float:
    """Return the share of random planes that part two directions of such a cosine, in [0, 1]."""
    return math.acos(min(1.0, cosine)) / math.pi


def _limits(cosine: float) -> tuple[int, int]:
    """Return in how many of 256 bits, and of all, two signatures of such a cosine may differ."""
    share = _angle(cosine)
    return tuple(math.ceil(n * share + _SPREADS * math.sqrt(n * share * (1 - share))) + 1 for n in (256, BITS))  # type: ignore[return-value]


def _roots_of(parents: np.ndarray) -> np.ndarray:
    while (parents != parents[parents]).any():
        parents = parents[parents]
    return parents
