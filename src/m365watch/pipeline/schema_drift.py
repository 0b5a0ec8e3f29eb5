"""Names that records are known to use: record types, operations, fields at the top of a record."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
import structlog

from m365watch.common.model import BlobRef, Header, TenantId


class Kind(StrEnum):
    """What a name is the name of."""

    RECORD_TYPE = "record_type"
    OPERATION = "operation"
    FIELD = "field"
    """A key at the top of a record."""


@dataclass(slots=True)
class Sighting:
    """What was seen of one name in one tenant."""

    kind: Kind
    name: str
    first_seen_at: datetime
    content_id: str
    """The blob that brought it first."""
    is_new: bool
    """Whether it came after the days of learning, when the tenant's vocabulary was thought known."""
    count: int = 0
    """Records that have it; of a field, records among those that were looked at."""


_CMDLET = re.compile(r"[A-Z][A-Za-z]+-[A-Z]\w*", re.ASCII)
"""An operation of Exchange's and Purview's administration: a cmdlet, of which there is no list."""


@dataclass(frozen=True, slots=True)
class KnownNames:
    """What Microsoft documents, and what published records use besides."""

    record_types: dict[str, str]
    """Name by number, as text."""
    operations: frozenset[str]
    fields: frozenset[str]

    def has(self, kind: Kind, name: str) -> bool:
        """Whether `name` is known; a record type is, by its number or its name."""
        match kind:
            case Kind.RECORD_TYPE:
                return name in self.record_types or name in self.record_types.values()
            case Kind.OPERATION:
                return name in self.operations or _CMDLET.fullmatch(name) is not None
            case Kind.FIELD:
                return name in self.fields


@cache
def known_names() -> KnownNames:
    """The names of the packaged list, read once.

    Source: Management Activity API schema (record types, properties, SharePoint's operations), Purview's
    "Audit log activities" with the pages of eDiscovery and Teams that it refers to, which name operations
    that the schema does not, and published audit records.
    """
    said = msgspec.json.decode(Path(__file__).with_name("known_names.json").read_bytes())
    return KnownNames(
        record_types={str(number): name for number, name in said["record_types"]},
        operations=frozenset(said["operations"]),
        fields=frozenset(said["fields"]),
    )


_log = structlog.get_logger(__name__)

MEMORY = "vocabulary/"
"""What the ledger remembers a tenant's vocabulary under, with the tenant's id behind it."""
NAMES_MAX = 3_000
"""Names kept of one tenant; further ones are only counted as `left_out`."""
PAIRS_MAX = 6_000
"""Pairs of record type and operation whose looks are counted, in one tenant."""
NAME_LENGTH_MAX = 100
CONTENT_ID_LENGTH_MAX = 160
LOOKS = 8
"""Records of a pair whose fields are read as they come; after them one an hour is."""
LOOKS_PER_BLOB = 2
LOOK_AGAIN = timedelta(hours=1)
FIELDS_READ_MAX = 500
"""Fields of one record that are looked at."""
LEARNING = timedelta(days=1)
"""How long after the first record of a tenant nothing is news: everything is new then."""
NOTICES_A_DAY = 20
"""Lines about news of one tenant in a day; `m365watch drift` lists the rest."""
CODE = "schema_drift"
"""The `code` of the line that tells a name seen for the first time."""

_PAIR = attrgetter("RecordType", "Operation")
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_Pair = tuple[int | str | None, str | None]


@dataclass(slots=True)
class _Known:
    """A pair that was met."""

    sightings: tuple[Sighting, ...]
    """Of its record type and of its operation, where they have one and there was room."""
    looks: int = 0
    looked_at: datetime | None = None

    def is_due(self, now: datetime) -> bool:
        """Whether a record of the pair should be looked at."""
        return self.looks < LOOKS or self.looked_at is None or now - self.looked_at >= LOOK_AGAIN


