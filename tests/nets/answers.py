"""What ffe says of the feature files and models in ``written``: through the command line, and by the public classes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import lzma
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner

import ffe
from ffe.cli import cli

HERE = Path(__file__).resolve().parent
WRITTEN = HERE / "written"
PICTURES = HERE.parents[1] / "data" / "pictures"

FILES = sorted(path.name.removesuffix(".xz") for path in WRITTEN.glob("*.xz"))
ASKED = ("cat/cat_000.png", "cat/cat_007.png", "dog/dog_000.png", "dog/dog_005.png")

# what a model is evaluated on; it must be made by the same spec. The others' features are not kept.
EVALUATED = {
    "int8.ffe": "schema4_int8.h5",
    **dict.fromkeys(
        (
            *("svm.ffe", "svm_linear.ffe", "svm_landmarks.ffe", "logistic.ffe", "dense.ffe", "dense_views.ffe", "forest.ffe"),
            *("ensemble.ffe", "schema1_logistic.ffe", "schema2_svm.ffe", "schema3_dense.ffe"),
        ),
        "schema4.h5",
    ),
}

COLUMNS = ("paths", "sha256", "split", "group", "labels", "views", "phash")


def unpack(folder: Path) -> None:
    """Write the feature files and models into a folder."""
    for name in FILES:
        (folder / name).write_bytes(lzma.decompress((WRITTEN / f"{name}.xz").read_bytes()))


def run(*arguments: str) -> list[Any]:
    """Run a command in this process; return what it printed as JSON, line by line."""
    result = CliRunner().invoke(cli, [*arguments, "--json"])
    assert result.exit_code == 0, f"{arguments}: {result.exit_code}\n{result.output}"
    return [json.loads(line) for line in result.stdout.splitlines()]


def answers(name: str, folder: Path) -> dict[str, Any]:
    """Return what ffe says of one file; ``ffe verify`` must find nothing wrong.

    Args:
        name: of the file.
        folder: where ``unpack`` wrote all of them.
    """
    with contextlib.chdir(folder):
        (found,) = run("verify", name)
        (info,) = run("info", name)
        said = {"verify": {key: found[key] for key in ("ok", "checksums", "schema", "rows")}}
        return said | (_of_features(name, info) if name.endswith(".h5") else _of_model(name, info))


def _of_features(name: str, info: dict[str, Any]) -> dict[str, Any]:
    if info.get("parts"):
        info["parts"] = [os.path.basename(part) for part in info["parts"]]
    with ffe.FeatureStore(name) as store:
        columns = {column: _digest(getattr(store, column)) for column in COLUMNS}
        return {"info": info, "columns": columns, "features": _digest(store.features())}


def _digest(values: np.ndarray | Iterable[str]) -> str:
    """Return the start of the SHA-256 of an array's bytes, or of texts."""
    if isinstance(values, np.ndarray):
        return hashlib.sha256(values.astype(values.dtype.newbyteorder("<")).tobytes()).hexdigest()[:16]
    return hashlib.sha256(json.dumps(list(values)).encode()).hexdigest()[:16]


def _of_model(name: str, info: dict[str, Any]) -> dict[str, Any]:
    asked = run("predict", name, *(str(PICTURES / picture) for picture in ASKED))
    said: dict[str, Any] = {
        "info": {key: info[key] for key in ("schema", "spec_digest", "grid", "head", "parameters", "class_names", "reject")},
        "predict": [[answer["label"], answer["sure"], answer["probabilities"]] for answer in asked],
    }
    if name in EVALUATED:
        (scores,) = run("evaluate", name, EVALUATED[name], "--answers")
        said["confusion"] = scores["confusion"]
        said["evaluate"] = [[answer["label"], answer["sure"], answer["probabilities"]] for answer in scores["answers"]]
    return said


def all_answers(folder: Path) -> dict[str, Any]:
    """Return what ffe says of every file."""
    unpack(folder)
    return {name: answers(name, folder) for name in FILES}
