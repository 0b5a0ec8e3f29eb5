"""The judge itself: an account that does not fit the outputs or the truth has to be seen."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest

from m365watch_testing.clock import START
from m365watch_testing.simulation.content import Content, Element, Tenants
from m365watch_testing.simulation.faults import Plan, make_plan
from m365watch_testing.simulation.judge import Account, BlobRow, Judge, name_of
from m365watch_testing.simulation.stores import Store
from m365watch_testing.simulation.world import BlobName, World

DELIVERED, QUARANTINED, LOST = 1, 2, 3
LATER = START + timedelta(days=2)
CALM = timedelta(days=2)


class Court:
    """A world without faults, of which everything was delivered, once, to lake, files and devo."""

    def __init__(self) -> None:
        plan = _plan()
        self.calm_since = START
        self.world = World(plan, Tenants(plan, Random(1)).invent())
        self.stores = {name: Store(name) for name in plan.outputs}
        self.content: Content = self.world.contents[0]
        records = []
        for content in self.world.contents:
            content.shown = 1
            records += [element.body for element in content.records]
        self.stores["lake"].durable[1] = list(records)
        self.stores["files"].durable[1] = list(records)
        self.stores["devo"].received.update(records)
        rows = [
            BlobRow(place, name_of(content), DELIVERED, None, 1.0)
            for place, content in enumerate(self.world.contents, start=1)
        ]
        feeds = {row.name[:2] for row in rows}
        self.account = Account(
            rows,
            quarantined=set(),
            last_batches=dict.fromkeys(self.stores, 1),
            gaps=[],
            covered_from={},
            counted={feed: (sum(row.name[:2] == feed for row in rows), 0, 0) for feed in feeds},
        )

    @property
    def record(self) -> bytes:
        """One record that was delivered."""
        return self.content.records[0].body

    def change(self, **changed: object) -> None:
        """Say something else of the first blob."""
        [first, *others] = self.account.blobs
        self.account = replace(self.account, blobs=[replace(first, **changed), *others])  # type: ignore[arg-type]  # a row's own fields

    def end_first(self, state: int) -> None:
        """Say that the first blob ended otherwise, and count it so."""
        self.change(state=state)
        self.count(self.account.blobs[0].name, DELIVERED, state)

    def end_last(self, state: int) -> None:
        """The same of the last one."""
        self.account.blobs[-1] = replace(self.account.blobs[-1], state=state)
        self.count(self.account.blobs[-1].name, DELIVERED, state)
        self.world.broken.clear()

    def count(self, name: BlobName, before: int | None, after: int) -> None:
        """Let the sums of the blob's feed go from state `before` to `after`."""
        counts = list(self.account.counted[name[:2]])
        if before is not None:
            counts[before - 1] -= 1
        counts[after - 1] += 1
        self.account.counted[name[:2]] = (counts[0], counts[1], counts[2])

    def _add(self, content: Content) -> Content:
        content.shown = 1
        self.world.contents.append(content)
        row = BlobRow(len(self.account.blobs) + 1, name_of(content), DELIVERED, None, 1.0)
        self.account.blobs.append(row)
        self.count(row.name, None, DELIVERED)
        return content

    def add_odd(self) -> Content:
        """A blob with one record without Id, delivered everywhere."""
        element = Element(b'{"Operation":"without Id"}')
        self.stores["lake"].durable[1].append(element.body)
        self.stores["files"].durable[1].append(element.body)
        self.stores["devo"].received[element.body] += 1
        return self._add(replace(self.content, content_id="odd", elements=[element]))

    def add_garbage(self) -> Content:
        """A blob that is no array, and counts as delivered."""
        return self._add(replace(self.content, content_id="garbage", elements=[], garbage=b"no JSON"))

    def verdict(self) -> str:
        """What the judge says now and at the end, in one line; empty where it has no complaint."""
        judge = Judge(self.world, self.stores)
        judge.judge(self.account)
        judge.judge_end(self.account, calm_since=self.calm_since, now=max(LATER, self.calm_since + CALM))
        return "; ".join(self.world.broken)


