"""What the matches of records that are alike have in common; a record's own are its id and its time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b

import msgspec

from m365watch.detect.alert import Match, clean_text
from m365watch.detect.extension import Severity
from m365watch.detect.fields import View
from m365watch.detect.uses import Use, counted_value, groups_of, kept_values

SIGHTINGS_MAX = 200_000
"""Keys whose first sightings are remembered beside those on disk."""
DRAWN_WEIGHT = 16
"""What the stencils of a record weigh, beside a remembered value."""


class Stencil(msgspec.Struct, frozen=True, gc=False):
    """A match but for the record's id and its time."""

    rule_id: str
    source_id: str
    tenant: str
    group: tuple[str, ...]
    severity: Severity
    values: dict[str, str]
    written: bytes
    counted: str
    bucket_ms: int
    """The stretch of time of which the first match is kept; 0 where all are."""

    def stamped(self, at_ms: int, identity: str, record_id: str) -> Match:
        """The match of one record."""
        return Match(
            self.rule_id,
            self.source_id,
            self.tenant,
            self.group,
            at_ms,
            identity,
            record_id,
            self.severity,
            self.values,
            self.counted,
            self.written,
        )


class Drawn(msgspec.Struct, frozen=True, gc=False):
    """The stencils of records that are alike."""

    kind: tuple[str, str]
    """Operation and type, as a record's identity has them."""
    stencils: tuple[Stencil, ...]


class Sightings:
    """Of keys that are durably known, when each was first seen in its stretch of time."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._first_ms: dict[tuple[str, str, tuple[str, ...], int], int] = {}

    def knows(self, one: Stencil, at_ms: int) -> bool:
        """Whether the key was seen earlier in the same stretch, so that this sighting adds nothing."""
        first_ms = self._first_ms.get((one.rule_id, one.tenant, one.group, at_ms // one.bucket_ms))
        return first_ms is not None and first_ms < at_ms

    def learn(self, match: Match, bucket_ms: int) -> None:
        """A sighting is durable."""
        key = (match.rule_id, match.tenant, match.group, match.at_ms // bucket_ms)
        if len(self._first_ms) >= SIGHTINGS_MAX:
            self._first_ms.clear()
        self._first_ms[key] = min(match.at_ms, self._first_ms.get(key, match.at_ms))


def draw_stencils(
    view: View, uses: Sequence[Use], *, source_id: str, severity: Severity
) -> Iterator[Stencil]:
    """What is kept of a record for each use of a rule and each group that it belongs to."""
    for use in uses:
        groups = groups_of(view, use)
        if not groups:
            continue
        values, counted = kept_values(view, use), counted_value(view, use)
        written = write_values(values)
        for group in groups:
            yield Stencil(
                use.rule_id, source_id, view.tenant, group, severity, values, written, counted, use.bucket_ms
            )


def stamp_matches(drawn: Drawn, record_id: str, *, at_ms: int, created: str, known: Sightings) -> list[Match]:
    """The matches of a record with an id; one that adds nothing to what is known is left out."""
    found: list[Match] = []
    identity = ""
    for one in drawn.stencils:
        if one.bucket_ms and known.knows(one, at_ms):
            continue
        if not identity:
            identity = _identity_of((one.tenant, record_id, created, *drawn.kind))
            record_id = clean_text(record_id[:100]) or identity
        found.append(one.stamped(at_ms, identity, record_id))
    return found


def write_values(values: dict[str, str]) -> bytes:
    """What an alert repeats, as it is kept."""
    return msgspec.json.encode(values)


def identify_record(view: View, record: bytes) -> str:
    """What tells the record from any other: the same for every collector and every search of the lake.

    Made of tenant, Id, CreationTime, Operation and RecordType; of the whole text where there is no Id.
    """
    if view.values("Id"):
        names = ("Id", "CreationTime", "Operation", "RecordType")
        return _identity_of((view.tenant, *[view.first(name) for name in names]))
    return blake2b(view.tenant.encode() + record, digest_size=16).hexdigest()


def _identity_of(parts: Sequence[str]) -> str:
    return blake2b("\x1f".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
