"""What the configuration sets, and what is odd about it."""

from __future__ import annotations

from m365watch.config.models.settings import Settings
from m365watch.health.checks.check_specs import CheckSpec
from m365watch.registry.checks import Check, Checked, good, odd


def check_configuration(settings: Settings) -> list[Checked]:
    """What the file sets, and what is odd about it."""
    outputs = ", ".join(one.name for one in settings.outputs)
    number = len(settings.tenants)
    tenants = "1 tenant" if number == 1 else f"{number:,} tenants"
    seen = f"{settings.path}: {tenants}; outputs: {outputs}"
    return [
        good(Check.CONFIGURATION, seen),
        *(odd(Check.CONFIGURATION, warning) for warning in settings.warnings),
    ]


SPEC = CheckSpec(
    type="configuration",
    rank=10,
    text="The file, and what is odd in it, such as a secret that others can read.",
    look=lambda it: check_configuration(it.settings),
)
