"""What the collector asks of one tenant at Microsoft; the real answers come from `feed.api`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from m365watch.common.model import BlobRef, ContentType, TenantId, Window
from m365watch.common.secret import Secret


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where Microsoft is to send the notifications of one subscription, and until when."""

    address: str
    auth_id: Secret
    """What it shows with each of them."""
    expires_at: datetime


class Api(Protocol):
    """The Management Activity API of one tenant.

    Every call may raise `RetryLater` (Throttled, Unavailable, BadAnswer, TokenRefused),
    `NeedsOperator` (CredentialsRefused, AccessRefused); what else it may raise is said there.
    """

    tenant_id: TenantId

    async def enabled_subscriptions(self) -> frozenset[ContentType]:
        """The content types whose subscription is enabled now."""
        ...

    async def start_subscription(self, content_type: ContentType) -> None:
        """Enable the subscription; one that is enabled already (AF20024) is success."""
        ...

    def list_content(self, content_type: ContentType, window: Window) -> AsyncIterator[list[BlobRef]]:
        """The blobs whose contentCreated lies in `window`, page by page, until the last page.

        Raises: NotSubscribed; WindowRefused (the window, or a page token that expired);
        ListingUnreadable, after the last page, where some of it could not be understood.
        """
        ...

    async def fetch_blob(self, blob: BlobRef) -> bytes:
        """The body of `blob`, decompressed, not yet parsed; it may be cut short.

        Raises: ContentLost (expired, unknown, invalid or empty content); NotSubscribed; BadAnswer
        also where the body is a web page, larger than the bound, or an error object.
        """
        ...
