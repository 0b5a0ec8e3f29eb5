"""Service health from a simulated Graph to files and lake: each change once, whatever happens in between."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Any

from promises import guarantee

from commands import Ended, command
from hurry import PATIENCE_HURRIED_S, HurriedClock, run_hurried
from m365watch.common.clock import SystemClock
from m365watch.records.routing import UNION_TABLE
from m365watch.runtime.collector_run import Outcome
from m365watch_simulator.graph.announcements import SERVICES, Announcements
from m365watch_simulator.service.scenario import parse_scenario
from m365watch_simulator.service.server import RunningSimulator, SimulationSettings, simulator_running
from place import FILES, Place, records_in_files


@dataclass(frozen=True, slots=True)
class Scene:
    """A tenant whose service health is collected, and a collector's place."""

    place: Place
    running: RunningSimulator
    clock: HurriedClock
    services: dict[str, Any]

    @property
    def announcements(self) -> Announcements:
        return self.running.tenants[0].announcements

    async def collect(self) -> Outcome:
        document = self.running.configuration(outputs={"files": FILES}, services=self.services)
        return await self.place.collector(document, self.clock).run(once=True, stop=asyncio.Event())

    def records(self) -> list[dict[str, Any]]:
        """What the output holds."""
        return [json.loads(record) for record in records_in_files(self.place.folder / "out")]

    def of(self, operation: str) -> list[dict[str, Any]]:
        return [one for one in self.records() if one["Operation"] == operation]

    def versions(self) -> Counter[tuple[str, str]]:
        """Id and time of every issue and post that arrived, as the simulator writes them."""
        told = [one["Announcement"] for one in self.records() if one["Operation"] != "ServiceStatus"]
        return Counter((one["id"], one["lastModifiedDateTime"]) for one in told)


@asynccontextmanager
async def scene_in(
    folder: Path, services: dict[str, Any] | None = None, **scenario: Any
) -> AsyncIterator[Scene]:
    clock = HurriedClock()
    settings = SimulationSettings(
        seed=9,
        days=1,
        records_per_day=100,
        live=False,
        scenario=parse_scenario(json.dumps(scenario), where="test"),
    )
    async with simulator_running(settings, clock=clock) as running:
        running.tenants[0].announcements.is_still = True
        yield Scene(Place(folder), running, clock, services or {"service_health": {}})


