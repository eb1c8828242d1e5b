"""Files that are one together, named as the field does: ``features-00003-of-00008.h5`` of ``features.h5``."""

from __future__ import annotations

import os
import re
from pathlib import Path

MOST_SHARDS = 1000  # all of them are open at once
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})(?=\.)")


def shard_path(whole: Path, number: int, count: int) -> Path:
    """Return where a shard of a file lies, by its number from 1: beside the file, or where that is a link to."""
    place = Path(os.path.realpath(whole)) if whole.is_symlink() else whole
    return place.with_name(f"{place.stem}-{number:05d}-of-{count:05d}{place.suffix}")


def shards_beside(whole: Path) -> list[tuple[int, str]]:
    """Return (how many there are in all, name) of the shards that lie beside a file, finished or not; sorted."""
    example = shard_path(whole, 1, 1)
    if not example.parent.is_dir():
        return []
    stem = example.name.removesuffix(f"-00001-of-00001{example.suffix}")
    pattern = re.compile(rf"{re.escape(stem)}-\d{{5}}-of-(\d{{5}}){re.escape(example.suffix)}(\.partial)?")
    found = ((pattern.fullmatch(name), name) for name in os.listdir(example.parent))
    return sorted((int(match[1]), name.removesuffix(".partial")) for match, name in found if match)


def without_shard(name: str) -> str:
    """Return the name of the file that a shard is of; other names as they are."""
    return _SHARD.sub("", name)


def made_again(path: str | os.PathLike[str], whole: str) -> str:
    """Return what to do about a file that is damaged: of a shard, what makes it again alone; ``whole`` of any other file."""
    name = os.path.basename(path)
    return whole if without_shard(name) == name else "delete it, and run the same 'ffe extract' again: it makes this shard alone"
