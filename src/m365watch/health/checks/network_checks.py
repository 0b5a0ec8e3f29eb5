"""The way to a host: proxy, name, connection, TLS, its time. Looked at with nothing secret sent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from yarl import URL

from m365watch.auth.permissions import Api, apis_of
from m365watch.common.clock import Clock
from m365watch.common.errors import CollectorError
from m365watch.config.models.settings import TenantSettings
from m365watch.health.checks.access_checks import CA_FIX, judge_clock, judge_failure
from m365watch.http.client import Session
from m365watch.http.proxies import is_loopback, proxy_for
from m365watch.http.settings import UNSET_NETWORK, NetworkSettings
from m365watch.http.transport import ExchangeFailed, Failure
from m365watch.registry.checks import Check, Checked, Finding, Step, Verdict, broken, checked, ok, skipped

if TYPE_CHECKING:
    from m365watch.http.probe import Certificate, Looked


DNS_S = 10.0
"""How long a name may take to be resolved."""
_DNS_FIX = "check the hosts of `cloud` and this machine's DNS; behind a proxy name it in `network`"
_NAMES_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Way:
    """How one host is reached."""

    url: URL
    """Scheme, host and port."""
    proxy: URL | None
    """Without user and password; None: directly."""
    network: NetworkSettings = UNSET_NETWORK
    """What else holds on the way."""

    @property
    def host(self) -> str:
        """The host itself."""
        return self.url.host or ""

    @property
    def named_host(self) -> str:
        """The host whose name this machine has to resolve."""
        return (self.proxy.host if self.proxy else self.url.host) or ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look at a server came to."""

    finding: Finding
    date: str | None = None
    """The time that the server said."""
    at: datetime | None = None
    """This machine's time when it did."""


def way_to(address: str, network: NetworkSettings = UNSET_NETWORK) -> Way:
    """The way to the host of `address`, as `network` or the environment says."""
    url = URL(address, encoded=True).origin()
    proxy = proxy_for(url.scheme, url.host or "", network)
    return Way(url, proxy.url.origin() if proxy else None, network)


def judge_proxy(way: Way) -> Finding:
    """By which proxy it goes; its password is no part of it."""
    return ok(Step.PROXY, f"{way.host} {f'by {way.proxy}' if way.proxy else 'directly'}")


