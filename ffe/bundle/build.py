"""A fitted head -> a model file that predicts anywhere."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ffe.backbones.catalog import FAKE
from ffe.backbones.keras_build import build
from ffe.backbones.registry import source_of
from ffe.backbones.resolve import weights_of_each
from ffe.backbones.weights import Weights
from ffe.base.file_access import first_bytes, unopened
from ffe.base.helper_process import with_keras
from ffe.base.model_archive import BACKBONE, HEAD_KERAS, member_of
from ffe.base.openvino_ir import IrModel
from ffe.base.output_file import check_folder
from ffe.base.output_file import check_output as check_report
from ffe.base.system import library_version
from ffe.base.text import overwrite_refusal
from ffe.bundle.card import model_card
from ffe.bundle.io import Bundle, SplitRow, write_bundle
from ffe.bundle.manifest import Manifest
from ffe.engines.factory import check_model, float_model, float_model_if_any, open_saved_engine
from ffe.errors import BundleError, ReportError
from ffe.heads.base import Head
from ffe.heads.dense import DenseHead
from ffe.images.drawings import KINDS, draw
from ffe.specs import ExtractSpec
from ffe.splits.holdout import TEST, TESTED
from ffe.store.reader import FeatureStore

_LIBRARIES = ("openvino", "nncf", "tensorflow", "keras", "keras-tuner", "scikit-learn", "numpy", "h5py", "pillow")


def check_output(
    stores: Sequence[FeatureStore],
    output: str | os.PathLike[str] | None,
    weights: str,
    with_backbone: bool,
    *,
    overwrite: bool,
    inputs: Iterable[str | os.PathLike[str] | None],
) -> tuple[Weights | IrModel, ...]:
    """Make sure, before anything slow, that the model file can be written.

    Returns:
        What each backbone is made from; nothing where there is no model file, or none in it.
    """
    if output is None:
        return ()
    check_place(Path(output), overwrite=overwrite, inputs=(weights, *inputs))
    quantized = [store.quantized() for store in stores]
    if any(quantized) and not with_backbone:
        raise BundleError("An int8 backbone exists nowhere else, so it must be in the model file; leave --without-backbone out.")
    if not with_backbone:
        return ()
    others = [store.spec for store, model in zip(stores, quantized, strict=True) if model is None]
    found = weights_of_each(others, weights)
    for spec, one in zip(others, found, strict=True):
        check_model(spec, one)
    further = iter(found)
    return tuple(model or next(further) for model in quantized)


def check_place(path: Path, *, overwrite: bool, inputs: Iterable[str | os.PathLike[str] | None] = ()) -> None:
    """Make sure, before anything slow, that a model file can be written there; ``inputs`` of the command are never replaced."""
    check_folder(path, "model", BundleError)
    if path.exists():
        if any(one is not None and os.path.exists(one) and os.path.samefile(one, path) for one in inputs):
            raise BundleError(f"'{path}' is an input of the same command, so it is not replaced; choose another output.")
        try:
            if first_bytes(path):
                Bundle(path)
        except OSError as error:
            raise BundleError(unopened(path, error)) from error
        except BundleError:
            raise BundleError(f"'{path}' exists and is no model file; choose another output.") from None
    if (refusal := overwrite_refusal(path, "model file", overwrite=overwrite)) is not None:
        raise BundleError(refusal)


def check_page(report: str | os.PathLike[str] | None, output: str | os.PathLike[str] | None) -> None:
    """Make sure, before anything slow, that a report can be written, and not onto its model; else raise a ReportError."""
    if report is not None and check_report(report).resolve() == (output and Path(output).resolve()):
        raise ReportError(f"The report and the model are both to be '{report}'; give them different names.")


def tested_before(path: str | os.PathLike[str] | None, seed: int, test_fraction: float) -> frozenset[str]:
    """Return the digests of the images that tested in the model that is about to be replaced, if seed and share are its own."""
    if path is None or not Path(path).exists() or not Path(path).stat().st_size:
        return frozenset()
    bundle = Bundle(path)
    search = bundle.manifest.search
    if (search.get("seed"), search.get("test_fraction")) != (seed, test_fraction):
        return frozenset()
    return frozenset(row.sha256 for row in bundle.splits() if row.split in {TEST, TESTED})


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that take part in a model."""
    return {name: version for name in _LIBRARIES if (version := library_version(name)) is not None}


def write_model(
    path: Path, manifest: Manifest, head: Head, splits: list[SplitRow], found: Sequence[Weights | IrModel] = ()
) -> None:
    """Write the bundle, with what each backbone is ``found`` in, and a few drawn pictures that it must always answer the same."""
    golden: dict[str, np.ndarray] = {}
    backbones: list[tuple[Path | None, IrModel | None]] = []
    with tempfile.TemporaryDirectory(prefix="ffe-bundle-") as folder:
        for number, (source, (spec, _)) in enumerate(zip(found, manifest.backbones, strict=False)):
            file, ir = _saved(spec, source, Path(folder) / member_of(BACKBONE, number))
            backbones.append((file, ir))
            engine = open_saved_engine(spec, ir=ir, keras_file=partial(contextlib.nullcontext, file), batch_size=len(KINDS))
            images = np.stack([np.asarray(draw(kind, 0, spec.preprocess.size)) for kind in KINDS])
            name = str(number + 1) if number else ""
            golden |= {f"images{name}": images, f"features{name}": engine.extract(images)}
        if found:
            features = [rows for name, rows in golden.items() if name.startswith("features")]
            golden["probabilities"] = head.predict_proba(np.concatenate(features, axis=1))
        head_file = None
        if isinstance(head, DenseHead):
            head_file = Path(folder) / HEAD_KERAS
            with_keras(head.save_keras, head_file)
        card = model_card(manifest)
        write_bundle(
            path, manifest, head=head, golden=golden, splits=splits, card=card, backbones=backbones, head_keras=head_file
        )


def _saved(spec: ExtractSpec, found: Weights | IrModel, place: Path) -> tuple[Path | None, IrModel | None]:
    """Return a backbone as a ``.keras`` file, written to ``place``, and as an IR model, as far as there is such a thing of it."""
    if isinstance(found, IrModel):
        return None, found
    if source_of(spec.backbone.name) is not None:
        return None, float_model(spec, found)
    if spec.backbone.name == FAKE:
        return None, None
    with_keras(_save, spec, found, place)
    return place, float_model_if_any(spec, found)


def _save(spec: ExtractSpec, found: Weights, place: Path) -> None:
    build(spec, found).save(place)
