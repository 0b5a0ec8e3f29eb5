"""What the simulated tenants have to be collected: every blob, every record, and the truth about both."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from random import Random
from uuid import UUID

from m365watch.common.model import ContentType, Feed, TenantId
from m365watch_testing.clock import START
from m365watch_testing.simulation.faults import OFTEN, Fault, Plan

TENANTS = (
    TenantId("3f0c1c52-0000-4000-8000-000000000001"),
    TenantId("3f0c1c52-0000-4000-8000-000000000002"),
)
SERVED = timedelta(days=7)
"""How far back content is listed, and how long most of it is served."""
ILLS_MAX = 7
"""Fetches of one blob that bring something else first."""
HUGE_BYTES = 2_000_000
_BLOBS = (8, 15, 25, 40)
_SHARE = 0.25


class Ill(StrEnum):
    """What a fetch may bring instead of the blob."""

    CUT = "a body cut short"
    HTML = "a web page"
    HTML_404 = "404 and a web page"
    OBJECT = "200 with an error object"
    UNKNOWN = "AF20050"
    INVALID = "AF20052"
    EMPTY = "no body"
    ERROR = "500"
    SHORT = "a body that breaks off"


_POISONS = tuple(ill for ill in Ill if ill is not Ill.CUT)
Key = tuple[str, str, str | None, str | None, int | None]
"""What makes two records the same: tenant, Id, CreationTime, Operation, RecordType."""


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a blob's array."""

    body: bytes
    key: Key | None = None
    """None for a record without Id, which is never a duplicate, and for what is no record."""
    is_record: bool = True


