"""One registration: a health check of another package is known wherever checks are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import tide
from asking import view_of
from configured import Configured
from m365watch.board.access.roles import Access, Role
from m365watch.board.pages.health.issues import needs
from m365watch.board.widgets.widget_types import Said
from m365watch.cli.program import app
from m365watch.health.checks.check_specs import CHECKS, MachineContext
from m365watch.ledger.sqlite_ledger import SqliteLedger
from m365watch.registry.checks import Checked, Place, Verdict
from preflight_scene import groups_of, settings_of, simulating
from tools import checks_quoted

ADMIN = Access("ann", Role.ADMIN, tenants=None)
VIEWER = Access("bob", Role.VIEWER, tenants=None)
OF_OTHERS = Access("eve", Role.ADMIN, tenants=frozenset({"x"}))
TOLD = f"the harbor: {tide.HIGH}"


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    with CHECKS.register(tide.SPEC):
        yield


@pytest.fixture
def collector(tmp_path: Path) -> Configured:
    """One that has run, on a machine where the tide is high."""
    found = Configured(tmp_path)
    settings = found.sources.settings
    now = found.sources.clock.now()
    SqliteLedger(settings.state_directory, outputs=frozenset(settings.receivers), now=now).close()
    (settings.state_directory / tide.FILE).touch()
    return found


def ebb(collector: Configured) -> None:
    (collector.sources.settings.state_directory / tide.FILE).unlink()


def run(collector: Configured, *arguments: str) -> str:
    return CliRunner().invoke(app, [*arguments, "--config", str(collector.file)]).stdout


def document(collector: Configured, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(collector, *arguments, "--json"))
    return found


def issues(collector: Configured, access: Access = ADMIN) -> list[Said]:
    view = view_of(access=access)
    return list(asyncio.run(needs(view, collector.sources)).rows)


def test_check_looks_at_the_machine_and_asks_of_each_tenant(tmp_path: Path) -> None:
    async def check() -> dict[Place, list[tuple[Verdict, str]]]:
        async with simulating() as running:
            groups = await groups_of(settings_of(tmp_path, running))
        return {
            one.place: [(step.verdict, step.seen) for step in one.steps if step.check == "tide"]
            for one in groups
        }

    found = asyncio.run(check())

    assert found[Place.MACHINE] == [(Verdict.OK, "it is out")]
    [(verdict, seen)] = found[Place.TENANT]
    assert (verdict, seen.endswith("is dry")) == (Verdict.OK, True)


def test_why_stops_where_it_is_broken(collector: Configured) -> None:
    [tenant] = document(collector, "why")["tenants"]

    assert tenant["broken"] == "tide"
    assert tenant["steps"][-1] == {"step": "tide", "verdict": "broken", "seen": TOLD, "fix": tide.FIX}


def test_status_tells_it_with_its_fix(collector: Configured) -> None:
    [step] = document(collector, "status")["checks"]
    page = run(collector, "status")

    assert (step["step"], step["seen"], step["fix"]) == ("tide", tide.HIGH, tide.FIX)
    assert f"error: tide: {TOLD}" in page
    assert f"hint: {tide.FIX}" in page
    ebb(collector)
    assert document(collector, "status")["checks"] == []


def test_the_health_page_tells_administrators_what_it_found(collector: Configured) -> None:
    """Others hear that it is broken: what was found may name places of the machine."""
    [said] = [one for one in issues(collector) if one.text.lower().startswith(TOLD)]
    assert (said.note, said.tone) == ("Wait six hours.", "critical")

    [less] = [one.text for one in issues(collector, VIEWER) if "tide" in one.text]
    assert tide.HIGH not in less
    assert said not in issues(collector, OF_OTHERS)
    ebb(collector)
    assert not [one for one in issues(collector) if "harbor" in one.text]


def test_both_metrics_have_it(collector: Configured) -> None:
    family = 'm365watch_check_failing{check="tide"}'

    for text in (run(collector, "status", "--metrics"), collector.get("/metrics").text):
        assert f"{family} 1\n" in text
    ebb(collector)
    for text in (run(collector, "status", "--metrics"), collector.get("/metrics").text):
        assert f"{family} 0\n" in text


def test_a_check_that_may_not_look_stops_no_status(collector: Configured) -> None:
    """A folder that is closed to who asks is for `check` to tell."""

    def look(_: MachineContext) -> Sequence[Checked]:
        raise PermissionError

    with CHECKS.register(replace(tide.SPEC, type="fog", look=look)):
        assert [one["step"] for one in document(collector, "status")["checks"]] == ["tide"]


def test_the_docs_have_a_row() -> None:
    row = "| `tide` | Whether the tide is out. | `why`, `status`, Health, metrics |\n"
    assert row in checks_quoted.render()
