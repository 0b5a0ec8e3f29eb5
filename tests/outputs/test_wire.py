"""A sender over its connections: what has arrived, what is kept, what is proven, and what is sent again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvloop
from patience import PATIENCE_S
from promises import guarantee
from structlog.testing import capture_logs

import wire_scene
from m365watch.common.errors import OutputUnavailable
from m365watch.outputs.network.send_queue import PROOF_BYTES
from m365watch.outputs.network.tcp_connection import Connection
from m365watch_testing.devo_server import DevoServer, Faults
from wire_places import (
    LONG,
    QUICK,
    Papers,
    changed,
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
@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("secured", [True, False])
def test_what_was_delivered_has_arrived_once_and_in_order(
    papers: Papers, secured: bool, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Without a break nothing is repeated, in TLS and in the clear, on both loops."""
    chunks = make_chunks(60)

    async def run(server: DevoServer) -> int:
        async with opened(server.port, papers.tls if secured else None) as sender:
            await asyncio.gather(sender.deliver(chunks[:20]), sender.deliver(iter(chunks[20:])))
            return sender.figures.repeated_bytes

    server = papers.serve() if secured else DevoServer(None)
    with server, asyncio.Runner(loop_factory=loop_factory) as runner:
        repeated_bytes = runner.run(run(server))
        server.wait_until_over()

    assert (server.lines, repeated_bytes) == (lines_in(chunks), 0)
    assert [connection.ended for connection in server.connections] == [True]


def test_a_delivery_outlives_its_retention(papers: Papers) -> None:
    """What the peer's system took is held for `retention_s` before it counts."""

    async def run() -> float:
        async with opened(server.port, papers.tls, changed(QUICK, retention_secs=0.3)) as sender:
            started_s = asyncio.get_running_loop().time()
            await sender.deliver(make_chunks(3))
            return asyncio.get_running_loop().time() - started_s

    with papers.serve() as server:
        elapsed_s = asyncio.run(run())

    assert elapsed_s >= 0.3


def test_a_delivery_counts_once_enough_was_taken_after_it(papers: Papers) -> None:
    """`retention_bytes` more at the peer release a delivery before its time."""

    async def run() -> tuple[bool, bool]:
        settings = changed(LONG, retention_megabytes=200_000 / (1 << 20))
        async with opened(server.port, papers.tls, settings) as sender:
            early = asyncio.create_task(sender.deliver(make_chunks(4)))
            late = asyncio.create_task(sender.deliver(make_chunks(20, start=4)))
            await until(early.done)
            state = early.done(), late.done()
            await sender.flush()
            await late
            return state

    with papers.serve() as server:
        assert asyncio.run(run()) == (True, False)


@guarantee(21)
def test_what_the_peer_took_and_did_not_read_is_sent_again(papers: Papers) -> None:
    """A peer that stops reading and dies within the retention costs nothing."""
    chunks = make_chunks(6)

    async def run() -> None:
        async with opened(server.port, papers.tls, LONG) as sender:
            delivery = asyncio.create_task(sender.deliver(chunks))
            await until(lambda: server.received_bytes >= 40_000)
            await asyncio.sleep(0.2)  # Everything has been with the peer's system for a while.
            assert not delivery.done()
            server.die()
            await until(lambda: len(server.connections) > 1)
            await sender.flush()
            await delivery

    with papers.serve(first(Faults(stall_after_bytes=40_000))) as server:
        asyncio.run(run())
        server.wait_until_over()

    assert set(server.lines) == set(lines_in(chunks))
    assert server.connections[1].parser.lines == lines_in(chunks)


def test_what_a_peer_leaves_unread_for_longer_than_the_retention_is_lost_with_it(papers: Papers) -> None:
    """The limit of a wire without acknowledgement: what is told as delivered then was never read."""
    chunks = make_chunks(6)

    async def run() -> None:
        async with opened(server.port, papers.tls, changed(QUICK, retention_secs=0.1)) as sender:
            await sender.deliver(chunks)
            await until(lambda: server.received_bytes >= 40_000)
            server.die()
            await until(lambda: sender.figures.connections == 0)

    with papers.serve(first(Faults(stall_after_bytes=40_000))) as server:
        asyncio.run(run())
        server.wait_until_over()

    received = server.lines
    assert received == lines_in(chunks)[: len(received)]
    assert 0 < len(received) < len(lines_in(chunks))


