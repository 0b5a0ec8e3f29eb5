"""Rules by the names that a command is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from m365watch.config.models.settings import DetectionSettings


def no_such_rule(name: str, settings: DetectionSettings) -> typer.BadParameter:
    """What to raise where no rule in force has that name: of that about risk, why it is not in force."""
    from m365watch.detection.rules.rule_library import Library

    if settings.risk_points is None and Library().with_risk(1).find(name):
        return typer.BadParameter(
            f"{name} is off: detections.risk_points is 0, so that no rule adds up risk; give it points, as 50"
        )
    return typer.BadParameter(f"there is no rule {name}; `m365watch rules list --all` names all")
