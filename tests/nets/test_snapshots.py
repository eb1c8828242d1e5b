"""Public signatures, help texts and keys of ``--json`` are those that stand beside this file; ``write.py`` wrote them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
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
