"""Importing timm and transformers: without usage reports, and beside a torchvision that does not fit its PyTorch."""

from __future__ import annotations

import importlib
import os
import re
from typing import Any

from ffe.errors import BackboneError, missing, one_line

# operators whose shapes torchvision describes while it is imported, whether or not the library that has them was loaded
_DESCRIBED = ("nms", "qnms")
_UNDEFINED = re.compile(r"operator torchvision::\w+ does not exist")

_defined: list[Any] = []  # PyTorch forgets operators whose library is gone


def import_library(backbone: str, module: str) -> Any:
    """Import ``timm`` or ``transformers`` for a backbone; a BackboneError says what is missing, or why it does not work."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        importlib.import_module("torch")
        _import_torchvision()
        return importlib.import_module(module)
    except Exception as error:  # a missing system library shows as OSError, versions that do not fit as others
        if isinstance(error, ModuleNotFoundError) and error.name in {module, "torch"}:
            raise BackboneError(missing(f"The backbone {backbone}", module, "torch")) from error
        raise BackboneError(
            f"The package {module}, which the backbone {backbone} needs, does not work here ({one_line(error)}); "
            f"install it anew with 'pip install --force-reinstall {module}'."
        ) from error


def _import_torchvision() -> None:
    """Import torchvision, which the others import, where its own library does not load.

    The package index has it for CUDA, and its operators are missing beside a PyTorch for CPUs. It cannot be imported
    then, because it describes two of them without having asked. No network for images needs them: they are declared.
    https://github.com/pytorch/vision/blob/v0.24.0/torchvision/_meta_registrations.py
    """
    try:
        importlib.import_module("torchvision")
    except ModuleNotFoundError:
        return
    except RuntimeError as error:
        if _defined or not _UNDEFINED.search(str(error)):
            raise
        import torch

        make: Any = torch.library.Library  # which brings no types
        library = make("torchvision", "DEF")
        for name in _DESCRIBED:
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _defined.append(library)
        importlib.import_module("torchvision")
