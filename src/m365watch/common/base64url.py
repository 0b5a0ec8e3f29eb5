"""Base64 as tokens have it: for URLs, without padding."""

from __future__ import annotations

import base64


def encoded(raw: bytes) -> str:
    """The bytes as text."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    """The bytes of the text. Raises: binascii.Error."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