def hurried(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """`test` run to its end in a loop whose waits are short."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        run_hurried(test(*args, **kwargs))

    return run


@guarantee(7)
@hurried
async def test_every_announcement_arrives_once_and_again_only_when_it_has_changed(tmp_path: Path) -> None:
    """Pages, restarts and repeats make no difference; what changes is a record of its own."""
    async with scene_in(tmp_path) as scene:
        assert (await scene.collect()).problems == ()
        assert scene.versions() == Counter(latest(scene.announcements))
        assert {one["Workload"] for one in scene.of("ServiceStatus")} == set(SERVICES)

        before = len(scene.records())
        assert (await scene.collect()).problems == ()
        assert len(scene.records()) == before

        issue = scene.announcements.begin("Microsoft Teams", at=scene.clock.now())
        scene.announcements.revise("MC100003", at=scene.clock.now())
        scene.clock.skip(3600)
        assert (await scene.collect()).problems == ()
        assert len(scene.records()) == before + 3
        scene.announcements.change(issue, status="serviceRestored", at=scene.clock.now())
        assert (await scene.collect()).problems == ()
        assert len(scene.records()) == before + 5
        teams = [one for one in scene.of("ServiceStatus") if one["Workload"] == "microsoftteams"]
        teams.sort(key=lambda one: str(one["StatusTime"]))
        assert [one["Status"] for one in teams] == [
            "ServiceOperational",
            "ServiceDegradation",
            "ServiceOperational",
        ]
        assert scene.running.report["violations"] == []


def latest(announcements: Announcements) -> list[tuple[str, str]]:
    """Each issue and post as it is now."""
    listed = [*announcements.issues.values(), *announcements.posts.values()]
    return [(one["id"], one["lastModifiedDateTime"]) for one in listed]


@hurried
async def test_a_state_has_the_fields_that_devo_names(tmp_path: Path) -> None:
    """An overview with an open issue, in the table that has these columns; Graph's own text is in it."""
    async with scene_in(tmp_path, {"service_health": {"announcements": ["overviews"]}}) as scene:
        issue = scene.announcements.begin(
            "Exchange Online", at=scene.clock.now(), status="serviceDegradation"
        )
        await scene.collect()

        [found] = [one for one in scene.records() if one["Workload"] == "Exchange"]
        assert (found["Id"], found["WorkloadDisplayName"]) == ("Exchange", "Exchange Online")
        assert (found["Status"], found["StatusDisplayName"]) == ("ServiceDegradation", "Service degradation")
        assert issue in found["IncidentIds"]
        statuses = {one["FeatureServiceStatusDisplayName"] for one in found["FeatureStatus"]}
        assert "Service degradation" in statuses
        assert found["StatusTime"] == f"{found['CreationTime']}Z"
        assert found["Announcement"] == {
            "service": "Exchange Online",
            "status": "serviceDegradation",
            "id": "Exchange",
        }
        assert {path.name for path in (tmp_path / "out").iterdir()} - {".parts"} == {UNION_TABLE}
        assert {one["Operation"] for one in scene.records()} == {"ServiceStatus"}


@hurried
async def test_masks_and_an_own_tag_hold_for_it_too(tmp_path: Path) -> None:
    """What is named is masked before any output sees it, and the table is the one that somebody names."""
    mask = {"name": ["Announcement", "posts", "*", "description", "content"], "value": "***"}
    tag = "my.app.health.{workload}"
    health = {"announcements": "issues", "obfuscation_data": [mask], "override_tag": tag}
    async with scene_in(tmp_path, {"service_health": health}) as scene:
        await scene.collect()

        announced = [one["Announcement"] for one in scene.records()]
        contents = {post["description"]["content"] for one in announced for post in one["posts"]}
        assert contents == {"***"}
        tables = {path.name for path in (tmp_path / "out").iterdir()} - {".parts"}
        assert "my.app.health.exchange" in tables
        assert UNION_TABLE not in tables


@hurried
async def test_passing_faults_of_graph_cost_and_repeat_nothing(tmp_path: Path) -> None:
    """Throttling, time-outs, resets, refused tokens, cut answers: asked again."""
    rules = [
        {"on": "announcements", "answer": answer, "probability": 0.2, "times": 2}
        for answer in ("retry_after", "html_503", "reset", "unauthorized_message", "truncated", "empty_body")
    ]
    async with scene_in(tmp_path, rules=rules) as scene:
        outcome = await scene.collect()

        assert (outcome.exit_code, outcome.problems) == (0, ())
        assert scene.versions() == Counter(latest(scene.announcements))
        assert scene.running.report["faults"]


@guarantee(7)
@hurried
async def test_a_missing_permission_is_one_line_and_stops_nothing_else(tmp_path: Path) -> None:
    """What may be read arrives, of health and of every other feed; the line names the permission."""
    services: dict[str, Any] = {"service_health": {}, "exchange": {}}
    behaviour = {"graph_roles": ["ServiceHealth.Read.All"]}
    async with scene_in(tmp_path, services, behaviour=behaviour) as scene:
        outcome = await scene.collect()

        assert outcome.exit_code == 1
        [problem] = outcome.problems
        assert "ServiceMessage.Read.All is missing" in problem
        assert "ServiceHealth.All" in problem
        operations = Counter(one["Operation"] for one in scene.records())
        assert operations["ServiceStatus"] == len(SERVICES)
        assert operations["ServiceIssue"] == len(scene.announcements.issues)
        assert "ServiceMessage" not in operations
        assert len(operations) > 2


@hurried
async def test_while_it_runs_only_what_changed_is_asked_for(tmp_path: Path) -> None:
    """After a first look, Graph is asked for what was modified lately; each change arrives in time."""
    services = {"service_health": {"request_period_in_seconds": 20}}
    async with scene_in(tmp_path, services) as scene:
        document = scene.running.configuration(outputs={"files": FILES}, services=services)
        stop = asyncio.Event()
        collector = scene.place.collector(document, scene.clock)
        running = asyncio.create_task(collector.run(once=False, stop=stop))
        await until(lambda: collector.progress().caught_up)
        asked = await asked_between_looks(scene)
        scene.announcements.revise("MC100001", at=scene.clock.now())
        wanted = len(latest(scene.announcements)) + 1
        await until(lambda: sum(row.records_delivered for row in collector.progress().feeds) > wanted)
        await asyncio.sleep(45)
        looks = await asked_between_looks(scene) - asked
        stop.set()
        assert (await running).exit_code == 0

        posts = [one for one in scene.of("ServiceMessage") if one["Id"] == "MC100001"]
        assert len(posts) == 2
        assert looks > 0 == looks % 3, "three requests a look: no page but the first is needed"


async def asked_between_looks(scene: Scene) -> int:
    """How often Graph was asked for announcements, once no look is under way: the next comes after 20 s."""
    asked, before = scene.running.report["requests"]["announcements"], None
    while asked != before:
        # Half a second in truth: no thread stands still for as long within a look.
        await asyncio.sleep(10)
        asked, before = scene.running.report["requests"]["announcements"], asked
    return int(asked)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_HURRIED_S):
        while not holds():
            await asyncio.sleep(0.1)


