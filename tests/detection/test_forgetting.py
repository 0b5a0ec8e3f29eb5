"""A person goes out of the file of detections, and nothing else does."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from promises import guarantee

from m365watch.common.errors import OutputUnavailable
from m365watch.detection.alerts.stored_alert import AlertState
from m365watch.detection.correlation.risk_score import make_risk_rule
from m365watch.detection.engine.detection_engine import Engine
from m365watch.detection.engine.record_batch import Portion
from m365watch.detection.rules.rule import Rule
from m365watch.detection.store.detection_erasure import Forgotten, Naming, find_named, forget_named
from m365watch.detection.store.detection_store import DetectionState
from m365watch.records.headers import headers_of
from rules import TENANT, load_good, rule_text
from test_joined_correlations import joint

NOW = datetime(2026, 11, 17, 12, tzinfo=UTC)
HERS = Naming(lambda text: b"anna@" in text.lower())
USERS = ("Anna@contoso.example", "bob@contoso.example", "carl@contoso.example")


def rules_in(folder: Path) -> Sequence[Rule]:
    return load_good(folder, rule_text({"s": {"Operation": "A"}, "condition": "s"})).rules


def portion_of(*users: str, at: str = "11:00:00") -> Portion:
    fields = [{"CreationTime": f"2026-11-17T{at}", "Operation": "A", "UserId": name} for name in users]
    records = [json.dumps({"Id": f"{one['UserId']} {at}", **one}).encode() for one in fields]
    return Portion(TENANT, NOW, records, headers_of(records))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with a record and an alert of each user."""
    path = tmp_path / "detections.sqlite"
    state = DetectionState(path, survives_power_cuts=False)
    Engine(rules_in(tmp_path), state).take([portion_of(*USERS)], number=1, now=NOW)
    with state.transaction():
        state.lake_due.forget(until=state.lake_due.newest())
    state.close()
    return path


def users_in(path: Path) -> list[str]:
    state = DetectionState(path)
    found = sorted(kept.alert.entity("user") for kept in state.alerts.list())
    state.close()
    return found


@guarantee(17)
def test_what_names_the_person_goes_and_the_lake_is_due(path: Path) -> None:
    """Alert and match; the others stay."""
    assert (find_named(path, HERS).alerts, find_named(path, HERS).matches) == (1, 1)

    told = forget_named(path, HERS)

    assert (told.alerts, told.matches) == (1, 1)
    assert users_in(path) == list(USERS[1:])
    assert find_named(path, HERS) == forget_named(path, HERS)
    state = DetectionState(path)
    assert [one.kept for one in state.lake_due.list(after=0, most=9)] == [None]
    state.close()


@guarantee(17)
def test_nothing_of_the_person_is_left_in_the_file(path: Path) -> None:
    """What is deleted is written over, in the file and in its log."""
    forget_named(path, HERS)

    kept = b"".join(one.read_bytes() for one in path.parent.glob("detections.sqlite*"))
    assert b"bob@contoso" in kept
    assert b"anna@contoso" not in kept.lower()


def test_what_was_said_of_withdrawn_alerts_goes_too(path: Path) -> None:
    """Nothing tells any more which of them named the person; it is kept for when they come back."""
    state = DetectionState(path)
    with state.transaction():
        for kept in state.alerts.list():
            reason = f"{kept.alert.entity('user')} is on leave"
            state.alerts.set_state(kept.alert.id, AlertState.CLOSED, reason=reason, by="eve", at_ms=5)
            state.alerts.drop(kept.alert.id, became=None)
    state.close()

    forget_named(path, HERS)

    left = b"".join(one.read_bytes() for one in path.parent.glob("detections.sqlite*"))
    assert b"anna@contoso" not in left.lower()


def test_a_reason_that_names_the_person_goes_and_its_alert_stays(path: Path) -> None:
    """Wherever it is kept: as the alert stands, in its history, and with what was closed."""
    state = DetectionState(path)
    [bob] = [one.alert.id for one in state.alerts.list() if one.alert.entity("user") == USERS[1]]
    with state.transaction():
        for made in (AlertState.ACKNOWLEDGED, AlertState.CLOSED):
            state.alerts.set_state(bob, made, reason=f"ask {USERS[0]}", by="eve", at_ms=5)
        state.lake_due.forget(until=state.lake_due.newest())
    state.close()
    before = find_named(path, HERS)

    told = forget_named(path, HERS)

    assert (before.reasons, told.reasons, find_named(path, HERS).reasons) == (1, 1, 0)
    state = DetectionState(path)
    kept = state.alerts.find(bob)
    due = {one.kept.alert.id for one in state.lake_due.list(after=0, most=9) if one.kept is not None}
    state.close()
    assert kept is not None
    assert (kept.state, kept.reason, kept.changed_by) == (AlertState.CLOSED, "", "eve")
    assert bob in due
    left = b"".join(one.read_bytes() for one in path.parent.glob("detections.sqlite*"))
    assert b"anna@contoso" not in left.lower()


