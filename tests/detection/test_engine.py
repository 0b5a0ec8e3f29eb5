"""An alert keeps its history, a batch counts once, and nothing grows for ever."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from promises import guarantee

from m365watch.common.errors import OutputUnavailable, OutputUnusable
from m365watch.detection.alerts.stored_alert import AlertState, News
from m365watch.detection.engine.detection_engine import ALERTS_KEPT_MS, HOUR_MATCHES_MAX, Engine
from m365watch.detection.engine.record_batch import Portion
from m365watch.detection.engine.unit_of_work import Change
from m365watch.detection.rules.rule_library import Library
from m365watch.detection.store.detection_store import DetectionState
from m365watch.records.headers import headers_of
from rules import TENANT, load_good, record, rule_text

NOW = datetime(2026, 11, 3, tzinfo=UTC)
HOUR = 3_600


class Bench:
    """An engine over one rule, fed batch by batch."""

    def __init__(self, directory: Path, library: Library) -> None:
        self.path = directory / "detections.sqlite"
        self.library = library
        self.number = 0
        self.open()

    def open(self) -> None:
        """Start, or start again."""
        self.state = DetectionState(self.path, survives_power_cuts=False)
        self.engine = Engine(self.library.rules, self.state)

    def take(self, *seconds: int, now: datetime = NOW, **fields: Any) -> list[Change]:
        """A batch of records of the operation One."""
        self.number += 1
        records = [record(second, **{"Operation": "One", **fields}) for second in seconds]
        return self.engine.take([portion(records, now)], number=self.number, now=now)

    def alerts(self) -> list[tuple[int, tuple[str, ...]]]:
        """Count and evidence of each."""
        return [(kept.alert.count, kept.alert.evidence) for kept in self.state.alerts.list()]


def portion(records: Sequence[bytes], now: datetime = NOW) -> Portion:
    """Records as the collector hands them over."""
    return Portion(TENANT, now, records, headers_of(records))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A rule that makes alerts of matches an hour apart."""
    detection = {"s": {"Operation": "One"}, "condition": "s"}
    return Bench(tmp_path, load_good(tmp_path, rule_text(detection, m365watch={"quiet": "1h"})))


def test_a_batch_counts_once(bench: Bench) -> None:
    """Handed over again after a crash, under its number, it changes nothing."""
    bench.take(0)
    bench.number = 0

    assert bench.take(9) == []
    assert bench.alerts() == [(1, ("record-0",))]


def test_an_alert_is_told_as_new_once(bench: Bench) -> None:
    """What comes later is an update of it."""
    assert [change.what for change in bench.take(0)] == [News.NEW]
    assert [(change.what, change.alert.count) for change in bench.take(60)] == [(News.UPDATED, 2)]


def test_a_record_that_changes_nothing_is_not_told(bench: Bench) -> None:
    """The same record again, under another batch's number."""
    bench.take(0)

    assert bench.take(0) == []


@guarantee(35)
def test_a_late_record_that_moves_the_start_keeps_the_history(bench: Bench) -> None:
    """The id is another; who knew the old one is shown the new, with what was made of it."""
    bench.take(HOUR)
    [old] = bench.state.alerts.list()
    bench.state.alerts.set_state(old.alert.id, AlertState.ACKNOWLEDGED, reason="looking", by="ann", at_ms=5)
    changes = bench.take(0)

    [new] = bench.state.alerts.list()
    assert new.alert.id != old.alert.id
    assert new.alert.formerly == (old.alert.id,)
    assert (new.state, new.reason, new.changed_by) == (AlertState.ACKNOWLEDGED, "looking", "ann")
    assert bench.state.alerts.find(old.alert.id) == new
    assert [(one.what, one.alert.id) for one in changes] == [(News.UPDATED, new.alert.id)]


def test_an_id_that_is_given_again_leads_to_its_own_alert(bench: Bench) -> None:
    """A first record may move from one alert to another, and takes the id along."""
    bench.take(HOUR)
    [old] = bench.state.alerts.list()
    bench.take(0)
    bench.state.alerts.put(old)

    assert bench.state.alerts.find(old.alert.id) == old


