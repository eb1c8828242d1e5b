"""The command that makes a model again asks for what its file records, and for nothing else."""

from __future__ import annotations

import inspect
import json
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

import ffe.commands.finetune
import ffe.commands.scratch
import ffe.commands.tune
from ffe.bundle.made_again import command_again
from ffe.cli import cli
from ffe.commands.tune import TuneOptions
from ffe.finetuning.training_options import FinetuneOptions, ScratchOptions
from ffe.specs import HeadSpec

OPTIONS: dict[str, Any] = {"finetune": FinetuneOptions, "scratch": ScratchOptions, "tune": TuneOptions, "train": TuneOptions}
MODULES: dict[str, Any] = {**vars(ffe.commands), "train": ffe.commands.tune}


def asked(command: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, dict[str, Any]]:
    """Return the options that a command comes to, and the keywords that they are made of; nothing is computed."""
    name, *arguments = shlex.split(command)
    function, found = getattr(MODULES[name], name), list[dict[str, Any]]()

    def called(*args: Any, **keywords: Any) -> None:
        bound = inspect.signature(function).bind(*args, **keywords)
        bound.apply_defaults()
        found.append(bound.arguments)
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(MODULES[name], name, called)
        result = CliRunner().invoke(cli, [name, *arguments])
    assert found, result.output
    (keywords,) = found
    more: dict[str, Any] = {}
    if name in {"tune", "train"}:
        more = {"searched": name == "tune"} | ({"heads": ("logistic",), "trials": 1} if name == "train" else {})
        heads = keywords.get("heads")
        more |= {"heads": ("svm", "logistic", "dense", "forest")} if heads == "auto" else {}
    return OPTIONS[name].of({**keywords, **more}), keywords


def model_of(command: str, options: Any, keywords: dict[str, Any]) -> Any:
    """Return what stands for the file that the command would make."""
    name, spec = command.split()[0], json.loads(json.dumps(options.spec.to_json()))
    size = keywords.get("size") or 32
    manifest = SimpleNamespace(
        training={"kind": {"finetune": "finetuned"}.get(name, name), "options": spec} if name in {"scratch", "finetune"} else {},
        search=spec if name in {"tune", "train"} else {"seed": spec["seed"], "test_fraction": keywords.get("test_fraction", 0.2)},
        head=HeadSpec("ensemble" if name == "tune" else "logistic", {"C": 3.0} if name == "train" else {}),
        spec=SimpleNamespace(
            preprocess=SimpleNamespace(size=size if isinstance(size, tuple) else (size, size)),
            backbone=SimpleNamespace(name="mobilenet"),
        ),
        reject=keywords.get("reject", 0.0),
    )
    return SimpleNamespace(manifest=manifest, has_backbone=keywords.get("with_backbone", True))


@pytest.mark.parametrize(
    "command",
    [
        "scratch PHOTOS -o m.ffe --overwrite",
        "scratch PHOTOS -o m.ffe --overwrite --epochs 3 --patience 4 --seed 2 --plain --size 64x64 --test-fraction 0.3",
        "scratch PHOTOS -o m.ffe --overwrite --schedule exponential --hold 2 --budget 90s --augment none --size 64x48",
        "finetune PHOTOS --from START.ffe -o m.ffe --overwrite --unfreeze 6",
        "finetune PHOTOS --from START.ffe -o m.ffe --overwrite --unfreeze 6,19 --epochs 15,3 --learning-rate 0.0001,1e-05 "
        "--patience 0 --train-batchnorm --class-weights none --views 2 --dropout 0.3 --augment flip,zoom=0.8-1.2",
        "train f.h5 -o m.ffe --overwrite --head logistic --set C=3.0",
        "train 'my f.h5' -o m.ffe --overwrite --valid v.h5 --test t.h5 --head logistic --set C=3.0 --test-fraction 0.3 "
        "--class-weights none --refit all --seed 3 --views none --folds 3 --reject 0.8 --without-backbone",
        "tune a.h5 b.h5 -o m.ffe --overwrite --metric accuracy --ensemble 4",
        "tune a.h5 -o m.ffe --overwrite --heads svm,dense --budget 60s --metric log_loss --oracle random --executions 2 "
        "--epochs 9 --ensemble 3 --trials 5 --set C=3 --seed 1",
    ],
)
def test_a_command_comes_back_word_for_word(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options, keywords = asked(command, monkeypatch)
    files = [keywords.get(name) or () for name in ("features", "valid", "test")]
    again = command_again(model_of(command, options, keywords), Path("m.ffe"), *files)
    assert again == f"ffe {command}"
