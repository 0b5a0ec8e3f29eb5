"""One record of each kind that there is, with names that somebody gave: none of them is left in it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import duckdb
import pytest
from promises import guarantee

from m365watch.board.access.redaction import _INSTEAD, EMPTIED
from m365watch_simulator.organization.organization import Organisation

START = datetime(2026, 11, 9, tzinfo=UTC)
MARK = "Zyxw"
"""What no record has by itself."""
_PLACE = re.compile(r"(https?://[^/]+/(?:(?:sites|teams|personal)/[^/]+/)?)(.+)")
_BELOW_SITES = re.compile(r"/(?:Shared|Documents|Lists|SitePages|Forms)\b")
_GIVEN = frozenset(
    {"subject", "sourcefilename", "filename", "itemname", "destinationfilename", "messagename", "path"}
    | {"appname", "artifactname", "datasetname", "reportname", "workspacename", "objectdisplayname"}
    | {"sourcerelativeurl", "destinationrelativeurl", "listtitle", "listname", "formname", "channelname"}
    | {"teamname", "name", "query", "querytext", "searchquery", "description", "comments", "attachments"}
)
"""Fields of which the value is a name or a text that somebody has chosen."""
_PAIRS = frozenset(
    {"Name", "Subject", "SubjectContainsWords", "BodyContainsWords", "MoveToFolder", "DisplayName"}
)
"""Settings of which the value is one."""


@cache
def one_of_each() -> dict[tuple[str, int, frozenset[str]], dict[str, Any]]:
    """Of a week, attacks included, the first record of each operation, type and set of fields."""
    found: dict[tuple[str, int, frozenset[str]], dict[str, Any]] = {}
    organisation = Organisation(3, "7a0c9d55-30d2-4d7a-8f6c-2f1f0a6f2e11", records_per_day=2_500)
    for one in organisation.records_between(START, START + timedelta(days=7)):
        record = json.loads(one.body)
        found.setdefault((record["Operation"], record["RecordType"], frozenset(record)), record)
    return found


def marked(value: Any, name: str = "") -> Any:
    """The value with each name and text in it that somebody has chosen marked; `name` is its field's."""
    match value:
        case {"Name": str(setting), **others} if {"Value", "NewValue"} & others.keys():
            return {"Name": setting} | {
                key: f"{MARK}{each}" if setting in _PAIRS else marked(each, str(key))
                for key, each in others.items()
            }
        case dict():
            return {key: marked(each, key.lower()) for key, each in value.items()}
        case list():
            return [marked(each, name) for each in value]
        case str() if (place := _PLACE.fullmatch(value)) is not None:
            return place[1] + "/".join(f"{MARK}{part}" for part in place[2].split("/"))
        case str() if name in _GIVEN:
            return f"{MARK}{value}"
    return value


def shown(column: str, values: Collection[str]) -> list[str]:
    """What is left of each for somebody without sight of contents."""
    rows = duckdb.execute(
        f"SELECT {_INSTEAD[column]} FROM (SELECT unnest($values) AS {column})", {"values": [*values]}
    ).fetchall()
    return [left for (left,) in rows]


def strings_in(value: Any, at: str = "") -> Iterator[tuple[str, str]]:
    """Every text in it, with where it stands."""
    match value:
        case dict():
            for key, each in value.items():
                yield from strings_in(each, f"{at}.{key}")
        case list():
            for each in value:
                yield from strings_in(each, at)
        case str():
            yield at, value


@guarantee(43)
def test_no_part_of_a_name_is_left_in_a_record_of_any_operation() -> None:
    """Under whatever field it stands, as deep as it may: Copilot names a file by its address as an id."""
    records = [json.dumps(marked(one)) for one in one_of_each().values()]
    told = shown("raw", records)
    left = {
        (operation, at, text)
        for (operation, *_), raw in zip(one_of_each(), told, strict=True)
        for at, text in strings_in(json.loads(raw))
        if MARK in text
    }

    assert len({operation for operation, *_ in one_of_each()}) > 160
    assert sum(MARK in one for one in records) > 100
    assert left == set()


@pytest.mark.parametrize("column", ["object", "recipient", "folder"])
def test_no_part_of_a_name_is_left_of_what_a_record_is_about(column: str) -> None:
    """Wherever the facts take it from."""
    texts = {text for one in one_of_each().values() for _, text in strings_in(marked(one)) if MARK in text}

    assert len(texts) > 100
    assert [left for left in shown(column, texts) if MARK in left] == []


def test_ids_of_mails_and_folders_stay() -> None:
    """Exchange's own tell nobody anything, and say which records are of one mail."""
    mails = [
        one for (operation, *_), one in one_of_each().items() if operation in {"MailItemsAccessed", "Send"}
    ]
    raws = shown("raw", [json.dumps(one) for one in mails])
    ids = [
        {text for at, text in strings_in(each) if at.endswith(".Id")}
        for each in (*mails, *map(json.loads, raws))
    ]

    assert {one[:6] for each in ids for one in each} >= {"RgAAAA", "LgAAAA"}
    assert ids[: len(mails)] == ids[len(mails) :]


def told_of(record: dict[str, Any]) -> Any:
    """What is left of the record's own text."""
    (raw,) = shown("raw", [json.dumps(record)])
    return json.loads(raw)


