"""Which connection a request goes by, and how long anything may last."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from yarl import URL

from m365watch.http.aiohttp_transport import ConnectionPool
from m365watch.http.transport import ExchangeFailed, Failure, RawAnswer
from raw_server import LOOPS, OK, Loop, RawServer, Say, run

pytestmark = pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])

Ask = Callable[..., Awaitable[RawAnswer]]


async def ask(
    pool: ConnectionPool, server: RawServer, method: str = "GET", body: bytes | None = None
) -> RawAnswer | Failure:
    """The answer, or why there was none."""
    try:
        return await pool.exchange(method, URL(f"{server.url}/"), headers={}, body=body)
    except ExchangeFailed as error:
        return error.failure


def pool_of(
    connections_max: int = 8,
    body_bytes_max: int = 10_000,
    stall_s: float = 30.0,
    total_s: float = 60.0,
    idle_s: float = 30.0,
) -> ConnectionPool:
    return ConnectionPool(
        connections_max=connections_max,
        body_bytes_max=body_bytes_max,
        stall_s=stall_s,
        total_s=total_s,
        idle_s=idle_s,
    )


def ask_often(
    loop: Loop, server: RawServer, *methods: str, pause_s: float = 0.0, **bounds: float
) -> list[RawAnswer | Failure]:
    """What one request after the other comes to."""

    async def main() -> list[RawAnswer | Failure]:
        pool = pool_of(**bounds)  # type: ignore[arg-type]  # Numbers of the test's own.
        answers = []
        async with server:
            for method in methods:
                answers.append(await ask(pool, server, method))
                await asyncio.sleep(pause_s)
            await pool.close()
        return answers

    return run(loop, main())


def statuses(answers: list[RawAnswer | Failure]) -> list[int | Failure]:
    return [answer.status if isinstance(answer, RawAnswer) else answer for answer in answers]


def test_a_connection_is_used_again(loop: Loop) -> None:
    """One handshake serves many requests."""
    server = RawServer()

    assert statuses(ask_often(loop, server, "GET", "POST", "GET")) == [200, 200, 200]
    assert server.connections == [1, 1, 1]


def test_http_1_0_is_used_again_where_it_offers_that(loop: Loop) -> None:
    """The old protocol says so in a header."""
    server = RawServer(Say(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"))
    ask_often(loop, server, "GET", "GET")

    assert server.connections == [1, 1]


@pytest.mark.parametrize(
    "say",
    [
        Say(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"),
        Say(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        Say(OK + b"HTTP/1.1 200 OK\r\n"),
        Say(OK + OK),
        Say(OK + b"x"),
        Say(b"HTTP/1.1 200 OK\r\n\r\nok", closes=True),
        Say(OK, closes=True),
        Say(b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok"),
    ],
)
def test_what_speaks_against_it_ends_a_connection(loop: Loop, say: Say) -> None:
    """What is not plainly the end of an answer may be the begin of somebody else's."""
    server = RawServer(say, Say())
    answers = ask_often(loop, server, "GET", "GET", pause_s=0.02)

    assert statuses(answers)[1] == 200
    assert server.connections == [1, 2]


@pytest.mark.parametrize(
    "say",
    [
        Say(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + bytes(99_999)),
        Say(b"SSH-2.0-x\r\n"),
        Say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", closes=True),
        Say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"),
    ],
)
def test_a_failure_ends_a_connection(loop: Loop, say: Say) -> None:
    """What is left of the answer would be taken for the next one."""
    server = RawServer(say, Say())
    answers = ask_often(loop, server, "GET", "GET", stall_s=1.0)

    assert isinstance(answers[0], Failure)
    assert statuses(answers)[1] == 200
    assert server.connections == [1, 2]


def test_bytes_between_two_answers_end_a_connection(loop: Loop) -> None:
    """Nobody asked for them."""
    server = RawServer(Say(), Say())

    async def main() -> None:
        pool = pool_of()
        async with server:
            await ask(pool, server)
            server._writers[0].write(OK)
            await asyncio.sleep(0.05)
            await ask(pool, server)
            await pool.close()

    run(loop, main())

    assert server.connections == [1, 2]


