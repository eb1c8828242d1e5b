"""A socket and an application -> a server that answers until it is told to stop."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from ffe.errors import SpecError

BACKLOG = 128  # connections that wait to be taken; asyncio tries so many times where none can be
_LAST_WORDS = 30  # seconds for requests that are there when it is told to stop
HEAD_SECONDS = 10  # for the head of a request


class _Connection(H11Protocol):
    """Ends where nothing is asked: uvicorn would wait for the head of a request for ever."""

    _end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_a_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._end is not None:
            self._end.cancel()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._wait_for_a_head()

    def _wait_for_a_head(self) -> None:
        if self._end is not None:
            self._end.cancel()
        self._end = self.loop.call_later(HEAD_SECONDS, self._end_unless_asked)

    def _end_unless_asked(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


def open_socket(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address of this machine; a SpecError says why there is none."""
    try:
        family, *_, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        # asyncio sends small answers at once only where the socket says that it is TCP, which create_server's does not
        bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            if os.name == "posix":  # elsewhere two programs could have the port
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            bound.listen(BACKLOG)
        except OSError:
            bound.close()
            raise
        return bound
    except socket.gaierror as error:
        raise SpecError(f"There is no address '{host}'; give an address of this machine with --host.") from error
    except PermissionError as error:
        raise SpecError(f"The port {port} may not be used by everybody; give one above 1023 with --port.") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise SpecError(
                f"The port {port} is in use by another program; give another with --port, or --port 0 for any that is free."
            ) from error
        if error.errno == errno.EADDRNOTAVAIL:
            raise SpecError(f"'{host}' is no address of this machine; give one with --host, or leave it out.") from error
        raise


def address_of(bound: socket.socket) -> str:
    """Return where a bound socket is asked, such as ``http://127.0.0.1:8000``."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def server_of(app: ASGIApp) -> uvicorn.Server:
    """Return a server; ``run(sockets=[...])`` answers until a signal, or ``should_exit``, and then what has come before."""
    for name in ("uvicorn.error", "python_multipart"):  # what is to be said, the application says
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return uvicorn.Server(
        uvicorn.Config(
            app,
            loop="asyncio",
            http=_Connection,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=_LAST_WORDS,
        )
    )
