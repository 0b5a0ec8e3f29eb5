"""The addresses of Graph's service announcements; always on the configured host, whatever an answer says.

Source: Microsoft Graph v1.0, "List healthOverviews", "List issues", "List serviceAnnouncement messages".
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from urllib.parse import quote

from yarl import URL

from m365watch.sources.audit_search.urls import next_query_of


class Kind(StrEnum):
    """The three kinds of announcements, as `announcements` in the settings names them."""

    OVERVIEWS = "overviews"
    """How each service stands now."""
    ISSUES = "issues"
    """Incidents and advisories."""
    POSTS = "messages"
    """What the message center says of changes to come."""


_PATHS = {Kind.OVERVIEWS: "healthOverviews", Kind.ISSUES: "issues", Kind.POSTS: "messages"}


class AnnouncementUrls:
    """The addresses of one cloud; pure."""

    def __init__(self, graph_url: str) -> None:
        """`graph_url` is the host, without `/v1.0`."""
        self._root = f"{graph_url.rstrip('/')}/v1.0/admin/serviceAnnouncement"

    def first_page(self, kind: Kind, *, since: datetime | None = None) -> URL:
        """The first page of a kind; with `since`, of those that were modified from then on."""
        if since is None:
            return self._url(kind, "")
        condition = f"lastModifiedDateTime ge {since:%Y-%m-%dT%H:%M:%SZ}"
        return self._url(kind, f"?$filter={quote(condition, safe=':')}")

    def next_page(self, kind: Kind, next_link: str, *, where: str) -> URL:
        """The page that an `@odata.nextLink` means: its query, at the kind's own path.

        Raises: BadAnswer where it has none or is too long.
        """
        return self._url(kind, f"?{next_query_of(next_link, where=where)}")

    def _url(self, kind: Kind, rest: str) -> URL:
        return URL(f"{self._root}/{_PATHS[kind]}{rest}", encoded=True)
