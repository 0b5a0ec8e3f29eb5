"""A health check of another package: whether the tide is out, by a file that says so."""

from __future__ import annotations

from collections.abc import Sequence

from m365watch.config.models.settings import TenantSettings
from m365watch.health.checks.check_specs import CheckSpec, MachineContext, Surface
from m365watch.health.checks.tenant_checks import TenantMeans
from m365watch.registry.checks import Checked, bad, good

FILE = "tide"
HIGH = "it is high"
FIX = "wait six hours"


def _look(it: MachineContext) -> Sequence[Checked]:
    if (it.settings.state_directory / FILE).exists():
        return [bad("tide", HIGH, fix=FIX, subject="the harbor")]
    return [good("tide", "it is out", subject="the harbor")]


async def _ask(_: TenantMeans, tenant: TenantSettings) -> Sequence[Checked]:
    return [good("tide", f"{tenant.tenant_id} is dry")]


SPEC = CheckSpec(
    type="tide",
    text="Whether the tide is out.",
    look=_look,
    ask=_ask,
    shown=frozenset(Surface),
)