def _plan() -> Plan:
    return replace(
        make_plan(1, Random(1)),
        faults=frozenset(),
        outputs=("lake", "files", "devo"),
        is_quiet=False,
        span_s=600.0,
    )


@pytest.fixture
def court() -> Court:
    return Court()


def test_the_judge_has_no_complaint_of_a_good_account(court: Court) -> None:
    """Otherwise it would prove nothing below."""
    assert court.verdict() == ""


@pytest.mark.parametrize("name", ["lake", "files"])
def test_a_record_that_is_acknowledged_and_not_there_is_missed(court: Court, name: str) -> None:
    court.stores[name].durable[1].remove(court.record)
    assert f"counts as delivered, and {name} lacks 1 of its records" in court.verdict()


def test_a_record_that_the_wire_lost_is_missed(court: Court) -> None:
    del court.stores["devo"].received[court.record]
    assert "devo lacks 1 of its records" in court.verdict()


@pytest.mark.parametrize("name", ["lake", "files"])
def test_a_record_that_is_there_twice_is_seen(court: Court, name: str) -> None:
    court.stores[name].durable[1].append(court.record)
    assert f"{name} has a record 2 times, 1 is allowed" in court.verdict()


def test_what_was_erased_is_not_missed_and_may_not_come_back(court: Court) -> None:
    """It had been delivered, and its mark tells it when it comes again."""
    lake = court.stores["lake"]
    count = lake.erase(1.0, Random(1))
    before = court.verdict()
    lake.durable[1].append(court.record)

    assert (count, len(lake.marks), before) == (lake.erased.total(), lake.erased.total(), "")
    assert "lake has a record 2 times, 1 is allowed" in court.verdict()


def test_what_files_will_cut_back_is_not_counted(court: Court) -> None:
    """Beyond the last receipt nothing counts yet."""
    court.stores["files"].durable[2] = [court.record]
    assert court.verdict() == ""


def test_a_repeat_on_the_wire_needs_a_break(court: Court) -> None:
    court.stores["devo"].received[court.record] += 1
    assert "devo has a record 2 times, 1 is allowed" in court.verdict()


def test_a_repeat_on_the_wire_after_a_break_is_excused_once(court: Court) -> None:
    court.stores["devo"].received[court.record] += 1
    court.stores["devo"].allowed[court.record] += 1
    assert court.verdict() == ""


def test_a_record_that_nobody_served_is_seen(court: Court) -> None:
    court.stores["lake"].durable[1].append(court.record[:-1] + b" }")
    assert "lake has a record that was never served" in court.verdict()


def test_content_that_was_served_and_is_unknown_is_missed(court: Court) -> None:
    court.account = replace(court.account, blobs=court.account.blobs[1:])
    assert "was served and is missing" in court.verdict()


def test_a_blob_that_waits_at_the_end_is_missed(court: Court) -> None:
    court.change(state=0, finished_s=None)
    assert "waits for ever" in court.verdict()


def test_a_blob_in_two_states_is_seen(court: Court) -> None:
    court.change(finished_s=None)
    assert "is finished and not" in court.verdict()


def test_a_blob_that_is_served_is_not_lost(court: Court) -> None:
    court.change(state=LOST)
    assert "counts as lost and is served" in court.verdict()


def test_a_blob_with_records_is_no_quarantine(court: Court) -> None:
    court.change(state=QUARANTINED)
    assert "is in quarantine as a whole and has records" in court.verdict()


def test_sums_that_are_not_those_of_the_blobs_are_seen(court: Court) -> None:
    court.account.counted[court.account.blobs[0].name[:2]] = (1_000, 0, 0)
    assert "its counts are not those of its blobs" in court.verdict()


def test_a_blob_that_was_never_listed_is_seen(court: Court) -> None:
    court.content.shown = 0
    assert "knows a blob that was never listed" in court.verdict()


def test_a_delay_by_another_feed_is_seen(court: Court) -> None:
    row = court.account.blobs[0]
    court.change(finished_s=(LATER + timedelta(days=1)).timestamp())
    Judge(court.world, court.stores).judge_lag(court.account, ill=("nobody", "nothing"), until=LATER)
    assert any(row.name[2] in sentence and "poison" in sentence for sentence in court.world.broken)


