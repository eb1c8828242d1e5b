"""Values -> HTTP answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from ffe.errors import one_line, sentence_of


def answered(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return JSON, in ASCII: names may hold what UTF-8 has not."""
    return Response(json.dumps(value, allow_nan=False), status, headers, "application/json")


def refused(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return ``{"error": sentence}``."""
    return answered({"error": sentence}, status, headers)


def failed(error: Exception) -> str:
    """Return a sentence for what went wrong."""
    return sentence_of(error, "send smaller photos") or f"This should not happen: {one_line(error)}; please report it."
