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

from m365watch.board.withholding import _INSTEAD
from m365watch.simulator.organisation import Organisation

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