async def look_up(way: Way, *, limit_s: float = DNS_S) -> Finding:
    """The host's name, unless that is left to a proxy; then the proxy's own."""
    host = way.named_host
    named = f"the proxy {host}" if way.proxy else host
    try:
        async with asyncio.timeout(limit_s):
            addresses = await asyncio.get_running_loop().getaddrinfo(host, None)
    except (OSError, TimeoutError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        return broken(Step.DNS, f"{named} cannot be resolved ({reason})", fix=_DNS_FIX)
    return ok(Step.DNS, named if is_loopback(host) else f"{named} {addresses[0][4][0]}")


async def look(session: Session, way: Way, clock: Clock) -> Seen:
    """A connection to the host and a request without a token: any answer will do."""
    try:
        looked = await session.over(way.network).look(way.url / "")
    except ExchangeFailed as error:
        return Seen(await _judge_look(session, way, error, clock.now()))
    return Seen(ok(Step.TLS, f"{way.host} {_shown(looked)}"), looked.date, clock.now())


def _shown(looked: Looked) -> str:
    if looked.tls_version is None:
        return "answers over plain HTTP"
    version = looked.tls_version.replace("TLSv", "TLS ")
    certificate = looked.certificate
    return f"{version}, certificate issued by {certificate.issuer}" if certificate else version


async def _judge_look(session: Session, way: Way, error: ExchangeFailed, now: datetime) -> Finding:
    """What failed on the way; of a certificate that was not accepted, whose it is and why."""
    if error.failure is Failure.CERTIFICATE:
        return await _judge_certificate(session, way, now)
    return judge_failure(Step.TLS, CollectorError(f"{way.host}: {error}"))


async def _judge_certificate(session: Session, way: Way, now: datetime) -> Finding:
    """Read the certificate over a connection that takes any, and over which nothing is sent."""
    try:
        shown = (await session.over(way.network).look(way.url, verified=False)).certificate
    except ExchangeFailed:
        shown = None
    if shown is None:
        return broken(Step.TLS, f"{way.host}: the server's certificate was not accepted", fix=CA_FIX)
    seen, fix = _fault_of(shown, way.host, now)
    return broken(Step.TLS, f"{way.host}: the server's certificate was not accepted: {seen}", fix=fix)


def _fault_of(shown: Certificate, host: str, now: datetime) -> tuple[str, str]:
    """Why a certificate was not accepted, as far as it shows, and what to do."""
    if not shown.begins_at <= now < shown.ends_at:
        ended = shown.ends_at <= now
        when = f"{shown.ends_at if ended else shown.begins_at:%Y-%m-%d %H:%MZ}"
        seen = f"it {'ended' if ended else 'begins'} at {when} (issued by {shown.issuer})"
        return seen, f"set this machine's clock right; if it is, {CA_FIX}"
    if shown.is_self_signed:
        return f"{shown.subject} has signed it itself", CA_FIX
    if not _is_for(shown, host):
        names = ", ".join(shown.names[:_NAMES_SHOWN]) or "no name at all"
        return f"it is for {names} (issued by {shown.issuer})", CA_FIX
    return f"it is issued by {shown.issuer}, which this system does not trust", CA_FIX


def _is_for(shown: Certificate, host: str) -> bool:
    wild = f"*.{host.partition('.')[2]}"
    return any(name.lower() in {host.lower(), wild.lower()} for name in shown.names)


class Network:
    """What is known of the hosts; asked once for each, however many tenants live there."""

    def __init__(self, session: Session, clock: Clock, *, limit_s: float) -> None:
        """`limit_s` bounds each answer, as `session` does."""
        self._session = session
        self._clock = clock
        self._limit_s = limit_s
        self._broken: dict[Way, Check] = {}
        self._seen: list[Seen] = []

    async def look(self, ways: Sequence[Way]) -> list[Checked]:
        """The steps of every host, one host after the other, and the clock."""
        found = await asyncio.gather(*map(self._host, ways))
        return [*(step for steps in found for step in steps), self._judge_clock()]

    def stopped_at(self, address: str, network: NetworkSettings) -> str | None:
        """The step at which the way to the host of `address` ends; None where it leads there."""
        return self._broken.get(way_to(address, network))

    async def _host(self, way: Way) -> list[Checked]:
        steps = [checked(judge_proxy(way), subject=way.host)]
        name = checked(await look_up(way, limit_s=self._limit_s), subject=way.host)
        steps.append(name)
        if name.verdict is Verdict.BROKEN:
            self._broken[way] = Check.DNS
            return [*steps, skipped(Check.TLS, Check.DNS, subject=way.host)]
        seen = await look(self._session, way, self._clock)
        if seen.finding.verdict is Verdict.BROKEN:
            self._broken[way] = Check.TLS
        else:
            self._seen.append(seen)
        return [*steps, checked(seen.finding, subject=way.host)]

    def _judge_clock(self) -> Checked:
        if not self._seen:
            return skipped(Check.CLOCK, next(iter(self._broken.values()), Check.TLS))
        seen = next((one for one in self._seen if one.date), self._seen[0])
        return checked(judge_clock(seen.date, seen.at or self._clock.now()))


def ways_of(tenants: Iterable[TenantSettings]) -> list[Way]:
    """The way to every host that the tenants need, each once."""
    ways: dict[Way, None] = {}
    for tenant in tenants:
        cloud = tenant.cloud
        addresses = [cloud.login_url, cloud.management_url]
        if cloud.graph_url and Api.GRAPH in apis_of(tenant.services):
            addresses.append(cloud.graph_url)
        ways |= dict.fromkeys(way_to(address, tenant.network) for address in addresses)
    return list(ways)
