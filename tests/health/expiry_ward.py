"""Applications of one or many tenants, and a Graph that answers as it is told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from m365watch.auth.app_registration import RegisteredSecret, Registration, Standing
from m365watch.auth.credentials.client_secret.spec import ClientSecretSettings
from m365watch.common.errors import CollectorError
from m365watch.common.model import TenantId
from m365watch.config.models.clouds import Cloud
from m365watch.config.models.credentials import CredentialSettings
from m365watch.config.models.settings import TenantSettings
from m365watch.health.expiry.expiry_store import KnownApplication, known_applications
from m365watch.health.expiry.watch import ExpiryWatch
from m365watch.ledger.queries import ledger_for_reading
from m365watch.ledger.sqlite_ledger import LEDGER_FILE, SqliteLedger
from m365watch_testing.clock import START, FakeClock
from m365watch_testing.credentials import client_secret
from m365watch_testing.loop import CallsInLine

TENANT = TenantId("41463f53-8812-40f4-890f-865bf6e35190")
CLIENT = "0a1b2c3d-0000-4000-8000-000000000001"
SECRET = "xY7~ThisIsTheSecretOfTheApplication"
CLOUD = Cloud("test", "https://login", "https://manage", "https://manage", "https://graph")
DAY = timedelta(days=1)


def tenant_of(
    *credentials: CredentialSettings, tenant_id: str = TENANT, cloud: Cloud = CLOUD, publisher_id: str = ""
) -> TenantSettings:
    return TenantSettings(
        input_name="office365",
        input_id="1",
        tenant_id=TenantId(tenant_id),
        client_id=CLIENT,
        credentials=credentials or (secret(),),
        cloud=cloud,
        publisher_id=publisher_id,
        services=(),
        requests_per_minute=None,
        lookback_s=7_200,
    )


def secret(ends_at: datetime | None = None, *, value: str = SECRET) -> ClientSecretSettings:
    return client_secret(value, expires_at=ends_at)


def listed(*ends_at: datetime, hint: str = SECRET[:3]) -> Registration:
    """A registration with secrets that begin so and end then."""
    return Registration(Standing.LISTED, tuple(RegisteredSecret(at, None, hint) for at in ends_at))


class Graph:
    """What each tenant answers, and who was asked when."""

    def __init__(self, clock: FakeClock, answer: Registration | CollectorError | None = None) -> None:
        self.answers: dict[str, Registration | CollectorError] = {}
        self.answer = answer or Registration(Standing.NOT_PERMITTED)
        """Of every tenant without one of its own."""
        self.asked: list[tuple[str, datetime]] = []
        self._clock = clock

    async def __call__(self, tenant: TenantSettings) -> Registration:
        self.asked.append((tenant.tenant_id, self._clock.now()))
        answer = self.answers.get(tenant.tenant_id, self.answer)
        if isinstance(answer, CollectorError):
            raise answer
        return answer


class Ward:
    """A ledger, a Graph, and the watch of one run over the applications of `tenants`."""

    def __init__(self, folder: Path, now: datetime = START) -> None:
        self.clock = FakeClock(now)
        self.graph = Graph(self.clock)
        self.folder = folder
        self.ledger = SqliteLedger(folder, outputs=frozenset({"lake"}), now=self.clock.now())
        self.start()

    def start(self, *tenants: TenantSettings) -> None:
        """Another run, which knows what the ledger remembers."""
        self.watch = ExpiryWatch(
            tenants or (tenant_of(),),
            ask=self.graph,
            ledger=self.ledger,
            calls=CallsInLine(),
            clock=self.clock,
        )

    async def look_after(self, span: timedelta) -> None:
        await self.clock.advance(span.total_seconds())
        await self.watch.look()

    def remembered(self) -> Sequence[KnownApplication]:
        """What another process reads."""
        with ledger_for_reading(self.folder / LEDGER_FILE) as connection:
            return known_applications(connection)
