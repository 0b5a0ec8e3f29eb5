"""What one tenant has published: made hour by hour, when somebody asks for it, and then kept."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from random import Random
from threading import Lock

from m365watch.common.model import ContentType
from m365watch_simulator.feed.blobs import Blob, BlobMaker, cut_into_blobs, position_text
from m365watch_simulator.feed.copies import has_id, is_readable, shape_content, shuffled, sibling
from m365watch_simulator.feed.lateness import HOUR, Calendar, Part, Release
from m365watch_simulator.organization.records import RecordSource, SimulatedRecord
from m365watch_simulator.service.faults import FaultPlan

_STRAGGLER_SHARE = 0.2
_ECHO_RECORDS_MAX = 25
_TWIN_SHARE = 0.03
_SIBLING_SHARE = 0.02
_DAY_HOURS = 24


@dataclass(frozen=True, slots=True)
class History:
    """Which records a tenant publishes, and in what pieces."""

    source: RecordSource
    calendar: Calendar
    started_at: datetime
    """The first whole hour whose records are published."""
    blob_records: int | None
    """Records per blob; None for a log-normal mixture."""
    changes_records: bool
    """Whether copies with shuffled keys and siblings may be made of records."""


class Publication:
    """The blobs of one tenant. Hours are made under a lock, so that threads may ask at once."""

    def __init__(self, history: History, *, maker: BlobMaker, faults: FaultPlan) -> None:
        """Nothing is made yet."""
        self._history = history
        self._maker = maker
        self._faults = faults
        self._hours_at_once = 1 if history.blob_records is None else _DAY_HOURS
        self._lock = Lock()
        self._made: set[datetime] = set()
        self._blobs: dict[ContentType, list[Blob]] = {content_type: [] for content_type in ContentType}
        self._by_id: dict[str, Blob] = {}

    @property
    def source(self) -> RecordSource:
        """Where the records come from."""
        return self._history.source

    @property
    def started_at(self) -> datetime:
        """From when on there are records."""
        return self._history.started_at

    def missing_hours(self, start: datetime, end: datetime) -> list[datetime]:
        """The hours still to be made before the blobs of [start, end) are complete, newest first."""
        if not self._history.calendar.live:
            end = min(end, self._history.calendar.epoch)
        hours = []
        hour = self._history.started_at
        while hour < end:
            if hour not in self._made and self._brings(hour, start, end):
                hours.append(hour)
            hour += self._hours_at_once * HOUR
        return hours[::-1]

    def _brings(self, hour: datetime, start: datetime, end: datetime) -> bool:
        """Whether what happened from `hour` on can come out in [start, end)."""
        return any(
            release.overlaps(start, end)
            for number in range(self._hours_at_once)
            for release in self._history.calendar.releases(hour + number * HOUR)
        )

    def make_hour(self, hour: datetime) -> None:
        """Make all blobs of the records that happened from `hour` on; harmless if made before."""
        with self._lock:
            if hour in self._made:
                return
            for blob in self._blobs_of(hour):
                insort(self._blobs[blob.content_type], blob, key=attrgetter("position"))
                self._by_id[blob.content_id] = blob
            self._made.add(hour)

    def make(self, start: datetime, end: datetime) -> None:
        """Make whatever the blobs of [start, end) need."""
        for hour in self.missing_hours(start, end):
            self.make_hour(hour)

    def blobs(self, content_type: ContentType) -> list[Blob]:
        """Every blob made so far, in the order of listings; cut ones are not among them."""
        return list(self._blobs[content_type])

    def blobs_from(self, content_type: ContentType, start: datetime) -> list[Blob]:
        """The blobs made so far that were created at `start` or later."""
        blobs = self._blobs[content_type]
        return blobs[bisect_left(blobs, position_text(start, 0), key=attrgetter("position")) :]

    def find(self, content_id: str) -> Blob | None:
        """The blob with this id, if it was made."""
        return self._by_id.get(content_id)

    def add_cut(self, blob: Blob) -> None:
        """Keep a cut blob, so that it can be fetched under its own id."""
        self._by_id.setdefault(blob.content_id, blob)

    def _blobs_of(self, hour: datetime) -> list[Blob]:
        source, calendar = self._history.source, self._history.calendar
        records: list[SimulatedRecord] = []
        for number in range(self._hours_at_once):
            start = hour + number * HOUR
            records += source.records_between(start, start + HOUR)
        if not calendar.live:
            records = [record for record in records if record.happened_at < calendar.epoch]
        records.sort(key=lambda record: (record.content_type, record.happened_at))
        made = []
        for content_type, group in groupby(records, key=attrgetter("content_type")):
            made += self._blobs_of_type(hour, content_type, list(group))
        return made

    def _blobs_of_type(
        self, hour: datetime, content_type: ContentType, records: list[SimulatedRecord]
    ) -> list[Blob]:
        random = Random(f"{self._history.calendar.seed}/{hour:%Y%m%d%H}/{content_type}")
        size = self._history.blob_records
        return [
            self._blob(release, piece, random)
            for release, part in self._split(hour, records, random)
            for piece in cut_into_blobs(part, blob_records=size, random=random)
        ]

    def _split(
        self, hour: datetime, records: list[SimulatedRecord], random: Random
    ) -> list[tuple[Release, Sequence[SimulatedRecord]]]:
        """The releases of `hour` with the records that each brings."""
        if self._history.blob_records is not None:
            return [(self._history.calendar.releases(hour)[0], records)]
        split: list[tuple[Release, Sequence[SimulatedRecord]]] = []
        most = records
        for release in self._history.calendar.releases(hour)[1:]:
            if release.part is Part.STRAGGLERS:
                count = round(len(records) * _STRAGGLER_SHARE)
                split.append((release, records[:count]))
                most = records[count:]
            elif self._history.changes_records:
                known = [record for record in records if has_id(record.body)]
                again = random.sample(known, min(len(known), _ECHO_RECORDS_MAX))
                split.append((release, sorted(again, key=attrgetter("happened_at"))))
        split.append((self._history.calendar.releases(hour)[0], most))
        return split

    def _blob(self, release: Release, records: Sequence[SimulatedRecord], random: Random) -> Blob:
        elements = [record.body for record in records]
        if self._history.changes_records and self._history.calendar.behaviour.duplicates:
            self._vary(elements, release, random)
        happened_at = records[-1].happened_at
        content_type = records[0].content_type
        if not self._history.changes_records:
            elements.sort(key=is_readable, reverse=True)
        cuttable = self._history.calendar.behaviour.cut_blobs and all(map(has_id, elements))
        blob = self._maker.make(
            elements,
            content_type=content_type,
            due_at=self._history.calendar.created_at(release, happened_at=happened_at, random=random),
            random=random,
            cuttable=cuttable,
        )
        if not self._history.changes_records:
            blob.unreadable = len(elements) - sum(map(is_readable, elements))
        self._shape(blob, elements)
        return blob

    def _vary(self, elements: list[bytes], release: Release, random: Random) -> None:
        if release.part is Part.ECHO:
            elements[:] = [shuffled(element, random) for element in elements]
            return
        if self._history.blob_records is not None:
            return
        chosen = random.randrange(len(elements))
        if not has_id(elements[chosen]):
            return
        if random.random() < _TWIN_SHARE:
            elements.append(random.choice((elements[chosen], shuffled(elements[chosen], random))))
        if random.random() < _SIBLING_SHARE:
            elements.append(sibling(elements[chosen]))

    def _shape(self, blob: Blob, elements: list[bytes]) -> None:
        """Give the blob the content that the scenario's rules ask for."""
        rules = self._faults.content_rules(blob.content_id, blob.content_type)
        if rules:
            blob.refill(elements, unreadable=blob.unreadable + shape_content(elements, rules))
