"""How far a tenant's recovery has come, as the ledger keeps it; pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import msgspec

from m365watch.common.model import ContentType, Window

SLICE = timedelta(hours=24)
"""The span of one query."""
SLICE_MIN = timedelta(seconds=60)
"""A query that finds too much is halved until it is this short."""


class Tally(msgspec.Struct):
    """What the pages of one slice had, for one content type."""

    found: int = 0
    had: int = 0
    """Those of them that the lake already has."""


class Slice(msgspec.Struct):
    """One query's span and how far it has come."""

    start_s: int
    end_s: int
    query: str = ""
    """The id at Graph; empty before it was made."""
    queries: list[str] = []
    """All ids that the slice has had, the present one last; pages of each may have been delivered."""
    reading: int = 1
    """Grows when the pages have to be read from the first again."""
    pages: int = 0
    next_query: str = ""
    tallies: dict[str, Tally] = {}
    other: int = 0
    """Records of services that were not asked for."""
    is_done: bool = False

    @property
    def span(self) -> Window:
        """The half-open span of CreationTime."""
        return Window(datetime.fromtimestamp(self.start_s, UTC), datetime.fromtimestamp(self.end_s, UTC))

    def forget_pages(self) -> None:
        """Read from the first page again, under other names."""
        self.reading += 1
        self.pages, self.next_query, self.other, self.tallies = 0, "", 0, {}


class Course(msgspec.Struct):
    """A tenant's recovery of one period."""

    start_s: int
    end_s: int
    content_types: list[str]
    created_s: int
    """When it began: the contentCreated of every blob of it."""
    slices: list[Slice]

    @property
    def is_done(self) -> bool:
        """Whether every page was read."""
        return all(one.is_done for one in self.slices)

    @property
    def queries(self) -> list[str]:
        """Every query's id."""
        return [query for one in self.slices for query in one.queries]

    def is_about(self, period: Window, content_types: Iterable[ContentType]) -> bool:
        """Whether it is the recovery of just this."""
        asked = (int(period.start.timestamp()), int(period.end.timestamp()), sorted(map(str, content_types)))
        return (self.start_s, self.end_s, self.content_types) == asked


def plan_course(period: Window, content_types: Iterable[ContentType], *, now: datetime) -> Course:
    """The slices of `period`, oldest first, without gaps."""
    slices, start = [], period.start
    while start < period.end:
        end = min(start + SLICE, period.end)
        slices.append(Slice(int(start.timestamp()), int(end.timestamp())))
        start = end
    return Course(
        int(period.start.timestamp()),
        int(period.end.timestamp()),
        sorted(map(str, content_types)),
        int(now.timestamp()),
        slices,
    )


def halves_of(one: Slice) -> list[Slice]:
    """The slice in two, which have everything before them."""
    middle_s = (one.start_s + one.end_s) // 2
    return [Slice(one.start_s, middle_s), Slice(middle_s, one.end_s)]
