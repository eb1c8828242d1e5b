"""Backbones that travel in a model file, as a source of weights; and the digest of weights that were learnt."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffe.backbones.weights import Weights
from ffe.base.digests import stream_digest
from ffe.base.file_access import unopened
from ffe.base.model_archive import BACKBONE, MANIFEST, open_archive
from ffe.errors import BundleError, SpecError, WeightsError
from ffe.specs import ExtractSpec, spec_digest

if TYPE_CHECKING:
    import keras

MODEL_SUFFIX = ".ffe"
LEARNT = ("finetuned", "scratch")  # kinds of weights that exist in model files alone


def is_model_file(text: str) -> bool:
    """Return whether this names a model file, where the name of a backbone or of weights could stand."""
    return text.endswith(MODEL_SUFFIX)


def find_in_model(path: Path) -> tuple[Weights, ExtractSpec]:
    """Return a model file as a source of weights, and the model's spec; the digest is checked, and nothing is loaded.

    A file that is not there, is damaged, or holds no backbone to build from is a WeightsError.
    """
    if not path.is_file():
        problem = f"'{path}' is a folder; give a model file" if path.is_dir() else f"There is no model file '{path}'; give one"
        raise WeightsError(f"{problem} that 'ffe finetune' or 'ffe tune' wrote.")
    try:
        with open_archive(path, {MANIFEST}, None) as archive:
            manifest = json.loads(archive.read(MANIFEST))
            spec = ExtractSpec.from_json(manifest["spec"])
            members: dict[str, str] = manifest["members"]
            several = bool(manifest.get("beside"))
            if BACKBONE in members:
                with archive.open(BACKBONE) as member:
                    if stream_digest(member) != members[BACKBONE]:
                        raise ValueError("its backbone was changed after it was written")
            if manifest["spec_digest"] != spec_digest(spec):
                raise ValueError("its spec does not match its spec digest")
    except OSError as error:
        raise WeightsError(unopened(path, error)) from error
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:120]
        raise WeightsError(f"The model file '{path}' is damaged or no model file ({reason}); make it again.") from error
    if several:
        raise WeightsError(
            f"The model file '{path}' holds several backbones; name one of them, such as '{spec.backbone.name}', instead."
        )
    if BACKBONE not in members or spec.precision != "float32":
        what = "an int8 backbone, which cannot be built upon" if spec.precision == "int8" else "no float32 backbone"
        raise WeightsError(
            f"The model file '{path}' holds {what}; "
            f"name the backbone '{spec.backbone.name}' and its weights file (--weights PATH) instead."
        )
    return Weights(spec.backbone.weights, spec.backbone.weights_sha256, path), spec


_DAMAGE = (
    *(LookupError, TypeError, ValueError, SpecError, BundleError, RecursionError),
    *(zipfile.BadZipFile, EOFError, NotImplementedError),
)


def load_backbone(weights: Weights) -> keras.Model:
    """Load a backbone from a ``.keras`` file, or from a model file; no code runs from it."""
    import tempfile

    from ffe.backbones.safe_load import load_model

    assert weights.path is not None
    if is_model_file(weights.path.name):
        with tempfile.TemporaryDirectory(prefix="ffe-backbone-") as folder, zipfile.ZipFile(weights.path) as archive:
            file = Path(folder) / BACKBONE
            file.write_bytes(archive.read(BACKBONE))
            model = load_model(file)
    else:
        model = load_model(weights.path)
    if weights.kind in LEARNT and arrays_digest(model) != weights.sha256:
        raise WeightsError(f"The weights in '{weights.path}' are not those that its digest names; make the file again.")
    return model


def arrays_digest(model: keras.Model) -> str:
    """Return the digest of all weights of a backbone, in order."""
    import keras

    found = hashlib.sha256(b"ffe learnt weights 1\n")
    for weight in model.weights:
        array: Any = keras.ops.convert_to_numpy(weight)
        found.update(f"{array.dtype} {array.shape}\n".encode())
        found.update(array.tobytes())
    return found.hexdigest()
