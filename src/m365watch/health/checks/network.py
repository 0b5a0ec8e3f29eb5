"""The hosts of the clouds: each by its proxy, its name, its TLS; and this machine's clock against theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from m365watch.common.clock import Clock
from m365watch.config.models.settings import TenantSettings
from m365watch.health.checks.access_checks import Api, apis_of
from m365watch.health.checks.network_checks import Seen, Way, judge_proxy, look, look_up, way_to
from m365watch.health.checks.reachable import judge_clock
from m365watch.http.session import Session
from m365watch.http.settings import NetworkSettings
from m365watch.registry.checks import Verdict
from m365watch.registry.report import Check, Checked, checked, skipped


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

    def stopped_at(self, address: str, network: NetworkSettings) -> Check | None:
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
