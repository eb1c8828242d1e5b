"""Images that must stand on one side of a split, because they show the same thing; docs/design/splits.md has the causes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ffe.base.arrays import RowSource
from ffe.splits.whole_numbers import LEAST_SCALE, whole_rows

CAUSES = ("copies", "re-encoded", "near", "named")

MOST_BITS = 6
LEAST_COSINE = 0.5
NEAR_COSINE = 0.77

ALL_PAIRS = 50_000  # images of which all pairs are compared; of more, those that an index finds

_ALONE_BITS = 2  # without features
_CHANCE_ANYWHERE = 0.01  # that one of all pairs is near
_CHANCE_OF_A_PAIR = 0.001  # that a given pair is re-encoded
_BLOCK = 2048
_SAMPLE = 2000
_MOST_LINKS = 1 << 20


@dataclass(frozen=True, eq=False)
class Groups:
    """Which rows belong together."""

    ids: np.ndarray  # int64 (N,), the group of each row, in [0, G), numbered by first row
    levels: Mapping[str, np.ndarray]  # for each cause, int64 (N,): the groups by this cause and those before it in ``CAUSES``
    causes: Mapping[int, tuple[str, ...]]  # group -> why, for each group of more than one image
    # cause -> how many pairs of different images (re-encoded, near), or how many rows beyond the first of their file or name
    # (copies, named); of more than ``ALL_PAIRS`` images, how many near pairs it takes to join what they join
    links: Mapping[str, int]

    @property
    def count(self) -> int:
        """How many groups have more than one image; a copy counts as an image."""
        return len(self.causes)

    @property
    def images(self) -> int:
        """How many images such groups hold."""
        return int(np.isin(self.ids, list(self.causes)).sum())

    @property
    def extra(self) -> dict[str, int]:
        """Cause -> how many images there are beyond the first of each group that it and those before it make."""
        counts = [len(self.ids), *(len(np.unique(self.levels[cause])) for cause in CAUSES)]
        return {cause: before - after for cause, before, after in zip(CAUSES, counts, counts[1:], strict=False)}

    def members(self, group: int) -> np.ndarray:
        """Return the rows of a group: int64 (n,), ascending."""
        order, starts = self._by_group
        return order[starts[group] : starts[group + 1]]

    @cached_property
    def _by_group(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows, group by group, and where each group begins: so that all groups together cost one sort."""
        order = np.argsort(self.ids, kind="stable")
        return order, np.searchsorted(self.ids[order], np.arange(self.ids.max(initial=-1) + 2))


def find_groups(
    sha256: Sequence[str],
    phash: np.ndarray | None = None,
    features: RowSource | None = None,
    names: Sequence[str] | None = None,
) -> Groups:
    """Find the images that must stay together; the order of the rows decides nothing but the numbers of the groups.

    Takes perceptual hashes uint64 (N,), 0 = unknown, and average-pooled features float32 (N, C), finite, in an array or read
    when asked for: without them no image counts as near, and as re-encoded only if at most 2 bits differ. An empty name is
    none. Of up to 50,000 different images all pairs are compared: 25,000 rows of 1,024 features take 11 s on two cores, and
    190 MiB beside the features. Of more, an index finds the pairs: see ``ffe.splits.near_index`` and docs/design/splits.md.
    """
    first, image = _different(sha256)
    links = {cause: _Links(len(first)) for cause in CAUSES}
    if names is not None:
        seen: dict[str, int] = {}
        rows = [(seen.setdefault(name, int(i)), int(i)) for name, i in zip(names, image, strict=True) if name]
        links["named"].add(*np.asarray(rows, np.int64).reshape(-1, 2).T)
        links["named"].count -= len(seen)
    hashes, order = None if phash is None else phash[first], sorted(range(len(first)), key=lambda i: sha256[int(first[i])])
    if len(first) > ALL_PAIRS:
        _look_up(hashes, features, first, np.asarray(order), links)
    else:
        _compare(hashes, None if features is None else _standardised(features, first), order[:_SAMPLE], links)
    levels: dict[str, np.ndarray] = {}
    together = _Links(len(first))
    for cause in CAUSES:
        together.add(*links[cause].edges())
        levels[cause] = _numbered(together.components()[image])
    ids = levels[CAUSES[-1]]
    causes: dict[int, list[str]] = {}
    copied = np.bincount(image, minlength=len(first)) > 1
    for cause in CAUSES:
        touched = copied if cause == "copies" else links[cause].touched
        for group in np.unique(ids[first[touched]]).tolist():
            causes.setdefault(group, []).append(cause)
    count = {cause: links[cause].count for cause in CAUSES} | {"copies": len(image) - len(first)}
    return Groups(ids, levels, {group: tuple(causes[group]) for group in sorted(causes)}, count)