def test_a_peer_that_pauses_is_waited_for(papers: Papers) -> None:
    """Where it takes more before the sending time-out nothing breaks and nothing is repeated."""
    chunks = make_chunks(100, chunk_bytes=100_000)

    async def run() -> int:
        async with opened(server.port, papers.tls, QUICK) as sender:
            delivery = asyncio.create_task(sender.deliver(chunks))
            await until(lambda: server.received_bytes >= 1_000_000)
            await asyncio.sleep(0.3)
            server.go_on()
            await delivery
            return sender.figures.breaks

    with papers.serve(first(Faults(stall_after_bytes=1_000_000))) as server:
        breaks = asyncio.run(run())
        server.wait_until_over()

    assert (server.lines, breaks) == (lines_in(chunks), 0)


def test_a_peer_that_takes_nothing_for_too_long_is_left(papers: Papers) -> None:
    """After the sending time-out what it may not have read goes over a new connection."""
    chunks = make_chunks(100, chunk_bytes=100_000)

    async def run() -> None:
        settings = changed(QUICK, sending_timeout=0.2, retention_secs=1.0)
        with capture_logs() as lines:
            async with opened(server.port, papers.tls, settings) as sender:
                await sender.deliver(chunks)
                server.die()
        assert "the peer took nothing for 0.2 s" in warnings_in(lines)[0]

    with papers.serve(first(Faults(stall_after_bytes=1_000_000))) as server:
        asyncio.run(run())
        server.wait_until_over()

    assert set(server.lines) == set(lines_in(chunks))


@guarantee(21)
def test_a_flush_proves_what_was_read(papers: Papers) -> None:
    """The peer's end in answer to the own one is proof, long before the retention is over."""
    chunks = make_chunks(30)

    async def run() -> None:
        async with opened(server.port, papers.tls, LONG) as sender:
            deliveries = [asyncio.create_task(sender.deliver([chunk])) for chunk in chunks]
            await asyncio.sleep(0)
            await sender.flush()
            await asyncio.gather(*deliveries)

    with papers.serve() as server:
        asyncio.run(asyncio.wait_for(run(), PATIENCE_S))

    assert server.lines == lines_in(chunks)
    assert server.connections[0].ended


@guarantee(21)
def test_a_flush_that_proves_nothing_sends_again(papers: Papers) -> None:
    """A reset in answer to the own end says that not all was read."""
    chunks = make_chunks(5)

    async def run() -> int:
        async with opened(server.port, papers.tls, LONG) as sender:
            delivery = asyncio.create_task(sender.deliver(chunks))
            await asyncio.sleep(0)
            await sender.flush()
            await delivery
            return sender.figures.breaks

    with papers.serve(first(Faults(resets_at_end=True))) as server:
        assert asyncio.run(asyncio.wait_for(run(), PATIENCE_S)) == 1

    assert [connection.parser.lines for connection in server.connections] == [lines_in(chunks)] * 2


@guarantee(21)
def test_an_end_that_is_no_answer_proves_nothing(papers: Papers) -> None:
    """A peer may end its side without having read: only with everything taken is its end a proof."""
    chunks = make_chunks(30)

    async def run() -> None:
        async with opened(server.port, papers.tls, LONG) as sender:
            delivery = asyncio.create_task(sender.deliver(chunks))
            await until(lambda: server.received_bytes >= 40_000)
            flush = asyncio.create_task(sender.flush())
            await asyncio.sleep(0.1)
            server.half_close()
            await asyncio.sleep(0.1)
            assert not delivery.done()
            server.die()
            await asyncio.gather(delivery, flush)

    faults = Faults(stall_after_bytes=40_000, receive_buffer_bytes=16_384)
    with papers.serve(first(faults)) as server:
        asyncio.run(asyncio.wait_for(run(), PATIENCE_S))
        server.wait_until_over()

    assert server.connections[1].parser.lines == lines_in(chunks)


@guarantee(21)
def test_the_bare_end_of_a_connection_is_no_proof_in_tls(papers: Papers) -> None:
    """A receiver that died leaves one as well: the retention runs on, and nothing is repeated."""
    chunks = make_chunks(5)

    async def run() -> float:
        async with opened(server.port, papers.tls, changed(QUICK, retention_secs=0.6)) as sender:
            started_s = asyncio.get_running_loop().time()
            delivery = asyncio.create_task(sender.deliver(chunks))
            await asyncio.sleep(0)
            await sender.flush()
            await delivery
            return asyncio.get_running_loop().time() - started_s

    with papers.serve(lambda _: Faults(says_goodbye=False)) as server:
        took_s = asyncio.run(asyncio.wait_for(run(), PATIENCE_S))
        server.wait_until_over()

    assert took_s >= 0.6
    assert server.lines == lines_in(chunks)


