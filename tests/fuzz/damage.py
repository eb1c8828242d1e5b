"""Feature files and models that somebody damaged, or made on purpose: bytes, structure, and digests that fit.

Every choice comes from a ``random.Random``, so that hypothesis can make small
examples of what it finds, and a number is enough to make a file again.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import random
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from feature_files import seal

from ffe.base.digests import bytes_digest
from ffe.base.hdf5_checks import as_text
from ffe.base.model_archive import GOLDEN, HEAD, MANIFEST, SPLITS
from ffe.errors import SpecError
from ffe.specs import ExtractSpec, spec_digest
from ffe.store import schema

_TEXTS = ("", "a", "../../x", "/etc/hostname", "\x1b[31m", "\u202e", "ä" * 300, "{{ 7 }}", "<script>", "nan", "[" * 2000, "cat")
_NUMBERS = (0, 1, -1, 2, 7, 255, 2**31, -(2**31), 2**63 - 1, 2**70, 10**400, 0.5, -0.0, 1e308, math.nan, math.inf, -math.inf)
_KEYS = ("name", "C", "spec", "schema", "temperature", "test", "accuracy", "n")


def damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    """Return bytes flipped, cut, moved, repeated or overwritten."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        if not found:
            break
        at, length = rng.randrange(len(found)), rng.choice((1, 4, 64, 2000))
        what = rng.choice(("flip", "flip", "cut", "repeat", "zero", "ones", "remove", "insert", "splice"))
        if what == "flip":
            for _ in range(rng.choice((1, 8))):
                found[rng.randrange(len(found))] ^= rng.randrange(1, 256)
        elif what == "cut":
            del found[at:]
        elif what == "repeat":
            found[at:at] = found[at : at + length] * rng.choice((1, 20))
        elif what in {"zero", "ones"}:
            found[at : at + length] = (b"\0" if what == "zero" else b"\xff") * len(found[at : at + length])
        elif what == "remove":
            del found[at : at + length]
        elif what == "insert":
            found[at:at] = bytes(rng.randrange(256) for _ in range(min(length, 64)))
        else:
            start = rng.randrange(len(data))
            found[at : at + length] = data[start : start + length]
    return bytes(found)


def any_value(rng: random.Random, depth: int = 2) -> Any:
    """Return a JSON value that nobody expects."""
    kind = rng.choice(("text", "number", "number", "none", "bool", "list", "dict"))
    if kind == "text":
        return rng.choice(_TEXTS)
    if kind == "number":
        return rng.choice(_NUMBERS)
    if kind == "none":
        return None
    if kind == "bool":
        return rng.random() < 0.5
    if kind == "list":
        return [any_value(rng, depth - 1) for _ in range(rng.choice((0, 1, 3)) if depth else 0)]
    return {rng.choice(_KEYS): any_value(rng, depth - 1) for _ in range(rng.choice((0, 1, 3)) if depth else 0)}