@pytest.mark.parametrize("resets", [False, True])
def test_a_get_meets_a_closed_connection_without_anybody_noticing(loop: Loop, resets: bool) -> None:
    """The server let go of the connection just as the request was on its way."""
    server = RawServer(Say(), Say(b"", closes=True, resets=resets), Say())

    assert statuses(ask_often(loop, server, "GET", "GET")) == [200, 200]
    assert server.connections == [1, 1, 2]


def test_a_post_is_never_sent_twice(loop: Loop) -> None:
    """What it asked for may have been done."""
    server = RawServer(Say(), Say(b"", closes=True), Say())

    assert statuses(ask_often(loop, server, "GET", "POST")) == [200, Failure.CLOSED]
    assert server.connections == [1, 1]


def test_a_get_is_sent_once_more_and_not_for_ever(loop: Loop) -> None:
    """A server that closes every connection is told of; so is one that had begun its answer."""
    server = RawServer(Say(), Say(b"", closes=True))
    begun = RawServer(Say(), Say(b"HTTP/1.1 2", closes=True))

    assert statuses(ask_often(loop, server, "GET", "GET")) == [200, Failure.CLOSED]
    assert statuses(ask_often(loop, begun, "GET", "GET")) == [200, Failure.CLOSED]
    assert server.connections == [1, 1, 2]
    assert begun.connections == [1, 1]


def test_a_new_connection_that_is_closed_is_told_of_at_once(loop: Loop) -> None:
    """There it cannot be taken for one that had waited for too long."""
    server = RawServer(Say(b"", closes=True))

    assert ask_often(loop, server, "GET") == [Failure.CLOSED]
    assert server.connections == [1]


def test_who_gives_up_leaves_no_connection_behind(loop: Loop) -> None:
    """The answer may come later; nobody must take it for his own."""
    server = RawServer(Say(after_s=0.1), Say())

    async def main() -> None:
        pool = pool_of()
        async with server:
            asked = asyncio.create_task(ask(pool, server))
            while not server.heard:
                await asyncio.sleep(0.001)
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
            await ask(pool, server)
            while server.open > 1:
                await asyncio.sleep(0.001)
            await pool.close()

    run(loop, main())

    assert server.connections == [1, 2]


def test_an_idle_connection_is_dropped(loop: Loop) -> None:
    """Before the server does it; and then no timer runs any more."""
    server = RawServer()

    async def main() -> tuple[int, int, bool]:
        pool = pool_of(idle_s=0.1)
        async with server:
            await ask(pool, server)
            before = server.open
            while server.open:
                await asyncio.sleep(0.01)
            return before, server.open, pool._timer is None

    assert run(loop, main()) == (1, 0, True)


def test_connections_are_bounded_and_who_came_first_is_served_first(loop: Loop) -> None:
    """The others wait, and give the connection from hand to hand."""
    server = RawServer(Say(after_s=0.01))

    async def main() -> list[str]:
        pool = pool_of(connections_max=2)
        served: list[str] = []

        async def one(name: str) -> None:
            await pool.exchange("GET", URL(f"{server.url}/{name}"), headers={}, body=None)
            served.append(name)

        async with server:
            await asyncio.gather(*(one(name) for name in "abcdef"))
            await pool.close()
        return served

    run(loop, main())

    heard = [one.first_line[5] for one in server.heard]
    assert [name for name in heard if name not in "ab"] == list("cdef")
    assert server.open_most == 2


def test_who_gives_up_waiting_takes_no_place_along(loop: Loop) -> None:
    """Before and after it was his turn."""
    server = RawServer(Say(after_s=0.02))

    async def main() -> None:
        pool = pool_of(connections_max=1)
        async with server:
            for pause_s in (0.0, 0.005, 0.02, 0.021, 0.022, 0.023, 0.024, 0.025):
                tasks = [asyncio.create_task(ask(pool, server)) for _ in range(3)]
                await asyncio.sleep(pause_s)
                tasks[1].cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            assert pool._places_taken == 1
            await pool.close()
            assert pool._places_taken == 0

    run(loop, main())


def test_a_turn_and_a_cancellation_at_once_lose_no_place(loop: Loop) -> None:
    """The connection goes on to the next who waits."""
    server = RawServer()

    async def main() -> tuple[RawAnswer | Failure, int]:
        pool = pool_of(connections_max=1)
        async with server:
            first = asyncio.create_task(ask(pool, server))
            await asyncio.sleep(0)
            second, third = (asyncio.create_task(ask(pool, server)) for _ in range(2))
            while not first.done():
                await asyncio.sleep(0)
            second.cancel()
            answer = await third
            taken = pool._places_taken
            await pool.close()
            return answer, taken

    answer, taken = run(loop, main())

    assert isinstance(answer, RawAnswer)
    assert taken == 1


