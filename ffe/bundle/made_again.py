"""The command that makes a model again, from what its file records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from ffe.backbones.catalog import FAKE
from ffe.backbones.convnet import DROPOUT
from ffe.base.text import quoted_argument
from ffe.bundle.io import Bundle
from ffe.heads import HEADS
from ffe.heads.ensemble import EnsembleHead
from ffe.images.augment_text import SCRATCH, augment_text, parse_augment
from ffe.specs import AugmentSpec, SearchSpec, TrainingSpec

_ALWAYS = ("test_fraction", "class_weights", "refit", "seed", "views")  # options of ``tune`` and ``train``, by field
_OF_SEARCHES = ("oracle", "executions", "epochs", "ensemble", "trials")  # of ``tune`` alone
_OF_TRAININGS = tuple(field.name for field in fields(TrainingSpec) if field.name not in {"seconds", "augment", "dropout"})
_NAMES = {"batchnorm": "train-batchnorm"}  # of options that are not called as their fields
# what ``ffe scratch`` does otherwise than ``TrainingSpec`` where nothing is asked for
_SCRATCH = {"unfreeze": ("all",), "epochs": (30,), "optimizer": "rmsprop", "batch_size": 20, "patience": 0}
_SIZE = (150, 150)


def command_again(bundle: Bundle, output: Path, features: Sequence[str], valid: Sequence[str], test: Sequence[str]) -> str:
    """Return the command that makes a model again and writes it to ``output``, with each option that is not its default.

    ``features`` are names of feature files, one for each backbone, and ``valid`` and ``test`` those of such rows, if there are
    any; of a network that was trained, nothing records where its photos, and the model before it, lie.
    """
    kind, head = bundle.manifest.training.get("kind"), bundle.manifest.head
    if kind:
        words = ["finetune", "PHOTOS", "--from", "START.ffe"] if kind == "finetuned" else ["scratch", "PHOTOS"]
    else:
        words = ["tune" if head.name == EnsembleHead.name else "train", *map(quoted_argument, features)]
    words += ["-o", quoted_argument(str(output)), "--overwrite"]
    for option, files in (("--valid", valid), ("--test", test)):
        words += [word for file in files for word in (option, quoted_argument(file))]
    options = _of_training(bundle, kind) if kind else _of_head(bundle)
    return " ".join(["ffe", *words, *(word if value is None else f"{word} {quoted_argument(value)}" for word, value in options)])


_Options = Iterator[tuple[str, str | None]]  # an option, and its value; None = it takes none


def _of_head(bundle: Bundle) -> _Options:
    """Yield what ``tune``, of an ensemble, or ``train`` was asked for."""
    manifest = bundle.manifest
    search, head = manifest.search, manifest.head
    if head.name == EnsembleHead.name:
        if (heads := tuple(search.get("heads", HEADS))) != tuple(HEADS):
            yield "--heads", ",".join(heads)
        if search.get("seconds"):
            yield "--budget", f"{search['seconds']:g}s"
        if "metric" in search:
            yield "--metric", str(search["metric"])  # what ``auto`` came to
        yield from _differing(search, SearchSpec, _OF_SEARCHES)
        settings = search.get("fixed", {})
    else:
        yield "--head", head.name
        settings = head.parameters
    for name, value in settings.items():
        yield "--set", f"{name}={value}"
    yield from _differing(search, SearchSpec, _ALWAYS)
    if search.get("folds", 1) not in {1, SearchSpec.folds}:  # 1: there were validation rows
        yield "--folds", str(search["folds"])
    if manifest.reject:
        yield "--reject", str(manifest.reject)
    if not bundle.has_backbone and manifest.spec.backbone.name != FAKE:
        yield "--without-backbone", None


def _of_training(bundle: Bundle, kind: str) -> _Options:
    """Yield what ``finetune`` or ``scratch`` was asked for."""
    manifest, options = bundle.manifest, bundle.manifest.training.get("options", {})
    from_scratch = kind == "scratch"
    yield from _differing(options, TrainingSpec, _OF_TRAININGS, _SCRATCH if from_scratch else {})
    if options.get("seconds"):
        yield "--budget", f"{options['seconds']:g}s"
    dropout, changes = options.get("dropout"), options.get("augment")
    augment = None if changes is None else AugmentSpec.from_json(changes)
    if not from_scratch:
        if dropout is not None:
            yield "--dropout", str(dropout)
        if augment is not None:
            yield "--augment", augment_text(augment)
        return
    if dropout != DROPOUT:
        yield "--plain", None
    elif augment != parse_augment(SCRATCH):
        yield "--augment", "none" if augment is None else augment_text(augment)
    if (size := manifest.spec.preprocess.size) != _SIZE:
        yield "--size", "x".join(map(str, size))
    yield from _differing(manifest.search, SearchSpec, ("test_fraction",))


def _differing(record: Mapping[str, Any], spec: type, names: Sequence[str], others: Mapping[str, Any] | None = None) -> _Options:
    """Yield the options of those fields of a spec that are recorded, and differ from its defaults, or ``others``."""
    known = {field.name: field.default for field in fields(spec)} | dict(others or {})
    for name in names:
        value, default, option = record.get(name), known[name], f"--{_NAMES.get(name, name).replace('_', '-')}"
        if isinstance(default, tuple) or default is MISSING:  # a value for each stage
            if value and (default is MISSING or tuple(value) != default * len(value)):
                yield option, ",".join(map(str, value))
        elif value is True:
            yield option, None
        elif value is not None and value is not False and value != default:
            yield option, str(value)
