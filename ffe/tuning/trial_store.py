"""Trials that are finished, kept beside the output until the search is done: what was computed is not computed again."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ffe.base.atomic import atomic_write
from ffe.base.digests import bytes_digest, canonical_json
from ffe.tuning.problem import Outcome

TRIALS = r"[0-9a-f]{32}\.(npz(\.tmp-\d+)?|\d+\.tmp)"  # names of files, unfinished ones too


class TrialStore:
    """Outcomes of trials, by what was asked; in no folder, nothing is kept.

    A search by number of trials asks for the same sets in the same order
    whenever it has the same rows, options and seed, so one that was interrupted
    goes through what it finished without computing anything. ``problem`` is the
    digest of the rows and of how they are split.
    """

    def __init__(self, folder: Path | None = None, problem: str = "") -> None:
        self._folder, self._problem = folder, problem
        self.known = 0  # trials that were found again

    def find(self, asked: Mapping[str, Any]) -> Outcome | None:
        """Return what a trial came to; None if it was not finished, or its file is damaged."""
        path = self._path(asked)
        if path is None or not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                (meta,) = json.loads(file["meta"].tobytes())
                outcome = Outcome(tuple(file["runs0"]), **meta)
        except Exception:  # a torn zip raises many kinds; the trial is computed again
            return None
        self.known += 1
        return outcome

    def keep(self, asked: Mapping[str, Any], outcome: Outcome) -> None:
        """Keep what a finished trial came to."""
        path = self._path(asked)
        if path is None:
            return
        path.parent.mkdir(exist_ok=True)
        meta = {name: value for name, value in vars(outcome).items() if name != "runs"}
        with atomic_write(path, durable=False) as temporary, temporary.open("wb") as file:
            np.savez(file, meta=np.frombuffer(json.dumps([meta]).encode(), np.uint8), runs0=np.stack(outcome.runs))

    def forget(self) -> None:
        """Delete what was kept; called once the model is written."""
        if self._folder is None or not self._folder.is_dir():
            return
        for path in self._folder.iterdir():
            if re.fullmatch(TRIALS, path.name):
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # somebody keeps other files there
            self._folder.rmdir()

    def _path(self, asked: Mapping[str, Any]) -> Path | None:
        if self._folder is None:
            return None
        return self._folder / f"{bytes_digest(canonical_json({'problem': self._problem, **asked}))[:32]}.npz"