@guarantee(35)
def test_two_alerts_that_a_late_record_joins_are_one(bench: Bench) -> None:
    """The earlier keeps its id, the later is formerly that."""
    bench.take(0)
    bench.take(2 * HOUR)
    earlier, later = sorted(bench.state.alerts.list(), key=lambda one: one.alert.first_at_ms)
    bench.take(HOUR)

    [joined] = bench.state.alerts.list()
    assert joined.alert.id == earlier.alert.id
    assert joined.alert.formerly == (later.alert.id,)
    assert joined.alert.count == 3


def close_all(bench: Bench, *, state: AlertState = AlertState.CLOSED, at_ms: int = 5) -> None:
    """An analyst has put every alert into a state."""
    with bench.state.transaction():
        for kept in bench.state.alerts.list():
            bench.state.alerts.set_state(kept.alert.id, state, reason="a test of ours", by="ann", at_ms=at_ms)


def standings(bench: Bench) -> list[tuple[AlertState, int]]:
    """State and count of each alert."""
    return [(kept.state, kept.alert.count) for kept in bench.state.alerts.list()]


@guarantee(35)
@pytest.mark.parametrize("late", [60, 30])
def test_a_record_that_a_closed_alert_did_not_have_opens_it_again(bench: Bench, late: int) -> None:
    """Later than what was closed or among it: nobody has looked at it, whatever its time is."""
    bench.take(0, 50)
    close_all(bench)
    bench.take(0)
    assert standings(bench) == [(AlertState.CLOSED, 2)]
    bench.take(late, late + 1)

    [kept] = bench.state.alerts.list()
    assert (kept.state, kept.changed_by, kept.changed_at_ms) == (
        AlertState.OPEN,
        "m365watch",
        round(NOW.timestamp() * 1000),
    )
    assert kept.reason == "2 more records have come since ann closed it: a test of ours"
    assert [one.state for one in bench.state.history.list(kept.alert.id)] == [
        AlertState.CLOSED,
        AlertState.OPEN,
    ]
    assert bench.state.lake_due.list(after=0, most=9)[-1].kept == kept


def test_what_is_opened_again_can_be_closed_again(bench: Bench) -> None:
    """Until the next record, and over a restart."""
    bench.take(0)
    for second in (60, 120, 180):
        close_all(bench)
        bench.state.close()
        bench.open()
        assert standings(bench)[0][0] is AlertState.CLOSED
        bench.take(second)
        assert standings(bench)[0][0] is AlertState.OPEN


def test_a_higher_severity_opens_a_closed_alert(tmp_path: Path) -> None:
    """Also where the alert has no more records than before: the rule itself may have changed."""
    detection = {"s": {"Operation": "One"}, "bad": {"Bad": "yes"}, "condition": "s or bad"}
    extension = {"quiet": "1h", "raise": {"to": "critical", "when": "bad"}}
    bench = Bench(tmp_path, load_good(tmp_path, rule_text(detection, m365watch=extension)))
    bench.take(0)
    close_all(bench)
    bench.take(60, Bad="yes")

    [kept] = bench.state.alerts.list()
    assert (kept.state, kept.alert.severity) == (AlertState.OPEN, "critical")
    assert kept.reason == "it has become critical since ann closed it: a test of ours"


@guarantee(35)
def test_an_open_alert_does_not_vanish_in_a_closed_one(bench: Bench) -> None:
    """A late record joins the two: what nobody has looked at is not over."""
    for closed_first in (True, False):
        bench.take(0, UserId=f"u{closed_first}")
        if closed_first:
            close_all(bench)
        bench.take(2 * HOUR, UserId=f"u{closed_first}")
        if not closed_first:
            latest = bench.state.alerts.list()[0]
            bench.state.alerts.set_state(latest.alert.id, AlertState.CLOSED, reason="", by="ann", at_ms=9)
        bench.take(HOUR, UserId=f"u{closed_first}")

    assert standings(bench) == [(AlertState.OPEN, 3)] * 2


def test_two_closed_alerts_that_a_late_record_joins_are_open(bench: Bench) -> None:
    """Nobody has looked at the one that joins them."""
    bench.take(0)
    bench.take(2 * HOUR)
    close_all(bench)
    bench.take(HOUR)

    [kept] = bench.state.alerts.list()
    assert (kept.state, kept.alert.count) == (AlertState.OPEN, 3)
    assert kept.reason == "1 more record has come since ann closed it: a test of ours"


