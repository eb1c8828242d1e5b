"""``export`` of a model file: one graph of pixels to probabilities, in a format that other programs run, and proof of it."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ffe.base.output_file import check_output_folder
from ffe.base.text import did_you_mean, listed, overwrite_refusal
from ffe.bundle.io import Bundle
from ffe.errors import EngineError, FfeError, ModelMismatchError, ReportError, SpecError, missing, one_line, unwritten
from ffe.exporting.graph import check_keras_backbones, pixel_inputs
from ffe.exporting.image_input import check_image_input
from ffe.exporting.model_card import export_card
from ffe.exporting.model_format import Exported, ModelFormat
from ffe.exporting.model_formats import MODEL_FORMATS
from ffe.exporting.parity import Proof, golden_pictures, photos_of, proof_json, prove
from ffe.heads.forest import ForestHead

PRECISIONS = ("float32", "float16", "int8")


@dataclass(frozen=True)
class ModelExport:
    """What was written."""

    output: Path  # a file, or a folder
    format: str
    precision: str
    image: bool  # whether it takes photos of any size
    bytes: int  # size of all that belongs to it
    seconds: float  # that it took, the proof left out
    proof: Proof
    card: Path  # the model card beside it
    record: Path  # facts and proof beside it, as JSON

    def to_json(self) -> dict[str, Any]:
        """Return what ``ffe export --json`` prints."""
        values = {**vars(self), "proof": self.proof.to_json()}
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def export_model(
    model: str | os.PathLike[str] | Bundle,
    output: str | os.PathLike[str],
    *,
    format: str | None = None,
    precision: str = "float32",
    image: bool = False,
    check: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> ModelExport:
    """Write a model for other programs: from uint8 pixels in RGB to calibrated probabilities, all in one file.

    The file is opened by its own runtime, and kept only if it answers as the model does. Beside it lie its card, ``OUTPUT.md``,
    and what was found, ``OUTPUT.proof.json``.

    Args:
        model: a model file, or one that is open.
        output: the file, or for ``savedmodel`` and ``coreml`` the folder; it is there whole, or not at all.
        format: a name of ``ffe.exporting.model_formats``; None = as the ending of ``output`` says.
        precision: ``float32``, ``float16`` or ``int8``, where the format has it.
        image: it takes one photo of any size, and does the resize itself.
        check: a folder of photos, or another source, up to 50 of which are asked about too; for int8 they set the ranges.
        overwrite: replace an export that is there; other files never are.

    Raises:
        BundleError: the model file cannot be used.
        SpecError: there is no such format or precision, or the ending is that of another format.
        EngineError: a package is missing, or the format cannot hold this model.
        ModelMismatchError: the model holds no backbone of the kind that the format needs, or the file answered otherwise.
        SourceError: there are no photos in ``check``.
        ReportError: the file cannot be written.
    """
    kind = _format_of(output, format)
    _check_precision(kind, precision)
    bundle = model if isinstance(model, Bundle) else Bundle(model)
    _check_model(bundle, kind, precision, image)
    if precision == "int8" and check is None:
        raise SpecError("int8 needs photos, whose values set its ranges; name a folder of some with --check.")
    place = _place(output, kind, bundle, overwrite=overwrite)
    exported = Exported(bundle, precision, image)
    pictures = golden_pictures(exported) + ([] if check is None else photos_of(exported, check))
    exported = Exported(bundle, precision, image, tuple(picture.given for picture in pictures))
    try:
        with tempfile.TemporaryDirectory(prefix=".ffe-export-", dir=place.parent) as folder:
            written = Path(folder) / place.name
            started = time.perf_counter()
            _write(exported, kind, written)
            seconds = time.perf_counter() - started
            proof = prove(exported, kind, written, pictures)
            size = sum(_bytes(Path(folder) / part.name) for part in (*_sides(place, kind), place))
            card, record = beside = _beside(place)
            (Path(folder) / card.name).write_text(_card(exported, kind, place, proof), "utf-8")
            (Path(folder) / record.name).write_bytes(proof_json(exported, kind, proof))
            for part in (*beside, *_sides(place, kind), place):
                _move(Path(folder) / part.name, part, Path(folder))
    except OSError as error:
        raise ReportError(unwritten(place, error, "export")) from error
    return ModelExport(place, kind.name, precision, image, size, seconds, proof, card, record)


def _format_of(output: str | os.PathLike[str], name: str | None) -> ModelFormat:
    """Return the format that is asked for, or that the ending says."""
    known = listed(tuple(MODEL_FORMATS), "or")
    by_suffix = {one.suffix: one for one in MODEL_FORMATS.values() if one.suffix}
    ending = by_suffix.get(os.path.splitext(os.fspath(output))[1].lower())
    if name is None and ending is None:
        endings = listed(tuple(by_suffix), "or")
        folders = listed([one.name for one in MODEL_FORMATS.values() if not one.suffix], "or")
        raise SpecError(
            f"The ending of '{os.fspath(output)}' is that of no exported model; end the name in {endings}, "
            f"or name a folder, without an ending, and add --format {folders}."
        )
    if name is not None and name not in MODEL_FORMATS:
        raise SpecError(f"A model cannot be exported as '{name}'; choose {known}.{did_you_mean(name, MODEL_FORMATS)}")
    kind = ending if name is None else MODEL_FORMATS[name]
    assert kind is not None
    if ending not in {None, kind} or (kind.suffix and ending is None):
        right = os.path.splitext(os.fspath(output))[0] + kind.suffix
        raise SpecError(f"'{os.fspath(output)}' has not the ending of the format {kind.name}; name the output '{right}'.")
    lacking = [package for package in kind.packages if importlib.util.find_spec(package) is None]
    if lacking:
        names = [package.replace("ai_edge_litert", "ai-edge-litert") for package in lacking]
        raise SpecError(missing(f"The format {kind.name}", *names, instead="choose another --format"))
    return kind


def _check_precision(kind: ModelFormat, precision: str) -> None:
    if precision not in PRECISIONS:
        hint = did_you_mean(precision, PRECISIONS)
        raise SpecError(f"There is no precision '{precision}' of an export; choose {listed(PRECISIONS, 'or')}.{hint}")
    if precision not in kind.precisions:
        able = listed([one.name for one in MODEL_FORMATS.values() if precision in one.precisions], "or")
        raise SpecError(f"The format {kind.name} has no precision {precision}; use --format {able}, or --precision float32.")


def _check_model(bundle: Bundle, kind: ModelFormat, precision: str, image: bool) -> None:
    """Make sure, before anything slow, that a format can hold a model."""
    specs = [spec for spec, _ in bundle.manifest.backbones]
    if not all(map(bundle.holds, range(len(specs)))):
        raise ModelMismatchError(
            f"The model file '{bundle.path}' was written without its backbone, so it takes features alone and cannot be "
            "exported; make it again without --without-backbone."
        )
    if precision != "float32":
        _check_rounding(bundle, precision)
    if not kind.foreign:
        check_keras_backbones(bundle, kind.name)
    if image:
        if not kind.takes_images:
            raise SpecError(f"The format {kind.name} takes pictures of one size; leave out --image.")
        if precision == "int8" and not kind.foreign:
            raise SpecError(f"A graph of {kind.name} cannot resize in int8; leave out --image, or --precision int8.")
        check_image_input(list(pixel_inputs([spec.preprocess for spec in specs])[0].values()))


def _check_rounding(bundle: Bundle, precision: str) -> None:
    """Make sure that a model can be rounded to a precision."""
    if any(spec.precision == "int8" for spec, _ in bundle.manifest.backbones):
        raise ModelMismatchError(
            f"The backbone of '{bundle.path}' is int8 already, and would be quantised twice; leave out --precision {precision}."
        )
    head = bundle.head()
    if any(isinstance(one, ForestHead) for one in getattr(head, "members", [head])):
        raise SpecError(
            f"A forest needs float32: in {precision} its thresholds and the numbers of its nodes would be rounded; "
            f"leave out --precision {precision}."
        )


def _beside(place: Path) -> tuple[Path, Path]:
    """Return where the card and the record of an export lie."""
    return place.with_name(f"{place.name}.md"), place.with_name(f"{place.name}.proof.json")


def _sides(place: Path, kind: ModelFormat) -> list[Path]:
    """Return where the other files of an export lie."""
    return [place.with_suffix(suffix) for suffix in kind.sides]


def _write(exported: Exported, kind: ModelFormat, path: Path) -> None:
    """Write a model; an EngineError says why a format cannot hold it."""
    try:
        with _quiet():
            kind.write(exported, path)
    except (FfeError, OSError, MemoryError):
        raise
    except Exception as error:  # every converter has its own
        raise EngineError(f"The model cannot be written as {kind.name} ({one_line(error)}); choose another --format.") from error


def _place(output: str | os.PathLike[str], kind: ModelFormat, bundle: Bundle, *, overwrite: bool) -> Path:
    """Return where an export is to go; a ReportError says why it cannot. What replaces another needs the record beside that."""
    place = Path(output)
    if not place.parent.is_dir():
        raise ReportError(
            f"The export '{place}' lies in a folder that does not exist ('{place.parent}'); create it, or choose another place."
        )
    if place.exists() and place.samefile(bundle.absolute):
        raise ReportError(f"'{place}' is the model file that is read, so it is not replaced; choose another output.")
    if not kind.suffix:
        check_output_folder(place, "output", ReportError)
    taken = [one for one in (place, *_sides(place, kind), *_beside(place)) if os.path.lexists(one)]
    if not taken:
        return place
    if taken[0] != place and not _is_ours(place):
        raise ReportError(f"The export would replace '{taken[0]}', which is none of ffe's; choose another name.")
    if not _is_ours(place) or place.is_dir() != (kind.suffix in {"", ".mlpackage"}):
        raise ReportError(f"'{place}' exists and is no export of ffe, so it is not replaced; choose another name.")
    if (refusal := overwrite_refusal(place, "model for other programs", overwrite=overwrite)) is not None:
        raise ReportError(refusal)
    return place


def _is_ours(place: Path) -> bool:
    try:
        return "ffe_sha256" in json.loads(_beside(place)[1].read_bytes())
    except (OSError, ValueError):
        return False


def _move(part: Path, place: Path, aside: Path) -> None:
    """Put a file or folder in its place, and what was there aside."""
    if place.is_dir():
        place.rename(aside / "replaced")
    os.replace(part, place)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the bars and warnings of converters from where results belong; what they set for TensorFlow is set back."""
    tensorflow = logging.getLogger("tensorflow")
    level = tensorflow.level
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            tensorflow.setLevel(level)


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else path.stat().st_size


def _card(exported: Exported, kind: ModelFormat, place: Path, proof: Proof) -> str:
    names = list(exported.inputs)
    run = kind.run.format(
        file=place.name,
        inputs=", ".join(names),
        named=", ".join(f'"{name}": {name}' for name in names),
        keywords=", ".join(f"{name}={name}" for name in names),
        named_tensors=", ".join(f"{name}=tf.constant({name})" for name in names),
        named_pictures=", ".join(f'"{name}": Image.fromarray({name}[0])' for name in names),
    )
    return export_card(
        exported.bundle.manifest,
        sha256=exported.bundle.sha256,
        format=kind.name,
        precision=exported.precision,
        inputs=exported.inputs,
        run=run,
        proof=proof.sentences(),
    )
