"""The contract over every way that lines go, and what is special about each."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from patience import PATIENCE_S
from promises import guarantee
from structlog.testing import capture_logs

from m365watch.common.clock import SystemClock, system_random
from m365watch.common.errors import CollectorError, OutputUnavailable, OutputUnusable
from m365watch.common.model import Batch, Receipt
from m365watch.http.settings import TlsSettings
from m365watch.outputs.syslog.spec import SyslogSection
from m365watch.outputs.syslog.syslog_output import SyslogOutput, _Datagrams
from m365watch.outputs.syslog.udp_sender import (
    BURST_DATAGRAMS,
    DATAGRAM_BYTES_MAX,
    PAUSE_S,
    RESOLVED_S,
    DatagramSender,
)
from m365watch_testing.batches import make_batch, make_part, make_record, make_records, make_simple_batch
from m365watch_testing.certificates import Authority
from m365watch_testing.clock import FakeClock
from m365watch_testing.devo_server import DevoServer, Faults, server_tls
from m365watch_testing.output_contract import OutputContract
from syslog_places import WIRE, DatagramPlace, DatagramReceiver, SyslogPlace, records_of, settings_for
from wire_places import changed

WIRES = [("rfc5424", "newline"), ("rfc5424", "octet-counting"), ("rfc3164", "newline"), ("devo", "newline")]


class TestTcp(OutputContract):
    """Every promise of an output, at least once, with each way to tell lines apart."""

    @pytest.fixture(params=["newline", "octet-counting"])
    def place(self, request: pytest.FixtureRequest) -> Iterator[SyslogPlace]:
        """A receiver in the clear."""
        with DevoServer(None) as server:
            yield SyslogPlace(server, settings_for(server.port, transport="tcp", framing=request.param))


@guarantee(12)
class TestTls(OutputContract):
    """The same with certificates on both sides, and the format that is closest to Devo's."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[SyslogPlace]:
        """A receiver that asks for a certificate."""
        authority = Authority(tmp_path)
        with DevoServer(server_tls(authority)) as server:
            tls = client_tls(authority)
            yield SyslogPlace(server, settings_for(server.port, tls=tls, transport="tls", format="rfc3164"))


class TestUdp(OutputContract):
    """The same over datagrams, as long as none is lost on its way."""

    @pytest.fixture
    def place(self) -> Iterator[DatagramPlace]:
        """A receiver that reads faster than the output sends."""
        with DatagramReceiver() as receiver:
            yield DatagramPlace(receiver)


def client_tls(authority: Authority) -> TlsSettings:
    """The settings of a client with a certificate of `authority`."""
    files = authority.issue("collector")
    return TlsSettings(chain=authority.chain, cert=files.cert, key=files.key)


def deliver(settings: SyslogSection, batch: Batch, *, is_proven: bool = False) -> Receipt:
    """The receipt of one batch, which is waited for or proven by the receiver's end."""

    async def run() -> Receipt:
        output = SyslogOutput(settings, clock=SystemClock(), random=system_random(1))
        await output.open(last_batch=0, position="")
        try:
            delivery = asyncio.create_task(output.deliver(batch))
            if is_proven:
                await asyncio.sleep(0)
                await output.flush()
            return await delivery
        finally:
            await output.close()

    return asyncio.run(run())


@pytest.mark.parametrize(("form", "framing"), WIRES)
def test_what_is_sent_is_the_records_own_bytes(form: str, framing: str) -> None:
    """An escaped line break stays escaped, whatever the format and the framing."""
    records = [make_record(1, note=r"one\ntwo\r\n<14>1 forged"), b"{}", make_record(2, note="café\u2028\x00")]
    with DevoServer(None) as server:
        deliver(
            settings_for(server.port, format=form, framing=framing),
            make_simple_batch(1, records, output="syslog"),
        )
        server.wait_until_over()

    assert records_of(server.lines, form=form) == records


def test_the_format_of_devo_has_devos_tags() -> None:
    """A table that Devo lacks becomes the fallback; the other formats name the table as it is."""
    part = make_part(
        make_records(2),
        outputs=["syslog"],
        tables=["cloud.office365.management.exchange", "cloud.office365.management.brandnew"],
    )
    with DevoServer(None) as server:
        deliver(settings_for(server.port, format="devo", fallback_tag="my.app.other"), make_batch(1, [part]))
        deliver(
            settings_for(server.port, format="rfc5424", fallback_tag="my.app.other"), make_batch(2, [part])
        )
        server.wait_until_over()

    words = [line.split(b" ", 6) for line in server.lines]
    assert [line[3] for line in words[:2]] == [b"cloud.office365.management.exchange:", b"my.app.other:"]
    assert [line[5] for line in words[2:]] == [b"exchange", b"brandnew"]


