"""What the kernel offers to confine SQL queries."""

from __future__ import annotations

from m365watch.config.models.settings import Settings
from m365watch.health.checks.check_specs import CheckSpec, Surface
from m365watch.lake.sql_sandbox.confinement import CONFINEMENT_FIX, is_root, probe
from m365watch.registry.checks import Check, Checked, good, odd


def check_confinement(settings: Settings) -> list[Checked]:
    """What the kernel offers to confine SQL queries, where there is a lake."""
    if settings.lake_directory is None:
        return []
    found = probe()
    steps = [
        good(Check.PERMISSIONS, found.text)
        if found.is_complete
        else odd(Check.PERMISSIONS, found.text, fix=CONFINEMENT_FIX)
    ]
    if is_root() and not found.is_complete:
        steps.append(odd(Check.PERMISSIONS, "this runs as root", fix="run it as the owner of the lake"))
    return steps


SPEC = CheckSpec(
    type="confinement",
    rank=30,
    text="Where there is a lake: what of the kernel confines SQL queries. Its step is `permissions`.",
    look=lambda it: check_confinement(it.settings),
    shown=frozenset({Surface.HEALTH}),
    tells_notes=True,
)
