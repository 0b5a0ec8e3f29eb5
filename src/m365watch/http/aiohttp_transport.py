"""One connection to a server: one request after the other, each with its whole answer.

llhttp, by way of httptools, parses; what is here keeps the bounds, and sees to it that a connection is
used again only if nothing at all speaks against it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import cast

import httptools
from multidict import CIMultiDict, istr

from m365watch.http.transport import ExchangeFailed, Failure, RawAnswer

HEAD_BYTES_MAX = 64 << 10
"""All of an answer that is not its body: heads, trailers, and what the rims of chunks have too much."""

INFORMATIONAL_MAX = 16
"""Answers of 1xx before the one that counts."""

_CHUNK_BYTES = 32
"""What the rim of a chunk may take; a server may send every byte as a chunk of its own."""

_PIECES_MAX = 1_024
"""Pieces of a body that are kept one by one; a piece of 2 bytes would take 70 times as much memory."""

_SWITCHED = 101


class Connection(asyncio.Protocol):
    """Free when it is made; `exchange` occupies it until its future is done. Who gives up drops it."""

    def __init__(self, *, body_bytes_max: int, on_over: Callable[[Connection], None]) -> None:
        """`on_over` is called once, when it can no longer be used."""
        self.silent_ticks = 0
        """Counted up by the owner; any byte sets it back."""
        self.ends_tick = 0
        """When the exchange has to be over, by the owner's count."""
        self.exchanges = 0
        self.is_over = False
        self._body_bytes_max = body_bytes_max
        self._on_over = on_over
        self._transport: asyncio.Transport | None = None
        self._unsent_bytes = 0
        parser = httptools.HttpResponseParser(self)
        parser.set_dangerous_leniencies(lenient_spaces_after_chunk_size=True)
        self._parser: httptools.HttpResponseParser | None = parser
        self._waiter: asyncio.Future[RawAnswer] | None = None
        self._keeps_alive = False
        self._forget()

    def _forget(self) -> None:
        """Keep nothing of the last answer, which may be large."""
        self._answer: RawAnswer | None = None
        self._received_bytes = 0
        self._body_bytes = 0
        self._around_bytes_max = HEAD_BYTES_MAX
        self._informational = 0
        self._fields: list[tuple[bytes, bytes]] = []
        self._head: list[tuple[bytes, bytes]] | None = None
        self._chunks: list[bytes] = []
        self._rest = bytearray()

    @property
    def is_open(self) -> bool:
        """Whether its socket may still be open."""
        return self._transport is not None

    @property
    def secured(self) -> ssl.SSLObject | None:
        """The TLS that it is in; None in the clear, and before it is made."""
        if self._transport is None:
            return None
        found: ssl.SSLObject | None = self._transport.get_extra_info("ssl_object")
        return found

    @property
    def is_busy(self) -> bool:
        """Whether an answer is waited for."""
        return self._waiter is not None

    @property
    def is_unheard(self) -> bool:
        """Whether not one byte of the answer has come."""
        return self._received_bytes == 0

    @property
    def is_free(self) -> bool:
        """Whether another request may be sent: the last answer was whole, and the server stays."""
        return self._keeps_alive and not self.is_over and self._waiter is None

    def exchange(self, request: bytes, *, ends_tick: int) -> asyncio.Future[RawAnswer]:
        """The answer to `request`; ExchangeFailed is what the future may raise."""
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        self.exchanges += 1
        self.silent_ticks = 0
        self.ends_tick = ends_tick
        if self.is_over or self._transport is None:
            self.fail(Failure.CLOSED)
        else:
            self._transport.write(request)
        return waiter

    def watch_writing(self) -> None:
        """Take bytes that leave for a sign of life: a large request may need its time."""
        unsent_bytes = self._transport.get_write_buffer_size() if self._transport else 0
        if unsent_bytes != self._unsent_bytes:
            self._unsent_bytes = unsent_bytes
            self.silent_ticks = 0

    def fail(self, failure: Failure, detail: object = "") -> None:
        """End it; who waits for an answer is told why there is none."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ExchangeFailed(failure, detail))
        self.drop()

    def drop(self) -> None:
        """Close it now; may be called at any time, and again."""
        self._waiter = None
        if self.is_over:
            return
        self.is_over = True
        self._parser = None
        if self._transport is not None:
            self._transport.abort()
        self._on_over(self)

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to use `transport`."""
        self._transport = cast(asyncio.Transport, transport)
        if self.is_over:
            self._transport.abort()

    def data_received(self, received: bytes) -> None:
        """Parse what came; bytes that nobody waits for end the connection."""
        if self._waiter is None or self._parser is None:
            self.drop()
            return
        self.silent_ticks = 0
        self._received_bytes += len(received)
        try:
            self._parser.feed_data(received)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if self._answer is None:
                self.fail(Failure.NOT_HTTP)
                return
            self._keeps_alive = False
        if self._body_bytes > self._body_bytes_max:
            self.fail(Failure.BODY_TOO_LARGE, self._body_bytes_max)
        elif self._received_bytes - self._body_bytes > self._around_bytes_max:
            self.fail(Failure.HEAD_TOO_LARGE, HEAD_BYTES_MAX)
        elif self._answer is not None:
            self._finish(self._answer)

    def eof_received(self) -> None:
        """Let nobody use it any more; `connection_lost` follows."""
        self._keeps_alive = False

    def connection_lost(self, error: Exception | None) -> None:
        """Tell who waits what the end means."""
        waiter = self._waiter
        if waiter is not None and self._head is not None and error is None and _ends_by_close(self._head):
            with suppress(httptools.HttpParserError):  # what came is no answer: it is cut short
                self.on_message_complete()
            if self._answer is not None:
                self._finish(self._answer)
        self.fail(Failure.CUT_SHORT if self._head is not None else _failure_of(error))
        self._transport = None

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Refuse a second answer to one request."""
        if self._answer is not None:
            raise httptools.HttpParserError

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a field of the head; those of a trailer are counted and forgotten."""
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        """Keep the head; what follows belongs to the body."""
        self._head = self._fields
        self._fields = []

    def on_chunk_header(self) -> None:
        """Let the rim of a chunk be no part of the head."""
        self._around_bytes_max += _CHUNK_BYTES
        self._fields.clear()

    def on_body(self, part: bytes) -> None:
        """Keep a part of the body."""
        if len(self._chunks) < _PIECES_MAX:
            self._chunks.append(part)
        else:
            self._rest += part
        self._body_bytes += len(part)

    def on_message_complete(self) -> None:
        """Put the answer together, or wait on after one that only informs."""
        parser = cast(httptools.HttpResponseParser, self._parser)
        status = parser.get_status_code()
        if status < 200:
            self._pass_over(status)
            return
        chunks = self._chunks
        headers = CIMultiDict(
            [
                (_name(name), value.decode("utf-8", "surrogateescape").strip())
                for name, value in self._head or ()
            ]
        )
        coding = headers.get("Transfer-Encoding")
        if coding is not None and coding.lower() != "chunked":
            raise httptools.HttpParserError
        body = chunks[0] if len(chunks) == 1 else b"".join((*chunks, self._rest))
        self._answer = RawAnswer(status, headers, body)
        self._keeps_alive = parser.should_keep_alive()

    def _pass_over(self, status: int) -> None:
        self._informational += 1
        if status < 100 or status == _SWITCHED or self._informational > INFORMATIONAL_MAX:
            raise httptools.HttpParserError
        self._head = None

    def _finish(self, answer: RawAnswer) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(answer)
        if self._keeps_alive and self._transport is not None and self._transport.get_write_buffer_size():
            # The server did not wait for the end of the request.
            self._keeps_alive = False
        self._forget()


@lru_cache(maxsize=256)
def _name(name: bytes) -> istr:
    return istr(name.decode("utf-8", "surrogateescape"))


def _ends_by_close(head: list[tuple[bytes, bytes]]) -> bool:
    """Whether the end of the connection is the only end that the body has."""
    return not {name.lower() for name, _ in head} & {b"content-length", b"transfer-encoding"}


def _failure_of(error: Exception | None) -> Failure:
    """What it means that a connection ended before the head of an answer had come."""
    if error is None or isinstance(error, ConnectionError):
        return Failure.CLOSED
    return Failure.TLS if isinstance(error, ssl.SSLError) else Failure.BROKEN
