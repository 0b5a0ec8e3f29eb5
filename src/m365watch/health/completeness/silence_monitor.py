"""The silence alarm of a run: what each feed usually does is learned, and one that falls silent is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from m365watch.common.clock import Clock
from m365watch.common.error_boundary import defect_of
from m365watch.common.model import Feed, Window
from m365watch.health.completeness.audit_scheduler import by_tenant
from m365watch.health.completeness.silence_detection import (
    DUE_AFTER_H,
    JUDGED_H,
    WEEK_H,
    FeedPast,
    Reason,
    Rhythm,
    Silence,
    judge_and_learn,
    rhythm_body,
    rhythm_of,
)
from m365watch.ledger.blob_states import HOUR_S, blobs_per_hour
from m365watch.ledger.limits import HORIZON
from m365watch.ledger.queries import feed_of, ledger_for_reading
from m365watch.ledger.sqlite_ledger import SqliteLedger
from m365watch.ledger.writer_thread import LedgerCalls
from m365watch.storage.database import Database

_log = structlog.get_logger(__name__)

LOOK_EVERY_S = 300.0
"""How often it is seen whether another hour is due."""
_HORIZON_H = HORIZON // timedelta(hours=1)


@dataclass(slots=True)
class FeedMemory:
    """What the ledger keeps of one feed's rhythm and its present silence."""

    rhythm: Rhythm = field(default_factory=Rhythm)
    silent_since: int | None = None
    """The first hour of the silence that was told and has not ended."""

    def body(self) -> str:
        """As JSON."""
        return json.dumps(rhythm_body(self.rhythm) | {"silent": self.silent_since}, separators=(",", ":"))


def memory_of(body: str | None) -> FeedMemory:
    """What `FeedMemory.body` made the text of; nothing learned for None."""
    silent = None if body is None else json.loads(body).get("silent")
    return FeedMemory(rhythm_of(body), silent)


def memory_name(feed: Feed) -> str:
    """The name under which the ledger keeps it."""
    return f"rhythm {feed}"


def silent_feeds(connection: Database) -> dict[Feed, datetime]:
    """The feeds that are known to be silent, and since when, for who looks at many at once."""
    # All names from "rhythm " on up to the next character: the table's own order.
    rows = connection.execute(
        "SELECT substr(name, 8), json_extract(body, '$.silent') FROM memory"
        " WHERE name > 'rhythm ' AND name < 'rhythm!' AND json_extract(body, '$.silent') IS NOT NULL"
    ).fetchall()
    return {
        feed_of(*str(name).split("/", 1)): datetime.fromtimestamp(hour * HOUR_S, UTC) for name, hour in rows
    }


def due_hour(now: datetime) -> int:
    """The hour before which all content is due, hours since 1970."""
    return int(now.timestamp()) // HOUR_S - DUE_AFTER_H


