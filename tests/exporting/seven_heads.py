"""A model file of each kind of head, all on one feature file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ffe.bundle.io import Bundle, write_bundle
from ffe.commands.tune import train
from ffe.heads import nystroem, svm
from ffe.heads.ensemble import EnsembleHead
from ffe.specs import HeadSpec

FORMATS = ("onnx", "tflite", "keras", "savedmodel", "openvino")
MOST_DIFFERENCE = 1e-5  # of a probability, between an exported file and ffe
PCA: dict[str, Any] = {"pca": True, "components": 64}
NYSTROEM, ENSEMBLE = "svm, Nyström", "ensemble of three"
HEADS: dict[str, tuple[str, dict[str, Any]]] = {
    "dense": ("dense", {"epochs": 10, **PCA}),
    "logistic": ("logistic", {"C": 1.0, **PCA}),
    "svm, linear": ("svm", {"kernel": "linear", "C": 1.0}),
    "svm, rbf": ("svm", {}),
    NYSTROEM: ("svm", {}),
    "forest": ("forest", {}),
}
MEMBERS = ("dense", "logistic", "svm, rbf")
KINDS = (*HEADS, ENSEMBLE)


def seven_models(features: Path, folder: Path) -> dict[str, Path]:
    """Write a model of each of ``KINDS``."""
    made = {kind: folder / f"{i}.ffe" for i, kind in enumerate(KINDS)}
    for kind, (head, settings) in HEADS.items():
        with pytest.MonkeyPatch.context() as patch:
            if kind == NYSTROEM:  # few rows are treated as many
                patch.setattr(svm, "EXACT_ROWS", 20)
                patch.setattr(nystroem, "LANDMARKS", 256)
            train(features, made[kind], head=head, settings=settings, folds=2)
    _average([Bundle(made[kind]) for kind in MEMBERS], made[ENSEMBLE])
    return made


def _average(bundles: list[Bundle], path: Path) -> None:
    """Write a model whose head is the mean of those of others."""
    manifest, golden = bundles[0].manifest, bundles[0].golden()
    about = [
        {"head": each.head.name, "parameters": each.head.parameters, "temperature": each.temperature}
        for each in (bundle.manifest for bundle in bundles)
    ]
    head = EnsembleHead({"members": about}, manifest.layout)
    head.members = [bundle.head() for bundle in bundles]
    golden["probabilities"] = head.predict_proba(golden["features"])
    manifest = replace(manifest, head=HeadSpec(head.name, head.parameters), calibration={"temperature": 0.9})
    with bundles[0].keras_file() as file:
        backbones = [(file, bundles[0].ir())]
        write_bundle(path, manifest, head=head, golden=golden, splits=[], card="", backbones=backbones)
