"""Answers of the board that are JSON, or come bit by bit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Coroutine, Mapping
from typing import Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

_T = TypeVar("_T")


async def client_left(request: Request, error: Exception) -> Response:  # noqa: ARG001 - a handler's signature
    """The end of a request whose client went away before the answer was there."""
    return Response(status_code=499)


async def while_there(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """What `work` answers; it is cancelled when the browser goes away.

    Raises: ClientDisconnect; what `work` raises.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_until_gone(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        working.cancel()
        leaving.cancel()


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


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
