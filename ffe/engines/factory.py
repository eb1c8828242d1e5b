"""Spec and weights -> a running engine."""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from ffe.backbones.catalog import FAKE
from ffe.backbones.registry import TorchSource, source_of
from ffe.backbones.trained import LEARNT
from ffe.backbones.weights import Weights, needed_file
from ffe.base.forks import check_tensorflow
from ffe.base.openvino_ir import IrModel
from ffe.base.system import may_have_gpu
from ffe.base.text import did_you_mean
from ffe.engines.base import Engine
from ffe.engines.devices import keras_gpus, torch_device
from ffe.engines.fake import FakeEngine
from ffe.engines.model_cache import cached_or_made, is_cached, model_key
from ffe.errors import EngineError, missing
from ffe.specs import ExtractSpec, Precision

log = logging.getLogger("ffe")

ENGINES = ("auto", "keras", "openvino", "torch", "winograd")
KERAS_BATCH_SIZE = 32


def has_openvino() -> bool:
    """Return whether OpenVINO is installed; nothing is loaded to find out."""
    return importlib.util.find_spec("openvino") is not None


def has_torch() -> bool:
    """Return whether PyTorch is installed; nothing is loaded to find out."""
    return importlib.util.find_spec("torch") is not None


def has_keras() -> bool:
    """Return whether Keras is installed, which an installation for prediction alone has not; nothing is loaded to find out."""
    return importlib.util.find_spec("keras") is not None


def int8_text(vnni: bool | None) -> str:
    """Return what int8 brings on this processor (``has_vnni``), in a sentence; the factors were measured on two cores."""
    if vnni:
        return "this processor has instructions for int8 (VNNI): int8 was 3 to 4 times as fast as float32 on such ones"
    if vnni is None:
        return "what int8 brings on this kind of processor is not measured; 'ffe bench PHOTOS' measures it"
    return (
        "this processor has no instructions for int8 (VNNI): on such ones int8 was 1.1 to 1.8 times as fast as float32 with "
        "MobileNet and 1.7 to 2 times with VGG19, and 3 to 4 times only where there are some; float32 keeps the accuracy"
    )


def check_engine(name: str, precision: Precision = "float32", other: str | None = "keras") -> None:
    """Raise an EngineError if there is no such engine, it is not installed, or it has no such precision.

    ``other`` is the engine to take where there is no OpenVINO; None = none could run the backbone.
    """
    if name not in ENGINES:
        raise EngineError(f"There is no engine '{name}'; choose one of {', '.join(ENGINES)}.{did_you_mean(name, ENGINES)}")
    if (name in {"openvino", "winograd"} or precision == "int8") and not has_openvino():
        what = "The precision int8" if precision == "int8" else f"The engine {name}"
        packages = ("openvino", "nncf") if precision == "int8" else ("openvino",)
        raise EngineError(missing(what, *packages, instead=f"use --engine {other} and --precision float32" if other else ""))
    if name == "torch" and not has_torch():
        raise EngineError(missing("The engine torch", "torch", instead="use --engine openvino and --precision float32"))
    if name in {"keras", "torch", "winograd"} and precision == "int8":
        raise EngineError(f"The engine {name} has no precision int8; use --engine openvino, or --precision float32.")
    if name in {"openvino", "winograd"} and precision.startswith("mixed"):
        raise EngineError(f"The engine {name} has no precision {precision}; use --engine keras, or --precision float32.")


def check_backbone(backbone: str, name: str, precision: Precision) -> None:
    """Raise an EngineError if an engine cannot run a backbone so; what devices there are is not asked."""
    source, mixed = source_of(backbone), precision.startswith("mixed")
    on_torch = isinstance(source, TorchSource)
    if source is not None and mixed and (name == "openvino" or not on_torch):
        others = "--engine torch, or " if on_torch else ""
        raise EngineError(f"The engine openvino has no precision {precision}; use {others}--precision float32.")
    other = "keras" if source is None else "torch" if on_torch else None
    check_engine(name, precision, other)
    if name == "torch" and not on_torch:
        raise EngineError(
            f"The engine torch runs the backbones of timm and Hugging Face, and '{backbone}' is none of them; use --engine auto."
        )
    if source is None:
        return
    if name == "keras":
        raise EngineError(
            f"The backbone '{backbone}' is none of Keras's, so the engine keras cannot run it; use --engine openvino."
        )
    if name == "auto":
        check_engine("torch" if mixed or (on_torch and not has_openvino() and has_torch()) else "openvino", precision, other)


def _choose(name: str, precision: Precision) -> str:
    """Return ``keras``, ``openvino`` or ``winograd``: without a GPU OpenVINO is the faster, or what ``_on_cpu`` finds."""
    check_engine(name, precision)
    if name != "auto":
        return name
    needs_keras = precision != "int8" and (precision != "float32" or not has_openvino() or _has_gpu())
    return "keras" if needs_keras else "openvino"


def _choose_foreign(backbone: str, name: str, precision: Precision) -> str:
    """Return ``openvino``, ``torch`` or ``winograd`` for a backbone that is none of Keras's."""
    check_backbone(backbone, name, precision)
    if name != "auto":
        return name
    able = precision != "int8" and isinstance(source_of(backbone), TorchSource) and has_torch()
    return "torch" if able and (precision != "float32" or not has_openvino() or _torch_has_gpu()) else "openvino"


