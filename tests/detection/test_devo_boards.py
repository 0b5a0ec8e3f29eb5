"""The panels of the Exchange board for Devo: LINQ, and what each finds."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from linq_run import World, rows_of
from linq_syntax import parse
from m365watch.detection.export.linq.activeboard import BARS, TABLE, TIME, Panel, exchange_board
from m365watch.detection.fields.enrichment_context import NOTHING_KNOWN

BOARD = {panel.name: panel for panel in exchange_board(NOTHING_KNOWN)}
AT = datetime(2026, 11, 2, 9, tzinfo=UTC)
PERSON: dict[str, Any] = {
    "CreationTime": "2026-11-02T09:00:00",
    "RecordType": 2,
    "UserType": 0,
    "UserId": "ann@contoso.example",
    "ClientIPAddress": "203.0.113.7",
    "MailboxOwnerUPN": "bob@contoso.example",
    "LogonType": 0,
    "LogonUserSid": "S-1-5-21-1",
    "MailboxOwnerSid": "S-1-5-21-2",
}


def found(name: str, *records: dict[str, Any]) -> list[dict[str, Any]]:
    """What the panel shows of the records."""
    rows = []
    for number, one in enumerate(records):
        record = {"Id": f"record-{number}", **PERSON, **one}
        columns = {"Operation": record["Operation"], "Workload": "Exchange", "UserId": record["UserId"]}
        rows.append({"eventdate": AT, "message": json.dumps(record), **columns})
    return rows_of(parse(BOARD[name].query), rows, World(AT, lambda _: None))


def parameters(**values: str) -> list[dict[str, str]]:
    return [{"Name": name, "Value": value} for name, value in values.items()]


@pytest.mark.parametrize("panel", BOARD.values(), ids=lambda panel: str(panel.name))
def test_a_panel_is_linq_and_counts_each_record_once(panel: Panel) -> None:
    """Lines over time have periods, and nothing else has."""
    query = parse(panel.query)

    assert panel.chart in (TIME, TABLE, BARS)
    assert "sizedistinct(m365_Id) as m365_records" in panel.query
    assert ("eventdate" in query.columns) == (panel.chart == TIME)


def test_a_record_that_came_twice_counts_once() -> None:
    """The wire to Devo may bring one again after a break."""
    [row] = found(
        "hard_deletes", {"Operation": "HardDelete", "Id": "x"}, {"Operation": "HardDelete", "Id": "x"}
    )

    assert (row["m365_UserId"], row["m365_records"]) == ("ann@contoso.example", 1)


def test_the_owner_is_no_stranger_in_the_own_mailbox() -> None:
    """Delegates and administrators are, and Microsoft's own services are left out."""
    delegate = {"Operation": "FolderBind", "LogonType": 2}
    owner = {"Operation": "FolderBind", "LogonType": 0}
    same = {**delegate, "LogonUserSid": "S-1-5-21-2"}
    service = {**delegate, "UserType": 3}

    [row] = found("non_owner_access", delegate, owner, same, service)
    assert (row["m365_records"], row["m365_MailboxOwnerUPN"]) == (1, "bob@contoso.example")
    assert row["shown_ip"] == "203.0.113.7"


def test_access_from_outside_is_that_of_people() -> None:
    """Nearly all records with ExternalAccess are of Microsoft's own services."""
    [row] = found(
        "external_access",
        {"Operation": "Set-Mailbox", "ExternalAccess": True, "UserType": 2},
        {"Operation": "Set-Mailbox", "ExternalAccess": True, "UserType": 3},
        {"Operation": "Set-Mailbox", "ExternalAccess": False, "UserType": 2},
    )

    assert row["m365_records"] == 1


def test_a_rule_is_shown_with_what_it_does() -> None:
    """Where mail goes, and what it looks for."""
    rule = {
        "Operation": "New-InboxRule",
        "Parameters": parameters(Name="news", ForwardTo='"Eve" <eve@evil.example>', DeleteMessage="True"),
    }
    [row] = found("inbox_rules", rule, {"Operation": "Set-Mailbox", "Parameters": []})

    assert row["m365_Parameters_Name"] == "news"
    assert row["shown_Parameters_ForwardTo"] == '"Eve" <eve@evil.example>'
    assert row["shown_Parameters_DeleteMessage"] == "True"


def test_reading_is_counted_in_mails() -> None:
    """One record tells of several mails; throttled ones and masses have a panel of their own."""
    few = {"Operation": "MailItemsAccessed", "OperationCount": 3, "AppId": "app-1"}
    many = {"Operation": "MailItemsAccessed", "OperationCount": 120, "AppId": "app-1"}
    throttled = {**few, "OperationProperties": parameters(IsThrottled="True")}

    [row] = found("mail_read_by_app", few, many)
    assert (row["m365_app"], row["m365_sum_OperationCount"]) == ("app-1", 123.0)
    [row] = found("mail_read_in_masses", few, many, throttled)
    assert row["m365_records"] == 2


def test_sign_ins_to_mailboxes_are_a_line() -> None:
    """By the kind of sign-in: owner, administrator, delegate."""
    rows = found(
        "mailbox_logins", {"Operation": "MailboxLogin"}, {"Operation": "MailboxLogin", "LogonType": 2}
    )

    assert sorted(row["m365_LogonType"] for row in rows) == ["0", "2"]
