"""Notices in the lake: the table, the queries of docs/monitoring.md, and a run that loses a connection."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from deltalake import DeltaTable
from patience import PATIENCE_S
from promises import guarantee

from m365watch import __version__
from m365watch.cli.terminal.console import LineFormat
from m365watch.cli.terminal.log_output import configure_diagnostics
from m365watch.common.clock import SystemClock, system_random
from m365watch.common.collector_events import Notice, Speaker, collector_image
from m365watch.common.errors import OutputClosed, OutputUnavailable, OutputUnusable
from m365watch.common.model import ContentType
from m365watch.config.loader import parse_settings
from m365watch.health.devo_error_codes import CONNECTION_CLOSED
from m365watch.lake.maintenance.compaction import FILES_PER_MERGE_MIN
from m365watch.lake.maintenance.maintenance_worker import keep_up
from m365watch.lake.sql_sandbox.sandbox_client import LakeReader
from m365watch.lake.writer.batch_delivery import Delivery
from m365watch.lake.writer.event_table import NoticeWriter
from m365watch.lake.writer.table_writer import AuditWriter
from m365watch.outputs.lake.lake_output import LakeOutput
from m365watch.registry.output_specs import OutputSettings
from m365watch.registry.outputs import Output
from m365watch.runtime.collector import Collector
from m365watch.sources.management_api.management_api_client import PAGE_TRIES
from m365watch_simulator.service.scenario import Answer, Call, Rule, Scenario
from m365watch_simulator.service.server import SimulationSettings, simulator_running
from m365watch_testing.batches import TENANT, make_records, make_simple_batch
from m365watch_testing.outputs import FakeOutput

PAGE = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text()
SQL = re.findall(r"```sql\n(.*?)```", PAGE, flags=re.DOTALL)
CLOSED_SQL = next(sql for sql in SQL if CONNECTION_CLOSED in sql)
HANG_UPS = 2 * PAGE_TRIES
"""So many, because the HTTP library by itself asks once more where a connection was used before."""
HANGING_UP = Scenario(
    rules=(Rule(on=(Call.LIST,), answer=Answer.RESET, times=HANG_UPS, content_types=(ContentType.EXCHANGE,)),)
)
OUTPUTS = {
    "lake": {"type": "lake", "config": {"directory": "lake"}},
    "files": {"type": "files", "config": {"directory": "out"}},
}
AT = datetime(2026, 11, 17, 9, 5, tzinfo=UTC)
CLOSED = f"ApiError [CODE:0411] reason: {CONNECTION_CLOSED} the server closed it"


def speaker(name: str = "audit", *, image: str | None = None, job_id: str | None = "12") -> Speaker:
    return Speaker(collector_name=name, collector_image=image or collector_image(None), job_id=job_id)


def notice(
    at: datetime = AT, *, msg: str = CLOSED, level: str = "warning", by: Speaker | None = None
) -> Notice:
    return Notice(msg, at, level, by or speaker(), "sources.feed_errors", "office365", "exchange")


def write(lake: Path, *notices: Notice) -> None:
    NoticeWriter(lake, app_id="test").append(notices)


def ask(lake: Path, sql: str, tenants: Sequence[str] | None = None) -> list[tuple[object, ...]]:
    return LakeReader(lake).query(sql, tenants=tenants).rows


@pytest.fixture(autouse=True)
def _structlog_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


# The table.


@pytest.mark.slow
def test_a_notice_is_a_row_under_both_names(tmp_path: Path) -> None:
    """Every key has its column; Devo's name and the short one are the same table."""
    write(tmp_path, notice(msg="half a surrogate \ud800 stays writable"), notice(level="error"))

    for name in ('"devo.collectors.out"', "collectors_out"):
        rows = ask(tmp_path, f"SELECT * FROM {name} ORDER BY level")
        assert rows[0] == (
            AT.date(),
            AT,
            "error",
            "audit",
            __version__,
            f"m365watch/office365:{__version__}",
            "12",
            "office365",
            "exchange",
            "sources.feed_errors",
            CLOSED,
        )
        assert rows[1][-1] == "half a surrogate ? stays writable"


