"""Table `alerts`: each alert once, as it stands, whatever happens on the way there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from promises import guarantee

from lake_place import synced_name
from m365watch.common.errors import LakeUnusable, OutputUnavailable
from m365watch.config.models.retention import Retention, TableRetention
from m365watch.detection.alerts import lake_sync as shelving
from m365watch.detection.alerts.alert import Alert, AlertId, make_alert_id
from m365watch.detection.alerts.lake_sync import Shelving
from m365watch.detection.alerts.stored_alert import AlertState, KeptAlert
from m365watch.detection.rules.extension import Severity
from m365watch.detection.store.alert_table import AlertShelf, read_alerts
from m365watch.detection.store.detection_store import DetectionState
from m365watch.detection.store.lake_outbox import Due, day_of
from m365watch.lake.delta.table_files import hold_lake, list_files, missing_batch, open_table, silently
from m365watch.lake.delta.transaction_log import commit_name
from m365watch.lake.erasure.erasure_journal import Asked
from m365watch.lake.erasure.record_erasure import Erasure
from m365watch.lake.maintenance.compaction import compact
from m365watch.lake.maintenance.retention import retain
from m365watch.lake.schema import ALERT_TABLE, ALERTS
from m365watch.lake.sql_sandbox.sandbox_client import LakeReader
from m365watch.lake.writer.table_writer import AuditWriter
from m365watch_testing.batches import make_batch, make_part
from m365watch_testing.clock import FakeClock

TENANT = "11111111-1111-4111-8111-111111111111"
OTHER = "22222222-2222-4222-8222-222222222222"
NOON = datetime(2026, 11, 17, 12, tzinfo=UTC)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def alert_of(number: int, *, day: int = 0, tenant: str = TENANT, user: str = "") -> Alert:
    """An alert of its own, so many days before noon."""
    at_ms = round((NOON - timedelta(days=day)).timestamp() * 1000) + number
    who = user or f"user{number}@contoso.example"
    return Alert(
        id=make_alert_id("rule", tenant, (who,), str(number)),
        rule_id="rule",
        title="Something happened",
        severity=Severity.HIGH,
        tenant=tenant,
        group=(who,),
        entities=(("user", who), ("address", "192.0.2.7")),
        first_at_ms=at_ms,
        last_at_ms=at_ms + 60_000,
        count=2,
        evidence=(f"r{number}", f"s{number}"),
        explanation=f"{who} did something",
        techniques=("T1114",),
        check=("Look at it.",),
        contain=("revoke_sessions",),
        notes=("Odd.",),
    )


class Place:
    """A file of detections and a lake."""

    def __init__(self, folder: Path) -> None:
        self.lake = folder / "lake"
        self.state = DetectionState(folder / "detections.sqlite", survives_power_cuts=False)

    def shelf(self, *, name: str = "lake", tenants: Sequence[str] = (TENANT, OTHER)) -> AlertShelf:
        return AlertShelf(name, self.lake, writer="collector", clock=FakeClock(), takes=tenants.__contains__)

    def raise_alert(self, alert: Alert) -> None:
        with self.state.transaction():
            self.state.alerts.put(KeptAlert(alert, shown=True))
            self.state.lake_due.mark(alert.id, first_at_ms=alert.first_at_ms)

    def bring(self) -> None:
        assert Shelving(self.state, [self.shelf()]).bring().is_done

    def rows(self, columns: str = "*", rest: str = "") -> list[tuple[object, ...]]:
        return LakeReader(self.lake).query(f"SELECT {columns} FROM alerts {rest}").rows

    def kept(self) -> list[KeptAlert]:
        return sorted(read_alerts(self.lake, since=LONG_AGO), key=lambda one: one.alert.first_at_ms)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_an_alert_comes_back_as_it_was(place: Place) -> None:
    """Each part of it, with what an analyst made of it."""
    alert = alert_of(1)
    place.raise_alert(alert)
    with place.state.transaction():
        place.state.alerts.set_state(
            alert.id, AlertState.CLOSED, reason="a drill", by="ann", at_ms=1_790_000_000_000
        )
    place.bring()

    [kept] = place.kept()
    assert kept == place.state.alerts.find(alert.id)
    assert (kept.state, kept.reason, kept.changed_by) == (AlertState.CLOSED, "a drill", "ann")


@guarantee(37)
def test_a_change_replaces_the_row(place: Place) -> None:
    """An alert is there once, however often it changes; its neighbours stay."""
    for number in (1, 2, 3):
        place.raise_alert(alert_of(number))
    place.bring()
    with place.state.transaction():
        place.state.alerts.set_state(alert_of(2).id, AlertState.ACKNOWLEDGED, reason="", by="bob", at_ms=5)
    place.bring()

    assert place.rows("user_id, state", "ORDER BY 1") == [
        ("user1@contoso.example", "open"),
        ("user2@contoso.example", "acknowledged"),
        ("user3@contoso.example", "open"),
    ]


def test_what_is_withdrawn_or_becomes_another_goes(place: Place) -> None:
    """The table is what `alerts list` shows: no alert that there is not any more."""
    first, second, third = (alert_of(number, day=number) for number in (1, 2, 3))
    for alert in (first, second):
        place.raise_alert(alert)
    place.bring()
    with place.state.transaction():
        place.state.alerts.drop(first.id, became=None)
        place.state.alerts.drop(second.id, became=third.id)
    place.raise_alert(third)
    place.bring()

    assert [kept.alert.id for kept in place.kept()] == [third.id]


def test_what_is_too_old_for_the_file_stays_in_the_lake(place: Place) -> None:
    """The lake keeps alerts for as long as its retention says."""
    place.raise_alert(alert_of(1, day=100))
    place.bring()
    with place.state.transaction():
        place.state.alerts.set_state(alert_of(1, day=100).id, AlertState.CLOSED, reason="x", by="y", at_ms=1)
        place.state.alerts.forget(before_ms=round(NOON.timestamp() * 1000))
    place.bring()

    assert len(place.kept()) == 1


@guarantee(37)
@pytest.mark.parametrize("dies_at", ["before the commit", "after the commit"])
def test_a_crash_neither_loses_nor_doubles_a_row(place: Place, dies_at: str) -> None:
    """Whatever of it was done is done again."""
    place.raise_alert(alert_of(1))
    place.bring()
    place.raise_alert(alert_of(2))

    class Mortal(AlertShelf):
        def put(self, due: Sequence[Due], *, number: int) -> bool:
            if dies_at == "after the commit":
                super().put(due, number=number)
            raise KeyboardInterrupt

    mortal = Mortal("lake", place.lake, writer="collector", clock=FakeClock(), takes=lambda _: True)
    with pytest.raises(KeyboardInterrupt):
        Shelving(place.state, [mortal]).bring()
    place.bring()

    assert [kept.alert.evidence[0] for kept in place.kept()] == ["r1", "r2"]
    assert place.state.lake_due.list(after=0, most=10) == []


@guarantee(37)
def test_a_lake_that_is_new_or_put_back_gets_all(place: Place) -> None:
    """It says itself how far it is."""
    for number in (1, 2):
        place.raise_alert(alert_of(number))
        place.bring()
    (place.lake / ALERTS).rename(place.lake / "gone")
    place.raise_alert(alert_of(3))
    place.bring()

    assert len(place.kept()) == 3


@guarantee(37)
def test_a_lake_gets_alerts_of_its_tenants_alone(place: Place, tmp_path: Path) -> None:
    """A customer's lake names no other customer's users, and each lake has a place of its own."""
    both = [place.shelf(tenants=[TENANT]), AlertShelf("b", tmp_path / "b", writer="c", clock=FakeClock(),
                                                      takes=lambda tenant: tenant == OTHER)]  # fmt: skip
    place.raise_alert(alert_of(1))
    place.raise_alert(alert_of(2, tenant=OTHER))
    assert Shelving(place.state, both).bring().is_done

    found = [[kept.alert.tenant for kept in read_alerts(lake, since=LONG_AGO)]
             for lake in (place.lake, tmp_path / "b")]  # fmt: skip
    assert found == [[TENANT], [OTHER]]
    assert LakeReader(place.lake).query("FROM alerts", tenants=[OTHER]).rows == []


def test_alerts_wait_for_upkeep_and_for_a_disk(place: Place) -> None:
    """Whoever replaces files holds the lake; nothing is lost meanwhile."""
    place.raise_alert(alert_of(1))
    place.lake.mkdir()
    with hold_lake(place.lake, clock=FakeClock(), acknowledged={}):
        assert not Shelving(place.state, [place.shelf()]).bring().is_done
    (place.lake / ALERTS).write_text("in the way")
    with pytest.raises(OutputUnavailable, match="the alerts wait for the lake"):
        place.bring()
    (place.lake / ALERTS).unlink()
    place.bring()

    assert len(place.kept()) == 1


def test_without_a_lake_nothing_is_kept_for_one(place: Place) -> None:
    """The list of what is due does not grow for nobody."""
    place.raise_alert(alert_of(1))

    assert Shelving(place.state, []).bring() == (0, True)
    assert place.state.lake_due.list(after=0, most=10) == []


@pytest.mark.slow
def test_an_alert_is_joined_with_its_records(place: Place) -> None:
    """By the ids that it names."""
    place.raise_alert(alert_of(1))
    place.bring()
    records = [
        json.dumps({"Id": name, "CreationTime": "2026-11-17T12:00:00"}).encode() for name in ("r1", "x")
    ]
    AuditWriter(place.lake, app_id="t").append(make_batch(1, [make_part(records, outputs=["lake"])]))

    rows = (
        LakeReader(place.lake)
        .query("SELECT a.title, r.id FROM alerts a JOIN audit r ON list_contains(a.evidence, r.id)")
        .rows
    )
    assert rows == [("Something happened", "r1")]
    assert LakeReader(place.lake).query('SELECT count(*) FROM "cloud.office365.alerts"').rows == [(1,)]


def test_retention_holds_for_alerts_under_their_own_name(place: Place) -> None:
    """By the day on which they began; the bound of all tables holds where they have none."""
    for day in range(5):
        place.raise_alert(alert_of(day, day=day))
    place.bring()
    own = Retention(days=1, tables={"cloud.office365.alerts": TableRetention(days=3)})

    found = retain(place.lake, own, clock=FakeClock(NOON), progress=silently)

    assert found.records == {("cloud.office365.alerts", date(2026, 11, 13)): 1}
    assert len(place.kept()) == 4


def test_upkeep_keeps_every_row(place: Place) -> None:
    """A day has one file as it is, and merging leaves it so."""
    for number in range(3):
        place.raise_alert(alert_of(number, day=number))
        place.bring()
    compact(place.lake, clock=FakeClock(), progress=silently)
    place.raise_alert(alert_of(0))
    place.bring()

    table = open_table(place.lake, ALERT_TABLE)
    assert table is not None
    assert sorted(file.day for file in list_files(table)) == [day_of(alert_of(n, day=n).first_at_ms)
                                                              for n in (2, 1, 0)]  # fmt: skip
    assert len(place.kept()) == 3


@guarantee(17)
def test_a_person_is_erased_from_the_alerts_too(place: Place) -> None:
    """Wherever an alert names them, and from the files that versions before have left."""
    place.raise_alert(alert_of(1, user="anna@contoso.example"))
    place.raise_alert(alert_of(2))
    place.bring()
    place.raise_alert(alert_of(3))
    place.bring()
    asked = Asked(names=("anna@contoso.example",))

    erased = Erasure(place.lake, asked, clock=FakeClock(NOON), progress=silently).run()

    assert erased.records == {("cloud.office365.alerts", date(2026, 11, 17)): 1}
    assert erased.verified.is_clean
    assert [kept.alert.evidence[0] for kept in place.kept()] == ["r2", "r3"]
    left = b"".join(path.read_bytes() for path in place.lake.rglob("*.parquet"))
    assert b"anna" not in left


def test_a_reason_that_names_the_person_is_erased_and_its_alert_comes_back(
    place: Place,
) -> None:
    """The detections have taken the reason out, and bring the alert there again."""
    alert = alert_of(1)
    for reason in ("Anna@contoso.example was asked", ""):
        with place.state.transaction():
            place.state.alerts.put(KeptAlert(alert, shown=True))
            place.state.alerts.set_state(alert.id, AlertState.CLOSED, reason=reason, by="eve", at_ms=5)
        if reason:
            place.bring()
    asked = Asked(names=("anna@contoso.example",))

    erased = Erasure(place.lake, asked, clock=FakeClock(NOON), progress=silently).run()
    gone = place.kept()
    place.bring()

    assert (erased.verified.is_clean, gone) == (True, [])
    assert [(kept.alert.id, kept.state, kept.reason) for kept in place.kept()] == [
        (alert.id, AlertState.CLOSED, "")
    ]
    left = b"".join(path.read_bytes() for path in place.lake.rglob("*.parquet"))
    assert b"Anna" not in left


def test_an_id_is_no_alert_of_the_lake_unless_it_is_shown(place: Place) -> None:
    """What only serves correlations, or is excepted, is brought nowhere."""
    with place.state.transaction():
        place.state.alerts.put(KeptAlert(alert_of(1), shown=False))
        place.state.alerts.set_state(alert_of(1).id, AlertState.CLOSED, reason="", by="", at_ms=1)
        place.state.alerts.drop(AlertId("0" * 32), became=None)

    assert place.state.lake_due.list(after=0, most=10) == []


@guarantee(12)
def test_a_change_that_is_found_is_on_the_disk_before_it_is_believed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that committed it may have been killed before its sync, and it is not brought again."""
    place.raise_alert(alert_of(1))
    place.bring()
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(synced_name(descriptor)))

    assert place.shelf().last_number() > 0
    assert f"{1:020}.json" in synced


