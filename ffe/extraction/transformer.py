"""Feature extraction as a step of a scikit-learn pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import InputTags, Tags

from ffe.backbones.catalog import DEFAULT
from ffe.backbones.resolve import make_spec, weights_of
from ffe.backbones.trained import is_model_file
from ffe.engines.base import Engine
from ffe.engines.factory import open_engine
from ffe.extraction.batch_size import check_batch
from ffe.extraction.pipeline import Pipeline, feature_rows, noting
from ffe.extraction.request import named_changes
from ffe.images.input_files import named_images
from ffe.images.limits import MAX_BYTES, MAX_PIXELS, Limits, Truncated
from ffe.images.loader import ImageStream
from ffe.specs import Channels, Decode, Interpolation, Resize


class FeatureExtractor(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """A scikit-learn transformer from images to features.

    A fitted one can be pickled, copied, and saved as a step of a pipeline: the backbone itself is not kept, but found
    again when it is next needed, and its weights must be the same. Names of features, and ``set_output``, are those
    of scikit-learn.

    Args:
        backbone: a name of ``ffe backbones``.
        size: input side in pixels; None = the backbone's default.
        weights: ``imagenet``, ``random`` (untrained), or a path.
        layer: names of the layers whose outputs are taken, joined by commas; None = the last.
        mean, std, resize, crop, interpolation, channels: how pictures are prepared for a backbone that is none of Keras's; None =
            as it says itself. See ``ffe.extract``.
        batch_size: images in one call of the backbone; None = the engine's own choice.
        workers: threads that decode; None = one per core, more where files come slowly.
        decode: ``exact``, or ``fast`` for JPEG files; see ``ffe.images.decode_fast``.
        max_pixels, max_bytes, truncated: files with more, or cut off, are refused; see ``ffe.images.limits``.
    """

    _engine: Engine | None = None

    def __init__(
        self,
        backbone: str = DEFAULT,
        size: int | None = None,
        weights: str = "imagenet",
        layer: str | None = None,
        batch_size: int | None = None,
        workers: int | None = None,
        decode: Decode = "exact",
        max_pixels: int = MAX_PIXELS,
        max_bytes: int = MAX_BYTES,
        truncated: Truncated = "skip",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        resize: Resize | None = None,
        crop: float | None = None,
        interpolation: Interpolation | None = None,
        channels: Channels | None = None,
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
        self.truncated = truncated
        self.mean = mean
        self.std = std
        self.resize = resize
        self.crop = crop
        self.interpolation = interpolation
        self.channels = channels

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803 (scikit-learn's name)
        """Build the backbone; there is nothing to learn from ``X``.

        Raises:
            BackboneError, WeightsError: the backbone cannot be had.
            SpecError: the batch does not fit into memory, or an option has a value that there is not.
        """
        changes = named_changes(self)
        self.spec_, found = make_spec(self.backbone, self.size, self.weights, self.layer, decode=self.decode, changes=changes)
        check_batch(self.batch_size, self.spec_.preprocess.size)
        self._engine = open_engine(self.spec_, found, batch_size=self.batch_size)
        self.n_features_out_ = self._engine.layout.dims
        return self

    def transform(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return float32 (N, D), a row for every image.

        Args:
            X: paths, or what else ``ffe.Predictor.predict`` takes; also as a column (N, 1) of an array or a table.

        Raises:
            SourceError: it is something else.
            DecodeError: one of the files is no picture; the message names it.
            WeightsError: the backbone's weights are not those that it was fitted with.
        """
        if not self.__sklearn_is_fitted__():
            self.fit(X)
        names: dict[int, str] = {}
        limits = Limits(self.max_pixels, self.max_bytes, self.truncated)
        files = noting(named_images(_column(X), limits.bytes), names)
        with ImageStream(files, self.spec_.preprocess, workers=self.workers, limits=limits) as images:
            return feature_rows(
                Pipeline(images, self._opened, batch_size=self.batch_size),
                self.n_features_out_,
                lambda index, error: f"'{names[index]}' cannot be decoded: {error}; remove it from the list.",
            )

    def _opened(self) -> Engine:
        if self._engine is None:  # of a copy
            weights = self.backbone if is_model_file(self.backbone) else self.weights
            self._engine = open_engine(self.spec_, weights_of(self.spec_, weights), batch_size=self.batch_size)
        return self._engine

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_engine"}

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "spec_")

    @property
    def _n_features_out(self) -> int:
        return self.n_features_out_

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags = InputTags(one_d_array=True, string=True)  # two dimensions: a column
        tags.no_validation = True
        tags.transformer_tags.preserves_dtype = []
        return tags


def _column(images: Any) -> Any:
    """Return the one column of a table, or of an array (N, 1), as its values; all else as it is."""
    shape: tuple[int, ...] = getattr(images, "shape", ())
    if len(shape) == 2 and shape[1] == 1:
        return np.asarray(images)[:, 0]
    return images
