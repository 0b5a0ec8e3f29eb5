"""Instants to collect from that are not what somebody may have meant."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from m365watch.cli.terminal.start_warnings import warnings_of_starts
from m365watch.config.loader import parse_settings

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
KEY = "inputs.office365.services.exchange.start_time_in_utc"
TENANTS = ["22222222-2222-2222-2222-222222222222", "33333333-3333-3333-3333-333333333333"]


@pytest.mark.parametrize(
    ("start_at", "warnings"),
    [
        (None, []),
        (NOW, []),
        (NOW - timedelta(days=7), []),
        (
            NOW - timedelta(days=7, seconds=1),
            [f"{KEY}: is more than 7 days ago; Microsoft serves the last 7 days only"],
        ),
        (
            NOW + timedelta(seconds=1),
            [f"{KEY}: is yet to come; nothing older than 2026-11-24 12:00:01 UTC is collected"],
        ),
    ],
)
def test_a_start_that_is_out_of_reach_is_told_once(start_at: datetime | None, warnings: list[str]) -> None:
    """Nothing would come, or less than was asked for; a key that is for many tenants is one key."""
    credentials = {"tenant_id": TENANTS, "client_id": TENANTS[0], "client_secret": "made-up"}
    exchange = {"start_time_in_utc": start_at.isoformat()} if start_at else {}
    given = {"office365": {"credentials": credentials, "services": {"exchange": exchange, "dlp": {}}}}
    settings = parse_settings({"inputs": given}, path=Path("/somewhere/c.json"), environment={})

    assert warnings_of_starts(settings, now=NOW) == warnings