@pytest.fixture
def two(tmp_path: Path) -> tuple[Place, Place, list[AlertShelf]]:
    """A tenant with a lake of its own, beside the lake of another; the first place has both's alerts."""
    (tmp_path / "other").mkdir()
    place, other = Place(tmp_path), Place(tmp_path / "other")
    shelves = [place.shelf(tenants=[TENANT]), other.shelf(name="other", tenants=[OTHER])]
    return place, other, shelves


def test_an_alert_is_written_to_the_lake_of_its_tenant_alone(
    two: tuple[Place, Place, list[AlertShelf]],
) -> None:
    """What is not for a lake leaves no trace there, and is no reason to write all alerts once more."""
    place, _, shelves = two
    run = Shelving(place.state, shelves)
    rows = []
    for number, tenant in enumerate((TENANT, OTHER, OTHER, TENANT, OTHER), start=1):
        place.raise_alert(alert_of(number, tenant=tenant))
        rows.append(run.bring().rows)
    place.raise_alert(alert_of(9))
    again = Shelving(place.state, shelves).bring()

    # A lake gets all that are known with its first ones.
    assert rows[2:] == [1, 1, 1]
    assert again.rows == 1


def test_a_lake_that_was_out_of_the_configuration_gets_the_alerts_of_that_time(
    two: tuple[Place, Place, list[AlertShelf]],
) -> None:
    """What was due to it is let go of meanwhile, as the other lake has it."""
    place, other, shelves = two
    place.raise_alert(alert_of(1, tenant=OTHER))
    Shelving(place.state, shelves).bring()
    for number, tenant in ((2, OTHER), (3, TENANT)):
        place.raise_alert(alert_of(number, tenant=tenant))
        Shelving(place.state, shelves[:1]).bring()
    Shelving(place.state, shelves).bring()

    assert sorted(kept.alert.evidence[0] for kept in other.kept()) == ["r1", "r2"]


