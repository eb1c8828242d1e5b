"""Write what the nets hold, anew: ``python tests/nets/write.py PART ...``, from anywhere; ``all`` is every part.

A commit that is named below, after ``files``, writes its files alone, and leaves the others: so new ones are added.

The parts are ``signatures``, ``help``, ``keys``, ``files`` and ``answers``. Only
for what is meant to change: a snapshot is never written to make a test pass.

``files`` are written by the versions that are named below, out of the history
of the project, so it needs that; ``answers`` are those of the code as it is.
"""

from __future__ import annotations

import csv
import io
import json
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE)]

WRITTEN = HERE / "written"
PLACE = Path(tempfile.gettempdir()) / "ffe-nets"  # its name stands in the files, as their source

_FAKE = "--backbone fake --size 32"
_CUT = "--backbone mobilenet_0.25 --size 32 --weights random --layer"  # the first layers of a network, so it is small
_VIEWS = "flip,rotate=15"

# commit, and what it runs
VERSIONS = {
    "01d266c": (  # feature files and models of schema 1
        f"extract photos.csv -o schema1.h5 {_FAKE}",
        "train schema1.h5 -o schema1_logistic.ffe --head logistic",
    ),
    "ad7470b": (  # feature files of schema 2, still without fingerprints and groups; models of schema 2
        f"extract photos.csv -o schema2_first.h5 {_FAKE}",
        "train schema2_first.h5 -o schema2_svm.ffe --head svm",
    ),
    "f41527c": (  # feature files of schema 2; models of schema 3
        f"extract photos.csv -o schema2.h5 {_FAKE}",
        f"extract pictures -o schema2_int8.h5 {_CUT} conv_pw_6_relu --precision int8",
        "train schema2.h5 -o schema3_dense.ffe --head dense",
    ),
    "9e219a1": (  # feature files of schema 3
        f"extract photos.csv -o schema3_views.h5 {_FAKE} --views 2 --augment {_VIEWS}",
        f"extract pictures -o schema3_int8.h5 {_CUT} conv_pw_6_relu --precision int8",
        f"extract photos.csv -o schema3_gzip.h5 {_FAKE} --compress gzip",
        f"extract half.csv -o schema3_part1.h5 {_FAKE}",
        f"extract other.csv -o schema3_part2.h5 {_FAKE}",
        "pack schema3_part1.h5 schema3_part2.h5 -o schema3_virtual.h5 --virtual",
    ),
    "e778914": (  # version 0.1.0 before its files moved: feature files and models of schema 4
        f"extract photos.csv -o schema4.h5 {_FAKE}",
        f"extract photos.csv -o schema4_views.h5 {_FAKE} --views 2 --augment {_VIEWS}",
        f"extract pictures -o schema4_int8.h5 {_CUT} conv_pw_6_relu --precision int8 --dtype float16",
        f"extract photos.csv -o schema4_gzip.h5 {_FAKE} --compress gzip",
        f"extract photos.csv -o schema4_zstd.h5 {_FAKE} --compress zstd --dtype float16",
        f"extract half.csv -o schema4_part1.h5 {_FAKE}",
        f"extract other.csv -o schema4_part2.h5 {_FAKE} --compress lzf",
        "pack schema4_part1.h5 schema4_part2.h5 -o schema4_virtual.h5 --virtual",
        "pack schema4_part1.h5 schema4_part2.h5 -o schema4_packed.h5",
        f"extract pictures -o whole.h5 {_FAKE}",
        f"extract photos.csv -o many.h5 {_FAKE} --views 400 --augment {_VIEWS}",
        f"extract pictures -o cut.h5 {_CUT} conv_pw_4_relu",
        "train schema4.h5 -o svm.ffe --head svm",
        "train schema4.h5 -o svm_linear.ffe --head svm --set kernel=linear --set pca=true",
        "train many.h5 -o svm_landmarks.ffe --head svm --set pooling=avg",
        "train schema4.h5 -o logistic.ffe --head logistic --anonymous --reject 0.6",
        "train schema4.h5 -o dense.ffe --head dense",
        "train schema4_views.h5 -o dense_views.ffe --head dense --views epoch",
        "train schema4.h5 -o forest.ffe --head forest --set trees=100",
        "tune whole.h5 -o ensemble.ffe --heads svm,logistic --trials 4 --ensemble 3 --seed 3",
        "train schema4_int8.h5 -o int8.ffe --head logistic --set pooling=avg",
        "train cut.h5 -o backbone.ffe --head logistic --set pooling=avg --set C=10",
        "train cut.h5 -o without_backbone.ffe --head dense --set pooling=avg --set first_dense=16 --without-backbone",
        "finetune pictures --from backbone.ffe -o finetuned.ffe --unfreeze 3,6 --epochs 30 --learning-rate 2e-2 --batch-size 8",
        "scratch pictures -o scratch.ffe --size 46 --plain --epochs 40 --learning-rate 1e-3 --batch-size 8",
    ),
    "86a54ae": (  # feature files and models of schema 5: several layers, tokens, several backbones
        f"extract photos.csv -o schema5_layers.h5 {_CUT} conv_pw_6_relu,conv_pw_11_relu --dtype float16",
        "extract photos.csv -o schema5_tokens.h5 --backbone timm:test_vit --size 32 --weights random --dtype float16",
        f"extract photos.csv -o fake.h5 {_FAKE}",
        f"extract photos.csv -o cut5.h5 {_CUT} conv_pw_4_relu",
        "train fake.h5 cut5.h5 -o schema5_fused.ffe --head logistic --set pooling=avg",
    ),
}
STEPS = ("whole.h5", "many.h5", "cut.h5", "fake.h5", "cut5.h5")  # needed on the way only

