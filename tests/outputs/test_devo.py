from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import pytest
from patience import PATIENCE_S
from promises import guarantee
from structlog.testing import capture_logs

from devo_places import DevoPlace, make_devo, records_of, split_line
from m365watch.common.errors import OutputUnavailable, OutputUnusable
from m365watch.common.model import Batch, Receipt
from m365watch.outputs.devo.devo_output import DevoOutput
from m365watch_testing.batches import make_batch, make_part, make_record, make_records, make_simple_batch
from m365watch_testing.clock import FakeClock
from m365watch_testing.devo_server import DevoServer, Faults, server_tls
from m365watch_testing.output_contract import OutputContract, OutputPlace
from wire_places import LONG, QUICK, Papers, changed, until, warnings_in

ALWAYS = {"threshold_for_using_gzip_in_transport_layer": -1.0, "compression_buffer_in_bytes": 4_000}
RECORDS = make_records(200)


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers(tmp_path_factory.mktemp("papers"))


@guarantee(12)
class TestDevo(OutputContract):
    @pytest.fixture
    def place(self, papers: Papers) -> Iterator[OutputPlace]:
        with papers.serve() as server:
            yield DevoPlace(papers, server)


class TestDevoCompressed(OutputContract):
    @pytest.fixture
    def place(self, papers: Papers) -> Iterator[OutputPlace]:
        with papers.serve() as server:
            yield DevoPlace(papers, server, **ALWAYS)


def deliver(output: DevoOutput, *batches: Batch) -> list[Receipt]:
    """The receipts of a run with `batches`, all open together and proven at once."""

    async def run() -> list[Receipt]:
        await output.open(last_batch=0, position="")
        try:
            calls = [asyncio.create_task(output.deliver(batch)) for batch in batches]
            await asyncio.sleep(0)
            await output.flush()
            return await asyncio.gather(*calls)
        finally:
            await output.close()

    return asyncio.run(run())


def test_a_line_has_the_time_of_receipt_the_host_and_the_table(papers: Papers) -> None:
    """As Devo's collector sends it, with the eventdate of the collection in UTC."""
    part = make_part([make_record(1)], outputs=["devo"])
    part.received_at = datetime(2026, 11, 17, 23, 59, 59, 999_999, tzinfo=UTC)
    with papers.serve() as server:
        deliver(make_devo(papers, server.port), make_batch(1, [part]))
        server.wait_until_over()

    head = b"<14>2026-11-17 23:59:59.999 collector-1 cloud.office365.management.exchange: "
    assert server.lines == [head + make_record(1)]


def test_devo_fields_stand_before_the_closing_brace(papers: Papers) -> None:
    """The rest of the record stays as it is; switched off, nothing is added."""
    part = make_part([make_record(1)], outputs=["devo"])
    part.pulling_id, part.environment = 1_655_983_326_290, 'a "b"'
    batch = make_batch(1, [part])
    with papers.serve() as server:
        deliver(make_devo(papers, server.port), batch)
        deliver(make_devo(papers, server.port, add_devo_fields=False), batch)
        server.wait_until_over()

    added, plain = records_of(server.lines)
    assert plain == make_record(1)
    assert added == plain[:-1] + rb',"@devo_pulling_id":"1655983326290","@devo_environment":"a \"b\""}'
    assert msgspec.json.decode(added)["@devo_pulling_id"] == "1655983326290"


@guarantee(22)
def test_a_record_with_a_line_break_or_too_long_is_refused_by_name(papers: Papers) -> None:
    """Its neighbours arrive; a line at the limit does as well."""
    head_bytes = len(b"<14>2026-11-17 09:30:00.000 collector-1 cloud.office365.management.exchange: \n")
    room = 1_000 - head_bytes
    fits = b'{"Workload":"Exchange","Id":"' + b"x" * (room - 31) + b'"}'
    broken = b'{"Workload":"Exchange",\n"Id":"1"}'
    too_long = fits[:-2] + b'y"}'
    output_of = changed(QUICK, line_bytes_max=1_000)
    with papers.serve() as server:
        batch = make_simple_batch(1, [broken, fits, too_long], output="devo")
        [receipt] = deliver(make_devo(papers, server.port, wire=output_of), batch)
        server.wait_until_over()

    assert records_of(server.lines) == [fits]
    assert [(refused.record, refused.reason) for refused in receipt.refused] == [
        (broken, "a line break inside the record"),
        (too_long, "a line of 1,001 bytes, more than the 1,000 that are sent"),
    ]