class Vocabulary:
    """The names of one tenant."""

    def __init__(self, tenant_id: TenantId) -> None:
        """Nothing seen yet."""
        self.tenant_id = tenant_id
        self.since: datetime | None = None
        """When the first record came."""
        self.left_out = 0
        """Names beyond `NAMES_MAX`, as often as they were met first in a pair or a look."""
        self.looks = 0
        """Records whose fields were read."""
        self.is_changed = False
        self._names: dict[tuple[Kind, str], Sighting] = {}
        self._pairs: dict[_Pair, _Known] = {}
        self._told_on: tuple[str, int] = ("", 0)

    def __iter__(self) -> Iterator[Sighting]:
        """Every name, the latest first sight first."""
        return iter(sorted(self._names.values(), key=lambda one: one.first_seen_at, reverse=True))

    def is_learning(self, now: datetime) -> bool:
        """Whether everything is still new."""
        return self.since is None or now < self.since + LEARNING

    def note(self, ref: BlobRef, headers: Sequence[Header], records: Sequence[bytes], now: datetime) -> None:
        """Count the names in one blob; a few of its records are looked into."""
        if not headers:
            return
        self.since = self.since or now
        due: list[_Pair] = []
        counts: dict[_Pair, int] = {}
        for header in headers:
            # A third less than a Counter of what an attrgetter gives.
            pair = header.RecordType, header.Operation
            counts[pair] = counts.get(pair, 0) + 1
        for pair, count in counts.items():
            known = self._pairs.get(pair) or self._meet(pair, ref, now)
            for sighting in known.sightings:
                sighting.count += count
            if len(due) < LOOKS_PER_BLOB and known.is_due(now):
                due.append(pair)
        for pair in due:
            self._look(pair, ref, headers, records, now=now)
        self.is_changed = True

    def _meet(self, pair: _Pair, ref: BlobRef, now: datetime) -> _Known:
        """A pair that is not among those known; kept where there is room."""
        named = zip((Kind.RECORD_TYPE, Kind.OPERATION), pair, strict=True)
        found = [self._see(kind, str(name), ref, now) for kind, name in named if name not in (None, "")]
        known = _Known(tuple(one for one in found if one is not None))
        if len(self._pairs) < PAIRS_MAX:
            self._pairs[pair] = known
        else:
            # Not to be looked into either: its looks could not be counted.
            known.looks, known.looked_at = LOOKS, now
        return known

    def _see(self, kind: Kind, name: str, ref: BlobRef, now: datetime) -> Sighting | None:
        """The name's sighting; None where there is no room for another."""
        name = name[:NAME_LENGTH_MAX]
        sighting = self._names.get((kind, name))
        if sighting is None:
            if len(self._names) >= NAMES_MAX:
                self.left_out += 1
                return None
            is_new = not self.is_learning(now)
            sighting = Sighting(kind, name, now, ref.content_id[:CONTENT_ID_LENGTH_MAX], is_new)
            self._names[kind, name] = sighting
            if is_new:
                self._tell(sighting, ref, now)
        return sighting

    def _look(
        self,
        pair: _Pair,
        ref: BlobRef,
        headers: Sequence[Header],
        records: Sequence[bytes],
        *,
        now: datetime,
    ) -> None:
        """Read the fields of the blob's first record of the pair."""
        known = self._pairs[pair]
        known.looks, known.looked_at = known.looks + 1, now
        place = next(place for place, header in enumerate(headers) if _PAIR(header) == pair)
        self.looks += 1
        for name in _fields_of(records[place]):
            sighting = self._see(Kind.FIELD, name, ref, now)
            if sighting is not None:
                sighting.count += 1

    def _tell(self, sighting: Sighting, ref: BlobRef, now: datetime) -> None:
        """One line for a record type or an operation that is new; a field is only listed."""
        day, told = f"{now:%Y-%m-%d}", 0
        if self._told_on[0] == day:
            told = self._told_on[1]
        if sighting.kind is Kind.FIELD or told >= NOTICES_A_DAY:
            return
        self._told_on = (day, told + 1)
        kind = sighting.kind.replace("_", " ")
        known = "documented" if known_names().has(sighting.kind, sighting.name) else "not documented"
        last = "" if told + 1 < NOTICES_A_DAY else "; no more such lines today: `m365watch drift` lists them"
        name = "".join(sign if sign.isprintable() else " " for sign in sighting.name)
        _log.warning(f"{ref.feed}: {kind} {name!r} was never seen before ({known}){last}", code=CODE)

    def body(self) -> str:
        """Everything but the pairs as JSON, for the ledger to remember."""
        rows = [
            [one.kind, one.name, int(one.first_seen_at.timestamp()), one.content_id, one.is_new, one.count]
            for one in self._names.values()
        ]
        since = None if self.since is None else self.since.timestamp()
        document = {"since": since, "left_out": self.left_out, "looks": self.looks, "names": rows}
        return msgspec.json.encode(document).decode("utf-8", "replace")

    @classmethod
    def of_body(cls, tenant_id: TenantId, body: str | None) -> Vocabulary:
        """What `body` says; an empty vocabulary for None, and for what another version wrote otherwise."""
        vocabulary = cls(tenant_id)
        try:
            said: dict[str, Any] = msgspec.json.decode(body or "{}")
            for kind, name, first_s, content_id, is_new, count in said.get("names", ())[:NAMES_MAX]:
                first_at = datetime.fromtimestamp(first_s, UTC)
                one = Sighting(Kind(kind), str(name), first_at, str(content_id), bool(is_new), int(count))
                vocabulary._names[one.kind, one.name] = one
            since_s = said.get("since")
            vocabulary.since = None if since_s is None else datetime.fromtimestamp(since_s, UTC)
            vocabulary.left_out, vocabulary.looks = int(said.get("left_out", 0)), int(said.get("looks", 0))
        except (msgspec.DecodeError, AttributeError, TypeError, ValueError, OverflowError, RecursionError):
            return cls(tenant_id)
        return vocabulary


def _fields_of(record: bytes) -> list[str]:
    """The keys at the top of `record`; none where a strict decoder refuses it."""
    try:
        fields = _OBJECT.decode(record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    return list(fields)[:FIELDS_READ_MAX]
