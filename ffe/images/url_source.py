"""Folders and lists at URLs -> their images; one that is read over the network."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Container, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

from ffe.base.columns import Made, Numbers, Repeated, Texts
from ffe.base.file_stat import NO_STAMP
from ffe.base.urls import UrlPath, url_below, url_name
from ffe.errors import DecodeError, SourceError
from ffe.images.folder_layout import has_image_suffix
from ffe.images.folder_walk import is_passed_over
from ffe.images.image_handle import READERS, ImageHandle
from ffe.images.object_store import Failures, Unreachable, opened, read_object, stamp_of, tried, who_you_are
from ffe.redaction import redacted

_LISTS_NOTHING = ("http", "https")
_QUESTIONS = 4096  # that wait for a thread at the most: each takes a kilobyte
_LEVELS = 2  # splits, and the classes in them: so deep each folder is listed alone, and what is deeper with it
_FEW = 16  # folders beside each other: more are no splits
_MANY, _THIN = 100, 8  # folders beside each other, and the objects in each, below which a request for each is too many
_AHEAD = 1 << 16  # objects of folders that are listed ahead, as far as folders are alike
_Look = tuple[dict[str, dict[str, Any]], list[str]]


@dataclass(frozen=True)
class ImageObject(ImageHandle):
    """An image at a URL."""

    url: str = field(repr=False)  # with all that opens it: never shown, never stored
    path: str | None = None  # in the file system of the URL; None = what the URL itself names
    size: int = -1  # bytes; -1 = unknown

    @property
    def remote(self) -> bool:
        """Whether it comes over a network."""
        return True

    def read(self, max_bytes: int) -> bytes:
        """Return the content; see ``ffe.images.object_store.read_object``."""
        return read_object(self.url, self.path, self.size, max_bytes, self.stamp)

    def is_there(self) -> bool:
        """Return whether it was listed, or is there by now; also where that cannot be told."""
        if self.size >= 0:
            return True
        with contextlib.suppress(Exception):  # what an earlier look saw may be old
            opened(self.url)[0].invalidate_cache()
        _, error = _object_at(self.url)
        return error is None or error.reason != "missing"


class UrlWalk:
    """What lies below a folder at a URL, as ``FolderWalk`` tells it of one on this machine."""

    def __init__(self, url: str) -> None:
        self.root = UrlPath(redacted(url).rstrip("/"))
        self.files = Texts()
        self.left_out: list[tuple[str, str]] = []
        self.folders: list[str] = []  # a bucket has none without something in them
        self.hidden: list[str] = []
        self._url, self._starts = url, Repeated[str]()  # what stands before the names of files in their file system
        self._stamps, self._sizes = Numbers("q"), Numbers("q")
        for name, path, info in _listed(url):
            parts = name.split("/")
            if not {"", ".", ".."}.isdisjoint(parts):
                self.left_out.append((name, "its name has a part that is empty, or dots alone; rename it"))
            elif not any(map(is_passed_over, parts)):
                self.files.append(name)
                image = _object("", info, url)
                self._starts.append(path[: len(path) - len(name)])
                for number in image.stamp:
                    self._stamps.append(number)
                self._sizes.append(image.size)

    def images(self, rows: Sequence[int]) -> Sequence[ImageObject]:
        """Return the images of some of the files, each made when it is asked for."""
        files, root, url, starts, stamps, sizes = self.files, self.root, self._url, self._starts, self._stamps, self._sizes

        def image(number: int) -> ImageObject:
            row, name = rows[number], files[rows[number]]
            stamp = stamps[2 * row], stamps[2 * row + 1]
            return ImageObject(root / name, stamp, url, f"{starts[row]}{name}", sizes[row])

        return Made(len(rows), image)


def _listed(url: str) -> Iterable[tuple[str, str, dict[str, Any]]]:
    """Yield (path below the folder, path in its file system, what is known of it) of every object.

    A library holds a kilobyte of each object that it is asked for at once: it is asked for a folder, or a few.
    """
    if url_protocol(url) in _LISTS_NOTHING:
        raise SourceError(
            f"'{redacted(url)}' is no list of images, and a web server lists no folders; "
            "give a CSV whose column path has the URLs of the images, here or there."
        )
    files, root = opened(url)
    with contextlib.suppress(Exception):  # what an earlier look saw may be old
        files.invalidate_cache()
    below = f"{root.rstrip('/')}/" if root.strip("/") else ""
    # an archive holds all names anyway, the hub counts requests, and where no bucket is named there is no folder
    levels = 0 if "::" in url or url_protocol(url) == "hf" or not below else _LEVELS
    at_most = READERS if getattr(files, "async_impl", False) else 1  # others may have one connection for all threads
    waiting, asked = deque([(root, levels)]), deque[tuple[str, int, Callable[[], _Look]]]()
    ahead, most = 1, 0  # folders that are listed ahead, and the most objects that one had
    pool = ThreadPoolExecutor(READERS, thread_name_prefix="ffe-list")
    try:
        while waiting or asked:
            while waiting and len(asked) < ahead:
                act = partial(_look, files, *waiting[0])  # one alone is asked for here: Ctrl-C does not wait for it
                asked.append((*waiting.popleft(), act if ahead == 1 else pool.submit(act).result))
            folder, levels, look = asked.popleft()
            try:
                found, folders = look()
            except DecodeError as error:
                if error.reason == "missing" and folder != root:  # it was deleted meanwhile
                    continue
                where = url if folder == root else url_below(url, folder.removeprefix(below))
                raise SourceError(unlisted(where, error)) from error
            if len(found) == 1 and root in found:
                raise SourceError(f"'{redacted(url)}' is neither a folder nor a CSV file; give the folder that holds the images.")
            waiting.extend((one, levels - 1 if len(folders) <= _FEW else 0) for one in folders)
            most = max(most, len(found))
            ahead = min(2 * ahead, at_most, max(2, _AHEAD // max(1, most)))
            for path, info in found.items():
                if info.get("type") == "directory" or path.endswith("/") or path == root:  # an object that stands for a folder
                    continue
                if folder == root or path.startswith(f"{folder}/"):  # a library may answer by the beginning of a name
                    yield path.removeprefix(below) if below and path.startswith(below) else path.lstrip("/"), path, info
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    if not most:
        raise SourceError(unlisted(url, DecodeError("missing", "")))


def _look(files: Any, folder: str, levels: int) -> _Look:
    """Return the objects in a folder, and the folders in it that are to be asked for; or all objects below it, and none."""
    try:
        if levels == _LEVELS and not tried(lambda: files.isdir(folder)):  # a file, or nothing
            levels = 0
        if levels:
            entries = tried(lambda: files.ls(folder, detail=True))
            objects = {info["name"]: info for info in entries if info.get("type") != "directory"}
            folders = sorted({info["name"] for info in entries if info.get("type") == "directory"})
            # Azure's answers for a folder with the object that stands for it, or with nothing
            inside = bool(entries) and all(name.startswith(f"{folder.rstrip('/')}/") for name in objects)
            known = all(_can_be_asked_for(name, folder, objects) for name in folders)
            if inside and known and not _are_thin(files, folders):
                return objects, folders
        return tried(lambda: files.find(folder, detail=True)), []
    finally:
        with contextlib.suppress(Exception):  # it would keep a kilobyte of each object
            files.invalidate_cache()


def _can_be_asked_for(name: str, folder: str, objects: Container[str]) -> bool:
    """Return whether a library that is asked for a folder by its name answers with what lies in it, and in no other.

    In a bucket, ``a//b`` lies in a folder without a name, and an object ``a`` may stand beside a folder ``a``.
    """
    above, _, last = name.rpartition("/")
    return above == folder.rstrip("/") and bool(last) and name not in objects


def _are_thin(files: Any, folders: Sequence[str]) -> bool:
    """Return whether folders are so many, and hold so little, that a request for each would take longest."""
    some = folders[:: len(folders) // 4] if len(folders) > _MANY else ()
    return sum(len(tried(partial(files.find, folder))) for folder in some) < _THIN * len(some)


def objects_below(url: str) -> tuple[Sequence[ImageObject], list[tuple[str, str]]]:
    """Return the image at a URL, or all below a folder there, sorted; and (name, reason) of what is none."""
    if has_image_suffix(url_name(url)) or url_protocol(url) in _LISTS_NOTHING:
        return [object_at(url)], []
    try:
        walk = UrlWalk(url)
    except SourceError as error:
        return [], [(redacted(url), str(error))]
    return walk.images(walk.files.order().data), [(str(walk.root / path), why) for path, why in walk.left_out]


def url_protocol(url: str) -> str:
    """Return what a URL begins with, such as ``s3``, in small letters."""
    return url.partition("::")[0].partition("://")[0].lower()


def unlisted(url: str, error: DecodeError) -> str:
    """Return the sentence for a URL of a source that cannot be used."""
    shown, why = redacted(url), str(error)
    if error.reason == "missing":
        return f"There is nothing at '{shown}'; check the names of the bucket and of the folder or file."
    if isinstance(error, Unreachable) and error.network:
        return f"'{shown}' cannot be reached: {why}; see to the network and the address, and run this again."
    if isinstance(error, Unreachable) and url_protocol(url) in _LISTS_NOTHING:
        return f"'{shown}' cannot be read: {why}."
    if isinstance(error, Unreachable):
        return f"'{shown}' cannot be read: {why}; {who_you_are(url)}."
    return f"'{shown}' cannot be read: {why}; check the URL."


def read_text_at(url: str, max_bytes: int) -> bytes:
    """Return the content of a list at a URL; what cannot be had is a SourceError."""
    try:
        return read_object(url, None, -1, max_bytes)
    except DecodeError as error:
        if error.reason == "empty":
            return b""
        raise SourceError(unlisted(url, error)) from error


def objects_at(urls: Sequence[str]) -> Sequence[ImageObject]:
    """Return the images at some URLs, with their stamps: one short question for each; each is made when it is asked for."""
    stamps, sizes, failures = Numbers("q"), Numbers("q"), Failures()
    for url in {(*url.split("/", 3)[:3], url.partition("::")[2]): url for url in urls}.values():
        with contextlib.suppress(Exception):  # what an earlier look saw may be old
            opened(url)[0].invalidate_cache()
    with ThreadPoolExecutor(READERS, thread_name_prefix="ffe-ask") as pool:
        answers = chain.from_iterable(pool.map(_object_at, urls[i : i + _QUESTIONS]) for i in range(0, len(urls), _QUESTIONS))
        for answer, error in answers:
            for number in answer.stamp:
                stamps.append(number)
            sizes.append(answer.size)
            if (refusal := failures.in_vain(answer, error)) is not None:
                pool.shutdown(wait=False, cancel_futures=True)
                raise refusal from error

    def image(row: int) -> ImageObject:
        return ImageObject(redacted(urls[row]), (stamps[2 * row], stamps[2 * row + 1]), urls[row], None, sizes[row])

    return Made(len(urls), image)


def _object_at(url: str) -> tuple[ImageObject, DecodeError | None]:
    try:
        files, path = opened(url)
        info = tried(lambda: files.info(path))
    except (DecodeError, SourceError) as error:  # reading it says why
        return object_at(url), error if isinstance(error, DecodeError) else None
    return _object(redacted(url), info, url), None


def _object(name: str, info: dict[str, Any], url: str, path: str | None = None) -> ImageObject:
    size = info.get("size")
    return ImageObject(name, stamp_of(info), url, path, size if isinstance(size, int) else -1)


def object_at(url: str) -> ImageObject:
    """Return the image at a URL, about which nothing was asked yet."""
    return ImageObject(redacted(url), NO_STAMP, url)


def url_suffix(url: str) -> str:
    """Return the ending of what a URL names, such as ``.csv``, in small letters."""
    name = url_name(url)
    return f".{name.rpartition('.')[2].lower()}" if "." in name else ""