def _torch_has_gpu() -> bool:
    """Return whether PyTorch can use a GPU; on Linux, without a driver's device, it is not loaded to ask it."""
    return (may_have_gpu() or sys.platform != "linux") and torch_device() != "cpu"


def _has_gpu() -> bool:
    """Return whether Keras can use a GPU; without a driver's device, Keras is not loaded to ask it."""
    if not may_have_gpu() or not has_keras():
        return False
    check_tensorflow()
    return keras_gpus() > 0


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


def model_to_send(spec: ExtractSpec, weights: Weights, name: str, images: int = 0) -> IrModel | None:
    """Return the float32 IR model that engines of this ``name`` on other machines may need; None = they need none.

    ``images`` as ``open_engine`` takes them; what is chosen here is chosen for all machines.
    """
    if spec.precision != "float32" or spec.backbone.name == FAKE or name in {"keras", "torch"} or not has_openvino():
        return None
    sure = name != "auto" or source_of(spec.backbone.name) is not None
    model = (float_model if sure else float_model_if_any)(spec, weights)
    if model is None or name != "auto":
        return model
    from ffe.engines.fastest import RUNS_ON, choice

    return replace(model, record={**model.record, RUNS_ON: choice(model_key(spec), model, images)})


def open_engine(
    spec: ExtractSpec,
    weights: Weights,
    *,
    name: str = "auto",
    batch_size: int | None = None,
    quantized: IrModel | None = None,
    images: int = 0,
) -> Engine:
    """Build the backbone of a spec and put it on an engine, one of ``ENGINES``.

    ``batch_size`` None is the engine's own choice; ``quantized`` is the int8 model, where the spec has one, or a float32 model
    that is at hand (``model_to_send``). So many ``images`` are to be computed: before many of them, ``auto`` measures which
    engine and batches are the fastest here, where that is not known yet. An engine that there is not, or that cannot run this
    here, is an EngineError.
    """
    if source_of(spec.backbone.name) is not None:
        if _choose_foreign(spec.backbone.name, name, spec.precision) == "torch":
            return _on_torch(spec, weights, batch_size)
        return _on_cpu(spec, quantized or float_model(spec, weights), name, batch_size, images)
    check_backbone(spec.backbone.name, name, spec.precision)
    chosen = _choose(name, spec.precision)
    if spec.backbone.name == FAKE:
        return FakeEngine(spec, batch_size or KERAS_BATCH_SIZE)
    if chosen in {"openvino", "winograd"}:
        ir = quantized or (float_model_if_any if name == "auto" else float_model)(spec, weights)
        if ir is not None:
            return _on_cpu(spec, ir, name, batch_size, images)
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
    """Put a saved backbone on an engine, as ``open_engine`` does: an IR model, or the file that ``keras_file`` lends.

    Of a backbone that is none of Keras's, a model holds the float32 IR alone, whatever precision its features were made with.
    """
    if source_of(spec.backbone.name) is not None and name in {"auto", "openvino", "winograd"}:
        chosen = "openvino" if name == "auto" else name
        check_engine(chosen, other=None)
    else:
        chosen = _choose(name, spec.precision)
    if spec.backbone.name == FAKE:
        return FakeEngine(spec, batch_size or KERAS_BATCH_SIZE)
    if chosen in {"openvino", "winograd"} and ir is not None:  # one photo is answered soonest by all cores together: no ``auto``
        return _on_cpu(spec, ir, chosen, batch_size)
    if chosen == "keras" or name == "auto":
        with keras_file() as file:
            if file is not None:
                from ffe.backbones.safe_load import load_model

                return _on_keras(spec, lambda: load_model(file), batch_size)
    raise EngineError(f"The model holds no backbone that the engine {chosen} can run; use --engine auto.")


def _on_keras(spec: ExtractSpec, model: Callable[[], Any], batch_size: int | None) -> Engine:
    if not has_keras():
        needed = missing("The engine keras", "keras", "tensorflow", instead="use --engine openvino and --precision float32")
        raise EngineError(needed)
    log.info("loading the backbone %s", spec.backbone.name)
    from ffe.engines.keras import KerasEngine

    return KerasEngine(model(), spec, batch_size or KERAS_BATCH_SIZE)


def _on_torch(spec: ExtractSpec, weights: Weights, batch_size: int | None) -> Engine:
    log.info("loading the backbone %s", spec.backbone.name)
    from ffe.engines.torch import BATCH_SIZE, TorchEngine

    network = cast(TorchSource, source_of(spec.backbone.name)).to_torch(spec.backbone, spec.preprocess.size, weights)
    return TorchEngine(network, spec, batch_size or BATCH_SIZE)


def _on_cpu(spec: ExtractSpec, model: IrModel, name: str, batch_size: int | None, images: int = 0) -> Engine:
    """Put an IR model on OpenVINO, or on the engine winograd where that is asked for, or ``auto`` and the faster here."""
    from ffe.engines.fastest import USUAL, choice, opened

    chosen = USUAL
    if spec.precision == "float32":
        chosen = choice(model_key(spec), model, images if name == "auto" else 0, name)
    engine = opened(chosen, model, batch_size)
    if engine.size != spec.preprocess.size:
        own, wanted = ("x".join(map(str, size)) for size in (engine.size, spec.preprocess.size))
        raise EngineError(f"The backbone takes pictures of {own}, not of {wanted} pixels; make it again.")
    return engine
