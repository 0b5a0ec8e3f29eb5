"""What a real receiver makes of what is sent: Debian's rsyslog, with TLS and certificates on both sides."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from made_outputs import devo_to, syslog_to
from promises import guarantee

from m365watch.common.clock import SystemClock, system_random
from m365watch.common.errors import CollectorError, OutputUnusable
from m365watch.common.model import Batch
from m365watch.http.settings import TlsSettings
from m365watch.outputs.devo.devo_output import DevoOutput
from m365watch.outputs.syslog.syslog_output import SyslogOutput
from m365watch.registry.outputs import Output
from m365watch.runtime.collector import Collector, Outcome
from m365watch_simulator.service.server import SimulationSettings, simulator_running
from m365watch_simulator.service.truth import Truth
from m365watch_testing.batches import make_batch, make_part, make_record
from m365watch_testing.certificates import Authority
from place import Place
from rsyslog_peer import CLIENT, Rsyslog, need_rsyslog

TABLE = "cloud.office365.management.exchange"
COUNT = 100_000
BATCH_RECORDS = 10_000
NOTES = (
    r"first line\nsecond line\r\n<14>1 - - - - - - no line of its own",
    "tab\there, bell \x07, delete \x7f, line separator \u2028",
    r"a lone surrogate \ud83d and caf\u00e9 beside café 漢字 \N{ROCKET}".replace(r"\N{ROCKET}", "\N{ROCKET}"),
    "#011 is no tab, %msg% no property, and a blank ends it ",
)
"""What a receiver may take apart, escape or expand."""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def peer(tmp_path: Path, authority: Authority) -> Iterator[Rsyslog]:
    """rsyslog, listening."""
    need_rsyslog()
    with Rsyslog(tmp_path, authority) as peer:
        yield peer


def make_audit_records(count: int) -> list[bytes]:
    """Records of about 1.3 kB, no two alike, every note in its turn."""
    filler = "x" * 950
    return [make_record(number, note=f"{NOTES[number % len(NOTES)]}{filler} ") for number in range(count)]


def batches_of(records: Sequence[bytes], output: str) -> list[Batch]:
    """The records in batches as the pipeline makes them."""
    batches: list[Batch] = []
    for start in range(0, len(records), BATCH_RECORDS):
        part = records[start : start + BATCH_RECORDS]
        batches.append(
            make_batch(len(batches) + 1, [make_part(part, outputs=[output], tables=[TABLE] * len(part))])
        )
    return batches


def assert_same(found: Sequence[bytes], wanted: Sequence[bytes]) -> None:
    """The same lines in the same order; where not, only the first that differs is shown."""
    pairs = enumerate(zip(found, wanted, strict=False))
    assert next(((place, *pair) for place, pair in pairs if pair[0] != pair[1]), None) is None
    assert len(found) == len(wanted)


def client_tls(authority: Authority, name: str = CLIENT) -> TlsSettings:
    """The client's side, with a certificate for `name`."""
    files = authority.issue(name, names=[name])
    return TlsSettings(chain=authority.chain, cert=files.cert, key=files.key)


