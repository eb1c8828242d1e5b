"""A bucket is listed folder by folder: what is held is a few folders of it; and all is found that one look at it finds."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.implementations.zip import ZipFileSystem

from ffe.errors import SourceError
from ffe.images import object_store, url_source
from ffe.images.object_store import opened
from ffe.images.url_source import UrlWalk
from tests.images.archives import put_zip


class Info(dict[str, Any]):
    """What is known of an object; it is counted as long as somebody holds it."""

    lock = threading.RLock()
    held = most = 0

    def __init__(self, **known: Any) -> None:
        super().__init__(**known)
        with self.lock:
            Info.held += 1
            Info.most = max(Info.most, Info.held)

    def __del__(self) -> None:
        with self.lock:
            Info.held -= 1


class Wide(AsyncFileSystem):
    """Forty classes of as many objects as the name of the bucket says, each kept in the cache of what was listed."""

    protocol = "wide"
    classes = 40
    at_once = most_at_once = 0

    def invalidate_cache(self, path: str | None = None) -> None:
        self.dircache.clear()

    async def _info(self, path: str, **_: Any) -> dict[str, Any]:
        return {"name": path, "size": 0, "type": "directory"}

    async def _ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        assert "/" not in path
        return [await self._info(f"{path}/class_{number:02d}") for number in range(self.classes)]

    async def _find(self, path: str, **_: Any) -> dict[str, Any]:
        Wide.at_once += 1
        Wide.most_at_once = max(Wide.most_at_once, Wide.at_once)
        await asyncio.sleep(0.02)
        Wide.at_once -= 1
        folders = [path] if "/" in path else [info["name"] for info in await self._ls(path)]
        for folder in folders:
            names = (f"{folder}/{number}.jpg" for number in range(int(path.partition("/")[0])))
            self.dircache[folder] = [Info(name=name, size=9, type="file", ETag=name) for name in names]
        return {info["name"]: info for folder in folders for info in self.dircache[folder]}


fsspec.register_implementation("wide", Wide, clobber=True)


def test_no_more_than_a_few_folders_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(url_source, "_AHEAD", 1)
    Info.most = 0
    assert len(UrlWalk("wide://500").files) == 500 * Wide.classes
    assert (Info.most <= 4 * 500, Info.held) == (True, 0)
    assert not opened("wide://500")[0].dircache


def test_many_small_folders_are_asked_for_at_once() -> None:
    Wide.most_at_once = 0
    assert len(UrlWalk("wide://10").files) == 10 * Wide.classes
    assert Wide.most_at_once > 8


class Store(MemoryFileSystem):
    """Objects, as S3 lists them; ``asked`` has what was listed."""

    protocol = "store"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    asked: ClassVar[list[str]] = []

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(re.sub("^(store|google|azure)://", "memory://", path))

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        self.asked.append(path)
        return super().ls(path, detail, **options)

    def find(self, path: str, **options: Any) -> Any:
        self.asked.append(path)
        return super().find(path, **options)


class Google(Store):
    """The same as gcsfs lists it: without the slashes at the ends of folders."""

    protocol = "google"

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        listed = super().ls(path, detail, **options)
        for info in listed:
            if info["type"] == "directory":
                info["name"] = info["name"].rstrip("/")
        return listed


class Azure(Google):
    """The same as adlfs lists it: an object that stands for a folder is all that is in it, and spaces at its end are lost."""

    protocol = "azure"

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        if f"{path}/" in self.store:
            self.asked.append(path)
            return [{"name": path, "size": 0, "type": "file"}]
        return [] if path.endswith(" ") else super().ls(path, detail, **options)

    def find(self, path: str, **options: Any) -> Any:
        self.asked.append(path)
        inside = (name for name in self.store if name.startswith(f"{path}/"))
        return {name.rstrip("/"): self.info(name) | {"name": name.rstrip("/")} for name in sorted(inside)}


for kind in (Store, Google, Azure):
    fsspec.register_implementation(kind.protocol, kind, clobber=True)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(object_store, "FIRST_PAUSE", 0.0)
    yield fsspec.filesystem("store")
    Store.store.clear()
    Store.pseudo_dirs[:] = [""]
    Store.asked.clear()


def put(store: Store, *names: str) -> None:
    """Put objects of the length of their names at exactly these names."""
    for name in names:
        store.pipe_file("/x", name.encode())
        store.store[f"/b/{name}"] = store.store.pop("/x")


CLASSES = [f"{name}/{number}.jpg" for name in ("cat", "dog") for number in range(3)]
NAMES = {
    "classes": CLASSES,
    "splits": [f"{split}/{name}" for split in ("train", "test") for name in CLASSES],
    "one folder": ["1.jpg", "2.jpg"],
    "deep": [f"a/b/c/d/{name}" for name in CLASSES],
    "files everywhere": ["list.csv", "train/notes.txt", "train/cat/1.jpg", "train/cat/more/2.jpg", "train/cat/more/yet/3.jpg"],
    "more than sixteen": [f"split_{part}/class_{number:02d}/1.jpg" for part in range(2) for number in range(20)],
    "markers": ["", "cat/", "train/dog/", *CLASSES, "train/dog/1.jpg"],
    "a folder without a name": [*CLASSES, "/1.jpg", "cat//1.jpg", "cat///2.jpg", "cat/more//3.jpg"],
    "dots": [*CLASSES, "./1.jpg", "cat/../2.jpg", "cat/./3.jpg"],
    "an object named like a folder": [*CLASSES, "cat", "dog/more", "dog/more/1.jpg"],
    "a space at the end": [*CLASSES, "cow /1.jpg", "train/cow /1.jpg"],
    "names that begin alike": ["cat/1.jpg", "cat 2/1.jpg", "cat.jpg", "cats/1.jpg"],
    "hidden": [*CLASSES, ".git/1", "cat/.hidden.jpg", "__MACOSX/cat/1.jpg"],
}


URLS = ["store://b", "store://b/below", "google://b", "google://b/below/", "azure://b", "azure://b/below"]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_all_is_found_that_one_look_finds(store: Store, monkeypatch: pytest.MonkeyPatch, url: str, names: list[str]) -> None:
    put(store, *(f"{'below/' if 'below' in url else ''}{name}" for name in names))
    found = []
    for levels in (0, 2):
        monkeypatch.setattr(url_source, "_LEVELS", levels)
        walk = UrlWalk(url)
        images = walk.images(range(len(walk.files)))
        found.append((sorted((image.path, image.size) for image in images), sorted(walk.files), sorted(walk.left_out)))
    assert found[0] == found[1]
    assert {path for path, _ in found[1][0]} <= set(store.store)
    assert len(found[1][0]) == len({path for path, _ in found[1][0]})


@pytest.mark.parametrize("url", URLS)
def test_a_folder_without_a_name_is_left_out(store: Store, url: str) -> None:
    """Else ``/1.jpg`` would be a second ``1.jpg``."""
    unnamed = ["/1.jpg", "//1.jpg", "cat//1.jpg"]
    put(store, *(f"{'below/' if 'below' in url else ''}{name}" for name in ("1.jpg", *unnamed)))
    walk = UrlWalk(url)
    assert list(walk.files) == ["1.jpg"]
    why = "its name has a part that is empty, or dots alone; rename it"
    assert sorted(walk.left_out) == sorted((name, why) for name in unnamed)


def test_what_is_asked_for(store: Store) -> None:
    """Each class folder once, by itself; a photo in a folder of its own by its class."""
    put(store, *NAMES["splits"])
    UrlWalk("store://b")
    assert store.asked == [
        "/b",
        "/b/test",
        "/b/train",
        *(f"/b/{split}/{name}" for split in ("test", "train") for name in ("cat", "dog")),
    ]
    store.asked.clear()
    put(store, *(f"one/{name}/{number}/photo.jpg" for name in ("cat", "dog") for number in range(150)))
    assert len(UrlWalk("store://b/one").files) == 300
    assert len(store.asked) < 20


def test_one_folder_at_a_time_is_asked_for_in_this_thread(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C then stops it."""
    threads, ls = [], Store.ls
    monkeypatch.setattr(
        Store, "ls", lambda *found, **options: threads.append(threading.current_thread()) or ls(*found, **options)
    )
    put(store, *CLASSES)
    assert len(UrlWalk("store://b").files) == len(CLASSES)
    assert threads == [threading.main_thread()] * 3


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nothing", "There is nothing at 'store://b/nothing'; check the names of the bucket and of the folder or file."),
        ("bare", "There is nothing at 'store://b/bare'; check the names of the bucket and of the folder or file."),
        ("cat/1.jpg", "'store://b/cat/1.jpg' is neither a folder nor a CSV file; give the folder that holds the images."),
    ],
)
def test_what_is_no_folder(store: Store, name: str, text: str) -> None:
    put(store, *CLASSES)
    store.mkdir("/b/bare/cat")
    with pytest.raises(SourceError) as raised:
        UrlWalk(f"store://b/{name}")
    assert str(raised.value) == text


