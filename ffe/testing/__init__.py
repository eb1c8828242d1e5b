"""Contracts: what every engine, head and runner must pass. Subclass one in a test file.

Importing a contract needs pytest, which only the extra ``test`` installs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["EngineContract", "HeadContract", "RunnerContract"]

_HOMES = {
    "EngineContract": "ffe.testing.engine",
    "HeadContract": "ffe.testing.head",
    "RunnerContract": "ffe.testing.runner",
}

if TYPE_CHECKING:
    from ffe.testing.engine import EngineContract
    from ffe.testing.head import HeadContract
    from ffe.testing.runner import RunnerContract


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ffe.testing' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