def test_what_is_delivered_in_time_is_no_delay(court: Court) -> None:
    """Nor is what the ill feed itself waits for."""
    ill = name_of(court.content)[:2]
    court.account = replace(
        court.account,
        blobs=[replace(row, finished_s=None) if row.name[:2] == ill else row for row in court.account.blobs],
    )
    Judge(court.world, court.stores).judge_lag(court.account, ill=ill, until=LATER)
    assert court.world.broken == []


def test_a_damaged_ledger_is_seen(court: Court) -> None:
    court.account = replace(court.account, sound=False)
    assert "the ledger's file is damaged" in court.verdict()


def test_a_record_without_id_that_comes_too_often_is_seen(court: Court) -> None:
    """As often as it is served is right; a break may excuse as many again."""
    [record] = [element.body for element in court.add_odd().records]
    right = court.verdict()
    court.stores["devo"].received[record] += 1
    court.stores["devo"].allowed[record] += 1
    excused = court.verdict()
    court.stores["lake"].durable[1].append(record)
    assert (right, excused) == ("", "")
    assert "lake has a record without Id 2 times" in court.verdict()


def test_a_record_without_id_comes_again_with_the_rest_of_its_blob(court: Court) -> None:
    content = court.add_odd()
    court.stores["lake"].durable[1].append(content.records[0].body)
    accused = court.verdict()
    court.world.broken.clear()
    name = name_of(content)
    court.account.blobs.append(BlobRow(999, (*name[:3], name[3] + 1), DELIVERED, None, 1.0))
    court.count(name, None, DELIVERED)
    assert "lake has a record without Id 2 times" in accused
    assert court.verdict() == ""


def test_a_blob_that_the_service_denied_is_lost(court: Court) -> None:
    court.content.denied = True
    court.end_first(LOST)
    assert court.verdict() == ""


def test_a_refused_record_in_quarantine_is_not_missed(court: Court) -> None:
    """By the output's name; under another name it is."""
    del court.stores["devo"].received[court.record]
    court.account.quarantined.add((1, "devo", court.record))
    kept = court.verdict()
    court.account.quarantined.clear()
    court.account.quarantined.add((1, "lake", court.record))
    assert kept == ""
    assert "devo lacks 1 of its records" in court.verdict()


def test_a_blob_of_garbage_belongs_into_quarantine(court: Court) -> None:
    """As a whole, with its body; delivered it is not."""
    garbage = court.add_garbage()
    delivered = court.verdict()
    court.end_last(QUARANTINED)
    assert "has no record and counts as delivered" in delivered
    assert "ended in state 1 instead of 2" in delivered
    assert f"what is no record is not in quarantine: {garbage.garbage!r}" in delivered
    assert garbage.garbage is not None
    court.account.quarantined.add((len(court.account.blobs), "", garbage.garbage))
    court.world.broken.clear()
    assert court.verdict() == ""


def test_the_rest_of_a_blob_that_has_grown_is_a_blob_of_its_own(court: Court) -> None:
    """The ledger names it a microsecond behind; it has to end as well."""
    row = court.account.blobs[0]
    name = (*row.name[:3], row.name[3] + 1)
    rest = BlobRow(999, name, DELIVERED, None, 1.0)
    court.account = replace(court.account, blobs=[*court.account.blobs, rest])
    delivered, quarantined, lost = court.account.counted[name[:2]]
    court.account.counted[name[:2]] = (delivered + 1, quarantined, lost)
    ended = court.verdict()
    court.account.blobs[-1] = replace(rest, state=0, finished_s=None)
    assert ended == ""
    assert "waits for ever" in court.verdict()


@pytest.mark.parametrize("name", ["lake", "files", "devo"])
def test_what_an_output_had_has_to_stay_there(court: Court, name: str) -> None:
    """Also where a ledger begins anew that never heard of it."""
    judge = Judge(court.world, court.stores)
    judge.judge(court.account)
    court.stores[name].durable.clear()
    court.stores[name].received.clear()
    judge.ended.clear()
    judge.judge(replace(court.account, blobs=[], counted={}, last_batches={}))

    assert f"{name} has lost" in "; ".join(court.world.broken)


