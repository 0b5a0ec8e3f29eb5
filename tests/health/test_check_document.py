"""What `check --json` prints is what docs/reference/status.md says."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime
from pathlib import Path

from m365watch.cli.setup.check_view import check_document
from m365watch.cli.terminal.json_output import as_json
from m365watch.common.clock import SystemClock
from m365watch.health.checks.check_engine import tenants_named
from m365watch.registry.checks import Check, Group, Place, Preflight
from m365watch_simulator.service.faults import FaultPlan
from m365watch_simulator.service.identities import derive_identities
from m365watch_simulator.service.scenario import Scenario
from m365watch_simulator.service.server import SimulationSettings, simulator_running
from preflight_scene import BROKEN, groups_of, preflight, settings_of, steps_of

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "status.md"
STEP_KEYS = {"step", "subject", "verdict", "seen", "fix", "waits_for"}


def test_the_document_has_every_step_and_the_exit_code(tmp_path: Path) -> None:
    """A step that is broken has a cure, one that is skipped says what it waits for."""
    groups = preflight(tmp_path, "secret-expired")
    made = check_document(Preflight(groups), path=tmp_path / "c.json", exit_code=1, now=NOW)
    document = json.loads(as_json(made))
    steps = [step for group in document["groups"] for step in group["steps"]]
    stopped = [step for step in steps if step["verdict"] == "broken"]

    assert (document["schema"], document["at"]) == (1, "2026-11-24T12:00:00Z")
    assert (document["exit_code"], document["broken"]) == (1, True)
    assert document["configuration"] == str(tmp_path / "c.json")
    assert [group["place"] for group in document["groups"]] == ["machine", "network", "tenant", "outputs"]
    assert [bool(group["tenant"]) for group in document["groups"]] == [False, False, True, False]
    assert all(set(step) == STEP_KEYS for step in steps)
    assert [(step["step"], step["subject"]) for step in stopped] == [("token", "client_secret")]
    assert "create a new client secret" in stopped[0]["fix"]
    assert {step["waits_for"] for step in steps if step["verdict"] == "skipped"} == {"token"}
    assert sum(document["counts"].values()) == len(steps)


def test_tenants_are_chosen_by_parts_of_their_ids(tmp_path: Path) -> None:
    """Several parts mean several tenants; one that no tenant has is told."""

    async def main() -> None:
        wanted = SimulationSettings(seed=5, tenants=derive_identities(5, count=3), days=1, records_per_day=2)
        async with simulator_running(wanted, clock=SystemClock()) as running:
            settings = settings_of(tmp_path, running)
            first, second, third = settings.tenants
            assert tenants_named(settings, []) == ([first, second, third], [])
            assert tenants_named(settings, [third.tenant_id.upper(), first.tenant_id[:8]]) == (
                [first, third],
                [],
            )
            assert tenants_named(settings, ["nobody", second.tenant_id]) == ([second], ["nobody"])

    asyncio.run(main())


def test_many_tenants_are_looked_at_together_and_told_in_order(tmp_path: Path) -> None:
    """Each has its group; a host that all live on is looked at once."""

    async def main() -> list[Group]:
        identities = derive_identities(5, count=30)
        wanted = SimulationSettings(seed=5, tenants=identities, days=1, records_per_day=2, live=False)
        async with simulator_running(wanted, clock=SystemClock()) as running:
            rule = {"on": "token", "answer": "aadsts", "code": 700016, "times": "always"}
            running.tenants[7].faults = FaultPlan(Scenario.model_validate({"rules": [rule]}), seed=1)
            settings = settings_of(tmp_path, running)
            found = await groups_of(settings)
            assert [one.name for one in found if one.place is Place.TENANT] == [
                one.tenant_id for one in settings.tenants
            ]
            return found

    groups = asyncio.run(main())

    assert [group.is_broken for group in groups if group.place is Place.TENANT].index(True) == 7
    assert [step.subject for step in steps_of(groups, Check.TLS)] == ["127.0.0.1"]
    assert Preflight(groups).counts[BROKEN] == 1


def test_the_reference_names_every_key_and_every_step() -> None:
    """Whoever reads the document with a program finds there what it may hold."""
    section = PAGE.read_text().partition("## `m365watch check --json`")[2].partition("\n## ")[0]
    named = set(re.findall(r"`([^`]+)`", section))
    keys = {"schema", "at", "configuration", "broken", "exit_code", "counts", "groups[]", "place", "tenant"}

    assert keys | {f"steps[].{key}" for key in STEP_KEYS} | set(map(str, Check)) <= named
