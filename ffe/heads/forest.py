"""Random forest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from ffe.base.feature_layout import FeatureLayout
from ffe.errors import HeadError
from ffe.heads.base import FitData, Head, SearchSize, Settings, sklearn_weights
from ffe.heads.search_space import Parameter
from ffe.heads.transform import POOLING, stored

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestClassifier

_AXES = {"roots": 1, "children": 2, "feature": 1, "threshold": 1, "shares": 2}  # of each array of a table of trees
_BLOCK_VALUES = 1 << 22  # answers of trees for classes that are held at once, 16 MiB
_MOST_DEPTH = 100_000  # a walk takes so many steps, whatever the nodes say


class ForestHead(Head):
    """scikit-learn's ``RandomForestClassifier``, kept as one table of nodes that numpy walks; trees need no scaling."""

    name: ClassVar[str] = "forest"
    random: ClassVar[bool] = True
    least_seconds: ClassVar[float] = 0.1
    space: ClassVar[tuple[Parameter, ...]] = (
        POOLING,
        Parameter("trees", 200, (100, 200, 400)),
        Parameter("max_features", "sqrt", ("sqrt", "log2", "0.05")),
        Parameter("min_samples_leaf", 1, (1, 2, 4)),
    )

    further_trials: ClassVar[int] = 0
    trials_at_once: ClassVar[int] = 1

    @classmethod
    def first_trials(cls, rows: int, layout: FeatureLayout) -> list[Settings]:
        """Return a single set: a forest is slow, and seldom wins; see ``Head``."""
        return [{"trees": 100}]

    @classmethod
    def fit_seconds(cls, size: SearchSize) -> float:
        """Return about how long one fit takes; see ``Head``."""
        return float(3e-7 * 150 * size.fit_rows * np.log2(size.fit_rows + 1) * np.sqrt(size.dims) / size.cores)

    def fit_rowwise(self, x: np.ndarray, data: FitData) -> Self:
        """Fit on mapped rows; see ``Head``."""
        model = new_forest(self.parameters, data.seed, data.class_weights).fit(x, data.labels)
        trees = [estimator.tree_ for estimator in model.estimators_]
        counts = [tree.node_count for tree in trees]
        roots = np.cumsum([0, *counts])[:-1].astype(np.int64)
        children = np.concatenate([np.stack([tree.children_left, tree.children_right], 1) for tree in trees])
        nodes, values = np.arange(len(children)), (tree.value[:, 0, :] for tree in trees)
        self._table: dict[str, np.ndarray] = {
            "roots": roots,
            # a leaf is its own child, so that a walk may go on past it
            "children": np.where(children < 0, nodes[:, None], children + np.repeat(roots, counts)[:, None]).astype(np.int32),
            "feature": np.concatenate([np.maximum(tree.feature, 0) for tree in trees]).astype(np.int32),
            "threshold": np.concatenate([tree.threshold for tree in trees]),
            "shares": np.concatenate([(own / own.sum(axis=1, keepdims=True)).astype(np.float32) for own in values]),
            "depth": np.asarray(max(tree.max_depth for tree in trees), np.int64),
        }
        return self

    def proba_rowwise(self, x: np.ndarray) -> np.ndarray:
        """Return float64 (N, classes) for mapped rows; see ``Head``."""
        table, classes = self._table, self._table["shares"].shape[1]
        shares = np.empty((len(x), classes))
        step = max(1, _BLOCK_VALUES // (len(table["roots"]) * classes))
        for start in range(0, len(x), step):
            block = x[start : start + step]
            rows = np.arange(len(block))[:, None]
            nodes: np.ndarray = np.broadcast_to(table["roots"], (len(block), len(table["roots"])))
            for _ in range(int(table["depth"])):
                right = block[rows, table["feature"][nodes]] > table["threshold"][nodes]
                nodes = table["children"][nodes, right.astype(np.int8)]
            shares[start : start + step] = table["shares"][nodes].mean(axis=1, dtype=np.float64)
        return shares / shares.sum(axis=1, keepdims=True)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the table of n nodes; threshold: left if not above it; roots (trees,)."""
        return self._table

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take back what ``arrays`` returned."""
        self._table = {name: stored(arrays, name, axes) for name, axes in _AXES.items()} | {"depth": arrays["depth"]}
        roots, children = self._table["roots"], self._table["children"]
        nodes = len(self._table["feature"])
        sound = 0 <= int(arrays["depth"]) <= min(nodes, _MOST_DEPTH) and min(children.min(), roots.min()) >= 0
        sound = sound and max(children.max(), roots.max()) < nodes
        if not sound or any(len(self._table[name]) != nodes for name in ("children", "threshold", "shares")):
            raise HeadError("The trees of this forest are damaged; make the model again.")


def new_forest(parameters: Mapping[str, Any], seed: int, class_weights: np.ndarray | None) -> RandomForestClassifier:
    """Return the unfitted forest of scikit-learn that has the parameters of a head."""
    from sklearn.ensemble import RandomForestClassifier

    share = parameters["max_features"]
    return RandomForestClassifier(
        n_estimators=parameters["trees"],
        max_features=share if share in {"sqrt", "log2"} else float(share),
        min_samples_leaf=parameters["min_samples_leaf"],
        class_weight=sklearn_weights(class_weights),
        random_state=seed,
        n_jobs=-1,
    )
