"""The limits before every HTTP server: what a client may send, how long, and how many there may be."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path

import pytest
import uvicorn
import uvloop
from aiohttp import ClientSession, web
from patience import PATIENCE_S
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from m365watch.http import bounded_listener as http_listener
from m365watch.http.bounded_listener import HEAD_BYTES_MAX, SPARE, Limits, Listener
from m365watch_simulator.service.server import is_idle
from m365watch_testing.certificates import Authority

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]
GET = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
LONG = 16_000_000
"""Of an answer: more than the kernel takes for a client that does not read."""
LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
LIMITS = Limits(probes=frozenset({"/healthz"}), lasting=frozenset({"/live"}))


class Place:
    """A server behind a listener; paths below /wait are answered once `go` is set, the body repeated."""

    def __init__(self, limits: Limits, context: ssl.SSLContext | None) -> None:
        self.refused: list[HTTPStatus] = []
        self.listener = Listener(
            "test", limits, context=context, on_refused=self.refused.append, is_idle=is_idle
        )
        self.go = asyncio.Event()
        self.waiting = 0
        self.port = 0
        self.clients: list[asyncio.StreamWriter] = []

    async def answer(self, request: web.BaseRequest) -> web.Response:
        body = await request.read()
        if request.path in {"/wait", "/live"}:
            self.waiting += 1
            await self.go.wait()
        return web.Response(body=b"x" * LONG if request.path == "/long" else body)

    async def connect(self, sent: bytes = b"") -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(sent)
        self.clients.append(writer)
        return reader, writer

    async def until_waiting(self, count: int) -> None:
        while self.waiting != count:
            await asyncio.sleep(0.005)

    async def status(self, sent: bytes) -> int:
        reader, _ = await self.connect(sent)
        return await status_of(reader)


async def status_of(reader: asyncio.StreamReader) -> int:
    """The status of the next answer, which is skipped; 0 where the connection ends."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return 0
    [length] = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    await reader.readexactly(int(length.split()[1]))
    return int(head.split(b" ", 2)[1])


def run(
    test: Callable[[Place], Awaitable[None]],
    limits: Limits = LIMITS,
    context: ssl.SSLContext | None = None,
    loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
) -> None:
    async def main() -> None:
        async with asyncio.timeout(PATIENCE_S):
            place = Place(limits, context)
            runner = web.ServerRunner(web.Server(place.answer), shutdown_timeout=0.1)
            await runner.setup()
            assert runner.server is not None
            server = await place.listener.serve(runner.server, host="127.0.0.1", port=0)
            place.port = server.sockets[0].getsockname()[1]
            try:
                await test(place)
            finally:
                server.close()
                place.go.set()
                for client in place.clients:
                    client.transport.abort()
                await runner.cleanup()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: here\r\n" + b"A: b\r\n" * 100 + b"\r\n", 200),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 300 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: here\r\n" + b"A: b\r\n" * 300 + b"\r\n" + GET, 431),
        (b"GET / HTTP/1.1\r\n" + b"".join(b"H%d: %b\r\n" % (n, b"x" * 4000) for n in range(20)), 431),
        (b"GET /" + b"x" * (HEAD_BYTES_MAX + 8192), 431),
        (b"no http at all", 400),
        (
            GET
            + b"POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
            + b"A: b\r\n" * 300,
            431,
        ),
        (GET * 17, 400),
    ],
)
def test_a_head_has_a_size(head: bytes, status: int) -> None:
    """Bytes, headers, trailers, and requests that do not wait for the answer before them."""

    async def test(place: Place) -> None:
        reader, _ = await place.connect(head)
        found = await status_of(reader)
        while found not in {status, 0}:
            found = await status_of(reader)
        assert found == status
        assert await place.status(GET) == 200

    run(test)