async def send(output: Output, batches: Sequence[Batch]) -> None:
    """Deliver as the pipeline does: so many at once as the output takes, and a flush behind the last."""
    await output.open(last_batch=0, position="")
    open_ones: set[asyncio.Task[object]] = set()
    for batch in batches:
        if len(open_ones) >= output.batches_at_once_max:
            done, open_ones = await asyncio.wait(open_ones, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        open_ones.add(asyncio.create_task(output.deliver(batch)))
    await asyncio.sleep(0)
    await output.flush()
    await asyncio.gather(*open_ones)
    await output.close()


@guarantee(22)
@pytest.mark.slow
def test_a_hundred_thousand_records_reach_rsyslog_over_tls(peer: Rsyslog, authority: Authority) -> None:
    """None is missing, none is there twice, and each is byte for byte what it was, behind Devo's header."""
    options = {"hostname": "collector.example", "add_devo_fields": False}
    settings = devo_to("localhost", peer.tls_port, client_tls(authority), **options)
    records = make_audit_records(COUNT)
    output = DevoOutput(settings, clock=SystemClock(), random=system_random(1))

    asyncio.run(send(output, batches_of(records, "devo")))
    peer.stop()

    header = f"<14>2026-11-17 09:30:00.000 collector.example {TABLE}: ".encode()
    assert_same(peer.lines("tls.raw"), [header + record for record in records])


@guarantee(22)
@pytest.mark.slow
def test_what_a_collector_collects_reaches_rsyslog(
    peer: Rsyslog, authority: Authority, tmp_path: Path
) -> None:
    """From the service's listing to the receiver's file, in one run: none missing, repeated or altered."""
    tls = client_tls(authority)
    keys = {"chain": str(tls.chain), "cert": str(tls.cert), "key": str(tls.key), "add_devo_fields": False}
    devo = {"type": "devo_platform", "config": {"address": "localhost", "port": peer.tls_port, **keys}}
    simulated = SimulationSettings(seed=5, days=1, records_per_day=5_000, live=False)

    async def run() -> tuple[Outcome, Truth, Truth]:
        clock = SystemClock()
        async with simulator_running(simulated, clock=clock) as running:
            settings = Place(tmp_path).settings(running.configuration(outputs={"devo": devo}))
            collector = Collector(settings, clock=clock, random=system_random(1))
            before = running.tenants[0].truth()
            # A listing ends at a whole second, and some of this may have come out within the present one.
            await clock.sleep(1.0)
            outcome = await collector.run(once=True, stop=asyncio.Event())
            # What becomes available while the run lists is in this truth, and need not be in that.
            return outcome, before, running.tenants[0].truth()

    outcome, before, after = asyncio.run(run())
    peer.stop()

    tags_and_records = [line.split(b" ", 3)[3].split(b": ", 1) for line in peer.lines("tls.raw")]
    records = [record for tag, record in tags_and_records if tag.startswith(b"cloud.office365.")]
    assert outcome.exit_code == 0, outcome.problems
    assert before.judge(records).missing == []
    assert (after.judge(records).repeated, after.judge(records).altered) == ([], [])
    assert before.record_count > 1_000  # of a weekend; of a weekday some 5,000


@pytest.mark.parametrize(
    ("form", "framing", "header", "read"),
    [
        (
            "rfc5424",
            "octet-counting",
            b"<14>1 2026-11-17T09:30:00.000Z collector.example m365watch - exchange - ",
            b"collector.example m365watch exchange 14",
        ),
        (
            "rfc5424",
            "newline",
            b"<14>1 2026-11-17T09:30:00.000Z collector.example m365watch - exchange - ",
            b"collector.example m365watch exchange 14",
        ),
        (
            "rfc3164",
            "newline",
            b"<14>Nov 17 09:30:00 collector.example m365watch: ",
            b"collector.example m365watch - 14 ",
        ),
    ],
    ids=["rfc5424-counted", "rfc5424-lines", "rfc3164-lines"],
)
def test_rsyslog_reads_every_format_over_tcp(
    peer: Rsyslog, *, form: str, framing: str, header: bytes, read: bytes
) -> None:
    """What it takes for host, application, table and priority is what they are; the rest is the record."""
    options = {"hostname": "collector.example", "format": form, "framing": framing}
    settings = syslog_to("127.0.0.1", peer.tcp_port, **options)
    records = make_audit_records(2_000)
    output = SyslogOutput(settings, clock=SystemClock(), random=system_random(1))

    asyncio.run(send(output, batches_of(records, "syslog")))
    peer.stop()

    assert_same(peer.lines("tcp.raw"), [header + record for record in records])
    assert_same(peer.lines("tcp.read"), [read + record for record in records])


def test_rsyslog_reads_datagrams(peer: Rsyslog) -> None:
    """One line a datagram; on loopback, and at the pace of the output, none is lost."""
    options = {"transport": "udp", "format": "rfc3164", "app_name": "{table}", "hostname": "-"}
    settings = syslog_to("127.0.0.1", peer.udp_port, **options)
    records = [*make_audit_records(2_000), make_record(2_000, note="y" * 60_000)]
    output = SyslogOutput(settings, clock=SystemClock(), random=system_random(1))

    asyncio.run(send(output, batches_of(records, "syslog")))
    peer.stop()

    header = f"<14>Nov 17 09:30:00 {TABLE}: ".encode()
    assert_same(peer.lines("udp.raw"), [header + record for record in records])
    assert {line.split(b" ")[1] for line in peer.lines("udp.read")} == {TABLE.encode()}


def test_rsyslog_refuses_a_client_of_another_authority(
    peer: Rsyslog, authority: Authority, tmp_path: Path
) -> None:
    """The receiver's word about the client's certificate is heard at the start, with what to do."""
    tls = replace(client_tls(Authority(tmp_path, "Another")), chain=authority.chain)
    settings = devo_to("localhost", peer.tls_port, tls, hostname="collector.example")
    output = DevoOutput(settings, clock=SystemClock(), random=system_random(1))

    async def run() -> CollectorError | None:
        await output.open(last_batch=0, position="")
        await output.close()
        return output.trouble

    trouble = asyncio.run(run())

    assert isinstance(trouble, OutputUnusable)
    assert "the server refused the client certificate" in trouble.what
