"""An announcement as a record, with the fields that Devo's table has for it. Pure.

Source: devo.md 3, the first columns of `cloud.office365.management`; their values are those of Office 365's
older Service Communications API (`CurrentStatus`), which these columns were made for. What Graph has beyond
them stands below `Announcement`, byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from m365watch.common.model import TenantId
from m365watch.sources.service_health.service_health_client import Kind

OPERATIONS = {Kind.OVERVIEWS: "ServiceStatus", Kind.ISSUES: "ServiceIssue", Kind.POSTS: "ServiceMessage"}
"""A record's Operation, by which the kinds are told apart."""
_NORMAL = "ServiceOperational"
_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_TEXT_MAX = 400


class Announced(NamedTuple):
    """One announcement as Graph says it."""

    kind: Kind
    text: bytes
    """Its own bytes."""
    fields: Mapping[str, Any]
    """Empty where it is no object."""

    @property
    def id(self) -> str:
        """Its id; empty where it has none that can be used."""
        return _text(self.fields.get("id"))

    @property
    def modified_at(self) -> datetime | None:
        """When it was last modified; None where it does not say."""
        return parse_instant(self.fields.get("lastModifiedDateTime"))


class Condition(NamedTuple):
    """How a service stands: what its overview says, and its open issues."""

    status: str
    incidents: list[str]
    features: list[dict[str, str]]


def read_announced(kind: Kind, text: bytes) -> Announced:
    """The announcement, whatever it is."""
    try:
        fields = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        fields = {}
    return Announced(kind, text, fields if isinstance(fields, dict) else {})


def parse_instant(said: object) -> datetime | None:
    """The instant that Graph writes, with or without a fraction; None where it is none."""
    try:
        instant = datetime.fromisoformat(said) if isinstance(said, str) else None
    except ValueError:
        return None
    if instant is None or instant.tzinfo is None:
        return instant and instant.replace(tzinfo=UTC)
    return instant.astimezone(UTC)


def condition_of(overview: Announced, open_issues: Iterable[Announced]) -> Condition:
    """How the overview's service stands, with those of the open issues that are about it."""
    service = _text(overview.fields.get("service"))
    about = [one for one in open_issues if one.fields.get("service") == service]
    about.sort(key=lambda one: one.id)
    features = [feature for one in about for feature in _features(one)]
    return Condition(
        _pascal(overview.fields.get("status")),
        [one.id for one in about],
        sorted(features, key=lambda one: (one["FeatureName"], one["FeatureServiceStatus"])),
    )


def overview_record(
    overview: Announced, condition: Condition, *, tenant_id: TenantId, seen_at: datetime
) -> bytes:
    """The record of a service that has come to stand so; `seen_at` is when that was first seen."""
    return _record(
        overview,
        tenant_id=tenant_id,
        created_at=seen_at,
        fields={
            "Workload": overview.id,
            "WorkloadDisplayName": _text(overview.fields.get("service")),
            "Status": condition.status,
            "StatusDisplayName": _display(condition.status),
            "StatusTime": f"{seen_at:%Y-%m-%dT%H:%M:%SZ}",
            "IncidentIds": condition.incidents,
            "FeatureStatus": condition.features,
        },
    )


def issue_record(
    issue: Announced, services: Mapping[str, str], *, tenant_id: TenantId, seen_at: datetime
) -> bytes:
    """The record of an issue; `services` has each service's id by its name.

    `seen_at` dates what says no time of its own.
    """
    modified_at, service = issue.modified_at or seen_at, _text(issue.fields.get("service"))
    status = _pascal(issue.fields.get("status"))
    return _record(
        issue,
        tenant_id=tenant_id,
        created_at=modified_at,
        fields={
            "Workload": services.get(service, service),
            "WorkloadDisplayName": service,
            "Status": status,
            "StatusDisplayName": _display(status),
            "StatusTime": _instant(modified_at),
            "IncidentIds": [issue.id],
            "FeatureStatus": _features(issue),
            "Title": _text(issue.fields.get("title")),
        },
    )


def post_record(
    post: Announced, services: Mapping[str, str], *, tenant_id: TenantId, seen_at: datetime
) -> bytes:
    """The record of a post of the message center, which may be about several services."""
    named = post.fields.get("services")
    names = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    ids = [services.get(name, name) for name in names]
    return _record(
        post,
        tenant_id=tenant_id,
        created_at=post.modified_at or seen_at,
        fields={
            "Workload": ids[0] if len(ids) == 1 else None,
            "WorkloadDisplayName": ", ".join(names),
            "AffectedWorkloadNames": ids,
            "StatusTime": _instant(post.modified_at or seen_at),
            "IncidentIds": [],
            "FeatureStatus": [],
            "Title": _text(post.fields.get("title")),
            "Severity": _text(post.fields.get("severity")),
        },
    )


def _record(
    announced: Announced, *, tenant_id: TenantId, created_at: datetime, fields: dict[str, object]
) -> bytes:
    """The record: what every record has, then `fields`, then Graph's own text."""
    head = {
        "Id": announced.id,
        "CreationTime": _instant(created_at).removesuffix("Z"),
        "Operation": OPERATIONS[announced.kind],
        "OrganizationId": tenant_id,
        **fields,
        "Announcement": msgspec.Raw(announced.text),
    }
    return msgspec.json.encode(head)


def _features(issue: Announced) -> list[dict[str, str]]:
    """The feature that an issue is about, in the shape of Devo's FeatureStatus; none where it names none."""
    name, status = _text(issue.fields.get("feature")), _pascal(issue.fields.get("status"))
    if not name:
        return []
    return [
        {
            "FeatureName": name,
            "FeatureDisplayName": name,
            "FeatureGroup": _text(issue.fields.get("featureGroup")),
            "FeatureServiceStatus": status,
            "FeatureServiceStatusDisplayName": _display(status),
        }
    ]


def _pascal(status: object) -> str:
    """Graph's status as the older API spelt it: its first letter is a capital."""
    text = _text(status)
    return text[:1].upper() + text[1:]


def _display(status: str) -> str:
    """A status in words, as the older API had them for a person: `Normal service`, `Service degradation`."""
    return "Normal service" if status == _NORMAL else _CAPITAL.sub(" ", status).capitalize()


def _instant(instant: datetime) -> str:
    """With a fraction where there is one: two changes of one second are two records."""
    return f"{instant.astimezone(UTC).replace(tzinfo=None).isoformat()}Z"


def _text(said: object) -> str:
    """A short text that can always be encoded; empty for what is none."""
    return said[:_TEXT_MAX].encode("utf-8", "replace").decode() if isinstance(said, str) else ""
