"""How long a service asks to be left alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

AFTER_S_MAX = 3_600.0
"""A service that asks for more is asked again after this."""


def retry_after_s(headers: Mapping[str, str], *, now: datetime) -> float | None:
    """Seconds to wait as `Retry-After` says, a number or a date, within [0, AFTER_S_MAX].

    None where the header is absent or says neither.
    """
    said = headers.get("Retry-After", "").strip()
    if not said:
        return None
    if said.isascii() and said.replace(".", "", 1).isdecimal():
        return min(float(said), AFTER_S_MAX)
    # A date is seldom said, and what reads it takes 3 ms to import.
    from email.utils import parsedate_to_datetime

    try:
        until = parsedate_to_datetime(said)
        seconds = (until.replace(tzinfo=until.tzinfo or UTC) - now).total_seconds()
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), AFTER_S_MAX)