@hurried
async def test_a_refused_condition_makes_the_whole_be_read(tmp_path: Path) -> None:
    """Graph may not take the filter of one kind: nothing is missed for that."""
    services = {"service_health": {"request_period_in_seconds": 2, "announcements": "issues"}}
    async with scene_in(tmp_path, services, behaviour={"takes_conditions": False}) as scene:
        document = scene.running.configuration(outputs={"files": FILES}, services=services)
        stop = asyncio.Event()
        collector = scene.place.collector(document, scene.clock)
        running = asyncio.create_task(collector.run(once=False, stop=stop))
        await until(lambda: collector.progress().caught_up)
        issue = scene.announcements.begin("Power BI", at=scene.clock.now() - timedelta(hours=30))
        count = len(scene.announcements.issues)
        await until(lambda: sum(row.records_delivered for row in collector.progress().feeds) >= count)
        stop.set()
        outcome = await running

        assert outcome.problems == ()
        assert issue in {one["Id"] for one in scene.records()}


async def told_of_health(folder: Path, commands: Sequence[str], *roles: str) -> dict[str, Ended]:
    """What the commands say of it, one after the other, where its token has these roles."""
    scenario = parse_scenario(json.dumps({"behaviour": {"graph_roles": roles}}), where="test")
    settings = SimulationSettings(seed=5, days=1, records_per_day=20, live=False, scenario=scenario)
    async with simulator_running(settings, clock=SystemClock()) as running:
        services: dict[str, Any] = {"service_health": {}, "dlp": {}}
        file = folder / "m365watch.json"
        file.write_text(json.dumps(running.configuration(outputs={"files": FILES}, services=services)))
        file.chmod(0o600)
        return {text: await command(*text.split(), "--config", str(file)) for text in commands}


def test_check_and_why_look_at_service_health(tmp_path: Path) -> None:
    """Token, permissions and what Graph announces now; after a run, each step of the way."""
    commands = ["check", "run --once", "why --service service_health"]
    roles = ("ServiceHealth.Read.All", "ServiceMessage.Read.All")
    check, run, why = asyncio.run(told_of_health(tmp_path, commands, *roles)).values()

    assert (check.exit_code, run.exit_code, why.exit_code) == (0, 0, 0)
    assert "service_health: 8 overviews, 19 issues, 100 messages on the first pages" in check.out
    assert "8 overviews, 19 issues, 100 messages on the first pages" in why.out
    assert "into cloud.office365.management" in why.out


def test_status_names_a_missing_permission_and_its_cure(tmp_path: Path) -> None:
    """With one line in the run, whose other feeds go on."""
    commands = ["run --once", "status"]
    run, status = asyncio.run(told_of_health(tmp_path, commands, "ServiceMessage.Read.All")).values()

    assert run.exit_code == 1
    assert len([line for line in run.complaints if "ServiceHealth.Read.All is missing" in line]) == 1
    assert "grant the application ServiceHealth.Read.All of Microsoft Graph" in status.out
