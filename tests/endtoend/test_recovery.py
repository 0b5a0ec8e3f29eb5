"""A hole that the feed no longer serves, filled from Graph's audit search: everything arrives once."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from promises import guarantee

from commands import command
from hurry import HurriedClock, run_hurried
from m365watch.common.clock import system_random
from m365watch.common.errors import SettingsRefused
from m365watch.common.model import Service, Window
from m365watch.ledger.sqlite_ledger import LEDGER_FILE
from m365watch.runtime.recovery_run import Recovery, RecoveryAsked, RecoveryOutcome
from m365watch_simulator.service.scenario import Scenario, parse_scenario
from m365watch_simulator.service.server import RunningSimulator, SimulationSettings, simulator_running
from m365watch_simulator.service.truth import Verdict
from place import BOTH, FILES, LAKE, Place, erase_first_person, records_in_lake

DAYS = 10
FLAWLESS = Verdict([], [], [])


@dataclass(frozen=True, slots=True)
class Scene:
    """A tenant with more history than the feed serves, and a collector's place."""

    place: Place
    running: RunningSimulator
    clock: HurriedClock
    outputs: Mapping[str, Any]

    @property
    def document(self) -> dict[str, Any]:
        return self.running.configuration(outputs=self.outputs)

    @property
    def period(self) -> Window:
        """All of the history."""
        now = self.clock.now().replace(microsecond=0)
        return Window(now - timedelta(days=DAYS, hours=1), now)

    async def collect(self) -> None:
        """What the feed serves is collected."""
        outcome = await self.place.collector(self.document, self.clock).run(once=True, stop=asyncio.Event())
        assert outcome.exit_code == 0

    def recovery(self, **asked: Any) -> Recovery:
        settings = self.place.settings(self.document)
        wanted = RecoveryAsked(asked.pop("period", self.period), **asked)
        return Recovery(settings, wanted, clock=self.clock, random=system_random(1))

    async def recover(self, **asked: Any) -> RecoveryOutcome:
        return await self.recovery(**asked).run(asyncio.Event())

    def verdicts(self) -> dict[str, Verdict]:
        truth = self.running.tenants[0].truth()
        return {name: truth.judge(held) for name, held in self.place.holdings().items()}


@asynccontextmanager
async def scene_in(
    folder: Path, *, scenario: Scenario | None = None, outputs: Mapping[str, Any] = BOTH
) -> AsyncIterator[Scene]:
    clock = HurriedClock()
    settings = SimulationSettings(
        seed=5, days=DAYS, records_per_day=80, page_size=50, live=False, scenario=scenario
    )
    async with simulator_running(settings, clock=clock) as running:
        yield Scene(Place(folder), running, clock, outputs)


