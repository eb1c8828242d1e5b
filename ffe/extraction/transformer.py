"""Feature extraction as a step of a scikit-learn pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from ffe.engines.base import Engine
from ffe.engines.choose import open_engine
from ffe.errors import DecodeError
from ffe.extraction.pipeline import Pipeline
from ffe.extraction.plan import make_spec
from ffe.images.limits import MAX_BYTES, MAX_PIXELS, Limits
from ffe.images.stream import ImageStream
from ffe.specs import Decode


class FeatureExtractor(TransformerMixin, BaseEstimator):
    """A scikit-learn transformer from image paths to features.

    Args:
        backbone: a name of ``ffe backbones``.
        size: input side in pixels; None = the backbone's default.
        weights: ``imagenet``, ``random`` (untrained), or a path.
        layer: name of the layer whose output is taken; None = the last.
        batch_size: images in one call of the backbone; None = the engine's own choice.
        workers: threads that decode; None = one per core, more where files come slowly.
        decode: ``exact``, or ``fast`` for JPEG files; see ``ffe.images.fast``.
        max_pixels, max_bytes: files with more are refused; see ``ffe.images.limits``.
    """

    def __init__(
        self,
        backbone: str = "vgg19",
        size: int | None = None,
        weights: str = "imagenet",
        layer: str | None = None,
        batch_size: int | None = None,
        workers: int | None = None,
        decode: Decode = "exact",
        max_pixels: int = MAX_PIXELS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.backbone = backbone
        self.size = size
        self.weights = weights
        self.layer = layer
        self.batch_size = batch_size
        self.workers = workers
        self.decode = decode
        self.max_pixels = max_pixels
        self.max_bytes = max_bytes

    def fit(self, X: Sequence[str | Path], y: Any = None) -> Self:  # noqa: N803 (scikit-learn's name)
        """Build the backbone; there is nothing to learn from ``X``.

        Raises:
            BackboneError, WeightsError: the backbone cannot be had.
        """
        self.spec_, found = make_spec(self.backbone, self.size, self.weights, self.layer, decode=self.decode)
        self.engine_: Engine = open_engine(self.spec_, found, batch_size=self.batch_size)
        self.n_features_out_ = int(np.prod(self.engine_.grid))
        return self

    def transform(self, X: Sequence[str | Path]) -> np.ndarray:  # noqa: N803
        """Return float32 (N, D), a row for every path.

        Raises:
            DecodeError: one of the files is no picture; the message names it.
        """
        if not hasattr(self, "engine_"):
            self.fit(X)
        rows = []
        files = (Path(path) for path in X)
        limits = Limits(self.max_pixels, self.max_bytes)
        with ImageStream(files, self.spec_.preprocess.size, how=self.decode, workers=self.workers, limits=limits) as images:
            for batch in Pipeline(images, lambda: self.engine_, batch_size=self.batch_size):
                for item in batch:
                    if item.error is not None or item.features is None:
                        reason = item.error.reason if item.error is not None else "unreadable"
                        raise DecodeError(reason, f"'{X[item.index]}' cannot be decoded: {item.error}; remove it from the list.")
                    rows.append(item.features)
        return np.stack(rows) if rows else np.empty((0, self.n_features_out_), np.float32)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "engine_")
