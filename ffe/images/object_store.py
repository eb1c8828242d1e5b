"""What lies at a URL: listed and read through fsspec, with time limits, and tried again where that may help."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from ffe.base.digests import bytes_digest
from ffe.base.file_stat import NO_STAMP, RACY_NS, Stamp
from ffe.base.text import counted
from ffe.errors import DecodeError, SourceError, missing, one_line
from ffe.images.guards import HEAD_BYTES, kind_of
from ffe.redaction import redacted

MOST_FAILURES = 64  # in a row, before all is in vain
TRIES = 7
FIRST_PAUSE = 0.2  # seconds; each pause is up to twice as long as the one before it, 13 s in all
READ_SECONDS = 60.0  # of one try; more for large objects
_SLOWEST = 1 << 18  # bytes a second that count as alive
_LARGE = 4 << 20  # the first bytes of larger objects say whether they are pictures before the rest is read
CONNECTIONS = 128  # to one server
_S3_CONFIG = {
    "max_pool_connections": CONNECTIONS,
    "retries": {"max_attempts": 0},  # one layer that tries again is enough: ours, which knows what is worth it
    # made anew for each request, these took 7 % of botocore's time
    "user_agent": "ffe",
    "parameter_validation": False,
}
_SIGNED = "; if a signature opens it, give its URL with one that still holds: in a list each line needs its own"
CHANGED = "it was changed after it had been listed; run this again"

_PACKAGES = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs", "abfss", "adl"), "adlfs"),
    **dict.fromkeys(("http", "https"), "aiohttp"),
    "hf": "huggingface_hub",
}
_CREDENTIALS = {  # where the library of a package looks for them, and what opens a public bucket
    "s3fs": "AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; for a public bucket FSSPEC_S3='{\"anon\": true}'",
    "gcsfs": "GOOGLE_APPLICATION_CREDENTIALS, or 'gcloud auth application-default login'; for a public bucket "
    'FSSPEC_GS=\'{"token": "anon"}\'',
    "adlfs": "AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY; for a public "
    "container AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ANON=true",
    "huggingface_hub": "HF_TOKEN, or 'hf auth login'",
}
# what says in a listing that an object was replaced: the first of them that is there
_MARKS = ("ETag", "etag", "md5Hash", "crc32c", "generation", "blob_id", "checksum", "CRC", "sha256", "version_id")
_TIMES = ("LastModified", "last_modified", "Last-Modified", "updated", "mtime", "created")

_AGAIN = {408, 425, 429, 500, 502, 503, 504, 509, 520, 521, 522, 523, 524, 529}
_RIGHTS = {401, 403}
_GONE = {404, 410}
_NETWORK = {"aiohttp", "aiobotocore", "azure", "botocore", "gcsfs", "httpcore", "httpcore2", "httpx", "httpx2"}
_NETWORK |= {"requests", "urllib3", "ssl", "asyncio"}
_NO_CREDENTIALS = ("NoCredentials", "PartialCredentials", "DefaultCredentials", "ClientAuthentication", "ProfileNotFound")
_SAYS_CREDENTIALS = ("credential", "connection string")  # Azure's library raises a ValueError

_T = TypeVar("_T")


class Unreachable(DecodeError):  # noqa: N818 (what it is, not that it is an error)
    """What a URL names could not be read for a reason that lies outside of it.

    Attributes:
        network: whether it was tried again without end; otherwise rights are missing.
    """

    def __init__(self, message: str, *, network: bool) -> None:
        super().__init__("unreadable", message)
        self.network = network


def opened(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URL, and the path in it.

    Credentials, endpoints and all other options of storage come from the libraries' own environment and files.

    Raises:
        SourceError: a package is missing, or nothing knows such URLs.
    """
    try:
        import fsspec
        from fsspec.config import conf
    except ImportError as error:
        raise SourceError(missing("Reading from a URL", "fsspec", *_packages(url))) from error
    if "hf" in (protocols := _protocols(url)):
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    options: dict[str, Any] = {}
    for protocol in protocols:
        own = conf.get(protocol, {})
        if protocol in {"s3", "s3a"}:
            options[protocol] = {"config_kwargs": {**_S3_CONFIG, **own.get("config_kwargs", {})}}
        elif protocol in {"http", "https"}:  # proxies of the environment
            options[protocol] = {"client_kwargs": {"trust_env": True, **own.get("client_kwargs", {})}}
    try:
        files, path = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        packages = _packages(url)
        raise SourceError(missing(f"Reading from '{redacted(url)}'", *packages) if packages else one_line(error)) from error
    except Exception as error:
        asks = isinstance(_outcome(error), Unreachable) or any(word in str(error).lower() for word in _SAYS_CREDENTIALS)
        if asks and set(_packages(url)) & set(_CREDENTIALS):  # its library is there, and does not begin
            why = one_line(error).rstrip(".")
            raise SourceError(f"'{redacted(url)}' cannot be read: {why}; {who_you_are(url)}.") from error
        raise SourceError(
            f"'{redacted(url)}' cannot be read ({one_line(error)}); give a URL that fsspec opens, such as s3://, gs://, az://, "
            "hf:// or https://, or a folder or CSV on this machine."
        ) from error
    if hasattr(files, "retries") and protocols[:1] in (["s3"], ["s3a"]):
        files.retries = 1
    return files, path


