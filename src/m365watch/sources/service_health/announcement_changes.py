"""What a tenant's announcements were when they were last looked at, and what is new of them since; pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from m365watch.common.model import TenantId
from m365watch.sources.service_health.announcement_records import (
    Announced,
    condition_of,
    issue_record,
    overview_record,
    post_record,
    read_announced,
)
from m365watch.sources.service_health.service_health_client import Kind


class Known(msgspec.Struct):
    """What the ledger remembers of one tenant's announcements."""

    versions: dict[str, dict[str, str]] = {}
    """By kind and id: when it was last modified, or a digest of what it said."""
    open_issues: dict[str, str] = {}
    """By id, the text of each issue that is not resolved."""
    services: dict[str, str] = {}
    """The id of each service by its name."""
    newest: dict[str, str] = {}
    """By kind: the latest modification that was seen."""
    pending: list[str] = []
    """Content ids of blobs whose bodies are kept, and which the ledger may not know yet."""
    pending_us: int = 0
    """Their contentCreated, in microseconds since 1970; that of the last ones where there are none."""

    def body(self) -> str:
        """As JSON."""
        return msgspec.json.encode(self).decode()


def known_of(body: str | None) -> Known:
    """What `Known.body` made the text of; nothing known where there is none that can be read."""
    try:
        return Known() if body is None else msgspec.json.decode(body, type=Known)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Known()


@dataclass(frozen=True, slots=True)
class Told:
    """What was told of one kind."""

    kind: Kind
    texts: Sequence[bytes]
    is_whole: bool
    """Whether it is all that Graph has of the kind, so that what is missing is gone."""


@dataclass(frozen=True, slots=True)
class News:
    """What a look has found, and what is known after it."""

    records: list[bytes]
    known: Known


def find_news(
    known: Known,
    told: Iterable[Told],
    *,
    tenant_id: TenantId,
    at: datetime,
    wanted: frozenset[Kind],
    start_at: datetime | None = None,
) -> News:
    """The records of what has changed since `known`, oldest first.

    Overviews have no time of their own: one that stands otherwise than before is new as of `at`, and the open
    issues count as part of it. Of `told`, the issues have to stand before the overviews. Nothing that was
    last modified before `start_at` becomes a record.
    """
    after = Known(
        {kind: dict(versions) for kind, versions in known.versions.items()},
        dict(known.open_issues),
        dict(known.services),
        dict(known.newest),
        pending_us=known.pending_us,
    )
    found: list[tuple[datetime, bytes]] = []
    lots = [(one, [read_announced(one.kind, text) for text in one.texts]) for one in told]
    for one, announced in lots:
        if one.kind is Kind.OVERVIEWS:
            after.services = {str(a.fields["service"]): a.id for a in announced if a.fields.get("service")}
    for one, announced in lots:
        if one.kind is Kind.ISSUES:
            _follow_issues(after, announced, is_whole=one.is_whole)
        look = _Look(known, after, tenant_id, at)
        changed = look.changed(announced, one.kind, is_whole=one.is_whole)
        if one.kind in wanted:
            found += [(when, text) for when, text in changed if start_at is None or when >= start_at]
    return News([text for _, text in sorted(found, key=lambda pair: pair[0])], after)


@dataclass(frozen=True, slots=True)
class _Look:
    """One look at a tenant's announcements."""

    before: Known
    after: Known
    tenant_id: TenantId
    at: datetime

    def changed(
        self, announced: Sequence[Announced], kind: Kind, *, is_whole: bool
    ) -> list[tuple[datetime, bytes]]:
        """When each that differs from what was known came to do so, and its record."""
        had = self.before.versions.get(kind, {})
        versions: dict[str, str] = {} if is_whole else dict(had)
        found = []
        for one in announced:
            version = self._version(one)
            # What says no id is known by its text alone, and goes on as it came.
            name = one.id or f"?{_digest(one.text)}"
            if versions.get(name) != version and had.get(name) != version:
                found.append((one.modified_at or self.at, self._record(one) if one.id else one.text))
            versions[name] = version
        self.after.versions[kind] = versions
        newest = max((one.modified_at for one in announced if one.modified_at), default=None)
        if newest is not None:
            text = newest.isoformat()
            self.after.newest[kind] = max(text, self.after.newest.get(kind, ""), key=datetime_of)
        return found

    def _version(self, one: Announced) -> str:
        if one.kind is Kind.OVERVIEWS:
            return _digest(msgspec.json.encode(condition_of(one, _open(self.after))))
        said = one.fields.get("lastModifiedDateTime")
        return said if isinstance(said, str) and one.modified_at is not None else _digest(_in_order(one))

    def _record(self, one: Announced) -> bytes:
        if one.kind is Kind.OVERVIEWS:
            condition = condition_of(one, _open(self.after))
            return overview_record(one, condition, tenant_id=self.tenant_id, seen_at=self.at)
        make = issue_record if one.kind is Kind.ISSUES else post_record
        return make(one, self.after.services, tenant_id=self.tenant_id, seen_at=self.at)


def datetime_of(text: str) -> float:
    """The instant in `text`, of `Known.newest`, in seconds since 1970; 0 for none."""
    return datetime.fromisoformat(text).timestamp() if text else 0.0


def _follow_issues(after: Known, announced: Sequence[Announced], *, is_whole: bool) -> None:
    if is_whole:
        after.open_issues.clear()
    for one in announced:
        if one.fields.get("isResolved") is False and one.id:
            after.open_issues[one.id] = _outline(one.fields)
        else:
            after.open_issues.pop(one.id, None)


def _outline(fields: Mapping[str, object]) -> str:
    """What an overview needs to know of an open issue."""
    names = ("id", "service", "feature", "featureGroup", "status")
    return msgspec.json.encode({name: fields.get(name) for name in names}).decode()


def _open(known: Known) -> list[Announced]:
    return [read_announced(Kind.ISSUES, text.encode()) for text in known.open_issues.values()]


def _in_order(one: Announced) -> bytes:
    """The announcement with its keys in order, which is not stable from answer to answer."""
    return msgspec.json.encode(one.fields, order="sorted") if one.fields else one.text


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:24]