@pytest.mark.parametrize("adds", [True, False])
def test_fields_of_devos_are_added_where_they_are_wanted(adds: bool) -> None:
    """The pull cycle and the environment stand at the end of the record."""
    part = make_part(make_records(1), outputs=["syslog"])
    part.pulling_id, part.environment = 1_780_000_000_123, "production"
    with DevoServer(None) as server:
        deliver(settings_for(server.port, add_devo_fields=adds), make_batch(1, [part]))
        server.wait_until_over()

    [record] = records_of(server.lines, form="rfc5424")
    added = {"@devo_pulling_id": "1780000000123", "@devo_environment": "production"} if adds else {}
    assert json.loads(record) == {**json.loads(make_record(0)), **added}


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_what_the_collector_says_itself_goes_the_same_way(transport: str) -> None:
    """Each line under its own tag; the end of the tag is what MSGID has room for."""
    lines = [
        ("devo.collectors.out.local.info", b'{"n":1}'),
        ("devo.collectors.out.local.warning", b'{"n":2}'),
    ]

    async def run(port: int) -> None:
        settings = settings_for(port, transport=transport)
        output = SyslogOutput(settings, clock=SystemClock(), random=system_random(1))
        await output.open(last_batch=0, position="")
        await output.write_tagged(lines)
        await output.deliver(make_simple_batch(1, make_records(1), output="syslog"))
        await output.close()

    with DatagramReceiver() as receiver, DevoServer(None) as server:
        asyncio.run(run(receiver.port if transport == "udp" else server.port))
        server.wait_until_over()

        received = receiver.datagrams if transport == "udp" else server.lines
    assert records_of(received, form="rfc5424") == [b'{"n":1}', b'{"n":2}', make_record(0)]
    assert [line.split(b" ")[5] for line in received[:2]] == [
        b"devo.collectors.out.local.info",
        b"evo.collectors.out.local.warning",
    ]


@guarantee(21)
@pytest.mark.parametrize("framing", ["newline", "octet-counting"])
def test_a_broken_connection_costs_repeats_and_nothing_else(framing: str) -> None:
    """What the receiver had not read when it broke comes again over the next connection."""
    records = make_records(3_000)
    with DevoServer(
        None, faults=lambda number: Faults(close_after_bytes=50_000 if number < 2 else None)
    ) as server:
        # What a slow receiver leaves unread for longer than the retention is lost where it breaks.
        settings = settings_for(server.port, framing=framing, wire=changed(WIRE, retention_secs=3_600.0))
        receipt = deliver(settings, make_simple_batch(1, records, output="syslog"), is_proven=True)
        server.wait_until_over()

    assert receipt == Receipt()
    assert set(records_of(server.lines, form="rfc5424")) == set(records)
    assert len(server.connections) >= 3


def test_a_certificate_that_is_not_trusted_is_found_at_the_start(tmp_path: Path) -> None:
    """Nothing is sent to a server of another authority: a person has to act, and the rest starts."""
    trusted, other = Authority(tmp_path, "Trusted"), Authority(tmp_path, "Other")

    async def run() -> CollectorError | None:
        settings = settings_for(server.port, tls=client_tls(trusted), transport="tls")
        output = SyslogOutput(settings, clock=SystemClock(), random=system_random(1))
        await output.open(last_batch=0, position="")
        await output.close()
        return output.trouble

    with DevoServer(server_tls(other, clients=trusted.chain)) as server:
        trouble = asyncio.run(run())

    assert isinstance(trouble, OutputUnusable)
    assert "not trusted" in trouble.what
    assert server.lines == []


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_syslog_reports_its_figures(transport: str) -> None:
    """Every `stats_period_s`, in the words of Devo's sender, whatever the transport."""

    async def run(port: int) -> None:
        settings = settings_for(
            port, transport=transport, wire=changed(WIRE, period_sender_stats_in_seconds=0.1)
        )
        output = SyslogOutput(settings, clock=SystemClock(), random=system_random(1))
        await output.open(last_batch=0, position="")
        await output.deliver(make_simple_batch(1, make_records(3), output="syslog"))
        await output.write_tagged([("devo.collectors.out.local.info", b"{}")])
        async with asyncio.timeout(PATIENCE_S):
            # One may be due between the two.
            while not any("Internal - Total number of messages: 1 " in line["event"] for line in told):
                await asyncio.sleep(0.01)
        await output.close()

    with DatagramReceiver() as receiver, DevoServer(None) as server, capture_logs() as told:
        asyncio.run(run(receiver.port if transport == "udp" else server.port))

    senders, standard, internal = [line["event"] for line in told if line["log_level"] == "info"][-3:]
    assert senders.startswith("output syslog: Number of available senders: 1, sender manager internal")
    assert standard.startswith("output syslog: Standard - Total number of messages: 3 messages/bytes sent")
    assert internal.startswith("output syslog: Internal - Total number of messages: 1 messages/bytes sent")


