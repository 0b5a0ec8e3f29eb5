"""What the audit log queries of one tenant find: its records by CreationTime, each once.

Source: api-contract 6. That `auditData` has the record as the feed does is an assumption.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

import msgspec

from m365watch.common.model import ContentType
from m365watch_simulator.feed.blobs import Blob
from m365watch_simulator.feed.copies import identity, shuffled
from m365watch_simulator.feed.publication import Publication
from m365watch_simulator.service.scenario import Behaviour

_NEVER = datetime.min.replace(tzinfo=UTC)
_LATEST = timedelta(days=8)
"""How long after a record happened its blob may come out."""
_SHUFFLED_SHARE = 0.5
_OUTER = {
    "operation": "Operation",
    "organizationId": "OrganizationId",
    "userId": "UserKey",
    "service": "Workload",
    "objectId": "ObjectId",
    "userPrincipalName": "UserId",
    "clientIp": "ClientIP",
}
"""The fields beside `auditData`, and those of the record that they repeat."""


@dataclass(slots=True)
class Search:
    """One query."""

    query: str
    name: str
    start: datetime
    end: datetime
    looks: int = 0
    """How often somebody has asked how it stands."""
    found: list[bytes] | None = None
    """The elements of its answer; None before it has succeeded."""
    is_cut: bool = False


@dataclass(slots=True)
class Searches:
    """The queries of one tenant."""

    publication: Publication
    behaviour: Behaviour
    seed: str
    texts: set[bytes] = field(default_factory=set)
    """Texts with shuffled keys in which records were found."""
    _all: dict[str, Search] = field(default_factory=dict)
    _spans: dict[bytes, tuple[datetime, datetime]] = field(default_factory=dict)
    """From when to when the records of a payload are: most queries need no other look into most blobs."""

    def make(self, name: str, start: datetime, end: datetime) -> Search:
        """A query that has not started."""
        random = Random(f"{self.seed}/search/{len(self._all)}")
        query = str(UUID(int=random.getrandbits(128), version=4))
        self._all[query] = Search(query, name, start, end)
        return self._all[query]

    def get(self, query: str) -> Search | None:
        """The query; None where there is none of this id."""
        return self._all.get(query)

    def finish(self, search: Search, now: datetime) -> None:
        """Let the query find what it asks for. Takes a while: not for the event loop's thread."""
        elements = self._elements(search, now)
        most = self.behaviour.graph_records_max
        search.is_cut = most is not None and len(elements) > most
        search.found = elements[:most]

    def _elements(self, search: Search, now: datetime) -> list[bytes]:
        """The records of [start, end], oldest first, as Graph wraps them."""
        self.publication.make(search.start, min(now, search.end + _LATEST))
        found: dict[bytes, tuple[str, bytes]] = {}
        for content_type in ContentType:
            for blob in self.publication.blobs_from(content_type, search.start):
                if blob.created_at > search.end + _LATEST or blob.appears_at > now:
                    continue
                first, last = self._span(blob)
                if first > search.end or last < search.start:
                    continue
                for record in blob.records():
                    created = _created(record)
                    if search.start <= created <= search.end:
                        found.setdefault(identity(record) or record, (f"{created:%Y%m%d%H%M%S}", record))
        in_order = sorted(found.values(), key=lambda pair: pair[0])
        return [self._wrapped(record) for _, record in in_order]

    def _span(self, blob: Blob) -> tuple[datetime, datetime]:
        span = self._spans.get(blob.payload)
        if span is None:
            times = [_created(record) for record in blob.records()] or [_NEVER]
            span = self._spans[blob.payload] = min(times), max(times)
        return span

    def _wrapped(self, record: bytes) -> bytes:
        try:
            fields = msgspec.json.decode(record)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            fields = {}
        outer = {
            "@odata.type": "#microsoft.graph.security.auditLogRecord",
            "id": str(fields.get("Id", "")),
            "createdDateTime": f"{fields.get('CreationTime', '')}Z",
            "auditLogRecordType": str(fields.get("RecordType", "")),
            "administrativeUnits": [],
            **{name: fields.get(of) for name, of in _OUTER.items()},
        }
        text = self._respelt(record) if fields else record
        return msgspec.json.encode(outer)[:-1] + b',"auditData":' + text + b"}"

    def _respelt(self, record: bytes) -> bytes:
        """The record, at times with its keys in another order."""
        random = Random(f"{self.seed}/{record[:200]!r}")
        if random.random() >= _SHUFFLED_SHARE:
            return record
        text = shuffled(record, random)
        self.texts.add(text)
        return text


def page_of(found: Sequence[bytes], *, first: int, size: int) -> tuple[list[bytes], int | None]:
    """The elements from `first` on, at most `size`, and where the next page begins; None: there is none."""
    following = first + size
    return list(found[first:following]), following if following < len(found) else None


class _Times(msgspec.Struct):
    CreationTime: str = ""


def _created(record: bytes) -> datetime:
    try:
        text = msgspec.json.decode(record, type=_Times).CreationTime
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError):
        return _NEVER