def test_what_somebody_looks_into_stays_theirs(bench: Bench) -> None:
    """Whatever comes to it: they are at it, and are told."""
    bench.take(0)
    close_all(bench, state=AlertState.ACKNOWLEDGED)
    bench.take(60)
    bench.take(2 * HOUR)
    bench.take(HOUR)

    assert standings(bench) == [(AlertState.ACKNOWLEDGED, 4)]


def test_what_is_kept_survives_a_restart(bench: Bench) -> None:
    """The batch's number, matches and alerts are one transaction."""
    bench.take(0)
    bench.state.close()
    bench.open()

    assert bench.engine.last_batch == 1
    bench.take(60)
    assert bench.alerts() == [(2, ("record-0", "record-60"))]


def test_a_batch_that_fails_counts_for_nothing(bench: Bench) -> None:
    """A full disk is an output that cannot write just now."""
    bench.take(0)
    other = sqlite3.connect(bench.path)
    other.execute("BEGIN IMMEDIATE")
    bench.state._database.execute("PRAGMA busy_timeout = 10")
    with pytest.raises(OutputUnavailable, match="the file of detections cannot be written"):
        bench.take(60)
    other.rollback()
    bench.number -= 1

    bench.take(60)
    assert bench.alerts() == [(2, ("record-0", "record-60"))]


def test_a_file_that_is_none_of_ours_is_refused(tmp_path: Path) -> None:
    """With what to do."""
    path = tmp_path / "detections.sqlite"
    path.write_bytes(b"something else entirely, and long enough to be a header" * 50)

    with pytest.raises(OutputUnusable, match="it sets a damaged file aside, and makes it anew from the lake"):
        DetectionState(path)


def test_old_matches_are_let_go(bench: Bench) -> None:
    """Beyond the feed's week nothing can come that they would count for."""
    bench.take(0)
    bench.engine.look(now=NOW + timedelta(days=30))

    assert bench.state.count()["matches"] == 0
    assert len(bench.alerts()) == 1
    bench.engine.look(now=NOW + timedelta(milliseconds=2 * ALERTS_KEPT_MS))
    assert bench.alerts() == []


def test_matches_of_an_alert_that_goes_on_are_kept(bench: Bench) -> None:
    """Its id is made of the first of them."""
    detection = {"s": {"Operation": "One"}, "condition": "s"}
    (bench.path.parent / "more").mkdir()
    slow = Bench(
        bench.path.parent / "more",
        load_good(bench.path.parent, rule_text(detection, m365watch={"quiet": "2d"})),
    )
    day = 24 * HOUR
    for place in range(7):
        slow.take(place * day, now=NOW + timedelta(days=place))
    [first] = slow.state.alerts.list()
    slow.engine.look(now=NOW + timedelta(days=14))
    slow.take(7 * day, now=NOW + timedelta(days=14))

    [kept] = slow.state.alerts.list()
    assert (kept.alert.id, kept.alert.count) == (first.alert.id, 8)


def test_a_record_beyond_the_horizon_makes_no_alert(bench: Bench) -> None:
    """Its neighbours are gone; looking back is the lake's."""
    assert bench.take(0, now=NOW + timedelta(days=30)) == []
    assert bench.engine.figures.too_old == 1


@guarantee(34)
def test_a_flood_is_bounded_and_says_so(bench: Bench) -> None:
    """The earliest of each hour are kept, and two of every ten seconds, in whichever order they came."""
    many = range(HOUR_MATCHES_MAX + 300)
    bench.take(*reversed(many))

    [(count, evidence)] = bench.alerts()
    [kept] = bench.state.alerts.list()
    assert (count, evidence[0]) == (HOUR_MATCHES_MAX + 60, "record-0")
    assert "at least" in kept.alert.notes[0]
    assert bench.state.count()["matches"] == HOUR_MATCHES_MAX + 60


@guarantee(34)
def test_a_flood_that_comes_newest_first_in_several_batches_is_one_alert(bench: Bench) -> None:
    """What was told of matches that the hour has no more room for is taken back: the earliest count."""
    for start in (1_000, 500, 0):
        bench.take(*range(start, start + 500))
    bench.engine.look(now=NOW)

    [(count, evidence)] = bench.alerts()
    [kept] = bench.state.alerts.list()
    assert (count, evidence[0]) == (HOUR_MATCHES_MAX + 100, "record-0")
    assert "at least" in kept.alert.notes[0]


