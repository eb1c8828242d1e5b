"""Probabilities and labels -> an Evaluation. A value: no files, no printing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffe.errors import DataError


@dataclass(frozen=True)
class Evaluation:
    """How well predictions agree with labels.

    Attributes:
        n: rows scored.
        accuracy: share of right answers, in [0, 1].
        balanced_accuracy: mean recall of the classes present, in [0, 1].
        log_loss: mean negative natural logarithm of the probability of the true class.
        auc: area under the ROC curve, in [0, 1]; for more than two classes the
            mean of one against the rest; None where a class is absent.
        confusion: rows true, columns predicted, in the order of class_names.
        precision, recall: per class; None where nothing was predicted, or there was nothing to find.
        class_names: in the order of the labels.
    """

    n: int
    accuracy: float
    balanced_accuracy: float
    log_loss: float
    auc: float | None
    confusion: tuple[tuple[int, ...], ...]
    precision: tuple[float | None, ...]
    recall: tuple[float | None, ...]
    class_names: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dict(vars(self))


def evaluate_probabilities(probabilities: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> Evaluation:
    """Score predictions.

    Args:
        probabilities: float64 (N, K), rows summing to 1.
        labels: int64 (N,), in [0, K).
        class_names: K names.

    Raises:
        DataError: there are no rows, or a label is no class.
    """
    if len(labels) == 0:
        raise DataError("There are no labelled rows to score; give a file or folder with labels.")
    if labels.min() < 0 or labels.max() >= len(class_names):
        raise DataError("Some rows have no label; score labelled rows only.")
    from sklearn.metrics import confusion_matrix, log_loss, roc_auc_score

    classes = range(len(class_names))
    confusion = confusion_matrix(labels, probabilities.argmax(axis=1), labels=list(classes))
    right, true, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    auc = None
    if (true > 0).all():
        scores = probabilities[:, 1] if len(class_names) == 2 else probabilities
        auc = float(roc_auc_score(labels, scores, multi_class="ovr", labels=list(classes)))
    recall = tuple(float(r / t) if t else None for r, t in zip(right, true, strict=True))
    clipped = np.clip(probabilities, 1e-15, 1.0)
    return Evaluation(
        n=len(labels),
        accuracy=float(right.sum() / len(labels)),
        balanced_accuracy=float(np.mean([value for value in recall if value is not None])),
        log_loss=float(log_loss(labels, clipped / clipped.sum(axis=1, keepdims=True), labels=list(classes))),
        auc=auc,
        confusion=tuple(tuple(int(n) for n in row) for row in confusion),
        precision=tuple(float(r / p) if p else None for r, p in zip(right, predicted, strict=True)),
        recall=recall,
        class_names=tuple(class_names),
    )
