"""The values that travel through the house; none of them does anything.

One record's way: a `Window` of a `Feed` is listed, which gives `BlobRef`s; the ledger makes
each a `KnownBlob`; fetched and split, its records travel in a `BatchPart` of a `Batch` to
the outputs, each of which answers with a `Receipt`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NewType

import msgspec

TenantId = NewType("TenantId", str)
"""A tenant's GUID, in lower case."""

LOOK_BACK_MAX = timedelta(days=7)
"""How long the service keeps content, from contentCreated on."""

BlobKey = NewType("BlobKey", int)
"""The ledger's own number for a blob; never reused."""


class ContentType(StrEnum):
    """The five kinds of content that the service publishes."""

    AZURE_ACTIVE_DIRECTORY = "Audit.AzureActiveDirectory"
    EXCHANGE = "Audit.Exchange"
    SHAREPOINT = "Audit.SharePoint"
    GENERAL = "Audit.General"
    DLP = "DLP.All"


CONTENT_TYPES = {str(content_type).lower(): content_type for content_type in ContentType}
"""Each by its name in lower case: the service takes and gives it in any."""


class GraphContent(StrEnum):
    """What comes from Microsoft Graph in place of the Management Activity API."""

    SERVICE_HEALTH = "ServiceHealth.All"


FeedContent = ContentType | GraphContent
"""What a feed brings."""


def content_named(text: str) -> FeedContent:
    """What `str` made the text of.

    Raises: ValueError: nothing did.
    """
    return GraphContent(text) if text in _OF_GRAPH else ContentType(text)


_OF_GRAPH = frozenset(map(str, GraphContent))


class Service(StrEnum):
    """Devo's names for the switches of a tenant's configuration."""

    AZURE_ACTIVE_DIRECTORY = "azure_active_directory"
    EXCHANGE = "exchange"
    SHAREPOINT = "sharepoint"
    GENERAL_AUDIT = "general_audit"
    DLP = "dlp"
    URI_RETRY = "uri_retry"
    SERVICE_HEALTH = "service_health"

    @property
    def content_type(self) -> ContentType | None:
        """What the service collects of the Management Activity API; None where it collects nothing there."""
        return _CONTENT_TYPES.get(self)

    @property
    def content(self) -> FeedContent | None:
        """What the service collects; None for `uri_retry`, which collects nothing of its own."""
        return GraphContent.SERVICE_HEALTH if self is Service.SERVICE_HEALTH else self.content_type


_CONTENT_TYPES = {
    Service.AZURE_ACTIVE_DIRECTORY: ContentType.AZURE_ACTIVE_DIRECTORY,
    Service.EXCHANGE: ContentType.EXCHANGE,
    Service.SHAREPOINT: ContentType.SHAREPOINT,
    Service.GENERAL_AUDIT: ContentType.GENERAL,
    Service.DLP: ContentType.DLP,
}


@dataclass(frozen=True, slots=True)
class Feed:
    """One tenant's content of one type: the unit of progress and of failure."""

    tenant_id: TenantId
    content_type: FeedContent

    @property
    def audit_type(self) -> ContentType:
        """The type, of a feed that the Management Activity API lists.

        Raises: ValueError: it comes from Graph.
        """
        return ContentType(self.content_type)

    def __str__(self) -> str:
        """The form used in errors, logs and `status`: tenant/Audit.Exchange."""
        return f"{self.tenant_id}/{self.content_type}"


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A half-open span [start, end) of contentCreated, at most 24 h, aware UTC."""

    start: datetime
    end: datetime

    def __str__(self) -> str:
        """The form used in errors: 2026-11-17T09:00:00Z..2026-11-17T10:00:00Z."""
        return f"{self.start:%Y-%m-%dT%H:%M:%SZ}..{self.end:%Y-%m-%dT%H:%M:%SZ}"


@dataclass(frozen=True, slots=True)
class BlobRef:
    """One piece of content as a listing names it, before it is fetched.

    Its identity is (feed, content_id, created_at): the service has been seen to use one
    content id for different cuts of a blob (api-contract, fact 8), and fetching a cut twice
    costs a request, while missing one costs records.
    """

    feed: Feed
    content_id: str
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class KnownBlob:
    """A blob that the ledger knows and that has not reached its final state."""

    key: BlobKey
    ref: BlobRef
    attempts: int
    """Fetches that failed so far."""
    missing_outputs: frozenset[str]
    """The outputs that still lack its records; all of them unless one was slower at a crash."""
    listed_at: datetime | None = None
    """When a listing first showed it; None where that is not known any more (a failed round, a restart)."""


class BlobState(StrEnum):
    """Where a blob stands, in the ledger's numbers; exactly one of the three final ones is reached."""

    WAITING = "waiting"
    """To be fetched."""
    DELIVERED = "delivered"
    """Final: every output has its records."""
    QUARANTINED = "quarantined"
    """Final: nothing of it can go on."""
    LOST = "lost"
    """Final: no longer served."""
    QUEUED = "queued"
    """Fetched; what outputs still lack waits in their queues on disk."""
    LEFT_OUT = "left-out"
    """Fetched, but an output's queue was full; known again once there is room."""


