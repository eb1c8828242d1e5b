"""Image -> backbone -> head -> class."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ffe.base.blas import one_blas_thread
from ffe.bundle.io import Bundle
from ffe.engines.base import Engine
from ffe.engines.factory import open_engine, open_saved_engine
from ffe.engines.fused import FusedEngine
from ffe.errors import BundleError, SpecError
from ffe.evaluation.reject import above_threshold, check_threshold
from ffe.evaluation.temperature import with_temperature
from ffe.extraction.batch_size import check_batch
from ffe.extraction.pipeline import ImageFeatures, Pipeline, feature_rows, noting
from ffe.extraction.stage_times import Stages
from ffe.images.augment_text import parse_augment
from ffe.images.image_handle import ImageFile
from ffe.images.input_files import Picture, named_images
from ffe.images.limits import MAX_BYTES, MAX_PIXELS, Limits, Truncated
from ffe.images.loader import ImageStream
from ffe.specs import AugmentSpec, ExtractSpec, ViewsSpec

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


@dataclass(frozen=True)
class PredictOptions:
    """What a ``Predictor`` is asked for; its docstring says what each option means."""

    weights: str = "imagenet"
    engine: str = "auto"
    batch_size: int | None = None
    workers: int | None = None
    reject: float | None = None
    max_pixels: int = MAX_PIXELS
    max_bytes: int = MAX_BYTES
    truncated: Truncated = "skip"
    tta: int = 0
    augment: str | AugmentSpec | None = None
    limits: Limits = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "limits", Limits(self.max_pixels, self.max_bytes, self.truncated))
        if self.reject is not None:
            object.__setattr__(self, "reject", check_threshold(self.reject))


class Predictor:
    """Predicts with a bundle: the decode, the scaling and the backbone are those that it records.

    It can be pickled and copied: the copy opens the same file. In a process that
    was forked after it had been used, OpenVINO is set up anew; TensorFlow cannot
    be, and says so.

    Args:
        bundle: a ``.ffe`` file, or one that is open.
        weights: where the backbone's weights are, if the bundle was written
            without its backbone: ``imagenet`` (looked for), or a path.
        engine: ``auto``, ``keras``, ``openvino`` or ``torch``; see ``ffe.extract``.
        batch_size: images in one call of the backbone; None = the engine's own choice.
        workers: threads that decode; None = one per core, more where files come slowly.
        reject: answers whose best probability is below this are not ``sure``,
            in [0, 1); 0 = all are; None = what the model was tuned with.
        max_pixels, max_bytes, truncated: files with more, or cut off, are refused; see ``ffe.images.limits``.
        tta: views of each picture to ask about too; the answer is the mean of
            the probabilities of the picture and of its views. They depend on
            its content alone.
        augment: how the views differ, as ``--augment`` takes it; None = as those
            that the model was made from, or as images changed while it was trained.

    Raises:
        BundleError: the file cannot be used.
        SpecError: ``reject`` or a limit is out of range, the batch does not fit into memory, or nothing says how
            views differ.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] | Bundle,
        *,
        weights: str = "imagenet",
        engine: str = "auto",
        batch_size: int | None = None,
        workers: int | None = None,
        reject: float | None = None,
        max_pixels: int = MAX_PIXELS,
        max_bytes: int = MAX_BYTES,
        truncated: Truncated = "skip",
        tta: int = 0,
        augment: str | AugmentSpec | None = None,
    ) -> None:
        self._open(bundle, PredictOptions(**{k: v for k, v in locals().items() if k not in {"self", "bundle"}}))

    def _open(self, bundle: str | os.PathLike[str] | Bundle, options: PredictOptions) -> None:
        self._options = options
        self.limits, self.batch_size, self.workers = options.limits, options.batch_size, options.workers
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle(bundle)
        for spec, _ in self.bundle.manifest.backbones:
            check_batch(options.batch_size, spec.preprocess.size)
        self.views = _views(self.bundle, options.tta, options.augment)
        self.reject = self.bundle.manifest.reject if options.reject is None else options.reject
        self.class_names = self.bundle.manifest.class_names
        self.head = self.bundle.head()
        self._engine: Engine | None = None
        self._pipeline: Pipeline | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"bundle": str(self.bundle.absolute.resolve()), "sha256": self.bundle.sha256, "options": self._options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._open(state["bundle"], state["options"])
        if self.bundle.sha256 != state["sha256"]:
            raise BundleError(f"'{self.bundle.path}' is another model than the one that was pickled; open it with ffe.Predictor.")

    def predict(self, images: Picture | Iterable[Picture]) -> Iterator[Prediction]:
        """Yield a prediction for every picture, in order; memory stays flat.

        A picture that cannot be read gives a prediction with ``error``, and no
        exception.

        Args:
            images: one picture or several: a path, a ``PIL.Image``, uint8 (H, W, 3) in RGB,
                the bytes of an image file, or a file that is open for reading bytes. What
                has no name is called ``-``.

        Raises:
            SourceError: something else is given.
            WeightsError: the bundle has no backbone, and its weights are not on this machine.
        """
        names: dict[int, str] = {}
        return self._predict(noting(named_images(images, self.limits.bytes), names), names)

    def predict_bytes(self, images: Iterable[bytes]) -> list[Prediction]:
        """Return predictions for the contents of image files; ``path`` is ``-``."""
        return list(self.predict(list(images)))

    def features(self, images: Picture | Iterable[Picture]) -> np.ndarray:
        """Return float32 (N, D), the same features that extraction stores.

        Args:
            images: as ``predict`` takes them.

        Raises:
            SourceError: something else is given.
            DecodeError: one of the images cannot be read.
        """
        names: dict[int, str] = {}
        batches = self._compute(noting(named_images(images, self.limits.bytes), names))
        dims = self.bundle.manifest.layout.dims
        return feature_rows(batches, dims, lambda index, error: f"'{names[index]}' cannot be read: {error}.")

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return float64 (N, K), what the model says of features: the head's probabilities with the model's temperature.

        Args:
            features: float32 (N, D), of the bundle's spec.
        """
        return with_temperature(self.head.predict_proba(features), self.bundle.manifest.temperature)

    def answers(self, files: Iterable[ImageFile | bytes]) -> Iterator[list[tuple[ImageFeatures, np.ndarray | None]]]:
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

    def _predict(self, files: Iterator[ImageFile | bytes], names: dict[int, str]) -> Iterator[Prediction]:
        for batch in self.answers(files):
            for item, row in batch:
                name = names.pop(item.index)
                if row is None:
                    yield Prediction(name, None, False, {}, str(item.error))
                    continue
                probabilities = dict(zip(self.class_names, row.tolist(), strict=True))
                is_sure = bool(above_threshold(row[None], self.reject)[0])
                yield Prediction(name, self.class_names[int(row.argmax())], is_sure, probabilities, None)

    def _ask_head(self, features: np.ndarray) -> np.ndarray:
        """Ask the head on one core: threads that wait for small products take cores from the backbone."""
        with one_blas_thread():
            return self.probabilities(features)

    def _compute(self, files: Iterable[ImageFile | bytes], views: ViewsSpec | None = None) -> Iterator[list[ImageFeatures]]:
        specs = [spec for spec, _ in self.bundle.manifest.backbones]
        wanted = range(1 if views is None else 1 + views.count)
        images = ImageStream(
            files,
            [spec.preprocess for spec in specs],
            workers=self.workers,
            limits=self.limits,
            views=lambda index: wanted,
            augment=None if views is None else views.augment,
        )
        dtype = specs[0].dtype if len(specs) == 1 else "float32"  # several are rounded where they are joined
        with images:
            images.ahead = max(2, min(images.ahead, _AHEAD_BATCHES * (self.batch_size or _USUAL_BATCH)) // len(wanted))
            self._pipeline = Pipeline(images, self.engine, batch_size=self.batch_size, dtype=dtype)
            yield from self._pipeline

    @property
    def stages(self) -> Stages:
        """Where the time of the last pictures went."""
        return Stages() if self._pipeline is None else self._pipeline.stages

    def engine(self) -> Engine:
        """Return the backbone on its engine, or several as one; opened when first asked for."""
        if self._engine is None:
            bundle, specs = self.bundle, [spec for spec, _ in self.bundle.manifest.backbones]
            engines = self._saved_or_found(specs)
            self._engine = engines[0] if len(engines) == 1 else FusedEngine(engines, specs)
            if self._engine.layout != bundle.manifest.layout:
                raise BundleError(
                    f"The backbone in the model file '{bundle.path}' gives other features than its head takes; make it again."
                )
        return self._engine

    def _saved_or_found(self, specs: Sequence[ExtractSpec]) -> list[Engine]:
        """Return an engine for each backbone: out of the model file, or with weights that are looked for."""
        bundle, name, engines = self.bundle, self._options.engine, dict[int, Engine]()
        for number, spec in enumerate(specs):
            if bundle.holds(number):
                file = partial(bundle.keras_file, number)
                engines[number] = open_saved_engine(
                    spec, ir=bundle.ir(number), keras_file=file, name=name, batch_size=self.batch_size
                )
        missing = [number for number in range(len(specs)) if number not in engines]
        if missing:
            from ffe.backbones.resolve import weights_of_each

            found = weights_of_each([specs[number] for number in missing], self._options.weights)
            for number, weights in zip(missing, found, strict=True):
                engines[number] = open_engine(specs[number], weights, name=name, batch_size=self.batch_size)
        return [engines[number] for number in range(len(specs))]
