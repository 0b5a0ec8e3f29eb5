"""How long records take on their way, as histograms: from what happened to what an output has.

Four steps follow one another: what happened (CreationTime) is published as content (contentCreated),
listed by the collector, fetched, and delivered by an output; `ALL` is the whole way. Everything counts
once a blob, also the CreationTime, which one of its records lends, so that a record costs nothing here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from itertools import accumulate
from typing import Any, NamedTuple

import msgspec

from m365watch.common.model import Batch, Feed, GraphContent, Header, KnownBlob

MEMORY = "latency"
"""The name under which the ledger remembers the histograms."""
BOUNDS_S = tuple(2.0**power for power in range(-4, 21))
"""The upper bounds of the buckets, from 62.5 ms to 12 days, each twice the last; one more has the rest."""
SERIES_MAX = 1_000
"""Series kept apart; further ones are counted together, without tenant and workload."""
RECENT_DAYS = 2
"""What `recent` speaks of: today and the day before."""
WORKLOAD_LENGTH_MAX = 64
TOGETHER = "*"
"""Stands for tenant and workload where series are counted together."""


class Step(StrEnum):
    """A part of a record's way."""

    PUBLISHED = "published"
    """From CreationTime to contentCreated: Microsoft's part."""
    LISTED = "listed"
    """From contentCreated to the listing that first showed the blob."""
    FETCHED = "fetched"
    """From that listing to the fetched blob; unknown of one that had to wait, and after a restart."""
    DELIVERED = "delivered"
    """From the fetched blob to its acknowledgement by an output."""
    ALL = "all"
    """From CreationTime to the acknowledgement by an output."""


_BEFORE_OUTPUTS = (Step.PUBLISHED, Step.LISTED, Step.FETCHED)
_BY_OUTPUT = (Step.DELIVERED, Step.ALL)


class SeriesKey(NamedTuple):
    """What a histogram is about."""

    tenant_id: str
    content_type: str
    workload: str
    """As records say it; empty where they say none."""
    step: Step
    output: str
    """Empty for steps before the outputs."""


@dataclass(slots=True)
class Histogram:
    """How often a span of time lay in each bucket."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    """By bucket; the last one is beyond all bounds."""
    sum_s: float = 0.0
    max_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one span; one below 0, which is a clock's doing, counts as 0."""
        seconds = max(seconds, 0.0)
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds
        self.max_s = max(self.max_s, seconds)

    def merge(self, other: Histogram) -> None:
        """Count what `other` has counted, too."""
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.sum_s += other.sum_s
        self.max_s = max(self.max_s, other.max_s)

    @property
    def count(self) -> int:
        """How many spans were counted."""
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """The span in seconds that `share` of all do not exceed, as exact as a bucket; None without any."""
        wanted = share * self.count
        for place, reached in enumerate(accumulate(self.counts)):
            if reached and reached >= wanted:
                low = BOUNDS_S[place - 1] if place else 0.0
                high = min(BOUNDS_S[place], self.max_s) if place < len(BOUNDS_S) else self.max_s
                inside = self.counts[place]
                part = 1.0 if not inside else (wanted - (reached - inside)) / inside
                return low + max(0.0, high - low) * min(1.0, max(0.0, part))
        return None

    def cumulative(self) -> list[int]:
        """How many spans do not exceed each bound; the last number is the count of all."""
        return list(accumulate(self.counts))


@dataclass(slots=True)
class Series:
    """One key's histograms: of the last days, each apart, and of all days before."""

    before: Histogram = field(default_factory=Histogram)
    days: dict[date, Histogram] = field(default_factory=dict)
    """At most `RECENT_DAYS` of them."""

    def add(self, seconds: float, day: date) -> None:
        """Count one span on `day`."""
        histogram = self.days.get(day)
        if histogram is None:
            oldest = day - timedelta(days=RECENT_DAYS - 1)
            for known in [known for known in self.days if known < oldest]:
                self.before.merge(self.days.pop(known))
            # A clock that jumped may have left days that are yet to come.
            if len(self.days) >= RECENT_DAYS:
                self.before.merge(self.days.pop(max(self.days)))
            histogram = self.days[day] = Histogram()
        histogram.add(seconds)

    @property
    def ever(self) -> Histogram:
        """All days together."""
        merged = Histogram()
        for histogram in (self.before, *self.days.values()):
            merged.merge(histogram)
        return merged