def test_udp_is_told_to_lose_at_every_start() -> None:
    """What cannot be promised is said before anything is sent, and what to do about it."""
    with DatagramReceiver() as receiver, capture_logs() as told:
        deliver(
            settings_for(receiver.port, transport="udp"),
            make_simple_batch(1, make_records(1), output="syslog"),
        )

    warning = (
        "output syslog: UDP may lose records on their way, and nobody can tell; "
        "use transport tcp or tls where none may be missing"
    )
    assert [(line["log_level"], line["event"]) for line in told] == [("warning", warning)]


def test_udp_does_not_wait_on_disk() -> None:
    """Nobody answers, so nothing can be waited for."""
    udp = SyslogOutput(settings_for(514, transport="udp"), clock=SystemClock(), random=system_random(1))
    tcp = SyslogOutput(settings_for(514), clock=SystemClock(), random=system_random(1))

    assert (udp.waits_on_disk, udp.batches_at_once_max) == (False, 1)
    assert (tcp.waits_on_disk, tcp.batches_at_once_max) == (True, 64)


def test_a_record_larger_than_a_datagram_is_refused_with_its_size() -> None:
    """The largest that fits is sent; one byte more goes to quarantine, and its neighbours arrive."""
    wire = changed(WIRE, line_bytes_max=1 << 20)
    with DatagramReceiver() as receiver:
        settings = settings_for(receiver.port, transport="udp", wire=wire)
        deliver(settings, make_simple_batch(1, make_records(1), output="syslog"))
        room = DATAGRAM_BYTES_MAX - len(receiver.datagrams[0])
        largest = make_record(0, note="x" * room)
        records = [make_record(1), largest, largest + b" ", make_record(2)]

        receipt = deliver(settings, make_simple_batch(2, records, output="syslog"))

        assert records_of(receiver.datagrams[1:], form="rfc5424") == [make_record(1), largest, make_record(2)]
    assert [(refused.record, refused.reason) for refused in receipt.refused] == [
        (largest + b" ", "a line of 65,508 bytes, more than the 65,507 that are sent")
    ]


class SmallSystem(DatagramSender):
    """One that sends no line of more than 1,000 bytes."""

    async def deliver(self, lines: Sequence[bytes]) -> list[int]:
        """Nothing is sent."""
        return [place for place, line in enumerate(lines) if len(line) > 1_000]


def test_what_the_system_sends_in_no_datagram_is_refused_by_name() -> None:
    """Though the protocol allows it."""
    large = make_record(1, note="x" * 2_000)
    settings = settings_for(514, transport="udp")
    output = SyslogOutput(settings, clock=SystemClock(), random=system_random(1))
    assert isinstance(output._carrier, _Datagrams)
    output._carrier._sender = SmallSystem("here", 514, timeout_s=1, where="here", clock=FakeClock())
    batch = make_simple_batch(1, [make_record(0), b"two\nlines", large], output="syslog")

    receipt = asyncio.run(output.deliver(batch))

    assert [refused.record for refused in receipt.refused] == [b"two\nlines", large]
    assert receipt.refused[1].reason.endswith("bytes, more than this system sends in one datagram")


def test_a_receiver_that_is_not_there_is_named() -> None:
    """The machine says so, and then the batch counts for nothing."""
    with DatagramReceiver() as receiver:
        port = receiver.port

    with pytest.raises(OutputUnavailable, match=f"cannot send to 127.0.0.1:{port} over UDP: nobody listens"):
        deliver(settings_for(port, transport="udp"), make_simple_batch(1, make_records(1), output="syslog"))