def who_you_are(url: str) -> str:
    """Return what to do so that the libraries of a URL find the user's credentials."""
    named = [_CREDENTIALS[package] for package in _packages(url) if package in _CREDENTIALS]
    return f"give its library your credentials as it wants them{f' ({named[0]})' if named else ''}"


def _packages(url: str) -> list[str]:
    """Return the packages that fsspec needs for a URL."""
    return [_PACKAGES[protocol] for protocol in _protocols(url) if protocol in _PACKAGES]


def _protocols(url: str) -> list[str]:
    return [part.partition("://")[0].lower() if "://" in part else part.lower() for part in url.split("::")]


def read_object(url: str, path: str | None, size: int, max_bytes: int, stamp: Stamp = NO_STAMP) -> bytes:
    """Return the content of an object; ``path`` in the file system of the URL (None = what it names), ``size`` -1 = unknown.

    What has been replaced since it had its ``stamp`` is never put together of two contents.

    Raises:
        DecodeError: as ``ffe.images.decode.read_image`` does; ``Unreachable`` where it lies with the network or with rights.
    """
    from ffe.images.decode import too_many_bytes

    if size > max_bytes:
        raise DecodeError("too-large", too_many_bytes(max_bytes))
    if size == 0:
        raise DecodeError("empty", "the file is empty")
    try:
        files, own = opened(url)
    except SourceError as error:
        raise Unreachable(str(error).rstrip("."), network=False) from error
    path = own if path is None else path
    seconds = READ_SECONDS + max(size, 0) / _SLOWEST

    def get(start: int, end: int) -> bytes:
        return tried(lambda: _cat(files, path, start, end, seconds))

    if size < 0:
        data = tried(lambda: _streamed(files, path, max_bytes + 1))
    elif size <= _LARGE:
        data = get(0, size + 1)
    else:
        data = get(0, HEAD_BYTES)
        kind_of(data)
        if len(data) < size:  # a server that knows no ranges has answered with all of it
            data += get(HEAD_BYTES, size + 1)
            if stamp != NO_STAMP and _info(files, path)[0] != stamp:
                raise DecodeError("unreadable", CHANGED)
    if not data:
        raise DecodeError("empty", "the file is empty")
    if len(data) > max_bytes:
        raise DecodeError("too-large", too_many_bytes(max_bytes))
    if 0 <= size != len(data):
        raise DecodeError("unreadable", CHANGED)
    return data


def read_range(url: str, start: int, end: int) -> bytes:
    """Return the bytes from ``start`` to before ``end`` of what lies at a URL; errors are those of ``read_object``."""
    files, path = opened(url)
    data = tried(lambda: _cat(files, path, start, end, READ_SECONDS + (end - start) / _SLOWEST))
    if len(data) != end - start:
        raise DecodeError("unreadable", "it was changed, or its server gives no parts of it; download it")
    return data


def info_of(url: str) -> tuple[Stamp, int]:
    """Return the stamp of what lies at a URL as it is now, and its size; -1 = unknown. Errors are those of ``tried``."""
    return _info(*opened(url))


def _info(files: Any, path: str) -> tuple[Stamp, int]:
    with contextlib.suppress(Exception):  # what an earlier look saw may be old
        files.invalidate_cache()
    info = tried(lambda: files.info(path))
    size = info.get("size")
    return stamp_of(info), size if isinstance(size, int) else -1


def _cat(files: Any, path: str, start: int, end: int, seconds: float) -> bytes:
    if "s3" in files.protocol and end - start <= _LARGE + 1:
        from ffe.images.s3_reader import read_s3

        if (data := read_s3(files, path, start, end, READ_SECONDS + _LARGE / _SLOWEST)) is not None:
            return data
    if getattr(files, "async_impl", False):
        from fsspec.asyn import sync

        return sync(files.loop, _in_time, files._cat_file, path, start, end, seconds)
    if files.protocol == "hf" and hasattr(where := files.resolve_path(path), "repo_id"):
        return _cat_of_hub(files, where, start, end, seconds)
    return files.cat_file(path, start=start, end=end)


def _cat_of_hub(files: Any, where: Any, start: int, end: int, seconds: float) -> bytes:
    """Read from Hugging Face: its own file system lists and keeps, in each thread, all that lies beside what is read."""
    from huggingface_hub import get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    kind = {"repo_type": where.repo_type, "revision": where.revision, "endpoint": files.endpoint}
    headers = {**build_hf_headers(token=files.token), "Range": f"bytes={start}-{end - 1}"}
    answer = get_session().get(hf_hub_url(where.repo_id, where.path_in_repo, **kind), headers=headers, timeout=seconds)
    hf_raise_for_status(answer)
    return bytes(answer.content)


async def _in_time(function: Callable[..., Any], path: str, start: int, end: int, seconds: float) -> Any:
    return await asyncio.wait_for(function(path, start=start, end=end), seconds)