class LatencyBook:
    """All series; counts blobs as they are fetched and delivered."""

    def __init__(self) -> None:
        """Nothing counted yet."""
        self._series: dict[SeriesKey, Series] = {}
        self._rows: dict[tuple[str, str, str, str], tuple[Series, ...]] = {}
        """The series of all steps on one side of the outputs, at hand: a key costs more than a count."""
        self.is_changed = False
        """Whether something was counted since this was last set to False."""

    def __iter__(self) -> Iterator[tuple[SeriesKey, Series]]:
        """Every series in which something was counted, with its key, in the order of the keys."""
        return iter(sorted((key, one) for key, one in self._series.items() if one.days or one.before.max_s))

    def note_fetched(self, known: KnownBlob, headers: Sequence[Header], *, fetched_at: datetime) -> None:
        """Count the steps up to the fetch of one blob; of its records, the one in the middle speaks."""
        if not headers:
            return
        ref, header, day = known.ref, headers[len(headers) // 2], fetched_at.date()
        published, listed, fetched = self._row(ref.feed, header, "", _BEFORE_OUTPUTS)
        instant = happened_at(header)
        if instant is not None:
            published.add((ref.created_at - instant).total_seconds(), day)
        if known.listed_at is not None:
            listed.add((known.listed_at - ref.created_at).total_seconds(), day)
            fetched.add((fetched_at - known.listed_at).total_seconds(), day)
        self.is_changed = True

    def note_delivered(self, batch: Batch, output: str, *, at: datetime) -> None:
        """Count what `output` has acknowledged: each blob's step, and the whole way of one of its records."""
        day = at.date()
        for part in batch.parts:
            # An announcement's time says when it was made, perhaps months ago, and nothing of its way here.
            if not part.headers or isinstance(part.feed.content_type, GraphContent):
                continue
            header = part.headers[len(part.headers) // 2]
            delivered, whole = self._row(part.feed, header, output, _BY_OUTPUT)
            delivered.add((at - part.received_at).total_seconds(), day)
            instant = happened_at(header)
            if instant is not None:
                whole.add((at - instant).total_seconds(), day)
        self.is_changed = True

    def _row(self, feed: Feed, header: Header, output: str, steps: tuple[Step, ...]) -> tuple[Series, ...]:
        """The series of `steps` for the feed and the header's Workload."""
        workload = (header.Workload or "")[:WORKLOAD_LENGTH_MAX]
        known = (feed.tenant_id, feed.content_type.value, workload, output)
        row = self._rows.get(known)
        if row is None:
            row = tuple(self._one(SeriesKey(*known[:3], step, output)) for step in steps)
            if len(self._rows) < SERIES_MAX:
                self._rows[known] = row
        return row

    def _one(self, key: SeriesKey) -> Series:
        if key not in self._series and len(self._series) >= SERIES_MAX:
            key = key._replace(tenant_id=TOGETHER, workload=TOGETHER)
        return self._series.setdefault(key, Series())

    def body(self) -> str:
        """Everything as JSON, for the ledger to remember."""
        rows = [
            [*key, _packed(series.before), {str(day): _packed(one) for day, one in series.days.items()}]
            for key, series in self._series.items()
        ]
        return msgspec.json.encode({"bounds": len(BOUNDS_S), "series": rows}).decode()

    @classmethod
    def of_body(cls, body: str | None) -> LatencyBook:
        """What `body` says; an empty book for None, and for what another version wrote otherwise."""
        book = cls()
        try:
            said = msgspec.json.decode(body or "{}")
            if said.get("bounds") == len(BOUNDS_S):
                for *words, before, days in said["series"][: 2 * SERIES_MAX]:
                    tenant_id, content_type, workload, step, output = map(str, words)
                    key = SeriesKey(tenant_id, content_type, workload, Step(step), output)
                    recent = {date.fromisoformat(day): _unpacked(one) for day, one in days.items()}
                    book._series[key] = Series(_unpacked(before), recent)
        except (
            msgspec.DecodeError,
            AttributeError,
            KeyError,
            TypeError,
            ValueError,
            IndexError,
            RecursionError,
        ):
            return cls()
        return book


def recent(book: LatencyBook, today: date) -> dict[SeriesKey, Histogram]:
    """Each series' histogram of today and the day before, where there is anything in it."""
    oldest = today - timedelta(days=RECENT_DAYS - 1)
    found = {}
    for key, series in book:
        merged = Histogram()
        for day, one in series.days.items():
            if oldest <= day <= today:
                merged.merge(one)
        if merged.count:
            found[key] = merged
    return found


def happened_at(header: Header) -> datetime | None:
    """The record's CreationTime, in UTC where it names no zone; None where it is no instant."""
    try:
        said = datetime.fromisoformat(header.CreationTime or "")
        return said.replace(tzinfo=UTC) if said.tzinfo is None else said.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _packed(histogram: Histogram) -> list[Any]:
    """Sum, maximum, and place and count of each bucket that is not empty."""
    pairs = [number for pair in enumerate(histogram.counts) if pair[1] for number in pair]
    return [round(histogram.sum_s, 3), round(histogram.max_s, 3), *pairs]


def _unpacked(packed: Sequence[Any]) -> Histogram:
    sum_s, max_s, *pairs = packed
    histogram = Histogram(sum_s=float(sum_s), max_s=float(max_s))
    for place, number in zip(pairs[::2], pairs[1::2], strict=True):
        histogram.counts[int(place)] = int(number)
    return histogram