class _Links:
    """Pairs of images that belong together; memory stays flat, however many there are."""

    def __init__(self, size: int) -> None:
        self.count = 0
        self.touched = np.zeros(size, bool)
        self._parts: list[np.ndarray] = []

    def add(self, a: np.ndarray, b: np.ndarray) -> None:
        self.count += len(a)
        other = a != b  # two rows of one image may have one name
        self.touched[a] = self.touched[b] = True
        self._parts.append(np.stack([a[other], b[other]]))
        if sum(part.shape[1] for part in self._parts) > _MOST_LINKS:
            found = self.components()
            self._parts = [np.stack([np.arange(len(found)), np.unique(found, return_index=True)[1][found]])]

    def add_forest(self, roots: np.ndarray, count: int) -> None:
        """Add the links of each row to the root of its tree, int64 (n,), which stand for so many."""
        self.add(np.flatnonzero(roots != np.arange(len(roots))), roots[roots != np.arange(len(roots))])
        self.count = count

    def edges(self) -> np.ndarray:
        return np.concatenate([np.empty((2, 0), np.int64), *self._parts], axis=1)

    def components(self) -> np.ndarray:
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        size, (a, b) = len(self.touched), self.edges()
        found = connected_components(coo_array((np.ones(len(a), bool), (a, b)), (size, size)), directed=False)[1]
        return np.asarray(found, np.int64)


