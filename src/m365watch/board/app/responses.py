"""Answers of the board that are JSON, or come bit by bit."""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping

import msgspec
from starlette.responses import Response, StreamingResponse


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


def bit_by_bit(
    parts: AsyncIterable[str | bytes], *, media_type: str, headers: Mapping[str, str] = {}
) -> Response:
    """The parts as they come, which no proxy in front is to keep back until there are more."""
    # nginx and those that go by its header gather what comes, as long as nothing forbids it.
    told = {"X-Accel-Buffering": "no", **headers}
    return StreamingResponse(parts, media_type=media_type, headers=told)
