"""What is odd about the instants from which services are to be collected, seen from now."""

from __future__ import annotations

from datetime import datetime

from m365watch.common.model import LOOK_BACK_MAX
from m365watch.config.models.settings import Settings


def warnings_of_starts(settings: Settings, *, now: datetime) -> list[str]:
    """One line for each `start_time_in_utc` that is yet to come, or older than what Microsoft serves."""
    found = {}
    for tenant in settings.tenants:
        for service in tenant.services:
            oddity = _oddity(service.start_at, now)
            if oddity:
                # A key of an input with many tenants is told once.
                found[f"inputs.{tenant.input_name}.services.{service.service}.start_time_in_utc"] = oddity
    return [f"{key}: {oddity}" for key, oddity in found.items()]


def _oddity(start_at: datetime | None, now: datetime) -> str:
    if start_at is None:
        return ""
    if start_at > now:
        return f"is yet to come; nothing older than {start_at:%Y-%m-%d %H:%M:%S} UTC is collected"
    if start_at < now - LOOK_BACK_MAX:
        days = LOOK_BACK_MAX.days
        return f"is more than {days} days ago; Microsoft serves the last {days} days only"
    return ""
