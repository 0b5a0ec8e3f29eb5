"""The addresses of one tenant's API; always on the configured host, whatever an answer says.

Source: api-contract 2.1 to 2.5 and facts 4 and 6. `$` in a content id stays as it is; everything
else that is not plainly part of a name is percent-encoded.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from urllib.parse import quote, unquote

from yarl import URL

from m365watch.common.errors import BadAnswer, ContentLost
from m365watch.common.model import ContentType, Window
from m365watch.common.urls import query_of
from m365watch.config.models.settings import TenantSettings

CONTENT_ID_LENGTH_MAX = 2_048
NEXT_PAGE_LENGTH_MAX = 8_192
"""Characters; real ones have about 100 and 400."""

_LAST_INSTANT_OF_SECOND = timedelta(microseconds=999_999)
_QUERY_AS_SENT = "!$%&'()*+,-./:;=?@_~"


class Urls:
    """The addresses of one tenant; pure."""

    def __init__(self, tenant: TenantSettings) -> None:
        """`tenant` names host, tenant and publisher."""
        management_url = tenant.cloud.management_url.rstrip("/")
        self._root = f"{management_url}/api/v1.0/{quote(tenant.tenant_id, safe='')}/activity/feed"
        self._publisher = f"PublisherIdentifier={quote(tenant.publisher_id, safe='')}"

    def subscriptions(self) -> URL:
        """Where the subscriptions are listed."""
        return self._url(f"subscriptions/list?{self._publisher}")

    def start(self, content_type: ContentType) -> URL:
        """Where a subscription is started."""
        return self._url(f"subscriptions/start?contentType={content_type.value}&{self._publisher}")

    def listing(self, content_type: ContentType, window: Window) -> URL:
        """The first page of a listing; a window that is not of whole seconds is widened to them."""
        start, end = _whole_seconds(window.start), _whole_seconds(window.end + _LAST_INSTANT_OF_SECOND)
        span = f"startTime={start}&endTime={end}"
        return self._url(f"subscriptions/content?contentType={content_type.value}&{span}&{self._publisher}")

    def next_page(self, next_page_uri: str, *, where: str) -> URL:
        """The page that `next_page_uri` means: its query on the configured host, publisher added again.

        Raises: BadAnswer where it has no query or is longer than `NEXT_PAGE_LENGTH_MAX`.
        """
        if len(next_page_uri) > NEXT_PAGE_LENGTH_MAX:
            raise BadAnswer("NextPageUri is too long", where=where)
        query = query_of(next_page_uri.strip())
        kept = [part for part in query.split("&") if part and not _names_publisher(part)]
        if not kept:
            raise BadAnswer("NextPageUri names no next page", where=where)
        asked = quote("&".join(kept), safe=_QUERY_AS_SENT, errors="surrogatepass")
        return self._url(f"subscriptions/content?{asked}&{self._publisher}")

    def blob(self, content_id: str, *, where: str) -> URL:
        """Where the content is; made of its id alone, as a listing's contentUri has been seen to be garbage.

        Raises: ContentLost where the id cannot be one.
        """
        if not 0 < len(content_id) <= CONTENT_ID_LENGTH_MAX:
            raise ContentLost(f"invalid: a content id of {len(content_id)} characters", where=where)
        segment = quote(content_id, safe="$", errors="surrogatepass")
        if not segment.strip("."):
            segment = segment.replace(".", "%2E")
        return self._url(f"audit/{segment}?{self._publisher}")

    def _url(self, rest: str) -> URL:
        return URL(f"{self._root}/{rest}", encoded=True)


def _whole_seconds(instant: datetime) -> str:
    return f"{instant:%Y-%m-%dT%H:%M:%S}"


def _names_publisher(part: str) -> bool:
    return unquote(part.partition("=")[0]).strip().lower() == "publisheridentifier"
