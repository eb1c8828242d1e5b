"""Pooled rows and their inner products, computed once for all trials that use them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

import numpy as np

from ffe.base.system import free_memory
from ffe.heads.svm import inner_products
from ffe.heads.transform import FeatureMap

_KEPT_SHARE = 0.2  # of the free memory, for arrays that several trials share
_KEPT_AT_LEAST, _KEPT_AT_MOST = 256 << 20, 2 << 30


class KernelCache:
    """What several trials share; the arrays used last are kept, up to a fifth of the memory that is free, and 2 GiB."""

    def __init__(self, features: np.ndarray) -> None:
        self._features = features
        self._kept: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self._lock = threading.RLock()
        self._limit = min(max(_KEPT_AT_LEAST, int(free_memory() * _KEPT_SHARE)), _KEPT_AT_MOST)

    def rowwise(self, feature_map: FeatureMap) -> np.ndarray:
        """Return float32 (N, d): the half of the map that needs no fitting, of all rows."""
        if feature_map.leaves_rows:
            return self._features
        scaling = "none" if feature_map.scaling == "standard" else feature_map.scaling
        return self._keep(("rows", feature_map.pooling, feature_map.parts, scaling), lambda: feature_map.rowwise(self._features))

    def products(self, feature_map: FeatureMap) -> np.ndarray:
        """Return the Gram matrix float64 (N, N) of ``rowwise``."""
        key = ("products", feature_map.pooling, feature_map.parts, feature_map.scaling)
        return self._keep(key, lambda: inner_products(self.rowwise(feature_map)))

    def row_sums(self, feature_map: FeatureMap) -> np.ndarray:
        """Return float64 (N,): the sum of each row of ``rowwise``."""
        key = ("sums", feature_map.pooling, feature_map.parts, feature_map.scaling)
        return self._keep(key, lambda: self.rowwise(feature_map).sum(axis=1, dtype=np.float64))

    def _keep(self, key: tuple[Any, ...], make: Any) -> np.ndarray:
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                found = self._kept[key] = make()
            self._kept.move_to_end(key)
            while sum(array.nbytes for array in self._kept.values()) > self._limit and len(self._kept) > 1:
                self._kept.popitem(last=False)
            return found