LIKE_IDS = (
    *("Decade", "Cafe", "salary-ann@boss.docx", "4111111111111111", "2027-11-09T08:00:00", "true"),
    *("192.0.2.7", "11111111-1111-4111-8111-111111111111", "", 'a"b', "Fac\u00e9"),
)
"""Names and texts that could be ids, addresses, numbers, instants or switches."""


@guarantee(43)
@pytest.mark.parametrize(
    "name", ["Subject", "SourceFileName", "FileName", "Path", "subject", "ItemName", "Name"]
)
def test_what_is_always_contents_is_withheld_whatever_it_looks_like(name: str) -> None:
    """A subject may be a word of the letters A to F, and a file be called like an address of mail."""
    for text in LIKE_IDS:
        record = {name: text, "Item": {"Deeper": [{name: text, "UserId": "ann@contoso.example"}]}}

        assert told_of(record) == {
            name: EMPTIED,
            "Item": {"Deeper": [{name: EMPTIED, "UserId": "ann@contoso.example"}]},
        }


def test_a_word_of_the_first_letters_is_no_address() -> None:
    """Under a name that nobody knows, in a list and as what a record is about."""
    words = ["Decade", "Cafe", "Bad:Dad", "defaced", "facade."]

    assert told_of({"Unknown": words[0], "List": words}) == {
        "Unknown": EMPTIED,
        "List": [EMPTIED] * len(words),
    }
    assert shown("object", words) == shown("recipient", words) == [EMPTIED] * len(words)


@pytest.mark.parametrize(
    "kept",
    [
        *(
            "192.0.2.7",
            "192.0.2.7:443",
            "2603:10a6:208:154:cafe::e",
            "[2001:db8::1]:443",
            "::1",
            "42",
            "-1.5",
        ),
        *("ann.o%b+c@contoso.example", "11111111-1111-4111-8111-111111111111", "True"),
        *("2026-11-09T08:00:00Z", "00:01:30", "16.0.18925.20158", "10032000A1B2C3D4", "a" * 40),
    ],
)
def test_addresses_numbers_and_ids_stay(kept: str) -> None:
    """Under whatever other name they stand, and in lists."""
    record = {"Unknown": kept, "List": [kept, {"Deeper": kept}]}

    assert told_of(record) == record


@guarantee(43)
@pytest.mark.parametrize("field", ["DetectedValues", "detectedValues", "Attachments", "ItemNames"])
def test_nothing_of_a_list_of_contents_is_left(field: str) -> None:
    """It says so, too. What a rule found names a pair, what stood around it is the value."""
    found: list[Any] = [
        {"Name": "Hunter2secret", "Value": 'a ]} \\ "Hunter2secret" ok'},
        {"Name": "4111111111111111", "Value": "ann@contoso.example", "More": [{"Deeper": ["Hunter2secret"]}]},
        *("Hunter2secret", "4111111111111111", ["Hunter2secret", {"ForwardTo": "4111111111111111"}]),
    ]
    detected = {"Detections": {field: found, "ResultsTruncated": False}, "Count": 2}
    left = told_of({"PolicyDetails": [{"Rules": [{"RuleName": "Cards few", "Matched": [detected]}]}]})

    assert left == {
        "PolicyDetails": [
            {
                "Rules": [
                    {
                        "RuleName": "Cards few",
                        "Matched": [{"Detections": {field: EMPTIED, "ResultsTruncated": False}, "Count": 2}],
                    }
                ]
            }
        ]
    }


def test_of_settings_stay_those_that_are_known_to_be_none() -> None:
    """Whom a setting is for, unless it is a rule's name, and whether it is on; what it was before, too."""
    pairs = [
        {"Name": "Identity", "Value": "bob@contoso.example"},
        {"Name": "AuditBypassEnabled", "Value": "True"},
        {"Name": "Role.DisplayName", "NewValue": "Global Reader", "OldValue": "Message Center Reader"},
        {"Name": "AccountEnabled", "NewValue": EMPTIED, "OldValue": "[]"},
    ]
    rule = {"Name": "Identity", "Value": "bob\\Forward budget"}
    words = {"Name": "SubjectContainsWords", "Value": "4111", "OldValue": "4112"}
    turned = {"Value": "4111", "Name": "SubjectContainsWords"}

    assert told_of({"Parameters": [*pairs, rule, words, turned]})["Parameters"] == [
        *pairs,
        {"Name": "Identity", "Value": EMPTIED},
        {"Name": "SubjectContainsWords", "Value": EMPTIED, "OldValue": EMPTIED},
        {"Value": EMPTIED, "Name": EMPTIED},
    ]


def test_a_shown_setting_that_says_nothing_is_not_withheld() -> None:
    """A forwarding that was taken away does not read as one; whether contents are there is not told."""
    taken: list[dict[str, str | None]] = [
        {"Name": "ForwardingSmtpAddress", "Value": ""},
        {"Name": "Role.DisplayName", "NewValue": "", "OldValue": "Global Reader"},
        {"Name": "Role.TemplateId", "NewValue": None, "OldValue": "Global Reader"},
    ]
    left = told_of(
        {"Parameters": [*taken, {"Name": "ForwardTo", "Value": ["a b"]}, {"Name": "x", "Value": ""}]}
    )

    assert left["Parameters"] == [
        *({name: value or None for name, value in one.items()} for one in taken),
        {"Name": EMPTIED, "Value": EMPTIED},
        {"Name": "x", "Value": EMPTIED},
    ]
