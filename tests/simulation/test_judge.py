"""The judge itself: an account that does not fit the outputs or the truth has to be seen."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest

from m365watch.testing.clock import START
from m365watch.testing.simulation.content import Content, Tenants
from m365watch.testing.simulation.faults import Plan, make_plan
from m365watch.testing.simulation.judge import Account, BlobRow, Judge, name_of
from m365watch.testing.simulation.outputs import Store
from m365watch.testing.simulation.world import World

DELIVERED, QUARANTINED, LOST = 1, 2, 3
LATER = START + timedelta(days=2)


class Court:
    """A world without faults, of which everything was delivered, once, to lake, files and devo."""

    def __init__(self) -> None:
        plan = _plan()
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

    def verdict(self) -> str:
        """What the judge says now and at the end, in one line; empty where it has no complaint."""
        judge = Judge(self.world, self.stores)
        judge.judge(self.account)
        judge.judge_end(self.account, calm_since=START, now=LATER)
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


def test_a_seed_has_the_same_history_every_time(tmp_path: Path) -> None:
    """Otherwise the command that repeats it would be worth nothing."""
    from m365watch.testing.simulation import simulate_seed

    assert simulate_seed(7, tmp_path / "a") == simulate_seed(7, tmp_path / "b")
