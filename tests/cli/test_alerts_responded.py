"""`m365watch alerts show` says what was done for the alert already, so that nobody starts anew at night."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from m365watch.detection.alerts.alert import AlertId
from m365watch.detection.alerts.stored_alert import KeptAlert
from m365watch.detection.store.detection_store import DetectionState
from m365watch.response.journal import FILE_NAME, Journal, Line
from test_alerts_commands import (
    FORWARD,
    _shell_of_its_own,  # noqa: F401 - for every test here
    answer,
    call,
    configuration,
)

AT = datetime(2026, 11, 17, 2, 0, tzinfo=UTC)
DISABLED = Line(
    "d1",
    AT,
    "bob",
    FORWARD.id,
    FORWARD.tenant,
    "begun",
    "disable_account",
    title="Disable the account ann@contoso.example",
    label="ann@contoso.example",
)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration whose collector has found one alert."""
    (tmp_path / "state").mkdir()
    with closing(DetectionState(tmp_path / "state" / "detections.sqlite")) as state:
        state.alerts.put(KeptAlert(FORWARD, shown=True))
    return configuration(tmp_path)


def write(config: Path, *lines: Line) -> None:
    for line in lines:
        Journal(config.parent / "state").write(line)


def test_an_alert_says_who_did_what_for_it_and_what_came_of_it(config: Path) -> None:
    """Of each deed its last word, the latest first; only `respond` told it."""
    rule = msgspec.structs.replace(
        DISABLED, deed="d2", at=AT + timedelta(hours=1), step="remove_inbox_rule", title="", label="..\x1b"
    )
    failed = msgspec.structs.replace(rule, outcome="failed", by="eve", error="HTTP 403")
    other = msgspec.structs.replace(DISABLED, deed="d3", alert="f" * 32, title="Disable somebody else")
    write(config, DISABLED, msgspec.structs.replace(DISABLED, outcome="done"), rule, failed, other)

    shown = " ".join(call(config, "show", "aaaa1111").stdout.split())
    told = answer(config, "show", "aaaa1111")["responses"]

    assert "responded remove_inbox_rule" in shown
    assert "failed, by eve, 2026-11-17 03:00" in shown
    assert "Disable the account ann@contoso.example: done, by bob, 2026-11-17 02:00" in shown
    assert shown.index("by eve") < shown.index("by bob")
    assert "somebody else" not in shown
    assert "\x1b" not in shown
    assert [(one["step"], one["outcome"], one["by"], one["error"]) for one in told] == [
        ("disable_account", "done", "bob", ""),
        ("remove_inbox_rule", "failed", "eve", "HTTP 403"),
    ]
    assert told[0]["at"] == "2026-11-17T02:00:00Z"


def test_what_was_done_under_an_id_that_the_alert_had_is_told(config: Path) -> None:
    """An alert that grew has another id by now."""
    grown = replace(FORWARD, formerly=(AlertId("0123" * 8),), id=AlertId("eeee" * 8))
    with closing(DetectionState(config.parent / "state" / "detections.sqlite")) as state:
        state.alerts.put(KeptAlert(grown, shown=True))
    write(config, msgspec.structs.replace(DISABLED, alert="0123" * 8, outcome="done"))

    assert "done, by bob" in " ".join(call(config, "show", "eeee").stdout.split())


def test_of_many_deeds_the_latest_are_shown(config: Path) -> None:
    """A page is read at a glance; all of them are in the plan and in --json."""
    every = [
        msgspec.structs.replace(DISABLED, deed=f"d{one}", at=AT + timedelta(minutes=one), outcome="done")
        for one in range(9)
    ]
    write(config, *every)
    shown = call(config, "show", "aaaa1111").stdout

    assert shown.count("done, by bob") == 3
    assert "02:08" in shown
    assert "and 6 more" in shown
    assert len(answer(config, "show", "aaaa1111")["responses"]) == 9


def test_without_a_response_nothing_is_said_of_one(config: Path) -> None:
    assert "responded" not in call(config, "show", "aaaa1111").stdout
    assert answer(config, "show", "aaaa1111")["responses"] == []


def test_a_journal_that_cannot_be_read_is_told_in_one_line(config: Path) -> None:
    """It is its owner's alone, and the alert may be anybody's to read."""
    (config.parent / "state" / FILE_NAME).mkdir()
    for arguments in ((), ("--json",)):
        done = call(config, "show", "aaaa1111", *arguments)

        assert done.exit_code == 0
        assert "B01" in done.stdout
        [line] = done.stderr.splitlines()
        assert line.startswith("note: ")
        assert FILE_NAME in line
        assert "cannot be read: " in line
    assert '"responses": null' in done.stdout