@pytest.mark.slow
def test_a_lake_without_notices_answers_with_no_rows(tmp_path: Path) -> None:
    """A query does not depend on whether anything has been said yet."""
    AuditWriter(tmp_path, app_id="test").append(make_simple_batch(1, make_records(3), output="lake"))

    assert ask(tmp_path, 'SELECT * FROM "devo.collectors.out"') == []
    assert ask(tmp_path, "SELECT count(*) FROM audit") == [(3,)]


@guarantee(43)
def test_who_may_see_one_tenant_sees_no_notices(tmp_path: Path) -> None:
    """A notice may name any tenant of the collector."""
    write(tmp_path, notice())

    assert ask(tmp_path, "SELECT count(*) FROM collectors_out", [TENANT]) == [(0,)]


@pytest.mark.slow
def test_upkeep_merges_small_files_of_notices(tmp_path: Path) -> None:
    """A file for every few seconds would be 17,000 a day."""
    AuditWriter(tmp_path, app_id="test").append(make_simple_batch(1, make_records(3), output="lake"))
    writer = NoticeWriter(tmp_path, app_id="test")
    for number in range(FILES_PER_MERGE_MIN):
        writer.append([notice(msg=f"line {number}")])

    assert keep_up(tmp_path, clock=SystemClock()) == 1

    assert len(DeltaTable(tmp_path / "collectors_out").file_uris()) == 1
    assert ask(tmp_path, "SELECT count(DISTINCT msg) FROM collectors_out") == [(FILES_PER_MERGE_MIN,)]
    writer.append([notice(msg="one more")])
    assert ask(tmp_path, "SELECT count(*) FROM collectors_out") == [(FILES_PER_MERGE_MIN + 1,)]


@guarantee(30)
def test_notices_that_fail_do_not_touch_the_records(tmp_path: Path) -> None:
    """The other table is no business of `audit`, whose batches go on being one commit each."""
    delivery = Delivery(tmp_path, app_id="test", where="output lake", clock=SystemClock())
    delivery.open(0, newest_batch=None)
    delivery.append(make_simple_batch(1, make_records(3), output="lake"))
    (tmp_path / "collectors_out").write_text("in the way")

    with pytest.raises(OutputUnavailable, match="1 notices could not be written"):
        delivery.append_notices([notice()])
    delivery.append(make_simple_batch(2, make_records(3, start=3), output="lake"))
    delivery.append(make_simple_batch(2, make_records(3, start=3), output="lake"))

    (tmp_path / "collectors_out").unlink()
    delivery.append_notices([notice()])
    delivery.close()
    assert ask(tmp_path, "SELECT (SELECT count(*) FROM audit), (SELECT count(*) FROM collectors_out)") == [
        (6, 1)
    ]
    assert DeltaTable(tmp_path / "audit").version() == 2


@pytest.mark.slow
def test_nothing_is_made_where_a_lake_has_moved_away(tmp_path: Path) -> None:
    """A folder of it would stand where it is put back, or is looked for: notices and records wait for it."""
    lake, away = tmp_path / "lake", tmp_path / "away"
    batch = make_simple_batch(1, make_records(3), output="lake")
    delivery = Delivery(lake, app_id="test", where="output lake", clock=SystemClock())
    delivery.open(0, newest_batch=None)
    delivery.append_notices([notice()])
    lake.rename(away)

    delivery.expect_notices()
    for _ in range(2):
        with pytest.raises(OutputUnavailable, match="1 notices could not be written: the lake is gone"):
            delivery.append_notices([notice(msg="later")])
        for write in (delivery.write, delivery.append):
            with pytest.raises(OutputUnavailable, match="batch 1 could not be written: the lake is gone"):
                write(batch)
    assert list(tmp_path.iterdir()) == [away]

    away.rename(lake)
    delivery.append(batch, delivery.write(batch))
    delivery.append_notices([notice(msg="later")])
    delivery.close()
    assert ask(lake, "SELECT count(*), count(DISTINCT msg) FROM collectors_out") == [(2, 2)]
    assert ask(lake, "SELECT count(*) FROM audit") == [(3,)]


