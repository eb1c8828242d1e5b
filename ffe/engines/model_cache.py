"""Models that were converted or quantised, in the user's cache folder: each in one file, replaced in one step."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ffe.backbones.registry import source_of
from ffe.base.atomic import atomic_write
from ffe.base.openvino_ir import IrModel, read_ir, write_ir
from ffe.base.system import cache_root
from ffe.specs import ExtractSpec, spec_digest

log = logging.getLogger("ffe")

# go up when ``ffe.engines.openvino_convert`` comes to make other models: of Keras's backbones, and of all others
_CONVERTER = 3
_CONVERTER_OF_OTHERS = 3


def cache_folder() -> Path:
    """Return where models are kept."""
    return cache_root() / "models"


def model_key(spec: ExtractSpec) -> str:
    """Return the digest of all that decides the float32 model of a spec: decoding and storing do not."""
    plain = replace(
        spec, precision="float32", dtype="float32", quantized_sha256=None, preprocess=replace(spec.preprocess, decode="exact")
    )
    return f"{spec_digest(plain)}-{_CONVERTER if source_of(spec.backbone.name) is None else _CONVERTER_OF_OTHERS}"


def is_cached(spec: ExtractSpec) -> bool:
    """Return whether the float32 model of a spec is kept."""
    return (cache_folder() / f"{model_key(spec)}.zip").is_file()


def cached(name: str) -> IrModel | None:
    """Return a model that was kept under ``name``; None if there is none, or it is damaged (which is said)."""
    path = cache_folder() / name
    if not path.is_file():
        return None
    try:
        return read_ir(path)
    except (OSError, ValueError) as error:
        log.warning(
            "the cached model '%s' cannot be used (%s) and is made again", path, getattr(error, "strerror", None) or error
        )
        return None


def cached_or_made(name: str, make: Callable[[], IrModel]) -> IrModel:
    """Return the model that is kept under ``name``, or make it and keep it; a cache that cannot be written is said."""
    if (model := cached(name)) is not None:
        return model
    model = make()
    path = cache_folder() / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            write_ir(temporary, model)
    except OSError as error:
        log.warning("the converted model cannot be kept in '%s' (%s): it is made again next time", path.parent, error.strerror)
    return model
