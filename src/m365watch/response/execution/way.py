"""The way to the Graph of an alert's tenant, with the application that responds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from m365watch.auth.factory import make_credentials
from m365watch.auth.tokens import TokenSource
from m365watch.common.clock import Clock
from m365watch.common.errors import NeedsOperator
from m365watch.config.models.settings import Settings
from m365watch.http.session import open_session
from m365watch.response.execution.graph_client import GraphClient


def own_apps(settings: Settings) -> frozenset[str]:
    """The ids of the applications that collect and respond, in lower case."""
    response = settings.detections.response
    named = (*(one.client_id for one in settings.tenants), response.client_id if response else "")
    return frozenset(one.lower() for one in named if one)


@asynccontextmanager
async def open_graph(
    settings: Settings, tenant_id: str, *, clock: Clock, on_wait: Callable[[float], None] = lambda _: None
) -> AsyncIterator[GraphClient]:
    """Graph of the tenant; `on_wait` hears how long a wait is.

    Raises: NeedsOperator: there is no application for it, or no such tenant.
    """
    response = settings.detections.response
    if response is None:
        raise NeedsOperator(
            "there is no application that may respond",
            fix="give detections.response.credentials; docs/respond.md names the permissions that it needs",
            where=str(settings.path),
        )
    tenant = next((one for one in settings.tenants if one.tenant_id == tenant_id), None)
    if tenant is None or not tenant.cloud.graph_url:
        raise NeedsOperator(
            f"the configuration names no Graph for the tenant {tenant_id}",
            fix="add the tenant to an input, or respond by hand",
            where=str(settings.path),
        )
    async with open_session() as opened:
        session = opened.over(tenant.network)
        credentials = make_credentials(
            response.client_id,
            response.credentials,
            session=session,
            clock=clock,
            cloud=tenant.cloud.name,
        )
        tokens = TokenSource(
            session,
            replace(tenant.cloud, audience=tenant.cloud.graph_url),
            tenant_id=tenant.tenant_id,
            credentials=credentials,
            clock=clock,
        )
        yield GraphClient(
            session,
            tenant.cloud.graph_url,
            tokens=tokens,
            clock=clock,
            tenant=str(tenant.tenant_id),
            on_wait=on_wait,
        )