def test_every_request_of_a_connection_is_counted_anew() -> None:
    """Many heads and bodies, whole, in pieces and chunked, each within the limits: all are answered."""
    filler = b"X-Filler: " + b"x" * 7000 + b"\r\n"
    whole = b"POST / HTTP/1.1\r\nHost: here\r\n" + filler + b"Content-Length: 100000\r\n\r\n" + b"y" * 100_000
    chunk = b"10\r\n" + b"z" * 16 + b"\r\n"
    chunked = b"POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 9000

    async def test(place: Place) -> None:
        reader, writer = await place.connect()
        for _ in range(12):
            writer.write(whole)
            assert await status_of(reader) == 200
            writer.write(chunked)
            await writer.drain()
            writer.write(b"0\r\n\r\n")
            assert await status_of(reader) == 200
        for part in (GET[:9], GET[9:] + GET[:3], GET[3:]):
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.01)
        assert [await status_of(reader), await status_of(reader)] == [200, 200]
        assert place.refused == []

    run(test)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", 0),
        (GET[:9], 408),
        (GET + GET[:9], 408),
        (b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\nx", 408),
    ],
)
def test_a_request_has_its_time(sent: bytes, status: int) -> None:
    """A head and a body each, also the second of a connection; a response takes as long as it takes."""

    async def test(place: Place) -> None:
        slow, _ = await place.connect(b"GET /wait HTTP/1.1\r\nHost: here\r\n\r\n")
        reader, _ = await place.connect(sent)
        found = await status_of(reader)
        assert (await status_of(reader) if found == 200 else found) == status
        await asyncio.sleep(0.5)
        place.go.set()
        assert await status_of(slow) == 200

    run(test, replace(LIMITS, head_s=0.3, body_s=0.3))


def test_who_has_sent_no_request_makes_room() -> None:
    """The oldest of them goes; one whose request is being answered stays."""

    async def test(place: Place) -> None:
        busy, _ = await place.connect(b"GET /wait HTTP/1.1\r\nHost: here\r\n\r\n")
        await place.until_waiting(1)
        for _ in range(40):
            await place.connect(GET[:9])
        assert await place.status(GET) == 200
        assert place.listener.count <= 3
        place.go.set()
        assert await status_of(busy) == 200

    run(test, replace(LIMITS, connections=3, head_s=PATIENCE_S))


BOUNDS = pytest.mark.parametrize("bound", [Limits(connections=3), Limits(per_address=3)])


@BOUNDS
def test_who_waits_after_an_answer_makes_room(bound: Limits) -> None:
    """One that has read its answer goes before another is refused; one that is being answered stays."""

    async def test(place: Place) -> None:
        busy, _ = await place.connect(b"GET /wait HTTP/1.1\r\nHost: here\r\n\r\n")
        await place.until_waiting(1)
        for _ in range(40):
            assert await place.status(GET) == 200
        assert place.listener.count <= 3
        place.go.set()
        assert await status_of(busy) == 200

    run(test, bound)


