"""Write and read ``.ffe`` files: zips of known names, of which nothing is pickled, or unpacked under a name from the file.

Every member is checked against its digest in the manifest, and that against the comment of the zip. So any accident is found.
Whoever means harm can write digests that are right: what tells his file from another is ``Bundle.sha256``.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ffe.base import model_archive as layout
from ffe.base.arrays import read_npz
from ffe.base.atomic import atomic_write, copy_file
from ffe.base.digests import bytes_digest, canonical_json, stream_digest
from ffe.base.file_access import HDF5_FILE, check_kind, unopened
from ffe.base.openvino_ir import IrModel, digest_of_parts, map_member
from ffe.bundle.manifest import Manifest
from ffe.errors import BundleError, FfeError, one_line, unwritten
from ffe.evaluation.temperature import with_temperature
from ffe.heads.base import Head
from ffe.heads.ensemble import head_class
from ffe.specs import spec_digest

_NEEDED = {layout.MANIFEST, layout.HEAD, layout.GOLDEN, layout.CARD, layout.SPLITS}
_BACKBONES = [
    {layout.member_of(name, number) for name in (layout.BACKBONE, layout.IR_GRAPH, layout.IR_WEIGHTS)}
    for number in range(layout.MOST_BACKBONES)
]
_EPOCH = (1980, 1, 1, 0, 0, 0)
_SEAL = b"sha256 of manifest.json: "
_MOST_MANIFEST_BYTES = 64 << 20

_NO_MODEL = {
    "unnamed": "The name of the model file is empty; give a .ffe file (is a variable unset?).",
    "folder": "'{path}' is a folder; give a model file (.ffe), such as 'ffe tune' writes.",
    "missing": "There is no model file '{path}'; make one with 'ffe tune FEATURES.h5 -o {path}'.",
    "empty": "'{path}' is empty; make the model again with 'ffe tune FEATURES.h5 -o {path} --overwrite'.",
    "hdf5": f"'{{path}}' is a {HDF5_FILE}, not a model; give a .ffe file that 'ffe tune' wrote.",
    "other": "'{path}' is no model file, or a damaged one; give a .ffe file that 'ffe tune' wrote.",
}


@dataclass(frozen=True)
class SplitRow:
    """Where one image of the feature files went: ``train``, ``valid``, ``test``, ``tested`` (and then fitted on), or nowhere."""

    path: str
    sha256: str
    split: str


class Bundle:
    """A model file, checked: one that ``ffe tune``, ``train``, ``finetune`` or ``scratch`` wrote.

    Attributes:
        path: the file, as it was named.
        absolute: the same, wherever the working folder is meanwhile.
        manifest: its record.
        sha256: digest of that record, and through the digests in it of the whole file.

    Raises:
        BundleError: the file is missing, damaged, tampered with, or was not written by ffe.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        check_kind(path, "zip", _NO_MODEL, BundleError)
        self.path = Path(path)
        self.absolute = Path(os.path.abspath(path))
        try:
            self._identity = layout.identity(self.path)
            with layout.open_archive(self.path, _NEEDED, {layout.HEAD_KERAS}.union(*_BACKBONES)) as archive:
                if archive.getinfo(layout.MANIFEST).file_size > _MOST_MANIFEST_BYTES:
                    raise BundleError("its manifest is too long")
                record = archive.read(layout.MANIFEST)
                self.sha256 = bytes_digest(record)
                if archive.comment not in {b"", _SEAL + self.sha256.encode()}:  # the first versions sealed nothing
                    raise BundleError("its manifest or its end was changed after it was written")
                self.manifest = Manifest.from_json(json.loads(record))
                if set(self.manifest.members) != set(archive.namelist()) - {layout.MANIFEST}:
                    raise BundleError("its members are not those of its manifest")
                for name, digest in self.manifest.members.items():
                    with archive.open(name) as member:
                        if stream_digest(member) != digest:
                            raise BundleError(f"its member '{name}' was changed after it was written")
            made = [(one.spec, one.spec_digest) for one in self.manifest.beside]
            if any(spec_digest(spec) != digest for spec, digest in [(self.manifest.spec, self.manifest.spec_digest), *made]):
                raise BundleError("its spec does not match its spec digest")
        except FfeError as error:
            raise BundleError(f"The model file '{self.path}' cannot be used: {str(error).rstrip('.')}; make it again.") from error
        except OSError as error:
            raise BundleError(unopened(self.path, error)) from error
        except (ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
            raise BundleError(f"The model file '{self.path}' is damaged or no model file; make it again.") from error

    @property
    def has_backbone(self) -> bool:
        """Whether the backbone travels in the file, or of several one."""
        return any(map(self.holds, range(len(self.manifest.backbones))))

    def holds(self, number: int) -> bool:
        """Return whether a backbone travels in the file; 0 is the first."""
        return not _BACKBONES[number].isdisjoint(self.manifest.members)

    def head(self) -> Head:
        """Rebuild the fitted head."""
        manifest, arrays = self.manifest, self.arrays(layout.HEAD)
        try:
            head = head_class(manifest.head.name).from_arrays(manifest.head.parameters, manifest.layout, arrays)
            with np.errstate(all="ignore"):  # it answers once, so that what does not fit shows now and not among the answers
                zeros = np.zeros((1, manifest.layout.dims), np.float32)
                answer = with_temperature(head.predict_proba(zeros), manifest.temperature)
            if answer.shape != (1, len(manifest.class_names)) or not abs(answer.sum() - 1) < 1e-3:
                raise ValueError("it does not answer with a probability for each class")
        except Exception as error:  # arrays that do not fit each other fail in many ways
            raise BundleError(
                f"The head in the model file '{self.path}' cannot be used ({one_line(error)}); make it again."
            ) from error
        return head

    def golden(self) -> dict[str, np.ndarray]:
        """Return ``images`` uint8 (n, H, W, 3), ``features`` float32 (n, D), ``probabilities`` (n, K) before the temperature.

        The second backbone's are ``images2`` and ``features2``, and so on. Empty, where no backbone is inside.
        """
        return self.arrays(layout.GOLDEN)

    def splits(self) -> list[SplitRow]:
        """Return where each image of the feature files went."""
        try:
            rows = [SplitRow(*row) for row in json.loads(self._read(layout.SPLITS))]
            if not all(isinstance(text, str) for row in rows for text in (row.path, row.sha256, row.split)):
                raise TypeError("not text")
        except (ValueError, TypeError, RecursionError) as error:
            raise BundleError(f"The list of images in the model file '{self.path}' cannot be read; make it again.") from error
        return rows

    def card(self) -> str:
        """Return the model card, Markdown."""
        return self._read(layout.CARD).decode("utf-8", "replace")

    def ir(self, number: int = 0) -> IrModel | None:
        """Return a backbone, 0 is the first, as an IR model, or None; its constants are read when they are used."""
        spec, features = self.manifest.backbones[number]
        members, wanted = self.manifest.members, spec.quantized_sha256
        graph, weights = (layout.member_of(name, number) for name in (layout.IR_GRAPH, layout.IR_WEIGHTS))
        if not {graph, weights} <= set(members):
            return None
        if wanted is not None and digest_of_parts(members[graph], members[weights]) != wanted:
            raise BundleError(f"The model file '{self.path}' holds another int8 backbone than its spec names; make it again.")
        return IrModel(self._read(graph), map_member(self.absolute, weights), {"layout": features.to_json()})

    @contextlib.contextmanager
    def keras_file(self, number: int = 0) -> Iterator[Path | None]:
        """Lend a backbone, 0 is the first, as a ``.keras`` file, for as long as the context lasts; None if there is none."""
        name = layout.member_of(layout.BACKBONE, number)
        if name not in self.manifest.members:
            yield None
            return
        with tempfile.TemporaryDirectory(prefix="ffe-bundle-") as folder:
            path = Path(folder) / layout.BACKBONE
            path.write_bytes(self._read(name))
            yield path

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """Read a member of arrays; pickled objects are refused."""
        content = self._read(name)
        try:
            return read_npz(content)
        except Exception as error:  # headers of arrays are read by Python's own parser, which raises many kinds
            raise BundleError(
                f"The model file '{self.path}' holds no plain arrays in '{name}' ({one_line(error)}); make it again."
            ) from error

    def copy(self, path: Path) -> None:
        """Write the very file that was checked once more: all of it, or nothing."""
        self._read(layout.CARD)
        try:
            copy_file(self.absolute, path)
        except OSError as error:
            raise BundleError(unwritten(path, error, "model")) from error

    def replace_splits(self, splits: list[SplitRow], place: Path | None = None) -> None:
        """Put another list of images into the file, or into a copy of it, in one step; all else stays, to the bit."""
        with zipfile.ZipFile(self.absolute) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        self._read(layout.CARD)  # it is still the file that was checked
        record = json.loads(members.pop(layout.MANIFEST))
        members[layout.SPLITS] = _splits_json(splits)
        record["members"][layout.SPLITS] = bytes_digest(members[layout.SPLITS])
        _write_archive(place or self.absolute, record, members)

    def _read(self, name: str) -> bytes:
        """Read a member of the very file that was checked."""
        try:
            with zipfile.ZipFile(self.absolute) as archive:
                content = archive.read(name)
            if layout.identity(self.absolute) == self._identity:
                return content
        except (FileNotFoundError, zipfile.BadZipFile, KeyError):
            pass
        except OSError as error:
            raise BundleError(unopened(self.path, error)) from error
        raise BundleError(f"The model file '{self.path}' was replaced while it was in use; open it again.")


def write_bundle(
    path: Path,
    manifest: Manifest,
    *,
    head: Head,
    golden: Mapping[str, np.ndarray],
    splits: list[SplitRow],
    card: str,
    backbones: Sequence[tuple[Path | None, IrModel | None]] = (),
    head_keras: Path | None = None,
) -> Manifest:
    """Write a model file, whole or not at all; return its manifest with ``members``.

    ``backbones``: each as a ``.keras`` file and as an IR model, or one of the two. ``head_keras`` is the head for other
    programs, which ffe does not read.
    """
    members: dict[str, bytes | memoryview] = {
        layout.HEAD: _npz(head.arrays()),
        layout.GOLDEN: _npz(golden),
        layout.SPLITS: _splits_json(splits),
        layout.CARD: card.encode(),
    }
    for number, (keras_file, _) in enumerate(backbones):
        if keras_file is not None:
            members[layout.member_of(layout.BACKBONE, number)] = keras_file.read_bytes()
    if head_keras is not None:
        members[layout.HEAD_KERAS] = head_keras.read_bytes()
    for number, (_, ir) in enumerate(backbones):
        if ir is not None:
            members[layout.member_of(layout.IR_GRAPH, number)] = ir.xml
            members[layout.member_of(layout.IR_WEIGHTS, number)] = ir.weights.data
    manifest = replace(manifest, members={name: bytes_digest(data) for name, data in members.items()})
    _write_archive(path, manifest.to_json(), members)
    return manifest


def _write_archive(path: Path, manifest: Mapping[str, Any], members: Mapping[str, bytes | memoryview]) -> None:
    """Write the zip, whole or not at all; the manifest is that of the members."""
    record = json.dumps(manifest, indent=2, ensure_ascii=False).encode()
    try:
        with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name, data in {layout.MANIFEST: record, **members}.items():
                archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
            archive.comment = _SEAL + bytes_digest(record).encode()
    except OSError as error:
        raise BundleError(unwritten(path, error, "model")) from error


def _splits_json(splits: list[SplitRow]) -> bytes:
    return canonical_json([[row.path, row.sha256, row.split] for row in splits])


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
