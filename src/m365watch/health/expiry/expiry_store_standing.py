"""What is known of a tenant's credentials just now, for commands that look at one tenant."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from m365watch.common.errors import LedgerUnusable
from m365watch.config.models.settings import TenantSettings
from m365watch.health.expiry.expiry_store import KnownApplication, known_applications, seed_of
from m365watch.health.expiry.present import present_ends, with_answers
from m365watch.ledger.queries_reading import ledger_for_reading


def known_now(tenant: TenantSettings, ledger: Path) -> KnownApplication:
    """What settings and files say, with what a collector was last told by Graph; nobody is asked.

    Where there is no ledger, or one of another version, the settings and files alone speak.
    """
    seed, before = 0, None
    with suppress(LedgerUnusable), ledger_for_reading(ledger) as connection:
        seed = seed_of(connection)
        before = next((one for one in known_applications(connection) if _is_about(one, tenant)), None)
    ends = present_ends(tenant.credentials, seed=seed, has_graph=bool(tenant.cloud.graph_url))
    return KnownApplication(
        tenant.input_name,
        tenant.client_id,
        [tenant.tenant_id],
        with_answers(ends, before.credentials if before else ()),
        asked_at=before.asked_at if before else None,
    )


def _is_about(known: KnownApplication, tenant: TenantSettings) -> bool:
    return known.client_id == tenant.client_id and tenant.tenant_id in known.tenants
