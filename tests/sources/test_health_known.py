"""What is new of a tenant's announcements, and the record that it becomes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from m365watch.common.model import TenantId
from m365watch.records.split import split_blob
from m365watch.sources.service_health.announcement_changes import Known, News, Told, find_news, known_of
from m365watch.sources.service_health.announcement_records import parse_instant
from m365watch.sources.service_health.service_health_client import Kind

TENANT = TenantId("11111111-1111-1111-1111-111111111111")
AT = datetime(2026, 11, 17, 9, tzinfo=UTC)
ALL = frozenset(Kind)
EXCHANGE = {"service": "Exchange Online", "status": "serviceOperational", "id": "Exchange"}
ISSUE = {
    "id": "EX1",
    "service": "Exchange Online",
    "status": "serviceDegradation",
    "feature": "Search",
    "featureGroup": "Mail",
    "isResolved": False,
    "lastModifiedDateTime": "2026-11-17T08:00:00.123Z",
    "title": "Search is slow",
}
POST = {
    "id": "MC1",
    "services": ["Exchange Online", "SharePoint Online"],
    "lastModifiedDateTime": "2026-11-01T08:00:00Z",
    "title": "A change",
    "severity": "normal",
}


def told(kind: Kind, *announced: object, is_whole: bool = True) -> Told:
    return Told(kind, [json.dumps(one).encode() for one in announced], is_whole)


def news(known: Known, *lots: Told, at: datetime = AT, **more: Any) -> News:
    return find_news(known, lots, tenant_id=TENANT, at=at, wanted=more.pop("wanted", ALL), **more)


def records_of(found: News) -> list[dict[str, Any]]:
    return [json.loads(record) for record in found.records]


def test_what_has_not_changed_is_no_news() -> None:
    """Whatever the order of its keys, and however often it is told; what is known survives the ledger."""
    first = news(Known(), told(Kind.ISSUES, ISSUE), told(Kind.OVERVIEWS, EXCHANGE), told(Kind.POSTS, POST))
    turned = [dict(reversed(one.items())) for one in (ISSUE, EXCHANGE, POST)]
    lots = [
        told(kind, one) for kind, one in zip((Kind.ISSUES, Kind.OVERVIEWS, Kind.POSTS), turned, strict=True)
    ]
    again = news(known_of(first.known.body()), *lots, at=AT + timedelta(hours=1))

    assert [one["Operation"] for one in records_of(first)] == [
        "ServiceMessage",
        "ServiceIssue",
        "ServiceStatus",
    ]
    assert again.records == []
    assert again.known == first.known


def test_a_service_that_flaps_is_told_each_time() -> None:
    """The same state later is another record: its time is when it was seen, and it is told apart by it."""
    known, seen = Known(), []
    for minutes, status in enumerate(["serviceOperational", "serviceDegradation", "serviceOperational"]):
        overview = told(Kind.OVERVIEWS, EXCHANGE | {"status": status})
        found = news(known, told(Kind.ISSUES), overview, at=AT + timedelta(minutes=minutes))
        known = found.known
        seen += [(one["Status"], one["StatusTime"]) for one in records_of(found)]

    assert seen == [
        ("ServiceOperational", "2026-11-17T09:00:00Z"),
        ("ServiceDegradation", "2026-11-17T09:01:00Z"),
        ("ServiceOperational", "2026-11-17T09:02:00Z"),
    ]


def test_an_issue_that_comes_or_goes_changes_its_service() -> None:
    """IncidentIds and FeatureStatus are part of a state; a look at what changed lately keeps the others."""
    first = news(Known(), told(Kind.ISSUES, ISSUE), told(Kind.OVERVIEWS, EXCHANGE))
    [state] = [one for one in records_of(first) if one["Operation"] == "ServiceStatus"]
    assert state["IncidentIds"] == ["EX1"]
    assert state["FeatureStatus"] == [
        {
            "FeatureName": "Search",
            "FeatureDisplayName": "Search",
            "FeatureGroup": "Mail",
            "FeatureServiceStatus": "ServiceDegradation",
            "FeatureServiceStatusDisplayName": "Service degradation",
        }
    ]

    still = news(first.known, told(Kind.ISSUES, is_whole=False), told(Kind.OVERVIEWS, EXCHANGE))
    assert still.records == []

    over = ISSUE | {"isResolved": True, "lastModifiedDateTime": "2026-11-17T10:00:00Z"}
    after = news(still.known, told(Kind.ISSUES, over, is_whole=False), told(Kind.OVERVIEWS, EXCHANGE))
    assert [(one["Operation"], one["IncidentIds"]) for one in records_of(after)] == [
        ("ServiceStatus", []),
        ("ServiceIssue", ["EX1"]),
    ]


def test_two_changes_of_one_second_are_two_records() -> None:
    """CreationTime keeps the fraction, for identities are made of it."""
    later = ISSUE | {"lastModifiedDateTime": "2026-11-17T08:00:00.9Z"}
    first = news(Known(), told(Kind.ISSUES, ISSUE))
    second = news(first.known, told(Kind.ISSUES, later))

    times = [one["CreationTime"] for found in (first, second) for one in records_of(found)]
    assert times == ["2026-11-17T08:00:00.123000", "2026-11-17T08:00:00.900000"]


def test_a_post_may_be_about_several_services() -> None:
    """It has a Workload where it is about one; Graph's own text is in each record, byte for byte."""
    one = POST | {"id": "MC2", "services": ["Exchange Online"]}
    found = news(Known(), told(Kind.ISSUES), told(Kind.OVERVIEWS, EXCHANGE), told(Kind.POSTS, POST, one))
    posts = {record["Id"]: record for record in records_of(found) if record["Operation"] == "ServiceMessage"}

    assert posts["MC1"]["Workload"] is None
    assert posts["MC1"]["AffectedWorkloadNames"] == ["Exchange", "SharePoint Online"]
    assert (posts["MC2"]["Workload"], posts["MC2"]["WorkloadDisplayName"]) == ("Exchange", "Exchange Online")
    assert posts["MC1"]["Announcement"] == POST
    [text] = [record for record in found.records if b'"MC2"' in record]
    assert json.dumps(one).encode() in text


