"""What is too old or too much goes, and nothing else; the collector never notices."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st
from promises import guarantee

from keeping_lake import (
    APP_ID,
    BATCHES_A_DAY,
    EXCHANGE,
    SHAREPOINT,
    TODAY,
    FixedClock,
    a_record,
    field_of,
    fill_days,
    write,
)
from lake_place import LakePlace, records_of
from m365watch.common.collector_events import Notice, Speaker
from m365watch.config.models.retention import Retention, TableRetention
from m365watch.lake.delta.table_files import list_files, silently
from m365watch.lake.maintenance.maintenance_worker import keep_up
from m365watch.lake.maintenance.retention import (
    Retained,
    Share,
    is_retention_due,
    plan_by_age,
    plan_by_size,
    retain,
)
from m365watch.lake.writer.batch_delivery import Delivery
from m365watch.lake.writer.event_table import NoticeWriter
from m365watch.lake.writer.table_writer import AuditWriter

DAYS = 6
SHARES = st.lists(
    st.builds(
        Share,
        st.dates(TODAY - timedelta(days=9), TODAY),
        st.sampled_from([EXCHANGE, SHAREPOINT]),
        st.integers(1, 100),
    ),
    max_size=30,
)


def in_megabytes(size_bytes: int) -> Fraction:
    """Exactly so many bytes, which no file can say."""
    return Fraction(size_bytes, 1_000_000)


def only(size_bytes: int) -> TableRetention:
    """A bound for one table."""
    return TableRetention.model_construct(megabytes=in_megabytes(size_bytes))


def kept_in(directory: Path, retention: Retention, *, steps_max: int | None = None) -> Retained:
    """Retain at noon of `TODAY`."""
    return retain(directory, retention, clock=FixedClock(), progress=silently, steps_max=steps_max)


def day_of(record: bytes) -> date:
    """The day on which it was created."""
    return datetime.fromisoformat(field_of(record, "CreationTime")).date()


@guarantee(16)
def test_by_age_whole_days_go_without_a_file_being_written(tmp_path: Path) -> None:
    """A day that is more than so many days ago leaves the table; the others stay as they are."""
    records = fill_days(tmp_path, DAYS)

    found = kept_in(tmp_path, Retention(days=2))

    left = [record for record in records if (TODAY - day_of(record)).days <= 2]
    assert sorted(records_of(tmp_path)) == sorted(left)
    assert (found.files_removed, found.files_rewritten) == (3 * BATCHES_A_DAY, 0)
    assert sum(found.records.values()) == len(records) - len(left)
    assert {day for _, day in found.records} == {TODAY - timedelta(days=back) for back in (3, 4, 5)}


@guarantee(16)
def test_a_table_may_stay_shorter_or_longer(tmp_path: Path) -> None:
    """What stays of a file that holds both is written anew, byte for byte."""
    records = fill_days(tmp_path, DAYS)
    tables = {EXCHANGE: TableRetention(days=1), SHAREPOINT: TableRetention(days=4)}

    found = kept_in(tmp_path, Retention(days=3, tables=tables))

    days_max = {"Exchange": 1, "SharePoint": 4}
    assert sorted(records_of(tmp_path)) == sorted(
        record
        for record in records
        if (TODAY - day_of(record)).days <= days_max[field_of(record, "Workload")]
    )
    assert (found.files_removed, found.files_rewritten) == (BATCHES_A_DAY, 3 * BATCHES_A_DAY)


def test_by_size_the_oldest_days_go_until_it_fits(tmp_path: Path) -> None:
    """The sum of the files that are left is within the bound, and one day more would not be."""
    records = fill_days(tmp_path, DAYS)
    sizes: dict[date, int] = {}
    for file in list_files(DeltaTable(tmp_path / "audit")):
        sizes[file.day] = sizes.get(file.day, 0) + file.size_bytes
    bound = sum(sizes[TODAY - timedelta(days=back)] for back in range(3))

    kept_in(tmp_path, Retention.model_construct(megabytes=in_megabytes(bound)))

    assert sorted(records_of(tmp_path)) == sorted(r for r in records if (TODAY - day_of(r)).days < 3)


def test_by_size_one_table_may_have_a_bound_of_its_own(tmp_path: Path) -> None:
    """Its oldest days go, and no record of another table."""
    records = fill_days(tmp_path, DAYS)
    size_bytes = sum(file.size_bytes for file in list_files(DeltaTable(tmp_path / "audit")))

    kept_in(
        tmp_path,
        Retention.model_construct(tables={EXCHANGE: only(round(size_bytes / 4.01))}),
    )

    left = records_of(tmp_path)
    of = [[r for r in some if field_of(r, "Workload") == "SharePoint"] for some in (records, left)]
    exchange = {day_of(r) for r in left if field_of(r, "Workload") == "Exchange"}
    assert sorted(of[0]) == sorted(of[1])
    assert exchange == {TODAY - timedelta(days=back) for back in range(2)}


@guarantee(16)
@given(SHARES, st.integers(1, 2000), st.integers(1, 1000))
def test_a_plan_by_size_takes_the_oldest_and_no_more_than_it_has_to(
    shares: list[Share], all_max: int, exchange_max: int
) -> None:
    """For any sizes: both bounds hold or only today is left, and nothing older than what went stays."""
    tables = {EXCHANGE: only(exchange_max)}
    retention = Retention.model_construct(megabytes=in_megabytes(all_max), tables=tables)
    plan = plan_by_size(shares, retention, today=TODAY)
    left = [share for share in shares if share.day not in plan or not plan[share.day].takes(share.table)]
    sizes = [
        (sum(s.size_bytes for s in left), all_max),
        (sum(s.size_bytes for s in left if s.table == EXCHANGE), exchange_max),
    ]

    assert TODAY not in plan
    assert all(size <= most or {s.day for s in left} == {TODAY} or not left for size, most in sizes[:1])
    assert sizes[1][0] <= exchange_max or {s.day for s in left if s.table == EXCHANGE} == {TODAY}
    whole = [day for day, doomed in plan.items() if doomed.others]
    assert all(share.day > max(whole) for share in left) if whole else True


def test_nothing_goes_on_the_last_day_that_may_stay() -> None:
    """So many days ago is not more than so many days ago."""
    days = [TODAY - timedelta(days=back) for back in range(5)]

    assert sorted(plan_by_age(days, Retention(days=3), today=TODAY)) == [days[4]]


@guarantee(16)
def test_what_went_is_not_delivered_again(tmp_path: Path) -> None:
    """The numbers of the batches stay: an emptied lake belongs to its ledger, and a repeat is left alone."""
    fill_days(tmp_path, 2)
    kept_in(tmp_path, Retention(days=1))
    clock = FixedClock(datetime(2027, 1, 1, tzinfo=FixedClock().now().tzinfo))
    retain(tmp_path, Retention(days=1), clock=clock, progress=silently)
    last = 2 * BATCHES_A_DAY

    delivery = Delivery(tmp_path, app_id=APP_ID, where="here", clock=FixedClock())
    opened = delivery.open(last, newest_batch=last)
    write(AuditWriter(tmp_path, app_id=APP_ID), last, [a_record(1, day=TODAY)])
    delivery.close()

    assert (opened, records_of(tmp_path)) == (last, [])


def test_in_bounded_steps_it_gets_there(tmp_path: Path) -> None:
    """Each look does at most so many commits; the next goes on, until a look finds nothing."""
    records = fill_days(tmp_path, DAYS)
    retention = Retention(days=1, tables={SHAREPOINT: TableRetention(days=2)})

    looks = 0
    while not (found := kept_in(tmp_path, retention, steps_max=1)).complete:
        assert found.steps == 1
        looks += 1
    again = kept_in(tmp_path, retention)

    days_max = {"Exchange": 1, "SharePoint": 2}
    assert sorted(records_of(tmp_path)) == sorted(
        r for r in records if (TODAY - day_of(r)).days <= days_max[field_of(r, "Workload")]
    )
    assert (looks, again.records) == (3, {})


def test_a_dry_run_counts_the_same_and_changes_nothing(tmp_path: Path) -> None:
    """Table by table and day by day."""
    records = fill_days(tmp_path, DAYS)
    retention = Retention(days=3, tables={EXCHANGE: TableRetention(days=1)})

    told = retain(tmp_path, retention, clock=FixedClock(), progress=silently, dry_run=True)

    assert sorted(records_of(tmp_path)) == sorted(records)
    assert told.records == kept_in(tmp_path, retention).records


def test_notices_have_their_own_bound(tmp_path: Path) -> None:
    """`devo.collectors.out` is the table of notices; records do not count for it."""
    fill_days(tmp_path, 1)
    speaker = Speaker("c", "image", None)
    said = [
        Notice(at=FixedClock().now() - timedelta(days=back), level="info", module_name="m", msg=str(back),
               input_name=None, service_name=None, speaker=speaker)
        for back in (0, 5)
    ]  # fmt: skip
    NoticeWriter(tmp_path, app_id=APP_ID).append(said)

    found = kept_in(tmp_path, Retention(tables={"devo.collectors.out": TableRetention(days=3)}))

    assert found.records == {("devo.collectors.out", TODAY - timedelta(days=5)): 1}


def test_a_run_looks_once_an_hour(tmp_path: Path) -> None:
    """As part of its upkeep; not again before the hour is over, and never without a bound."""
    records = fill_days(tmp_path, 3)
    retention = Retention(days=1)
    clock = FixedClock()
    before = is_retention_due(tmp_path, retention, now=clock.now())

    keep_up(tmp_path, clock=clock, retention=retention)

    hour = timedelta(hours=1)
    after = [is_retention_due(tmp_path, retention, now=clock.now() + age) for age in (hour / 2, hour)]
    assert (before, after) == (True, [False, True])
    assert not is_retention_due(tmp_path, Retention(), now=clock.now())
    assert sorted(records_of(tmp_path)) == sorted(r for r in records if (TODAY - day_of(r)).days <= 1)


@guarantee(16)
@pytest.mark.parametrize(
    "retention", [Retention(days=1), Retention.model_construct(megabytes=in_megabytes(1))]
)
def test_a_writer_meanwhile_gets_in(tmp_path: Path, retention: Retention) -> None:
    """A writer that has not seen the removals appends on top of them."""
    fill_days(tmp_path, 3)
    writer = AuditWriter(tmp_path, app_id=APP_ID)
    kept_in(tmp_path, retention)
    late = a_record(9999, day=TODAY)
    write(writer, 99, [late])

    assert late in records_of(tmp_path)
    assert LakePlace(tmp_path).records_in() == records_of(tmp_path)
