"""Values -> HTTP answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response


def answered(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return JSON, in ASCII: names may hold what UTF-8 has not."""
    return Response(json.dumps(value, allow_nan=False), status, headers, "application/json")


def refused(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return ``{"error": sentence}``."""
    return answered({"error": sentence}, status, headers)