@pytest.mark.parametrize("age", [timedelta(days=1), timedelta(days=11)])
def test_a_record_comes_again_once_its_blob_is_forgotten(court: Court, age: timedelta) -> None:
    """Before that time it is a duplicate."""
    court.world.pass_time((court.content.created_at + age - START).total_seconds())
    court.stores["lake"].durable[1].append(court.record)
    judge = Judge(court.world, court.stores)
    judge.judge(court.account)

    assert bool(court.world.broken) is (age < timedelta(days=8))


@pytest.mark.parametrize("age", [timedelta(days=1), timedelta(days=17)])
def test_a_blob_that_has_ended_is_forgotten_after_its_time(court: Court, age: timedelta) -> None:
    """Its count stays; before that time nothing may be forgotten."""
    judge = Judge(court.world, court.stores)
    judge.judge(court.account)
    created_at = court.content.created_at
    court.account = replace(court.account, blobs=court.account.blobs[1:])
    court.world.pass_time((created_at + age - START).total_seconds())
    judge.judge(court.account)

    forgotten = ["had ended and is forgotten or goes on" in sentence for sentence in court.world.broken]
    assert forgotten == ([True] if age < timedelta(days=15) else [])


def test_an_end_is_the_end(court: Court) -> None:
    judge = Judge(court.world, court.stores)
    judge.judge(court.account)
    court.change(state=LOST)
    court.content.denied = True
    judge.judge(court.account)
    assert any("had ended and is forgotten or goes on" in sentence for sentence in court.world.broken)


def _too_old(court: Court) -> Content:
    """The first content, unknown and out of reach once all is calm."""
    court.account = replace(court.account, blobs=court.account.blobs[1:])
    court.content.shown = 0
    feed = name_of(court.content)[:2]
    delivered, quarantined, lost = court.account.counted[feed]
    court.account.counted[feed] = (delivered - 1, quarantined, lost)
    court.calm_since = court.content.created_at + timedelta(days=8)
    return court.content


def test_what_nobody_could_list_in_time_has_to_be_counted(court: Court) -> None:
    """As a gap, or as older than all that was listed."""
    content = _too_old(court)
    uncounted = court.verdict()
    court.world.broken.clear()
    name = name_of(content)
    court.account.gaps.append((*name[:2], name[3] // 1_000_000, name[3] // 1_000_000 + 1))
    counted = court.verdict()
    court.account.gaps.clear()
    court.account.covered_from[name[:2]] = name[3] // 1_000_000 + 1
    assert "was served and is missing" in uncounted
    assert (counted, court.verdict()) == ("", "")


def test_what_can_still_be_listed_is_not_lost(court: Court) -> None:
    """A gap of the last 7 days, or of the future, is a clock's doing."""
    name = name_of(court.content)
    now_s = int(court.world.now().timestamp())
    court.account.gaps.append((*name[:2], now_s - 86_400, now_s + 86_400))

    assert "can be listed" in court.verdict()


@pytest.mark.parametrize("ahead", [True, False])
def test_content_that_came_after_the_listing_of_its_instant_cannot_be_known(
    court: Court, ahead: bool
) -> None:
    """By a clock that was ahead, or by seconds; a listing after it came has no excuse."""
    content = _too_old(court)
    asked_at = content.listed_at + timedelta(seconds=-1 if ahead else 1)
    second = timedelta(seconds=1)
    court.world.listings.append(
        (content.feed, asked_at, content.created_at - second, content.created_at + second)
    )
    assert ("was served and is missing" in court.verdict()) is not ahead


@pytest.mark.slow
def test_a_seed_has_the_same_history_every_time(tmp_path: Path) -> None:
    """Otherwise the command that repeats it would be worth nothing."""
    from m365watch_testing.simulation.seeds import simulate_seed

    assert simulate_seed(7, tmp_path / "a") == simulate_seed(7, tmp_path / "b")
