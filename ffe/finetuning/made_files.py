"""The activations that one run makes, and which of them go when it ends."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from ffe.errors import DiskFullError, FfeError
from ffe.finetuning.training_options import FinetuneOptions
from ffe.store.journal_folder import delete_folder, journal_folder
from ffe.store.journal_records import has_rows

log = logging.getLogger("ffe")

_LIST = "made-for-one-run.txt"  # in a folder of activations: what goes when the run has what it needs; "." = the folder too


class MadeFiles:
    """What a run makes in the folder of its activations, and deletes in the end if it is not to be kept."""

    def __init__(self, options: FinetuneOptions) -> None:
        self._folder = options.folder
        self._keeps = options.keep_cache
        self._own = options.cache is None  # whether the folder serves one output alone
        self._made_here: dict[Path, bool] = {}  # each file; False = it was there, whole
        self._made_folder = False
        self._listed: set[str] = set()

    def add(self, path: Path) -> bool:
        """Take in a file that is about to be made, or to be completed; return whether it is new here."""
        if not self._folder.is_dir():
            self._folder.mkdir()
            self._made_folder = True
        if path in self._made_here:
            return False
        self._made_here[path] = not path.exists()
        if self._own and not self._keeps and self._made_here[path]:
            self._write_list(self._listed | {path.name, *(["."] if self._made_folder else [])})
        return True

    @contextlib.contextmanager
    def tidied(self) -> Iterator[None]:
        """Delete, in the end, what was made here, if it is not to be kept, and a folder that is empty.

        Files stay where the run can go on with them: after an interruption, and on a full disk. A folder of one output's
        own has their names in a list, so that the run that goes on with them deletes them, if it succeeds.

        A KeyboardInterrupt says that they stay, where there are some.
        """
        if self._own:
            with contextlib.suppress(OSError, ValueError):
                self._listed = set((self._folder / _LIST).read_text("utf-8").split("\n")) - {""}
        try:
            yield
        except KeyboardInterrupt as error:
            if not self._keeps and any(path.exists() or has_rows(path) for path in self._made_here):
                raise KeyboardInterrupt("activations that were computed are kept for the same command") from error
            raise
        except DiskFullError:
            raise
        except FfeError:
            self._delete([path for path, made in self._made_here.items() if made])
            raise
        else:
            self._delete([path for path, made in self._made_here.items() if made or path.name in self._listed])

    def _delete(self, files: list[Path]) -> None:
        whole = self._made_folder or "." in self._listed
        if not self._keeps:
            for path in files:
                path.unlink(missing_ok=True)
                delete_folder(journal_folder(path))
            if len(files) < len(self._made_here):
                log.info("activations that an earlier run left stay in '%s'; delete what you need no more", self._folder)
        if self._own:
            self._write_list(self._listed - {path.name for path in files})
        if whole:
            with contextlib.suppress(OSError):
                self._folder.rmdir()

    def _write_list(self, names: set[str]) -> None:
        """Write which activations were made for this run alone; without that file, they stay."""
        self._listed, place = names, self._folder / _LIST
        with contextlib.suppress(OSError):
            if names - {"."}:
                place.write_text("\n".join(sorted(names)), "utf-8")
            else:
                place.unlink(missing_ok=True)
