"""A Graph that meets changes with an error, and a desk at it that asks nobody."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from alerts import ANN, make_alert
from m365watch.common.clock import SystemClock
from m365watch.common.errors import CollectorError
from m365watch.detection.alerts.alert import AlertId
from m365watch.response.execution.response_executor import Desk
from m365watch.response.execution.step_actions import Document
from m365watch.response.journal import FILE_NAME, Journal
from m365watch.response.plans.planner import plan_response
from m365watch.response.steps.step import GraphCall, Plan
from m365watch.storage.database import connect
from responding_scene import DELETES


class Halting:
    """Graph that answers reads, and meets every change with an error."""

    def __init__(self, error: CollectorError | None) -> None:
        self.error = error
        self.changed: list[GraphCall] = []
        self.enabled = True

    async def ask(self, call: GraphCall) -> Document:
        if call.method == "GET":
            return {"id": "1", "accountEnabled": self.enabled}
        self.changed.append(call)
        if self.error is not None:
            raise self.error
        self.enabled = bool((call.body or {}).get("accountEnabled"))
        return {}

    async def list(self, path: str, *, most: int) -> Sequence[Document]:
        if path.startswith("/directoryRoles"):
            return [{"id": "another", "accountEnabled": True}]
        return [{"id": "r", "displayName": ".."} | DELETES]


def disable(alert: str = "a" * 32) -> Plan:
    """A plan that disables Ann's account."""
    return plan_response(replace(make_alert("disable_account", user=ANN), id=AlertId(alert)))


def desk_of(plan: Plan, graph: Halting, journal: Journal) -> Desk:
    """A desk that asks nobody."""
    return Desk(plan, graph, journal, clock=SystemClock(), by="tester", ask=None)


def outcomes(folder: Path) -> list[str]:
    """What the journal has, line by line."""
    return [line["outcome"] for line in lines_in(folder)]


def lines_in(folder: Path) -> list[dict[str, Any]]:
    """What the journal there has, as it is written."""
    with closing(connect(folder / FILE_NAME, mode="ro")) as file:
        rows = file.execute("SELECT line FROM response ORDER BY number").fetchall()
    return [json.loads(line) for (line,) in rows]
