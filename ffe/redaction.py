"""Texts without the passwords, signatures and tokens that URLs in them hold."""

from __future__ import annotations

import re

_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:/{1,2})([^\s/?#'\"<>]*)@")
_CONTAINER = re.compile(r"(abfss?|az|wasbs?):", re.IGNORECASE)  # their URLs have the name of a container before the @
_QUERY = re.compile(r"(?<=[^\s'\"<>])\?([^\s'\"<>#]*=[^\s'\"<>#]*)")
_SECRET = re.compile(
    r"(x-amz-.*|x-goog-.*|x-oss-.*|awsaccesskeyid|googleaccessid|ossaccesskeyid|key-pair-id|policy|expires|signature|sig|hmac"
    r"|.*token|.*secret|.*password|passwd|pwd|.*credential|(.*[-_])?key|apikey|accesskey|auth|authorization|jwt)",
    re.IGNORECASE,
)
_WITH_SIG = re.compile(r"(s[vretpi]|ss|srt|spr|sip|sk[a-z]+)", re.IGNORECASE)  # Azure's, which change with each signature


def redacted(text: str) -> str:
    """Return a text without the secrets of the URLs in it: names with passwords, signatures, tokens and keys."""
    if ":/" not in text:
        return text
    return _QUERY.sub(_plain_query, _USER.sub(_plain_start, text))


def _plain_start(match: re.Match[str]) -> str:
    return match[0] if _CONTAINER.match(match[1]) and ":" not in match[2] else match[1]


def _plain_query(match: re.Match[str]) -> str:
    fields = match[1].split("&")
    names = [field.partition("=")[0] for field in fields]
    signed = any(name.lower() == "sig" for name in names)
    kept = [
        field
        for name, field in zip(names, fields, strict=True)
        if not (_SECRET.fullmatch(name) or (signed and _WITH_SIG.fullmatch(name)))
    ]
    return f"?{'&'.join(kept)}" if kept else ""