def test_a_defect_in_a_connection_does_not_keep_it_away(
    papers: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told, and the lane begins anew; what was under way is sent again."""
    monkeypatch.setattr("m365watch.outputs.network.sender_connection._DEFECT_PAUSE_S", 0.1)
    chunks = make_chunks(5)

    async def run() -> None:
        async with opened(server.port, papers.tls, changed(QUICK, retention_secs=0.3)) as sender:
            [lane] = sender._lanes
            use, calls = lane._use, []

            async def once_broken(connection: Connection) -> None:
                calls.append(connection)
                if len(calls) == 1:
                    raise ZeroDivisionError
                await use(connection)

            lane._use = once_broken  # type: ignore[method-assign]  # the defect itself
            lane.let_go()
            await sender.deliver(chunks)

    with papers.serve() as server, capture_logs() as lines:
        asyncio.run(asyncio.wait_for(run(), PATIENCE_S))
        server.wait_until_over()

    assert set(server.lines) == set(lines_in(chunks))
    assert any("ZeroDivisionError" in str(line["event"]) for line in lines)


def test_a_peer_that_does_not_answer_an_end_keeps_the_retention_running(papers: Papers) -> None:
    """It is no break, and nothing is repeated: the delivery counts when its time is over."""
    chunks = make_chunks(5)

    async def run() -> float:
        async with opened(server.port, papers.tls, changed(QUICK, retention_secs=0.3)) as sender:
            started_s = asyncio.get_running_loop().time()
            delivery = asyncio.create_task(sender.deliver(chunks))
            await asyncio.sleep(0)
            await sender.flush()
            await delivery
            took_s = asyncio.get_running_loop().time() - started_s
            await until(lambda: server.lines == lines_in(chunks))
            return took_s

    with papers.serve(lambda _: Faults(answers_end=False)) as server:
        assert 0.25 <= asyncio.run(run()) < PATIENCE_S

    assert server.lines == lines_in(chunks)


def test_a_flush_without_a_way_to_the_peer_returns_at_once(papers: Papers, free_port: int) -> None:
    """There is nothing to find out; the delivery stays open until the retries are used up."""

    async def run() -> float:
        settings = changed(LONG, connecting_initial_wait_in_seconds=60.0, connecting_max_wait_in_seconds=60.0)
        sender = make_sender(free_port, papers.tls, settings)
        await sender.open()
        delivery = asyncio.create_task(sender.deliver(make_chunks(1)))
        await asyncio.sleep(0.1)
        started_s = asyncio.get_running_loop().time()
        await sender.flush()
        elapsed_s = asyncio.get_running_loop().time() - started_s
        await sender.close()
        with pytest.raises(OutputUnavailable):
            await delivery
        return elapsed_s

    assert asyncio.run(run()) < 20


@pytest.mark.parametrize(("deliveries_max", "size_bytes"), [(2, 0), (100, PROOF_BYTES // 2)])
def test_a_sender_that_is_held_up_asks_for_proof(
    papers: Papers, deliveries_max: int, size_bytes: int
) -> None:
    """Where no more deliveries may be open, or much waits in memory, the retention is not waited for."""
    chunks = make_chunks(6)

    async def run() -> None:
        async with opened(server.port, papers.tls, LONG, deliveries_max=deliveries_max) as sender:
            for start in range(0, 6, 2):
                pair = chunks[start : start + 2]
                await asyncio.gather(*(sender.deliver([chunk], size_bytes=size_bytes) for chunk in pair))

    with papers.serve() as server:
        asyncio.run(asyncio.wait_for(run(), PATIENCE_S))

    assert server.lines == lines_in(chunks)
    assert [connection.ended for connection in server.connections] == [True] * 3


def test_a_peer_that_answers_no_end_is_not_asked_for_proof_again(papers: Papers) -> None:
    """The retention is waited for on one connection then, instead of on one after the other."""
    settings = changed(QUICK, retention_secs=0.3)

    async def run() -> None:
        async with opened(server.port, papers.tls, settings, deliveries_max=1) as sender:
            for chunk in make_chunks(4):
                await sender.deliver([chunk])
            await until(lambda: len(server.lines) == len(lines_in(make_chunks(4))))

    with papers.serve(lambda _: Faults(answers_end=False)) as server:
        asyncio.run(run())
        assert len(server.connections) == 2

    assert sorted(server.lines) == lines_in(make_chunks(4))
