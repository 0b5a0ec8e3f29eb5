"""Detections in a whole run: what they find, and what they leave alone."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
import structlog
from patience import PATIENCE_S
from promises import guarantee
from structlog.testing import capture_logs

import m365watch.notifications.factory
from m365watch.common.clock import SystemClock, system_random
from m365watch.common.errors import LedgerHeld, OutputUnusable
from m365watch.config.loader import parse_settings
from m365watch.config.models.detections import DETECTIONS, DetectionsSection
from m365watch.config.models.enrichment import EnrichSection
from m365watch.config.models.settings import Settings
from m365watch.detection.alert_store_rebuild import Rebuilt
from m365watch.detection.alerts import triage as desk
from m365watch.detection.alerts.alert_logger import TOLD_MAX
from m365watch.detection.alerts.stored_alert import AlertState, KeptAlert
from m365watch.detection.factory import OwnRules, mistakes_of, rebuild_by_hand
from m365watch.detection.store.detection_store import DetectionState
from m365watch.health.collector_status import read_status
from m365watch.lake.sql_sandbox.sandbox_client import LakeReader
from m365watch.ledger.lock import LedgerLock
from m365watch.notifications.notification_database import FILE_NAME as NOTIFICATIONS
from m365watch.notifications.outbox import NotificationStore
from m365watch.runtime.collector import Collector, Outcome
from m365watch.runtime.config_reload import Reload
from m365watch_simulator.service.server import RunningSimulator, SimulationSettings, simulator_running

Result = TypeVar("Result")

EVERY_RECORD = """\
title: A record of any kind
id: 5f1c6c0e-7d0b-4a51-9a4e-000000000001
status: test
logsource: {product: m365, service: exchange}
detection: {s: {Id|exists: true}, condition: s}
level: medium
m365watch: {group_by: [Id, Operation, CreationTime]}
"""


@pytest.fixture(autouse=True)
def _every_line() -> None:
    """A command that another test ran in this process may have left its own level behind."""
    structlog.reset_defaults()


class StillClock(SystemClock):
    """Stands still, so that the tenant publishes nothing between two runs."""

    def __init__(self) -> None:
        self._at = super().now()

    def now(self) -> datetime:
        return self._at


class Site:
    """A simulated tenant, and a folder with a lake and one rule that every record fulfils."""

    def __init__(self, folder: Path, running: RunningSimulator, clock: StillClock) -> None:
        self.folder = folder
        self.running = running
        self.clock = clock
        (folder / "rules").mkdir()
        (folder / "rules" / "every.yml").write_text(EVERY_RECORD, encoding="utf-8")

    def settings(self, *, outputs: dict[str, Any] | None = None, **detections: Any) -> Settings:
        document = self.running.configuration(outputs=outputs or {"lake": {"type": "lake"}})
        keys = {"packs": [], "rules_directories": ["rules"]} | detections
        document["detections"] = {key: value for key, value in keys.items() if value is not None}
        return parse_settings(document, path=self.folder / "m365watch.json", environment={})

    async def collect(self, settings: Settings) -> Outcome:
        """A run with `--once`."""
        collector = Collector(settings, clock=self.clock, random=system_random(1))
        async with asyncio.timeout(PATIENCE_S):
            return await collector.run(once=True, stop=asyncio.Event())


def at_site(folder: Path, use: Callable[[Site], Awaitable[Result]]) -> Result:
    settings = SimulationSettings(seed=3, days=1, records_per_day=60, live=False)

    async def main() -> Result:
        clock = StillClock()
        async with simulator_running(settings, clock=clock) as running:
            return await use(Site(folder, running, clock))

    return asyncio.run(main())


def count_records(settings: Settings) -> int:
    """How many records have come."""
    assert settings.lake_directory is not None
    [[count]] = LakeReader(settings.lake_directory).query("SELECT count(*) FROM audit").rows
    assert isinstance(count, int)
    return count


def count_alerts(settings: Settings) -> int:
    state = DetectionState(settings.state_directory / "detections.sqlite")
    found = len(state.alerts.list())
    state.close()
    return found


@guarantee(37)
@pytest.mark.slow
def test_every_record_of_a_run_goes_past_the_rules(tmp_path: Path) -> None:
    """Beside the lake, which nobody had to name them under; the new alerts are told, a few by name."""

    async def use(site: Site) -> tuple[Outcome, int, int, list[str]]:
        settings = site.settings()
        with capture_logs() as lines:
            outcome = await site.collect(settings)
        told = [line["event"] for line in lines if "alert" in line["event"]]
        return outcome, count_alerts(settings), count_records(settings), told

    outcome, alerts, records, told = at_site(tmp_path, use)

    assert (outcome.exit_code, outcome.problems) == (0, ())
    assert alerts == records > 5
    assert "`m365watch alerts show " in told[0]
    assert len(told) == TOLD_MAX + 1
    assert told[-1].endswith("`m365watch alerts list` has all")


@guarantee(37)
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


@pytest.mark.slow
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
        return outcome.exit_code, count_alerts(settings) - count_records(settings), told

    assert at_site(tmp_path, use) == (0, 0, [])


def test_a_file_of_detections_that_cannot_be_used_is_told_at_start(tmp_path: Path) -> None:
    """In one sentence with what to do; nothing is fetched that would be owed to nobody."""

    async def use(site: Site) -> tuple[str, int]:
        settings = site.settings()
        (settings.state_directory / "detections.sqlite").mkdir(parents=True)
        try:
            await site.collect(settings)
        except OutputUnusable as error:
            return error.fix, sum(
                one.blobs_delivered for one in read_status(settings, now=SystemClock().now()).feeds
            )
        return "", -1

    fix, delivered = at_site(tmp_path, use)

    assert fix.startswith("see to the disk, its room and its rights")
    assert delivered == 0


@guarantee(36)
@pytest.mark.slow
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
        return count_alerts(settings), count_records(settings), told

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
        "reason: is missing; what it would except is told"
    ]


def test_a_run_tells_of_exceptions_that_can_never_hold(tmp_path: Path) -> None:
    """At its start and at each reading: no such rule, tenant or entity; whoever wrote it thinks it held."""
    vain = ["{rule: B99, reason: x}", "{rule: '*', entity: {ip: 10.0.0.0/8}, reason: x}"]

    async def use(site: Site) -> list[list[str]]:
        path = site.folder / "exceptions.yml"
        settings = site.settings(exceptions_file="exceptions.yml")
        tenant = settings.tenants[0].tenant_id
        path.write_text(f"[{vain[0]}, {{rule: '*', tenant: {tenant}, reason: x}}]", encoding="utf-8")
        own = OwnRules(settings.detections, SystemClock(), current=lambda: settings)
        told = []
        for step in (own.begin, own.read, own.read):
            with capture_logs() as lines:
                step()
            told.append([line["event"] for line in lines if line["log_level"] == "warning"])
            path.write_text(f"[{', '.join(vain)}]", encoding="utf-8")
        return told

    first, second, third = at_site(tmp_path, use)

    assert [line.rpartition(": ")[2] for line in first] == ["the exception excepts nothing"]
    assert "there is no rule B99" in first[0]
    assert len(second) == len(third) == 2
    assert "* has no entity ip, only " in second[1]


@guarantee(37)
@pytest.mark.slow
@pytest.mark.parametrize("how", ["lost", "damaged", "emptied", "with the ledger"])
def test_a_run_makes_a_lost_file_anew(tmp_path: Path, how: str) -> None:
    """The same alerts, in their states; what was damaged is kept, and nothing is told twice."""

    async def use(site: Site) -> tuple[list[KeptAlert], list[KeptAlert], list[str], int]:
        settings = site.settings()
        await site.collect(settings)
        path = settings.state_directory / "detections.sqlite"
        ids = [kept.alert.id for kept in desk.list_alerts(path, desk.AlertsAsked())]
        desk.set_states(path, ids[:1], AlertState.CLOSED, reason="a drill", by="ann", at_ms=1_000)
        desk.set_states(path, ids[1:2], AlertState.ACKNOWLEDGED, reason="", by="bob", at_ms=1_000)
        await site.collect(settings)
        before = desk.list_alerts(path, desk.AlertsAsked())
        if how == "damaged":
            body = path.read_bytes()
            path.write_bytes(body[:4096] + bytes(4096) + body[8192:])
        elif how == "emptied":
            path.write_bytes(b"")
        elif how == "lost":
            path.unlink()
        else:
            shutil.rmtree(settings.state_directory)
        with capture_logs() as lines:
            await site.collect(settings)
        told = [line["event"] for line in lines if "alert, " in line["event"] or "made anew" in line["event"]]
        aside = len(list(settings.state_directory.glob("detections-*.damaged.sqlite")))
        return before, desk.list_alerts(path, desk.AlertsAsked()), told, aside

    before, after, told, aside = at_site(tmp_path, use)

    assert [kept.state for kept in before].count(AlertState.OPEN) == len(before) - 2 > 5
    assert after == before
    assert ["it is made anew" in line or "are made anew from" in line for line in told] == [True, True]
    assert aside == (how in {"damaged", "emptied"})


def test_the_detections_can_be_made_anew_by_hand(tmp_path: Path) -> None:
    """While no collector runs; what was decided since the last run is not forgotten."""

    async def use(site: Site) -> tuple[list[KeptAlert], list[KeptAlert], int]:
        settings = site.settings()
        await site.collect(settings)
        path = settings.state_directory / "detections.sqlite"
        ids = [kept.alert.id for kept in desk.list_alerts(path, desk.AlertsAsked())]
        desk.set_states(path, ids[:1], AlertState.CLOSED, reason="a drill", by="ann", at_ms=1_000)
        before = desk.list_alerts(path, desk.AlertsAsked())
        lock = LedgerLock(settings.state_directory / "ledger.lock")
        lock.acquire()
        with pytest.raises(LedgerHeld):
            await asyncio.to_thread(by_hand, settings)
        lock.release()
        told = await asyncio.to_thread(by_hand, settings)
        return before, desk.list_alerts(path, desk.AlertsAsked()), told.restored

    before, after, restored = at_site(tmp_path, use)

    assert after == before
    assert restored == len(before)


def by_hand(settings: Settings) -> Rebuilt:
    return rebuild_by_hand(settings, clock=SystemClock(), progress=lambda *_: None)


def test_alerts_are_in_the_lake_when_a_run_has_ended(tmp_path: Path) -> None:
    """Each once, and in the state in which it is."""

    async def use(site: Site) -> tuple[list[tuple[object, ...]], int]:
        settings = site.settings()
        await site.collect(settings)
        assert settings.lake_directory is not None
        sql = "SELECT count(*), count(DISTINCT id) FROM alerts WHERE state = 'open'"
        return LakeReader(settings.lake_directory).query(sql).rows, count_alerts(settings)

    rows, alerts = at_site(tmp_path, use)

    assert rows == [(alerts, alerts)]
    assert alerts > 5


@guarantee(36)
def test_a_run_does_without_rules_and_exceptions_that_are_not_there(tmp_path: Path) -> None:
    """It collects, ends as it does otherwise, and names both."""

    async def use(site: Site) -> tuple[int, int, list[str]]:
        settings = site.settings(rules_directories=["rules", "gone"], exceptions_file="gone.yml")
        with capture_logs() as lines:
            outcome = await site.collect(settings)
        told = [line["event"] for line in lines if line["log_level"] == "warning"]
        return outcome.exit_code, count_alerts(settings), told

    code, alerts, told = at_site(tmp_path, use)

    assert code == 0
    assert alerts > 5
    assert told == [
        f"detections: {tmp_path}/gone.yml: there is no such file; what it would except is told",
        f"detections: {tmp_path}/gone: there is no such file or directory; its rules are left out",
    ]


@guarantee(36)
def test_files_of_rules_are_read_again_and_mistakes_change_nothing(tmp_path: Path) -> None:
    """Rules and exceptions; what was wrong from the beginning keeps nothing from being taken up."""
    rules, exceptions = tmp_path / "rules", tmp_path / "exceptions.yml"
    rules.mkdir()
    (rules / "every.yml").write_text(EVERY_RECORD, encoding="utf-8")
    (rules / "old.yml").write_text("title: half\nlogsource: {product: m365}\n", encoding="utf-8")
    exceptions.write_text("exceptions: []\n", encoding="utf-8")
    wanted = DetectionsSection(packs=(), rules_directories=(rules,), exceptions_file=exceptions)
    own = OwnRules(wanted, SystemClock())
    with capture_logs() as lines:
        assert len(own.begin()) == 1
        looks = [own.look(), own.look()]
        exceptions.write_text("exceptions:\n- {rule: '*', reason: x, entity: {user: a}}\n", encoding="utf-8")
        looks.append(own.look())
        found = own.read()
        (rules / "new.yml").write_text("title: [\n", encoding="utf-8")
        looks.append(own.look())
        nothing = own.read()

    assert looks[0] == looks[1]
    assert len(set(looks)) == 3
    assert found is not None
    assert (len(found.rules), len(found.exceptions.every), nothing) == (1, 1, None)
    told = [line["event"] for line in lines if line["log_level"] in {"error", "warning"}]
    places = [line.split()[1].rstrip(":") for line in told]
    assert places == ["rules/old.yml:1", "rules/new.yml:2", "nothing"]
    assert "is no YAML: " in told[1]


def test_a_lost_list_counts_on_when_other_settings_change(tmp_path: Path) -> None:
    """What it said before is in force, as the line about it says; a list that is there is read as it is."""
    lost, there = tmp_path / "lost.txt", tmp_path / "there.txt"
    for path in (lost, there):
        path.write_text("ann@contoso.example\n", encoding="utf-8")
    enrich = EnrichSection(vip_lists=(lost,), admin_lists=(there,))
    wanted = DetectionsSection(packs=(), enrich=enrich)
    own = OwnRules(wanted, SystemClock())
    own.knowledge.look()
    lost.unlink()
    there.write_text("bob@contoso.example\n", encoding="utf-8")
    own.change(wanted.model_copy(update={"accepted_domains": frozenset({"contoso.example"})}))
    own.knowledge.look()

    assert own.knowledge.is_own_domain("contoso.example", tenant="")
    assert [*own.knowledge.vips] == ["ann@contoso.example"]
    assert [*own.knowledge.admins] == ["bob@contoso.example"]
    assert own.knowledge.files_unread() == {lost}


def test_a_validation_names_what_is_wrong_with_rules(tmp_path: Path) -> None:
    """As a run would at its start; nothing where detections are off."""
    (tmp_path / "bad.yml").write_text("title: half\nlogsource: {product: m365}\n", encoding="utf-8")
    wanted = DetectionsSection(enabled=True, packs=(), rules_directories=(tmp_path,))

    [line] = mistakes_of(wanted)
    assert "/bad.yml:1 (half): " in line
    assert mistakes_of(wanted.model_copy(update={"enabled": False})) == []


@guarantee(36)
def test_a_run_that_is_asked_reads_its_rules_again(tmp_path: Path) -> None:
    """With the configuration, as SIGHUP asks for; also where it looks for no changes itself."""

    async def use(site: Site) -> list[str]:
        settings = replace(site.settings(), watches_configuration=False)
        path = tmp_path / "m365watch.json"
        path.write_text("{}", encoding="utf-8")
        reload = Reload([path], lambda running: running, site.clock)
        collector = Collector(settings, clock=site.clock, random=system_random(1), reload=reload)
        stop = asyncio.Event()
        with capture_logs() as lines:
            run = asyncio.create_task(collector.run(once=False, stop=stop))
            async with asyncio.timeout(PATIENCE_S):
                while not any("started" in line["event"] for line in lines):
                    await asyncio.sleep(0.02)
                reload.ask()
                while not any("rules in force" in line["event"] for line in lines):
                    await asyncio.sleep(0.02)
            stop.set()
            await run
        return [line["event"] for line in lines if "rules in force" in line["event"]]

    assert at_site(tmp_path, use) == [
        "detections: rules and exceptions are read again; rules in force: 1, exceptions: 0"
    ]


@guarantee(36)
def test_a_run_takes_up_what_else_its_detections_go_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other rules, what they may know, and who is told; a file that needs no restart for any of them."""
    # Targets gather what is new for a moment first, and that never passes on a clock that stands still.
    monkeypatch.setattr(m365watch.notifications.factory, "FINISH_S", 0.05)
    soc = {"type": "webhook", "webhook_url": "https://127.0.0.1:9/soc"}
    targets: list[dict[str, Any]] = [{"soc": soc}, {"soc": soc, "duty": soc}, {"duty": soc}]
    more: dict[str, Any] = {"rules_directories": ["rules", "more"], "accepted_domains": ["contoso.example"]}

    async def use(site: Site) -> tuple[list[list[str]], list[str]]:
        (tmp_path / "more").mkdir()
        another = EVERY_RECORD.replace("000000000001", "000000000002").replace("of any", "of another")
        (tmp_path / "more" / "another.yml").write_text(another, encoding="utf-8")
        path = tmp_path / "m365watch.json"
        path.write_text("{}", encoding="utf-8")
        first = replace(site.settings(), watches_configuration=False)
        left = [
            replace(site.settings(notifications=one, **more), watches_configuration=False) for one in targets
        ]
        reload = Reload([path], lambda _running: left.pop(0), site.clock)
        collector = Collector(first, clock=site.clock, random=system_random(1), reload=reload)
        stop = asyncio.Event()
        told: list[list[str]] = []
        with capture_logs() as lines:

            async def said(text: str, times: int = 1) -> None:
                while sum(text in line["event"] for line in lines) < times:
                    await asyncio.sleep(0.02)

            run = asyncio.create_task(collector.run(once=False, stop=stop))
            async with asyncio.timeout(PATIENCE_S):
                await said("started")
                for number in range(1, len(targets) + 1):
                    reload.ask()
                    await said("the configuration is taken up", number)
                    with closing(NotificationStore(first.state_directory / NOTIFICATIONS)) as store:
                        told.append(sorted(store.list_targets()))
                await said("rules in force: 2")
            stop.set()
            await run
        return told, [line["event"] for line in lines if "is taken up" in line["event"]]

    told, lines = at_site(tmp_path, use)

    assert told == [["soc"], ["duty", "soc"], ["duty"]]
    assert [line.removeprefix("the configuration is taken up; ") for line in lines] == [
        "detections: rules_directories, accepted_domains, notifications",
        "detections: notifications",
        "detections: notifications",
    ]