def test_more_alerts_than_one_step_brings_come_to_the_lakes_of_their_tenants(
    two: tuple[Place, Place, list[AlertShelf]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps without any alert of one lake follow each other."""
    monkeypatch.setattr(shelving, "ROWS_PER_STEP", 50)
    place, other, shelves = two
    run = Shelving(place.state, shelves)
    for number in range(60):
        place.raise_alert(alert_of(number, day=number % 9, tenant=OTHER))
    for number in range(5):
        place.raise_alert(alert_of(100 + number))

    steps = next(step for step in range(1, 12) if run.bring().is_done)

    assert steps <= 4
    assert (len(place.kept()), len(other.kept())) == (5, 60)


@pytest.mark.parametrize("put_back", ["none", "of before"])
def test_a_table_that_is_taken_away_during_a_run_gets_all_alerts_again(place: Place, put_back: str) -> None:
    """It is the cure of a damaged one, and the run goes on trying; a copy of before is of use as well."""
    run = Shelving(place.state, [place.shelf()])
    for number in range(1, 5):
        place.raise_alert(alert_of(number, day=number % 3))
        run.bring()
        if number == 2:
            shutil.copytree(place.lake / ALERTS, place.lake.parent / "copy")
    (place.lake / ALERTS).rename(place.lake.parent / "gone")
    if put_back == "of before":
        (place.lake.parent / "copy").rename(place.lake / ALERTS)
    place.raise_alert(alert_of(5))

    run.bring()

    assert sorted(kept.alert.evidence[0] for kept in place.kept()) == ["r1", "r2", "r3", "r4", "r5"]


@guarantee(15)
@pytest.mark.parametrize("day", [1, 2], ids=["replaced", "alone"])
@pytest.mark.parametrize("mended", ["by a copy", "anew"])
def test_a_change_whose_commit_was_emptied_is_missed(place: Place, day: int, mended: str) -> None:
    """Alerts were there twice, or gone, and nobody was told; nothing is built upon that."""
    for number, on in ((1, 0), (2, 1), (3, day)):
        place.raise_alert(alert_of(number, day=on))
        place.bring()
    commit = place.lake / ALERTS / commit_name(2)
    whole = commit.read_bytes()
    commit.write_bytes(b"")
    place.raise_alert(alert_of(4))

    said = f"{ALERTS}/_delta_log/{commit.name} is empty, and no commit holds batch "
    with pytest.raises(OutputUnavailable, match=f"the alerts wait for the lake: {said}.*; put it back from"):
        place.bring()
    with pytest.raises(LakeUnusable, match=said), hold_lake(place.lake, clock=FakeClock(), acknowledged={}):
        pass
    if mended == "by a copy":
        commit.write_bytes(whole)
    else:
        (place.lake / ALERTS).rename(place.lake.parent / "gone")
    place.bring()
    assert sorted(kept.alert.evidence[0] for kept in place.kept()) == ["r1", "r2", "r3", "r4"]
    assert missing_batch(place.lake, {}) is None
