"""What the pages read out of a record's own text."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import duckdb
import pytest

from asking import view_of
from m365watch.board.access.redaction import _INSTEAD, EMPTIED
from m365watch.board.pages import exchange
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.sql.exchange_queries import COUNTS, FORWARDING, IS_FORWARDING
from m365watch.board.widgets.record_text import (
    Setting,
    change_words,
    field_of,
    named_in,
    settings_of,
    text_of,
    with_before,
)
from m365watch.board.widgets.widget_types import Grid
from m365watch.detection.fields.enrichment_context import Knowledge
from m365watch.records.headers import object_of


def set_to(value: str) -> list[Setting]:
    return settings_of({"Parameters": [{"Name": "Identity", "Value": "x"}, {"Name": "Mode", "Value": value}]})


def test_what_stood_there_is_what_the_last_change_set() -> None:
    """Of the same object and the same name, however many changes of others lie between."""
    newest, other, oldest = with_before(
        [("rule a", set_to("Enforce")), ("rule b", set_to("Audit")), ("rule a", set_to("Test"))]
    )

    assert change_words(newest) == "Mode: Test → Enforce"
    assert change_words(other) == "Mode: Audit"
    assert change_words(oldest, is_removed=True) == "removed; Mode: Test"


def test_a_record_that_says_what_stood_there_is_believed() -> None:
    """Its own old value counts, and not that of an earlier change."""
    said = settings_of({"ModifiedProperties": [{"Name": "Mode", "OldValue": "Off", "NewValue": "On"}]})

    [newest, _] = with_before([("rule a", said), ("rule a", set_to("Test"))])

    assert change_words(newest) == "Mode: Off → On"


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "[]",
        "7",
        '{"Parameters": 7}',
        '{"Parameters": [7, null, {"Name": null}]}',
        '{"Parameters": {"Name": "x"}}',
    ],
)
def test_a_record_of_another_shape_tells_nothing(raw: str) -> None:
    """Whoever writes such a record does not stop the page."""
    record = object_of(raw)

    assert settings_of(record) == []
    assert named_in(record, "Parameters") == {}
    assert field_of(record, "Parameters.Name.First", "Nothing") == ""


def test_every_value_is_one_short_text() -> None:
    """Lists, objects and long texts too."""
    assert text_of(["a", 1]) == "a, 1"
    assert text_of({"a": [None]}) == '{"a":[null]}'
    assert len(text_of("x" * 10_000)) == 241


@pytest.mark.parametrize(
    ("enabled", "granted", "marks"),
    [
        ("True", "no record kept", ["goes unrecorded"]),
        ("False", "recorded again", []),
        (EMPTIED, "not said", []),
        ("$null", "not said", []),
    ],
)
def test_whoever_is_no_more_recorded_is_named(enabled: str, granted: str, marks: list[str]) -> None:
    """It is a right to all that they may open, and let in is the account whose deeds leave no record.

    What is neither on nor off, or withheld, is not said to be one of them.
    """
    given = [{"Name": "Identity", "Value": "SVC@x"}, {"Name": "AuditBypassEnabled", "Value": enabled}]
    row = (0, "Set-MailboxAuditBypassAssociation", "ann@x", "", "ok", "", json.dumps({"Parameters": given}))

    told = exchange.right_told(view_of(), (*row, "tenant", "1"))

    assert [one.text for one in told.cells[3:6]] == ["svc@x", granted, "any mailbox"]
    assert [one.words for one in told.marks] == marks


def test_changes_of_microsoft_are_left_out(sources: Sources) -> None:
    """Forwarding that people set is shown once each, and nothing that user types 3 and 4 did."""
    view = view_of("range=30d")
    shape = asyncio.run(exchange.forwarding(view, sources))
    place = 1 + COUNTS.index(IS_FORWARDING)
    count = sum(row[place] for row in asyncio.run(sources.ask(view, COUNTS.query)))
    rows = asyncio.run(sources.ask(view, FORWARDING.newest))

    assert isinstance(shape, Grid)
    assert len(shape.rows) == len(rows) == count
    assert asyncio.run(sources.ask(view_of("range=30d&usertype=3"), FORWARDING.newest)) == []


def test_what_a_change_says_begins_with_what_matters() -> None:
    """What leads mail away first, a rule of Outlook's by what it does; what has stayed is left out."""
    action = {"ActionType": "ForwardToRecipientsAction", "Recipients": ["eve@evil.example"]}
    rule = json.dumps({"Name": "x", "Actions": [action]})
    properties = {"RuleOperation": "AddMailboxRule", "RuleName": "x", "ServerRule": rule}
    of_outlook = {"OperationProperties": [{"Name": name, "Value": one} for name, one in properties.items()]}
    settings = [Setting("Name", None, "x"), Setting("Mode", "On", "On"), Setting("ForwardTo", None, "eve")]

    assert change_words(settings_of(of_outlook)) == "Recipients: eve@evil.example; RuleName: x"
    assert change_words(settings) == "ForwardTo: eve; Name: x"
    assert change_words([Setting("Mode", "On", "On")]) == "Mode: On"


