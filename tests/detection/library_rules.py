"""Rules for tests of the library."""

from __future__ import annotations

DETECTION = {"s": {"Operation": "New-InboxRule"}, "condition": "s"}
