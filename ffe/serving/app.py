"""A model as an ASGI application: photos in, what it says of them as JSON out."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import io
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from ffe._version import __version__
from ffe.base.text import counted
from ffe.bundle.io import Bundle
from ffe.errors import ModelMismatchError
from ffe.explaining.explanations import Explanation, class_number
from ffe.explaining.overlay import overlay
from ffe.predictor import Prediction, Predictor
from ffe.report.heat_sheet import legend
from ffe.serving.answers import answered, failed, refused
from ffe.serving.guard import OPEN_TO_ALL, Guard
from ffe.serving.metrics import TEXT, Metrics
from ffe.serving.openapi import description
from ffe.serving.options import ServeOptions
from ffe.serving.server import HEAD_SECONDS
from ffe.serving.uploads import MOST_EXPLAINED, MOST_PHOTOS, BrokenFormError, Form, OnePhoto, TooManyPhotosError
from ffe.serving.worker import Upload, Worker

log = logging.getLogger("ffe")

_PAGE = Path(__file__).parent / "templates"
_PAGE_NAME = "page.html"
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_PATIENCE = 30.0  # seconds for the next piece of a body, and for all of it beyond what the rate allows
_LEAST_RATE = 64 << 10  # bytes a second, of a whole body
_HELD_BYTES = 512 << 20  # of all bodies that are here at once
_AGAIN_SECONDS = 60.0  # until the same is said again
_LATER = {"Retry-After": "1"}
_NO_FILES = {errno.EMFILE, errno.ENFILE}
_CLIENT_IS_GONE = 499  # as nginx counts it; nobody hears it


def make_app(predictor: Predictor, worker: Worker, options: ServeOptions, ready: Callable[[], None] = lambda: None) -> ASGIApp:
    """Return the application; ``ready`` is called once it answers.

    Args:
        predictor: the model, of which only what never changes is read here.
        worker: what owns the model, at work.
        options: how it is to be reached.
        ready: called in the thread of the server.
    """
    service, page = _Service(predictor, worker, options), _page()
    routes = [
        *(Route(path, _file(content, kind)) for path, (content, kind) in page.items()),
        Route("/health", service.health),
        Route("/model", service.model),
        Route("/metrics", service.metrics),
        Route("/openapi.json", service.openapi),
        Route("/predict", service.predict, methods=["POST"]),
        Route("/explain", service.explain, methods=["POST"]),
    ]

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        asyncio.get_running_loop().set_exception_handler(_Failures())
        ready()
        yield

    starlette = Starlette(routes=routes, exception_handlers={HTTPException: _refusal, Exception: _failure}, lifespan=lifespan)
    known = {route.path for route in routes}
    app: ASGIApp = Guard(starlette, options, service.counts, known, OPEN_TO_ALL | set(page))
    if options.cors:
        headers = ("Authorization", "Content-Type")
        app = CORSMiddleware(app, options.cors, ("GET", "POST"), headers, expose_headers=("Retry-After",))
    return app


class _Service:
    def __init__(self, predictor: Predictor, worker: Worker, options: ServeOptions) -> None:
        self._predictor, self._worker, self._options = predictor, worker, options
        self.counts = Metrics()
        self._waiting = self._bytes = 0  # requests whose bodies are here, and the bytes of all bodies that are
        self._openapi = description(predictor.class_names, token=options.token is not None)
        self._model = _about(predictor.bundle, predictor.reject, options.max_body)

    async def health(self, request: Request) -> Response:
        if not self._worker.works:
            return refused(503, "The thread of the model has ended; start the server again.")
        return answered({"status": "ok"})

    async def model(self, request: Request) -> Response:
        return answered(self._model)

    async def openapi(self, request: Request) -> Response:
        return answered(self._openapi)

    async def metrics(self, request: Request) -> Response:
        now = {
            "ffe_requests_waiting": self._waiting,
            "ffe_bytes_held": self._bytes,
            "ffe_model_calls_total": self._worker.calls,
        }
        return Response(self.counts.text(now), media_type=TEXT)

    async def predict(self, request: Request) -> Response:
        return await self._answer(request, self._worker.predict, "predictions", MOST_PHOTOS)

    async def explain(self, request: Request) -> Response:
        name = request.query_params.get("class")
        if name is not None:
            try:
                class_number(self._predictor, name)
            except ModelMismatchError as error:
                return refused(422, str(error))
        return await self._answer(request, lambda photos: self._worker.explain(photos, name), "explanations", MOST_EXPLAINED)

    async def _answer(
        self, request: Request, ask: Callable[[list[Upload]], Future[list[Any]]], several: str, most: int
    ) -> Response:
        """Answer for one photo with what is found, for a form of at most ``most`` with a list of it under ``several``."""
        kind = request.headers.get("content-type", "")
        is_form = kind.lower().startswith("multipart/")
        try:
            with self._held() as hold:
                photos = await self._photos(request, OnePhoto() if not is_form else Form(kind, most), hold)
                with self._place():
                    found = await _unless_gone(ask(photos), request)
            self.counts.photos.update("answered" if one.error is None else "unreadable" for one in found)
            values = await asyncio.to_thread(lambda: [_value(one) for one in found])
        except ClientDisconnect:
            return Response(status_code=_CLIENT_IS_GONE)
        except HTTPException:
            raise
        except TooManyPhotosError as error:
            sentence = f"The form has more than {counted(most, 'photo')}; send them in several requests."
            raise HTTPException(413, sentence) from error
        except BrokenFormError as error:
            raise HTTPException(
                400, "The body is no whole multipart form; send one photo as the body, or several as the files of a form."
            ) from error
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _NO_FILES:
                raise HTTPException(503, "There are no free file descriptors now; send the photo again.", _LATER) from error
            log.warning("%s", said := failed(error))
            return refused(500, said)
        read = any(one.error is None for one in found)
        if not is_form:
            return answered(values[0], 200 if read else 422)
        if read:
            return answered({several: values})
        return answered({"error": "No image could be read; give JPEG, PNG or other picture files.", several: values}, 422)

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        """Take a place for a request whose body is here; a full server is 503."""
        if self._waiting >= self._options.queue:
            raise _full()
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    @contextlib.contextmanager
    def _held(self) -> Iterator[Callable[[int], None]]:
        """Yield what counts bytes of a body that have come; where there are too many beside those of others, it is 503."""
        own = 0

        def hold(size: int) -> None:
            nonlocal own
            if self._bytes > own and self._bytes + size > _HELD_BYTES:
                raise _full()
            own += size
            self._bytes += size

        try:
            yield hold
        finally:
            self._bytes -= own

    async def _photos(self, request: Request, body: OnePhoto | Form, hold: Callable[[int], None]) -> list[Upload]:
        """Read the body, in memory."""
        most, size = self._options.max_body, 0
        encoding = request.headers.get("content-encoding", "identity").lower()
        if encoding != "identity":
            raise HTTPException(415, "The body is compressed; send photos as they are, without Content-Encoding.")
        if int(request.headers.get("content-length", 0)) > most:
            raise _too_large(most)
        now = asyncio.get_running_loop().time
        started, more = now(), True
        while more:
            try:
                async with asyncio.timeout_at(min(now(), started + size / _LEAST_RATE) + _PATIENCE):
                    message = await request.receive()
            except TimeoutError as error:
                raise HTTPException(408, "The rest of the body did not come; send the photo again.") from error
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            more, piece = message.get("more_body", False), message.get("body", b"")
            size += len(piece)
            if size > most:
                raise _too_large(most)
            hold(len(piece))
            body.add(piece)
            await asyncio.sleep(0)  # others have their turn
        photos = body.photos()
        if not photos:
            raise HTTPException(400, "The form has no photo; send each as a file of it.")
        return photos


def _about(bundle: Bundle, threshold: float, max_body: int) -> dict[str, Any]:
    """Return what ``/model`` says."""
    manifest = bundle.manifest
    test = manifest.evaluation.get("test")
    accuracy = test.get("accuracy") if isinstance(test, dict) else None
    return {
        "name": bundle.path.name,
        "classes": list(manifest.class_names),
        "size": list(manifest.spec.preprocess.size),
        "backbones": [spec.backbone.name for spec, _ in manifest.backbones],
        "head": manifest.head.name,
        "digest": bundle.sha256,
        "threshold": threshold,
        "accuracy": accuracy if isinstance(accuracy, (int, float)) else None,
        "max_body": max_body,
        "ffe": __version__,
    }


def _value(found: Prediction | Explanation) -> dict[str, Any]:
    """Return what is said of one photo: as ``--json`` has it; of an explanation the picture and the words for it too."""
    value = found.to_json()
    if isinstance(found, Explanation):
        del value["picture"]
        value |= {"overlay": None, "legend": []}
        if found.cells is not None and found.pixels is not None:
            file = io.BytesIO()
            Image.fromarray(overlay(found.pixels, found.cells, exact=found.way == "exact")).save(file, "PNG", compress_level=3)
            value["overlay"] = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
            value["legend"] = list(legend(str(found.class_name), found.cells))
    return value


async def _unless_gone(answer: Future[list[Any]], request: Request) -> list[Any]:
    """Return what the model says; where whoever asked hangs up before, a ClientDisconnect, and nothing is computed for him."""

    async def hang_up() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    gone, found = asyncio.ensure_future(hang_up()), asyncio.wrap_future(answer)
    both: set[asyncio.Future[Any]] = {gone, found}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not found.done():
            raise ClientDisconnect
        return found.result()
    finally:
        gone.cancel()
        found.cancel()


def _full() -> HTTPException:
    return HTTPException(503, "Too many photos wait already; send this one again in a moment.", _LATER)


def _too_large(most: int) -> HTTPException:
    amount = f"{most >> 20:,} MiB" if most >= 1 << 20 else counted(most, "byte")
    return HTTPException(413, f"The body has more than {amount}; send fewer or smaller photos, or raise --max-body.")


async def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    sentence = error.detail
    if error.status_code == 404:
        sentence = "There is nothing here; the page is at /, and /openapi.json says what else there is."
    elif error.status_code == 405:
        sentence = f"{request.method} is not for this address; /openapi.json says what is."
    return refused(error.status_code, sentence, error.headers)


async def _failure(request: Request, error: Exception) -> Response:
    return refused(500, failed(error))  # the guard, which it comes to next, says it here too


def _page() -> dict[str, tuple[bytes, str]]:
    """Return the files of the page by path: content and type. They are held, so that no file is opened later."""
    found = {}
    for file in sorted(_PAGE.iterdir()) if _PAGE.is_dir() else ():
        path = "/" if file.name == _PAGE_NAME else f"/{file.name}"
        found[path] = file.read_bytes(), f"{_KINDS[file.suffix]}; charset=utf-8"
    return found


def _file(content: bytes, kind: str) -> Callable[[Request], Any]:
    async def send(request: Request) -> Response:
        return Response(content, headers={"Content-Type": kind})

    return send


class _Failures:
    """Says in one sentence what asyncio has to say, which goes on in any case."""

    def __init__(self) -> None:
        self._said_at = -_AGAIN_SECONDS

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in _NO_FILES:  # it tries again and again
            if time.monotonic() - self._said_at > _AGAIN_SECONDS:
                self._said_at = time.monotonic()
                log.warning(
                    "No connection can be taken, for there are no free file descriptors; those that are open are answered, "
                    f"others wait. What asks nothing for {HEAD_SECONDS} seconds is closed. Allow more (ulimit -n)."
                )
        elif not isinstance(error, ConnectionError):
            log.warning("%s", failed(error) if isinstance(error, Exception) else context["message"])