class Header(msgspec.Struct, gc=False, kw_only=True):
    """The fields of a record that every record needs decoded: identity, route, and what kind it is of."""

    Id: str | None = None
    CreationTime: str | None = None
    Operation: str | None = None
    RecordType: int | str | None = None
    Workload: str | None = None
    UserType: int | str | None = None


class WideHeader(Header, gc=False, kw_only=True):
    """The fields that the lake keeps as typed columns; decoded only if an output asks for them."""

    UserId: str | None = None
    ResultStatus: str | None = None
    ErrorNumber: str | None = None
    ClientIP: str | None = None
    ActorIpAddress: str | None = None
    ClientIPAddress: str | None = None
    ObjectId: str | None = None
    SessionId: str | None = None
    ApplicationId: str | None = None
    AppId: str | None = None
    ClientAppId: str | None = None


@dataclass(slots=True)
class BatchPart:
    """What goes on of one blob after dedup: parallel lists, one place per record."""

    blob: BlobKey
    feed: Feed
    received_at: datetime
    records: list[bytes]
    """Each record's own bytes, verbatim, without a line break."""
    headers: list[Header]
    """`WideHeader`s where some output of the run has `needs_wide_headers`."""
    tables: list[str]
    """Devo's table of each record, for example cloud.office365.management.exchange."""
    missing_outputs: frozenset[str]
    """The outputs this part is for."""
    duplicates: int = 0
    """Records of the blob that were left out because they had been delivered before."""
    identities: list[bytes | None] = field(default_factory=list)
    """Each record's 16-byte identity; None for a record without Id."""
    pulling_id: int = 0
    """The pull cycle that brought the blob: its start in milliseconds since 1970 (`@devo_pulling_id`)."""
    environment: str | None = None
    """The input's `environment` (`@devo_environment`)."""

    def without(self, places: frozenset[int]) -> BatchPart:
        """The part without the records at `places`, which count as duplicates."""
        kept = [place for place in range(len(self.records)) if place not in places]
        return replace(
            self.at(kept), identities=[self.identities[place] for place in kept], duplicates=len(places)
        )

    def at(self, places: Sequence[int]) -> BatchPart:
        """The records at `places`, without their identities."""
        return replace(
            self,
            records=[self.records[place] for place in places],
            headers=[self.headers[place] for place in places],
            tables=[self.tables[place] for place in places],
            identities=[],
        )


@dataclass(slots=True)
class Batch:
    """Records that are handed to the outputs together and acknowledged together."""

    number: int
    """Grows by at least one from batch to batch, over restarts too."""
    parts: list[BatchPart]
    variants: dict[str, Batch] = field(default_factory=dict)
    """What outputs get in its place that hold some of its records already, by their names."""

    @property
    def record_count(self) -> int:
        """How many records the batch carries."""
        return sum(len(part.records) for part in self.parts)

    @property
    def size_bytes(self) -> int:
        """The sum of the records' lengths; counted anew each time, which looks at every record."""
        return sum(sum(map(len, part.records)) for part in self.parts)

    def for_output(self, name: str) -> Batch:
        """The batch as the output `name` is to see it: without the parts that it already has."""
        if name in self.variants:
            return self.variants[name].for_output(name)
        if all(name in part.missing_outputs for part in self.parts):
            return self
        return Batch(self.number, [part for part in self.parts if name in part.missing_outputs])


@dataclass(frozen=True, slots=True)
class RefusedRecord:
    """A record that an output will never take, and why; its neighbours are durable."""

    blob: BlobKey
    record: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """An output's word that a batch is durable there."""

    position: str = ""
    """What the output wants to be told at its next start (JSON of its own); the ledger keeps it."""
    refused: tuple[RefusedRecord, ...] = ()