def test_two_collectors_and_a_table_made_anew_never_overwrite(tmp_path: Path) -> None:
    """Each commit has files of its own, whoever wrote it and however often the table was opened."""
    for round_ in range(3):
        for app_id in ("a", "b"):
            writer = NoticeWriter(tmp_path, app_id=app_id)
            writer.append([notice(msg=f"{app_id}{round_}")])
            writer.append([notice(msg=f"{app_id}{round_} again")])

    assert ask(tmp_path, "SELECT count(DISTINCT msg), count(*) FROM collectors_out") == [(12, 12)]


# The queries of the page.


def test_lost_connections_are_counted_in_exact_five_minutes(tmp_path: Path) -> None:
    """A border belongs to the five minutes that begin with it, to the microsecond."""
    tick = timedelta(microseconds=1)
    write(
        tmp_path,
        notice(AT - tick),
        notice(AT),
        notice(AT + timedelta(minutes=5) - tick),
        notice(AT + timedelta(minutes=5)),
    )

    assert [(row[0], row[-1]) for row in ask(tmp_path, CLOSED_SQL)] == [
        (AT - timedelta(minutes=5), 1),
        (AT, 2),
        (AT + timedelta(minutes=5), 1),
    ]


def test_lost_connections_that_repeat_are_all_counted(tmp_path: Path) -> None:
    """A row that stands for the repeats of a minute counts as so many, as the board writes it."""
    write(tmp_path, notice(), notice(msg=f"{CLOSED} (said 99 more times within a minute)"))

    assert [row[-1] for row in ask(tmp_path, CLOSED_SQL)] == [100]


def test_lost_connections_are_counted_by_collector_and_job(tmp_path: Path) -> None:
    """Other lines and other images are not counted; a collector without a job is."""
    write(
        tmp_path,
        notice(),
        notice(by=speaker("other")),
        notice(by=speaker(job_id="13")),
        notice(by=speaker(job_id="13")),
        notice(by=speaker(job_id=None)),
        notice(by=speaker(image="devo.com/collectors/okta:1")),
        notice(msg="PullError [CODE:0310] reason: output lake: the disk is full"),
    )

    assert {row[1:] for row in ask(tmp_path, CLOSED_SQL)} == {
        ("audit", "12", 1),
        ("audit", "13", 2),
        ("audit", None, 1),
        ("other", "12", 1),
    }


@pytest.mark.parametrize("sql", SQL)
def test_each_query_of_the_page_finds_something(tmp_path: Path, sql: str) -> None:
    """Every SQL block is run as it stands, on what a collector has just said and delivered."""
    write(tmp_path, notice(SystemClock().now()))
    batch = make_simple_batch(1, make_records(3), output="lake")
    for part in batch.parts:
        part.received_at = SystemClock().now()
    AuditWriter(tmp_path, app_id="test").append(batch)

    assert ask(tmp_path, sql)


def test_the_page_has_devos_own_query() -> None:
    """Word for word, as on Devo's product page; and at least three queries for the lake."""
    assert (
        'from devo.collectors.out where toktains(msg,"collector failed Connection closed by server."),'
        ' toktains(collector_image,"office365")'
        " group every 5m by collector_name, job_id select count() as messages_unsuccessfully_processed"
    ) in " ".join(PAGE.split())
    assert len(SQL) >= 3


# A whole run.


class Doomed(FakeOutput):
    """An output that cannot start."""

    def __init__(self, name: str, error: OutputUnusable) -> None:
        super().__init__(name)
        self._error = error

    async def open(self, *, last_batch: int, position: str, newest_batch: int | None = None) -> int:
        raise self._error


