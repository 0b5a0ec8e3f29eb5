"""Detections in a whole run: what they find, and what they leave alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import structlog
from structlog.testing import capture_logs

from m365watch.app import Collector, Outcome
from m365watch.clock import SystemClock, system_random
from m365watch.config.load import parse_settings
from m365watch.config.settings import DETECTIONS, Settings
from m365watch.detect.state import DetectionState
from m365watch.detecting import TOLD_MAX
from m365watch.errors import OutputUnusable
from m365watch.inspection import read_status
from m365watch.simulator.server import RunningSimulator, SimulationSettings, simulator_running

Result = TypeVar("Result")

EVERY_RECORD = """\
title: A record of any kind
id: 5f1c6c0e-7d0b-4a51-9a4e-000000000001
status: test
logsource: {product: m365, service: exchange}
detection: {s: {Id|exists: true}, condition: s}
level: medium
m365watch: {group_by: [Id, Operation]}
"""


@pytest.fixture(autouse=True)
def _every_line() -> None:
    """A command that another test ran in this process may have left its own level behind."""
    structlog.reset_defaults()


class Site:
    """A simulated tenant, and a folder with a lake and one rule that every record fulfils."""

    def __init__(self, folder: Path, running: RunningSimulator) -> None:
        self.folder = folder
        self.running = running
        (folder / "rules").mkdir()
        (folder / "rules" / "every.yml").write_text(EVERY_RECORD, encoding="utf-8")

    def settings(self, *, outputs: dict[str, Any] | None = None, **detections: Any) -> Settings:
        document = self.running.configuration(outputs=outputs or {"lake": {"type": "lake"}})
        keys = {"packs": [], "rules_directories": ["rules"]} | detections
        document["detections"] = {key: value for key, value in keys.items() if value is not None}
        return parse_settings(document, path=self.folder / "m365watch.json", environment={})

    async def collect(self, settings: Settings) -> Outcome:
        """A run with `--once`."""
        collector = Collector(settings, clock=SystemClock(), random=system_random(1))
        async with asyncio.timeout(30):
            return await collector.run(once=True, stop=asyncio.Event())

    @property
    def record_count(self) -> int:
        """How many records the tenant has."""
        return self.running.tenants[0].truth().record_count


def at_site(folder: Path, use: Callable[[Site], Awaitable[Result]]) -> Result:
    settings = SimulationSettings(seed=3, days=1, records_per_day=60, live=False)

    async def main() -> Result:
        async with simulator_running(settings, clock=SystemClock()) as running:
            return await use(Site(folder, running))

    return asyncio.run(main())


def count_alerts(settings: Settings) -> int:
    state = DetectionState(settings.state_directory / "detections.sqlite")
    found = len(state.list_alerts())
    state.close()
    return found


def test_every_record_of_a_run_goes_past_the_rules(tmp_path: Path) -> None:
    """Beside the lake, which nobody had to name them under; the new alerts are told, a few by name."""

    async def use(site: Site) -> tuple[Outcome, int, int, list[str]]:
        settings = site.settings()
        with capture_logs() as lines:
            outcome = await site.collect(settings)
        told = [line["event"] for line in lines if "alert" in line["event"]]
        return outcome, count_alerts(settings), site.record_count, told

    outcome, alerts, records, told = at_site(tmp_path, use)

    assert (outcome.exit_code, outcome.problems) == (0, ())
    assert alerts == records > 20
    assert "`m365watch alerts show " in told[0]
    assert len(told) == TOLD_MAX + 1
    assert told[-1].endswith("`m365watch alerts list` has all")


def test_detections_that_are_switched_on_later_begin_with_what_comes(tmp_path: Path) -> None:
    """Nothing that was delivered without them is fetched again; switched off, they are owed nothing."""

    async def use(site: Site) -> tuple[list[int], int, list[str], bool]:
        exits = [(await site.collect(site.settings(enabled=False))).exit_code]
        on = site.settings()
        exits.append((await site.collect(on)).exit_code)
        alerts = count_alerts(on)
        queue = on.state_directory / "queues" / DETECTIONS
        queue.mkdir(parents=True, exist_ok=True)
        with capture_logs() as lines:
            exits.append((await site.collect(site.settings(enabled=False))).exit_code)
        warnings = [line["event"] for line in lines if line["log_level"] == "warning"]
        return exits, alerts, warnings, queue.exists()

    assert at_site(tmp_path, use) == ([0, 0, 0], 0, [], False)


def test_a_lost_ledger_makes_no_alert_twice(tmp_path: Path) -> None:
    """What is fetched anew counts once, and nobody is warned of copies that nobody gets."""

    async def use(site: Site) -> tuple[int, int, list[str]]:
        settings = site.settings()
        await site.collect(settings)
        for path in settings.state_directory.glob("ledger.sqlite*"):
            path.unlink()
        with capture_logs() as lines:
            outcome = await site.collect(settings)
        told = [line["event"] for line in lines if "cannot be asked" in line["event"]]
        return outcome.exit_code, count_alerts(settings) - site.record_count, told

    assert at_site(tmp_path, use) == (0, 0, [])


def test_a_file_of_detections_that_cannot_be_used_is_told_at_start(tmp_path: Path) -> None:
    """In one sentence with what to do; nothing is fetched that would be owed to nobody."""

    async def use(site: Site) -> tuple[str, int]:
        settings = site.settings()
        settings.state_directory.mkdir()
        (settings.state_directory / "detections.sqlite").write_bytes(b"this is no database at all" * 100)
        try:
            await site.collect(settings)
        except OutputUnusable as error:
            return error.fix, sum(one.blobs_delivered for one in read_status(settings).feeds)
        return "", -1

    fix, delivered = at_site(tmp_path, use)

    assert fix.startswith("move it away: it is made again")
    assert delivered == 0


def test_a_rule_with_a_mistake_is_left_out_and_told(tmp_path: Path) -> None:
    """The others work."""

    async def use(site: Site) -> tuple[int, int, list[str]]:
        (site.folder / "rules" / "bad.yml").write_text(
            "title: half\nlogsource: {product: m365}\n", encoding="utf-8"
        )
        settings = site.settings()
        with capture_logs() as lines:
            await site.collect(settings)
        told = [line["event"] for line in lines if "bad.yml" in line["event"]]
        return count_alerts(settings), site.record_count, told

    alerts, records, told = at_site(tmp_path, use)

    assert alerts == records
    assert len(told) == 1
    assert told[0].startswith("detections: rules/bad.yml")
    assert told[0].endswith("the rule is left out")


def test_an_exception_keeps_an_alert_from_being_told(tmp_path: Path) -> None:
    """One with a mistake does not hold, and that is told."""
    text = """\
exceptions:
  - {rule: A record of any kind, reason: they are all expected}
  - {rule: A record of any kind}
"""

    async def use(site: Site) -> tuple[int, list[str]]:
        (site.folder / "exceptions.yml").write_text(text, encoding="utf-8")
        settings = site.settings(exceptions_file="exceptions.yml")
        with capture_logs() as lines:
            await site.collect(settings)
        return count_alerts(settings), [line["event"] for line in lines if "xception" in line["event"]]

    alerts, told = at_site(tmp_path, use)

    assert alerts == 0
    assert [line.partition("exceptions.1.")[2] for line in told] == [
        "reason: is missing; the exception does not hold"
    ]
