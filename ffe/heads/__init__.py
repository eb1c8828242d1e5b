"""Heads: small classifiers on stored features. A new one is a file with a subclass of ``Head``, and its entry here.

A fitted head is a handful of arrays and predicts with numpy alone.
"""

from __future__ import annotations

from ffe.base.text import did_you_mean
from ffe.errors import HeadError
from ffe.heads.base import Head
from ffe.heads.dense import DenseHead
from ffe.heads.forest import ForestHead
from ffe.heads.logistic import LogisticHead
from ffe.heads.svm import SvmHead

HEADS: dict[str, type[Head]] = {head.name: head for head in (SvmHead, LogisticHead, DenseHead, ForestHead)}


def find_head(name: str) -> type[Head]:
    """Return the class of a head that can be searched; a model may be an ensemble too: ``ffe.heads.ensemble.head_class``.

    Raises:
        HeadError: there is no such head.
    """
    if name == "ensemble":
        raise HeadError("An ensemble is made of the heads that a search found; ask for one with 'ffe tune --ensemble 3'.")
    if name not in HEADS:
        raise HeadError(f"There is no head '{name}'; choose from {', '.join(HEADS)}.{did_you_mean(name, HEADS)}")
    return HEADS[name]
