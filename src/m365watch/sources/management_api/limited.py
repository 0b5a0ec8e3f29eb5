"""A tenant's budget of requests in which some feeds have limits of their own."""

from __future__ import annotations

from collections.abc import Mapping

from m365watch.common.clock import Clock
from m365watch.sources.management_api.request_budget import RequestBudget


class LimitedBudget(RequestBudget):
    """The budget of one tenant; a feed with a limit makes at most so many of its requests in any 60 s.

    A feed waits for its own turn first, so that it takes no place of the tenant's that it cannot use.
    """

    def __init__(self, per_minute: int | None, clock: Clock, *, limits: Mapping[str, int]) -> None:
        """`limits` holds requests a minute by the feed's name, as `admit` gets it."""
        super().__init__(per_minute, clock)
        self._of_feeds = {feed: RequestBudget(limit, clock) for feed, limit in limits.items()}

    def change_all(self, per_minute: int | None, *, limits: Mapping[str, int]) -> None:
        """Go on with other limits; what was made within the last minute still counts."""
        self.change(per_minute)
        of_feeds = {}
        for feed, limit in limits.items():
            of_feeds[feed] = self._of_feeds.get(feed) or RequestBudget(limit, self._clock)
            of_feeds[feed].change(limit)
        self._of_feeds = of_feeds

    async def admit(self, feed: str, *, background: bool = False) -> None:
        """Return when the feed's own limit and the tenant's budget have room; `settle` has to follow."""
        own = self._of_feeds.get(feed)
        if own is not None:
            await own.admit(feed, background=background)
            # A limit of one's own counts requests by their sending, and has nothing to wait for.
            own.settle()
        await super().admit(feed, background=background)
