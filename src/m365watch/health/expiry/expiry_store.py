"""What the ledger remembers of the ends of credentials: for `status`, and for the next run.

Nothing of a credential is in it but the instant of its end, its kind, and a mark (`credential_ends.py`).
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec

from m365watch.common.errors import LedgerUnusable
from m365watch.config.models.settings import TenantSettings
from m365watch.health.expiry.credential_expiry import present_ends, with_answers
from m365watch.ledger.queries import ledger_for_reading, remembered
from m365watch.registry.credential_specs import CREDENTIALS, CredentialEnd
from m365watch.storage.database import Database

MEMORY = "expiry"
"""Under which name."""


class Told(msgspec.Struct, frozen=True):
    """The warning of a credential that was last told."""

    threshold: int
    ends_at: datetime


class KnownApplication(msgspec.Struct):
    """What is known of one application's credentials."""

    input_name: str
    client_id: str
    tenants: list[str]
    """The tenants that it reads."""
    credentials: list[CredentialEnd] = []
    told: list[Told | None] = []
    """Per credential."""
    asked_at: datetime | None = None
    """When Graph was last asked."""
    home: str = ""
    """The tenant that Graph found it in; empty where none is known."""

    @property
    def key(self) -> tuple[str, str]:
        """No other application has it."""
        return self.input_name, self.client_id


class _Memory(msgspec.Struct):
    applications: list[KnownApplication]


def body_of(applications: list[KnownApplication]) -> str:
    """As JSON, for the ledger."""
    return msgspec.json.encode(_Memory(applications)).decode()


def applications_of(body: str | None) -> list[KnownApplication]:
    """What `body_of` made the text of; nothing for None, and for what another version wrote otherwise."""
    try:
        found = msgspec.json.decode(body or '{"applications":[]}', type=_Memory).applications
    except (msgspec.DecodeError, ValueError, RecursionError):
        return []
    # A kind of another package may be gone.
    return [one for one in found if {end.kind for end in one.credentials} <= CREDENTIALS.by_name.keys()]


def known_applications(connection: Database) -> list[KnownApplication]:
    """What the collector last remembered, read from another process."""
    return applications_of(remembered(connection, MEMORY))


def seed_of(connection: Database) -> int:
    """The ledger's secret seed, which keys the marks."""
    row = connection.execute("SELECT value FROM meta WHERE name = 'identity_seed'").fetchone()
    return int(row[0]) if row else 0


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