def test_only_what_an_hour_without_room_may_have_cut_short_says_so(bench: Bench) -> None:
    """However many alerts are judged together: an alert that was over before has all its matches."""
    early, flood = range(10), range(5 * HOUR, 5 * HOUR + HOUR_MATCHES_MAX + 30)
    bench.take(*early, *flood)

    told = {kept.alert.first_at_ms: kept.alert.notes for kept in bench.state.alerts.list()}
    assert [bool(told[first_ms]) for first_ms in sorted(told)] == [False, True]


def test_a_large_alert_is_brought_up_to_date_by_the_next_look(bench: Bench) -> None:
    """Not at every batch: its group is read whole for that; and not lost where the process ends before."""
    bench.engine.large_from = 3
    bench.take(0, 1, 2, 3)
    assert bench.take(4, 5) == []
    bench.state.close()
    bench.open()
    bench.engine.large_from = 3
    assert bench.take(6, UserId="zoe@contoso.example") != []
    assert [count for count, _ in bench.alerts()] == [1, 4]

    [change] = bench.engine.look(now=NOW)

    assert (change.what, change.alert.count) == (News.UPDATED, 6)
    assert bench.engine.catch_up(now=NOW) == []


def test_what_waits_for_a_look_that_fails_waits_on(bench: Bench) -> None:
    """A full disk costs a minute, and no update."""
    bench.engine.large_from = 3
    bench.take(0, 1, 2, 3)
    bench.take(4)
    other = sqlite3.connect(bench.path, isolation_level=None)
    bench.state._database.execute("PRAGMA busy_timeout = 1")
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(OutputUnavailable):
        bench.engine.look(now=NOW)
    other.execute("ROLLBACK")
    other.close()

    assert [one.alert.count for one in bench.engine.catch_up(now=NOW)] == [5]


def test_a_rule_that_counts_further_keeps_more(tmp_path: Path) -> None:
    """A bound below the threshold would make the rule blind."""
    several = {"several": {"threshold": 1_500, "period": "1h", "keys": ["UserId"]}}
    detection = {"s": {"Operation": "One"}, "condition": "s"}
    bench = Bench(tmp_path, load_good(tmp_path, rule_text(detection, m365watch=several)))
    bench.take(*range(1_501))

    assert [count for count, _ in bench.alerts()] == [1_501]


def test_a_rule_that_is_no_more_leaves_no_work_behind(bench: Bench, tmp_path: Path) -> None:
    """Rules change between starts; what old ones left goes with time."""
    bench.take(0)
    bench.state.close()
    other = {"s": {"Operation": "Two"}, "condition": "s"}
    bench.library = load_good(tmp_path, rule_text(other, id="5f1c6c0e-7d0b-4a51-9a4e-000000000009"))
    bench.open()

    assert bench.take(60) == []
    assert bench.engine.look(now=NOW) == []


def test_an_alert_is_taken_back_by_a_rule_that_asks_for_more_now(tmp_path: Path) -> None:
    """Rules change between starts: an alert that is no more is withdrawn, though its group is too small."""
    rules = [
        rule_text(
            {"s": {"Operation": "One"}, "condition": "s"},
            m365watch={"several": {"threshold": threshold, "period": "1h", "keys": ["UserId"]}},
        )
        for threshold in (1, 9)
    ]
    bench = Bench(tmp_path, load_good(tmp_path, rules[0]))
    bench.take(0, 60)
    bench.state.close()
    bench.library = load_good(tmp_path, rules[1])
    bench.open()

    assert [one.what for one in bench.take(120)] == [News.WITHDRAWN]


