"""The model that is fine-tuned: its backbone, and its head as the start."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ffe.backbones.catalog import FAKE
from ffe.backbones.resolve import weights_of
from ffe.backbones.trained import find_in_model
from ffe.backbones.weights import Weights
from ffe.base.arrays import empty_array
from ffe.base.model_archive import BACKBONE
from ffe.base.text import counted
from ffe.bundle.io import Bundle
from ffe.dataset.assign_sides import ImageSplit, Splitter
from ffe.dataset.table import ImageTable
from ffe.errors import BackboneError, BundleError, DataError, EngineError
from ffe.evaluation.class_weights import class_weights as weights_of_classes
from ffe.evaluation.temperature import calibrate, with_temperature
from ffe.finetuning.finish import features_of
from ffe.finetuning.head_layers import WarmStart, check_head, warm_start
from ffe.finetuning.prefetch import BatchSource
from ffe.finetuning.training_options import FinetuneOptions
from ffe.heads.base import FitData, Head
from ffe.heads.ensemble import head_class
from ffe.heads.transform import averaged
from ffe.images.limits import Limits
from ffe.predictor import Predictor
from ffe.specs import ExtractSpec
from ffe.splits.groups import find_groups
from ffe.splits.holdout import TEST, TRAIN, VALID

if TYPE_CHECKING:
    import keras

log = logging.getLogger("ffe")


@dataclass(frozen=True)
class BaseModel:
    """The model that is fine-tuned."""

    bundle: Bundle  # its file
    head: Head  # its head
    spec: ExtractSpec  # of its features, in float32
    found: Weights  # where its backbone is

    @property
    def from_file(self) -> bool:
        """Whether the backbone is read from a file as a whole, and not built."""
        return self.found.path is not None and self.found.path.suffix == ".ffe"

    def to_json(self) -> dict[str, Any]:
        """Return what a model that is made of this one says about it."""
        manifest = self.bundle.manifest
        return {**manifest.spec.backbone.to_json(), "precision": manifest.spec.precision, "head": manifest.head.name}


@dataclass(frozen=True, eq=False)
class PreparedModel:
    """What is known before the first step."""

    assigned: ImageSplit  # the images, and the side of each
    start: WarmStart  # the layers to start from
    before: np.ndarray | None  # what the model says of the test images, float64 (n, K); None = it cannot be asked here
    class_weights: np.ndarray  # float64 (K,)


def open_base(path: Path, weights: str) -> BaseModel:
    """Open the model to start from, and find a backbone of it that can be trained; if the file has none, of these weights."""
    bundle = Bundle(path)
    if bundle.manifest.beside:
        raise BundleError(
            f"'{path}' has {len(bundle.manifest.backbones)} backbones, and fine-tuning trains one; "
            "start from a model that 'ffe tune' made of one feature file."
        )
    head = bundle.head()
    check_head(head, str(path))
    if not bundle.splits():
        raise BundleError(
            f"'{path}' keeps no list of its photos (--anonymous), so nothing tells which of them may test; "
            "start from a model that was made without that option."
        )
    if bundle.manifest.search.get("refit") == "all":
        raise BundleError(
            f"'{path}' was fitted on its test photos too (--refit all), so none is left to test what becomes of it; "
            "start from a model that was made without that option."
        )
    spec, layout = bundle.manifest.spec, bundle.manifest.layout
    if layout.grid is None:
        raise BackboneError(
            f"The features of '{path}' are {layout}, and only a backbone that gives one grid can be trained; "
            "start from a model of one layer that gives a grid."
        )
    if spec.backbone.name == FAKE:
        raise BackboneError(f"The backbone of '{path}' is the fake one for tests, which has no layers; choose another model.")
    trainable = dataclasses.replace(spec, precision="float32", dtype="float32", quantized_sha256=None)
    if BACKBONE in bundle.manifest.members and spec.precision == "float32":
        return BaseModel(bundle, head, trainable, find_in_model(path)[0])
    return BaseModel(bundle, head, trainable, weights_of(trainable, weights))


def prepare_model(
    base: BaseModel, images: ImageTable, source: BatchSource, above: keras.Model | None, options: FinetuneOptions
) -> PreparedModel:
    """Look at all images once, through the model as it is: who belongs together, who trains, and where the head starts.

    ``source`` gives the rows of the first stage, and ``above`` makes features of them; None = they are features.
    """
    spec = options.spec
    manifest, head, factor = base.bundle.manifest, base.head, base.bundle.manifest.temperature
    used = np.flatnonzero(images.labels >= 0)
    mapped = empty_array((len(images), head.map.dims))
    pooled = np.empty((len(images), manifest.layout.channels), np.float32)
    for rows, features in features_of(above, source, used):
        mapped[rows] = head.map.rowwise(features)
        pooled[rows] = averaged(features, manifest.layout)
    labelled = images.take(used)
    groups = find_groups(labelled.sha256, labelled.phash, pooled[used], labelled.named)
    rank = {TEST: 1, VALID: 2, TRAIN: 3}  # of a file that stood on several sides, where the model learnt most from it
    known = {row.sha256: row.split for row in sorted(base.bundle.splits(), key=lambda row: rank.get(row.split, 0))}
    splitter = Splitter(manifest.class_names, spec.valid_fraction, spec.seed, options.split)
    assigned = splitter.split_as_before(images, groups, known)
    train, valid, test = (assigned.rows(side) for side in (TRAIN, VALID, TEST))
    if learnt := sum(known.get(images.sha256[i]) in {TRAIN, VALID} for i in test):
        raise DataError(
            f"'{base.bundle.path}' was made with {learnt} of the images that are to test; start from a model of the same split."
        )
    weights = weights_of_classes(spec.class_weights, images.labels[train], len(manifest.class_names))
    before = (
        with_temperature(head.proba_rowwise(mapped[test]), factor)
        if manifest.spec.precision == "float32"
        else _answers(base, [images.files[i] for i in test], options.limits)
    )
    seen = sum(known.get(images.sha256[i]) == TRAIN for i in valid)
    if seen or manifest.spec.precision != "float32":
        head = _without(base, mapped[train], images.labels[train], spec.seed, None if np.allclose(weights, 1) else weights)
        factor = calibrate(head.proba_rowwise(mapped[valid]), images.labels[valid], groups=assigned.ids[valid]).factor
        why = (
            f"the head has seen {counted(seen, 'image that validates', 'images that validate')}"
            if seen
            else "the head was fitted on features of an int8 backbone"
        )
        viewed = manifest.views is not None and manifest.views["used"] != "none"
        plain = ", without the views of them that it was fitted on" if viewed else ""
        log.info("%s, so it is fitted again, on the %d images that train%s", why, len(train), plain)
    return PreparedModel(assigned, warm_start(head, factor, spec.dropout, mapped[train]), before, weights)


def _answers(base: BaseModel, files: Sequence[Path], limits: Limits) -> np.ndarray | None:
    """Return what a model says through its own backbone, whose features are not those of the one that is trained."""
    precision = base.bundle.manifest.spec.precision
    try:
        if not base.bundle.has_backbone:
            raise EngineError("it is not in the model file")
        log.info("asking the model about the %d images that test, through its own %s backbone", len(files), precision)
        predictor = Predictor(base.bundle.path, **limits.keywords)
        return np.stack([row for batch in predictor.answers(files) for _, row in batch if row is not None])
    except EngineError as error:
        log.warning("How good the model was before is not said: its %s backbone cannot run here (%s).", precision, error)
        return None


def _without(base: BaseModel, x: np.ndarray, labels: np.ndarray, seed: int, weights: np.ndarray | None) -> Head:
    """Fit the head again, with the same parameters, on the rows that train."""
    manifest, path = base.bundle.manifest, base.bundle.path
    if manifest.training:
        raise DataError(
            f"'{path}' was trained as a whole, on images that are to validate; "
            "give the images that it was made from, with the split of then."
        )
    head = head_class(base.head.name)(base.head.parameters, manifest.layout)
    return head.fit_rowwise(x, FitData(labels, len(manifest.class_names), seed, weights))
