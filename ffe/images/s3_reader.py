"""Small objects of S3 read by obstore, in a third of the processor time that s3fs takes; s3fs says who reads, and where."""

from __future__ import annotations

import functools
import os
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

_HELD = timedelta(minutes=10)  # botocore renews credentials so long before they end, obstore asks anew five minutes before
_process = os.getpid()  # a fork of it lacks obstore's threads, and would wait for them without end


def read_s3(files: Any, path: str, start: int, end: int, seconds: float) -> bytes | None:
    """Return the bytes of an object from ``start`` to before ``end``; None = ask s3fs, which says why where it cannot either.

    Args:
        files: the s3fs file system of the bucket.
        seconds: after which it is given up.
    """
    bucket, key, _ = files.split_path(path)
    if key != key.strip("/"):  # obstore would read another object
        return None
    if threading.current_thread() is threading.main_thread():  # Ctrl-C would have to wait for it
        return None
    return _reader(files, files.s3, bucket, seconds).read(key, start, end)


class _Reader:
    """Reads a bucket with the credentials of an s3fs file system on which nothing is set that obstore may not know."""

    def __init__(self, files: Any, client: Any, bucket: str, seconds: float) -> None:
        self._files, self._client, self._bucket, self._seconds = files, client, bucket, seconds
        config = client.meta.config
        special = files.key or files.client_kwargs or files.req_kw or files.version_aware or config.proxies or config.s3
        self._works = False if special else None  # None = nothing was asked yet; the first answer decides

    def read(self, key: str, start: int, end: int) -> bytes | None:
        if self._works is False or os.getpid() != _process:
            return None
        try:
            from obstore import get_range

            data = bytes(get_range(self._store, key, start=start, end=end))
        except Exception:
            self._works = bool(self._works)
            return None
        self._works = True
        return data

    @functools.cached_property
    def _store(self) -> Any:
        from obstore.store import S3Store

        meta = self._client.meta
        return S3Store(
            self._bucket,
            endpoint=meta.endpoint_url,
            region=meta.region_name,
            virtual_hosted_style_request=False,  # a bucket's name may have dots, which no certificate covers
            client_options={
                "allow_http": meta.endpoint_url.startswith("http:"),
                "timeout": timedelta(seconds=self._seconds),
                "connect_timeout": timedelta(seconds=meta.config.connect_timeout),
                "read_timeout": timedelta(seconds=meta.config.read_timeout),
            },
            retry_config={"max_retries": 0},
            **({"skip_signature": True} if self._files.anon else {"credential_provider": self._credentials}),
        )

    def _credentials(self) -> dict[str, Any]:
        from fsspec.asyn import sync

        found = sync(self._files.loop, self._files.session.get_credentials)
        held = sync(self._files.loop, found.get_frozen_credentials)
        renewed = {"token": held.token, "expires_at": datetime.now(UTC) + _HELD}
        return {"access_key_id": held.access_key, "secret_access_key": held.secret_key, **renewed}


_reader = functools.lru_cache(maxsize=64)(_Reader)
