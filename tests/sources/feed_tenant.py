"""The tenant that the tests of this folder ask for, and who gives its tokens."""

from __future__ import annotations

from m365watch.common.model import ContentType, Feed, TenantId
from m365watch.config.models.clouds import Cloud
from m365watch.config.models.settings import TenantSettings
from m365watch_testing.credentials import client_secret

TENANT = TenantId("41463f53-8812-40f4-890f-865bf6e35190")
PUBLISHER = "46b472a7-c68e-4adf-8ade-3db49497518e"
FEED = Feed(TENANT, ContentType.EXCHANGE)


def tenant_at(url: str) -> TenantSettings:
    """The tenant, served at `url`."""
    return TenantSettings(
        input_name="office365",
        input_id="1",
        tenant_id=TENANT,
        client_id="app",
        credentials=(client_secret("secret"),),
        cloud=Cloud("test", url, url, url),
        publisher_id=PUBLISHER,
        services=(),
        requests_per_minute=None,
        lookback_s=7_200,
    )


class Tokens:
    """Gives token1, and the next one for each that is refused."""

    def __init__(self) -> None:
        self.number = 1

    async def current(self) -> str:
        return f"token{self.number}"

    async def renewed(self, refused: str) -> str:
        if refused == f"token{self.number}":
            self.number += 1
        return await self.current()
