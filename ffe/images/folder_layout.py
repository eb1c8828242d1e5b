"""A folder of folders -> which of these are classes and which are splits, or why that cannot be told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from ffe.base.text import composed, few, quoted
from ffe.base.urls import Place
from ffe.images.records import SPLIT_NAMES, LabelledPath

Kind = Literal["class folders", "split folders", "splits in class folders", "csv", "flat folder", "tar", "zip", "parquet"]
LISTS: tuple[Kind, ...] = ("csv", "tar", "zip", "parquet")  # single files, beside which others may lie
Layout = tuple[Kind, list[LabelledPath], str | None]  # how it is understood, its images, and why it is refused, or None

_Files = Mapping[str, Sequence[str]]  # folder in the root -> relative paths of all files below it
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".jp2")


def has_image_suffix(name: str) -> bool:
    """Return whether a file is named like a picture."""
    return name.lower().endswith(_IMAGE_SUFFIXES)


def like_of(path: str) -> tuple[str, bool]:
    """Return what decides how a file is understood: the folder that it lies in, and whether it is named like a picture."""
    return path.rpartition("/")[0], has_image_suffix(path)


def layout_of(root: Place, files: _Files, loose: bool) -> Layout:
    """Understand a folder by the folders in it; ``loose`` = there are pictures beside these."""
    splits = [name for name in sorted(files) if _is_split(name)]
    others = [name for name in sorted(files) if not _is_split(name)]
    plain = [LabelledPath(path, name) for name in sorted(files) for path in files[name]]
    names = ", ".join(splits)
    with_classes = any(_part(path) for name in splits for path in files[name])
    if others and not with_classes:  # "train" may well be a class, beside "bus" and "tram"
        return _class_folders(root, files, plain, loose)
    if not with_classes:
        problem = (
            f"'{root}' holds only {names} and no class folders in them; "
            "put the images into one folder per class, or list them in a CSV with the columns path,label,split."
        )
        return "class folders", plain, problem
    if others:
        problem = (
            f"'{root}' mixes split folders ({names}) with other folders ({', '.join(others)}); "
            "move the others away, or into the splits."
        )
        return "class folders", plain, problem
    entries = [LabelledPath(path, _part(path), SPLIT_NAMES[name.lower()]) for name in splits for path in files[name]]
    labels = {entry.label for entry in entries}
    if len({entry.split for entry in entries}) < len(splits):
        return "split folders", entries, f"'{root}' names one split twice ({names}); keep one folder for each split."
    if len({composed(label) for label in labels}) == 1:
        inner, _ = _folders_in([entry.path.split("/")[2:] for entry in entries if entry.label])
        if len(inner) > 1:
            problem = (
                f"The splits of '{root}' hold one folder only, '{max(labels)}', which holds others "
                f"({few(quoted(inner))}); if those are the classes, move them up, directly into the splits."
            )
            return "split folders", entries, problem
    return "split folders", entries, None


def _class_folders(root: Place, files: _Files, plain: list[LabelledPath], loose: bool) -> Layout:
    """Understand a folder of class folders: there may be splits in them, or the classes may lie deeper."""
    inside = {name: {_part(path) for path in paths} for name, paths in files.items()}
    several = sorted(name for name, parts in inside.items() if len({SPLIT_NAMES[p.lower()] for p in parts if _is_split(p)}) > 1)
    if several:  # then other files than pictures are no images of a class
        inside = {
            name: {part for part in parts if _is_split(part)} | {_part(path) for path in files[name] if has_image_suffix(path)}
            for name, parts in inside.items()
        }
    parted = sorted(name for name, parts in inside.items() if parts and all(map(_is_split, parts)))
    problem = None if loose else _one_level_off(root, [entry.path.split("/") for entry in plain])
    problem = problem or _problem_of_parts(root, files, inside, several, parted)
    if problem or len(parted) < len(files):
        return "class folders", plain, problem
    entries = [entry._replace(split=SPLIT_NAMES[_part(entry.path).lower()]) for entry in plain if _is_split(_part(entry.path))]
    return "splits in class folders", entries, None


def _problem_of_parts(
    root: Place, files: _Files, inside: Mapping[str, set[str]], several: Sequence[str], parted: Sequence[str]
) -> str | None:
    """Return what is wrong with the splits in class folders; ``inside``: the folders of each class, empty = files in none.

    ``several`` are the classes with more than one split, ``parted`` those with nothing but splits.
    """
    of_splits = [path for name in {*several, *parted} for path in files[name] if _is_split(_part(path))]
    pictures = [path for path in of_splits if has_image_suffix(path)]
    if of_splits and all(path.count("/") > 2 for path in pictures or of_splits):
        above = sorted({*several, *parted})
        return (
            f"In '{root}', {few(quoted(above))} hold{'s' if len(above) == 1 else ''} splits with folders in them; give one of "
            f"the folders, such as '{root / above[0]}', or list the images in a CSV with the columns path,label,split."
        )
    if not several and len(parted) < len(files):
        return None
    if torn := [name for name in several if name not in parted]:
        parts = inside[torn[0]]
        beside = sorted(f"'{part}'" if part else "loose ones" for part in parts if not _is_split(part))
        return (
            f"'{root / torn[0]}' holds split folders ({', '.join(sorted(filter(_is_split, parts)))}) "
            f"and other pictures beside them ({few(beside)}); move these into the splits, or away."
        )
    if others := sorted(set(files) - set(parted)):
        return (
            f"In '{root}', {few(quoted(several))} hold{'s' if len(several) == 1 else ''} split folders "
            f"({', '.join(sorted(inside[several[0]]))}) and {few(quoted(others))} {'does' if len(others) == 1 else 'do'} not; "
            "give every class the same splits, or list the images in a CSV with the columns path,label,split."
        )
    for name, parts in inside.items():
        if len({SPLIT_NAMES[part.lower()] for part in parts}) < len(parts):
            return f"'{root / name}' names one split twice ({', '.join(sorted(parts))}); keep one folder for each split."
    return None


def _is_split(name: str) -> bool:
    return name.lower() in SPLIT_NAMES


def tops_of(path: str) -> tuple[str, str]:
    """Return the first part of a path, and the first two."""
    parts = path.split("/")
    return parts[0], "/".join(parts[:2])


def _part(path: str) -> str:
    """Return the folder in its class, or split, that a file lies in or below; empty = none."""
    return path.split("/")[1] if path.count("/") > 1 else ""


def _one_level_off(root: Place, paths: Sequence[Sequence[str]]) -> str | None:
    """Return where the class folders or splits lie, where all images lie in one folder, in a sentence; None = in their place."""
    folder, tops = common_folder(paths)
    if not folder:
        return None
    place = root / folder
    return (
        f"'{root}' holds one folder only, and '{place}' in it holds others ({few(quoted(tops))}); did you mean '{place}'? "
        "Images that are all of one class belong directly into its folder."
    )


def common_folder(paths: Sequence[Sequence[str]]) -> tuple[str, list[str]]:
    """Return the folder that holds all class folders or splits, and these; an empty one where they are in their place."""
    above, (tops, rest) = list[str](), _folders_in(paths)
    while len(tops) == 1 and not _is_split(tops[0]):
        above += tops
        tops, rest = _folders_in(rest)
    if not tops or (all(map(_is_split, tops)) and not any(len(parts) > 1 for parts in rest)):
        return "", []
    return "/".join(above), tops


def _folders_in(paths: Sequence[Sequence[str]]) -> tuple[list[str], list[Sequence[str]]]:
    """Return the folders that some paths begin with, and what comes behind these; none where pictures lie beside them."""
    if any(len(parts) == 1 and has_image_suffix(parts[0]) for parts in paths):
        return [], []
    return sorted({parts[0] for parts in paths if len(parts) > 1}), [parts[1:] for parts in paths if len(parts) > 1]