def _streamed(files: Any, path: str, most: int) -> bytes:
    """Read what tells no size, and no more than ``most`` bytes of it."""
    with files.open(path, "rb") as file:
        parts, left = list[bytes](), most
        while left > 0 and (part := file.read(min(left, 1 << 20))):
            parts.append(part)
            left -= len(part)
    return b"".join(parts)


class Failures:
    """Counts what could not be read in a row, so that nobody waits for a million of it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._any = False  # whether anything was read
        self._count = 0

    def in_vain(self, name: object, error: DecodeError | None) -> SourceError | None:
        """Take in what became of something; return why nothing more is worth a try, or None."""
        with self._lock:
            if not isinstance(error, Unreachable):
                self._count, self._any = 0, self._any or error is None
                return None
            self._count += 1
            if self._count < MOST_FAILURES or (self._any and not error.network):
                return None
            what = "see to the network" if error.network else "see to your rights there"
            return SourceError(
                f"{counted(self._count, 'image')} in a row could not be read (the last, '{name}': {error}); "
                f"{what}, and run the same command again."
            )


def tried(act: Callable[[], _T]) -> _T:
    """Do something over the network, again and again where that may help, with growing pauses that differ by chance.

    Raises:
        DecodeError: it is not there (``missing``), or cannot be used.
        Unreachable: it was tried ``TRIES`` times, or there is no right to do it.
    """
    for left in reversed(range(TRIES)):
        try:
            return act()
        except Exception as error:
            if isinstance(error, DecodeError):
                raise
            what = _outcome(error)
            if what is None and left:
                time.sleep(FIRST_PAUSE * 2 ** (TRIES - 1 - left) * random.uniform(0.5, 1))
                continue
            why = next(filter(_of_network, _chain(error)), error)  # a library may say of it that there is no such file
            raise what or Unreachable(f"it did not come in {TRIES} tries ({one_line(why)})", network=True) from error
    raise AssertionError


def _outcome(error: BaseException) -> DecodeError | None:
    """Return what an error of a library means in the end; None = another try may help."""
    chain = list(_chain(error))
    if any(name in type(one).__name__ for one in chain for name in _NO_CREDENTIALS):
        return Unreachable(f"no credentials were found for it ({one_line(error)})", network=False)
    status = next((code for one in chain if (code := _status(one))), None)
    network = any(map(_of_network, chain))
    if status in _GONE or (status is None and isinstance(error, FileNotFoundError) and not network):
        return DecodeError("missing", "no such file")
    if status in _RIGHTS or (status is None and isinstance(error, PermissionError)):
        signed = _SIGNED if any(type(one).__module__.startswith("aiohttp") for one in chain) else ""
        return Unreachable(f"you have no right to read it ({one_line(error)}){signed}", network=False)
    if isinstance(error, MemoryError):
        return DecodeError("too-large", "not enough memory to read it")
    if isinstance(error, IsADirectoryError):
        return DecodeError("not-a-file", "a folder, not a file")
    if status in _AGAIN:
        return None
    if status is None and (network or isinstance(error, (OSError, TimeoutError, EOFError))):
        return None
    return DecodeError("unreadable", one_line(error))


def _of_network(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in _NETWORK


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _status(error: BaseException) -> int | None:
    """Return the HTTP status in an error of one of many libraries, or None."""
    if str(error).startswith("Forbidden: "):  # gcsfs says it in words alone
        return 403
    response = getattr(error, "response", None)
    found = [
        response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, dict) else None,
        *(getattr(one, name, None) for one in (error, response) for name in ("status", "status_code", "code")),
    ]
    for code in found:
        with contextlib.suppress(TypeError, ValueError):
            if 400 <= int(code) < 600:  # type: ignore[arg-type]
                return int(code)  # type: ignore[arg-type]
    return None


def stamp_of(info: dict[str, Any]) -> Stamp:
    """Return (size, a number that changes with the content) by what a listing says of an object; unknown = ``NO_STAMP``.

    The number is 63 bits of a digest of the object's tag, and of its time of change. Where there is a time alone, or a web
    server, whose tags are often made of the time, one that is hardly over tells nothing: the object may change again within it.
    """
    size = info.get("size")
    mark = next((f"{name}={info[name]}" for name in _MARKS if info.get(name)), "")
    when = next((info[name] for name in _TIMES if info.get(name)), None)
    if not isinstance(size, int) or size < 0 or not (mark or when):
        return NO_STAMP
    timed = not mark or "Last-Modified" in info
    if timed and when is not None and _seconds(when) > time.time() - RACY_NS / 1e9:
        return NO_STAMP
    said = when.isoformat() if isinstance(when, datetime) else when
    return size, int(bytes_digest(f"{mark}\n{said}".encode())[:16], 16) >> 1


def _seconds(when: Any) -> float:
    if isinstance(when, datetime):
        return when.timestamp()
    if isinstance(when, str):
        for parsed in (parsedate_to_datetime, datetime.fromisoformat):
            with contextlib.suppress(TypeError, ValueError):
                return parsed(when).timestamp()
    return float(when) if isinstance(when, (int, float)) else float("inf")
