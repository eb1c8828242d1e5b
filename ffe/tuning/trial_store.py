"""Trials that are finished, kept beside the output until the search is done: what was computed is not computed again."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ffe.base.atomic import atomic_write
from ffe.base.digests import bytes_digest, canonical_json
from ffe.tuning.problem import Outcome

TRIALS = r"[0-9a-f]{32}\.(npz(\.tmp-\d+)?|\d+\.tmp)"  # names of files, unfinished ones too


class TrialStore:
    """Outcomes of batches of trials, by what was asked; in no folder, nothing is kept.

    A search by number of trials asks for the same sets in the same order
    whenever it has the same rows, options and seed, so one that was interrupted
    goes through what it finished without computing anything. One by time finds
    the sets that it meets again. ``problem`` is the digest of the rows and of how
    they are split.
    """

    def __init__(self, folder: Path | None, problem: str) -> None:
        self._folder, self._problem = folder, problem
        self.known = 0  # trials that were found again

    def find(self, batch: Mapping[str, Any]) -> list[Outcome] | None:
        """Return the outcomes of a batch, in order; None if it was not finished, or its file is damaged."""
        path = self._path(batch)
        if path is None or not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                outcomes = [
                    Outcome(tuple(file[f"runs{i}"]), meta["seconds"], meta["size"], meta["found"], meta["curves"])
                    for i, meta in enumerate(json.loads(file["meta"].tobytes()))
                ]
        except Exception:  # a torn zip raises many kinds; the batch is computed again
            return None
        self.known += len(outcomes)
        return outcomes

    def keep(self, batch: Mapping[str, Any], outcomes: Sequence[Outcome]) -> None:
        """Keep the outcomes of a finished batch."""
        path = self._path(batch)
        if path is None:
            return
        path.parent.mkdir(exist_ok=True)
        meta = [
            {"seconds": o.seconds, "size": o.size, "found": dict(o.found), "curves": {k: list(v) for k, v in o.curves.items()}}
            for o in outcomes
        ]
        arrays = {f"runs{i}": np.stack(outcome.runs) for i, outcome in enumerate(outcomes)}
        with atomic_write(path, durable=False) as temporary, temporary.open("wb") as file:
            np.savez(file, meta=np.frombuffer(json.dumps(meta).encode(), np.uint8), **arrays)  # type: ignore[arg-type]

    def forget(self) -> None:
        """Delete what was kept; called once the model is written."""
        if self._folder is None or not self._folder.is_dir():
            return
        for path in self._folder.iterdir():
            if re.fullmatch(TRIALS, path.name):
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # somebody keeps other files there
            self._folder.rmdir()

    def _path(self, batch: Mapping[str, Any]) -> Path | None:
        if self._folder is None:
            return None
        return self._folder / f"{bytes_digest(canonical_json({'problem': self._problem, **batch}))[:32]}.npz"
