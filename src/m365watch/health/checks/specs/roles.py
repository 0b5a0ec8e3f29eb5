"""Whether the tokens of a run carry the permissions that its services need."""

from __future__ import annotations

from m365watch.auth.permissions import MEMORY, GrantedRoles
from m365watch.common.errors import LedgerUnusable
from m365watch.config.models.settings import Settings
from m365watch.health.checks.check_specs import CheckSpec, Surface
from m365watch.ledger.queries import ledger_for_reading, remembered
from m365watch.ledger.sqlite_ledger import LEDGER_FILE
from m365watch.registry.checks import Check, Checked, odd


def check_granted_roles(settings: Settings) -> list[Checked]:
    """What the last token of each tenant lacked, as the ledger remembers it; `check` asks for a new token."""
    granted = GrantedRoles()
    try:
        with ledger_for_reading(settings.state_directory / LEDGER_FILE) as connection:
            granted.add(remembered(connection, MEMORY))
    except LedgerUnusable:
        return []
    return [
        odd(Check.ROLES, need.lack, subject=tenant.tenant_id, fix=need.fix)
        for tenant in settings.tenants
        for need in granted.missing(tenant)
    ]


SPEC = CheckSpec(
    type="roles",
    rank=45,
    text="Whether the last token of each tenant carries the permissions that its services need.",
    look=lambda it: check_granted_roles(it.settings),
    shown=frozenset({Surface.STATUS, Surface.HEALTH}),
    tells_notes=True,
)
