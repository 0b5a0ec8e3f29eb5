"""The options --from, --to, --tenant and --service, as several commands take them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from m365watch.common.model import Service

if TYPE_CHECKING:
    from m365watch.common.model import Window

FromOption = Annotated[
    str,
    typer.Option(
        "--from", metavar="T", help="The first instant: 2026-11-01 or 2026-11-01T09:30Z; UTC unless it says."
    ),
]
ToOption = Annotated[
    str, typer.Option("--to", metavar="T", help="The instant after the last, written in the same way.")
]
TenantsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--tenant",
        metavar="TENANT",
        help="Only this tenant, by its GUID or its input's name; may be repeated.",
        show_default=False,
    ),
]
ServiceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--service",
        metavar="S",
        help="Only this service, such as exchange; may be repeated.",
        show_default=False,
    ),
]


def parse_period(start: str, end: str, *, now: datetime) -> Window:
    """The half-open period, none of which lies in the future.

    Raises: typer.BadParameter: an instant is none, the period is empty, or it ends after `now`.
    """
    from m365watch.common.model import Window

    period = Window(_instant(start, "--from"), _instant(end, "--to"))
    if period.start >= period.end:
        raise typer.BadParameter("--from has to lie before --to")
    if period.end > now:
        raise typer.BadParameter(f"--to lies in the future; now is {now:%Y-%m-%dT%H:%M:%SZ}")
    return period


def parse_services(given: list[str] | None, *, of_audit: bool = True) -> tuple[Service, ...]:
    """The services that are named: `of_audit` alone, or also what Graph announces.

    Raises: typer.BadParameter: there is no such service.
    """
    known = {
        str(service): service
        for service in Service
        if (service.content_type if of_audit else service.content) is not None
    }
    for name in given or ():
        if name not in known:
            raise typer.BadParameter(f"--service {name}: there are {', '.join(known)}")
    return tuple(dict.fromkeys(known[name] for name in given or ()))


def _instant(text: str, option: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text.strip())
    except ValueError:
        raise typer.BadParameter(f"{option} {text}: write 2026-11-01 or 2026-11-01T09:30Z") from None
    aware = instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    return aware.replace(microsecond=0)
