"""Figures as people read them: counts, spans, instants, and the sentences made of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from m365watch.common.model import BlobState, Feed
from m365watch.common.progress import FeedProgress, RunProgress
from m365watch.common.text import plain

if TYPE_CHECKING:
    from rich.text import Text

    from m365watch.ledger.quarantine import NamedBlob
    from m365watch.registry.ports import WaitingBlob

QUOTED_LENGTH_MAX = 300
"""Longer errors, which is to say pages of somebody's proxy, are cut where people read them; never in JSON."""


@dataclass(frozen=True, slots=True)
class Totals:
    """The figures of all feeds together."""

    listed: int
    delivered: int
    waiting: int
    quarantined: int
    lost: int
    records: int
    duplicates: int
    records_quarantined: int
    pieces_dropped: int
    unlisted_s: float

    @property
    def complete(self) -> bool:
        """Whether everything was listed and delivered, and nothing set aside."""
        return self.listed == self.delivered and not self.records_quarantined and not self.unlisted_s

    @property
    def pieces_kept(self) -> int:
        """Pieces that are in quarantine now."""
        return self.records_quarantined - self.pieces_dropped

    def since(self, before: Totals) -> Totals:
        """What came after `before`; what waits is what waits now."""
        return Totals(
            listed=self.listed - before.listed,
            delivered=self.delivered - before.delivered,
            waiting=self.waiting,
            quarantined=self.quarantined - before.quarantined,
            lost=self.lost - before.lost,
            records=self.records - before.records,
            duplicates=self.duplicates - before.duplicates,
            records_quarantined=self.records_quarantined - before.records_quarantined,
            pieces_dropped=self.pieces_dropped - before.pieces_dropped,
            unlisted_s=max(0.0, self.unlisted_s - before.unlisted_s),
        )


def totals_of(feeds: Iterable[FeedProgress]) -> Totals:
    """The sums over `feeds`."""
    rows = list(feeds)
    return Totals(
        listed=sum(row.blobs_listed for row in rows),
        delivered=sum(row.blobs_delivered for row in rows),
        waiting=sum(row.blobs_waiting for row in rows),
        quarantined=sum(row.blobs_quarantined for row in rows),
        lost=sum(row.blobs_lost for row in rows),
        records=sum(row.records_delivered for row in rows),
        duplicates=sum(row.records_duplicate for row in rows),
        records_quarantined=sum(row.records_quarantined for row in rows),
        pieces_dropped=sum(row.pieces_dropped for row in rows),
        unlisted_s=sum(row.unlisted_s for row in rows),
    )


def completeness_line(progress: RunProgress) -> str:
    """The account of everything so far: every blob that was listed is in exactly one of the counts."""
    return sums_line(totals_of(progress.feeds))


def sums_line(sums: Totals) -> str:
    """The figures of all feeds together as one line."""
    waiting = f", {sums.waiting:,} waiting" if sums.waiting else ""
    unlisted = f"; {span(sums.unlisted_s)} never listed" if sums.unlisted_s else ""
    kept = f", {count(sums.pieces_kept, 'piece')} kept in quarantine" if sums.pieces_kept else ""
    return (
        f"{count(sums.listed, 'blob')} listed, {sums.delivered:,} delivered, {sums.lost:,} lost, "
        f"{sums.quarantined:,} quarantined{waiting}; "
        f"{count(sums.records, 'record')}{kept}, {count(sums.duplicates, 'duplicate')} left out{unlisted}"
    )


def waiting_line(blob: WaitingBlob) -> str:
    """One blob that waits for a retry: which, how often it was tried, when next, and why it failed."""
    return f"waiting: {blob.feed} {plain(blob.content_id)}: {course_of(blob)}"


def course_of(blob: WaitingBlob, *, reason_length_max: int = QUOTED_LENGTH_MAX) -> str:
    """How often a blob was tried, when it is tried next, and why the last try failed."""
    tried = f"{count(blob.attempts, 'try', 'tries')}, next at {moment(blob.next_try_at)}"
    return f"{tried}; {quoted(blob.last_error, length_max=reason_length_max)}"


def cure_of(blob: NamedBlob) -> str | None:
    """What a person can do about a blob that is not delivered; None where nothing has to be done."""
    match blob.state:
        case BlobState.WAITING if blob.missing_outputs:
            return f"see what the running collector says of the output {', '.join(blob.missing_outputs)}"
        case BlobState.WAITING:
            return blob.feed_fix
        case BlobState.QUEUED | BlobState.LEFT_OUT:
            return f"see what the running collector says of the output {', '.join(blob.missing_outputs)}"
        case BlobState.QUARANTINED:
            return "look at its bytes with `m365watch quarantine`; then `m365watch quarantine retry --all`"
        case BlobState.LOST:
            return "fetch its time again from the audit search, which keeps 180 days: `m365watch recover`"
        case BlobState.DELIVERED:
            return None


def figure_cell(number: int, *, style: str = "") -> Text:
    """A count of at most 9 places: `9,999,999`, then `12.3 M`."""
    from rich.text import Text

    text = f"{number:,}" if number < 10_000_000 else f"{number / 1_000_000:,.1f} M"
    return Text(text, style=style if number else "dim")


def whole_line(text: str | Text, *, style: str = "") -> Text:
    """A line with a name or a command in it, which the terminal may wrap but we do not: it is to be copied.

    For a console that prints without cropping.
    """
    from rich.text import Text

    line = Text.assemble(text, style=style)
    line.no_wrap, line.overflow = True, "ignore"
    return line


def shortened_within(text: str, length_max: int) -> str:
    """At most so many characters: what is left out is in the middle, both ends tell names apart."""
    if len(text) <= length_max:
        return text
    kept = length_max - 1
    return f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"


def quoted(text: str, *, length_max: int = QUOTED_LENGTH_MAX) -> str:
    """`text` of somebody else's making, safe for a terminal and not endless."""
    shown = plain(text)
    return shown if len(shown) <= length_max else shown[: length_max - 1] + "…"


def moment(when: datetime | None) -> str:
    """`2026-11-24 11:55:00Z`; `-` for None."""
    return "-" if when is None else f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """`1 blob`, `2,345 blobs`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def span(seconds: float | None) -> str:
    """A span of time in one unit, at most 7 wide: `42 s`, `26 min`, `3.6 h`, `6.3 d`; `-` for None."""
    if seconds is None:
        return "-"
    seconds = max(0.0, seconds)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:,.1f} d"


def content_name(feed: Feed) -> str:
    """A feed's name where its tenant is known from the place: AzureActiveDirectory, Exchange, DLP."""
    return str(feed.content_type).removeprefix("Audit.").removesuffix(".All")