def changed(user: str, name: str, settings: dict[str, str], **more: str) -> dict[str, Any]:
    """A record of somebody's change, whose settings stand where its kind of operation has them."""
    kept_in = "OperationProperties" if name == "UpdateInboxRules" else "Parameters"
    pairs = [{"Name": one, "Value": value} for one, value in settings.items()]
    return {"UserId": f"{user}@contoso.example", "Operation": name, kept_in: pairs, "ObjectId": "", **more}


def told_of(*records: dict[str, Any], withheld: bool = False) -> list[str]:
    """What the page tells of each was set; `withheld` as somebody without sight of contents reads it."""
    given = [(one["ObjectId"], json.dumps(one)) for one in records]
    if withheld:
        sql = f"SELECT {_INSTEAD['object']}, {_INSTEAD['raw']} FROM (SELECT $1 AS object, $2 AS raw)"
        given = [row for one in given for row in duckdb.execute(sql, one).fetchall()]
    rows = [
        (-at, one["Operation"], one["UserId"], "192.0.2.7", "ok", *shown, "tenant", f"id-{at}")
        for at, (one, shown) in enumerate(zip(records, given, strict=True))
    ]
    return [one.cells[3].text for one in exchange.changes_told(view_of(), rows, Knowledge())]


def forwards(whom: str, **more: str) -> dict[str, str]:
    return {"ForwardTo": f"{whom}@evil.example", **more}


OWNER = "MailboxOwnerUPN"
RULES = {
    "outlook": [
        changed(who, "UpdateInboxRules", forwards(who, RuleName="."), **{OWNER: f"{who}@contoso.example"})
        for who in ("bob", "ann")
    ],
    "mailbox": [
        changed("admin", "Set-InboxRule", forwards(who, Identity="Rule1", Mailbox=who))
        for who in ("bob", "ann")
    ],
    "object": [
        changed("admin", "Set-InboxRule", forwards(who, Identity="Rule1"), ObjectId=f"x/{who}\\17")
        for who in ("bob", "ann")
    ],
    "user": [changed(who, "Set-InboxRule", forwards(who, Identity="Rule1")) for who in ("bob", "ann")],
}
"""The same name of a rule in two mailboxes, by what of the record says which mailbox it is."""


@pytest.mark.parametrize("said_by", RULES)
def test_one_persons_rule_is_not_what_anothers_was_before(said_by: str) -> None:
    """An attacker calls the rules of all victims the same; what was the mailbox's own before is told."""
    bob, ann = RULES[said_by]
    of_ann = json.loads(json.dumps(ann).replace("ann@evil", "eve@evil"))

    assert [one.partition(";")[0] for one in told_of(of_ann, bob, ann)] == [
        "ForwardTo: ann@evil.example → eve@evil.example",
        "ForwardTo: bob@evil.example",
        "ForwardTo: ann@evil.example",
    ]


def test_of_what_is_withheld_nothing_is_told_to_be_before() -> None:
    """Neither of a rule whose name is withheld nor of one whose mailbox is; of a named mailbox it is told."""
    set_two = [
        [changed("admin", "Set-TransportRule", forwards(one, Identity=one)) for one in ("bob", "ann")],
        [
            changed(one, "New-InboxRule", forwards(one, Name=one), ObjectId=f"x/{one}\\{one}")
            for one in ("bob", "ann")
        ],
        [
            changed("admin", "Set-InboxRule", forwards(one, Identity="17"), ObjectId=f"x/{one}\\17")
            for one in ("bob", "ann")
        ],
        [
            changed("admin", "Set-InboxRule", forwards(one, Identity="17", Mailbox=one))
            for one in ("bob", "ann")
        ],
    ]
    for records in set_two:
        assert "→" not in "".join(told_of(*records, withheld=True)), records

    on_one = [
        changed("admin", "Set-Mailbox", forwards(one, Identity="joe@x.example")) for one in ("bob", "ann")
    ]
    assert told_of(*on_one, withheld=True)[0] == "ForwardTo: ann@evil.example → bob@evil.example"


def test_of_what_is_not_named_nothing_is_told_to_be_before() -> None:
    """Two records that do not say what they changed need not be about the same."""
    assert told_of(*(changed("admin", "Set-RemoteDomain", forwards(one)) for one in ("bob", "ann"))) == [
        "ForwardTo: bob@evil.example",
        "ForwardTo: ann@evil.example",
    ]


def test_two_rules_that_an_administrator_made_in_a_mailbox_are_two() -> None:
    """By the names of the rules, which say more than whose they are."""
    made = [changed("admin", "New-InboxRule", forwards(one, Name=one, Mailbox="joe")) for one in ("b", "a")]

    assert "→" not in "".join(told_of(*made))


def test_a_forwarding_that_was_taken_away_is_told() -> None:
    """To every role; and one that is set anew is set, though it is the one of before."""
    values = ("smtp:eve@evil.example", "", "smtp:eve@evil.example")
    records = [
        changed(
            "ann", "Set-Mailbox", {"Identity": "bob@x.example", "ForwardingSmtpAddress": value, "Office": ""}
        )
        for value in values
    ]

    for is_withheld in (False, True):
        assert [one.partition(";")[0] for one in told_of(*records, withheld=is_withheld)] == [
            "ForwardingSmtpAddress: nothing → smtp:eve@evil.example",
            "ForwardingSmtpAddress: smtp:eve@evil.example → nothing",
            "ForwardingSmtpAddress: smtp:eve@evil.example",
        ]
