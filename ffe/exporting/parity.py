"""Does an exported file answer as ffe does? Its own runtime opens it, and both are asked about the same pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ffe.base.columns import Made
from ffe.base.system import library_version
from ffe.base.text import counted
from ffe.base.urls import is_url
from ffe.errors import DecodeError, ModelMismatchError, SourceError, one_line
from ffe.exporting.graph import pixel_inputs
from ffe.exporting.image_input import INPUT as IMAGE
from ffe.exporting.model_format import Answer, Exported, ModelFormat, NoRuntimeError
from ffe.images.archive_sources import expanded, is_archive
from ffe.images.decode import decode, read_image, upright_size
from ffe.images.folder_walk import list_files
from ffe.images.image_handle import ImageFile
from ffe.images.resize import resized
from ffe.images.sources import list_images
from ffe.predictor import Predictor
from ffe.specs import PreprocessSpec

MOST_PHOTOS = 50

# the largest difference of a probability that an export may have
BOUNDS = {"float32": 1e-5, "float16": 2e-2}
STORED_FLOAT16 = 2e-3  # ... where features are stored as float16, which runtimes round at another place
RESIZED = 2e-2  # ... where the graph resizes: of 255, a pixel may differ by 1
LEAST_EQUAL = 0.9  # the share of equal answers that int8 has to keep; its probabilities may differ by more


@dataclass(frozen=True)
class Proof:
    """What an exported file answered beside ffe."""

    pictures: int  # that both were asked about
    largest_difference: float | None  # of a probability; None = it could not be asked
    equal_answers: int | None  # pictures with the same most probable class
    bound: float | None  # that the difference has to keep; None = the share of equal answers has one
    runtime: str  # that answered, with its version
    unproven: str | None = None  # why it could not be asked

    def sentences(self) -> list[str]:
        """Return what was found, for people."""
        if self.unproven is not None:
            return [f"Not proven: {self.unproven}."]
        return [
            f"{self.runtime} answered about {counted(self.pictures, 'picture')} as ffe does: "
            f"{self.equal_answers} of {self.pictures} answers are equal, and no probability differs by more than "
            f"{self.largest_difference:.1g}."
        ]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Asked:
    """A picture as the file and as ffe are given it."""

    given: Mapping[str, np.ndarray]  # uint8 (1, H, W, 3) by the name of the pixels; the photo itself as ``image``
    pixels: tuple[np.ndarray, ...]  # uint8 (1, H, W, 3), for each backbone


def golden_pictures(exported: Exported) -> list[Asked]:
    """Return the pictures that lie in the model file; as photos they are those of its first backbone."""
    specs, taken = _ways(exported)
    golden = exported.bundle.golden()
    arrays = [golden["images" if i == 0 else f"images{i + 1}"] for i in range(len(specs))]
    found = []
    for i in range(len(arrays[0])):
        if exported.image:
            found.append(_asked(Image.fromarray(arrays[0][i]), specs, taken))
        else:
            pixels = tuple(array[i : i + 1] for array in arrays)
            found.append(Asked(dict(zip(taken, pixels, strict=True)), pixels))
    return found


def photos_of(exported: Exported, source: str | os.PathLike[str]) -> list[Asked]:
    """Return up to 50 photos of a source, spread evenly over its list of files; those that cannot be read are passed over."""
    specs, taken = _ways(exported)
    files = _files_of(source)
    found: list[Asked] = []
    order = np.linspace(0, len(files) - 1, min(len(files), 2 * MOST_PHOTOS)).astype(int) if files else ()
    for place in [*order[::2], *order[1::2]]:
        if len(found) == MOST_PHOTOS:
            break
        try:
            data = read_image(files[place])
            if exported.image:
                size = upright_size(data)
                found.append(_asked(Image.fromarray(decode(data, PreprocessSpec(size, "none"))), specs, taken))
            else:
                pixels = tuple(decode(data, spec)[None] for spec in specs)
                found.append(Asked(dict(zip(taken, pixels, strict=True)), pixels))
        except DecodeError:
            continue
    if not found:
        raise SourceError(f"No photo in '{source}' can be read, so no answers can be compared on it; name another with --check.")
    return found


def _files_of(source: str | os.PathLike[str]) -> Sequence[ImageFile]:
    """Return the photos of a folder, whatever lies in which folder in it, or of another source."""
    here = Path(source)
    if here.is_dir() and not any(map(is_archive, files := list_files(here)[0])):
        return files
    if not (here.exists() or is_url(source) or expanded(os.fspath(source))):
        raise SourceError(f"There is no folder '{source}' of photos to compare answers on; name one with --check.")
    records = list_images(source).records
    return Made(len(records), lambda row: records[row].file)


def _asked(photo: Image.Image, specs: Sequence[PreprocessSpec], taken: Sequence[str]) -> Asked:
    pixels = tuple(resized(photo, spec)[0][None] for spec in specs)
    return Asked({**dict(zip(taken, pixels, strict=True)), IMAGE: np.asarray(photo)[None]}, pixels)


def _ways(exported: Exported) -> tuple[list[PreprocessSpec], list[str]]:
    specs = [spec.preprocess for spec, _ in exported.bundle.manifest.backbones]
    return specs, pixel_inputs(specs)[1]


def prove(exported: Exported, kind: ModelFormat, path: Path, pictures: Sequence[Asked]) -> Proof:
    """Open an exported file and compare its answers with those of ffe; where they differ too much, a ModelMismatchError."""
    runtime = f"{kind.runtime} {library_version(kind.runtime) or ''}".rstrip()
    bound = _bound(exported)
    try:
        answer = kind.open(path)
        found = answers_of(answer, exported, pictures)
    except NoRuntimeError as error:
        return Proof(len(pictures), None, None, bound, runtime, unproven=str(error))
    except Exception as error:  # every runtime has its own
        raise ModelMismatchError(
            f"The {kind.name} file cannot be run by {runtime} ({one_line(error)}); it is not kept. {_advice(exported)}"
        ) from error
    wanted = answers_of_ffe(exported, pictures)
    difference = float(np.abs(found - wanted).max())
    equal = int((found.argmax(axis=1) == wanted.argmax(axis=1)).sum())
    proof = Proof(len(pictures), difference, equal, bound, runtime)
    are_numbers = bool(np.isfinite(found).all())
    if not are_numbers or not (difference <= bound if bound is not None else equal >= LEAST_EQUAL * len(pictures)):
        raise ModelMismatchError(
            f"The {kind.name} file answers otherwise than the model: {equal} of {len(pictures)} answers are equal, and a "
            f"probability differs by {difference:.2g}{'' if bound is None else f' (at most {bound:g} is taken)'}; "
            f"it is not kept. {_advice(exported)}"
        )
    return proof


def _advice(exported: Exported) -> str:
    if exported.precision != "float32":
        return "Export it as float32."
    return "Leave out --image." if exported.image else "Choose another --format, and tell the makers of ffe."


def _bound(exported: Exported) -> float | None:
    if exported.precision == "int8":
        return None
    bounds = [BOUNDS[exported.precision], RESIZED if exported.image else 0.0]
    if any(spec.dtype == "float16" for spec, _ in exported.bundle.manifest.backbones):
        bounds.append(STORED_FLOAT16)
    return max(bounds)


def answers_of_ffe(exported: Exported, pictures: Sequence[Asked]) -> np.ndarray:
    """Return what ffe says of pictures: float64 (N, K)."""
    predictor = Predictor(exported.bundle)
    specs = [spec for spec, _ in exported.bundle.manifest.backbones]
    engine, rows = predictor.engine(), []
    for start in range(0, len(pictures), engine.batch_size):
        some = pictures[start : start + engine.batch_size]
        batches = [np.concatenate([one.pixels[i] for one in some]) for i in range(len(specs))]
        packed = batches[0] if len(batches) == 1 else np.concatenate([each.reshape(len(some), -1) for each in batches], axis=1)
        rows.append(engine.extract(packed))
    features = np.concatenate(rows)
    if len(specs) == 1:
        features = features.astype(specs[0].dtype).astype(np.float32)
    return predictor.probabilities(features)


def answers_of(answer: Answer, exported: Exported, pictures: Sequence[Asked]) -> np.ndarray:
    """Ask a file: about photos one by one, about pixels also several at once, as it takes any number of them; float (N, K)."""
    names = list(exported.inputs)
    found = [answer({name: one.given[name] for name in names}) for one in pictures[: None if exported.image else 1]]
    for batch in () if exported.image else _batches(pictures[1:]):
        found.append(answer({name: np.concatenate([one.given[name] for one in batch]) for name in names}))
    return np.concatenate(found)


def _batches(pictures: Sequence[Asked], size: int = 8) -> Iterable[Sequence[Asked]]:
    for start in range(0, len(pictures), size):
        yield pictures[start : start + size]


def proof_json(exported: Exported, kind: ModelFormat, proof: Proof) -> bytes:
    """Return what lies beside the file: the facts of the model, and what was found."""
    return json.dumps({**exported.facts, "format": kind.name, "proof": proof.to_json()}, ensure_ascii=False, indent=1).encode()
