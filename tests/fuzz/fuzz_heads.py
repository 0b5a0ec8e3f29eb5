"""What stands before every server of ours: heads, trailers and pipelines in pieces of any size."""

from __future__ import annotations

import asyncio
import re
from http import HTTPStatus
from pathlib import Path
from random import Random
from typing import Any, cast

from fuzz_contract import Attempt, Broken, Loop, Target
from m365watch.http.bounded_listener import Limits, Listener

HEADERS_MAX = 256
BEHIND_BYTES = 3 * 8_192
"""How far behind its bound a head may be noticed to be too long: it is read and counted in slices."""
LIMITS = Limits(head_bytes=16 << 10, probes=frozenset({"/healthz"}), lasting=frozenset({"/live"}))
_NO_END = re.compile(rb"\n\r?\n")
_SOUND_HEAD = re.compile(
    rb"(?:GET|HEAD|PUT|POST|DELETE) /[\x21-\x7e]* HTTP/1\.[01]\r\n((?:[A-Za-z-]+:[ \x21-\x7e]*\r\n)*)\r\n"
)
_REFUSED = re.compile(rb"HTTP/1\.1 (\d{3}) [A-Za-z ]+\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


class _Transport(asyncio.Transport):
    """A client's connection, as far as the listener sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.is_over = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.7", 50_000) if name == "peername" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """All is taken."""

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.sent += bytes(data)

    def close(self) -> None:
        self.is_over = True

    def abort(self) -> None:
        self.is_over = True

    def is_closing(self) -> bool:
        return self.is_over


class _Server(asyncio.Protocol):
    """The server behind: keeps what it is given."""

    def __init__(self) -> None:
        self.given = b""

    def data_received(self, data: bytes) -> None:
        self.given += data


def _pieces(given: bytes) -> list[bytes]:
    """What comes in one read each: the first byte says how much that is."""
    size = (1, 7, 100, 4_096, 8_192, 65_536)[given[0] % 6] if given else 1
    size = max(size, len(given) // 500)
    return [given[start : start + size] for start in range(1, len(given), size)]


def _judge(sent: bytes, server: _Server, transport: _Transport, listener: Listener) -> None:
    given = server.given
    if not sent.startswith(given):
        raise Broken("the server was given something else than was sent")
    if not transport.is_over and given != sent:
        raise Broken("something was held back, and the client was told nothing")
    if transport.sent:
        refused = _REFUSED.fullmatch(transport.sent)
        if refused is None or not transport.is_over:
            raise Broken("a refusal that is none", transport.sent[:200])
        HTTPStatus(int(refused[1]))
    head = _NO_END.search(given)
    if (head.start() if head else len(given)) > LIMITS.head_bytes + BEHIND_BYTES:
        raise Broken("a head without an end reached the server")
    sound = _SOUND_HEAD.match(given)
    if sound and sound[1].count(b"\n") > HEADERS_MAX:
        raise Broken("a head with too many headers reached the server")
    if transport.is_over and listener.count:
        raise Broken("a connection that is over keeps its place")


def _prepare(_: Path) -> Attempt:
    loop = Loop()

    async def answer(given: bytes) -> None:
        listener, server, transport = Listener("fuzzed", LIMITS), _Server(), _Transport()
        connection = listener.protocol(lambda: server)
        connection.connection_made(transport)
        sent = b""
        for piece in _pieces(given):
            if transport.is_over:
                break
            sent += piece
            connection.data_received(piece)
        _judge(sent, server, transport, listener)
        connection.eof_received()
        connection.connection_lost(None)
        # As with the loop that served it.
        if transport.is_over:
            cast(Any, connection)._timer.cancel()
        if listener.count:
            raise Broken("a connection that is gone keeps its place")

    return lambda given: loop.run(answer(given))


_BODY = b"POST /collectors/review HTTP/1.1\r\nHost: a\r\n"


def heads() -> list[bytes]:
    """Requests as clients send them, and those that go to a bound."""
    requests = [
        b"GET /overview?range=7d HTTP/1.1\r\nHost: 127.0.0.1:8365\r\nCookie: a=b\r\n\r\n",
        b"GET /live HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n",
        _BODY + b"Content-Length: 2\r\n\r\n{}GET /healthz HTTP/1.1\r\n\r\n",
        _BODY + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Trailer: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X-Header: a\r\n" * 250 + b"\r\n",
        b"GET / HTTP/1.1\r\nX-Long: " + b"a" * 15_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n" * 15,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ]
    return [bytes([size]) + one for size in (2, 5) for one in requests]


def grow_head(random: Random) -> bytes:
    """A head of the right form, near its bounds or far behind them."""
    names = (b"Host", b"Cookie", b"Content-Length", b"Transfer-Encoding", b"Expect", b"X-A", b"Connection")
    values = (b"a", b"0", b"5", b"chunked", b"100-continue", b"Upgrade", b"keep-alive", b"a" * 300, b"")
    count = random.choice((0, 3, 255, 256, 257, 400, 5_000))
    lines = b"".join(
        b"%b: %b\r\n" % (random.choice(names if count < 9 else (b"X-A",)), random.choice(values))
        for _ in range(count)
    )
    target = b"/" + b"a" * random.choice((0, 5, 16_000, 17_000, 60_000))
    body = b"%x\r\n%b\r\n0\r\n" % (3, b"abc") if random.random() < 0.3 else b""
    head = b"%b %b HTTP/1.%d\r\n%b\r\n" % (
        random.choice((b"GET", b"POST", b"CONNECT", b"get")),
        target,
        random.choice((0, 1, 9)),
        lines,
    )
    times = random.choice((1, 1, 2, 17, 40)) if len(head) < 500 else 1
    return bytes([random.randrange(6)]) + (head + body) * times + lines


TARGETS = (
    Target("heads", _prepare, heads, grow_head,
        (b"\r\n\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", b"Expect: 100-continue\r\n", b"X-A: b\r\n" * 60,
         b"Upgrade: websocket\r\nConnection: Upgrade\r\n", b"GET / HTTP/1.1\r\n", b"0\r\n", b"ffffffffffffffff\r\n"), free_cpu_s=2.0),
)  # fmt: skip