def hurried(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """`test` run to its end in a loop whose waits are short."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        run_hurried(test(*args, **kwargs))

    return run


def graph_scenario(**behaviour: Any) -> Scenario:
    return parse_scenario(json.dumps({"behaviour": behaviour}), where="test")


@guarantee(8)
@pytest.mark.slow
@hurried
async def test_a_hole_beyond_the_week_is_filled_once(tmp_path: Path) -> None:
    """What the feed brought is left out, what is older arrives, and a second recovery adds nothing."""
    async with scene_in(tmp_path) as scene:
        await scene.collect()
        assert any(verdict.missing for verdict in scene.verdicts().values())

        first = await scene.recover()
        assert (first.exit_code, first.problems) == (0, ())
        assert scene.verdicts() == {"files": FLAWLESS, "lake": FLAWLESS}
        assert sum(row.new for row in first.services) > 0
        assert sum(row.had for row in first.services) > 0
        assert all(row.found == row.had + row.new for row in first.services)

        second = await scene.recover()
        assert (second.exit_code, [row.new for row in second.services]) == (0, [0] * 5)
        assert scene.verdicts() == {"files": FLAWLESS, "lake": FLAWLESS}
        assert scene.running.report["violations"] == []


@guarantee(8)
@pytest.mark.slow
@hurried
async def test_what_was_recovered_first_is_left_out_of_the_feed(tmp_path: Path) -> None:
    """The identity is the same, so the order of the two sources is of no account."""
    async with scene_in(tmp_path) as scene:
        assert (await scene.recover()).exit_code == 0
        await scene.collect()

        assert scene.verdicts() == {"files": FLAWLESS, "lake": FLAWLESS}


@guarantee(8)
@pytest.mark.slow
@hurried
async def test_faults_of_graph_cost_no_record(tmp_path: Path) -> None:
    """Throttling, time-outs, resets, refused tokens: asked again, with patience."""
    rules = [
        {"on": "graph", "answer": answer, "probability": 0.15, "times": 4}
        for answer in ("retry_after", "html_503", "reset", "unauthorized_message", "empty_body", "truncated")
    ]
    scenario = parse_scenario(json.dumps({"rules": rules}), where="test")
    async with scene_in(tmp_path, scenario=scenario) as scene:
        outcome = await scene.recover()

        assert (outcome.exit_code, outcome.problems) == (0, ())
        assert scene.verdicts() == {"files": FLAWLESS, "lake": FLAWLESS}
        assert scene.running.report["faults"]


@pytest.mark.slow
@hurried
async def test_a_query_that_finds_too_much_is_halved(tmp_path: Path) -> None:
    """Graph hands out so many records a query; shorter spans have fewer."""
    async with scene_in(tmp_path, scenario=graph_scenario(graph_records_max=60)) as scene:
        outcome = await scene.recover()

        assert outcome.exit_code == 0
        assert outcome.queries > DAYS + 1
        assert scene.verdicts() == {"files": FLAWLESS, "lake": FLAWLESS}


@guarantee(8)
@pytest.mark.slow
@hurried
async def test_a_stopped_recovery_goes_on_where_it_was(tmp_path: Path) -> None:
    """The queries that were made and the pages that were read are not asked for again."""
    async with scene_in(tmp_path, scenario=graph_scenario(graph_page_records=10)) as scene:
        period = scene.period
        stop = asyncio.Event()
        running = asyncio.create_task(scene.recovery(period=period).run(stop))
        while scene.running.report["requests"].get("graph", 0) < 60:
            await asyncio.sleep(0.02)
        stop.set()
        stopped = await running
        assert (stopped.exit_code, stopped.is_done) == (1, False)
        asked_before = scene.running.report["requests"]["graph"]

        outcome = await scene.recover(period=period)
        assert (outcome.exit_code, outcome.went_on, outcome.is_done) == (0, True, True)
        assert scene.verdicts() == {"files": FLAWLESS, "lake": FLAWLESS}
        whole = outcome.pages + outcome.queries * 4
        assert scene.running.report["requests"]["graph"] - asked_before < whole


@guarantee(8)
@pytest.mark.slow
@hurried
async def test_a_run_delivers_what_a_stopped_recovery_kept(tmp_path: Path) -> None:
    """A blob that is known ends in one state, whoever brings it there."""
    async with scene_in(tmp_path, scenario=graph_scenario(graph_page_records=10)) as scene:
        stop = asyncio.Event()
        running = asyncio.create_task(scene.recovery().run(stop))
        while scene.running.report["requests"].get("graph", 0) < 80:
            await asyncio.sleep(0.02)
        stop.set()
        await running
        await scene.collect()

        verdicts = scene.verdicts()
        assert [(one.repeated, one.altered) for one in verdicts.values()] == [([], [])] * 2


@guarantee(8)
@pytest.mark.slow
@hurried
async def test_the_lake_knows_what_the_ledger_has_forgotten(tmp_path: Path) -> None:
    """After 15 days it knows no record; those in the lake are left out all the same."""
    async with scene_in(tmp_path, outputs={"lake": LAKE}) as scene:
        assert (await scene.recover()).exit_code == 0
        ledger = scene.place.settings(scene.document).state_directory / LEDGER_FILE
        with closing(sqlite3.connect(ledger)) as connection, connection:
            connection.execute("DELETE FROM identity_page")
            connection.execute("DELETE FROM batch")

        outcome = await scene.recover()
        assert [row.new for row in outcome.services] == [0] * 5
        assert scene.verdicts() == {"lake": FLAWLESS}


@guarantee(8)
@hurried
async def test_without_a_lake_nothing_older_than_the_memory_is_recovered(tmp_path: Path) -> None:
    """Nobody could tell what was delivered; whoever can bear repeats says so."""
    async with scene_in(tmp_path, outputs={"files": FILES}) as scene:
        now = scene.clock.now()
        period = Window(now - timedelta(days=20), now - timedelta(days=19))

        with pytest.raises(SettingsRefused, match="--may-repeat"):
            scene.recovery(period=period)
        assert scene.recovery(period=period, may_repeat=True) is not None


@hurried
async def test_a_token_without_the_permission_says_which_one(tmp_path: Path) -> None:
    """And nothing is delivered."""
    async with scene_in(tmp_path, scenario=graph_scenario(graph_roles=[])) as scene:
        outcome = await scene.recover()

        assert (outcome.exit_code, outcome.is_done) == (1, False)
        assert "grant the application the permission AuditLogsQuery.Read.All" in outcome.problems[0]


@hurried
async def test_only_the_services_that_are_asked_for_arrive(tmp_path: Path) -> None:
    """The others are counted."""
    async with scene_in(tmp_path) as scene:
        outcome = await scene.recover(services=(Service.EXCHANGE,))

        assert [row.feed.content_type for row in outcome.services] == ["Audit.Exchange"]
        assert outcome.other > 0
        assert {one.missing == [] for one in scene.verdicts().values()} == {False}


def test_mistakes_of_the_call_are_told_in_a_line(tmp_path: Path) -> None:
    """Exit code 2, no traceback."""

    async def call() -> None:
        file = tmp_path / "m365watch.json"
        for arguments in (
            ("--from", "yesterday", "--to", "2026-01-02"),
            ("--from", "2026-01-02", "--to", "2026-01-02"),
            ("--from", "2026-01-02", "--to", "2926-01-02"),
            ("--from", "2026-01-01", "--to", "2026-01-02", "--service", "teams"),
        ):
            answer = await command("recover", "--config", str(file), *arguments)
            assert answer.exit_code == 2

    asyncio.run(call())


@guarantee(17)
@pytest.mark.slow
@hurried
async def test_what_was_erased_is_not_recovered_though_the_ledger_has_forgotten(tmp_path: Path) -> None:
    """Microsoft still finds it, and the lake has it no more: its marks tell, whatever output asks."""
    async with scene_in(tmp_path) as scene:
        assert (await scene.recover()).exit_code == 0
        lake = tmp_path / "lake"
        gone = erase_first_person(lake, records_in_lake(lake))
        left = sorted(records_in_lake(lake))
        with closing(sqlite3.connect(tmp_path / "state" / LEDGER_FILE)) as connection, connection:
            connection.execute("DELETE FROM identity_page")
            connection.execute("DELETE FROM batch")
        outcome = await scene.recover()

        assert len(gone) > 5
        assert (outcome.exit_code, [row.new for row in outcome.services]) == (0, [0] * 5)
        assert sorted(records_in_lake(lake)) == left
        assert scene.verdicts()["files"] == FLAWLESS
