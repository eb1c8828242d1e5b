"""What stands before every request: who may ask, from which page, under which name; headers, and counts."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import time
from collections.abc import Container
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ffe.serving.answers import failed, refused
from ffe.serving.metrics import Metrics
from ffe.serving.options import ServeOptions, is_loopback

log = logging.getLogger("ffe")

OPEN_TO_ALL = frozenset({"/health"})  # beside the page, which holds nothing of the model

_DRAIN_SECONDS = 10.0
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """An ASGI application before another one.

    Without a token the server answers to the names of this machine alone, so that no page of a stranger reaches it by a name
    of his that leads here. What a page elsewhere posts is refused, but for the pages of ``cors``. A request that is refused is
    read to its end, within limits, so that who sent it hears why.
    """

    def __init__(
        self, app: ASGIApp, options: ServeOptions, metrics: Metrics, paths: Container[str], free: Container[str]
    ) -> None:
        self._app, self._options, self._metrics = app, options, metrics
        self._paths, self._free = paths, free  # those that there are, and those that need no token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, headers = time.perf_counter(), 0, Headers(scope=scope)
        has_body = "content-length" in headers or "transfer-encoding" in headers
        unread = has_body and "expect" not in headers  # whoever waits for a word before he sends need not send

        async def receive_noting() -> Message:
            nonlocal unread
            message = await receive()
            unread = bool(message.get("more_body")) and message["type"] == "http.request"
            return message

        async def send_noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(_HEADERS)
                try:
                    async with asyncio.timeout(_DRAIN_SECONDS):
                        left = 2 * self._options.max_body
                        while unread and status != 408 and left > 0:  # which says that nothing comes
                            left -= len((await receive_noting()).get("body", b""))
                except TimeoutError:
                    pass
            await send(message)

        try:
            app = self._refusal(scope, headers) or self._app
            await app(scope, receive_noting, send_noting)
        except Exception as error:
            log.warning("%s", said := failed(error))
            if not status:
                await refused(500, said)(scope, receive_noting, send_noting)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.count(path, status or 500, time.perf_counter() - started)

    def _refusal(self, scope: Scope, headers: Headers) -> ASGIApp | None:
        """Return what answers in place of the server, or None."""
        host, origin, options = headers.get("host", ""), headers.get("origin"), self._options
        if options.token is None and not is_loopback(_without_port(host)):
            port = (scope.get("server") or ("", 80))[1]
            return refused(
                403,
                f"This server answers under the names of its own machine alone, not as '{host}'; ask it at http://localhost:{port}.",
            )
        is_foreign = origin is not None and origin not in options.cors and _host_of(origin) != host
        if is_foreign and scope["method"] not in {"GET", "HEAD"}:
            return refused(403, f"Pages of '{origin}' may not ask this server; allow them with --cors {origin}.")
        if options.token is None or scope["path"] in self._free:
            return None
        given = headers.get("authorization", "").partition(" ")
        if given[0].lower() != "bearer" or not hmac.compare_digest(given[2].strip().encode(), options.token.encode()):
            said = "The token is wrong" if given[2] else "The token is missing"
            return refused(
                401, f"{said}; send the server's own as 'Authorization: Bearer TOKEN'.", {"WWW-Authenticate": "Bearer"}
            )
        return None


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def _host_of(origin: str) -> str | None:
    with contextlib.suppress(ValueError):  # such as of http://[x
        return urlsplit(origin).netloc
    return None
