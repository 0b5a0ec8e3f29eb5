"""Whether a collector runs and gets on: for the health checks of containers and service managers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from m365watch.cli.terminal.formatting import moment
from m365watch.common.progress import FeedProgress

WITHIN_MINUTES = 15
"""Feeds are listed every 5 minutes unless the settings say otherwise."""


def alive_line(
    holder: str | None, feeds: Sequence[FeedProgress], *, now: datetime, within: timedelta
) -> tuple[bool, str]:
    """Whether a collector lives, and that in one line.

    One lives that holds the ledger (`holder`) and has had an answer of Microsoft, be it a refusal, within
    that time: a service that is away is no reason to begin anew. One without feeds has just begun.
    """
    if holder is None:
        return False, "no collector runs with this state directory"
    answers = [at for feed in feeds for at in (feed.listed_at, feed.last_error_at) if at is not None]
    if not answers:
        return True, f"{holder} runs, and has listed nothing yet"
    last = max(answers)
    if now - last > within:
        return False, f"{holder} holds the ledger, and has asked Microsoft nothing since {moment(last)}"
    return True, f"{holder} runs, and heard of Microsoft last at {moment(last)}"