@guarantee(22)
def test_a_table_that_devo_lacks_gets_the_fallback_and_is_told_once(papers: Papers) -> None:
    """So that nothing ends in unknown.unknown; an override_tag and a table made known stay."""
    tables = [
        "cloud.office365.management.exchange",
        "cloud.office365.management.copilot",
        "cloud.office365.management.copilot",
        "my.app.audit",
        "cloud.office365.management.viva",
        "no-tag",
    ]
    part = make_part(make_records(len(tables)), outputs=["devo"], tables=tables)
    known = ("cloud.office365.management.viva",)
    with papers.serve() as server, capture_logs() as lines:
        deliver(make_devo(papers, server.port, known_tables=known), make_batch(1, [part]))
        server.wait_until_over()

    assert [split_line(line)["tag"].decode() for line in server.lines] == [
        "cloud.office365.management.exchange",
        "cloud.office365.other",
        "cloud.office365.other",
        "my.app.audit",
        "cloud.office365.management.viva",
        "cloud.office365.other",
    ]
    assert [warning.split("'")[1] for warning in warnings_in(lines)] == [
        "cloud.office365.management.copilot",
        "no-tag",
    ]


def test_compressed_lines_come_as_members_of_whole_lines(papers: Papers) -> None:
    """Members can be read on their own, and stand between plain lines."""
    batch = make_simple_batch(1, RECORDS, output="devo")

    async def run(output: DevoOutput) -> None:
        await output.open(last_batch=0, position="")
        await output.deliver(batch)
        await output.write_tagged([("devo.collectors.out.local.info", b'{"msg":"one"}')])
        await output.close()

    with papers.serve() as server:
        asyncio.run(run(make_devo(papers, server.port, **ALWAYS)))
        server.wait_until_over()

    assert records_of(server.lines) == [*RECORDS, b'{"msg":"one"}']
    size_bytes = len(b"\n".join(server.lines[:-1])) + 1
    assert server.connections[0].parser.members == pytest.approx(size_bytes / 4_000, rel=0.1)
    assert server.received_bytes < size_bytes / 2


PREFIX_BYTES = len(b"<14>2026-11-17 09:30:00.000 collector-1 cloud.office365.management.exchange: ")
LINE_BYTES = PREFIX_BYTES + len(RECORDS[0]) + 1
CUTS = {
    "before the first byte": (0, False),
    "in the first header": (10, False),
    "between header and record": (PREFIX_BYTES, False),
    "in a record": (PREFIX_BYTES + 40, False),
    "before a line's end": (LINE_BYTES - 1, False),
    "between lines": (LINE_BYTES, False),
    "in a later header": (LINE_BYTES + 5, False),
    "far in": (30_000, False),
    "in a member's header": (5, True),
    "in a member": (300, True),
    "far in members": (1_500, True),
}


@guarantee(21)
@pytest.mark.parametrize("cut", CUTS)
def test_a_connection_that_is_cut_anywhere_loses_nothing(papers: Papers, cut: str) -> None:
    """What was not released is sent again, from its first line."""
    close_after_bytes, compressed = CUTS[cut]
    compression = ALWAYS if compressed else {}
    faults = [Faults(close_after_bytes=close_after_bytes)]
    with papers.serve(lambda number: faults[number] if number < len(faults) else Faults()) as server:
        [receipt] = deliver(
            make_devo(papers, server.port, wire=LONG, **compression),
            make_simple_batch(1, RECORDS, output="devo"),
        )
        server.wait_until_over()

    counts = Counter(records_of(server.lines))
    assert set(counts) == set(RECORDS)
    assert max(counts.values()) <= 2
    assert server.connections[1].parser.lines[0].endswith(RECORDS[0])
    assert receipt.refused == ()


