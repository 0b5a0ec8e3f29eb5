"""The alerts about the collector itself: one for what it says, two for when it says nothing more."""

from __future__ import annotations

from datetime import timedelta

from m365watch.detection.export.devo_alert_definitions import Definition, Each, Low
from m365watch.health.devo_error_codes import CONNECTION_CLOSED

SILENT_AFTER = timedelta(hours=1)
"""A running collector says something every 5 minutes unless it is set otherwise, so an hour is no chance."""
SILENT_PERIODS = 3
"""Where it is set to say something more rarely, so many of its times pass before it counts as silent."""


def collector_alerts(
    collector_name: str, *, says_every: timedelta, records_after: timedelta | None
) -> list[Definition]:
    """What watches the collector of that name, as `devo.collectors.out` has it.

    `says_every` is how long it is never silent for.

    Records are watched too where `records_after` says how long a tenant may be silent. Raises: ValueError
    where the name cannot stand in a query.
    """
    name = linq_text(collector_name)
    found = [
        _failed(collector_name, name),
        _silent(collector_name, name, max(SILENT_AFTER, SILENT_PERIODS * says_every)),
    ]
    return found if records_after is None else [*found, _no_records(collector_name, records_after)]


def linq_text(text: str) -> str:
    """`text` as a LINQ string. Raises: ValueError for characters of which Devo documents no escape."""
    if not text or not text.isprintable() or '"' in text or "\\" in text:
        raise ValueError(
            f"{text!r} cannot stand in a query: quotation marks, backslashes and control characters"
        )
    return f'"{text}"'


def _failed(collector_name: str, name: str) -> Definition:
    return Definition(
        name=f"m365watch {collector_name}: collector failed",
        headline="$collector_name lost a connection $messages_unsuccessfully_processed times in 5 minutes",
        description=(
            "Microsoft, a receiver or the store of state closed the connection of job $job_id. Nothing is "
            "lost by it: it is tried again. Where it lasts, ask m365watch status and m365watch why."
        ),
        query=(
            f'from devo.collectors.out where toktains(msg,"{CONNECTION_CLOSED}"), '
            f'toktains(collector_image,"office365"), collector_name = {name} '
            "group every 5m by collector_name, job_id select count() as messages_unsuccessfully_processed"
        ),
        trigger=Each(),
        priority=3,
    )


def _silent(collector_name: str, name: str, after: timedelta) -> Definition:
    return Definition(
        name=f"m365watch {collector_name}: collector silent",
        headline=f"{collector_name} has said nothing for {_hours(after)}: it is dead, or cannot reach Devo",
        description=(
            "A running collector says something all the time. Look whether its process runs and whether "
            "its machine reaches Devo; Microsoft keeps the records for 7 days, and the next run fetches them."
        ),
        query=f"from devo.collectors.out where collector_name = {name}",
        trigger=Low(after),
        priority=5,
    )


def _no_records(collector_name: str, after: timedelta) -> Definition:
    return Definition(
        name=f"m365watch {collector_name}: no records",
        headline=f"no record of Microsoft 365 for {_hours(after)}",
        description=(
            "Either nobody works, or Microsoft publishes nothing, or the collector cannot fetch. "
            "m365watch why names the broken step; m365watch gaps tells unusual silence from usual."
        ),
        query="from cloud.office365.management",
        trigger=Low(after),
        priority=4,
    )


def _hours(after: timedelta) -> str:
    return f"{after / timedelta(hours=1):g} h"