@dataclass(slots=True, eq=False)
class Content:
    """One blob: what a listing says of it, what it holds, and what became of it."""

    feed: Feed
    content_id: str
    created_at: datetime
    listed_at: datetime
    """From when on listings show it; long after `created_at` for late content."""
    expires_at: datetime
    elements: list[Element]
    ills: list[Ill] = field(default_factory=list)
    """What the first fetches bring instead."""
    garbage: bytes | None = None
    """The whole body, where it is no array of anything."""
    part_until: datetime | None = None
    """Until when a fetch brings only the second half of it, as a whole array."""
    marks: set[Fault] = field(default_factory=set)
    """What is odd about it."""
    cuts_served: int = 0
    failures_served: int = 0
    shown: int = 0
    """Pages that named it."""
    shown_at: datetime | None = None
    """When the last of them did while a ledger could write it down."""
    denied: bool = False
    """Whether a fetch was told, truly or by the collector's clock, that it has expired."""

    @property
    def records(self) -> list[Element]:
        """Those that a fetch of it surely brings: of a part only what is in the part."""
        begin = 0 if self.part_until is None else len(self.elements) // 2
        return [element for element in self.elements[begin:] if element.is_record]

    @property
    def is_quarantined(self) -> bool:
        """Whether nothing of it can go on."""
        return not self.records

    @property
    def is_sound(self) -> bool:
        """Whether nobody can doubt a whole body of it."""
        return bool(self.elements) and all(element.is_record for element in self.elements)

    def body(self, now: datetime) -> bytes:
        """The whole answer to a fetch."""
        if self.garbage is not None:
            return self.garbage
        elements = self.elements
        if self.part_until is not None and now < self.part_until:
            elements = elements[len(elements) // 2 :]
        return b"[" + b",".join(element.body for element in elements) + b"]"


class Tenants:
    """Invents the content of all tenants."""

    def __init__(self, plan: Plan, random: Random) -> None:
        """`random` alone decides."""
        self._plan = plan
        self._random = random
        self._numbers = iter(range(1, 1_000_000))
        self._made: list[Element] = []
        self._marks: set[Fault] = set()
        """What has become odd about the content that is being invented."""
        self._big_bytes = plan.big_bytes
        tenants = TENANTS[: random.choice((1, 1, 1, 2))]
        types = list(ContentType)
        random.shuffle(types)
        self.feeds = [Feed(tenant, kind) for kind in types[: random.choice((2, 3))] for tenant in tenants]
        """The first is the ill one, where only one is."""
        second = int(random.uniform(0, max(plan.span_s / 2, 60.0)))
        # Often the second in which the first poll ends, because windows meet there.
        self._second = timedelta(seconds=second % 3 if second % 2 else second)

    def invent(self) -> list[Content]:
        """All content of the world's time, in no order."""
        found: list[Content] = []
        for _ in range(self._random.choice(_BLOBS)):
            feed = self._random.choice(self.feeds)
            self._marks = set()
            contents = self._contents(feed, found)
            for content in contents:
                content.marks |= self._marks
            found += contents
        return found

    def _is_on(self, fault: Fault, feed: Feed, share: float = _SHARE) -> bool:
        is_here = not self._plan.is_quiet or feed == self.feeds[0]
        is_on = fault in self._plan.faults and is_here and self._random.random() < share
        if is_on:
            self._marks.add(fault)
        return is_on

    def _contents(self, feed: Feed, others: list[Content]) -> list[Content]:
        created_at = self._created_at(feed)
        content = Content(
            feed=feed,
            content_id=f"{created_at:%Y%m%d%H%M%S%f}$n{next(self._numbers)}$audit${feed.content_type.name}",
            created_at=created_at,
            listed_at=self._listed_at(feed, created_at),
            expires_at=created_at + self._random.choice((SERVED, SERVED * 2)),
            elements=[self._record(feed) for _ in range(self._random.choice((1, 1, 2, 3, 6)))],
        )
        self._repeat(content)
        self._spoil(content)
        if self._is_on(Fault.SAME_CONTENT_ID, feed, 0.1):
            twin = next((one for one in others if one.feed == feed and one.garbage is None), None)
            if twin is not None and twin.part_until is None and twin.created_at != content.created_at:
                # One content, two instants: the service answers a fetch of either with the same body.
                return [self._again(twin, content.created_at)]
        if self._is_on(Fault.PARTIAL_BLOBS, feed, OFTEN) and content.garbage is None and not content.ills:
            return self._partial(content)
        return [content]

    def _again(self, twin: Content, created_at: datetime) -> Content:
        listed_at = max(twin.listed_at, created_at)
        elements = [element for element in twin.elements if element.key is not None or not element.is_record]
        twin.elements[:] = elements or [self._record(twin.feed)]
        return Content(
            twin.feed, twin.content_id, created_at, listed_at, created_at + SERVED * 2, twin.elements
        )

    def _partial(self, content: Content) -> list[Content]:
        """The same id twice: first for its younger part alone, then, created a little earlier, for all."""
        content.elements = [one for one in content.elements if one.key is not None]
        content.elements.append(self._record(content.feed))
        whole_at = max(content.listed_at, START) + timedelta(seconds=self._random.choice((5, 60, 100, 400)))
        part = Content(
            content.feed,
            content.content_id,
            content.created_at + timedelta(milliseconds=self._random.choice((1, 999, 5_000))),
            content.listed_at,
            content.expires_at,
            content.elements,
            part_until=whole_at,
        )
        content.listed_at = whole_at
        return [part, content]

    def _created_at(self, feed: Feed) -> datetime:
        span_s = self._plan.span_s
        if self._is_on(Fault.SAME_SECOND, feed, OFTEN):
            return START + self._second + timedelta(milliseconds=self._random.choice((0, 0, 1, 500, 999)))
        if self._is_on(Fault.EDGE, feed):
            return START - SERVED + timedelta(milliseconds=self._random.randint(-600_000, 4_000_000))
        if self._is_on(Fault.AWAY, feed):
            # While the collector has just gone: listed by nobody, if it stays away for too long.
            gone_s = self._plan.lives[0].lasts_s + self._random.uniform(60.0, 43_200.0)
            return START + timedelta(milliseconds=int(gone_s * 1000))
        at_s = self._random.choice(
            (
                self._random.uniform(-7_200.0, span_s),
                self._random.uniform(-600.0, span_s),
                self._random.uniform(-6.9 * 86_400, 0.0),
            )
        )
        return START + timedelta(milliseconds=int(at_s * 1000))

    def _listed_at(self, feed: Feed, created_at: datetime) -> datetime:
        if self._is_on(Fault.INCIDENT, feed):
            return created_at + timedelta(days=3, seconds=self._random.uniform(0, 7_200))
        if self._is_on(Fault.LATE, feed):
            return created_at + timedelta(seconds=10.0 ** self._random.uniform(0.0, 5.0))
        return created_at + timedelta(seconds=self._random.choice((0.0, 0.0, 0.5, 3.0)))

    def _record(self, feed: Feed) -> Element:
        number = next(self._numbers)
        created_at = START - timedelta(hours=1) + timedelta(seconds=number % 90)
        written: dict[str, object] = {
            "CreationTime": f"{created_at:%Y-%m-%dT%H:%M:%S}",
            "Id": str(UUID(int=number)),
            "Operation": self._random.choice(("MailItemsAccessed", "UserLoggedIn", "Ünïcode")),
            "OrganizationId": feed.tenant_id,
            "RecordType": self._random.choice((2, 15, 50)),
            "Workload": self._random.choice(("Exchange", "SharePoint", "AzureActiveDirectory")),
            "ObjectId": f"object {number}",
        }
        if self._is_on(Fault.ODD_RECORDS, feed):
            del written[self._random.choice(("Id", "CreationTime", "Operation", "RecordType"))]
        return self._keep(written, feed)

    def _keep(self, written: dict[str, object], feed: Feed) -> Element:
        body = json.dumps(written, ensure_ascii=self._random.random() < OFTEN).encode()
        element = Element(body, key_of(written, feed.tenant_id))
        self._made.append(element)
        return element

    def _repeat(self, content: Content) -> None:
        """Put records in that came before, as they were, in another order, or changed."""
        feed = content.feed
        known = [one for one in self._made if one.key is not None and one.key[0] == feed.tenant_id]
        if known and self._is_on(Fault.DUPLICATES, feed):
            old = self._random.choice(known)
            written = json.loads(old.body)
            names = list(written)
            self._random.shuffle(names)
            body = json.dumps({name: written[name] for name in names}).encode()
            content.elements.append(self._random.choice((old, Element(body, old.key))))
        if known and self._is_on(Fault.CHANGED_RECORDS, feed):
            written = json.loads(self._random.choice(known).body)
            written["ObjectId"] = "changed"
            if self._random.random() < OFTEN:
                written["Operation"] = f"Changed{next(self._numbers)}"
            content.elements.append(self._keep(written, feed))

    def _big_size(self) -> int:
        """The size of a large body; a huge one comes once and first, because it costs seconds."""
        if self._big_bytes > HUGE_BYTES:
            self._big_bytes, huge = HUGE_BYTES // 2, self._big_bytes
            return huge
        return self._random.choice((9_000, *[350_000] * 4, self._big_bytes))

    def _spoil(self, content: Content) -> None:
        feed, random = content.feed, self._random
        if self._is_on(Fault.POISON, feed):
            content.ills = [random.choice(_POISONS) for _ in range(random.randint(1, ILLS_MAX))]
        if self._is_on(Fault.CUT_BODIES, feed):
            content.ills = [Ill.CUT] * random.randint(1, 4) + content.ills[:2]
        if self._is_on(Fault.BIG, feed, 0.4):
            padded = json.loads(content.elements[0].body) | {"Padding": "x" * self._big_size()}
            content.elements[0] = self._keep(padded, feed)
        if not self._is_on(Fault.GARBAGE, feed):
            return
        if random.random() < OFTEN:
            content.garbage = random.choice((b"[]", b"this is no JSON", b"null", b"[42]", b'{"no":"record"}'))
            content.elements = []
            return
        content.elements.insert(0, Element(random.choice((b"42", b'"text"', b"null")), is_record=False))
        if random.random() < OFTEN:
            # Last, because it swallows what follows and lacks one of a record's fields.
            content.elements.append(Element(b'{"broken":}', is_record=False))


def key_of(written: dict[str, object], tenant_id: str) -> Key | None:
    """The identity of a record as the world sees it."""
    record_id = written.get("Id")
    if not record_id:
        return None
    created, operation, kind = (written.get(name) for name in ("CreationTime", "Operation", "RecordType"))
    return (
        tenant_id,
        str(record_id),
        None if created is None else str(created),
        None if operation is None else str(operation),
        kind if isinstance(kind, int) else None,
    )


def occurrences(contents: list[Content]) -> Counter[bytes]:
    """How often each record without Id is served: as often as it is to be delivered."""
    return Counter(element.body for content in contents for element in content.records if element.key is None)
