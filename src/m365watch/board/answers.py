"""Answers of the board that are JSON."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from starlette.responses import Response


def given(document: object, *, status: int = 200, headers: Mapping[str, str] = {}) -> Response:
    """`document` as the answer."""
    return Response(
        msgspec.json.encode(document),
        status_code=status,
        media_type="application/json",
        headers=dict(headers),
    )


def said(status: int, words: str) -> Response:
    """What became of something, in words for whoever did it."""
    return given({"says": words}, status=status)
