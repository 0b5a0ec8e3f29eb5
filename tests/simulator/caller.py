"""A plain caller of the simulated service, a source of small records, and a way into the loop."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import wraps
from random import Random
from typing import Any, ParamSpec
from urllib.parse import urlsplit
from uuid import UUID

import aiohttp
from yarl import URL

from m365watch.common.model import ContentType
from m365watch_simulator.organization.records import SimulatedRecord
from m365watch_simulator.service.identities import TenantIdentity
from m365watch_simulator.service.scenario import Scenario, parse_scenario
from m365watch_simulator.service.server import RunningSimulator, SimulationSettings, simulator_running
from m365watch_testing.clock import FakeClock

START = datetime(2026, 11, 17, 9, 30, tzinfo=UTC)
EXCHANGE = ContentType.EXCHANGE
P = ParamSpec("P")


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """`test` run to its end in a loop of its own."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class SmallSource:
    """Some records every hour and content type, always the same for an hour."""

    def __init__(self, per_hour: int = 4) -> None:
        self._per_hour = per_hour

    def records_between(self, start: datetime, end: datetime) -> list[SimulatedRecord]:
        hours = int((end - start) / timedelta(hours=1))
        made = [record for number in range(hours) for record in self._hour(start + timedelta(hours=number))]
        return sorted(made, key=lambda record: record.happened_at)

    def _hour(self, hour: datetime) -> list[SimulatedRecord]:
        random = Random(hour.isoformat())
        return [
            self._record(random, content_type, hour + timedelta(minutes=random.randrange(60)))
            for content_type in ContentType
            for _ in range(self._per_hour)
        ]

    def _record(self, random: Random, content_type: ContentType, happened_at: datetime) -> SimulatedRecord:
        fields = {
            "CreationTime": f"{happened_at:%Y-%m-%dT%H:%M:%S}",
            "Id": str(UUID(int=random.getrandbits(128), version=4)),
            "Operation": "FileAccessed",
            "RecordType": 6,
            "Workload": content_type,
            "UserId": "zoë@fabrikam.example",
        }
        body = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
        return SimulatedRecord(content_type, happened_at, body)


@dataclass(frozen=True)
class Reply:
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.document["error"]["code"])


@dataclass
class Caller:
    """Calls as a collector does, for one tenant."""

    session: aiohttp.ClientSession
    running: RunningSimulator
    clock: FakeClock
    number: int = 0
    bearer: str = ""

    @property
    def identity(self) -> TenantIdentity:
        return self.running.tenants[self.number].identity

    async def ask_token(self, *, version: int = 2, tenant: str = "", **changes: str) -> Reply:
        """An answer of the token endpoint; a change of "" leaves the parameter out."""
        resource = (
            {"resource": self.running.url} if version == 1 else {"scope": f"{self.running.url}/.default"}
        )
        form = {
            "grant_type": "client_credentials",
            "client_id": self.identity.client_id,
            "client_secret": self.identity.client_secret,
            **resource,
            **changes,
        }
        path = "oauth2/token" if version == 1 else "oauth2/v2.0/token"
        url = f"{self.running.url}/{tenant or self.identity.tenant_id}/{path}"
        return await self.send("POST", url, data={key: value for key, value in form.items() if value})

    async def sign_in(self) -> None:
        """Have a token for the calls to come."""
        self.bearer = (await self.ask_token()).document["access_token"]

    async def get(self, path: str, **query: str) -> Reply:
        return await self.send("GET", self.feed_url(path, query))

    async def post(self, path: str, **query: str) -> Reply:
        return await self.send("POST", self.feed_url(path, query))

    async def send(self, method: str, url: str, **options: Any) -> Reply:
        headers = {"Authorization": f"Bearer {self.bearer}"} if self.bearer else {}
        headers |= options.pop("headers", {})
        target = URL(url, encoded=True)
        async with self.session.request(
            method, target, headers=headers, allow_redirects=False, **options
        ) as response:
            return Reply(response.status, dict(response.headers), await response.read())

    def feed_url(self, path: str, query: dict[str, str], *, tenant: str = "") -> str:
        pairs = {"PublisherIdentifier": self.identity.tenant_id, **query}
        text = "&".join(f"{key}={value}" for key, value in pairs.items() if value)
        base = f"{self.running.url}/api/v1.0/{tenant or self.identity.tenant_id}/activity/feed"
        return f"{base}/{path}?{text}"

    async def start(self, content_type: str = EXCHANGE) -> Reply:
        return await self.post("subscriptions/start", contentType=content_type)

    async def page(self, start: datetime, end: datetime, content_type: str = EXCHANGE) -> Reply:
        return await self.get(
            "subscriptions/content", contentType=content_type, startTime=seconds(start), endTime=seconds(end)
        )

    async def list_window(
        self, start: datetime, end: datetime, content_type: str = EXCHANGE
    ) -> list[dict[str, str]]:
        """The whole listing, page by page."""
        reply = await self.page(start, end, content_type)
        listed = list(reply.document)
        while following := reply.headers.get("NextPageUri"):
            reply = await self.send("GET", f"{following}&PublisherIdentifier={self.identity.tenant_id}")
            listed += reply.document
        return listed

    async def list_week(self, content_type: str = EXCHANGE) -> list[dict[str, str]]:
        """Everything that can be listed now."""
        now = self.clock.now().replace(microsecond=0)
        days = [now - timedelta(days=7) + timedelta(days=number) for number in range(7)]
        return [
            named
            for day in days
            for named in await self.list_window(day, day + timedelta(days=1), content_type)
        ]

    async def fetch(self, content_id: str, **options: Any) -> Reply:
        return await self.send("GET", self.feed_url(f"audit/{content_id}", {}), **options)

    async def fetch_records(self, content_id: str) -> list[bytes]:
        """A blob's records, each in its own bytes, as the small source writes them."""
        body = (await self.fetch(content_id)).body
        return re.split(rb"(?<=\}),(?=\{)", body[1:-1])


def seconds(instant: datetime) -> str:
    return f"{instant:%Y-%m-%dT%H:%M:%S}"


def host_of(url: str) -> str:
    return urlsplit(url).netloc


def scenario(text: str) -> Scenario:
    return parse_scenario(text, where="a test")


@asynccontextmanager
async def calling(
    rules: str = "", *, per_hour: int = 4, signed_in: bool = True, subscribed: bool = True, **changes: Any
) -> AsyncIterator[Caller]:
    """A caller of a simulator of its own, at an hour that stands still."""
    clock = FakeClock(START, jumps=True)
    settings = SimulationSettings(
        seed=5, days=3, scenario=scenario(rules), source=lambda _identity, _now: SmallSource(per_hour)
    )
    for name, value in changes.items():
        setattr(settings, name, value)
    async with simulator_running(settings, clock=clock) as running, aiohttp.ClientSession() as session:
        caller = Caller(session, running, clock)
        if signed_in:
            await caller.sign_in()
        if signed_in and subscribed:
            await caller.start()
        yield caller
