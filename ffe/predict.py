"""Image -> backbone -> head -> class."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from ffe.bundle.io import Bundle
from ffe.engines.base import Engine
from ffe.engines.choose import open_engine, open_saved_engine
from ffe.errors import DecodeError
from ffe.evaluation.calibration import with_temperature
from ffe.evaluation.selection import check_threshold, sure
from ffe.extraction.pipeline import ImageFeatures, Pipeline
from ffe.images.limits import MAX_BYTES, MAX_PIXELS, Limits
from ffe.images.stream import ImageStream

_USUAL_BATCH = 32
_AHEAD_BATCHES = 4  # few, so that the first answers come while a long list is still being read


@dataclass(frozen=True)
class Prediction:
    """The answer for one image.

    Attributes:
        path: the image, as it was named.
        label: the most probable class; None if the image could not be read.
        sure: whether its probability reaches the threshold of the reject option; False on error.
        probabilities: by class name, in [0, 1], summing to 1; empty on error.
        error: why there is no answer, or None.
    """

    path: str
    label: str | None
    sure: bool
    probabilities: dict[str, float]
    error: str | None

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dict(vars(self))


class Predictor:
    """Predicts with a bundle: the decode, the scaling and the backbone are those that it records.

    Args:
        bundle: a ``.ffe`` file.
        weights: where the backbone's weights are, if the bundle was written
            without its backbone: ``imagenet`` (looked for), or a path.
        engine: ``auto``, ``keras`` or ``openvino``.
        batch_size: images in one call of the backbone; None = the engine's own choice.
        workers: threads that decode; None = one per core, more where files come slowly.
        reject: answers whose best probability is below this are not ``sure``,
            in [0, 1); 0 = all are; None = what the model was tuned with.
        max_pixels, max_bytes: files with more are refused; see ``ffe.images.limits``.

    Raises:
        BundleError: the file cannot be used.
        SpecError: ``reject`` or a limit is out of range.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str],
        *,
        weights: str = "imagenet",
        engine: str = "auto",
        batch_size: int | None = None,
        workers: int | None = None,
        reject: float | None = None,
        max_pixels: int = MAX_PIXELS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.limits = Limits(max_pixels, max_bytes)
        wanted = None if reject is None else check_threshold(reject)
        self.bundle = Bundle(bundle)
        self.reject = self.bundle.manifest.reject if wanted is None else wanted
        self.class_names = self.bundle.manifest.class_names
        self.head = self.bundle.head()
        self._weights = weights
        self.batch_size = batch_size
        self.workers = workers
        self._engine_name = engine
        self._engine: Engine | None = None
        self._blas: ThreadpoolController | None = None

    def predict(self, images: Iterable[str | os.PathLike[str]]) -> Iterator[Prediction]:
        """Yield a prediction for every image file, in order; memory stays flat.

        An image that cannot be read gives a prediction with ``error``, and no
        exception.

        Raises:
            WeightsError: the bundle has no backbone, and its weights are not on this machine.
        """
        names: dict[int, str] = {}

        def files() -> Iterator[Path]:
            for index, image in enumerate(images):
                names[index] = os.fspath(image)
                yield Path(image)

        yield from self._predict(files(), names)

    def predict_bytes(self, images: Iterable[bytes]) -> list[Prediction]:
        """Return predictions for the contents of image files; ``path`` is ``-``."""
        contents = list(images)
        return list(self._predict(iter(contents), dict.fromkeys(range(len(contents)), "-")))

    def features(self, images: Iterable[str | os.PathLike[str]]) -> np.ndarray:
        """Return float32 (N, D), the same features that extraction stores.

        Raises:
            DecodeError: one of the images cannot be read.
        """
        rows = []
        names = [os.fspath(image) for image in images]
        for batch in self._compute(Path(name) for name in names):
            for item in batch:
                if item.error is not None:
                    raise DecodeError(item.error.reason, f"'{names[item.index]}' cannot be read: {item.error}.")
                rows.append(item.features)
        return np.stack(rows) if rows else np.empty((0, math.prod(self.bundle.manifest.grid)), np.float32)  # type: ignore[arg-type]

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return float64 (N, K), what the model says of features: the head's probabilities with the model's temperature.

        Args:
            features: float32 (N, D), of the bundle's spec.
        """
        return with_temperature(self.head.predict_proba(features), self.bundle.manifest.temperature)

    def _predict(self, files: Iterator[Path | bytes], names: dict[int, str]) -> Iterator[Prediction]:
        for batch in self._compute(files):
            good = [item.features for item in batch if item.features is not None]
            rows = self._ask_head(np.stack(good)) if good else np.empty((0, len(self.class_names)))
            answers = zip(rows, sure(rows, self.reject).tolist(), strict=True)
            for item in batch:
                name = names.pop(item.index)
                if item.features is None:
                    yield Prediction(name, None, False, {}, str(item.error))
                    continue
                row, is_sure = next(answers)
                probabilities = dict(zip(self.class_names, row.tolist(), strict=True))
                yield Prediction(name, self.class_names[int(row.argmax())], is_sure, probabilities, None)

    def _ask_head(self, features: np.ndarray) -> np.ndarray:
        """Ask the head on one core: threads that wait for small products take cores from the backbone."""
        if self._blas is None:
            self._blas = ThreadpoolController()
        with self._blas.limit(limits=1, user_api="blas"):
            return self.probabilities(features)

    def _compute(self, files: Iterable[Path | bytes]) -> Iterator[list[ImageFeatures]]:
        spec = self.bundle.manifest.spec
        size, how = spec.preprocess.size, spec.preprocess.decode
        with ImageStream(files, size, how=how, workers=self.workers, limits=self.limits) as images:
            images.ahead = min(images.ahead, _AHEAD_BATCHES * (self.batch_size or _USUAL_BATCH))
            yield from Pipeline(images, self.engine, batch_size=self.batch_size, dtype=spec.dtype)

    def engine(self) -> Engine:
        """Return the backbone on its engine; opened when first asked for."""
        if self._engine is None:
            spec, bundle = self.bundle.manifest.spec, self.bundle
            if bundle.has_backbone:
                self._engine = open_saved_engine(
                    spec, ir=bundle.ir(), keras_file=bundle.keras_file, name=self._engine_name, batch_size=self.batch_size
                )
            else:
                from ffe.extraction.plan import weights_of

                found = weights_of(spec, self._weights)
                self._engine = open_engine(spec, found, name=self._engine_name, batch_size=self.batch_size)
        return self._engine