PART = rule_text({"s": {"Operation": "A"}, "condition": "s"}, name="a", m365watch={"quiet": "1h"})
BY_OPERATION = {"group-by": ["Operation"]}
JOINING = (
    joint("many", "event_count", ["a"], {"gte": 3}, timespan="1h", **BY_OPERATION),
    rule_text({"s": {"Operation": "B"}, "condition": "s"}, name="b", id=str(UUID(int=7))),
    joint("both", "temporal", ["many", "b"], timespan="1h", generate=True),
)


@guarantee(17)
@pytest.mark.parametrize(
    ("texts", "users"),
    [
        ([PART], [USERS[0]] * 1_500),
        (
            [PART, *JOINING],
            [USERS[0] if number == 249 else f"{number}@contoso.example" for number in range(400)],
        ),
    ],
    ids=["an hour that was full", "an alert of many, joined by account"],
)
def test_what_is_kept_of_a_group_that_is_the_person_goes(
    tmp_path: Path, texts: list[str], users: list[str]
) -> None:
    """It is no match and no alert of hers."""
    path = tmp_path / "detections.sqlite"
    state = DetectionState(path, survives_power_cuts=False)
    records = [
        json.dumps(
            {"Id": f"r{number}", "CreationTime": f"{NOW - timedelta(seconds=number + 9):%Y-%m-%dT%H:%M:%S}"}
            | {"Operation": "A", "UserId": user}
        ).encode()
        for number, user in enumerate(users)
    ]
    portion = Portion(TENANT, NOW, records, headers_of(records))
    Engine(load_good(tmp_path, *texts).rules, state).take([portion], number=1, now=NOW)
    state.close()

    forget_named(path, HERS)

    left = b"".join(one.read_bytes() for one in tmp_path.glob("detections.sqlite*"))
    assert b"anna@contoso" not in left.lower()
    assert find_named(path, HERS) == Forgotten(0, 0)


def test_as_much_is_said_to_go_before_as_after(tmp_path: Path) -> None:
    """What goes with its alert among it: that the alert is a sign of risk."""
    path = tmp_path / "detections.sqlite"
    text = rule_text({"s": {"Operation": "A"}, "condition": "s"}, level="medium")
    state = DetectionState(path, survives_power_cuts=False)
    engine = Engine((*load_good(tmp_path, text).rules, make_risk_rule()), state)
    engine.take([portion_of(*USERS)], number=1, now=NOW)
    state.close()

    before = find_named(path, HERS)

    assert before.matches > 1
    assert forget_named(path, HERS) == before


def test_what_is_left_of_a_group_that_is_the_person_is_found(path: Path) -> None:
    """A file set aside is searched for it, and not changed."""
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("INSERT INTO link VALUES ('gone', 'rule', ?, ?, 5)", (TENANT, USERS[0]))

    assert find_named(path, HERS).matches == 2


def test_a_period_bounds_what_goes(path: Path) -> None:
    """As it bounds the records."""
    later = Naming(HERS.names, low_ms=round(NOW.timestamp() * 1000))

    assert forget_named(path, later).alerts == 0
    assert len(users_in(path)) == 3


def test_where_there_are_no_detections_nothing_is_made(tmp_path: Path) -> None:
    """Nor searched."""
    assert forget_named(tmp_path / "detections.sqlite", HERS).alerts == 0
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_told(path: Path) -> None:
    """The erasure is not called done."""
    path.write_bytes(b"no database at all, and long enough to be none")

    with pytest.raises(OutputUnavailable, match="cannot be taken out of the file of detections"):
        forget_named(path, HERS)


def test_an_engine_goes_on_beside_it(path: Path, tmp_path: Path) -> None:
    """The numbers by which it knew the person's group are gone: what comes of her later gets others."""
    state = DetectionState(path, survives_power_cuts=False)
    engine = Engine(rules_in(tmp_path), state)
    engine.take([portion_of(*USERS, at="11:10:00")], number=2, now=NOW)
    forget_named(path, HERS)
    engine.take([portion_of(*USERS, at="11:20:00")], number=3, now=NOW)
    counts = sorted((kept.alert.entity("user"), kept.alert.count) for kept in state.alerts.list())
    state.close()

    assert counts == [(USERS[0], 1), (USERS[1], 3), (USERS[2], 3)]


def test_numbers_of_what_is_forgotten_go_with_it(path: Path, tmp_path: Path) -> None:
    """Names of people are among the groups."""
    state = DetectionState(path, survives_power_cuts=False)
    Engine(rules_in(tmp_path), state).look(now=NOW + timedelta(days=120))
    state.close()
    with closing(sqlite3.connect(path)) as file:
        left = file.execute("SELECT (SELECT count(*) FROM series), (SELECT count(*) FROM said)").fetchone()

    assert left == (0, 0)