def test_an_idle_connection_makes_room_for_another_host(loop: Loop) -> None:
    """The bound is that of the process; nobody waits for what nobody uses."""
    first, second = RawServer(), RawServer()

    async def main() -> int:
        pool = pool_of(connections_max=1)
        async with first, second:
            await ask(pool, first)
            await ask(pool, second)
            waiting = [asyncio.create_task(ask(pool, server)) for server in (first, second, first)]
            assert statuses(await asyncio.gather(*waiting)) == [200, 200, 200]
            await asyncio.sleep(0.02)
            still_open = first.open + second.open
            await pool.close()
            return still_open

    assert run(loop, main()) == 1


def test_a_host_that_cannot_be_reached_keeps_no_place(loop: Loop) -> None:
    """Its failures would end every other host's work in time."""
    server = RawServer()

    async def main() -> list[RawAnswer | Failure]:
        pool = pool_of(connections_max=1)
        async with RawServer() as gone:
            pass
        failed = [await ask(pool, gone) for _ in range(3)]
        async with server:
            answer = await ask(pool, server)
            await pool.close()
        return [*failed, answer]

    assert statuses(run(loop, main())) == [*([Failure.NO_CONNECTION] * 3), 200]


def test_silence_has_an_end(loop: Loop) -> None:
    """Whether the first byte is missing or the last."""
    begun = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"

    assert ask_often(loop, RawServer(Say(b"")), "GET", stall_s=0.1) == [Failure.OUT_OF_TIME]
    assert ask_often(loop, RawServer(Say(begun)), "GET", stall_s=0.1) == [Failure.OUT_OF_TIME]


def test_a_drip_has_an_end(loop: Loop) -> None:
    """One request may not last for ever, whatever it does; nor may the wait for a connection."""
    chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 100_000
    server = RawServer(Say(chunks, bit_by_bit=True))

    async def main() -> list[RawAnswer | Failure]:
        pool = pool_of(connections_max=1, total_s=0.2)
        async with server:
            both = await asyncio.gather(ask(pool, server), ask(pool, server))
            await pool.close()
        return list(both)

    assert run(loop, main())[0] is Failure.OUT_OF_TIME


def test_a_request_that_leaves_slowly_is_no_stall(loop: Loop) -> None:
    """As long as bytes leave, the other side is alive."""

    async def read_slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(32):
            await asyncio.sleep(0.05)
            await reader.readexactly(1 << 20)
        writer.write(OK)
        writer.close()

    async def main() -> RawAnswer | Failure:
        pool = pool_of(stall_s=1.0)
        server = await asyncio.start_server(read_slowly, "127.0.0.1", 0, limit=1 << 20)
        url = URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        async with server:
            answer = await pool.exchange("POST", url, headers={}, body=bytes(32 << 20))
            await pool.close()
        return answer

    assert statuses([run(loop, main())]) == [200]


def test_an_answer_before_the_end_of_the_request_ends_the_connection(loop: Loop) -> None:
    """The rest of the request would be taken for the next one."""

    async def main() -> tuple[int, int]:
        leave = asyncio.Event()

        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            await leave.wait()
            writer.transport.abort()

        pool = pool_of()
        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        url = URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        async with server:
            answer = await pool.exchange("POST", url, headers={}, body=bytes(32 << 20))
            taken = pool._places_taken
            leave.set()
            await asyncio.sleep(0.05)
            await pool.close()
        return answer.status, taken

    assert run(loop, main()) == (413, 0)


def test_closing_ends_what_is_under_way(loop: Loop) -> None:
    """Who waits for an answer or a connection is told so; nothing can be asked any more."""
    server = RawServer(Say(after_s=60))

    async def main() -> list[RawAnswer | Failure]:
        pool = pool_of(connections_max=1)
        async with server:
            tasks = [asyncio.create_task(ask(pool, server)) for _ in range(2)]
            while not server.heard:
                await asyncio.sleep(0.001)
            await pool.close()
            return [*await asyncio.gather(*tasks), await ask(pool, server)]

    assert run(loop, main()) == [Failure.BROKEN] * 3
