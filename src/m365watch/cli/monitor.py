"""`m365watch monitor`: the alerts at Devo that watch the collector itself."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m365watch.cli.configuration import CollectorOption, ConfigOption, JobOption, read_settings
from m365watch.cli.terminal.console import stdout_console, write_line

if TYPE_CHECKING:
    from m365watch.common.secret import Secret
    from m365watch.config.models.settings import Settings
    from m365watch.detection.export.devo_alert_definitions import Definition
    from m365watch.health.devo_alerts import Outcome

API_VARIABLE = "DEVO_ALERTS_API"
TOKEN_VARIABLE = "DEVO_ALERTS_TOKEN"

ApplyOption = Annotated[bool, typer.Option("--apply", help="Install them at Devo, and read them back.")]
RemoveOption = Annotated[bool, typer.Option("--remove", help="Take them away from Devo.")]
ApiOption = Annotated[
    str | None,
    typer.Option(
        "--api",
        metavar="URL",
        envvar=API_VARIABLE,
        help="Devo's Alerts API, such as https://api-us.devo.com/alerts; known from an output to Devo.",
        show_default=False,
    ),
]
TokenOption = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help=f"A token of the type Alert API is in this file; left out, it is in {TOKEN_VARIABLE}.",
        show_default=False,
    ),
]
RecordsOption = Annotated[
    float | None,
    typer.Option(
        "--records-after",
        metavar="HOURS",
        min=1,
        max=168,
        help="Also alert where no record came for so long; longer than your quietest night.",
        show_default=False,
    ),
]


def monitor(
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    apply: ApplyOption = False,
    remove: RemoveOption = False,
    api: ApiOption = None,
    token_file: TokenOption = None,
    records_after: RecordsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Watch the collector from Devo: an alert where it fails, and one where it is dead and says nothing.

    Prints the alerts, each with its query and its trigger, ready for Devo's form. With --apply they are
    installed over Devo's Alerts API and read back; one that is there already is left or brought up to date,
    so that it may be run again. Alerts are told apart by `globals.name`, the collector's name.

    Exit codes: 0 done; 1 Devo could not be reached, or refused; 2 the configuration or the call is wrong.
    """
    from m365watch.cli.monitor_view import monitor_document, monitor_page
    from m365watch.health.devo_alerts import collector_alerts

    if apply and remove:
        raise typer.BadParameter("give --apply or --remove")
    settings = read_settings(config, job=job, collector=collector_file, for_reading=not (apply or remove))
    after = None if records_after is None else timedelta(hours=records_after)
    try:
        # Taken away is also what only another call has installed.
        after = after or (timedelta(hours=1) if remove else None)
        definitions = collector_alerts(
            settings.collector_name,
            says_every=timedelta(seconds=settings.stats_period_s),
            records_after=after,
        )
    except ValueError as error:
        raise typer.BadParameter(f"globals.name: {error}") from None
    outcomes: list[Outcome] | None = None
    if apply or remove:
        root = api_root(api or region_api(settings))
        outcomes = _carry_out(definitions, settings, root=root, token=_read_token(token_file), removes=remove)
    if as_json:
        write_line(_to_json(monitor_document(definitions, outcomes)))
    else:
        stdout_console().print(monitor_page(definitions, outcomes), crop=False)


def region_api(settings: Settings) -> str | None:
    """The Alerts API of the region that an output to Devo sends to; None where none does.

    Source: collector-us.devo.io and api-us.devo.com stand for one region in Devo's pages.
    """
    from m365watch.outputs.devo.spec import DevoSection
    from m365watch.outputs.devo_http.spec import DevoHttpSection

    for output in settings.outputs:
        address = ""
        if isinstance(output, DevoSection):
            address = output.config.address
        elif isinstance(output, DevoHttpSection):
            address = output.config.endpoint.partition("://")[2].partition(":")[0].partition("/")[0]
        name, _, domain = address.partition(".")
        kind, _, region = name.partition("-")
        if domain == "devo.io" and kind in {"collector", "http"} and region:
            return f"https://api-{region}.devo.com/alerts"
    return None


def api_root(given: str | None) -> str:
    """Where the Alerts API is, without a slash at its end.

    Raises: typer.BadParameter where nothing says it, or a token would go out in the clear.
    """
    from m365watch.config.models.clouds import parse_base_url

    if not given:
        raise typer.BadParameter(
            "no output tells Devo's region; name it: https://api-us.devo.com/alerts", param_hint="--api"
        )
    try:
        return parse_base_url(given)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--api") from None


def _carry_out(
    definitions: list[Definition], settings: Settings, *, root: str, token: Secret, removes: bool
) -> list[Outcome]:
    from m365watch.cli.event_loop import run_in_loop
    from m365watch.health.devo_alerts import DevoAlerts
    from m365watch.http.client import open_session

    async def carry_out() -> list[Outcome]:
        async with open_session(settings.network) as session:
            devo = DevoAlerts(session, root=root, token=token)
            if removes:
                return [await devo.remove(one.name) for one in definitions]
            return [await devo.install(one) for one in definitions]

    return run_in_loop(carry_out())


def _read_token(file: Path | None) -> Secret:
    from m365watch.common.secret import Secret
    from m365watch.config.secrets import read_secret_file

    if file is None:
        given = os.environ.get(TOKEN_VARIABLE, "").strip()
        if not given:
            raise typer.BadParameter(
                f"name the file of a token of the type Alert API, or set {TOKEN_VARIABLE}",
                param_hint="--token-file",
            )
        return Secret(given)
    try:
        return Secret(read_secret_file(file))
    except (ValueError, OSError) as error:
        raise typer.BadParameter(f"{file}: {error}", param_hint="--token-file") from None


def _to_json(document: dict[str, object]) -> str:
    from m365watch.cli.terminal.json_output import as_json

    return as_json(document)