def test_a_folder_that_cannot_be_listed_is_named_and_one_that_is_gone_is_not(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, *CLASSES)
    ls = Store.ls

    def refuse(self: Store, path: str, error: type[OSError], **options: Any) -> Any:
        if path == "/b/dog":
            raise error("403")
        return ls(self, path, **options)

    monkeypatch.setattr(Store, "ls", lambda *found, **options: refuse(*found, error=FileNotFoundError, **options))
    assert list(UrlWalk("store://b").files) == CLASSES[:3]
    monkeypatch.setattr(Store, "ls", lambda *found, **options: refuse(*found, error=PermissionError, **options))
    with pytest.raises(SourceError) as raised:
        UrlWalk("store://b")
    assert str(raised.value) == (
        "'store://b/dog' cannot be read: you have no right to read it (PermissionError: 403); "
        "give its library your credentials as it wants them."
    )


def test_what_is_listed_at_once(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An archive, whose names are all held anyway, and the hub, which counts requests."""
    packed = put_zip(tmp_path / "photos.zip", {f"photos/{name}": b"1" for name in CLASSES})
    store.pipe_file("/b/photos.zip", packed.read_bytes())
    monkeypatch.setattr(ZipFileSystem, "ls", None)
    assert sorted(UrlWalk("zip://photos::store://b/photos.zip").files) == CLASSES
    put(store, *NAMES["splits"])
    monkeypatch.setattr(url_source, "opened", lambda url: (store, "/b"))
    store.asked.clear()
    assert len(UrlWalk("hf://datasets/b/b").files) == 13
    assert store.asked == ["/b"]
