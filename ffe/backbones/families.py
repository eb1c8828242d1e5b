"""Backbones beyond the catalogue: how each kind is named, what it needs, and which ones timm knows."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from importlib.util import find_spec
from typing import Any

from ffe.backbones.catalog import CATALOG
from ffe.backbones.torch_convert import remembered
from ffe.backbones.torch_library import import_library
from ffe.backbones.torch_weights import FILES as WEIGHTS_FILES
from ffe.backbones.torch_weights import hub_file
from ffe.errors import BackboneError

log = logging.getLogger("ffe")

TIMM = "timm:"
PAGES = "https://huggingface.co/timm/"
# licences that ask more than to be named, by the word that timm has for them
LICENCES = {
    "dinov3-license": (
        "DINOv3 has a licence of its own, dinov3-license: commercial use is allowed, some uses are excluded, and whoever passes "
        "on its weights or what derives from them, such as a model file with the backbone inside, does so under the same terms "
        "with a copy of them: https://ai.meta.com/resources/models-and-libraries/dinov3-license/"
    ),
    "cc-by-nc-4.0": "cc-by-nc-4.0 forbids commercial use: https://creativecommons.org/licenses/by-nc/4.0/",
    "fair-noncommercial-research-license": "fair-noncommercial-research-license forbids commercial use.",
    "gemma": (
        "gemma is Google's own licence: commercial use is allowed, some uses are excluded, and whoever passes on the weights or "
        "what derives from them does so under the same terms: https://ai.google.dev/gemma/terms"
    ),
    "apple-amlr": "apple-amlr, Apple's licence for models of its research, allows research alone, and no commercial use.",
}
_FREE = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0")  # which ask no more than to be named


def licence_texts(licences: Iterable[str]) -> list[str]:
    """Return a sentence on each licence, by timm's words, that asks more than to be named, or of which that is not known."""
    asks = []
    for licence in dict.fromkeys(licences):
        if licence in LICENCES:
            asks.append(LICENCES[licence])
        elif licence not in _FREE:
            what = f"{licence} is a licence of its own" if licence not in {"", "unknown"} else "Of some the licence is not known"
            asks.append(f"{what}: before you use or pass on such weights, read what the model's page says, {PAGES}NAME.")
    return list(dict.fromkeys(asks))


@dataclass(frozen=True)
class Family:
    """One kind of backbones that no row of the catalogue names."""

    what: str  # whose they are
    beginning: str  # of their names, or the ends of the names of files
    example: str  # a whole name
    packages: tuple[str, ...]  # that make them, once; what is converted needs none of them any more

    @property
    def installed(self) -> bool:
        """Whether all packages are there; none of them is loaded to find out."""
        return all(find_spec(package) is not None for package in self.packages)


FAMILIES = (
    Family("timm", TIMM, "timm:resnet50.a1_in1k", ("timm", "torch")),
    Family("Hugging Face", "hf:", "hf:facebook/dinov2-small", ("transformers", "torch")),
    Family("keras-hub", "keras-hub:", "keras-hub:dinov2_small", ("keras_hub",)),
    Family("a file", ".onnx, .xml, .keras", "model.onnx", ("openvino",)),
)


@dataclass(frozen=True)
class Listed:
    """What timm says of one model without building it."""

    name: str  # as ``--backbone`` takes it
    size: tuple[int, int]  # (height, width) that it was made for
    licence: str  # empty = timm names none
    weights: str | None  # the file, where it is on this machine


def search_timm(word: str) -> list[Listed]:
    """Return the models of timm that have pretrained weights and a word in their names, by name.

    Raises:
        BackboneError: timm is not installed, or does not work here.
    """
    found = []
    for model, (height, width), licence, repository in remembered("timm", {"listed": 1}, partial(_list_timm, word))["models"]:
        if fnmatchcase(model, f"*{word}*"):
            file = hub_file(model, repository, WEIGHTS_FILES, download=False)[0] if repository else None
            found.append(Listed(f"{TIMM}{model}", (height, width), licence, None if file is None else str(file)))
    return found


def _list_timm(word: str) -> dict[str, Any]:
    """Return of each model with pretrained weights name, size, licence and repository, as timm says without building it."""
    log.info("asking timm, which takes some seconds to load; the list is kept for the next time")
    timm = import_library(f"{TIMM}{word}", "timm")
    models = []
    for model in timm.list_pretrained():
        config: dict[str, Any] = timm.models.get_pretrained_cfg(model).to_dict()
        models.append([model, list(config["input_size"][1:]), config.get("license") or "", config.get("hf_hub_id")])
    return {"models": models}


def licence_of(backbone: str) -> str:
    """Return the licence that a backbone's published weights are under; empty where ffe does not know it.

    That of a backbone of timm is known where timm is installed.
    """
    if backbone in CATALOG:
        return CATALOG[backbone].licence
    if backbone.startswith(TIMM) and find_spec("timm") is not None:
        try:
            config = import_library(backbone, "timm").models.get_pretrained_cfg(backbone.removeprefix(TIMM))
        except BackboneError:
            return ""
        return "" if config is None else config.license or ""
    return ""
