"""The simulated service as tests, the demo and the benchmarks start it.

async with simulator_running(SimulationSettings(seed=7), clock=SystemClock()) as running:
collect(running.configuration())
verdict = running.tenants[0].truth().judge(delivered)
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import format_datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from m365watch.common.clock import Clock
from m365watch.common.errors import NeedsOperator
from m365watch.common.model import Service as CollectedService
from m365watch.http.bounded_listener import Limits, Listener
from m365watch_simulator.entra.federation import Issuer
from m365watch_simulator.entra.managed_identity import APP_SERVICE_PATH, IDENTITY_HEADER, Machine
from m365watch_simulator.entra.openid import OpenId
from m365watch_simulator.entra.registration import Registration
from m365watch_simulator.entra.tokens import GRAPH_PATH, TokenEndpoint
from m365watch_simulator.feed.blobs import BlobMaker
from m365watch_simulator.feed.lateness import Calendar, whole_hour
from m365watch_simulator.feed.listing import Pages
from m365watch_simulator.feed.publication import History, Publication
from m365watch_simulator.feed.replay import ReplaySource
from m365watch_simulator.feed.throttle import Throttle
from m365watch_simulator.feed.webhooks import WebhookCalls
from m365watch_simulator.graph.directory import SimulatedDirectory
from m365watch_simulator.graph.endpoints import GraphService
from m365watch_simulator.organization.records import RecordSource
from m365watch_simulator.service.api import Service
from m365watch_simulator.service.faults import FaultPlan
from m365watch_simulator.service.gate import Gate
from m365watch_simulator.service.identities import TenantIdentity, derive_identities
from m365watch_simulator.service.inspection import Inspection
from m365watch_simulator.service.scenario import Behaviour, Scenario
from m365watch_simulator.service.tenant import HISTORY, SimulatedTenant

if TYPE_CHECKING:
    from m365watch_simulator.organization.organization import Organisation

_SETTLED_MAX = 150_000
"""Records that Graph's people and groups are made of at its first answer; of longer histories those of
attacks alone leave something there."""
_HISTORY_HOURS_MAX = 7 * 24 - 2
"""Two hours short of what can be listed, so that nothing ages out while a test runs."""
_LISTED_DAYS = 7
"""What is older can be had from Graph's audit search only."""
_LOOPBACK = "127.0.0.1"
_LIMITS = Limits(connections=1024, per_address=None)
"""A collector of many tenants is one client, and its connections are one address's."""


@dataclass(slots=True)
class SimulationSettings:
    """What is simulated."""

    seed: int = 1
    tenants: tuple[TenantIdentity, ...] = ()
    """One tenant derived from the seed where none is given."""
    days: float = 7
    """How much history there is at the start; what can be listed ends 7 days back, and Graph has the rest."""
    records_per_day: int = 10_000
    """Per tenant."""
    users: int = 60
    blob_records: int | None = None
    """Exactly so many records a blob, neither late nor twice; None for a life-like mixture."""
    page_size: int = 200
    scenario: Scenario | None = None
    """None for a good day."""
    records_file: Path | None = None
    """NDJSON to serve in place of made records: all of it is there at the start."""
    latency_s: float = 0.0
    """Before every answer."""
    live: bool = True
    """False: everything has come out at the start and nothing follows."""
    precompress: bool = False
    """Make all history before the first request is taken."""
    source: Callable[[TenantIdentity, datetime], RecordSource] | None = None
    """Makes a tenant's records, given the start instant, in place of the simulated organisation."""

    def __post_init__(self) -> None:
        """Fill in the tenant that the seed stands for."""
        self.tenants = self.tenants or derive_identities(self.seed)


