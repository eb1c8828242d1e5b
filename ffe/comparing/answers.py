"""What a head says of the images that test, from their stored features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ffe.base.text import counted
from ffe.errors import DataError
from ffe.evaluation.temperature import with_temperature
from ffe.heads.base import Head
from ffe.store.reader import FeatureStore


def answers_of(head: Head, factor: float, features: Path, tested: Sequence[str]) -> np.ndarray:
    """Return what a head with its temperature says of m images, known by their SHA-256, by their plain rows: float64 (m, K)."""
    with FeatureStore(features) as store:
        row_of = {store.sha256[i]: i for i in store.plain.tolist()}
        if gone := sum(digest not in row_of for digest in tested):
            raise DataError(
                f"'{features}' lacks {gone} of the {counted(len(tested), 'test image')}: the source changed meanwhile; "
                "run the same command again."
            )
        x = store.features(np.asarray([row_of[digest] for digest in tested], np.int64))
    return with_temperature(head.predict_proba(x), factor)
