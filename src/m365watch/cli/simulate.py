"""`m365watch simulate`: a tenant that behaves like Microsoft's, to try the collector on."""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

if TYPE_CHECKING:
    from m365watch_simulator.service.scenario import Scenario
    from m365watch_simulator.service.server import RunningSimulator, SimulationSettings


_RESPONDS = "User.RevokeSessions.All"
"""A permission of Graph that only an application for responding has."""
_TOKEN_LIFE_S = 7 * 86_400
_LINES_NAMED_MAX = 5

PortOption = Annotated[
    int,
    typer.Option(metavar="PORT", min=0, max=65_535, help="Where to listen on loopback; 0 picks a free port."),
]
DaysOption = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=1,
        max=60,
        help="How much history there is at the start; what is older than 7 days only `recover` gets.",
    ),
]
CertificateOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Register this certificate (PEM) on the applications.",
    ),
]
FederatedTokenOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write there a token that stands for the applications, for a week."),
]
TruthOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Write there what was served and which attacks it holds."),
]
WriteConfigOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write a configuration that collects from it.")
]


def simulate(
    *,
    port: PortOption = 8401,
    seed: Annotated[
        int, typer.Option(metavar="N", help="The same seed gives the same tenant, records and faults.")
    ] = 1,
    tenants: Annotated[int, typer.Option(metavar="N", min=1, help="How many tenants.")] = 1,
    days: DaysOption = 7,
    records_per_day: Annotated[
        int, typer.Option(metavar="N", min=1, help="Records a day and tenant.")
    ] = 10_000,
    page_size: Annotated[int, typer.Option(metavar="N", min=1, help="Blobs on a page of a listing.")] = 200,
    scenario: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Faults: one of --list-scenarios, or a YAML file."),
    ] = None,
    records: Annotated[
        Path | None,
        typer.Option(metavar="FILE", exists=True, dir_okay=False, help="Serve the lines of an NDJSON file."),
    ] = None,
    truth: TruthOption = None,
    write_config: WriteConfigOption = None,
    certificate: CertificateOption = None,
    federated_token: FederatedTokenOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    list_scenarios: Annotated[
        bool, typer.Option("--list-scenarios", help="Print the scenarios there are, and stop.")
    ] = False,
) -> None:
    """Serve a simulated Microsoft 365 tenant on loopback, until stopped.

    It answers as Microsoft's token endpoint, Management Activity API and Graph's audit log queries do,
    faults included.
    SIGTERM and Ctrl-C end it with exit code 0.
    """
    from m365watch_simulator.service.identities import derive_identities, read_certificate
    from m365watch_simulator.service.scenario import load_scenario
    from m365watch_simulator.service.server import SimulationSettings

    if list_scenarios:
        _print_scenarios(as_json=as_json)
        return
    settings = SimulationSettings(
        seed=seed,
        tenants=derive_identities(
            seed, tenants, certificate=None if certificate is None else read_certificate(certificate)
        ),
        days=days,
        records_per_day=records_per_day,
        page_size=page_size,
        scenario=None if scenario is None else load_scenario(scenario),
        records_file=records,
    )
    if records is not None:
        _look_at_records(records)
    files = _Files(truth, write_config, federated_token)
    _serve(settings, files, port=port, as_json=as_json)


def _look_at_records(path: Path) -> None:
    """Refuse a file without any line, and say which lines are no records: each is served all the same."""
    from m365watch.cli.terminal.formatting import count
    from m365watch_simulator.feed.copies import is_readable

    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}") from None
    filled = [number for number, line in enumerate(lines, start=1) if line.strip()]
    if not filled:
        raise typer.BadParameter(f"{path}: it has no line to serve")
    if odd := [number for number in filled if not is_readable(lines[number - 1])]:
        named = ", ".join(map(str, odd[:_LINES_NAMED_MAX])) + (" ..." if len(odd) > _LINES_NAMED_MAX else "")
        share = f"{len(odd):,} of {count(len(filled), 'line')} are no JSON objects (line {named})"
        sys.stderr.write(
            f"warning: {path}: {share}; served as they are, and what a collector has to put in quarantine\n"
        )


class _Files(NamedTuple):
    """What is written beside the service."""

    truth: Path | None
    configuration: Path | None
    federated_token: Path | None


