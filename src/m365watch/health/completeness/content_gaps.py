"""Hours without content that are unusual, told from hours that are not listed: what `gaps` answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from m365watch.common.model import Feed, Window
from m365watch.common.progress import FeedProgress
from m365watch.health.completeness.audit_scheduler import by_tenant
from m365watch.health.completeness.silence_detection import (
    DAY_H,
    JUDGED_H,
    LEARN_AFTER_H,
    WEEK_H,
    FeedPast,
    Reason,
    find_silences,
    judge_and_learn,
)
from m365watch.health.completeness.silence_monitor import due_hour, listed_hours, memory_name, memory_of
from m365watch.ledger.blob_states import HOUR_S, blobs_per_hour
from m365watch.ledger.limits import HORIZON
from m365watch.ledger.queries import coverage, feed_progress, instant_s, remembered
from m365watch.storage.database import Database

_HORIZON_H = HORIZON // timedelta(hours=1)
_FEED_NUMBER = "SELECT id FROM feed WHERE tenant_id = ? AND content_type = ?"
_NO_SUBSCRIPTION = ("AF20022", "AF20023", "subscription")


@dataclass(frozen=True, slots=True)
class Gap:
    """Hours of one feed without content, and the likely reason."""

    feed: Feed
    start: datetime
    end: datetime
    reason: str
    """not-listed, not-subscribed, error, incident, quiet-day or alone."""
    is_unusual: bool
    usual_blobs: float | None
    """How many blobs these hours usually have; None for hours that are not listed."""
    chance: float | None
    """How likely they have none; None for hours that are not listed."""
    text: str
    """The reason in words, and what to do."""


@dataclass(frozen=True, slots=True)
class GapsFound:
    """What was found, and how well each feed is known."""

    gaps: tuple[Gap, ...]
    """By feed, the oldest first."""
    known_share: Mapping[Feed, float]
    """How many of the hours of the week were seen often enough to be judged, 0 to 1."""
    due_to: datetime
    """Later hours are not judged: their content may still come."""


def find_gaps(connection: Database, feeds: Sequence[Feed], *, now: datetime, days: int) -> GapsFound:
    """The gaps of the last `days`, from the ledger alone."""
    due_to = due_hour(now)
    hours = range(due_to - DAY_H * days, due_to)
    progress = {row.feed: row for row in feed_progress(connection, now)}
    gaps: list[Gap] = []
    known: dict[Feed, float] = {}
    for own in by_tenant(feeds).values():
        pasts = {feed: _past(connection, feed, due_to=due_to) for feed in own}
        if any(past.rhythm.learned_to is None for past in pasts.values()):
            _learn_here(pasts, due_to)
        silences = find_silences(pasts, hours)
        for feed, past in pasts.items():
            row = progress.get(feed)
            gaps += _unlisted(feed, past, hours, row)
            for silence in silences:
                if silence.feed == feed:
                    reason, text = _explain(silence.reason, row, first_hour=silence.first_hour)
                    gaps.append(
                        Gap(
                            feed,
                            instant_s(silence.first_hour * HOUR_S),
                            instant_s(silence.end_hour * HOUR_S),
                            reason,
                            is_unusual=silence.is_unusual,
                            usual_blobs=silence.usual_blobs,
                            chance=silence.chance,
                            text=text,
                        )
                    )
            known[feed] = sum(past.rhythm.usual(place).is_known for place in range(WEEK_H)) / WEEK_H
    return GapsFound(tuple(gaps), known, instant_s(due_to * HOUR_S))


def _past(connection: Database, feed: Feed, *, due_to: int) -> FeedPast:
    rhythm = memory_of(remembered(connection, memory_name(feed))).rhythm
    span = range(due_to - _HORIZON_H, due_to)
    row = connection.execute(_FEED_NUMBER, (feed.tenant_id, feed.content_type)).fetchone()
    spans: list[Window] = [] if row is None else coverage(connection, int(row[0]))
    counts = blobs_per_hour(connection, feed, first_hour=span.start, end_hour=span.stop)
    return FeedPast(rhythm, counts, listed_hours(spans, span))


def _learn_here(pasts: Mapping[Feed, FeedPast], due_to: int) -> None:
    """Learn, for this answer alone, what no collector has learned yet: hour by hour, as one would."""
    first = due_to - _HORIZON_H
    for hour in range(first + LEARN_AFTER_H, due_to + 1, JUDGED_H - LEARN_AFTER_H):
        judge_and_learn(pasts, due_to=hour, custom=())
    judge_and_learn(pasts, due_to=due_to, custom=())


def _unlisted(feed: Feed, past: FeedPast, hours: range, row: FeedProgress | None) -> Iterable[Gap]:
    """The stretches of `hours` that were not listed in full; nothing before the first one that was."""
    first = min(past.listed, default=hours.stop)
    missing = [hour for hour in hours if hour not in past.listed and hour > first]
    for start, end in _stretches(missing):
        error = row.last_error if row is not None and row.last_error else None
        why = f"the feed has an error: {error}" if error else "the collector stood still, or is not there yet"
        yield Gap(
            feed,
            instant_s(start * HOUR_S),
            instant_s(end * HOUR_S),
            "not-listed",
            is_unusual=False,
            usual_blobs=None,
            chance=None,
            text=f"not listed yet: {why}; `m365watch audit --repair` lists it",
        )


def _stretches(hours: Sequence[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for hour in hours:
        if found and found[-1][1] == hour:
            found[-1] = (found[-1][0], hour + 1)
        else:
            found.append((hour, hour + 1))
    return found


def _explain(reason: Reason, row: FeedProgress | None, *, first_hour: int) -> tuple[str, str]:
    """The reason's name, and what it means; an error that the feed has had since then goes first."""
    error, at = (row.last_error, row.last_error_at) if row is not None else (None, None)
    if error and at is not None and at.timestamp() // HOUR_S <= first_hour + DAY_H:
        if any(word in error for word in _NO_SUBSCRIPTION):
            return (
                "not-subscribed",
                "the subscription is missing or was disabled; it is started again by itself",
            )
        return Reason.ERROR.value, f"the feed has an error: {error}"
    match reason:
        case Reason.INCIDENT:
            return reason.value, (
                "all feeds of the tenant are silent at once: look at Microsoft's service health; the content "
                "comes late as a rule"
            )
        case Reason.QUIET_DAY:
            return reason.value, "all of the tenant is quiet, as on a holiday: nothing to do"
        case _:
            return Reason.ALONE.value, (
                "only this feed is silent: its content is late, or nothing was recorded; "
                "`m365watch audit` shows what Microsoft lists"
            )