@guarantee(21)
def test_a_cut_between_members_loses_nothing(papers: Papers) -> None:
    """Each member was whole, and all of the chunk is sent again."""
    batch = make_simple_batch(1, RECORDS, output="devo")
    with papers.serve() as measured:
        deliver(make_devo(papers, measured.port, **ALWAYS), batch)
        measured.wait_until_over()
    whole_bytes = measured.received_bytes
    members = measured.connections[0].parser.members

    with papers.serve(
        lambda number: Faults(close_after_bytes=whole_bytes) if number == 0 else Faults()
    ) as server:
        deliver(make_devo(papers, server.port, wire=LONG, **ALWAYS), batch)
        server.wait_until_over()

    assert server.connections[0].parser.members == members
    assert set(records_of(server.lines)) == set(RECORDS)


def test_an_unreachable_server_is_a_warning_at_the_start(papers: Papers) -> None:
    """Collecting goes on, the batch waits for its turn, and however often it is tried, it is told once."""
    with DevoServer(None) as held:
        port = held.port

    with capture_logs() as lines, pytest.raises(OutputUnavailable, match="refused"):
        deliver(make_devo(papers, port), make_simple_batch(1, RECORDS, output="devo"))

    [warning] = warnings_in(lines)
    assert warning.startswith(f"output devo: localhost:{port}: the connection was refused")


def test_a_wrong_certificate_stops_the_start(papers: Papers) -> None:
    """A person has to act, and is told how."""
    other = papers.authority.issue("server", names=["collector.example"])
    output = make_devo(papers, 9, tls=replace(papers.tls, key=other.key))

    with pytest.raises(OutputUnusable, match="does not belong to cert"):
        asyncio.run(output.open(last_batch=0, position=""))


def test_open_answers_the_last_batch(papers: Papers) -> None:
    """What was sent can be neither found nor taken back."""

    async def run(output: DevoOutput) -> int:
        answer = await output.open(last_batch=7, position="x")
        await output.close()
        return answer

    with papers.serve() as server:
        assert asyncio.run(run(make_devo(papers, server.port))) == 7


def test_a_flush_proves_open_batches(papers: Papers) -> None:
    """Batches are acknowledged within a moment, however long the retention is."""

    async def run(output: DevoOutput) -> list[Receipt]:
        await output.open(last_batch=0, position="")
        batches = [make_simple_batch(n, RECORDS[n * 10 : n * 10 + 10], output="devo") for n in range(1, 5)]
        open_calls = [asyncio.create_task(output.deliver(batch)) for batch in batches]
        await asyncio.sleep(0)
        await output.flush()
        receipts = await asyncio.gather(*open_calls)
        await output.close()
        return receipts

    with papers.serve() as server:
        output = make_devo(papers, server.port, wire=changed(QUICK, retention_secs=3_600.0))
        receipts = asyncio.run(asyncio.wait_for(run(output), PATIENCE_S))

    assert receipts == [Receipt()] * 4
    assert records_of(server.lines) == RECORDS[10:50]


_STANDARD = re.compile(
    r"output devo: Standard - Total number of messages: (\d+) messages/bytes sent since "
    r'"[-+:.T\d]+": (\d+)/(\d+) \(elapsed \d+\.\d{6} seconds\)'
)
SIZE_BYTES = sum(map(len, RECORDS))


