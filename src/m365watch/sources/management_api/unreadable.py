"""What a listing names and nobody can understand, gathered over its pages."""

from __future__ import annotations

from m365watch.common.errors import ListingUnreadable
from m365watch.common.model import Feed, Window
from m365watch.sources.management_api.responses import ListedPage

NAMED_MAX = 3
"""Elements that the error names; of any more it gives the number."""


class Unreadable:
    """Counts the elements that name no blob; the pages go on meanwhile."""

    def __init__(self) -> None:
        """Nothing so far."""
        self._count = 0
        self._named: list[str] = []

    def note(self, page: ListedPage, *, number: int) -> None:
        """Remember what page `number` (from 1) holds of them."""
        self._count += len(page.unreadable)
        free = NAMED_MAX - len(self._named)
        self._named += [f"page {number} {words}" for words in page.unreadable[:free]]

    def check(self, feed: Feed, window: Window) -> None:
        """Nothing if every element named a blob.

        Raises: ListingUnreadable naming the first ones; its words stay the same from try to try,
        as long as the listing does.
        """
        if not self._count:
            return
        count = "1 element names no blob" if self._count == 1 else f"{self._count} elements name no blob"
        more = ", ..." if self._count > len(self._named) else ""
        raise ListingUnreadable(
            f"{count}: {', '.join(self._named)}{more}",
            where=f"{feed} listing from {window.start:%Y-%m-%dT%H:%M:%SZ}",
            fix=f"report the listing of {feed.content_type} to Microsoft if it stays so; "
            "all the rest is collected, and it is listed again at every poll",
        )
