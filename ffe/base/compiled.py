"""Functions of loops over arrays -> machine code, by numba, kept in the cache folder."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache

from ffe.base.system import cache_root
from ffe.errors import FfeError


class _Cache(FunctionCache):
    """Numba's cache of compiled code; what cannot be read or written there is compiled anew."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        with contextlib.suppress(Exception):  # a damaged file raises errors of many kinds
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with contextlib.suppress(Exception):  # the disk is full, or the index is damaged
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]


def _cache_of(function: Callable[..., Any]) -> _Cache | None:
    """Return where a function's compiled code is kept: ``numba`` in the cache folder; None if nothing can be written there.

    Numba's own choice is beside the source. There it outlives the package, and
    hides the next one: pip removes what it knows, and Python takes the folder that stays for a package.
    """
    config: Any = numba.config
    given = config.CACHE_DIR
    try:
        folder = Path(given or cache_root() / "numba")
        if folder.parts[:1] == ("~",):  # there is no home
            return None
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        config.CACHE_DIR = str(folder)
        return _Cache(function)  # type: ignore[no-untyped-call]
    except (OSError, RuntimeError, FfeError):  # no home, no such disk: compiling costs time and nothing else
        return None
    finally:
        config.CACHE_DIR = given


def compiled(function: Callable[..., Any], *, fast: bool = False, inline: bool = False) -> Any:
    """Compile a function when it is first called.

    ``fast`` lets the compiler put sums of floats in another order; ``inline`` puts the function into those that call it.
    """
    made: Any = numba.njit(nogil=True, fastmath=fast, error_model="numpy", inline="always" if inline else "never")(function)
    cache = _cache_of(function)
    if cache is not None:
        made._cache = cache  # as its enable_caching() would, with numba's own class
    return made