@guarantee(36)
@pytest.mark.parametrize(
    "junk",
    [
        b"[]",
        b"5",
        b"{",
        b'{"Operation":"One"',
        b'{"Operation":"One","CreationTime":5,"Id":[],"UserId":{"a":1}}',
        b'{"Operation":"One","CreationTime":"9999-12-31T23:59:59","UserId":null}',
        b'{"Operation":"One","CreationTime":"0001-01-01T00:00:00"}',
        b'{"Operation":"One","Id":"' + b"x" * 1_000_000 + b'"}',
        b'{"Operation":"One","UserId":"a\\u0000\\u001fb","Id":"\\ud800"}',
        b'{"Operation":"One","UserId":"caf\xe9"}',
        b'{"Operation":"One","UserId":"x","Data":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        b'{"Operation":"One","Size":1e999}',
    ],
)
def test_no_record_stops_the_engine(bench: Bench, junk: bytes) -> None:
    """Whatever the feed carries, the batch counts, and the next one works."""
    bench.engine.take([portion([junk])], number=1, now=NOW)
    bench.number = 1
    bench.take(0, UserId="zoe")

    assert "record-0" in {one for _, evidence in bench.alerts() for one in evidence}


@guarantee(34)
@pytest.mark.parametrize("note", [rb"\ud800", b"caf\xe9 \xff", b"a\tb", b"a\x00b"])
def test_a_record_that_strict_decoders_refuse_is_looked_at_all_the_same(bench: Bench, note: bytes) -> None:
    """Half a character in a rule's name must not hide the rule."""
    odd = (
        b'{"Id":"odd","CreationTime":"2026-11-02T00:00:00","Operation":"One","UserId":"ann","Note":"%b"}'
        % note
    )
    bench.engine.take([portion([odd])], number=1, now=NOW)

    assert bench.alerts() == [(1, ("odd",))]


def test_time_alone_is_looked_at_once_for_each_period(tmp_path: Path) -> None:
    """Ten thousand groups are not judged anew every minute for a rule about hours."""
    low = {"low": {"period": "1h"}, "group_by": ["UserId"]}
    detection = {"s": {"Operation": "One"}, "condition": "s"}
    bench = Bench(tmp_path, load_good(tmp_path, rule_text(detection, m365watch=low)))
    bench.take(0, now=NOW - timedelta(days=1))
    looked_at = []
    for minutes in (0, 1, 59, 60, 61, 119, 120):
        bench.engine.look(now=NOW + timedelta(minutes=minutes))
        looked_at.append(bench.engine.figures.groups_looked_at)

    assert looked_at == [1, 1, 1, 2, 2, 2, 3]


@guarantee(35)
def test_an_alert_of_whole_periods_outlives_its_records(tmp_path: Path) -> None:
    """What is looked at is forgotten before the alert is: a later record of its group withdraws nothing."""
    rolling = {"rolling": {"period": "2h", "back_period": "4h", "threshold": 2}, "group_by": ["UserId"]}
    text = rule_text({"s": {"Operation": "One"}, "condition": "s"}, m365watch=rolling)
    bench = Bench(tmp_path, load_good(tmp_path, text))
    bench.take(HOUR, HOUR + 100, HOUR + 200, now=NOW)
    bench.engine.look(now=NOW)
    before = bench.alerts()
    later = NOW + timedelta(days=20)
    bench.engine.look(now=later)
    bench.take(21 * 86_400 + 60, now=later + timedelta(hours=1))
    bench.engine.look(now=later + timedelta(hours=12))

    assert len(before) == 1
    assert bench.alerts() == before


def test_the_matches_of_a_rule_that_is_gone_go_after_some_days(tmp_path: Path) -> None:
    """Not at once: with a mistake in its file a rule is away until somebody mends it."""
    days = [
        rule_text(
            {"s": {"Operation": "One"}, "condition": "s"},
            id=f"5f1c6c0e-7d0b-4a51-9a4e-{number:012}",
            m365watch={"first_seen": {"key": ["UserId"], "period": "60d", "learn": "1d"}},
        )
        for number in range(2)
    ]
    bench = Bench(tmp_path, load_good(tmp_path, *days))
    bench.take(0)
    bench.library = load_good(tmp_path, days[0])

    def left(days_on: int) -> int:
        bench.state.close()
        bench.open()
        bench.engine.look(now=NOW + timedelta(days=days_on))
        return bench.state.count()["matches"]

    assert [left(days_on) for days_on in (1, 10)] == [2, 2]
    bench.library = load_good(tmp_path, *days)
    assert left(9) == 2
    bench.library = load_good(tmp_path, days[0])
    assert [left(days_on) for days_on in (12, 21, 22)] == [2, 2, 1]
