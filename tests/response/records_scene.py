"""Records for plans that are made of their bytes."""

from __future__ import annotations

from typing import Any

from detected import steps
from m365watch.response.steps.step import Plan, Remove

GLOBAL = "62e90394-69f5-4237-9190-012177145e10"
EVE, FRED, BEA, ADMIN = (f"{name}@contoso.example" for name in ("eve", "fred", "bea", "admin"))
SITE = "https://contoso.sharepoint.example/sites"
APP = "a62919b8-0000-4b3f-ab2a-0000000000aa"
OTHER = "b71a20c9-0000-4c4f-bc3b-0000000000bb"


def role(user: str, operation: str = "Add member to role.", template: str = GLOBAL) -> dict[str, Any]:
    """A record of a role that was given, under the name that records have for it."""
    return {
        "shape": "directory",
        "Operation": operation,
        "ObjectId": user,
        "ModifiedProperties": {
            "Role.DisplayName": ["Company Administrator", ""],
            "Role.TemplateId": [template, ""],
        },
    }


def removals(plan: Plan, word: str) -> list[Remove]:
    """What would be removed by Graph for a word."""
    return [one for step in steps(plan, word) for one in step.operations if isinstance(one, Remove)]
