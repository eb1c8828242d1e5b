"""How a server is to be reached, and what it takes."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from ffe.errors import SpecError

HOST, PORT = "127.0.0.1", 8000
QUEUE = 64
MAX_BODY = 32 << 20
MAX_PIXELS = 70_000_000  # of a photo: cameras of 64 megapixels are below; strangers may send what takes long to decode
_LEAST_TOKEN = 8

TOKEN_HINT = "give it a token of at least 8 characters in the variable FFE_TOKEN, or with --token"


@dataclass(frozen=True)
class ServeOptions:
    """What ``serve`` is asked for; its docstring says what each option means."""

    host: str = HOST
    port: int = PORT
    token: str | None = None
    cors: tuple[str, ...] = ()
    queue: int = QUEUE
    max_body: int = MAX_BODY

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise SpecError(f"The port is {self.port}, but must be 0 to 65535; 0 takes any that is free.")
        for name, value in (("queue", self.queue), ("max_body", self.max_body)):
            if value < 1:
                raise SpecError(f"{name} is {value}, but must be at least 1.")
        if self.token is None:
            if not is_loopback(self.host):
                raise SpecError(f"Other machines could ask the server at '{self.host}'; {TOKEN_HINT}, or leave --host out.")
        elif len(self.token) < _LEAST_TOKEN or not re.fullmatch(r"[!-~]+", self.token):
            raise SpecError(
                f"The token must have at least {_LEAST_TOKEN} letters, digits or signs of ASCII and no spaces; "
                "'openssl rand -hex 16' makes a good one."
            )
        for origin in self.cors:
            if not re.fullmatch(r"https?://[^/\s*]+", origin):
                raise SpecError(f"'{origin}' is no origin of a page; write it as https://example.org, without a path.")


def is_loopback(host: str) -> bool:
    """Return whether a name or address is of this machine alone; ``[::1]`` may have its brackets."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
