"""Peers that break off, stay away or are slow, and what is told of them."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator

import pytest
from patience import PATIENCE_S
from promises import guarantee
from structlog.testing import capture_logs

import wire_scene
from m365watch.common.errors import OutputClosed, OutputUnavailable
from m365watch.outputs.network.connection_status import Condition
from m365watch_testing.devo_server import DevoServer, Faults
from wire_places import (
    LONG,
    QUICK,
    Papers,
    changed,
    deliver_proven,
    lines_in,
    make_chunks,
    make_sender,
    opened,
    until,
    warnings_in,
)
from wire_scene import first

papers = wire_scene.papers
free_port = wire_scene.free_port


@guarantee(21)
@pytest.mark.parametrize("by_reset", [True, False])
def test_a_peer_that_closes_after_so_many_bytes_every_time_gets_everything(
    papers: Papers, by_reset: bool
) -> None:
    """What it can take in one go is sent and proven, again and again."""
    chunks = make_chunks(30)

    async def run() -> None:
        async with opened(server.port, papers.tls, LONG, deliveries_max=1) as sender:
            await asyncio.wait_for(sender.deliver(chunks), PATIENCE_S)

    with papers.serve(lambda _: Faults(close_after_bytes=60_000, closes_by_reset=by_reset)) as server:
        asyncio.run(run())
        server.wait_until_over()

    assert set(server.lines) == set(lines_in(chunks))


def test_a_peer_that_never_takes_a_chunk_is_given_up(papers: Papers) -> None:
    """Every open delivery raises, so that the order holds when they come again."""

    async def run() -> list[BaseException | None]:
        async with opened(server.port, papers.tls, LONG) as sender:
            deliveries = [asyncio.create_task(sender.deliver([chunk])) for chunk in make_chunks(3)]
            await asyncio.wait(deliveries, timeout=PATIENCE_S)
            return [delivery.exception() for delivery in deliveries]

    with papers.serve(lambda _: Faults(close_after_bytes=5_000)) as server:
        errors = asyncio.run(run())

    assert [type(error) for error in errors] == [OutputClosed] * 3
    assert "the connection broke" in str(errors[0])


@guarantee(21)
@pytest.mark.slow
def test_nothing_is_repeated_beyond_the_retention(papers: Papers) -> None:
    """After a break only the retention comes again, and what the systems held on the way."""
    chunks = make_chunks(300, chunk_bytes=100_000)
    in_the_systems = 6 * 1024 * 1024

    async def run() -> int:
        settings = changed(LONG, retention_megabytes=500_000 / (1 << 20))
        async with opened(server.port, papers.tls, settings) as sender:
            delivery = asyncio.create_task(sender.deliver(chunks))
            await until(lambda: len(server.connections) > 1)
            await sender.flush()
            await delivery
            return sender.figures.repeated_bytes

    faults = Faults(close_after_bytes=20_000_000, receive_buffer_bytes=65_536)
    with papers.serve(first(faults)) as server:
        repeated_bytes = asyncio.run(run())
        server.wait_until_over()

    counts = Counter(server.lines)
    assert set(counts) == set(lines_in(chunks))
    assert max(counts.values()) <= 2
    assert 0 < repeated_bytes <= 500_000 + 2 * 100_000 + in_the_systems


def test_after_a_break_it_goes_on_with_the_first_line_that_was_not_released(papers: Papers) -> None:
    """Each connection carries a gapless run of the lines, and begins no later than the one before ended."""
    chunks = make_chunks(40)

    async def run() -> None:
        async with opened(server.port, papers.tls, LONG) as sender:
            await deliver_proven(sender, chunks)

    with papers.serve(first(Faults(close_after_bytes=200_050), count=2)) as server:
        asyncio.run(run())
        server.wait_until_over()

    sent = lines_in(chunks)
    reached = 0
    for connection in server.connections:
        received = connection.parser.lines
        start = sent.index(received[0])
        assert received == sent[start : start + len(received)]
        assert start <= reached
        reached = start + len(received)
    assert reached == len(sent)


def test_one_connection_that_breaks_does_not_stop_the_others(papers: Papers) -> None:
    """What it had carried goes over whichever is free."""
    chunks = make_chunks(200, chunk_bytes=100_000)

    async def run() -> int:
        async with opened(server.port, papers.tls, changed(LONG, concurrent_connections=3)) as sender:
            await deliver_proven(sender, chunks)
            return sender.figures.breaks

    with papers.serve(lambda number: Faults(close_after_bytes=20_000) if number == 1 else Faults()) as server:
        breaks = asyncio.run(run())
        server.wait_until_over()

    assert breaks == 1
    assert set(server.lines) == set(lines_in(chunks))
    assert sum(bool(connection.parser.lines) for connection in server.connections) >= 3


def test_a_peer_that_comes_late_gets_everything(papers: Papers, free_port: int) -> None:
    """It is a warning at the start, an error of each delivery while it lasts, and then it is over."""
    chunks = make_chunks(3)

    async def run() -> list[str]:
        with capture_logs() as lines:
            async with opened(free_port, papers.tls) as sender:
                with pytest.raises(OutputUnavailable, match="refused"):
                    await sender.deliver(chunks)
                with papers.serve(port=free_port) as server:
                    await sender.deliver(chunks)
                    assert server.lines == lines_in(chunks)
        return warnings_in(lines)

    warnings = asyncio.run(run())

    where = f"output wire: localhost:{free_port}: the connection was refused"
    assert all(warning.startswith(where) for warning in warnings[:2])


def test_a_name_that_is_not_found_is_named(papers: Papers) -> None:
    """It may pass, so that it is a warning first and then an error of the delivery."""

    async def run() -> None:
        settings = changed(QUICK, connecting_retries=1)
        async with opened(443, papers.tls, settings, address="nothing.invalid") as sender:
            await sender.deliver(make_chunks(1))

    with pytest.raises(OutputUnavailable, match=r"nothing\.invalid:443: its name is not found"):
        asyncio.run(run())


def test_a_connection_without_traffic_is_closed_in_order(papers: Papers) -> None:
    """And made again for the next delivery, without a break."""
    chunks = make_chunks(2)

    async def run() -> tuple[int, int]:
        async with opened(server.port, papers.tls, changed(QUICK, idle_secs=0.2)) as sender:
            await sender.deliver(chunks[:1])
            await until(lambda: sender.figures.connections == 0)
            await sender.deliver(chunks[1:])
            return sender.figures.breaks, len(server.connections)

    with papers.serve() as server:
        assert asyncio.run(run()) == (0, 2)
        server.wait_until_over()

    assert [connection.ended for connection in server.connections] == [True, True]
    assert server.lines == lines_in(chunks)


def test_a_peer_that_leaves_an_idle_connection_is_noticed(papers: Papers) -> None:
    """The next delivery goes over a new connection, and nothing has to be repeated."""
    chunks = make_chunks(2, chunk_bytes=10_000)

    async def run() -> int:
        async with opened(server.port, papers.tls) as sender:
            server.faults = lambda _: Faults()
            await until(lambda: sender.figures.connections == 0)
            await sender.deliver(chunks)
            return sender.figures.repeated_bytes

    with papers.serve(first(Faults(close_after_bytes=0, closes_by_reset=False))) as server:
        assert asyncio.run(run()) == 0

    assert server.connections[1].parser.lines == lines_in(chunks)


def test_a_cancelled_delivery_sends_nothing_more(papers: Papers) -> None:
    """Nobody waits for it: not even a break brings its chunks back."""
    chunks = make_chunks(10)

    async def run() -> None:
        async with opened(server.port, papers.tls, LONG) as sender:
            given_up = asyncio.create_task(sender.deliver(chunks))
            await until(lambda: server.received_bytes == len(b"".join(chunks)))
            given_up.cancel()
            await asyncio.gather(given_up, return_exceptions=True)
            server.die()
            await until(lambda: sender.figures.connections == 0)
            last = asyncio.create_task(sender.deliver([b"last\n"]))
            await asyncio.sleep(0)
            await sender.flush()
            await last

    everything = len(b"".join(chunks))
    with papers.serve(first(Faults(stall_after_bytes=everything))) as server:
        asyncio.run(run())
        server.wait_until_over()

    assert server.connections[1].parser.lines == [b"last"]


def test_what_is_not_kept_is_sent_once(papers: Papers) -> None:
    """Notices are sent where there is a connection; a break does not bring them back."""

    async def run() -> None:
        async with opened(server.port, papers.tls) as sender:
            await sender.send_unkept(b"notice\n")
            await until(lambda: server.lines == [b"notice"])
            server.die()
            await until(lambda: sender.figures.connections == 0)
            await sender.deliver([b"record\n"])

    with papers.serve(first(Faults(stall_after_bytes=len(b"notice\n")))) as server:
        asyncio.run(run())
        server.wait_until_over()

    assert server.lines == [b"notice", b"record"]


def test_what_is_not_kept_is_refused_while_nobody_is_there(papers: Papers, free_port: int) -> None:
    """Its caller may keep it; a connection is tried for, so that it can be sent once one comes about."""

    async def run() -> None:
        async with opened(free_port, papers.tls) as sender:
            for _ in range(2):
                with pytest.raises(OutputUnavailable, match="the connection was refused"):
                    await sender.send_unkept(b"notice\n")
            with papers.serve(port=free_port) as server:
                await until(lambda: sender.trouble is None)
                await sender.send_unkept(b"notice\n")
                await until(lambda: server.lines == [b"notice"])

    with capture_logs() as lines:
        asyncio.run(run())

    told = [line["event"].split(": ", 2)[2] for line in lines]
    assert [text.split(";")[0] for text in told] == ["the connection was refused", "connected again"]


def test_what_is_not_kept_and_finds_nobody_is_refused(papers: Papers) -> None:
    """Where the receiver turns out to be away only when there is something to send."""

    async def run() -> None:
        async with opened(server.port, papers.tls, changed(QUICK, idle_secs=0.1)) as sender:
            await until(lambda: sender.figures.connections == 0)
            server.__exit__(None, None, None)
            with pytest.raises(OutputUnavailable, match="the connection was refused"):
                await asyncio.wait_for(sender.send_unkept(b"notice\n"), PATIENCE_S)

    server = papers.serve()
    with server:
        asyncio.run(run())


def test_close_sends_what_is_not_kept_before_it_leaves(papers: Papers) -> None:
    """The last notice of a run arrives, though its caller has gone and its connection was ended before."""

    async def run() -> None:
        async with opened(server.port, papers.tls, LONG) as sender:
            await deliver_proven(sender, [b"record\n"])
            await until(lambda: sender.figures.connections == 0)
            saying = asyncio.create_task(sender.send_unkept(b"stopped\n"))
            await asyncio.sleep(0)
            saying.cancel()

    with papers.serve() as server:
        asyncio.run(asyncio.wait_for(run(), PATIENCE_S))
        server.wait_until_over()

    assert server.lines == [b"record", b"stopped"]
    assert server.connections[1].ended


def test_what_nobody_waits_for_and_is_not_sent_is_counted(papers: Papers) -> None:
    """The receiver has gone: close waits no longer, and says how much was not sent."""

    async def run() -> None:
        sender = make_sender(server.port, papers.tls, changed(QUICK, idle_secs=0.1))
        await sender.open()
        await until(lambda: sender.figures.connections == 0)
        server.__exit__(None, None, None)
        saying = asyncio.create_task(sender.send_unkept(b"stopped\n"))
        await asyncio.sleep(0)
        saying.cancel()
        await asyncio.wait_for(sender.close(), PATIENCE_S)

    server = papers.serve()
    with server, capture_logs() as lines:
        asyncio.run(run())

    assert warnings_in(lines)[-1].endswith(": 8 bytes of notices could not be sent")


def test_each_reason_is_told_once_and_its_end_too(papers: Papers, free_port: int) -> None:
    """However often the retries are used up; a receiver that comes back is told, however long it was away."""

    async def run() -> None:
        async with opened(free_port, papers.tls, changed(QUICK, connecting_retries=1)) as sender:
            for _ in range(3):
                with pytest.raises(OutputUnavailable):
                    await sender.deliver(make_chunks(1))
            with papers.serve(port=free_port):
                await sender.deliver(make_chunks(1))

    with capture_logs() as lines:
        asyncio.run(run())

    assert [line["log_level"] for line in lines] == ["warning", "info"]
    assert lines[1]["event"] == f"output wire: localhost:{free_port}: connected again"


@pytest.mark.parametrize("secured", [True, False])
def test_a_peer_that_closes_without_reading_stays_in_trouble(papers: Papers, secured: bool) -> None:
    """It can be connected to, which says nothing: the last break is told once, and is at hand for others."""

    async def run() -> list[str]:
        found = []
        tls = papers.tls if secured else None
        async with opened(server.port, tls, changed(LONG, sending_retries=2)) as sender:
            for _ in range(2):
                with pytest.raises(OutputClosed):
                    await asyncio.wait_for(sender.deliver(make_chunks(3)), PATIENCE_S)
                found.append(str(sender.trouble))
            await until(lambda: len(server.connections) >= 6)
            server.faults = lambda _: Faults()
            delivery = asyncio.create_task(sender.deliver(make_chunks(3)))
            await asyncio.sleep(0)
            await until(lambda: bool(server.lines))
            await sender.flush()
            await delivery
            return [*found, str(sender.trouble)]

    server = papers.serve() if secured else DevoServer(None)
    server.faults = lambda _: Faults(close_after_bytes=5, closes_by_reset=False)
    with server, capture_logs() as lines:
        *troubles, last = asyncio.run(run())

    assert all("the connection broke: " in trouble for trouble in troubles)
    assert last == "None"
    assert lines[-1]["event"].endswith("connected again")
    told = warnings_in(lines)
    assert len(told) == len({text.split(";")[0] for text in told}) <= 2
    assert all(("set `transport` to tls" in text) is not secured for text in told)


def test_one_way_that_is_good_is_enough() -> None:
    """A second connection that is refused is told once, and the receiver is not away."""
    condition = Condition(where="here", over="connected again")
    refused = OutputUnavailable("refused", where="here")
    with capture_logs() as lines:
        condition.note("one", refused)
        assert condition.trouble is refused
        condition.passed("one")
        for _ in range(3):
            condition.note("two", refused)
            assert condition.trouble is None
            condition.passed("one")

    assert [line["log_level"] for line in lines] == ["warning", "info", "warning"]


def test_an_empty_delivery_is_delivered(papers: Papers) -> None:
    """It needs no connection."""

    async def run() -> None:
        async with opened(server.port, papers.tls, LONG) as sender:
            await asyncio.wait_for(sender.deliver([]), PATIENCE_S)

    with papers.serve() as server:
        asyncio.run(run())


def test_what_goes_wrong_in_making_chunks_reaches_the_caller(papers: Papers) -> None:
    """A mistake is not swallowed by the task that sends."""

    def make() -> Iterator[bytes]:
        yield b"a\n"
        yield b"b\n"
        raise ZeroDivisionError

    async def run() -> None:
        async with opened(server.port, papers.tls, LONG) as sender:
            with pytest.raises(ZeroDivisionError):
                await asyncio.wait_for(sender.deliver(make()), PATIENCE_S)

    with papers.serve() as server:
        asyncio.run(run())


def test_close_ends_what_is_open_with_an_error(papers: Papers) -> None:
    """What could not be found out does not count, and comes again with the next start."""

    async def run() -> None:
        sender = make_sender(server.port, papers.tls, changed(LONG, sending_timeout=0.1, sending_retries=0))
        await sender.open()
        delivery = asyncio.create_task(sender.deliver(make_chunks(200, chunk_bytes=100_000)))
        await asyncio.sleep(0.05)
        await sender.close()
        await sender.close()
        with pytest.raises(OutputUnavailable):
            await delivery

    with papers.serve(lambda _: Faults(stall_after_bytes=100_000)) as server:
        asyncio.run(asyncio.wait_for(run(), PATIENCE_S))


@guarantee(21)
@pytest.mark.parametrize("seed", range(12))
def test_cuts_at_random_places_lose_nothing(papers: Papers, seed: int) -> None:
    """Wherever connections are cut, every line arrives, and repeats come only with breaks."""
    dice = random.Random(seed)
    chunks = make_chunks(40, chunk_bytes=dice.randrange(500, 20_000))
    size_bytes = len(b"".join(chunks))
    cuts = [
        Faults(close_after_bytes=dice.randrange(size_bytes), closes_by_reset=dice.random() < 0.5)
        for _ in range(dice.randrange(1, 4))
    ]
    settings = changed(LONG, concurrent_connections=dice.randrange(1, 3), sending_retries=10)

    async def run() -> int:
        async with opened(server.port, papers.tls, settings) as sender:
            await deliver_proven(sender, chunks[:20], chunks[20:])
            return sender.figures.repeated_bytes

    with papers.serve(lambda number: cuts[number] if number < len(cuts) else Faults()) as server:
        repeated_bytes = asyncio.run(asyncio.wait_for(run(), PATIENCE_S))
        server.wait_until_over()

    counts = Counter(server.lines)
    assert set(counts) == set(lines_in(chunks))
    assert sum(counts.values()) - len(counts) <= repeated_bytes // 100
