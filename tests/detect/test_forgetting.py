"""A person goes out of the file of detections, and nothing else does."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from m365watch.detect.engine import Engine
from m365watch.detect.forgetting import Naming, find_named, forget_named
from m365watch.detect.portions import Portion
from m365watch.detect.state import DetectionState
from m365watch.errors import OutputUnavailable
from m365watch.records.headers import headers_of
from rules import TENANT, load_good, rule_text

NOW = datetime(2026, 11, 17, 12, tzinfo=UTC)
HERS = Naming(lambda text: b"anna@" in text.lower())
USERS = ("Anna@contoso.example", "bob@contoso.example", "carl@contoso.example")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with a record and an alert of each user."""
    rules = load_good(tmp_path, rule_text({"s": {"Operation": "A"}, "condition": "s"})).rules
    path = tmp_path / "detections.sqlite"
    state = DetectionState(path, survives_power_cuts=False)
    records = [
        json.dumps(
            {"Id": name, "CreationTime": "2026-11-17T11:00:00", "Operation": "A", "UserId": name}
        ).encode()
        for name in USERS
    ]
    Engine(rules, state).take([Portion(TENANT, NOW, records, headers_of(records))], number=1, now=NOW)
    with state.transaction():
        state.lake_due.forget(until=state.lake_due.newest())
    state.close()
    return path


def users_in(path: Path) -> list[str]:
    state = DetectionState(path)
    found = sorted(kept.alert.entity("user") for kept in state.list_alerts())
    state.close()
    return found


def test_what_names_the_person_goes_and_the_lake_is_due(path: Path) -> None:
    """Alert, match and what waits to be told of it; the others stay."""
    assert (find_named(path, HERS).alerts, find_named(path, HERS).matches) == (1, 1)

    told = forget_named(path, HERS)

    assert (told.alerts, told.matches) == (1, 1)
    assert users_in(path) == list(USERS[1:])
    assert find_named(path, HERS) == forget_named(path, HERS)
    state = DetectionState(path)
    assert [one.alert.entity("user") for one in state.outbox.list_waiting()] == list(USERS[1:])
    assert [one.kept for one in state.lake_due.list(after=0, most=9)] == [None]
    state.close()


def test_nothing_of_the_person_is_left_in_the_file(path: Path) -> None:
    """What is deleted is written over, in the file and in its log."""
    forget_named(path, HERS)

    kept = b"".join(one.read_bytes() for one in path.parent.glob("detections.sqlite*"))
    assert b"bob@contoso" in kept
    assert b"anna@contoso" not in kept.lower()


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
