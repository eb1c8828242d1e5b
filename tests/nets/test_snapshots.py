"""Public signatures, help texts and keys of ``--json`` are those that stand beside this file; ``write.py`` wrote them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from json_keys import json_keys, keys, missing
from snapshots import help_texts, parameters, signatures

HERE = Path(__file__).parent


def test_public_signatures() -> None:
    assert signatures() == json.loads((HERE / "signatures.json").read_text("utf-8"))


def test_what_a_signature_is_made_of() -> None:
    """So that the test above can fail."""

    def function(a: os.PathLike[str], *rest: int, b: list[np.ndarray] | None = None, c: Any = len) -> bool | None:
        return b is c

    assert parameters(function) == [
        "positional_or_keyword a: PathLike[str]",
        "var_positional rest: int",
        "keyword_only b: list[ndarray] | None = None",
        "keyword_only c: Any = <function>",
        "-> bool | None",
    ]


@pytest.fixture(scope="module")
def helped() -> dict[str, str]:
    return help_texts()


def test_help(helped: dict[str, str]) -> None:
    stored = json.loads((HERE / "help.json").read_text("utf-8"))
    assert set(helped) == set(stored)
    for command, text in helped.items():
        assert text.splitlines() == stored[command], command


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")  # the bench runs modules that are loaded
@pytest.mark.usefixtures("quick_measures", "quick_searches")
def test_keys_of_json(tmp_path: Path) -> None:
    stored = json.loads((HERE / "keys.json").read_text("utf-8"))
    found = json_keys(tmp_path)
    assert set(found) == set(stored)
    assert {run: lacks for run in stored if (lacks := missing(run, stored[run], found[run]))} == {}


@pytest.mark.parametrize(
    ("now", "lacks"),
    [
        ({"a": [{"b": 2, "c": {"d": None}, "new": 1}]}, []),
        ({"a": [{"b": None, "c": None}]}, []),
        ({"a": [{"b": "2", "c": {"d": "x"}}]}, ["a[].b: ['number'], now ['text']"]),
        ({"a": [{"b": 2, "c": {}}]}, ["a[].c.d: ['text'], now None"]),
        (
            {"a": []},
            [
                "a[]: ['object'], now None",
                *(f"a[].{key}, now None" for key in ("b: ['number']", "c: ['object']", "c.d: ['text']")),
            ],
        ),
    ],
)
def test_a_key_that_is_gone_would_be_seen(now: dict[str, Any], lacks: list[str]) -> None:
    was = {place: sorted(types) for place, types in keys({"a": [{"b": 1, "c": {"d": "x"}}]}).items()}
    found = {place: sorted(types) for place, types in keys(now).items()}
    assert missing("info f.h5", was, found) == lacks
