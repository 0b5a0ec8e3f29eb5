"""Blobs: an hour's records cut into pieces, each with its id, its times and its body.

Source: api-contract 2.4 (contentId), 5.7 (sizes), 5.2 (duplicates), fact 8 (cut blobs).
"""

from __future__ import annotations

import math
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate, pairwise
from random import Random

from isal import igzip

from m365watch.common.model import ContentType
from m365watch_simulator.organization.records import SimulatedRecord

_MEDIAN_RECORDS = 20
_SIZE_SPREAD = 1.2
_RECORDS_MAX = 5_000
_SPAN_SHARE = 0.4
SPAN_MAX = timedelta(minutes=10)
"""The longest time between a blob's first row and its last."""
_GZIP_LEVEL = 2


@dataclass(slots=True)
class Blob:
    """One piece of content as it stands in the service's store."""

    content_type: ContentType
    content_id: str
    created_at: datetime
    """Whole milliseconds: the first 17 digits of the content id."""
    appears_at: datetime
    """From when on listings name it."""
    ends_at: datetime
    """The time of its last row; `created_at` where the blob has one instant only."""
    payload: bytes
    """The JSON array, gzip."""
    lengths: array[int]
    """Each record's length in bytes."""
    unreadable: int = 0
    """Elements that are no JSON; they stand last."""
    is_cut: bool = False
    """Whether it is the rest of another blob: all of it comes out there too."""

    @property
    def position(self) -> str:
        """The first 23 digits of the content id: the order of listings."""
        return self.content_id[:23]

    def body(self) -> bytes:
        """The JSON array."""
        return zlib.decompress(self.payload, wbits=31)

    def elements(self) -> list[bytes]:
        """Each element's own bytes, unreadable ones included."""
        body = self.body()
        ends = accumulate(self.lengths, lambda end, length: end + 1 + length, initial=0)
        return [body[start + 1 : end] for start, end in pairwise(ends)]

    def records(self) -> list[bytes]:
        """Each record's own bytes, those that are no JSON left out."""
        elements = self.elements()
        return elements[: len(elements) - self.unreadable]

    def refill(self, elements: Sequence[bytes], *, unreadable: int) -> None:
        """Put `elements` in place of what the blob holds; it is never cut from then on."""
        self.payload, self.lengths = pack(elements)
        self.unreadable = unreadable
        self.ends_at = self.created_at

    def cut(self, start: datetime) -> Blob | None:
        """The rest of the blob from `start` on, as a blob of its own; None unless it is cut."""
        count = len(self.lengths)
        if not self.created_at < start <= self.ends_at or count < 2:
            return None
        share = (start - self.created_at) / (self.ends_at - self.created_at)
        first = min(max(1, math.ceil(share * (count - 1))), count - 1)
        created_at = self.created_at + (self.ends_at - self.created_at) * (first / (count - 1))
        created_at = max(_whole_milliseconds(created_at), start)
        payload, lengths = pack(self.elements()[first:])
        content_id = f"{position_text(created_at, first)}${self.content_id[24:]}"
        return Blob(
            content_type=self.content_type,
            content_id=content_id,
            created_at=_whole_milliseconds(created_at),
            appears_at=max(self.appears_at, created_at),
            ends_at=self.ends_at,
            payload=payload,
            lengths=lengths,
            unreadable=self.unreadable,
            is_cut=True,
        )


@dataclass(frozen=True, slots=True)
class BlobMaker:
    """Makes one tenant's blobs."""

    partition: str
    appears_late_s: float
    issued: set[str] = field(default_factory=set)
    """Positions in use; two blobs never share one."""

    def make(
        self,
        elements: Sequence[bytes],
        *,
        content_type: ContentType,
        due_at: datetime,
        random: Random,
        cuttable: bool,
    ) -> Blob:
        """The blob of `elements` that is created at `due_at`, to the millisecond."""
        created_at = _whole_milliseconds(due_at)
        spans = cuttable and len(elements) > 1 and random.random() < _SPAN_SHARE
        span_s = math.exp(random.uniform(0, math.log(SPAN_MAX.total_seconds()))) if spans else 0.0
        ends_at = created_at + timedelta(seconds=span_s)
        first, last = self._positions(created_at, ends_at, random)
        name = str(content_type).replace(".", "_")
        payload, lengths = pack(elements)
        return Blob(
            content_type=content_type,
            content_id=f"{first}${last}${name.lower()}${name}${self.partition}",
            created_at=created_at,
            appears_at=created_at + timedelta(seconds=random.random() * self.appears_late_s),
            ends_at=ends_at,
            payload=payload,
            lengths=lengths,
        )

    def _positions(self, created_at: datetime, ends_at: datetime, random: Random) -> tuple[str, str]:
        first = position_text(created_at, random.randrange(10**6))
        while first in self.issued:
            first = position_text(created_at, random.randrange(10**6))
        self.issued.add(first)
        if ends_at == created_at:
            return first, first
        return first, position_text(ends_at, random.randrange(10**6))


def pack(elements: Sequence[bytes]) -> tuple[bytes, array[int]]:
    """The gzipped JSON array of `elements`, and their lengths."""
    body = b"[" + b",".join(elements) + b"]"
    return igzip.compress(body, compresslevel=_GZIP_LEVEL, mtime=0), array("I", map(len, elements))


def position_text(instant: datetime, rest: int) -> str:
    """The service's 23 digits for an instant: seconds, milliseconds, and six digits of `rest`."""
    return f"{instant:%Y%m%d%H%M%S}{instant.microsecond // 1000:03d}{rest:06d}"


def cut_into_blobs(
    records: Sequence[SimulatedRecord], *, blob_records: int | None, random: Random
) -> Iterator[Sequence[SimulatedRecord]]:
    """`records` in pieces of `blob_records`, or of log-normal size with a median of 20."""
    start = 0
    while start < len(records):
        size = blob_records or _blob_size(random)
        yield records[start : start + size]
        start += size


def _blob_size(random: Random) -> int:
    size = round(math.exp(random.gauss(math.log(_MEDIAN_RECORDS), _SIZE_SPREAD)))
    return min(max(size, 1), _RECORDS_MAX)


def _whole_milliseconds(instant: datetime) -> datetime:
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)