@dataclass(slots=True)
class RunningSimulator:
    """A service that answers."""

    url: str
    tenants: tuple[SimulatedTenant, ...]
    started_at: datetime
    issuer: Issuer
    """Makes the federated tokens that the applications trust."""
    openid: OpenId
    """Whoever signs in to an application with OpenID Connect."""
    _inspection: Inspection = field(repr=False)

    @property
    def login_url(self) -> str:
        """Where tokens are had."""
        return self.url

    @property
    def management_url(self) -> str:
        """Where the API is; also the audience of its tokens."""
        return self.url

    @property
    def graph_url(self) -> str:
        """Where Graph's audit log queries are; also the audience of their tokens."""
        return f"{self.url}{GRAPH_PATH}"

    @property
    def identity_variables(self) -> dict[str, str]:
        """The environment in which IMDS is this simulator's."""
        return {"AZURE_POD_IDENTITY_AUTHORITY_HOST": self.url}

    @property
    def app_service_variables(self) -> dict[str, str]:
        """The environment of a process in App Service, whose identity is this simulator's."""
        return {"IDENTITY_ENDPOINT": f"{self.url}{APP_SERVICE_PATH}", "IDENTITY_HEADER": IDENTITY_HEADER}

    @property
    def report(self) -> dict[str, Any]:
        """What was asked so far: the document of /simulator/report."""
        return self._inspection.report_document()

    def configuration(
        self,
        outputs: Mapping[str, Any] | None = None,
        services: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """A collector's configuration with an input for each tenant.

        All services are collected and the outputs left to the collector where none are given.
        """
        wanted = dict(services) if services is not None else _every_service()
        inputs = {
            _input_name(number): self._input(tenant.identity, number, wanted)
            for number, tenant in enumerate(self.tenants, start=1)
        }
        document: dict[str, Any] = {"globals": {"name": "simulated"}, "inputs": inputs}
        return document | ({"outputs": dict(outputs)} if outputs is not None else {})

    def responding_configuration(self) -> dict[str, Any]:
        """The same, with the first tenant's application as the one that responds to alerts."""
        identity = self.tenants[0].identity
        keys = {"client_id": identity.client_id, "client_secret": identity.client_secret}
        return self.configuration() | {"detections": {"response": {"credentials": keys}}}

    def _input(self, identity: TenantIdentity, number: int, services: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "office365",
            "id": str(number),
            "enabled": True,
            "credentials": {
                "tenant_id": identity.tenant_id,
                "client_id": identity.client_id,
                "client_secret": identity.client_secret,
            },
            "cloud": {
                "login_url": self.login_url,
                "management_url": self.management_url,
                "graph_url": self.graph_url,
            },
            "services": services,
        }


@asynccontextmanager
async def simulator_running(
    settings: SimulationSettings, *, clock: Clock, port: int = 0, date_clock: Clock | None = None
) -> AsyncIterator[RunningSimulator]:
    """The simulator, answering on loopback until the block ends; port 0 picks a free one.

    Raises: NeedsOperator: the port is taken. OSError: the file of records cannot be read.
    """
    with closing(_listen(port)) as listener:
        url = f"http://{_LOOPBACK}:{listener.getsockname()[1]}"
        issuer = Issuer(url)
        tenants = [
            _tenant(identity, settings, url=url, clock=clock, issuer=issuer) for identity in settings.tenants
        ]
        if settings.precompress:
            _make_history(tenants, clock.now())
        running, application, webhooks = _assemble(tenants, settings, issuer=issuer, clock=clock)
        ahead = timedelta(seconds=_behaviour(settings).clock_ahead_s)
        application.on_response_prepare.append(_dated(date_clock or clock, ahead))
        runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        assert runner.server is not None  # noqa: S101 - it was set up
        bounded = Listener("simulator", _LIMITS, is_idle=is_idle)
        server = await bounded.serve(runner.server, sock=listener)
        meanwhile = [
            asyncio.create_task(_make_history_meanwhile(tenants, clock.now())),
            asyncio.create_task(webhooks.run()),
        ]
        try:
            yield running
        finally:
            for task in meanwhile:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await webhooks.close()
            server.close()
            await runner.cleanup()


def is_idle(handler: web.RequestHandler) -> bool:
    """Whether the connection waits for a request."""
    waiter = handler._waiter  # noqa: SLF001 - aiohttp tells it nowhere else
    return waiter is not None and not waiter.done()


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((_LOOPBACK, port))
    except OSError as error:
        listener.close()
        what = f"port {port} of {_LOOPBACK} cannot be had: {error.strerror}"
        raise NeedsOperator(what, fix="choose another with --port") from error
    return listener


def _assemble(
    tenants: list[SimulatedTenant], settings: SimulationSettings, *, issuer: Issuer, clock: Clock
) -> tuple[RunningSimulator, web.Application, WebhookCalls]:
    shared = Throttle(_behaviour(settings).shared_requests_per_minute)
    url = issuer.base_url
    gate = Gate(tenants, url=url, clock=clock, latency_s=settings.latency_s, shared=shared)
    inspection = Inspection(tenants, gate)
    openid = OpenId(tenants, gate, base_url=url, seed=settings.seed)
    webhooks = WebhookCalls(tenants, gate)
    application = web.Application()
    application.add_routes(
        [
            *Service(tenants, gate, webhooks).routes(),
            *GraphService(tenants, gate).routes(),
            *Machine(tenants[0], gate, issuer).routes(),
            *openid.routes(),
            *inspection.routes(),
        ]
    )
    running = RunningSimulator(url, tuple(tenants), clock.now(), issuer, openid, inspection)
    return running, application, webhooks


def _dated(
    clock: Clock, ahead: timedelta
) -> Callable[[web.Request, web.StreamResponse], Coroutine[None, None, None]]:
    """Gives every answer a `Date` that is `ahead` of the clock."""

    async def date(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Date"] = format_datetime(clock.now() + ahead, usegmt=True)

    return date


def _behaviour(settings: SimulationSettings) -> Behaviour:
    return (settings.scenario or Scenario()).behaviour


def _tenant(
    identity: TenantIdentity, settings: SimulationSettings, *, url: str, clock: Clock, issuer: Issuer
) -> SimulatedTenant:
    scenario = settings.scenario or Scenario()
    behaviour = scenario.behaviour
    faults = FaultPlan(scenario, seed=settings.seed)
    registration = Registration(identity, behaviour, started_at=clock.now())
    history = _history(identity, settings, clock.now())
    maker = BlobMaker(partition=identity.partition, appears_late_s=behaviour.appears_late_s)
    tenant = SimulatedTenant(
        identity,
        behaviour,
        clock=clock,
        publication=Publication(history, maker=maker, faults=faults),
        faults=faults,
        tokens=TokenEndpoint(
            identity,
            behaviour,
            base_url=url,
            seed=settings.seed,
            issuer=issuer,
            secret_ends_at=registration.secret_ends_at,
        ),
        pages=Pages(
            partition=identity.partition, size=settings.page_size, life_s=behaviour.page_token_life_s
        ),
        registration=registration,
    )
    tenant.directory.acts_as = identity.service_principal_id
    tenant.directory.acts_with = behaviour.directory_roles
    if settings.records_file is None and settings.source is None:
        whole = settings.records_per_day * _history_hours(settings) <= _SETTLED_MAX * 24
        tenant.directory.settle = partial(_settle, history=history, until=clock.now(), whole=whole)
    return tenant


def _settle(directory: SimulatedDirectory, *, history: History, until: datetime, whole: bool) -> None:
    from m365watch_simulator.graph.population import populate
    from m365watch_simulator.organization.organization import Organisation

    source = history.source
    if isinstance(source, Organisation):
        records = _traces(source, history.started_at, until, whole=whole)
        populate(
            directory,
            source.accounts(),
            records,
            applications=source.applications(),
            administrators=source.administrators(),
        )


def _traces(source: Organisation, start: datetime, end: datetime, *, whole: bool) -> Iterable[bytes]:
    """The records that leave something behind: all of them, or those of attacks alone."""
    from m365watch_simulator.graph.population import leaves_traces

    if not whole:
        return source.attack_records(start, end)
    return (one.body for one in source.records_between(start, end) if leaves_traces(one.body))


def _history(identity: TenantIdentity, settings: SimulationSettings, started_at: datetime) -> History:
    hours = _history_hours(settings)
    replayed = settings.records_file is not None
    live = settings.live and not replayed
    calendar = Calendar(
        seed=f"{settings.seed}/{identity.tenant_id}",
        # Windows end at whole seconds: what is out at the start is listed by whoever asks at once.
        epoch=started_at if live else started_at.replace(microsecond=0),
        behaviour=_behaviour(settings),
        live=live,
    )
    return History(
        source=_source(identity, settings, started_at, hours=hours),
        calendar=calendar,
        started_at=whole_hour(started_at - timedelta(hours=hours)),
        blob_records=settings.blob_records,
        changes_records=not replayed,
    )


def _history_hours(settings: SimulationSettings) -> float:
    hours = settings.days * 24
    return hours if settings.days > _LISTED_DAYS else min(hours, _HISTORY_HOURS_MAX)


def _source(
    identity: TenantIdentity, settings: SimulationSettings, started_at: datetime, *, hours: float
) -> RecordSource:
    if settings.records_file is not None:
        return ReplaySource(settings.records_file, now=started_at, days=hours / 24)
    if settings.source is not None:
        return settings.source(identity, started_at)
    # The organisation takes longest to import, and a replay does without it.
    from m365watch_simulator.organization.organization import Organisation

    return Organisation(
        settings.seed, identity.tenant_id, users=settings.users, records_per_day=settings.records_per_day
    )


def _make_history(tenants: list[SimulatedTenant], now: datetime) -> None:
    for tenant in tenants:
        tenant.publication.make(now - HISTORY, now)


async def _make_history_meanwhile(tenants: list[SimulatedTenant], now: datetime) -> None:
    """Make history in a thread, newest hours first, so that listings seldom wait for it."""
    for tenant in tenants:
        for hour in tenant.publication.missing_hours(now - HISTORY, now):
            await asyncio.to_thread(tenant.publication.make_hour, hour)


def _every_service() -> dict[str, Any]:
    return {str(service): {} for service in CollectedService if service.content_type is not None}


def _input_name(number: int) -> str:
    return "office365" if number == 1 else f"office365_{number}"
