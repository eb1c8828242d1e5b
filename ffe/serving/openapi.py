"""What a server takes and gives, in OpenAPI 3.1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ffe._version import __version__

_TEXT, _NUMBER, _SHARE = {"type": "string"}, {"type": "number"}, {"type": "number", "minimum": 0, "maximum": 1}
_FORM = "multipart/form-data"
_ERRORS = {
    "400": "The body is no whole multipart form, or one without photos.",
    "401": "The token is missing or wrong.",
    "403": "The page or the name by which the server was asked is not allowed.",
    "408": "The rest of the body did not come.",
    "413": "The body is too large.",
    "415": "The body is compressed.",
    "500": "The model failed.",
    "503": "Too many photos wait already; Retry-After says when to ask again.",
}


def description(class_names: Sequence[str], *, token: bool) -> dict[str, Any]:
    """Return the description, as plain values for JSON.

    Args:
        class_names: of the model.
        token: whether the server wants one.
    """
    schemas = _schemas(class_names)
    value: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "ffe serve", "version": __version__, "description": "A model that says what is on photos."},
        "paths": {
            "/predict": {"post": _of_photos("Say what is on photos.", "Prediction", "predictions", token)},
            "/explain": {
                "post": _of_photos("Say what each part of photos adds to a class.", "Explanation", "explanations", token)
                | {
                    "parameters": [
                        {
                            "name": "class",
                            "in": "query",
                            "description": "The class to explain; without it, of each photo the most probable one.",
                            "schema": {"enum": list(class_names)} | _TEXT,
                        }
                    ]
                }
            },
            "/model": {"get": _getting("What the model is.", _json(_ref("Model")), token)},
            "/metrics": {"get": _getting("Counts for Prometheus.", {"text/plain": {"schema": _TEXT}}, token)},
            "/health": {"get": _getting("Whether the server answers.", _json(_record(status={"const": "ok"})), False, "503")},
            "/openapi.json": {"get": _getting("This description.", _json({"type": "object"}), token)},
        },
        "components": {"schemas": schemas},
    }
    if token:
        value["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return value


def _schemas(class_names: Sequence[str]) -> dict[str, Any]:
    label = _or_null({"enum": list(class_names)} | _TEXT)
    cells = {"type": "array", "items": {"type": "array", "items": _NUMBER}}
    return {
        "Error": _record(error=_TEXT),
        "Prediction": _record(
            path=_TEXT | {"description": "As the file is called in the form, or -."},
            label=label,
            sure={"type": "boolean", "description": "Whether the label's probability reaches the threshold."},
            probabilities={"type": "object", "additionalProperties": _SHARE},
            error=_or_null(_TEXT),
        ),
        "Explanation": _record(
            path=_TEXT,
            label=label,
            **{"class": label},
            probability=_or_null(_SHARE),
            log_odds=_or_null(_NUMBER),
            bias=_or_null(_NUMBER),
            cells=_or_null(cells | {"description": "Log-odds, from the top left of what the network sees."}),
            way={"enum": ["exact", "features", "pixels", None]},
            overlay=_or_null(_TEXT | {"description": "A PNG as a data: URL."}),
            legend={"type": "array", "items": _TEXT},
            error=_or_null(_TEXT),
        ),
        "Model": _record(
            name=_TEXT,
            classes={"type": "array", "items": _TEXT},
            size={"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
            backbones={"type": "array", "items": _TEXT},
            head=_TEXT,
            digest=_TEXT,
            threshold=_SHARE,
            accuracy=_or_null(_SHARE),
            max_body={"type": "integer"},
            ffe=_TEXT,
        ),
    }


def _of_photos(summary: str, name: str, several: str, token: bool) -> dict[str, Any]:
    photo = {"schema": _TEXT | {"contentMediaType": "application/octet-stream"}}
    form = {"type": "object", "additionalProperties": _TEXT | {"format": "binary"}, "minProperties": 1}
    listed = {several: {"type": "array", "items": _ref(name)}}
    none = {"anyOf": [_ref(name), _record(error=_TEXT, **listed), _ref("Error")]}
    return {
        "summary": summary,
        "requestBody": {
            "required": True,
            "description": "The file of one photo, or several as the files of a form.",
            "content": {"application/octet-stream": photo, "image/*": photo, _FORM: {"schema": form}},
        },
        "responses": {
            "200": {
                "description": "Of one photo, or of each of a form; those that cannot be read have an error.",
                "content": _json({"oneOf": [_ref(name), _record(**listed)]}),
            },
            "422": {"description": "No photo can be read, or the model cannot be asked so.", "content": _json(none)},
            **_refusals(token, *(code for code in _ERRORS if code not in {"401", "403"})),
        },
    } | _security(token)


def _getting(summary: str, content: dict[str, Any], token: bool, *errors: str) -> dict[str, Any]:
    responses = {"200": {"description": summary, "content": content}, **_refusals(token, *errors)}
    return {"summary": summary, "responses": responses} | _security(token)


def _refusals(token: bool, *codes: str) -> dict[str, Any]:
    wanted = sorted({"403", *(("401",) if token else ()), *codes})
    return {code: {"description": _ERRORS[code], "content": _json(_ref("Error"))} for code in wanted}


def _security(token: bool) -> dict[str, Any]:
    return {"security": [{"token": []}]} if token else {}


def _record(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
