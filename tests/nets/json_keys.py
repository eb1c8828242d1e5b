"""The keys of what each command prints with ``--json``, and the types of their values."""

from __future__ import annotations

import contextlib
import io
import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from click.testing import CliRunner

from ffe.cli import cli
from ffe.images.drawings import draw

PICTURES = Path(__file__).resolve().parents[2] / "data" / "pictures"

_FAKE = "--backbone fake --size 32"
_CUT = "--backbone mobilenet_0.25 --size 32 --weights random"
_INT8 = "--layer conv_pw_4_relu --precision int8"

# in this order: what one makes the next takes; p holds drawn pictures, and a broken one; q some without labels
RUNS = (
    "scan p",
    "preview p -o preview.png --augment flip,rotate=15 --size 32",
    f"extract p -o f.h5 {_FAKE} --dry-run",
    f"extract p -o f.h5 {_FAKE} --views 1 --augment flip",
    f"extract p -o int8.h5 {_CUT} {_INT8}",
    "info f.h5",
    "similar f.h5 --row 1",
    "info int8.h5",
    "verify f.h5",
    "pack f.h5 -o packed.h5",
    "export f.h5 -o table.csv",
    "train f.h5 -o train.ffe --head logistic",
    "tune f.h5 -o tune.ffe --heads svm,logistic --trials 2 --reject 0.6",
    "info tune.ffe --splits",
    "verify tune.ffe",
    "evaluate train.ffe f.h5",
    "evaluate train.ffe p --answers",
    "predict train.ffe p",
    "explain train.ffe p",
    "suggest train.ffe q -n 2 -o next.csv",
    "suggest train.ffe f.h5 --wrong -o wrong.csv",
    "scratch p -o scratch.ffe --epochs 1 --size 46 --plain",
    "finetune p --from scratch.ffe -o finetuned.ffe --unfreeze 2 --epochs 1",
    "info finetuned.ffe",
    f"compare p -o compared --roads scratch,scratch-plain {_FAKE} --epochs 1",
    "bakeoff p -o baked --backbones fake,efficientnetlite0 --trials 1",
    "forget p/cat/cat_001.png packed.h5",
    "label p/cat/cat_000.png --top 2",
    "backbones",
    "cache .",
    "cache . --clear trials",
    "doctor",
    f"bench p {_CUT} --photos 24 --slow-photos 1 --repeats 1",
)

_MACHINE = ("backbones", "cache", "doctor", "bench")
# their keys hang on versions, on what a search proposes, or on what a model says
_FREE = ("libraries", "parameters", "settings", "members", "probabilities")


def keys(value: Any, place: str = "") -> dict[str, set[str]]:
    """Return the types of a value from JSON and of all that is in it, by where they stand: ``rows[].way``."""
    found: dict[str, set[str]] = {place: {_type(value)}}
    inside: list[tuple[str, Any]] = []
    if isinstance(value, list):
        inside = [(f"{place}[]", item) for item in value]
    elif isinstance(value, dict) and place.rpartition(".")[2] not in _FREE:
        inside = [(f"{place}.{key}" if place else key, item) for key, item in value.items()]
    for where, item in inside:
        for deeper, types in keys(item, where).items():
            found.setdefault(deeper, set()).update(types)
    return found


def _type(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else "true or false"
    return {int: "number", float: "number", str: "text", list: "list", dict: "object"}[type(value)]


def missing(run: str, stored: Mapping[str, list[str]], found: Mapping[str, list[str]]) -> list[str]:
    """Return what was promised and is not there: places, and types that others have taken the place of.

    New keys are no harm. On another machine a value may be null that is a
    number here, or the other way round, and what a command tells of the machine
    may be an empty list there.

    Args:
        run: the command line.
        stored: types by place, as they were.
        found: the same, as they are.
    """

    def nothing_in(place: str) -> bool:
        empty = found.get(place) == ["list"] and f"{place}[]" not in found and run.split()[0] in _MACHINE
        return empty or found.get(place) == ["null"]

    wrong = []
    for place, types in stored.items():
        above = [place[:i] for i, letter in enumerate(place) if letter in ".["]
        same = place in found and (set(found[place]) ^ set(types) <= {"null"} or ["null"] in (found[place], types))
        if not same and not (place not in found and any(map(nothing_in, above))):
            wrong.append(f"{place}: {types}, now {found.get(place)}")
    return wrong


def _in_this_process(command: list[str], *, env: Mapping[str, str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run ``python -m MODULE ...`` of a bench without a new interpreter."""
    module, *arguments = command[2:]
    said = io.StringIO()
    with mock.patch.dict(os.environ, env):
        if module == "ffe":
            result = CliRunner().invoke(cli, arguments)
            return subprocess.CompletedProcess(command, result.exit_code, result.stdout, result.stderr)
        with mock.patch.object(sys, "argv", [module, *arguments]), contextlib.redirect_stdout(said):
            runpy.run_module(module, run_name="__main__")
    return subprocess.CompletedProcess(command, 0, said.getvalue(), "")


def json_keys(folder: Path) -> dict[str, dict[str, list[str]]]:
    """Run every command in a folder; return the types of what it prints, by command line and place."""
    shutil.copytree(PICTURES, folder / "p")
    (folder / "p" / "cat" / "broken.png").write_bytes(b"no picture")
    (folder / "q").mkdir()
    for number in range(90, 93):
        draw("cat", number).save(folder / "q" / f"{number}.png")
    found = {}
    for run in RUNS:
        alone = mock.patch.object(subprocess, "run", _in_this_process) if run.startswith("bench") else contextlib.nullcontext()
        with contextlib.chdir(folder), alone:
            result = CliRunner().invoke(cli, [*run.split(), "--json"])
        assert result.exit_code == 0, f"ffe {run}: {result.output}"
        values = [json.loads(line) for line in result.stdout.splitlines()]
        merged: dict[str, set[str]] = {}
        for value in values:
            for place, types in keys(value).items():
                merged.setdefault(place, set()).update(types)
        found[run] = {place: sorted(types) for place, types in merged.items()}
    return found
