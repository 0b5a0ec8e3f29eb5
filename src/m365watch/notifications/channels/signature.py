"""How posts to a webhook are signed, so that its receiver can tell them from others."""

from __future__ import annotations

import hashlib
import hmac

SIGNATURE_HEADER = "X-M365watch-Signature"
TIMESTAMP_HEADER = "X-M365watch-Timestamp"
KEY_HEADER = "X-M365watch-Key"
VERSION = "v1"


def sign(secret: str, *, timestamp: str, body: bytes) -> str:
    """The value of the header: `v1=` and 64 hexadecimal digits.

    They are the HMAC-SHA256, under the secret, of the timestamp, a full stop and the body as it is sent.
    """
    signed = timestamp.encode() + b"." + body
    return f"{VERSION}={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"
