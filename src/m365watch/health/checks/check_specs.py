"""What is known of each health check; `health/checks/specs/<subject>.py` says it."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from m365watch.common.clock import Clock
from m365watch.config.models.settings import Settings, TenantSettings
from m365watch.registry.checks import Checked, Verdict
from m365watch.registry.kinds import Registry

if TYPE_CHECKING:
    from m365watch.health.checks.tenant_checks import TenantMeans

FreeBytes = Callable[[Path], int]
"""The bytes that this user may still write on the disk of a folder that is there."""


def free_bytes(folder: Path) -> int:
    """As the system says."""
    return shutil.disk_usage(folder).free


class Surface(StrEnum):
    """Where a check of this machine is shown besides `check`, which shows all."""

    WHY = "why"
    STATUS = "status"
    HEALTH = "health"
    METRICS = "metrics"


@dataclass(frozen=True, slots=True)
class MachineContext:
    """What a check of this machine works with."""

    settings: Settings
    clock: Clock
    free: FreeBytes = free_bytes


def _looks_at_nothing(_: MachineContext) -> Sequence[Checked]:
    return ()


async def _asks_nothing(_: TenantMeans, __: TenantSettings) -> Sequence[Checked]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CheckSpec:
    """One health check."""

    type: str
    """Its name."""
    aliases: tuple[str, ...] = ()
    """Other names for the same."""
    text: str
    """What it looks at; docs/operating.md has it."""
    look: Callable[[MachineContext], Sequence[Checked]] = _looks_at_nothing
    """What is seen on this machine. It waits for the disk and the system alone, changes nothing, and may run
    beside a collector."""
    ask: Callable[[TenantMeans, TenantSettings], Awaitable[Sequence[Checked]]] = _asks_nothing
    """What servers say of a tenant; asked by `check` alone, and only where its login host can be reached."""
    shown: frozenset[Surface] = frozenset()
    """Where `look` is asked as well; it is asked every few seconds there."""
    tells_notes: bool = False
    """Whether those places show its notes too, and not only what is broken."""
    rank: int = 100
    """Lower ones come first."""


CHECKS: Registry[CheckSpec] = Registry(
    "m365watch.health.checks.specs", group="m365watch.checks", default="configuration", in_modules=True
)
"""Every health check but the steps on a record's way, each of which needs those before it, and those that
come with the spec of an output, a credential or a channel."""


def by_rank() -> list[CheckSpec]:
    """All of them, as they are shown."""
    return sorted(CHECKS.specs, key=lambda one: one.rank)


def trouble_for(surface: Surface, settings: Settings, clock: Clock) -> dict[str, list[Checked]]:
    """By check, what is to be shown there; empty lists where all is well. Waits for the disk."""
    context = MachineContext(settings, clock)
    return {spec.type: _trouble_of(spec, context) for spec in by_rank() if surface in spec.shown}


def _trouble_of(spec: CheckSpec, context: MachineContext) -> list[Checked]:
    """Nothing where this user may not look, which stops no page: `check` tells that."""
    told = {Verdict.BROKEN, Verdict.NOTE} if spec.tells_notes else {Verdict.BROKEN}
    try:
        return [step for step in spec.look(context) if step.verdict in told]
    except OSError:
        return []
