"""How a receiver tells our posts to a webhook from others."""

from __future__ import annotations

import hashlib
import hmac

from m365watch.common.clock import Clock
from m365watch.notifications.channels.webhook.spec import WebhookSection
from m365watch.notifications.notification import Notification

SIGNATURE_HEADER = "X-M365watch-Signature"
TIMESTAMP_HEADER = "X-M365watch-Timestamp"
KEY_HEADER = "X-M365watch-Key"
VERSION = "v1"


def proof_of(
    notification: Notification, body: bytes, *, section: WebhookSection, clock: Clock
) -> dict[str, str]:
    """The headers by which the receiver knows who posts, and whether it had this before."""
    timestamp = str(int(clock.now().timestamp()))
    headers = {KEY_HEADER: notification.key, TIMESTAMP_HEADER: timestamp}
    if section.signing_secret is not None:
        secret = section.signing_secret.get_secret_value()
        headers[SIGNATURE_HEADER] = sign(secret, timestamp=timestamp, body=body)
    if section.token is not None:
        headers["Authorization"] = f"Bearer {section.token.get_secret_value()}"
    return headers


def sign(secret: str, *, timestamp: str, body: bytes) -> str:
    """The value of the header: `v1=` and 64 hexadecimal digits.

    They are the HMAC-SHA256, under the secret, of the timestamp, a full stop and the body as it is sent.
    """
    signed = timestamp.encode() + b"." + body
    return f"{VERSION}={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"