def damaged_json(value: Any, rng: random.Random) -> Any:
    """Return a value with one thing in it lost, doubled or replaced, at any depth."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(sorted(value))
        if rng.random() < 0.15:
            return {name: inner for name, inner in value.items() if name != key}
        return {**value, key: damaged_json(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = rng.randrange(len(value))
        if rng.random() < 0.3:
            return value[:at] + value[at : at + 1] * rng.choice((0, 2)) + value[at + 1 :]
        return [*value[:at], damaged_json(value[at], rng), *value[at + 1 :]]
    return any_value(rng)


def any_array(array: np.ndarray, rng: random.Random) -> np.ndarray:
    """Return an array of another type, shape or content."""
    what = rng.choice(("type", "shape", "values", "values", "empty", "scalar") if array.ndim else ("type", "scalar"))
    with np.errstate(all="ignore"), contextlib.suppress(ValueError, TypeError, OverflowError):
        if what == "type":
            return array.astype(rng.choice(("f2", "f4", "f8", "i1", "i8", "u8", "?", "S3", ">f4", "c8")))
        if what == "shape":
            flat = array.reshape(-1)
            return rng.choice((flat, flat[:-1], array[:-1], array[None], array.T, np.concatenate([flat, flat])))
        if what == "values":
            changed = array.copy()
            number = rng.choice((0, 1, -1, 127, math.nan, math.inf, 1e30, 2**31 - 1))
            changed.reshape(-1)[rng.randrange(array.size) if rng.random() < 0.5 else slice(None)] = number
            return changed
        if what == "empty":
            return array[:0]
        return np.asarray(rng.choice((0, 1.5, -7)), array.dtype)
    return array


def damaged_store(good: Path, bad: Path, rng: random.Random) -> None:
    """Write a feature file with other bytes, or one that somebody made with h5py and sealed again."""
    if rng.random() < 0.4:
        bad.write_bytes(damaged_bytes(good.read_bytes(), rng))
        return
    shutil.copyfile(good, bad)
    with h5py.File(bad, "r+") as file:
        for _ in range(rng.choice((1, 1, 2))):
            with contextlib.suppress(OSError):  # what a step before has put there cannot be read
                rng.choice(_STORE_STEPS)(file, rng)
        if rng.random() < 0.3:
            with contextlib.suppress(Exception):
                file.attrs["spec_digest"] = as_text(spec_digest(ExtractSpec.from_json(json.loads(file.attrs["spec"]))))
        with contextlib.suppress(Exception):  # nothing fits a file without features
            if not file[schema.FEATURES].is_virtual:  # one that shows itself would be read without end
                seal(file)


def _other_attribute(file: h5py.File, rng: random.Random) -> None:
    name = rng.choice((*schema.ATTRIBUTES, "tables_sha256", "new"))
    if name in file.attrs:
        del file.attrs[name]
    if rng.random() < 0.8:
        value = rng.choice((any_value(rng, 0), np.zeros((3, 3)), h5py.Empty("f4"), b"\xff\xfe", np.arange(5), np.bool_(True)))
        with contextlib.suppress(TypeError, ValueError, OverflowError, OSError):
            file.attrs[name] = as_text(value or "") if isinstance(value, str | None) and rng.random() < 0.8 else value


def _other_text(file: h5py.File, rng: random.Random) -> None:
    """Change something inside the attributes that are JSON."""
    name = rng.choice(("spec", "spec", "class_names", "sources", "parts"))
    try:
        value = json.loads(file.attrs[name])
    except (KeyError, TypeError, ValueError):
        value = [{"file": "../a.h5", "rows": 3, "tables_sha256": "0" * 64, "runs": [[0, 3]]}] if name == "parts" else []
    with contextlib.suppress(ValueError):
        text = json.dumps(damaged_json(value, rng))
        if len(text) < 60_000:
            file.attrs[name] = as_text(text)


def _other_table(file: h5py.File, rng: random.Random) -> None:
    name = rng.choice(schema.TABLES)
    if not isinstance(file.get(name, getlink=False), h5py.Dataset):
        return
    values = file[name][()]
    del file[name]
    if rng.random() < 0.85:
        with contextlib.suppress(TypeError, ValueError):
            file[name] = any_array(np.asarray(values), rng)


def _other_kind(file: h5py.File, rng: random.Random) -> None:
    """Put something in the place of a member that is no plain dataset, or add something."""
    name = rng.choice((*schema.TABLES, schema.FEATURES, schema.FEATURES, schema.DATA_LINK, schema.BACKBONE, "more"))
    shape = file[schema.FEATURES].shape if isinstance(file.get(schema.FEATURES), h5py.Dataset) else (40, 48)
    if name in file:
        del file[name]
    what = rng.choice(("group", "loop", "soft", "external link", "external storage", "virtual", "type", "null", "texts", "huge"))
    if what == "group":
        file.create_group(name)["graph"] = np.zeros(3, np.uint8)
    elif what == "loop":
        file[name] = file["/"]
    elif what == "soft":
        file[name] = h5py.SoftLink(rng.choice(("/", "/labels", "/nowhere", f"/{name}")))
    elif what == "external link":
        file[name] = h5py.ExternalLink(rng.choice(("/etc/passwd", "good.h5", "../x.h5", "/dev/zero")), "/features")
    elif what == "external storage":
        file.create_dataset(name, shape, "f4", external=[(rng.choice(("/etc/passwd", "/dev/zero")), 0, h5py.h5f.UNLIMITED)])
    elif what == "virtual":
        shown = h5py.VirtualLayout(shape, "f4")
        shown[...] = h5py.VirtualSource(rng.choice(("good.h5", "/etc/passwd", ".")), "features", shape, "f4")
        file.create_virtual_dataset(name, shown)
    elif what == "type":
        file[name] = np.dtype("f4")
    elif what == "null":
        file[name] = h5py.Empty("f4")
    elif what == "texts":
        file.create_dataset(name, data=["x" * 10] * 40, dtype=h5py.string_dtype())
    else:
        file.create_dataset(name, (2**40, 48), "f4", chunks=(64, 48), compression=rng.choice((None, "gzip", "lzf")))


def _other_features(file: h5py.File, rng: random.Random) -> None:
    """Keep a sound file, but for what its features are."""
    features = file.get(schema.FEATURES)
    if not isinstance(features, h5py.Dataset) or features.is_virtual or not features.size or features.size > 1 << 20:
        return
    values = any_array(features[()], rng)
    del file[schema.FEATURES]
    options = rng.choice(({}, {"compression": "gzip"}, {"scaleoffset": 3}, {"fletcher32": True}, {"shuffle": True}))
    with contextlib.suppress(TypeError, ValueError, OSError):
        file.create_dataset(schema.FEATURES, data=values, chunks=True if options else None, **options)


_STORE_STEPS = (_other_attribute, _other_attribute, _other_text, _other_table, _other_table, _other_kind, _other_features)


def members_of(path: Path) -> dict[str, bytes]:
    """Return the members of a model file."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def damaged_bundle(good: Path, bad: Path, rng: random.Random) -> None:
    """Write a model file with other bytes, or one that somebody made, with digests that fit."""
    if rng.random() < 0.25:
        bad.write_bytes(damaged_bytes(good.read_bytes(), rng))
        return
    members = members_of(good)
    steps: tuple[Callable[[dict[str, bytes], random.Random], None], ...] = (
        _other_record,
        _other_record,
        _other_arrays,
        _other_member,
    )
    for _ in range(rng.choice((1, 1, 2))):
        rng.choice(steps)(members, rng)
    with contextlib.suppress(ValueError, TypeError, AttributeError, KeyError, RecursionError, SpecError):
        record = json.loads(members[MANIFEST])
        record["members"] = {name: bytes_digest(data) for name, data in members.items() if name != MANIFEST}
        if rng.random() < 0.5:
            record["spec_digest"] = spec_digest(ExtractSpec.from_json(record["spec"]))
        members[MANIFEST] = json.dumps(record).encode()
    _write_zip(bad, members, rng)


