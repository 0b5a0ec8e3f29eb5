"""One HTTP request, whose head and time the listener bounds and whose body is bounded here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus

import httptools

BODY_BYTES_MAX = 1024 * 1024
"""A notification of one blob has about 600 bytes."""
_CHUNK_BYTES = 16 * 1024


@dataclass
class Request:
    """A request, as far as it has come."""

    target: str = ""
    method: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    """By name in lower case; of several the last."""
    body: bytearray = field(default_factory=bytearray)


class RequestRefused(Exception):
    """The request is answered with `status`, and nothing else is done about it."""

    def __init__(self, status: HTTPStatus) -> None:
        """`status` is no success."""
        super().__init__(status)
        self.status = status


@dataclass
class _Reading:
    """What httptools calls while it reads."""

    request: Request = field(default_factory=Request)
    has_head: bool = False
    is_whole: bool = False

    def on_url(self, url: bytes) -> None:
        self.request.target += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.request.headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip()

    def on_headers_complete(self) -> None:
        self.has_head = True

    def on_body(self, body: bytes) -> None:
        if len(self.request.body) + len(body) > BODY_BYTES_MAX:
            raise RequestRefused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        self.request.body += body

    def on_message_complete(self) -> None:
        self.is_whole = True


async def read_request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, judge_head: Callable[[Request], object]
) -> Request | None:
    """The request; None where the connection ended before one came. The listener bounds head and time.

    `judge_head` sees the request once its headers are there, and may raise RequestRefused: then no body
    is read. Raises: RequestRefused, also for what is no HTTP or is too large.
    """
    reading = _Reading()
    parser = httptools.HttpRequestParser(reading)
    judged = False
    while not reading.is_whole:
        chunk = await reader.read(_CHUNK_BYTES)
        if not chunk:
            return None
        _feed(parser, chunk)
        if reading.has_head and not judged:
            judged = True
            reading.request.method = parser.get_method().decode("latin-1")
            _judge(reading.request, judge_head)
            if not reading.is_whole and reading.request.headers.get("expect", "").lower() == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                await writer.drain()
    return reading.request


def _judge(request: Request, judge_head: Callable[[Request], object]) -> None:
    judge_head(request)
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > BODY_BYTES_MAX:
        raise RequestRefused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestRefused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)


def _feed(parser: httptools.HttpRequestParser, chunk: bytes) -> None:
    try:
        parser.feed_data(chunk)
    except httptools.HttpParserUpgrade:
        raise RequestRefused(HTTPStatus.BAD_REQUEST) from None
    except httptools.HttpParserError as error:
        # What a callback raises comes wrapped.
        cause = error.__context__
        if isinstance(cause, RequestRefused):
            raise cause from None
        raise RequestRefused(HTTPStatus.BAD_REQUEST) from None
