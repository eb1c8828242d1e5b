"""``serve``: a model answers over HTTP, until it is interrupted."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import fields

from ffe.bundle.io import Bundle
from ffe.errors import EngineError, missing
from ffe.images.limits import MAX_BYTES, Truncated
from ffe.predictor import PredictOptions, Predictor
from ffe.serving.options import HOST, MAX_BODY, MAX_PIXELS, PORT, QUEUE, ServeOptions
from ffe.specs import AugmentSpec

_PACKAGES = {"starlette": "starlette", "uvicorn": "uvicorn", "python_multipart": "python-multipart"}


def serve(
    model: str | os.PathLike[str] | Bundle,
    *,
    host: str = HOST,
    port: int = PORT,
    token: str | None = None,
    cors: Sequence[str] = (),
    queue: int = QUEUE,
    max_body: int = MAX_BODY,
    ready: Callable[[str], None] | None = None,
    weights: str = "imagenet",
    engine: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    reject: float | None = None,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    truncated: Truncated = "skip",
    tta: int = 0,
    augment: str | AugmentSpec | None = None,
) -> None:
    """Answer over HTTP what a model says of photos, until SIGINT or SIGTERM; requests that are there then are answered.

    There is a page at ``/``, and ``/openapi.json`` describes the rest. Photos are held in memory, and nowhere else.

    Args:
        model: a model file, or one that is open.
        host: the address to listen at. All but this machine's own (``127.0.0.1``, ``::1``, ``localhost``) need a token.
        port: 0 to 65535; 0 = any that is free.
        token: what requests must send as ``Authorization: Bearer TOKEN``, at least 8 characters of ASCII without spaces;
            None = they need none.
        cors: origins of other pages that may ask, such as ``https://example.org``.
        queue: requests that may wait at once, their bodies being here; more are answered with 503.
        max_body: bytes of one request; more are answered with 413.
        ready: called with the address, such as ``http://127.0.0.1:8000``, once the server answers.
        max_pixels: of a photo; fewer than elsewhere, for strangers may send what takes long to decode.
        weights, engine, batch_size, workers, reject, max_bytes, truncated, tta, augment: see ``ffe.Predictor``.

    Raises:
        SpecError: an option is out of range, another host is named without a token, or the port cannot be had.
        BundleError, EngineError, WeightsError: the model cannot be used; see ``ffe.Predictor``.
    """
    given = locals()
    predictor_options = {one.name: given[one.name] for one in fields(PredictOptions) if one.init}
    options = ServeOptions(host, port, token, tuple(cors), queue, max_body)
    if absent := [package for name, package in _PACKAGES.items() if importlib.util.find_spec(name) is None]:
        raise EngineError(missing("ffe serve", *absent))
    from ffe.serving.app import make_app
    from ffe.serving.server import address_of, open_socket, server_of
    from ffe.serving.worker import Worker

    predictor = Predictor(model, **predictor_options)
    with open_socket(host, port) as bound, Worker(predictor) as worker:
        address = address_of(bound)

        def say_ready() -> None:
            if ready is not None:
                ready(address)

        server_of(make_app(predictor, worker, options, say_ready)).run(sockets=[bound])
