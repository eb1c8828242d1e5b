"""``cache``: what is kept to save time, where it is, how large it is; and removing it. All of it can be made again."""

from __future__ import annotations

import contextlib
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ffe.backbones.weights import keras_home
from ffe.base.system import cache_root
from ffe.errors import FfeError, SourceError
from ffe.store.journal_folder import DRAFT, LOCK, delete_folder, lock_output, release_output
from ffe.store.reader import FeatureStore
from ffe.tuning.trial_store import TRIALS

WEIGHTS = "weights"

_DIGESTED = r"[0-9a-f]{32,}(-\w+)*"
# what lies in the cache folder: kind -> (what it is, folder, where in it, names of files)
_IN_ROOT = {
    "models": ("converted and quantised backbones", "models", "*", rf"{_DIGESTED}\.zip(\.tmp-\d+)?"),
    "compiled": ("compiled code of engines and heads", "numba", "*/*", r".+\.nb[ic](\.tmp\..+)?"),
    "runs": ("rates and sizes that earlier runs showed", "runs", "*", rf"{_DIGESTED}\.json(\.tmp-\d+)?"),
    "facts": ("what timm and transformers say of their models", "facts", "*", rf"{_DIGESTED}\.json(\.tmp-\d+)?"),
    "engines": ("which engine runs a backbone faster here", "engines", "*", rf"{_DIGESTED}(-\d+)?\.json(\.tmp-\d+)?"),
    "digests": ("digests of large files", "digests", "*", rf"{_DIGESTED}\.json(\.tmp-\d+)?"),
}
# what lies beside outputs: kind -> (what it is, names of folders, names of files)
_BESIDE = {
    "trials": ("finished trials of searches that were interrupted", ("*.search",), TRIALS),
    "activations": ("activations of fine-tuning", ("*.cache", "activations"), r".+-[0-9a-f]{12}\.h5|made-for-one-run\.txt"),
}
KINDS = (*_IN_ROOT, *_BESIDE)


@dataclass(frozen=True)
class CacheEntry:
    """How many files of one kind lie in a folder, and their size; ``weights`` are Keras's own, which ffe never removes."""

    kind: str
    what: str
    where: str
    files: int
    bytes: int


@dataclass(frozen=True)
class _Place:
    kind: str
    what: str
    folder: Path
    names: str
    within: str = "*"

    def files(self) -> list[Path]:
        """Return the files of ours: what has a name that only ffe gives, and is what such a file is; others are left alone."""
        found = {path for path in self._named(self.names) if path.is_file() and _is_ours(self.kind, path)}
        found |= {path for journal in self._journals() for path in journal.iterdir() if path.is_file()}
        return sorted(found)

    def entry(self) -> CacheEntry:
        sizes = []
        for path in self.files():
            with contextlib.suppress(FileNotFoundError):  # another process has just removed it
                sizes.append(path.stat().st_size)
        return CacheEntry(self.kind, self.what, str(self.folder), len(sizes), sum(sizes))

    def clear(self) -> None:
        for journal in self._journals():
            lock = lock_output(journal, journal.with_suffix(""))
            delete_folder(journal)
            release_output(lock)
        files = self.files()
        for path in files:
            path.unlink(missing_ok=True)
        for folder in (*({path.parent for path in files} - {self.folder}), self.folder):
            with contextlib.suppress(OSError):  # it is not empty, or not there
                folder.rmdir()

    def _named(self, names: str) -> list[Path]:
        return sorted(path for path in self.folder.glob(self.within) if re.fullmatch(names, path.name))

    def _journals(self) -> list[Path]:
        """Return the folders of runs that did not finish."""
        named = self._named(r".+-[0-9a-f]{12}\.h5\.partial") if self.kind == "activations" else []
        return [folder for folder in named if (folder / LOCK).is_file() or (folder / DRAFT).is_file()]


def list_cached(folders: Sequence[Path] = ()) -> list[CacheEntry]:
    """Return what is kept: in the cache folder, beside outputs in these folders, and Keras's own weights."""
    weights = _Place(WEIGHTS, "weights that Keras downloaded", keras_home() / "models", r".+\.h5")
    return [place.entry() for place in (*_places(folders), weights)]


def clear_cached(kind: str | None = None, folders: Sequence[Path] = ()) -> list[CacheEntry]:
    """Remove what is kept of a kind, None = of all, in the cache folder and beside outputs in ``folders``; return what it was."""
    places = [place for place in _places(folders) if kind in (None, place.kind)]
    removed = [place.entry() for place in places]
    for place in places:
        place.clear()
    return [each for each in removed if each.files]


def _places(folders: Iterable[Path]) -> Iterator[_Place]:
    """Yield the places in the cache folder, then those beside outputs in these folders."""
    for kind, (what, name, within, names) in _IN_ROOT.items():
        yield _Place(kind, what, cache_root() / name, names, within)
    for folder in folders:
        if not folder.is_dir():
            raise SourceError(f"There is no folder '{folder}'; name folders that outputs of ffe are in.")
        for kind, (what, patterns, names) in _BESIDE.items():
            for pattern in patterns:
                for path in sorted(folder.glob(pattern)):
                    place = _Place(kind, what, path, names)
                    if path.is_dir() and place.files():
                        yield place


def _is_ours(kind: str, path: Path) -> bool:
    """Return whether a file holds what its name says, as far as others could have given it such a name."""
    try:
        if path.suffix == ".h5" and kind == "activations":
            FeatureStore(path).close()
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as file:
                return {"meta.npy", "runs0.npy"} <= set(file.namelist())
    except (FfeError, OSError, ValueError, zipfile.BadZipFile):
        return False
    return True
