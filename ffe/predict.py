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
from ffe.errors import BundleError, DecodeError, SpecError
from ffe.evaluation.calibration import with_temperature
from ffe.evaluation.selection import check_threshold, sure
from ffe.extraction.pipeline import ImageFeatures, Pipeline
from ffe.extraction.stages import Stages
from ffe.images.augment_text import parse_augment
from ffe.images.limits import MAX_BYTES, MAX_PIXELS, Limits
from ffe.images.names import on_disk
from ffe.images.stream import ImageStream
from ffe.specs import AugmentSpec, ViewsSpec

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


def _views(bundle: Bundle, tta: int, augment: str | AugmentSpec | None) -> ViewsSpec | None:
    """Return the views that a prediction averages, or None."""
    if tta == 0:
        if augment is not None:
            raise SpecError("--augment says how views differ, but none are averaged; add --tta 4, for example.")
        return None
    asked = parse_augment(augment) if isinstance(augment, str) else augment
    spec = asked or bundle.manifest.augment
    if spec is None:
        raise SpecError(
            f"The features of '{bundle.path}' had no views, so --tta cannot tell how views are to differ; "
            "add --augment flip,zoom=0.8-1.2, for example."
        )
    return ViewsSpec(tta, spec)


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
        tta: views of each picture to ask about too; the answer is the mean of
            the probabilities of the picture and of its views. They depend on
            its content alone.
        augment: how the views differ, as ``--augment`` takes it; None = as those
            that the model was made from, or as images changed while it was trained.

    Raises:
        BundleError: the file cannot be used.
        SpecError: ``reject`` or a limit is out of range, or nothing says how views differ.
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
        tta: int = 0,
        augment: str | AugmentSpec | None = None,
    ) -> None:
        self.limits = Limits(max_pixels, max_bytes)
        wanted = None if reject is None else check_threshold(reject)
        self.bundle = Bundle(bundle)
        self.views = _views(self.bundle, tta, augment)
        self.reject = self.bundle.manifest.reject if wanted is None else wanted
        self.class_names = self.bundle.manifest.class_names
        self.head = self.bundle.head()
        self._weights = weights
        self.batch_size = batch_size
        self.workers = workers
        self._engine_name = engine
        self._engine: Engine | None = None
        self._pipeline: Pipeline | None = None
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
                yield on_disk(Path(image))

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

    def answers(self, files: Iterable[Path | bytes]) -> Iterator[list[tuple[ImageFeatures, np.ndarray | None]]]:
        """Yield what the model says of pictures, in order, batch by batch.

        Args:
            files: paths, or the contents of image files.

        Returns:
            For each file what became of it, and float64 (K,): the probabilities,
            with ``tta`` the mean of those of its views; None where it could not be read.
        """
        asked: list[np.ndarray] = []  # of one picture; its views may end in the next batch
        for batch in self._compute(files, self.views):
            good = [item.features for item in batch if item.features is not None]
            rows = iter(self._ask_head(np.stack(good)) if good else ())
            found: list[tuple[ImageFeatures, np.ndarray | None]] = []
            for item in batch:
                if item.features is None:
                    found.append((item, None))
                    continue
                asked.append(next(rows))
                if self.views is None or item.view == self.views.count:
                    found.append((item, np.mean(asked, axis=0) if len(asked) > 1 else asked[0]))
                    asked = []
            yield found

    def _predict(self, files: Iterator[Path | bytes], names: dict[int, str]) -> Iterator[Prediction]:
        for batch in self.answers(files):
            for item, row in batch:
                name = names.pop(item.index)
                if row is None:
                    yield Prediction(name, None, False, {}, str(item.error))
                    continue
                probabilities = dict(zip(self.class_names, row.tolist(), strict=True))
                is_sure = bool(sure(row[None], self.reject)[0])
                yield Prediction(name, self.class_names[int(row.argmax())], is_sure, probabilities, None)

    def _ask_head(self, features: np.ndarray) -> np.ndarray:
        """Ask the head on one core: threads that wait for small products take cores from the backbone."""
        if self._blas is None:
            self._blas = ThreadpoolController()
        with self._blas.limit(limits=1, user_api="blas"):
            return self.probabilities(features)

    def _compute(self, files: Iterable[Path | bytes], views: ViewsSpec | None = None) -> Iterator[list[ImageFeatures]]:
        spec = self.bundle.manifest.spec
        wanted = range(1 if views is None else 1 + views.count)
        images = ImageStream(
            files,
            spec.preprocess.size,
            how=spec.preprocess.decode,
            workers=self.workers,
            limits=self.limits,
            views=lambda index: wanted,
            augment=None if views is None else views.augment,
        )
        with images:
            images.ahead = max(2, min(images.ahead, _AHEAD_BATCHES * (self.batch_size or _USUAL_BATCH)) // len(wanted))
            self._pipeline = Pipeline(images, self.engine, batch_size=self.batch_size, dtype=spec.dtype)
            yield from self._pipeline

    @property
    def stages(self) -> Stages:
        """Where the time of the last pictures went."""
        return Stages() if self._pipeline is None else self._pipeline.stages

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
            if self._engine.grid != bundle.manifest.grid:
                raise BundleError(
                    f"The backbone in the model file '{bundle.path}' gives other features than its head takes; make it again."
                )
        return self._engine
