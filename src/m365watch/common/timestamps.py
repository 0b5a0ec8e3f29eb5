"""Instants as the numbers that files, tables and programs have, and back: since 1970, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def ms_of(at: datetime) -> int:
    """The instant in milliseconds, rounded."""
    return round(at.timestamp() * 1000)


def instant_of_ms(at_ms: float) -> datetime:
    """The instant of that many milliseconds, aware, in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def us_of(at: datetime) -> int:
    """The instant in microseconds, without a float on the way."""
    return (at - EPOCH) // _MICROSECOND


def instant_of_us(at_us: int) -> datetime:
    """The instant of that many microseconds, aware, in UTC."""
    return EPOCH + timedelta(microseconds=at_us)


def iso_of(at: datetime) -> str:
    """2026-11-17T09:00:00Z, with microseconds where there are any; without Z where no zone is known."""
    if at.tzinfo is None:
        return at.isoformat()
    return at.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
