"""Random forest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from ffe.heads.base import Validation
from ffe.heads.feature_map import POOLING, FeatureMap
from ffe.heads.space import Parameter


class ForestHead:
    """scikit-learn's ``RandomForestClassifier``; trees need no scaling.

    The fitted trees are kept as one table of nodes and walked with numpy.
    """

    name: ClassVar[str] = "forest"
    random: ClassVar[bool] = True
    parallel: ClassVar[bool] = True
    space: ClassVar[tuple[Parameter, ...]] = (
        POOLING,
        Parameter("trees", 200, (100, 200, 400)),
        Parameter("max_features", "sqrt", ("sqrt", "log2", "0.05")),
        Parameter("min_samples_leaf", 1, (1, 2, 4)),
    )

    def __init__(self, parameters: Mapping[str, Any], grid: tuple[int, int, int]) -> None:
        self.parameters = dict(parameters)
        self._map = FeatureMap(parameters["pooling"], "none", grid)

    def fit(
        self,
        features: np.ndarray,
        labels: np.ndarray,
        classes: int,
        *,
        seed: int = 0,
        validation: Validation | None = None,
    ) -> Self:
        """Fit; see ``ffe.heads.base.Head.fit``. The validation rows are not used."""
        from sklearn.ensemble import RandomForestClassifier

        share = self.parameters["max_features"]
        model = RandomForestClassifier(
            n_estimators=self.parameters["trees"],
            max_features=share if share in {"sqrt", "log2"} else float(share),
            min_samples_leaf=self.parameters["min_samples_leaf"],
            n_jobs=-1,
            random_state=seed,
        ).fit(self._map.transform(features), labels)
        trees = [estimator.tree_ for estimator in model.estimators_]
        starts = np.cumsum([0, *(tree.node_count for tree in trees)])
        self._roots = starts[:-1].astype(np.int64)
        offsets = np.repeat(self._roots, [tree.node_count for tree in trees])
        children = np.concatenate([np.stack([tree.children_left, tree.children_right], 1) for tree in trees])
        # a leaf is its own child, so that a walk may go on past it
        nodes = np.arange(len(children))
        self._children = np.where(children < 0, nodes[:, None], children + offsets[:, None]).astype(np.int32)
        self._feature = np.concatenate([np.maximum(tree.feature, 0) for tree in trees]).astype(np.int32)
        self._threshold = np.concatenate([tree.threshold for tree in trees])
        values = np.concatenate([tree.value[:, 0, :] for tree in trees])
        self._shares = (values / values.sum(axis=1, keepdims=True)).astype(np.float32)
        self._depth = max(tree.max_depth for tree in trees)
        return self

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Return float64 (N, classes); see ``ffe.heads.base.Head.predict_proba``."""
        x = self._map.transform(features)
        nodes: np.ndarray = np.broadcast_to(self._roots, (len(x), len(self._roots)))
        rows = np.arange(len(x))[:, None]
        for _ in range(self._depth):
            right = x[rows, self._feature[nodes]] > self._threshold[nodes]
            nodes = self._children[nodes, right.astype(np.int8)]
        shares = self._shares[nodes].mean(axis=1, dtype=np.float64)
        return shares / shares.sum(axis=1, keepdims=True)

    def found(self) -> dict[str, Any]:
        """Nothing is found by the fit."""
        return {}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the table of n nodes.

        ``roots`` int64 (trees,); ``children`` int32 (n, 2); ``feature`` int32
        (n,); ``threshold`` float64 (n,), left if not above it; ``shares``
        float32 (n, classes); ``depth`` int64 ().
        """
        return {
            "roots": self._roots,
            "children": self._children,
            "feature": self._feature,
            "threshold": self._threshold,
            "shares": self._shares,
            "depth": np.asarray(self._depth, np.int64),
        }

    @classmethod
    def from_arrays(cls, parameters: Mapping[str, Any], grid: tuple[int, int, int], arrays: Mapping[str, np.ndarray]) -> Self:
        """Rebuild a fitted head."""
        head = cls(parameters, grid)
        head._roots, head._children = arrays["roots"], arrays["children"]
        head._feature, head._threshold = arrays["feature"], arrays["threshold"]
        head._shares, head._depth = arrays["shares"], int(arrays["depth"])
        return head
