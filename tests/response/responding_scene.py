"""A simulated tenant, and plans that are carried out in it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alerts import ANN, make_alert, make_match
from m365watch.common.clock import SystemClock
from m365watch.config.loader import parse_settings
from m365watch.config.models.settings import Settings
from m365watch.response.execution.graph_client import open_graph
from m365watch.response.execution.response_executor import Ask, Desk, Told
from m365watch.response.journal import Journal
from m365watch.response.plans.planner import plan_response
from m365watch.response.steps.step import Plan
from m365watch_simulator.graph.directory import GRANTS, OVER_ADMINISTRATORS, PERMISSIONS, SimulatedDirectory
from m365watch_simulator.service.scenario import parse_scenario
from m365watch_simulator.service.server import SimulationSettings, simulator_running

ALL_ROLES = sorted({role for _, _, roles in PERMISSIONS for role in roles})
RULES = "/users/ann@contoso.example/mailFolders/inbox/messageRules"
DELETES = {"sequence": 1, "actions": {"delete": True}}
"""What an inbox rule of Graph has that deletes what comes."""
LINK = "https://contoso.example/sites/a/b.docx"


def answering(says: bool, asked: list[str] | None) -> Ask:
    """A person who always answers so; `asked` gets the questions."""

    async def ask(question: str) -> bool:
        if asked is not None:
            asked.append(question)
        return says

    return ask


@dataclass
class Scene:
    """A simulated tenant, and the collector's settings for it."""

    directory: SimulatedDirectory
    settings: Settings
    tenant: str
    secret: str

    @property
    def journal(self) -> Journal:
        return Journal(self.settings.state_directory)

    async def apply(
        self,
        plan: Plan,
        *,
        says: bool | None = None,
        even_last: bool = False,
        own_apps: Sequence[str] = (),
        asked: list[str] | None = None,
    ) -> list[Told]:
        """Carry it out; `says` is what a person answers, None: --yes; `asked` gets the questions."""
        async with open_graph(self.settings, self.tenant, clock=SystemClock()) as graph:
            desk = Desk(
                plan,
                graph,
                self.journal,
                clock=SystemClock(),
                by="tester",
                ask=None if says is None else answering(says, asked),
                even_last=even_last,
                own_apps=own_apps,
            )
            return [told for step in plan.steps for told in await desk.carry_out(step)]

    async def undo(
        self, plan: Plan, *, says: bool | None = None, asked: list[str] | None = None
    ) -> list[Told]:
        """Take it back; `says` and `asked` as above."""
        async with open_graph(self.settings, self.tenant, clock=SystemClock()) as graph:
            ask = None if says is None else answering(says, asked)
            desk = Desk(plan, graph, self.journal, clock=SystemClock(), by="tester", ask=ask)
            undone = [await desk.undo(done) for done in self.journal.to_undo(plan.alert_id)]
            found = self.journal.list_found(plan.alert_id)
            let_go = [await desk.let_go(one) for one in found]
            return [*undone, *filter(None, let_go)]

    def plan(self, *words: str, fields: dict[str, str] | None = None, **entities: str) -> Plan:
        alert = make_alert(*words, **entities)
        return replace(plan_response(alert, [make_match(fields)] if fields else []), tenant=self.tenant)


@asynccontextmanager
async def scene_in(folder: Path, roles: Sequence[str]) -> AsyncIterator[Scene]:
    behaviour = {"behaviour": {"graph_roles": list(roles), "directory_roles": OVER_ADMINISTRATORS[:1]}}
    scenario = parse_scenario(json.dumps(behaviour), where="test")
    simulation = SimulationSettings(seed=5, days=0.1, records_per_day=10, live=False, scenario=scenario)
    async with simulator_running(simulation, clock=SystemClock()) as running:
        document: dict[str, Any] = running.configuration(outputs={"lake": {"type": "lake"}})
        tenant = running.tenants[0]
        # What its attacks leave behind depends on the hour at which the test runs.
        tenant.directory.settle = None
        tenant.directory.lists |= {GRANTS: [], ASSIGNMENTS: []}
        credentials = {
            "client_id": tenant.identity.client_id,
            "client_secret": tenant.identity.client_secret,
        }
        document["detections"] = {"response": {"credentials": credentials}}
        settings = parse_settings(document, path=folder / "m365watch.json", environment={})
        settings.state_directory.mkdir(exist_ok=True)
        yield Scene(tenant.directory, settings, tenant.identity.tenant_id, tenant.identity.client_secret)


def in_scene(
    folder: Path, test: Callable[[Scene], Awaitable[None]], *, roles: Sequence[str] = ALL_ROLES
) -> None:
    """Run the test with a simulated tenant."""

    async def main() -> None:
        async with scene_in(folder, roles) as scene:
            for name in (ANN, "eve@contoso.example"):
                scene.directory.add_user(name)
            await test(scene)

    asyncio.run(main())


def names(scene: Scene) -> list[str]:
    """What the inbox rules of Ann are called."""
    return [rule["displayName"] for rule in scene.directory.lists[RULES]]


GLOBAL = "62e90394-69f5-4237-9190-012177145e10"
ASSIGNMENTS = "/roleManagement/directory/roleAssignments"


def make_administrators(scene: Scene, *names: str) -> None:
    """These hold the role that gives all others, and nobody else."""
    scene.directory.lists[ASSIGNMENTS] = [
        {
            "id": f"a{number}",
            "principalId": scene.directory.users[name]["id"],
            "roleDefinitionId": GLOBAL,
            "roleDefinition": {"displayName": "Global Administrator"},
        }
        for number, name in enumerate(names)
    ]


EVE = "eve@contoso.example"
ADMIN = {"ModifiedProperties.Role.DisplayName.new": "Global Administrator"}
