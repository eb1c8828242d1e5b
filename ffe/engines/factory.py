"""Spec and weights -> a running engine."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ffe.backbones.catalog import FAKE
from ffe.backbones.registry import source_of
from ffe.backbones.trained import LEARNT
from ffe.backbones.weights import Weights, needed_file
from ffe.base.forks import check_tensorflow
from ffe.base.openvino_ir import IrModel
from ffe.base.system import may_have_gpu
from ffe.base.text import did_you_mean
from ffe.engines.base import Engine
from ffe.engines.fake import FakeEngine
from ffe.engines.model_cache import cached_or_made, is_cached, model_key
from ffe.errors import EngineError, missing
from ffe.specs import ExtractSpec, Precision

log = logging.getLogger("ffe")

ENGINES = ("auto", "keras", "openvino")
KERAS_BATCH_SIZE = 32


def has_openvino() -> bool:
    """Return whether OpenVINO is installed; nothing is loaded to find out."""
    return importlib.util.find_spec("openvino") is not None


def int8_text(vnni: bool | None) -> str:
    """Return what int8 brings on this processor (``has_vnni``), in a sentence; the factors were measured on two cores."""
    if vnni:
        return "this processor has instructions for int8 (VNNI): int8 was 3 to 4 times as fast as float32 on such ones"
    if vnni is None:
        return "what int8 brings on this kind of processor is not measured; 'ffe bench PHOTOS' measures it"
    return (
        "this processor has no instructions for int8 (VNNI): on such ones int8 was 1.1 times as fast as float32 with MobileNet "
        "and 1.7 times with VGG19, and 3 to 4 times only where there are some; float32 keeps the accuracy"
    )


def check_engine(name: str, precision: Precision = "float32") -> None:
    """Raise an EngineError if there is no such engine, it is not installed, or it has no such precision."""
    if name not in ENGINES:
        raise EngineError(f"There is no engine '{name}'; choose one of {', '.join(ENGINES)}.{did_you_mean(name, ENGINES)}")
    if (name == "openvino" or precision == "int8") and not has_openvino():
        what = "The precision int8" if precision == "int8" else "The engine openvino"
        packages = ("openvino", "nncf") if precision == "int8" else ("openvino",)
        raise EngineError(missing(what, *packages, instead="use --engine keras and --precision float32"))
    if name == "keras" and precision == "int8":
        raise EngineError("The engine keras has no precision int8; use --engine openvino, or --precision float32.")
    if name == "openvino" and precision.startswith("mixed"):
        raise EngineError(f"The engine openvino has no precision {precision}; use --engine keras, or --precision float32.")


def check_foreign(backbone: str, name: str, precision: Precision) -> None:
    """Raise an EngineError if a backbone that is none of Keras's cannot run so."""
    check_engine("openvino" if name == "auto" else name, precision)
    if name == "keras":
        raise EngineError(
            f"The backbone '{backbone}' is none of Keras's, so the engine keras cannot run it; use --engine openvino."
        )


def _choose(name: str, precision: Precision) -> str:
    """Return ``keras`` or ``openvino``: where there is no GPU, OpenVINO is the faster."""
    check_engine(name, precision)
    if name != "auto":
        return name
    needs_keras = precision != "int8" and (precision != "float32" or not has_openvino() or _has_gpu())
    return "keras" if needs_keras else "openvino"


def _has_gpu() -> bool:
    """Return whether Keras can use a GPU; without a driver's device, Keras is not loaded to ask it."""
    if not may_have_gpu():
        return False
    check_tensorflow()
    import keras

    return bool(keras.distribution.list_devices("gpu"))


def check_model(spec: ExtractSpec, weights: Weights) -> None:
    """Raise a WeightsError, before anything slow, if a backbone was a file that is not at hand, and is not kept converted."""
    if weights.kind == "file" and weights.path is None and not is_cached(spec):
        raise needed_file(spec.backbone.name)