def run(
    folder: Path,
    scenario: Scenario,
    *,
    hanging_up: OutputClosed | None = None,
    unusable: OutputUnusable | None = None,
) -> str:
    """One run into the lake and a fake output that may fail once, or to start; the application's secret."""

    def build(settings: OutputSettings) -> Output:
        if settings.name == "lake":
            return LakeOutput("lake", folder / "lake", writer_id="m365watch", clock=SystemClock())
        output = FakeOutput(settings.name) if unusable is None else Doomed(settings.name, unusable)
        if hanging_up is not None:
            output.fail(hanging_up)
        return output

    async def collect() -> str:
        simulation = SimulationSettings(seed=3, days=1, records_per_day=20, live=False, scenario=scenario)
        async with simulator_running(simulation, clock=SystemClock()) as running:
            document = running.configuration(outputs=OUTPUTS)
            settings = parse_settings(document, path=folder / "m365watch.json", environment={})
            collector = Collector(settings, clock=SystemClock(), random=system_random(1), build_output=build)
            configure_diagnostics(
                line_format=LineFormat.TEXT, level=logging.CRITICAL, colour=False, board=collector.board
            )
            async with asyncio.timeout(PATIENCE_S):
                await collector.run(once=True, stop=asyncio.Event())
            return running.tenants[0].identity.client_secret

    return asyncio.run(collect())


def lines_of(lake: Path) -> list[tuple[object, ...]]:
    return ask(lake, "SELECT level, input_name, service_name, module_name, msg FROM collectors_out")


@guarantee(30)
@pytest.mark.slow
def test_a_run_whose_connections_are_closed_can_be_found(tmp_path: Path) -> None:
    """Microsoft hangs up on a listing again and again: the query of the product page finds it."""
    secret = run(tmp_path, HANGING_UP)

    found, lines = ask(tmp_path / "lake", CLOSED_SQL), lines_of(tmp_path / "lake")
    told = [line[:4] for line in lines if CONNECTION_CLOSED in str(line[-1])]
    assert set(told) == {("warning", "office365", "exchange", "sources.feed_errors")}
    assert {row[1:3] for row in found} == {("simulated", None)}
    assert sum(int(str(row[-1])) for row in found) == len(told)
    assert not [line for line in lines if secret in str(line) or "eyJ" in str(line)]
    assert [line[0] for line in lines if "started" in str(line[-1])] == ["info"]


@guarantee(30)
@pytest.mark.slow
def test_an_output_whose_receiver_hangs_up_can_be_found(tmp_path: Path) -> None:
    """The same query finds it; the line names the output, and no feed."""
    run(tmp_path, Scenario(), hanging_up=OutputClosed("the peer closed it", where="output files"))

    [line] = [line for line in lines_of(tmp_path / "lake") if CONNECTION_CLOSED in str(line[-1])]
    assert line[:3] == ("warning", None, None)
    assert "output files: the peer closed it" in str(line[-1])
    assert [row[-1] for row in ask(tmp_path / "lake", CLOSED_SQL)] == [1]


def test_an_output_that_cannot_start_is_told_to_the_others(tmp_path: Path) -> None:
    """The collector ends before it has begun, and whoever reads its notices learns why."""
    unusable = OutputUnusable("the disk is read-only", fix="mount it again", where="output files")

    with pytest.raises(OutputUnusable):
        run(tmp_path, Scenario(), unusable=unusable)

    [line] = lines_of(tmp_path / "lake")
    assert line[0] == "error"
    assert str(line[-1]).startswith("SetupError [CODE:0110] reason: output files: the disk is read-only")


@guarantee(30)
def test_a_good_run_has_nothing_to_complain_of(tmp_path: Path) -> None:
    """No warning, no error; two lines at most of a feed, and of the run what it always says."""
    run(tmp_path, Scenario())

    lines = [line for line in lines_of(tmp_path / "lake") if not str(line[-1]).startswith("alert, ")]
    assert {line[0] for line in lines} == {"info"}
    of_feeds = Counter(line[2] for line in lines if line[2] is not None)
    assert of_feeds
    assert max(of_feeds.values()) <= 2
    assert {str(line[3]) for line in lines if line[2] is None} <= {
        "runtime.collector",
        "health.expiry.watch",
        "detection.factory",
        "detection.alerts.alert_logger",
    }