def _other_record(members: dict[str, bytes], rng: random.Random) -> None:
    name = rng.choice((MANIFEST, MANIFEST, MANIFEST, SPLITS))
    with contextlib.suppress(KeyError, ValueError, RecursionError):  # a step before may have left nothing of it
        members[name] = json.dumps(damaged_json(json.loads(members[name]), rng)).encode()


def _other_arrays(members: dict[str, bytes], rng: random.Random) -> None:
    name = rng.choice((HEAD, HEAD, HEAD, GOLDEN))
    try:
        with np.load(io.BytesIO(members[name])) as file:
            arrays = {key: file[key] for key in file.files}
    except Exception:  # a step before this one may have left anything there
        return
    key = rng.choice(sorted(arrays))
    what = rng.choice(("change", "change", "change", "lose", "object", "compress", "header"))
    if what == "lose":
        del arrays[key]
    elif what == "object":
        arrays[key] = np.asarray([{"a": 1}], object)
    else:
        arrays[key] = any_array(arrays[key], rng)
    buffer = io.BytesIO()
    (np.savez_compressed if what == "compress" else np.savez)(buffer, **arrays)
    data = buffer.getvalue()
    if what == "header":
        data = data.replace(b"'shape': (", b"'shape': (" + rng.choice((b"9", b"-", b"99999999,", b"(")))
    members[name] = data


def _other_member(members: dict[str, bytes], rng: random.Random) -> None:
    name = rng.choice(sorted(members))
    what = rng.choice(("lose", "bytes", "empty", "more", "long"))
    if what == "lose":
        del members[name]
    elif what == "bytes":
        members[name] = damaged_bytes(members[name], rng)
    elif what == "empty":
        members[name] = b""
    elif what == "long":
        members[name] = members[name] + b" " * 100_000
    else:
        members[
            rng.choice(("../outside", "/outside", "C:\\outside", "a/../../outside", "backbone.keras", "backbone.xml", "\0"))
        ] = b"x"


def _write_zip(path: Path, members: dict[str, bytes], rng: random.Random) -> None:
    odd = rng.choice(sorted(members)) if members and rng.random() < 0.2 else None
    what = rng.choice(("deflate", "link", "folder", "twice"))
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            if name == odd and what == "deflate":
                info.compress_type = zipfile.ZIP_DEFLATED
            elif name == odd and what == "link":
                info.external_attr = 0o120777 << 16
            elif name == odd and what == "folder":
                info.external_attr = 0o040755 << 16
            archive.writestr(info, data)
            if name == odd and what == "twice":
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    archive.writestr(info, data)
