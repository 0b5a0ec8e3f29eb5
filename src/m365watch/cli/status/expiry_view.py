"""What `status` shows of credentials: which expire soon, when the others do, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from rich.text import Text

from m365watch.cli.terminal.formatting import whole_line
from m365watch.cli.terminal.json_output import instant
from m365watch.common.text import plain
from m365watch.health.expiry.credential_expiry import Judged, judge
from m365watch.health.expiry.expiry_text import cure_of, expiry_text, place_of, standing_text, unknown_cure
from m365watch.registry.credential_specs import Source

if TYPE_CHECKING:
    from m365watch.health.expiry.expiry_store import KnownApplication


def credential_lines(
    applications: Sequence[KnownApplication], *, now: datetime, shown_max: int
) -> list[Text]:
    """Each credential that expires soon or has expired, with its cure; then the others, in fewer words.

    At most `shown_max` of either, the soonest end first, and how many more there are.
    """
    known = sorted(
        _judged(applications, now), key=lambda pair: (pair[1].left is None, pair[1].left or timedelta())
    )
    near = [pair for pair in known if pair[1].threshold is not None]
    others = [pair for pair in known if pair[1].threshold is None]
    is_alone = len(applications) == 1 and len(applications[0].tenants) == 1
    lines = []
    for application, judged in near[:shown_max]:
        where = "" if is_alone else f"{place_of(application)}: "
        text = plain(f"expiry: {where}{expiry_text(application, judged)}")
        lines += [whole_line(text, style="bold red" if judged.stops_collecting else "yellow")]
        lines += [whole_line(f"hint: {plain(cure_of(application, judged))}")]
    for application, judged in others[:shown_max]:
        where = "" if is_alone else f"{place_of(application)}: "
        lines.append(
            whole_line(plain(f"credential: {where}{standing_text(application, judged)}"), style="dim")
        )
    more = len(near[shown_max:]) + len(others[shown_max:])
    return [*lines, *([Text(f"credential: and {more:,} more in --json", style="dim")] if more else [])]


def credentials_document(applications: Sequence[KnownApplication], *, now: datetime) -> list[dict[str, Any]]:
    """`credentials` of `status --json`: one object for each credential of each application."""
    return [
        {
            "input": application.input_name,
            "client_id": application.client_id,
            "tenants": application.tenants,
            "credential": judged.number,
            "kind": judged.end.kind,
            "expires_at": instant(judged.ends_at),
            "certain": len(judged.end.ends) == 1,
            "days_left": None if judged.days_left is None else round(judged.days_left, 2),
            "source": str(judged.end.source),
            "note": judged.end.note or None,
            "asked_at": instant(application.asked_at) if judged.end.mark else None,
            "warning": None if judged.threshold is None else expiry_text(application, judged),
            "stops_collecting": judged.stops_collecting,
            "fix": _fix(application, judged),
        }
        for application, judged in _judged(applications, now)
    ]


def _fix(application: KnownApplication, judged: Judged) -> str | None:
    if judged.threshold is not None:
        return cure_of(application, judged)
    return (unknown_cure(application, judged) or None) if judged.end.source is Source.UNKNOWN else None


def _judged(
    applications: Sequence[KnownApplication], now: datetime
) -> Iterator[tuple[KnownApplication, Judged]]:
    for application in applications:
        for judged in judge(application.credentials, now):
            yield application, judged