@BOUNDS
def test_probes_are_answered_when_all_places_are_taken(bound: Limits) -> None:
    """By requests that wait for their answers; whoever asks anything else is told to come again."""

    async def test(place: Place) -> None:
        busy = [await place.connect(b"GET /wait HTTP/1.1\r\nHost: here\r\n\r\n") for _ in range(3)]
        await place.until_waiting(3)
        for _ in range(2 * SPARE):
            await place.connect(GET[:9])
        assert await place.status(GET) == 503
        assert await place.status(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n") == 200
        assert place.listener.count <= 3 + SPARE
        place.go.set()
        assert [await status_of(reader) for reader, _ in busy] == [200] * 3

    run(test, replace(bound, head_s=PATIENCE_S, probes=LIMITS.probes))


def test_a_proxys_clients_are_not_one() -> None:
    """They come from its address, all of them."""

    async def test(place: Place) -> None:
        for _ in range(5):
            await place.connect(b"GET /wait HTTP/1.1\r\nHost: here\r\n\r\n")
        await place.until_waiting(5)
        assert await place.status(GET) == 200

    run(test, replace(LIMITS, per_address=3, proxies=(ipaddress.ip_network("127.0.0.0/8"),)))


def test_responses_without_an_end_leave_half_of_the_places() -> None:
    """One more of them is refused; other requests are not."""

    async def test(place: Place) -> None:
        for _ in range(2):
            await place.connect(b"GET /live HTTP/1.1\r\nHost: here\r\n\r\n")
        await place.until_waiting(2)
        assert await place.status(b"GET /live?x=1 HTTP/1.1\r\nHost: here\r\n\r\n") == 503
        assert await place.status(GET) == 200

    run(test, replace(LIMITS, connections=4))


def contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's own, and that of clients who trust it."""
    authority = Authority(folder)
    files = authority.issue("localhost", names=["localhost"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    return context, ssl.create_default_context(cafile=authority.chain)


@LOOPS
def test_who_does_not_read_the_answer_loses_it(
    monkeypatch: pytest.MonkeyPatch, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """A client that reads slowly has all of it; one that reads nothing does not hold its place."""
    monkeypatch.setattr(http_listener, "_SENDING_S", 0.5)
    request = b"GET /long HTTP/1.1\r\nHost: here\r\n\r\n"

    async def test(place: Place) -> None:
        _, never = await place.connect(request)
        never.transport.pause_reading()  # type: ignore[attr-defined]
        slow, _ = await place.connect(request)
        got = 0
        while got < LONG:
            part = await slow.read(1_000_000)
            assert part, "cut off, though it goes on reading"
            got += len(part)
            await asyncio.sleep(0.01)
        while place.listener.count > 1:
            await asyncio.sleep(0.01)

    run(test, loop=loop)


@LOOPS
@BOUNDS
def test_who_reads_least_lately_makes_room(
    bound: Limits, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """While no place is free, one that reads nothing goes; one that reads on has all of its answer."""
    request = b"GET /long HTTP/1.1\r\nHost: here\r\n\r\n"

    async def test(place: Place) -> None:
        slow, _ = await place.connect(request)
        assert len(await slow.readexactly(LONG // 4)) == LONG // 4
        never = [await place.connect(request) for _ in range(2)]
        for reader, writer in never:
            await reader.readexactly(1)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
        await slow.readexactly(LONG // 4)
        assert [await place.status(GET) for _ in range(3)] == [200] * 3
        assert len(await slow.readexactly(LONG // 2)) == LONG // 2
        assert place.listener.count <= 3

    run(test, bound, loop=loop)


@LOOPS
def test_tls_is_spoken_before_anything_is_counted(
    tmp_path: Path, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Requests behind the handshake are bounded as others are; plain text gets no answer."""
    context, trusted = contexts(tmp_path)

    async def test(place: Place) -> None:
        for sent in (b"", b"\x16\x03\x01\x02\x00\x01", GET):
            assert await place.status(sent) == 0
        assert place.listener.count == 0
        async with ClientSession() as session:
            url = f"https://localhost:{place.port}/long"
            for _ in range(3):
                async with session.get(url, ssl=trusted) as response:
                    assert len(await response.read()) == LONG
            many = {f"H{number}": "x" * 4000 for number in range(20)}
            async with session.get(url, ssl=trusted, headers=many) as response:
                assert response.status == 431

    run(test, replace(LIMITS, head_s=2.0), context, loop)


@LOOPS
@pytest.mark.parametrize("is_secure", [False, True])
def test_uvicorn_answers_behind_it(
    tmp_path: Path, loop: Callable[[], asyncio.AbstractEventLoop], *, is_secure: bool
) -> None:
    """The protocol of the board: keep-alive, bodies, and a client that goes away."""
    context, trusted = contexts(tmp_path)

    async def application(
        _scope: object, receive: Callable[[], Awaitable[dict[str, object]]], send: object
    ) -> None:
        body = b""
        while (part := await receive())["type"] == "http.request":
            body += bytes(part["body"])  # type: ignore[call-overload]
            if not part["more_body"]:
                break
        tell = send
        assert callable(tell)
        length = str(len(body)).encode()
        await tell({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await tell({"type": "http.response.body", "body": body})

    async def main() -> None:
        config = uvicorn.Config(application, lifespan="off", log_config=None)
        config.load()
        state = uvicorn.Server(config).server_state
        server = await Listener("test", LIMITS, context=context if is_secure else None).serve(
            lambda: HttpToolsProtocol(config, state, {}), host="127.0.0.1", port=0
        )
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(PATIENCE_S), ClientSession() as session:
            scheme = "https" if is_secure else "http"
            for size in (0, 10, 300_000, 5):
                url = f"{scheme}://localhost:{port}/"
                async with session.post(url, data=b"x" * size, ssl=trusted) as response:
                    assert len(await response.read()) == size
        while state.connections:
            await asyncio.sleep(0.01)
        server.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())