def listed_hours(coverage: Sequence[Window], hours: range) -> set[int]:
    """Those of `hours` that were listed from their beginning to their end."""
    listed: set[int] = set()
    for span in coverage:
        first = -(-int(span.start.timestamp()) // HOUR_S)
        listed.update(range(max(first, hours.start), min(int(span.end.timestamp()) // HOUR_S, hours.stop)))
    return listed


def hour_text(hour: int) -> str:
    """`2026-11-24 09:00Z`."""
    return f"{datetime.fromtimestamp(hour * HOUR_S, UTC):%Y-%m-%d %H:%MZ}"


class SilenceWatch:
    """Looks at every feed of a run once an hour."""

    def __init__(
        self, feeds: Collection[Feed], *, ledger: SqliteLedger, calls: LedgerCalls, clock: Clock
    ) -> None:
        """Nothing is known before the first look."""
        self._feeds = list(feeds)
        self._ledger = ledger
        self._calls = calls
        self._clock = clock
        self._memories: dict[Feed, FeedMemory] = {}
        self._looked_to: int | None = None

    def change(self, feeds: Collection[Feed]) -> None:
        """Watch these feeds from the next hour on."""
        self._feeds = list(feeds)

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self._clock.sleep(LOOK_EVERY_S)
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001 - an alarm that fails stops no collecting
                defect = defect_of(error, where="silence alarm")
                _log.error(str(defect), code=defect.code)

    async def look(self) -> None:
        """Judge and learn the hours that have become due since the last time, and tell what is new."""
        due_to = due_hour(self._clock.now())
        if self._looked_to == due_to:
            return
        for feeds in by_tenant(self._feeds).values():
            await self._look_at(feeds, due_to)
            await asyncio.sleep(0)
        self._looked_to = due_to

    async def _look_at(self, feeds: Sequence[Feed], due_to: int) -> None:
        """One tenant."""
        for feed in feeds:
            if feed not in self._memories:
                body = await self._calls(self._ledger.remembered, memory_name(feed))
                self._memories[feed] = memory_of(body)
        pasts = {feed: await self._past(feed, due_to) for feed in feeds}
        before = {feed: self._memories[feed].body() for feed in feeds}
        custom = [
            feed
            for feed in feeds
            if (since := self._memories[feed].silent_since) is not None and due_to - since > WEEK_H
        ]
        silences = judge_and_learn(pasts, due_to=due_to, custom=custom)
        self._tell(pasts, silences, due_to)
        for feed in feeds:
            body = self._memories[feed].body()
            if body != before[feed]:
                await self._calls(self._ledger.remember, memory_name(feed), body)

    async def _past(self, feed: Feed, due_to: int) -> FeedPast:
        rhythm = self._memories[feed].rhythm
        first = due_to - JUDGED_H if rhythm.learned_to is not None else due_to - _HORIZON_H
        hours = range(min(first, rhythm.learned_to or first), due_to)
        coverage = await self._calls(self._ledger.coverage, feed)
        counts = await self._calls(_count_blobs, self._ledger.path, feed, hours)
        return FeedPast(rhythm, counts, listed_hours(coverage, hours))

    def _tell(self, pasts: Mapping[Feed, FeedPast], silences: Sequence[Silence], due_to: int) -> None:
        """One line for each feed that has fallen silent, and one for each that has content again."""
        present = {one.feed: one for one in silences if one.is_unusual and one.end_hour == due_to}
        in_error = {one.feed for one in self._ledger.feed_progress() if one.last_error is not None}
        for feed, past in pasts.items():
            memory = self._memories[feed]
            silence = present.get(feed)
            if memory.silent_since is None and silence is not None and feed not in in_error:
                memory.silent_since = silence.first_hour
                _log.warning(silence_text(silence), code="silent")
            elif memory.silent_since is not None and _has_content(past, memory.silent_since, due_to):
                _log.info(f"{feed}: content again, after the silence since {hour_text(memory.silent_since)}")
                memory.silent_since = None


def silence_text(silence: Silence) -> str:
    """What is told of a feed that has fallen silent."""
    hours = silence.end_hour - silence.first_hour
    others = (
        "every feed of the tenant that should have content is silent: look at Microsoft's service health"
        if silence.reason is Reason.INCIDENT
        else "other feeds of the tenant have content: look at the subscription with `m365watch gaps`"
    )
    return (
        f"{silence.feed}: no content since {hour_text(silence.first_hour)}, for {hours} hours that usually "
        f"have {silence.usual_blobs:.0f} blobs; {others}; nothing lost"
    )


def _has_content(past: FeedPast, since: int, due_to: int) -> bool:
    return any(past.counts.get(hour) for hour in range(max(since, due_to - JUDGED_H), due_to))


def _count_blobs(path: Path, feed: Feed, hours: range) -> dict[int, int]:
    with ledger_for_reading(path) as connection:
        return blobs_per_hour(connection, feed, first_hour=hours.start, end_hour=hours.stop)
