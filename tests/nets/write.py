"""Write what the nets hold, anew: ``python tests/nets/write.py [PART ...]``, from the root of the project.

Only for what is meant to change; a snapshot is never written to make a test pass.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from snapshots import help_texts, signatures

HERE = Path(__file__).resolve().parent


def _write_json(name: str, content: Any) -> None:
    (HERE / name).write_text(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")


def write_signatures() -> None:
    """Write ``signatures.json``."""
    _write_json("signatures.json", signatures())


def write_help() -> None:
    """Write ``help.json``: the lines of each help text."""
    _write_json("help.json", {command: text.splitlines() for command, text in help_texts().items()})


PARTS: dict[str, Callable[[], None]] = {"signatures": write_signatures, "help": write_help}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
