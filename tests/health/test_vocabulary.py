"""Schema drift: what was never seen before is counted and listed, told once, and never a failure."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from promises import guarantee

from m365watch.common.model import BlobRef, ContentType, Feed, TenantId
from m365watch.pipeline import schema_drift
from m365watch.pipeline.schema_drift import LEARNING, LOOKS, NOTICES_A_DAY, Kind, Vocabulary, known_names
from m365watch.records.split import split_blob

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
LATER = NOW + LEARNING
FEED = Feed(TenantId("8b1f6a70-3a0e-4c1b-9f43-8f6f7c2d3e10"), ContentType.EXCHANGE)


def note(
    words: Vocabulary, *records: dict[str, object], now: datetime = NOW, content_id: str = "a$b"
) -> list[str]:
    """Let a blob of `records` pass; what was told."""
    split = split_blob(json.dumps(records).encode(), wide=False)
    ref = BlobRef(FEED, content_id, now, now + timedelta(days=7))
    with structlog.testing.capture_logs() as told:
        words.note(ref, split.headers, split.records, now)
    return [str(line["event"]) for line in told if line.get("code") == schema_drift.CODE]


def record(record_type: object = 2, operation: str = "Send", **fields: object) -> dict[str, object]:
    return {"Id": "1", "RecordType": record_type, "Operation": operation, **fields}


def names(words: Vocabulary) -> set[tuple[Kind, str]]:
    return {(one.kind, one.name) for one in words}


def test_names_are_counted_by_record() -> None:
    """Record types and operations over all records, fields over those looked into."""
    words = Vocabulary(FEED.tenant_id)
    note(words, record(), record(), record(operation="MoveToDeletedItems"))
    counts = {one.name: one.count for one in words if one.kind is not Kind.FIELD}

    assert counts == {"2": 3, "Send": 2, "MoveToDeletedItems": 1}
    assert words.looks == 2
    assert (Kind.FIELD, "RecordType") in names(words)


def test_the_first_day_is_for_learning() -> None:
    """A first run meets everything for the first time and floods nobody."""
    words = Vocabulary(FEED.tenant_id)

    assert note(words, record(), record(9999, "Novel")) == []
    assert not any(one.is_new for one in words)


def test_what_comes_after_it_is_told_once() -> None:
    """One line for each new record type and operation, with its blob in the list."""
    words = Vocabulary(FEED.tenant_id)
    note(words, record())
    told = note(words, record(9999, "Novel"), now=LATER, content_id="x$y")
    again = note(words, record(9999, "Novel"), now=LATER)
    [novel] = [one for one in words if one.name == "Novel"]

    assert len(told) == 2
    assert all("never seen before (not documented)" in line for line in told)
    assert again == []
    assert (novel.is_new, novel.count, novel.content_id, novel.first_seen_at) == (True, 2, "x$y", LATER)


def test_a_field_that_appears_late_is_found() -> None:
    """Also in a pair that has been looked at often: one of its records is read every hour."""
    words = Vocabulary(FEED.tenant_id)
    for _ in range(LOOKS + 5):
        note(words, record())
    looks = words.looks
    note(words, record(Fresh=1), now=NOW + timedelta(minutes=30))
    early = names(words)
    note(words, record(Fresh=1), now=NOW + timedelta(hours=1))

    assert looks == LOOKS
    assert (Kind.FIELD, "Fresh") not in early
    assert (Kind.FIELD, "Fresh") in names(words)


def test_the_lines_of_a_day_are_bounded() -> None:
    """A tenant that invents operations gets some lines, the last of which says where the rest is."""
    words = Vocabulary(FEED.tenant_id)
    note(words, record())
    told = note(words, *(record(operation=f"op{number}") for number in range(100)), now=LATER)
    next_day = note(words, record(operation="another"), now=LATER + timedelta(days=1))

    assert len(told) == NOTICES_A_DAY
    assert "m365watch drift" in told[-1]
    assert len(next_day) == 1


@guarantee(9)
def test_the_vocabulary_is_bounded() -> None:
    """Names beyond the bound are counted as left out; memory and the ledger's body stop growing."""
    words = Vocabulary(FEED.tenant_id)
    for start in range(0, 2 * schema_drift.PAIRS_MAX, 1_000):
        note(words, *(record(operation=f"{number}" + "o" * 300) for number in range(start, start + 1_000)))

    assert len(list(words)) == schema_drift.NAMES_MAX
    assert words.left_out > 0
    assert len(words.body()) < 1_000_000
    kept = [len(one) for one in vars(words).values() if isinstance(one, dict)]
    assert sorted(kept) == [schema_drift.NAMES_MAX, schema_drift.PAIRS_MAX]


def test_it_is_the_same_after_a_restart() -> None:
    """What was seen stays seen: nothing is told again."""
    words = Vocabulary(FEED.tenant_id)
    note(words, record())
    again = Vocabulary.of_body(FEED.tenant_id, words.body())

    assert list(again) == list(words)
    assert (again.since, again.looks) == (words.since, words.looks)
    assert note(again, record(), now=LATER) == []


@pytest.mark.parametrize("body", [None, "", "[]", "{", '{"names": [[1]]}', '{"names": [], "since": "x"}'])
def test_a_body_of_others_is_an_empty_vocabulary(body: str | None) -> None:
    """Begun anew, with its own days of learning."""
    words = Vocabulary.of_body(FEED.tenant_id, body)

    assert (list(words), words.since) == ([], None)


@guarantee(9)
@pytest.mark.parametrize(
    "odd",
    [
        record(None, "Send"),
        record("ExchangeItem", ""),
        {"Id": "1"},
        record(operation="\u202e\x1b[31mred"),
        record() | {"k" * 5000: 1},
    ],
)
def test_no_record_is_too_odd(odd: dict[str, object]) -> None:
    """Whatever a record says, it passes, and lines stay printable."""
    words = Vocabulary(FEED.tenant_id)
    note(words, record())

    assert all(line.isprintable() for line in note(words, odd, now=LATER))
    assert all(len(one.name) <= schema_drift.NAME_LENGTH_MAX for one in words)


def test_known_names_are_told_from_others() -> None:
    """A record type by number or name, an operation by its list or as a cmdlet, a field by its list."""
    known = known_names()

    assert known.has(Kind.RECORD_TYPE, "2")
    assert known.has(Kind.RECORD_TYPE, "ExchangeItem")
    assert known.has(Kind.OPERATION, "UserLoggedIn")
    assert known.has(Kind.OPERATION, "New-InboxRule")
    assert known.has(Kind.FIELD, "CreationTime")
    assert known.has(Kind.OPERATION, "AnonymousLinkUsed")
    for name in ("FileAccessedExtended", "AddFolderPermissions", "FolderBind", "SearchExportDownloaded"):
        assert known.has(Kind.OPERATION, name), "Purview's page of audited activities has it"
    for name in ("Add service principal credentials.", "TeamsTenantSettingChanged", "QuarantineRelease"):
        assert known.has(Kind.OPERATION, name)
    assert not known.has(Kind.RECORD_TYPE, "99999")
    assert not known.has(Kind.OPERATION, "Novel")
    assert not known.has(Kind.FIELD, "Fresh")