def _different(sha256: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the first row of each different image (n,), and the image of each row (N,)."""
    seen: dict[str, int] = {}
    image = np.asarray([seen.setdefault(digest, len(seen)) for digest in sha256], np.int64)
    return np.unique(image, return_index=True)[1].astype(np.int64), image


def _numbered(labels: np.ndarray) -> np.ndarray:
    """Number groups by their first row."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse.reshape(-1)]


def _standardised(features: RowSource, rows: np.ndarray) -> np.ndarray:
    """Return the rows (n, C): signed square roots, every feature with mean 0 and variance 1, every row of length 1 (or 0)."""
    x = np.asarray(features[rows], np.float32)
    for row in x:  # row by row: no second array
        np.copysign(np.sqrt(np.abs(row)), row, out=row)
    x -= x.mean(axis=0, dtype=np.float64).astype(np.float32)
    scale = np.sqrt(np.einsum("ij,ij->j", x, x) / max(len(x), 1))
    x /= np.maximum(scale, max(LEAST_SCALE * scale.max(initial=0), np.finfo(np.float32).tiny))
    length = np.sqrt(np.einsum("ij,ij->i", x, x))
    x /= np.where(length > 0, length, 1)[:, None]
    return x


def _bounds(some: np.ndarray, count: int) -> tuple[float, float]:
    """Return the least cosine for re-encoded, and for near: the stated ones, or more where chance would reach them.

    ``some`` are up to 2,000 of ``count`` standardised rows.

    The spread σ of the cosines, median/0.6745, is that of directions of 1/σ² dimensions: 0.11 to 0.13 for photos, whose bounds
    hold; 0.35 for random networks, whose bounds rise to 0.87 and 0.99.
    """
    from scipy.special import betaincinv

    if len(some) < 2:
        return 1.0, 1.0
    spread = float(np.median(np.abs((some @ some.T)[np.triu_indices(len(some), 1)]))) / 0.6745
    dims = max(2.0, 1 / max(spread, 1e-6) ** 2)

    def by_chance(probability: float) -> float:
        """Invert P(cosine > c) = I(1 - c²; (dims - 1)/2, 1/2) / 2, for directions that are evenly spread."""
        return float(np.sqrt(1 - betaincinv((dims - 1) / 2, 0.5, min(1.0, 2 * probability))))

    pairs = count * (count - 1) / 2
    return max(LEAST_COSINE, by_chance(_CHANCE_OF_A_PAIR)), max(NEAR_COSINE, by_chance(_CHANCE_ANYWHERE / pairs))


def _compare(phash: np.ndarray | None, x: np.ndarray | None, sample: Sequence[int], links: Mapping[str, _Links]) -> None:
    """Compare every image with every other one, and note the links."""
    if x is None and phash is None:
        return
    least, near = (0.0, 2.0) if x is None else _bounds(x[list(sample)], len(x))
    signs = None if phash is None else _signs(phash)
    # of 64 signs, d of which differ, the product is 64 - 2 d
    alike = 64 - 2 * (_ALONE_BITS if x is None else MOST_BITS) - 0.5
    size = len(x) if x is not None else len(signs)  # type: ignore[arg-type]
    for i in range(0, size, _BLOCK):
        for j in range(i, size, _BLOCK):
            above = np.triu if i == j else lambda found, _: found
            cosine = None if x is None else x[i : i + _BLOCK] @ x[j : j + _BLOCK].T
            hashed = None
            if signs is not None:
                hashed = above(signs[i : i + _BLOCK] @ signs[j : j + _BLOCK].T > alike, 1)
                if cosine is not None:
                    hashed &= cosine >= least
                a, b = np.nonzero(hashed)
                links["re-encoded"].add(a + i, b + j)
            if cosine is not None:
                close = above(cosine >= near, 1)
                a, b = np.nonzero(close if hashed is None else close & ~hashed)
                links["near"].add(a + i, b + j)


def _look_up(
    phash: np.ndarray | None, features: RowSource | None, first: np.ndarray, order: np.ndarray, links: Mapping[str, _Links]
) -> None:
    """Note the links that an index finds: the same ones for the hashes, and almost all for the features.

    ``order`` holds the images by the digest of their content, so that their order here decides nothing.
    """
    from ffe.splits.near_index import near_hashes, near_rows

    whole = None if features is None else whole_rows(features, first)
    bounds = (0.0, 2.0) if whole is None else _bounds(whole.unit(order[:_SAMPLE]), len(first))
    # the last digits of a product depend on the processor; of what lacks to 1, so that no bound becomes 1
    least, near = (1 - float(f"{1 - bound:.4g}") for bound in bounds)
    hashes = np.zeros(len(first), np.uint64) if phash is None else phash
    re_encoded = near_hashes(hashes, _ALONE_BITS if whole is None else MOST_BITS, order, whole, least)
    links["re-encoded"].add_forest(re_encoded.roots, re_encoded.count)
    if whole is not None:
        close = near_rows(whole, near, hashes, MOST_BITS, re_encoded.roots, order)
        links["near"].add_forest(close.roots, close.count)


def _signs(phash: np.ndarray) -> np.ndarray:
    """Return the bits of the hashes as float32 (n, 64) of ±1, and of unknown ones as 0."""
    bits = np.unpackbits(np.ascontiguousarray(phash, ">u8").view(np.uint8).reshape(-1, 8), axis=1)
    return np.where(phash[:, None] == 0, 0, bits * np.float32(2) - 1).astype(np.float32)
