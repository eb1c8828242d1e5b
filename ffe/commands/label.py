"""``label``: pictures in; what is on them, in ImageNet's own 1,000 classes, out. No model of one's own is needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ffe.backbones import lite0
from ffe.backbones.catalog import LITE0
from ffe.backbones.resolve import make_spec
from ffe.base.feature_layout import FeatureLayout
from ffe.bundle.io import Bundle
from ffe.bundle.manifest import Manifest
from ffe.errors import SpecError
from ffe.images.input_files import Picture
from ffe.predictor import Prediction, Predictor
from ffe.specs import HeadSpec, spec_digest

TOP = 5


def label(images: Picture | Iterable[Picture], *, top: int = TOP, engine: str = "auto") -> Iterator[Prediction]:
    """Say what is on pictures, in ImageNet's 1,000 classes: with EfficientNet-Lite0 and its own top.

    The first call converts the network, once. A picture that cannot be read
    gives a prediction with ``error``, and no exception.

    Args:
        images: one picture or several, as ``ffe.Predictor.predict`` takes them.
        top: how many classes to name, 1 to 1000.
        engine: ``auto``, ``keras`` or ``openvino``.

    Returns:
        For each picture, in order, a prediction whose ``probabilities`` are those
        of the most probable classes, the best first.

    Raises:
        SpecError: ``top`` is out of range.
        SourceError: something else than pictures is given.
        WeightsError: the package of the weights is not installed.
    """
    return Labeller(top=top, engine=engine).predict(images)


class Labeller(Predictor):
    """Predicts ImageNet's classes, see ``label``; ``options`` are those of ``Predictor``, but for weights, reject and views."""

    def __init__(self, *, top: int = TOP, **options: Any) -> None:
        if not 1 <= top <= 1000:
            raise SpecError(f"The number of classes to name is {top}, but must be 1 to 1000.")
        path = lite0.needed_file()
        super().__init__(_ImageNet(path), weights=str(path), **options)
        self.top = top

    def __getstate__(self) -> dict[str, Any]:
        return {"top": self.top, "options": self._options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.top, path = state["top"], lite0.needed_file()
        self._open(_ImageNet(path), replace(state["options"], weights=str(path)))

    def predict(self, images: Picture | Iterable[Picture]) -> Iterator[Prediction]:
        """Yield a prediction for every picture, with the probabilities of its best classes; see ``Predictor.predict``."""
        for answer in super().predict(images):
            best = sorted(answer.probabilities.items(), key=lambda item: -item[1])[: self.top]
            yield replace(answer, probabilities=dict(best))


class _ImageNet(Bundle):
    """The published network as a model: it lies in no file of ffe's, and its backbone is found by its weights."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sha256 = lite0.SHA256
        self._top = lite0.read_top(path)
        spec, _ = make_spec(LITE0, weights=str(path))
        height, width = (-(-side // 32) for side in spec.preprocess.size)
        self.manifest = Manifest(
            spec=spec,
            spec_digest=spec_digest(spec),
            layout=FeatureLayout.of_shape((height, width, lite0.FEATURES)),
            head=HeadSpec("imagenet", {}),
            class_names=self._top.class_names,
        )

    def head(self) -> Any:
        """Return the network's own top."""
        return self._top
