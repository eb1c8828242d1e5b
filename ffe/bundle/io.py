"""Write and read ``.ffe`` files.

A bundle is a zip of known names. Nothing in it is pickled, nothing is unpacked
under a name from the file, and every member is checked against its digest
before anything is made of it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ffe.bundle.manifest import BACKBONE, CARD, GOLDEN, HEAD, HEAD_KERAS, IR_GRAPH, IR_WEIGHTS, MANIFEST, SPLITS, Manifest
from ffe.errors import BundleError, FfeError, HeadError, one_line
from ffe.heads import find_head
from ffe.heads.base import Head
from ffe.ir import IrModel, digest_of_parts, map_member
from ffe.keys import bytes_digest, canonical_json, spec_digest, stream_digest
from ffe.store.journal import sync, sync_folder

_NEEDED = {MANIFEST, HEAD, GOLDEN, CARD, SPLITS}
_BACKBONES = {BACKBONE, IR_GRAPH, IR_WEIGHTS}
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class SplitRow:
    """Where one image of the feature files went: ``train``, ``valid`` or ``test``."""

    path: str
    sha256: str
    split: str


class Bundle:
    """A model file, checked.

    Args:
        path: a file that ``ffe tune`` or ``ffe train`` wrote.

    Attributes:
        path: the file.
        manifest: its record.

    Raises:
        BundleError: the file is missing, damaged, tampered with, or was not written by ffe.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise BundleError(f"There is no model file '{self.path}'; make one with 'ffe tune FEATURES.h5 -o {self.path}'.")
        if not zipfile.is_zipfile(self.path):
            raise BundleError(f"'{self.path}' is no model file, or a damaged one; give a .ffe file that 'ffe tune' wrote.")
        try:
            with zipfile.ZipFile(self.path) as archive:
                names = archive.namelist()
                unknown = sorted(set(names) - _NEEDED - _BACKBONES - {HEAD_KERAS})
                if not set(names) >= _NEEDED or unknown or len(names) != len(set(names)):
                    raise BundleError("it is not one of ffe's")
                self.manifest = Manifest.from_json(json.loads(archive.read(MANIFEST)))
                if set(self.manifest.members) != set(names) - {MANIFEST}:
                    raise BundleError("its members are not those of its manifest")
                for name, digest in self.manifest.members.items():
                    with archive.open(name) as member:
                        if stream_digest(member) != digest:
                            raise BundleError(f"its member '{name}' was changed after it was written")
            if spec_digest(self.manifest.spec) != self.manifest.spec_digest:
                raise BundleError("its spec does not match its spec digest")
        except FfeError as error:
            raise BundleError(f"The model file '{self.path}' cannot be used: {str(error).rstrip('.')}; make it again.") from error
        except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
            raise BundleError(f"The model file '{self.path}' is damaged or no model file; make it again.") from error

    @property
    def has_backbone(self) -> bool:
        """Whether the backbone travels in the file."""
        return not _BACKBONES.isdisjoint(self.manifest.members)

    def head(self) -> Head:
        """Rebuild the fitted head."""
        manifest = self.manifest
        try:
            return find_head(manifest.head.name).from_arrays(manifest.head.parameters, manifest.grid, self.arrays(HEAD))
        except (HeadError, KeyError, TypeError, ValueError, IndexError) as error:
            raise BundleError(
                f"The head in the model file '{self.path}' cannot be used ({one_line(error)}); make it again."
            ) from error

    def golden(self) -> dict[str, np.ndarray]:
        """Return the golden check: ``images`` uint8 (n, H, W, 3), ``features`` float32 (n, D), ``probabilities`` (n, K).

        The probabilities are those of the head, before the temperature.
        """
        return self.arrays(GOLDEN)

    def splits(self) -> list[SplitRow]:
        """Return where each image of the feature files went."""
        return [SplitRow(*row) for row in json.loads(self._read(SPLITS))]

    def card(self) -> str:
        """Return the model card, Markdown."""
        return self._read(CARD).decode()

    def ir(self) -> IrModel | None:
        """Return the backbone as an IR model, or None; its constants are read when they are used."""
        members, wanted = self.manifest.members, self.manifest.spec.quantized_sha256
        if not {IR_GRAPH, IR_WEIGHTS} <= set(members):
            return None
        if wanted is not None and digest_of_parts(members[IR_GRAPH], members[IR_WEIGHTS]) != wanted:
            raise BundleError(f"The model file '{self.path}' holds another int8 backbone than its spec names; make it again.")
        return IrModel(self._read(IR_GRAPH), map_member(self.path, IR_WEIGHTS))

    @contextlib.contextmanager
    def keras_file(self) -> Iterator[Path | None]:
        """Lend the backbone as a ``.keras`` file, for as long as the context lasts; None if there is none."""
        if BACKBONE not in self.manifest.members:
            yield None
            return
        with tempfile.TemporaryDirectory(prefix="ffe-bundle-") as folder:
            path = Path(folder) / BACKBONE
            path.write_bytes(self._read(BACKBONE))
            yield path

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """Read a member of arrays; pickled objects are refused."""
        try:
            with np.load(io.BytesIO(self._read(name)), allow_pickle=False) as file:
                return {key: file[key] for key in file.files}
        except ValueError as error:  # numpy's answer to pickled objects
            raise BundleError(f"The model file '{self.path}' holds no plain arrays in '{name}'; make it again.") from error

    def _read(self, name: str) -> bytes:
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(name)


def write_bundle(
    path: Path,
    manifest: Manifest,
    *,
    head: Head,
    golden: Mapping[str, np.ndarray],
    splits: list[SplitRow],
    card: str,
    keras_file: Path | None = None,
    ir: IrModel | None = None,
    head_keras: Path | None = None,
) -> Manifest:
    """Write a model file beside its final place, sync it, and rename it.

    Args:
        path: the model file; replaced if it exists.
        manifest: the record; its ``members`` are filled in here.
        head: the fitted head.
        golden: see ``Bundle.golden``.
        splits: where each image went.
        card: the model card.
        keras_file: the backbone as a ``.keras`` file, to take along.
        ir: the backbone as an IR model, to take along.
        head_keras: the head as a ``.keras`` file, for other programs; ffe does not read it.

    Returns:
        The manifest as written.
    """
    members: dict[str, bytes | memoryview] = {
        HEAD: _npz(head.arrays()),
        GOLDEN: _npz(golden),
        SPLITS: canonical_json([[row.path, row.sha256, row.split] for row in splits]),
        CARD: card.encode(),
    }
    if keras_file is not None:
        members[BACKBONE] = keras_file.read_bytes()
    if head_keras is not None:
        members[HEAD_KERAS] = head_keras.read_bytes()
    if ir is not None:
        members |= {IR_GRAPH: ir.xml, IR_WEIGHTS: ir.weights.data}
    manifest = replace(manifest, members={name: bytes_digest(data) for name, data in members.items()})
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            with zipfile.ZipFile(file, "w") as archive:
                for name, data in {MANIFEST: _readable_json(manifest.to_json()), **members}.items():
                    archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
            file.flush()
            sync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)
    return manifest


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _readable_json(value: Any) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode()
