"""What every format of exported models is and does."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ffe.bundle.io import Bundle
from ffe.exporting.graph import facts, keras_graph, pixel_inputs
from ffe.exporting.image_input import INPUT as IMAGE
from ffe.specs import PreprocessSpec

Answer = Callable[[Mapping[str, np.ndarray]], np.ndarray]  # arrays by the names of the inputs -> float (N, K)


class NoRuntimeError(Exception):
    """A format has no runtime on this system; the text says so, without a full stop."""


@dataclass(frozen=True)
class Exported:
    """What is to be written."""

    bundle: Bundle
    precision: str  # ``float32``, ``float16`` or ``int8``
    image: bool  # whether it takes a photo of any size
    # for each photo that sets the ranges of int8, its arrays by the names of the inputs, uint8 (1, H, W, 3)
    samples: tuple[Mapping[str, np.ndarray], ...] = ()

    @cached_property
    def inputs(self) -> dict[str, PreprocessSpec | None]:
        """The inputs by name, and the pixels that each takes; None = a photo of any size."""
        if self.image:
            return {IMAGE: None}
        return dict(pixel_inputs([spec.preprocess for spec, _ in self.bundle.manifest.backbones])[0])

    @cached_property
    def graph(self) -> Any:
        """The model as one ``keras.Model``, called once: Keras exports no other."""
        model = keras_graph(self.bundle, image=self.image)
        sizes = [(32, 32) if spec is None else spec.size for spec in self.inputs.values()]
        model([np.zeros((1, *size, 3), np.uint8) for size in sizes])
        return model

    @property
    def facts(self) -> dict[str, Any]:
        """What travels in the file, as plain values for JSON."""
        return facts(self.bundle, self.inputs, self.precision)

    @property
    def metadata(self) -> dict[str, str]:
        """The same, each as a text, for formats whose metadata hold nothing else."""
        return {
            name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for name, value in self.facts.items()
        }


@dataclass(frozen=True)
class ModelFormat:
    """One format."""

    name: str  # what ``--format`` takes
    suffix: str  # of its files; empty = it is a folder
    packages: tuple[str, ...]  # that write it and run it
    precisions: tuple[str, ...]
    write: Callable[[Exported, Path], None]  # to a path that does not exist, with the right suffix
    # the runtime that is asked for the proof, and how; a NoRuntimeError says that the format has none on this system
    runtime: str
    open: Callable[[Path], Answer]
    run: str  # lines of Python that make ``probabilities`` of arrays named as the inputs; {file}, {inputs}
    foreign: bool = False  # whether it holds backbones that are no models of Keras, and such of int8
    takes_images: bool = True
    sides: tuple[str, ...] = ()  # suffixes of files that belong to it, beside its own
