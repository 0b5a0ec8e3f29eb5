"""Pull cycles: what Devo's operators count a collector by, one feed at a time.

A feed's cycle begins with a poll and ends where the next one begins. Its number (`@devo_pulling_id`) is
the instant of its beginning in milliseconds. What is fetched, found to be a duplicate or delivered counts
in the cycle in which that happens, so that the sums over all cycles are exact.

Source: devo.md 1, life cycle.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import structlog

from m365watch.auth.permissions import GrantedRoles
from m365watch.common.clock import Clock
from m365watch.common.model import Feed
from m365watch.common.timestamps import ms_of
from m365watch.sources.throttling import ThrottlingBook

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class CycleFigures:
    """What happened in one cycle so far."""

    requests: int = 0
    received: int = 0
    """Records in the blobs that were fetched."""
    duplicates: int = 0
    """Records that were left out because they had been delivered before."""
    sent: int = 0
    """Records that every output has made durable, or has in its queue on disk."""

    @property
    def is_quiet(self) -> bool:
        """Whether no record came or went."""
        return not (self.received or self.duplicates or self.sent)


@dataclass(slots=True)
class _Cycle:
    """The present cycle of a feed."""

    pulling_id: int
    period_s: float
    started_s: float
    told_s: float
    worked_s: float
    """When a record last came or went."""
    figures: CycleFigures = field(default_factory=CycleFigures)


class PullCycles:
    """The present cycle of each feed; tells its statistics, at most once a request period."""

    def __init__(self, clock: Clock) -> None:
        """No feed has a cycle yet."""
        self._clock = clock
        self._cycles: dict[str, _Cycle] = {}
        self._up_to_date: set[str] = set()
        self._untold: set[str] = set()
        self.throttling = ThrottlingBook()
        self.granted = GrantedRoles()

    def begin(self, feed: Feed, *, period_s: float) -> int:
        """Close the feed's cycle, with its statistics, and begin the next; the pulling id to use now.

        A cycle younger than the request period `period_s` goes on: a poll that is tried again after a
        failure is no new cycle.
        """
        now_s = self._clock.monotonic_s()
        cycle = self._cycles.get(str(feed))
        if cycle is not None and now_s - cycle.started_s < period_s:
            return cycle.pulling_id
        self.close(feed)
        pulling_id = ms_of(self._clock.now())
        self._cycles[str(feed)] = _Cycle(pulling_id, period_s, now_s, now_s, now_s)
        return pulling_id

    def close(self, feed: Feed) -> None:
        """Tell the statistics of the feed's cycle, if one is open, and forget it."""
        cycle = self._cycles.pop(str(feed), None)
        if cycle is not None:
            _tell(str(feed), cycle, "Statistics", quietly=cycle.figures.is_quiet)
        if str(feed) in self._untold:
            # Not before: what was listed has to be fetched and delivered first.
            self._untold.discard(str(feed))
            _log.info(f"{feed}: The data is up to date!")

    def complete(self, feed: Feed) -> None:
        """The feed's poll has listed everything there is; told at the cycle's end if it was not so before."""
        if str(feed) not in self._up_to_date:
            self._up_to_date.add(str(feed))
            self._untold.add(str(feed))

    def fall_behind(self, feed: Feed) -> None:
        """The feed's poll failed: the next one that does not is told again."""
        self._up_to_date.discard(str(feed))
        self._untold.discard(str(feed))

    def pulling_id(self, feed: Feed) -> int:
        """The number of the feed's cycle: its beginning in milliseconds since 1970; 0 without one."""
        cycle = self._cycles.get(str(feed))
        return cycle.pulling_id if cycle else 0

    def count_request(self, feed: str) -> None:
        """A request was made on behalf of `feed`, as `str(Feed)` names it; others' are not counted."""
        cycle = self._cycles.get(feed)
        if cycle is not None:
            cycle.figures.requests += 1
            self._tell_if_due(feed, cycle)

    def count_throttled(self, feed: str) -> None:
        """A request on behalf of `feed` was answered by the wish for fewer."""
        self.throttling.note(feed.partition("/")[0], self._clock.now())

    def count_received(self, feed: Feed, records: int) -> None:
        """A blob with so many records was fetched."""
        self._count(feed, received=records)

    def count_duplicates(self, feed: Feed, records: int) -> None:
        """So many records were left out as duplicates."""
        self._count(feed, duplicates=records)

    def count_sent(self, feed: Feed, records: int) -> None:
        """So many records are in memory alone no longer."""
        self._count(feed, sent=records)

    def _count(self, feed: Feed, *, received: int = 0, duplicates: int = 0, sent: int = 0) -> None:
        name = str(feed)
        cycle = self._cycles.get(name)
        if cycle is None:
            return
        cycle.figures.received += received
        cycle.figures.duplicates += duplicates
        cycle.figures.sent += sent
        cycle.worked_s = self._clock.monotonic_s()
        self._tell_if_due(name, cycle)

    def _tell_if_due(self, feed: str, cycle: _Cycle) -> None:
        """A cycle that outlasts the request period, as a backfill does, tells how it stands meanwhile."""
        now_s = self._clock.monotonic_s()
        if now_s - cycle.told_s >= cycle.period_s:
            cycle.told_s = now_s
            _tell(feed, cycle, "(Partial) Statistics", quietly=cycle.figures.is_quiet)


def statistics_text(figures: CycleFigures, *, title: str, pulling_id: int, elapsed_s: float) -> str:
    """The statistics in the words that Devo's operators look for."""
    speed = figures.sent / elapsed_s if elapsed_s > 0 else 0.0
    return (
        f"{title} for this pull cycle (@devo_pulling_id={pulling_id}):"
        f"Number of requests made: {figures.requests}; "
        f"Number of events received: {figures.received}; "
        f"Number of duplicated events filtered out: {figures.duplicates}; "
        f"Number of events generated and sent: {figures.sent}; "
        f"Average of events per second: {speed:.3f}."
    )


def _tell(feed: str, cycle: _Cycle, title: str, *, quietly: bool) -> None:
    text = statistics_text(
        cycle.figures,
        title=title,
        pulling_id=cycle.pulling_id,
        elapsed_s=cycle.worked_s - cycle.started_s,
    )
    (_log.debug if quietly else _log.info)(f"{feed}: {text}")
