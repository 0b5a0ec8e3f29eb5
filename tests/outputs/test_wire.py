from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import uvloop
from patience import PATIENCE_S
from ports import kept_port
from structlog.testing import capture_logs

from m365watch.errors import OutputClosed, OutputUnavailable
from m365watch.outputs.wire.condition import Condition
from m365watch.outputs.wire.connection import Connection
from m365watch.outputs.wire.work import PROOF_BYTES
from m365watch.testing.devo_server import DevoServer, Faults
from wire_places import (
    LONG,
    QUICK,
    Papers,
    deliver_proven,
    lines_in,
    make_chunks,
    make_sender,
    opened,
    until,
    warnings_in,
)


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers(tmp_path_factory.mktemp("papers"))


def first(faults: Faults, *, count: int = 1) -> Callable[[int], Faults]:
    """`faults` for the first connections, none for those after them."""
    return lambda number: replace(faults) if number < count else Faults()


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port on which nothing listens but what the test has listen there."""
    with kept_port() as port:
        yield port


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
        async with opened(server.port, papers.tls, replace(QUICK, retention_s=0.3)) as sender:
            started_s = asyncio.get_running_loop().time()
            await sender.deliver(make_chunks(3))
            return asyncio.get_running_loop().time() - started_s

    with papers.serve() as server:
        elapsed_s = asyncio.run(run())

    assert elapsed_s >= 0.3


def test_a_delivery_counts_once_enough_was_taken_after_it(papers: Papers) -> None:
    """`retention_bytes` more at the peer release a delivery before its time."""

    async def run() -> tuple[bool, bool]:
        settings = replace(LONG, retention_bytes=200_000)
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
        async with opened(server.port, papers.tls, replace(QUICK, retention_s=0.1)) as sender:
            await sender.deliver(chunks)
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
        settings = replace(QUICK, sending_timeout_s=0.2, retention_s=1.0)
        with capture_logs() as lines:
            async with opened(server.port, papers.tls, settings) as sender:
                await sender.deliver(chunks)
                server.die()
        assert "the peer took nothing for 0.2 s" in warnings_in(lines)[0]

    with papers.serve(first(Faults(stall_after_bytes=1_000_000))) as server:
        asyncio.run(run())
        server.wait_until_over()

    assert set(server.lines) == set(lines_in(chunks))


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


def test_the_bare_end_of_a_connection_is_no_proof_in_tls(papers: Papers) -> None:
    """A receiver that died leaves one as well: the retention runs on, and nothing is repeated."""
    chunks = make_chunks(5)

    async def run() -> float:
        async with opened(server.port, papers.tls, replace(QUICK, retention_s=0.6)) as sender:
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
    monkeypatch.setattr("m365watch.outputs.wire.lane._DEFECT_PAUSE_S", 0.1)
    chunks = make_chunks(5)

    async def run() -> None:
        async with opened(server.port, papers.tls, replace(QUICK, retention_s=0.3)) as sender:
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

    assert set(server.lines) == set(lines_in(chunks))
    assert any("ZeroDivisionError" in str(line["event"]) for line in lines)


def test_a_peer_that_does_not_answer_an_end_keeps_the_retention_running(papers: Papers) -> None:
    """It is no break, and nothing is repeated: the delivery counts when its time is over."""
    chunks = make_chunks(5)

    async def run() -> float:
        async with opened(server.port, papers.tls, replace(QUICK, retention_s=0.3)) as sender:
            started_s = asyncio.get_running_loop().time()
            delivery = asyncio.create_task(sender.deliver(chunks))
            await asyncio.sleep(0)
            await sender.flush()
            await delivery
            return asyncio.get_running_loop().time() - started_s

    with papers.serve(lambda _: Faults(answers_end=False)) as server:
        assert 0.25 <= asyncio.run(run()) < PATIENCE_S

    assert server.lines == lines_in(chunks)


def test_a_flush_without_a_way_to_the_peer_returns_at_once(papers: Papers, free_port: int) -> None:
    """There is nothing to find out; the delivery stays open until the retries are used up."""

    async def run() -> float:
        settings = replace(LONG, connecting_wait_first_s=60.0, connecting_wait_max_s=60.0)
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
    settings = replace(QUICK, retention_s=0.3)

    async def run() -> None:
        async with opened(server.port, papers.tls, settings, deliveries_max=1) as sender:
            for chunk in make_chunks(4):
                await sender.deliver([chunk])

    with papers.serve(lambda _: Faults(answers_end=False)) as server:
        asyncio.run(run())
        assert len(server.connections) == 2

    assert sorted(server.lines) == lines_in(make_chunks(4))


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


def test_nothing_is_repeated_beyond_the_retention(papers: Papers) -> None:
    """After a break only the retention comes again, and what the systems held on the way."""
    chunks = make_chunks(300, chunk_bytes=100_000)
    in_the_systems = 6 * 1024 * 1024

    async def run() -> int:
        settings = replace(LONG, retention_bytes=500_000)
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
        async with opened(server.port, papers.tls, replace(LONG, connections=3)) as sender:
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
        settings = replace(QUICK, connecting_retries=1)
        async with opened(443, papers.tls, settings, address="nothing.invalid") as sender:
            await sender.deliver(make_chunks(1))

    with pytest.raises(OutputUnavailable, match=r"nothing\.invalid:443: its name is not found"):
        asyncio.run(run())


def test_a_connection_without_traffic_is_closed_in_order(papers: Papers) -> None:
    """And made again for the next delivery, without a break."""
    chunks = make_chunks(2)

    async def run() -> tuple[int, int]:
        async with opened(server.port, papers.tls, replace(QUICK, idle_s=0.2)) as sender:
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
    assert [text.split(":")[0] for text in told] == ["the connection was refused", "connected again"]


def test_what_is_not_kept_and_finds_nobody_is_refused(papers: Papers) -> None:
    """Where the receiver turns out to be away only when there is something to send."""

    async def run() -> None:
        async with opened(server.port, papers.tls, replace(QUICK, idle_s=0.1)) as sender:
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
        sender = make_sender(server.port, papers.tls, replace(QUICK, idle_s=0.1))
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
        async with opened(free_port, papers.tls, replace(QUICK, connecting_retries=1)) as sender:
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
        async with opened(server.port, tls, replace(LONG, sending_retries=2)) as sender:
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
        sender = make_sender(server.port, papers.tls, replace(LONG, sending_timeout_s=0.1, sending_retries=0))
        await sender.open()
        delivery = asyncio.create_task(sender.deliver(make_chunks(200, chunk_bytes=100_000)))
        await asyncio.sleep(0.05)
        await sender.close()
        await sender.close()
        with pytest.raises(OutputUnavailable):
            await delivery

    with papers.serve(lambda _: Faults(stall_after_bytes=100_000)) as server:
        asyncio.run(asyncio.wait_for(run(), PATIENCE_S))


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
    settings = replace(LONG, connections=dice.randrange(1, 3), sending_retries=10)

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
