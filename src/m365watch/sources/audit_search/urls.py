"""The addresses of Graph's audit log queries; always on the configured host, whatever an answer says."""

from __future__ import annotations

import re
from urllib.parse import quote

from yarl import URL

from m365watch.common.errors import BadAnswer
from m365watch.common.urls import query_of

NEXT_LINK_LENGTH_MAX = 8_192
"""Characters of an `@odata.nextLink`."""
_QUERY_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,63}", re.ASCII)
_QUERY_AS_SENT = "!$%&'()*+,-./:;=?@_~"


class GraphUrls:
    """The addresses of one cloud; pure."""

    def __init__(self, graph_url: str) -> None:
        """`graph_url` is the host, without `/v1.0`."""
        self._root = f"{graph_url.rstrip('/')}/v1.0/security/auditLog/queries"

    def queries(self) -> URL:
        """Where a query is made."""
        return URL(self._root, encoded=True)

    def query(self, query: str) -> URL:
        """Where a query tells how it stands."""
        return URL(f"{self._root}/{quote(query, safe='')}", encoded=True)

    def records(self, query: str, next_query: str = "") -> URL:
        """A page of a query's records; `next_query` is what `next_query_of` made of the page before."""
        rest = f"?{next_query}" if next_query else ""
        return URL(f"{self._root}/{quote(query, safe='')}/records{rest}", encoded=True)


def is_query_id(text: str) -> bool:
    """Whether `text` can be the id of a query: it becomes part of addresses and of file names."""
    return _QUERY_ID.fullmatch(text) is not None


def next_query_of(next_link: str, *, where: str) -> str:
    """The query part of an `@odata.nextLink`; its host and path are not followed, whatever they are.

    Raises: BadAnswer where it has no query or is longer than `NEXT_LINK_LENGTH_MAX`.
    """
    if len(next_link) > NEXT_LINK_LENGTH_MAX:
        raise BadAnswer("@odata.nextLink is too long", where=where)
    query = query_of(next_link.strip())
    if not query:
        raise BadAnswer("@odata.nextLink names no next page", where=where)
    return quote(query, safe=_QUERY_AS_SENT, errors="surrogatepass")
