"""The int8 model of a run: quantised on a sample of its own images, and held against float32 on others."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ffe.backbones.weights import Weights
from ffe.base.digests import bytes_digest, canonical_json
from ffe.base.openvino_ir import IrModel
from ffe.base.text import counted
from ffe.engines.base import Engine
from ffe.engines.factory import float_model
from ffe.engines.model_cache import cached_or_made, model_key
from ffe.engines.openvino import OpenVinoEngine
from ffe.errors import DecodeError, EngineError, SourceError
from ffe.images.decode import decode, read_image, upright_size
from ffe.images.limits import Limits
from ffe.images.records import UNLABELLED, ImageRecord
from ffe.specs import ExtractSpec, PreprocessSpec

log = logging.getLogger("ffe")

SAMPLE = 80  # images
LEAST_SAMPLE = 20
LEAST_COSINE = 0.95
_RANGES = 0.4  # of them set the ranges of the activations, the others test the outcome
_RECIPE = 1  # goes up when the recipe below comes to make other models
_RIDGE = 1e-2


@dataclass(frozen=True)
class Fidelity:
    """What int8 changed, measured on images that took no part in the quantisation."""

    images: int  # how many
    # mean_cosine, worst_cosine: between the int8 and the float32 features of an image
    mean_cosine: float
    worst_cosine: float
    # int8_accuracy, float32_accuracy: of a linear head, leaving one out in turn; None where there are too few labels
    int8_accuracy: float | None = None
    float32_accuracy: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def fidelity_of(model: IrModel) -> Fidelity:
    """Return what was measured when an int8 model was made."""
    return Fidelity(**model.record["fidelity"])


def quantized_for(
    spec: ExtractSpec,
    weights: Weights,
    records: Sequence[ImageRecord],
    limits: Limits = Limits(),  # noqa: B008 (a frozen value)
) -> IrModel:
    """Return the int8 model of a spec for these images: from the cache, or quantised now.

    The same images, in the same order, which must not depend on the labels, give the same model on one machine. Test and
    validation images take no part. The sample is decoded exactly, so that the model serves both ways of decoding. Too few
    readable images are a SourceError, features that change too much an EngineError.
    """
    key = {"model": model_key(spec), "sample": list(_looked_at(records, limits)), "recipe": _RECIPE}

    def make() -> IrModel:
        from ffe.engines.openvino_convert import quantize

        images, labels = _sample(records, replace(spec.preprocess, decode="exact"), limits)
        count = round(_RANGES * len(images))
        log.info("calibrating int8 on %d images, once; the model is kept for the next time", count)
        plain = float_model(spec, weights)
        with ThreadPoolExecutor(1) as beside:  # NNCF keeps one core busy with its graphs
            expected = beside.submit(lambda: _features(OpenVinoEngine(plain), images[count:]))
            quantized = quantize(plain, images[:count], plain.record)
        found = _features(OpenVinoEngine(quantized), images[count:])
        fidelity = _compare(expected.result(), found, labels[count:])
        return IrModel(quantized.xml, quantized.weights, {**quantized.record, "fidelity": fidelity.to_json()})

    model = cached_or_made(f"{bytes_digest(canonical_json(key))}-int8.zip", make)
    fidelity = fidelity_of(model)
    if not fidelity.mean_cosine >= LEAST_COSINE:
        raise EngineError(
            f"Int8 changes the features of '{spec.backbone.name}' too much: their mean cosine to float32 is "
            f"{fidelity.mean_cosine:.3f} on {counted(fidelity.images, 'image')}, and {LEAST_COSINE} is needed; "
            "use --precision float32."
        )
    return model


def _looked_at(records: Sequence[ImageRecord], limits: Limits) -> Iterator[tuple[str, int]]:
    """Yield digest and label of the files that the sample is taken from: until enough of them have headers of pictures."""
    sound = 0
    for sha256, label, data in _different(records, limits):
        yield sha256, label
        with contextlib.suppress(DecodeError):
            upright_size(data)
            sound += 1
        if sound == SAMPLE:
            return


def _different(records: Sequence[ImageRecord], limits: Limits) -> Iterator[tuple[str, int, bytes]]:
    """Yield digest, label and content of files that differ; those of train, where there are splits."""
    seen = set()
    for record in records:
        if record.split in {"valid", "test"}:
            continue
        with contextlib.suppress(DecodeError):
            data = read_image(record.file, limits.bytes)
            sha256 = bytes_digest(data)
            if sha256 not in seen:
                seen.add(sha256)
                yield sha256, record.label, data


def _sample(records: Sequence[ImageRecord], preprocess: PreprocessSpec, limits: Limits) -> tuple[np.ndarray, np.ndarray]:
    """Decode the first images that can be decoded: uint8 (n, H, W, 3), and their labels (n,)."""
    images, labels = [], []
    for _, label, data in _different(records, limits):
        with contextlib.suppress(DecodeError):
            images.append(decode(data, preprocess, limits))
            labels.append(label)
        if len(images) == SAMPLE:
            break
    if len(images) < LEAST_SAMPLE:
        raise SourceError(
            f"The precision int8 is calibrated on your images and needs at least {LEAST_SAMPLE} different ones for training, "
            f"but there are only {len(images)}; add images, or use --precision float32."
        )
    return np.stack(images), np.asarray(labels)


def _compare(expected: np.ndarray, found: np.ndarray, labels: np.ndarray) -> Fidelity:
    if not (np.isfinite(expected).all() and np.isfinite(found).all()):
        raise EngineError("The backbone gave features that are NaN or too large; check the weights.")
    lengths = np.linalg.norm(expected, axis=1) * np.linalg.norm(found, axis=1)
    cosines = np.einsum("nd,nd->n", expected, found) / np.maximum(lengths, np.finfo(np.float32).tiny)
    classes, counts = np.unique(labels[labels != UNLABELLED], return_counts=True)
    accuracies: list[float | None] = [None, None]
    if len(classes) > 1 and counts.min() > 1:
        known = labels != UNLABELLED
        accuracies = [leave_one_out_accuracy(features[known], labels[known]) for features in (found, expected)]
    return Fidelity(len(labels), float(cosines.mean()), float(cosines.min()), *accuracies)


def _features(engine: Engine, images: np.ndarray) -> np.ndarray:
    starts = range(0, len(images), engine.batch_size)
    calls = [engine.start(images[i : i + engine.batch_size]) for i in starts]
    return np.concatenate([call() for call in calls])


def leave_one_out_accuracy(features: np.ndarray, labels: np.ndarray) -> float:
    """Return the share, in [0, 1], of rows (n, D) that a linear head gets right which was fitted on all the others.

    A ridge classifier in its dual form, whose answers without a row follow from those with it. Rifkin and Lippert
    2007, Notes on regularized least squares, https://dspace.mit.edu/handle/1721.1/37318
    """
    centred = features.astype(np.float64) - features.mean(axis=0)
    gram = centred @ centred.T
    gram /= max(np.trace(gram) / len(gram), np.finfo(np.float64).tiny)
    targets = np.where(labels[:, None] == np.unique(labels)[None, :], 1.0, -1.0)
    inverse = np.linalg.inv(gram + _RIDGE * np.eye(len(gram)) + 1.0)  # + 1: a constant term
    without = targets - (inverse @ targets) / np.diag(inverse)[:, None]
    return float((np.unique(labels)[without.argmax(axis=1)] == labels).mean())