def test_the_sender_reports_in_the_words_of_devo(papers: Papers) -> None:
    """Every `stats_period_s`, at INFO."""

    async def run(output: DevoOutput) -> None:
        await output.open(last_batch=0, position="")
        await output.deliver(make_simple_batch(1, RECORDS, output="devo"))
        await output.write_tagged([("devo.collectors.out.local.info", b"{}")])
        # On a busy machine reports may be due before; the last one here has nothing new.
        internal = "Internal - Total number of messages: 1 messages/bytes"
        await until(lambda: sum(internal in line["event"] for line in lines) >= 2)
        await output.close()

    with papers.serve() as server, capture_logs() as lines:
        asyncio.run(
            run(make_devo(papers, server.port, wire=changed(QUICK, period_sender_stats_in_seconds=0.2)))
        )

    senders, *_ = last = [line["event"] for line in lines][-3:]
    assert senders == "output devo: Number of available senders: 1, sender manager internal queue size: 0"
    told = [_STANDARD.fullmatch(line["event"]) for line in lines if " Standard - " in line["event"]]
    recent = [(int(one[2]), int(one[3])) for one in told if one]
    assert len(recent) == len(told)
    assert (sum(count for count, _ in recent), sum(size for _, size in recent)) == (200, SIZE_BYTES)
    assert " messages: 200 messages/bytes sent since " in last[1]
    assert all('": 0/0 (elapsed ' in line for line in last[1:])


def test_notices_can_be_switched_off(papers: Papers) -> None:
    """Then nothing is sent of them."""

    async def run() -> None:
        output = make_devo(papers, server.port, collectors_out=False)
        await output.open(last_batch=0, position="")
        await output.write_tagged([("devo.collectors.out.local.info", b"{}")])
        await output.close()

    with papers.serve() as server:
        asyncio.run(run())
        server.wait_until_over()

    assert server.lines == []


def test_notices_carry_the_time_of_the_clock(papers: Papers) -> None:
    """A notice has no time of receipt."""

    async def run() -> None:
        output = make_devo(papers, server.port)
        output._clock = FakeClock()
        await output._sender.open()
        await output.write_tagged([("devo.collectors.out.global.error", b'{"msg":"x"}')])
        await output.write_tagged([])
        await until(lambda: bool(server.lines))
        await output.close()

    with papers.serve() as server:
        asyncio.run(run())

    head = b"<14>2026-11-17 09:00:00.000 collector-1 devo.collectors.out.global.error: "
    assert server.lines == [head + b'{"msg":"x"}']


def test_notices_after_the_last_record_arrive(papers: Papers) -> None:
    """The records' flush has ended the connection by then: they go over a new one."""

    async def run() -> None:
        output = make_devo(papers, server.port, wire=LONG)
        await output.open(last_batch=0, position="")
        call = asyncio.create_task(output.deliver(make_simple_batch(1, RECORDS, output="devo")))
        await asyncio.sleep(0)
        await output.flush()
        await call
        await output.write_tagged([("devo.collectors.out.local.info", b'{"msg":"last"}')])
        await output.close()

    with papers.serve() as server:
        asyncio.run(run())
        server.wait_until_over()

    assert records_of(server.lines) == [*RECORDS, b'{"msg":"last"}']


def test_a_notice_counts_as_sent_only_when_it_was(papers: Papers) -> None:
    """While Devo is away the caller keeps it, and the figures have none of it."""
    with DevoServer(None) as held:
        port = held.port
    notice = [("devo.collectors.out.local.info", b"{}")]

    async def run(output: DevoOutput) -> None:
        await output.open(last_batch=0, position="")
        with pytest.raises(OutputUnavailable, match="refused"):
            await output.write_tagged(notice)
        counts = output._statistics._internal.total
        with papers.serve(port=port) as server:
            await until(lambda: output.trouble is None)
            await output.write_tagged(notice)
            await output.close()
            server.wait_until_over()
            assert records_of(server.lines) == [b"{}"]
        assert (counts, output._statistics._internal.total) == (0, 1)

    asyncio.run(run(make_devo(papers, port)))


def test_a_server_that_a_person_has_to_mend_does_not_stop_the_start(papers: Papers) -> None:
    """The trouble has the fix, each delivery says it, and one line tells it."""
    other = papers.authority.issue("server", names=["collector.example"])

    with (
        DevoServer(server_tls(papers.authority, files=other)) as server,
        capture_logs() as lines,
        pytest.raises(OutputUnusable, match=r"is for another name: .*; set `address` to a name"),
    ):
        deliver(make_devo(papers, server.port), make_simple_batch(1, RECORDS, output="devo"))

    assert [line["code"] for line in lines if line["log_level"] == "error"] == ["output_unusable"]