def float_model(spec: ExtractSpec, weights: Weights) -> IrModel:
    """Return the float32 IR model of a spec, from the cache or converted now."""

    def make() -> IrModel:
        check_model(spec, weights)
        from ffe.engines.openvino_convert import convert

        name, layer, learnt = spec.backbone.name, spec.backbone.layer, spec.backbone.weights in LEARNT
        what = f"{'the trained network' if learnt else 'the backbone'} {name}"
        if layer is not None:
            what = f"the frozen part of {what if learnt else name} up to {layer}"
        log.info("converting %s%s", what, "" if learnt else ", once; it is kept for the next time")
        return convert(spec, weights)

    return cached_or_made(f"{model_key(spec)}.zip", make)


def float_model_if_any(spec: ExtractSpec, weights: Weights) -> IrModel | None:
    """Return the float32 IR model of a spec; None where OpenVINO has none, which is said if it is a failure."""
    if spec.precision != "float32" or spec.backbone.name == FAKE or not has_openvino():
        return None
    from ffe.base.openvino_ir import import_openvino

    try:
        import_openvino()
        return float_model(spec, weights)
    except EngineError as error:
        log.warning("%s Going on with the engine keras.", error)
        return None


def open_engine(
    spec: ExtractSpec,
    weights: Weights,
    *,
    name: str = "auto",
    batch_size: int | None = None,
    quantized: IrModel | None = None,
) -> Engine:
    """Build the backbone of a spec and put it on an engine, one of ``ENGINES``.

    ``batch_size`` None is the engine's own choice; ``quantized`` is the int8 model, where the spec has one. An engine that
    there is not, or that cannot run this here, is an EngineError.
    """
    if source_of(spec.backbone.name) is not None:
        check_foreign(spec.backbone.name, name, spec.precision)
        return _on_openvino(spec, quantized or float_model(spec, weights), batch_size)
    chosen = _choose(name, spec.precision)
    if spec.backbone.name == FAKE:
        return FakeEngine(spec, batch_size or KERAS_BATCH_SIZE)
    if chosen == "openvino":
        ir = quantized or (float_model if name == "openvino" else float_model_if_any)(spec, weights)
        if ir is not None:
            return _on_openvino(spec, ir, batch_size)
    from ffe.backbones.keras_build import build

    return _on_keras(spec, lambda: build(spec, weights), batch_size)


def open_saved_engine(
    spec: ExtractSpec,
    *,
    ir: IrModel | None,
    keras_file: Callable[[], AbstractContextManager[Path | None]],
    name: str = "auto",
    batch_size: int | None = None,
) -> Engine:
    """Put a saved backbone on an engine, as ``open_engine`` does: an IR model, or the file that ``keras_file`` lends."""
    chosen = _choose(name, spec.precision)
    if spec.backbone.name == FAKE:
        return FakeEngine(spec, batch_size or KERAS_BATCH_SIZE)
    if chosen == "openvino" and ir is not None:
        return _on_openvino(spec, ir, batch_size)
    if chosen == "keras" or name == "auto":
        with keras_file() as file:
            if file is not None:
                from ffe.backbones.safe_load import load_model

                return _on_keras(spec, lambda: load_model(file), batch_size)
    raise EngineError(f"The model holds no backbone that the engine {chosen} can run; use --engine auto.")


def _on_keras(spec: ExtractSpec, model: Callable[[], Any], batch_size: int | None) -> Engine:
    log.info("loading the backbone %s", spec.backbone.name)
    from ffe.engines.keras import KerasEngine

    return KerasEngine(model(), spec, batch_size or KERAS_BATCH_SIZE)


def _on_openvino(spec: ExtractSpec, model: IrModel, batch_size: int | None) -> Engine:
    from ffe.engines.openvino import BATCH_SIZE, OpenVinoEngine

    engine = OpenVinoEngine(model, batch_size or BATCH_SIZE)
    if engine.size != spec.preprocess.size:
        raise EngineError(f"The backbone takes pictures of {engine.size}, not of {spec.preprocess.size} pixels; make it again.")
    return engine
