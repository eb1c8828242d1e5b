"""Keep what TensorFlow writes to standard error while it is imported away from the user."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
import tempfile
from collections.abc import Sequence
from types import ModuleType


class _Loader(importlib.abc.Loader):
    """Runs another loader with file descriptor 2 sent to a file; shows the file if the import fails."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        sys.stderr.flush()
        kept = os.dup(2)
        with tempfile.TemporaryFile() as file:
            os.dup2(file.fileno(), 2)
            try:
                self._loader.exec_module(module)
            except BaseException:
                file.seek(0)
                os.write(kept, file.read())
                raise
            finally:
                os.dup2(kept, 2)
                os.close(kept)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds TensorFlow where it is, and wraps its loader."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "tensorflow":
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


def quiet_tensorflow() -> None:
    """Import TensorFlow quietly, whenever it comes to be imported.

    Its C++ parts greet with lines about oneDNN and CUDA that no setting turns
    off; a user who reads photos has no use for them. What Python itself writes
    goes through a descriptor of its own, so that nothing of it is lost where
    TensorFlow is imported beside other work.
    """
    try:
        own = os.dup(sys.stderr.fileno())
    except (AttributeError, OSError):  # no standard error, or one that is no file
        pass
    else:
        sys.stderr = open(own, "w", buffering=1, encoding=sys.stderr.encoding, errors=sys.stderr.errors)  # noqa: SIM115
    sys.meta_path.insert(0, _Finder())