def _serve(settings: SimulationSettings, files: _Files, *, port: int, as_json: bool) -> None:
    import asyncio

    from m365watch.cli.event_loop import StopSignals, run_in_loop
    from m365watch.cli.terminal.console import LineFormat
    from m365watch.cli.terminal.log_output import configure_diagnostics
    from m365watch.common.clock import SystemClock
    from m365watch_simulator.service.server import simulator_running

    configure_diagnostics(line_format=LineFormat.TEXT, level=logging.WARNING, colour=False)
    written = (files.configuration, files.federated_token)
    for folder in [files.truth, *(file.parent for file in written if file is not None)]:
        if folder is not None:
            _make_folder(folder)

    async def serve() -> None:
        stop = asyncio.Event()
        with StopSignals(stop):
            async with simulator_running(settings, clock=SystemClock(), port=port) as running:
                if files.configuration is not None:
                    text = json.dumps(_configuration_for(running, settings.scenario), indent=2) + "\n"
                    _write_private(files.configuration, text)
                if files.federated_token is not None:
                    token = running.issuer.token(SystemClock().now(), life_s=_TOKEN_LIFE_S)
                    _write_private(files.federated_token, f"{token}\n")
                _announce(running, files.configuration, as_json=as_json)
                await stop.wait()
                if files.truth is not None:
                    _write_truth(running, files.truth)

    run_in_loop(serve())


def _configuration_for(running: RunningSimulator, scenario: Scenario | None) -> dict[str, Any]:
    """A collector's; with the application that responds, where the scenario lets it and it is one for all."""
    if scenario is not None and _RESPONDS in scenario.behaviour.graph_roles and len(running.tenants) == 1:
        return running.responding_configuration()
    return running.configuration()


def _make_folder(folder: Path) -> None:
    """Now, and not when there is something to write that would be lost."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(f"{folder}: {error.strerror}") from None


def _announce(running: RunningSimulator, configuration: Path | None, *, as_json: bool) -> None:
    """Tell on stdout where the simulator is and how to collect from it."""
    document = _announcement(running, configuration)
    if as_json:
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        lines = [f"simulated tenant at {running.url}"]
        for tenant in document["tenants"]:
            lines += [f"  {name:<14} {text}" for name, text in tenant.items()]
        sys.stdout.write("\n".join(lines) + "\n")
        if configuration is None:
            sys.stderr.write("hint: --write-config FILE makes a configuration that collects from it\n")
        else:
            sys.stdout.write(f"collect from it: {document['command']}\n")
    sys.stdout.flush()


def _announcement(running: RunningSimulator, configuration: Path | None) -> dict[str, Any]:
    document: dict[str, Any] = {
        "url": running.url,
        "tenants": [
            {
                "tenant_id": tenant.identity.tenant_id,
                "client_id": tenant.identity.client_id,
                "client_secret": tenant.identity.client_secret,
            }
            for tenant in running.tenants
        ],
    }
    if configuration is not None:
        document["command"] = shlex.join(["m365watch", "run", "--config", str(configuration)])
    return document


def _write_private(path: Path, text: str) -> None:
    """The file, readable by its owner only: a collector refuses to keep quiet otherwise."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)


def _write_truth(running: RunningSimulator, folder: Path) -> None:
    """records.ndjson and attacks.ndjson: everything served up to now."""
    import msgspec

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "records.ndjson").open("wb") as records, (folder / "attacks.ndjson").open("wb") as attacks:
        for tenant in running.tenants:
            records.writelines(record + b"\n" for record in tenant.truth().records())
            attacks.writelines(msgspec.json.encode(attack) + b"\n" for attack in tenant.attacks())


def _print_scenarios(*, as_json: bool) -> None:
    from m365watch_simulator.service.scenario import load_scenario, scenario_names

    scenarios = {name: load_scenario(name) for name in scenario_names()}
    if as_json:
        sys.stdout.write(json.dumps({name: _summary(each) for name, each in scenarios.items()}) + "\n")
        return
    width = max(map(len, scenarios))
    for name, each in scenarios.items():
        sys.stdout.write(f"{name:<{width}}  [{each.evidence}] {each.about}\n")


def _summary(scenario: Scenario) -> dict[str, str]:
    return {"about": scenario.about, "evidence": scenario.evidence}