def test_a_name_that_is_not_known_is_named() -> None:
    """A name that cannot be resolved may be known later."""
    settings = settings_for(514, transport="udp", address="no-such-host.invalid")

    with pytest.raises(OutputUnavailable, match="its name cannot be resolved; check `address`"):
        deliver(settings, make_simple_batch(1, make_records(1), output="syslog"))


def test_datagrams_go_out_in_bursts() -> None:
    """A receiver's buffer is not flooded: a pause follows each burst."""
    clock = FakeClock(jumps=True)
    with DatagramReceiver() as receiver:
        sender = DatagramSender("127.0.0.1", receiver.port, timeout_s=5, where="here", clock=clock)

        asyncio.run(sender.deliver([b"x"] * (2 * BURST_DATAGRAMS + 1)))

        sender.close()
        assert len(receiver.datagrams) == 2 * BURST_DATAGRAMS + 1
    assert clock.slept_s == [PAUSE_S, PAUSE_S]


def test_a_name_is_looked_up_again() -> None:
    """A receiver that moves is followed within a minute."""
    clock = FakeClock(jumps=True)

    async def run(port: int) -> list[bool]:
        sender = DatagramSender("localhost", port, timeout_s=5, where="here", clock=clock)
        sockets = []
        for _ in range(3):
            await sender.deliver([b"x"])
            sockets.append(sender._socket)
            await clock.sleep(RESOLVED_S - 1)
        sender.close()
        return [sockets[0] is sockets[1], sockets[1] is sockets[2]]

    with DatagramReceiver() as receiver:
        assert asyncio.run(run(receiver.port)) == [True, False]


def test_a_name_is_not_looked_up_while_others_send() -> None:
    """Records and the collector's own lines go over one socket, which nobody takes away from the other."""
    clock = FakeClock()

    async def run(port: int) -> None:
        sender = DatagramSender("127.0.0.1", port, timeout_s=5, where="here", clock=clock)
        await sender.deliver([b"first"])
        records = asyncio.create_task(sender.deliver([b"record"] * (BURST_DATAGRAMS + 1)))
        await asyncio.sleep(0)
        sender._resolved_at_s = -RESOLVED_S
        notice = asyncio.create_task(sender.deliver([b"notice"]))
        await asyncio.sleep(0.05)
        await clock.advance(1)
        await asyncio.gather(records, notice)
        sender.close()

    with DatagramReceiver() as receiver:
        asyncio.run(run(receiver.port))
        assert len(receiver.datagrams) == BURST_DATAGRAMS + 3


class FullSocket(socket.socket):
    """One whose system has no room for so many tries."""

    tries_left = 0
    sent: tuple[bytes, ...] = ()

    def send(self, line: bytes, flags: int = 0) -> int:  # type: ignore[override]  # Lines are bytes here.
        """Take `line` once there is room."""
        if self.tries_left:
            self.tries_left -= 1
            raise OSError(errno.ENOBUFS, "No buffer space available")
        if len(line) > 100:
            raise OSError(errno.EMSGSIZE, "Message too long")
        self.sent += (line,)
        return len(line)


def test_a_system_without_room_is_waited_for() -> None:
    """For as long as the sending time-out says, and no longer."""
    clock = FakeClock(jumps=True)
    sender = DatagramSender("127.0.0.1", 514, timeout_s=1.0, where="here", clock=clock)
    with FullSocket(socket.AF_INET, socket.SOCK_DGRAM) as full:
        full.tries_left = 3
        assert asyncio.run(sender._send(full, b"x"))
        assert full.sent == (b"x",)
        assert clock.monotonic_s() == pytest.approx(3 * PAUSE_S)

        full.tries_left = 1_000_000
        with pytest.raises(OSError, match="No buffer space"):
            asyncio.run(sender._send(full, b"y"))

    assert clock.monotonic_s() == pytest.approx(1.0, abs=0.1)


def test_a_system_that_sends_smaller_datagrams_refuses_by_size() -> None:
    """Some systems send less than the protocol allows; that line alone is too large."""
    sender = DatagramSender("127.0.0.1", 514, timeout_s=1.0, where="here", clock=FakeClock(jumps=True))
    with FullSocket(socket.AF_INET, socket.SOCK_DGRAM) as small:
        assert not asyncio.run(sender._send(small, b"x" * 101))
        assert asyncio.run(sender._send(small, b"x" * 100))