def test_only_what_is_wanted_and_late_enough_becomes_a_record() -> None:
    """Issues are read for the overviews' sake, too; what was modified before the start time is known only."""
    lots = (told(Kind.ISSUES, ISSUE), told(Kind.OVERVIEWS, EXCHANGE), told(Kind.POSTS, POST))
    overviews = news(Known(), *lots, wanted=frozenset({Kind.OVERVIEWS}))
    late = news(Known(), *lots, start_at=AT - timedelta(hours=2))

    assert [one["Operation"] for one in records_of(overviews)] == ["ServiceStatus"]
    assert [one["Id"] for one in records_of(late)] == ["EX1", "Exchange"]
    assert news(late.known, *lots).records == []


def test_what_is_gone_and_comes_back_is_told_again() -> None:
    """A service that the tenant no longer has is forgotten at the next whole look."""
    first = news(Known(), told(Kind.ISSUES), told(Kind.OVERVIEWS, EXCHANGE))
    gone = news(first.known, told(Kind.ISSUES), told(Kind.OVERVIEWS))
    back = news(gone.known, told(Kind.ISSUES), told(Kind.OVERVIEWS, EXCHANGE), at=AT + timedelta(days=1))

    assert (len(gone.records), len(back.records)) == (0, 1)


@pytest.mark.parametrize(
    "odd",
    [
        b"7",
        b"null",
        b'"text"',
        b"[1]",
        b"{}",
        b'{"id":5,"service":[],"status":{}}',
        b'{"id":"\\ud800","service":"x"}',
        b'{"id":"A","service":{"a":1},"services":7,"lastModifiedDateTime":"never","isResolved":"no"}',
        b'{"id":"A","lastModifiedDateTime":"0001-01-01T00:00:00Z","status":"' + b"x" * 5_000 + b'"}',
        b"[" * 400 + b"]" * 400,
    ],
)
@pytest.mark.parametrize("kind", list(Kind))
def test_an_odd_announcement_goes_on_or_into_quarantine_once(kind: Kind, odd: bytes) -> None:
    """Whatever Graph says, it is neither lost nor in anybody's way, and no news the second time."""
    lots = [Told(kind, [odd, json.dumps(EXCHANGE | {"lastModifiedDateTime": None}).encode()], is_whole=True)]
    first = find_news(Known(), lots, tenant_id=TENANT, at=AT, wanted=ALL)
    split = split_blob(b"[" + b",".join(first.records) + b"]", wide=True)

    assert len(split.records) + len(split.fragments) == 2
    assert find_news(first.known, lots, tenant_id=TENANT, at=AT, wanted=ALL).records == []
    assert known_of(first.known.body()) == first.known


def test_a_memory_that_cannot_be_read_is_none() -> None:
    """All of it is looked at again; identities keep issues and posts from arriving twice."""
    assert known_of("{") == known_of(None) == known_of("[]") == Known()


@pytest.mark.parametrize("said", [None, 7, "", "never", "2026-13-01T00:00:00Z", []])
def test_what_is_no_time_is_none(said: object) -> None:
    """Nothing is raised for it."""
    assert parse_instant(said) is None
