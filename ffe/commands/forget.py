"""``forget``: photos out of everything that ffe has written about them."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ffe.base.atomic import atomic_write
from ffe.base.digests import file_digest
from ffe.base.file_access import is_model, unopened
from ffe.base.model_archive import HEAD
from ffe.base.output_file import PAGE_MARK, write_output
from ffe.base.text import plain
from ffe.bundle.io import Bundle, SplitRow
from ffe.bundle.made_again import command_again
from ffe.errors import DataError, SourceError, StoreError
from ffe.images.archive_sources import images_of, is_archive, member_at
from ffe.images.folder_walk import list_files
from ffe.images.image_handle import content_digest
from ffe.images.sources import root_of
from ffe.report.redact import PAGE_LENGTHS, photos_in_page, without_photos
from ffe.splits.groups import MOST_BITS
from ffe.splits.holdout import TEST, TESTED, TRAIN, VALID
from ffe.store.journal import Journal
from ffe.store.journal_records import has_rows
from ffe.store.reader import FeatureStore
from ffe.store.writer import write_like

OURS = (".h5", ".hdf5", ".ffe", ".html", ".htm")  # what is taken for a file of ours; all else is a photo
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SECOND_FILE = re.compile(r"(?:valid|test):")


@dataclass(frozen=True)
class ForgottenFile:
    """What one file held of the photos."""

    file: Path  # the file
    kind: str  # ``features``, ``model`` or ``report``
    photos: tuple[str, ...]  # the names that were taken out, with their rows, digests, hashes or pictures
    rows: int = 0  # rows of a feature file, those of views too
    near: tuple[str, ...] = ()  # names of photos that look nearly like them, and stay
    stays: str = ""  # what of them cannot be taken out, and what to do; empty = nothing


@dataclass(frozen=True)
class ForgetResult:
    """What was forgotten."""

    files: tuple[ForgottenFile, ...]  # what each file held, in the order given
    unknown: tuple[str, ...]  # photos that none of the files knows
    written: bool  # whether the files were changed; False = a dry run

    def to_json(self) -> dict[str, Any]:
        """Return what ``ffe forget --json`` prints."""
        return {**asdict(self), "files": [{**asdict(file), "file": str(file.file)} for file in self.files]}


@dataclass
class _Photo:
    """A photo, or a folder of them, as it was named, and all that it is known by."""

    asked: str
    digests: set[str] = field(default_factory=set)
    exists: bool = False
    names: set[str] = field(default_factory=set)
    found: bool = False

    def matches(self, name: str, sha256: str = "", root: Path | None = None) -> bool:
        """Return whether an image is this photo, or lies in this folder: see ``forget``; contents that differ outdo names."""
        stored, asked = _SECOND_FILE.sub("", name), self.asked
        here = os.path.abspath(asked).replace(os.sep, "/")
        there = stored if root is None else os.path.abspath(root / stored).replace(os.sep, "/")
        by_name = not (self.exists and sha256)
        same = (
            sha256 in self.digests
            or there == here
            or there.startswith(f"{here}/")
            or (by_name and asked in (name, stored))
            or (by_name and stored.startswith(f"{asked.rstrip('/')}/"))
            or (by_name and not os.path.isabs(stored) and here.endswith(f"/{stored}"))
            or (not sha256 and (name in self.names or stored in self.names))  # pages know names alone
        )
        if same:
            self.found = True
            self.digests |= {sha256} - {""}
            self.names |= {stored, *(plain(text, most) for text in (stored, name) for most in PAGE_LENGTHS)}
        return same


def forget(
    photos: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    dry_run: bool = False,
) -> ForgetResult:
    """Take photos out of feature files, models and reports.

    Of a feature file the rows go, with names, digests, hashes and features; of
    a model the names and digests; of a report the pictures, names and points of
    its map. Each file is written anew, so that the bytes are gone, and put in
    its place in one step. What a head has learnt from a photo stays in it: the
    result says where that is so, and how to make the model again.

    A photo is known by its content, by the name that the files have for it, and
    as the end of a path; copies of it go too. Photos that only look like it
    stay, and are named.

    Args:
        photos: paths, which need not exist any more, folders, or SHA-256 digests.
        files: feature files, model files and pages that ffe wrote.
        dry_run: change nothing, and say what would be done.

    Raises:
        DataError: no file knows any of the photos, or nothing would be left of a feature file.
        StoreError, BundleError, SourceError: a file cannot be used; none is changed then.
    """
    wanted = [_photo(os.fspath(one)) for one in _several(photos)]
    places = [Path(one) for one in _several(files)]
    if not wanted or not places:
        raise SourceError("Name the photos to forget, and the files to forget them in; for example: ffe forget a.jpg f.h5 m.ffe.")

    def matches(name: str, sha256: str = "", root: Path | None = None) -> bool:
        return any([photo.matches(name, sha256, root) for photo in wanted])  # noqa: C419 - each learns its names

    while True:  # a digest that one file tells leads to names in the others
        before = sum(len(photo.digests | photo.names) for photo in wanted)
        steps = [_find_in(place, matches, places) for place in places]
        if sum(len(photo.digests | photo.names) for photo in wanted) == before:
            break
    if not any(photo.found for photo in wanted):
        raise DataError(
            f"None of the files knows '{wanted[0].asked}'{' or the others' if len(wanted) > 1 else ''}; "
            "check the name: 'ffe info MODEL --splits' lists those of a model."
        )
    if not dry_run:
        changes = {Path(os.path.realpath(found.file)): write for found, write in steps if found.photos}
        with contextlib.ExitStack() as opened, contextlib.ExitStack() as replaced:  # all are replaced once all are whole
            for place, write in changes.items():
                write(replaced.enter_context(atomic_write(place)), opened)
    return ForgetResult(tuple(found for found, _ in steps), tuple(p.asked for p in wanted if not p.found), not dry_run)


def _several(asked: Any) -> list[Any]:
    return [asked] if isinstance(asked, (str, os.PathLike)) else list(asked)


def _photo(asked: str) -> _Photo:
    """Return a photo with the digests of what is there."""
    path = Path(asked)
    if _DIGEST.fullmatch(asked.lower()):
        return _Photo(asked, {asked.lower()})
    if is_archive(path) and path.is_file():
        return _Photo(asked, {content_digest(image) for image in images_of(path)[0]}, exists=True)
    if (member := member_at(asked)) is not None:
        return _Photo(asked, {content_digest(member)}, exists=True)
    if path.is_dir():
        return _Photo(asked, {file_digest(file) for file in list_files(path)[0]}, exists=True)
    return _Photo(asked, {file_digest(path)}, exists=True) if path.is_file() else _Photo(asked)


_Matches = Callable[..., bool]
_Write = Callable[[Path, contextlib.ExitStack], None]  # writes the file without the photos, and what must stay open
_Step = tuple[ForgottenFile, _Write]


def _kind_of(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix == ".ffe" or is_model(path):
        return "model"
    return "report" if suffix in {".html", ".htm"} else "features"


def _find_in(path: Path, matches: _Matches, places: Sequence[Path]) -> _Step:
    """Return what a file, of all ``places``, holds of the photos, and what takes them out of it."""
    if (kind := _kind_of(path)) == "model":
        return _in_model(path, matches, places)
    return _in_page(path, matches) if kind == "report" else _in_features(path, matches)


def _in_features(path: Path, matches: _Matches) -> _Step:
    if has_rows(path):
        raise StoreError(f"'{path}' has an unfinished run beside it, which holds photos too; finish it first with 'ffe extract'.")
    with FeatureStore(path) as store:
        root = Path(root_of(store.source))
        gone = np.asarray([matches(*row, root) for row in zip(store.paths, store.sha256, strict=True)], bool)
        skipped = {item.path for item in store.skipped if matches(item.path, "", root)}
        if gone.any() and gone.all():
            raise DataError(f"All photos of '{path}' are to be forgotten; delete the file instead.")
        if store.parts and gone.any():
            parts = " ".join(str(part.path) for part in store.parts)
            raise StoreError(
                f"'{path}' is virtual, its photos lie in its parts; forget them in those, and pack them again: "
                f"ffe pack {parts} -o {path} --virtual --overwrite."
            )
        names = skipped | {store.paths[i] for i in np.flatnonzero(gone)}
        near = _near(store, gone)

    def write(place: Path, opened: contextlib.ExitStack) -> None:
        store = opened.enter_context(FeatureStore(path))
        opened.callback(Journal(path, store.spec, overwrite=True).close)
        rows = [row for row, is_gone in zip(store.rows(), gone, strict=True) if not is_gone]
        write_like(store, place, rows=rows, skipped=[item for item in store.skipped if item.path not in skipped])

    return ForgottenFile(path, "features", tuple(sorted(names)), int(gone.sum()), near), write


def _near(store: FeatureStore, gone: np.ndarray) -> tuple[str, ...]:
    """Return the photos that stay and whose perceptual hash is that of one that goes, but for a few bits."""
    hashes = [h for h in np.unique(store.phash[gone]).tolist() if h]
    stays = (i for i in np.flatnonzero(~gone & (store.views == 0) & (store.phash != 0)).tolist())
    rows = [i for i in stays if any((int(store.phash[i]) ^ h).bit_count() <= MOST_BITS for h in hashes)]
    return tuple(sorted(store.paths[i] for i in rows))


def _in_model(path: Path, matches: _Matches, places: Sequence[Path]) -> _Step:
    bundle = Bundle(path)
    splits = bundle.splits()
    gone = {row for row in splits if matches(row.path, row.sha256)}
    left = [row for row in splits if row not in gone]
    stays = _stays(bundle, left, places) if any(row.split in {TRAIN, VALID, TESTED} for row in gone) else ""
    found = ForgottenFile(path, "model", tuple(sorted(row.path for row in gone)), stays=stays)
    return found, lambda place, _: bundle.replace_splits(left, place)


def _stays(bundle: Bundle, left: Sequence[SplitRow], places: Sequence[Path]) -> str:
    """Return what a model keeps of photos that it was fitted on, and the command that makes it again.

    ``left`` are its rows without the photos; the feature files that have them are looked for among the ``places``.
    """
    as_they_are = any(name.endswith("vectors") and array.size for name, array in bundle.arrays(HEAD).items())
    what = "features of some training photos as they are" if as_they_are else "what it has learnt from the training photos"
    digests = [bundle.manifest.spec_digest, *(one.spec_digest for one in bundle.manifest.beside)]
    roles = dict[str, set[str]]()
    for row in left:
        role = "valid" if row.split == VALID and row.path.startswith("valid:") else ""
        roles.setdefault("test" if row.split in {TEST, TESTED} and row.path.startswith("test:") else role, set()).add(row.sha256)
    files = {role: _files_of(role, digests, photos, places) for role, photos in roles.items()}
    again = command_again(bundle, bundle.path, *(files.get(role, []) for role in ("", "valid", "test")))
    return f"its {bundle.manifest.head.name} head keeps {what}; make it again without these photos: {again}"


def _files_of(role: str, digests: Sequence[str], photos: set[str], places: Sequence[Path]) -> list[str]:
    """Return the feature files that have all photos, of each spec one; where none is among the places, ``FEATURES.h5``."""
    name = (role or "features").upper()
    files = [f"{name}{number if len(digests) > 1 else ''}.h5" for number in range(1, len(digests) + 1)]
    for place in places:
        if _kind_of(place) == "features":
            with FeatureStore(place) as store:
                if store.spec_digest in digests and photos.issubset(store.sha256):
                    files[digests.index(store.spec_digest)] = str(place)
    return files


def _in_page(path: Path, matches: _Matches) -> _Step:
    if not path.is_file():
        raise SourceError(f"There is no report '{path}'; check the path.")
    try:
        text = path.read_text("utf-8", "surrogateescape")
    except OSError as error:
        raise SourceError(unopened(path, error)) from error
    if PAGE_MARK.decode() not in text:
        raise SourceError(f"'{path}' is no report of ffe; delete it, or take the photos out by hand.")
    names = {name for name in photos_in_page(text) if matches(name)}

    def write(place: Path, _: contextlib.ExitStack) -> None:
        write_output(place, without_photos(text, names.__contains__).encode("utf-8", "surrogateescape"))

    return ForgottenFile(path, "report", tuple(sorted(map(plain, names)))), write