# trained weights, but rounded: else the file of a network from scratch is eight times as large
_ROUNDED = """
import runpy
import keras
get_weights = keras.Model.get_weights
keras.Model.get_weights = lambda model: [(values * 16).round() / 16 for values in get_weights(model)]
runpy.run_module("ffe", run_name="__main__")
"""


def _write_json(name: str, content: Any) -> None:
    (HERE / name).write_text(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")


def write_signatures() -> None:
    """Write ``signatures.json``."""
    from snapshots import signatures

    _write_json("signatures.json", signatures())


def write_help() -> None:
    """Write ``help.json``: the lines of each help text."""
    from snapshots import help_texts

    _write_json("help.json", {command: text.splitlines() for command, text in help_texts().items()})


def write_keys() -> None:
    """Write ``keys.json``."""
    from json_keys import json_keys

    with tempfile.TemporaryDirectory() as folder:
        _write_json("keys.json", json_keys(Path(folder)))


def _draw_up_photos() -> None:
    """Copy the drawn pictures, and one that is broken; list them, with splits and groups, in tables."""
    for file in sorted((ROOT / "data" / "pictures").rglob("*.png")):
        (PLACE / "pictures" / file.parent.name).mkdir(exist_ok=True, parents=True)
        shutil.copyfile(file, PLACE / "pictures" / file.parent.name / file.name)
    (PLACE / "pictures" / "cat" / "broken.png").write_bytes(b"no picture")
    rows = []
    for i, file in enumerate(sorted((PLACE / "pictures").rglob("*.png"))):
        os.utime(file, (1e9, 1e9))
        split = ("train", "train", "train", "train", "valid", "test")[i % 6]
        rows.append((file.relative_to(PLACE).as_posix(), file.parent.name, split, f"series {i // 2}"))
    for name, some in (("photos", rows), ("half", rows[::2]), ("other", rows[1::2])):
        with (PLACE / f"{name}.csv").open("w", newline="") as table:
            csv.writer(table).writerows([("path", "label", "split", "group"), *some])


def write_files(*commits: str) -> None:
    """Write the feature files and models, each by the version that it is of; those of some ``commits`` alone, or all."""
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir()
    _draw_up_photos()
    for commit in commits or VERSIONS:
        commands = VERSIONS[commit]
        code = PLACE / "code" / commit
        archive = subprocess.run(["git", "archive", commit, "ffe"], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(code, filter="data")
        own = {"PYTHONPATH": str(code), "FFE_CACHE_DIR": str(code / "cache"), "HOME": str(code), "KERAS_HOME": str(code)}
        for command in commands:
            how = ["-c", _ROUNDED] if command.startswith("scratch") else ["-m", "ffe"]
            print(commit, command, flush=True)
            subprocess.run([sys.executable, *how, *command.split()], cwd=PLACE, env=os.environ | own, check=True)
    if not commits:
        shutil.rmtree(WRITTEN, ignore_errors=True)
    WRITTEN.mkdir(exist_ok=True)
    for file in sorted([*PLACE.glob("*.h5"), *PLACE.glob("*.ffe")]):
        if file.name not in STEPS:
            (WRITTEN / f"{file.name}.xz").write_bytes(lzma.compress(file.read_bytes(), preset=9 | lzma.PRESET_EXTREME))


def write_answers() -> None:
    """Write ``answers.json``."""
    from answers import all_answers

    with tempfile.TemporaryDirectory() as folder:
        _write_json("answers.json", all_answers(Path(folder)))


PARTS = {
    "signatures": write_signatures,
    "help": write_help,
    "keys": write_keys,
    "files": write_files,
    "answers": write_answers,
}

if __name__ == "__main__":
    asked = sys.argv[1:]
    if asked[:1] == ["files"] and set(asked[1:]) <= set(VERSIONS):
        write_files(*asked[1:])
    else:
        for part in PARTS if asked == ["all"] else asked:
            PARTS[part]()
