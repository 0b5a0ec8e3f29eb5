"""A run that outlasts its outputs: what stays, and what comes of outputs that cannot be opened."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
from patience import PATIENCE_S
from promises import guarantee
from structlog.testing import capture_logs

import m365watch.runtime.config_reload
from m365watch.common.clock import SystemClock, system_random
from m365watch.common.errors import CollectorError, OutputUnavailable, OutputUnusable, SettingsRefused
from m365watch.config.loader import parse_settings
from m365watch.config.models.settings import Settings
from m365watch.registry.output_specs import OutputSettings
from m365watch.runtime.collector_run import Outcome
from m365watch.runtime.config_reload import Reload
from m365watch.runtime.supervisor import RenewingCollector
from m365watch_simulator.service.server import RunningSimulator, SimulationSettings, simulator_running
from m365watch_simulator.service.truth import Verdict
from m365watch_testing.outputs import FakeOutput

Result = TypeVar("Result")
Document = dict[str, Any]
LAKE: Document = {"lake": {"type": "lake"}}
FILES: Document = {"files": {"type": "files"}}
BOTH: Document = {**LAKE, **FILES}
NEVER_S = 100_000.0
FLAWLESS = Verdict([], [], [])
UNUSABLE = OutputUnusable("the table is not ours", fix="name another", where="output files")
AWAY = OutputUnavailable("the disk is full", where="output lake")
ALL_AS_BEFORE = "nothing is changed, and all goes on as it was"


class Openable(FakeOutput):
    """Counts how often it is opened, and is not open where it is told so."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.opened = 0
        self.closed: list[Exception] = []
        """Why the next tries to open it fail."""

    async def open(self, *, last_batch: int, position: str, newest_batch: int | None = None) -> int:
        if self.closed:
            raise self.closed.pop(0)
        self.opened += 1
        return await super().open(last_batch=last_batch, position=position, newest_batch=newest_batch)


class Site:
    """A simulated tenant, outputs that live as long as it does, and a collector that can be renewed."""

    def __init__(self, folder: Path, running: RunningSimulator, *, reopen_s: float, watches: bool) -> None:
        self.folder = folder
        self.running = running
        self.outputs = {name: Openable(name) for name in BOTH}
        self.stop = asyncio.Event()
        self.watches = watches
        self.file = folder / "m365watch.json"
        self.says = self.settings(LAKE)
        self.mistake: CollectorError | None = None
        """Why it cannot be read."""
        self.reload = Reload([self.file], self._load, SystemClock())
        self.had: list[tuple[str, ...]] = []
        """The outputs of each collector but the first."""
        self.collector = RenewingCollector(
            self.says,
            clock=SystemClock(),
            random=system_random(1),
            reload=self.reload,
            build_output=self._output,
            on_settings=lambda settings: self.had.append(tuple(one.name for one in settings.outputs)),
            reopen_s=reopen_s,
        )

    def settings(self, outputs: Document) -> Settings:
        document = self.running.configuration(outputs=outputs) | {"detections": {"enabled": False}}
        document["globals"]["watch_configuration"] = self.watches
        return parse_settings(document, path=self.file, environment={})

    def _load(self, _: Settings) -> Settings:
        if self.mistake is not None:
            raise self.mistake
        return self.says

    def _output(self, settings: OutputSettings) -> Openable:
        return self.outputs[settings.name]

    def change(self, outputs: Document) -> None:
        self.says = self.settings(outputs)
        self.reload.ask()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                await asyncio.sleep(0.02)

    def listed_at(self) -> list[datetime]:
        """When each feed was listed last."""
        return [feed.listed_at for feed in self.collector.progress().feeds if feed.listed_at is not None]

    async def until_complete(self) -> None:
        await self.until(lambda: self.verdict() == FLAWLESS)

    def verdict(self) -> Verdict:
        return self.running.tenants[0].truth().judge(self.outputs["lake"].disk.records)


def run(
    folder: Path, use: Callable[[Site], Awaitable[Result]], *, reopen_s: float = 0.05, watches: bool = False
) -> tuple[Result, Outcome, list[str]]:
    """What `use` finds while the collector runs, how that ends, and what was said."""
    simulated = SimulationSettings(seed=3, days=1, records_per_day=60, live=False)

    async def main() -> tuple[Result, Outcome]:
        async with simulator_running(simulated, clock=SystemClock()) as running:
            site = Site(folder, running, reopen_s=reopen_s, watches=watches)
            collecting = asyncio.create_task(site.collector.run(once=False, stop=site.stop))
            try:
                result = await use(site)
            finally:
                site.stop.set()
                async with asyncio.timeout(PATIENCE_S):
                    outcome = await collecting
            return result, outcome

    with capture_logs() as lines:
        result, outcome = asyncio.run(main())
    return result, outcome, [str(line["event"]) for line in lines]


def test_tokens_and_the_account_outlast_a_change_of_outputs(tmp_path: Path) -> None:
    """Microsoft notices nothing of it, and what was collected before it is of this run all the same."""

    async def use(site: Site) -> tuple[int, list[str], list[str], list[tuple[str, ...]]]:
        await site.until_complete()
        before = site.running.tenants[0].tokens.handed_out()
        site.change(BOTH)
        await site.until(lambda: site.outputs["files"].opened == 1)
        # Before the change: the new collector may have listed all by the time that its output is seen open.
        changed_at = SystemClock().now()
        site.change(LAKE)
        await site.until(lambda: site.outputs["lake"].opened == 3)
        await site.until(lambda: all(at > changed_at for at in site.listed_at()))
        after = site.running.tenants[0].tokens.handed_out()
        return site.running.tenants[0].truth().record_count, before, after, site.had

    (count, before, after, had), outcome, _ = run(tmp_path, use)

    assert set(after) == set(before) != set()
    assert had == [("lake", "files"), ("lake",)]
    assert (outcome.exit_code, outcome.has_started) == (0, True)
    assert sum(feed.records_delivered for feed in outcome.progress.feeds) == count
    assert sum(feed.records_delivered for feed in outcome.progress.before) == 0


def test_outputs_that_cannot_be_opened_leave_those_that_were(tmp_path: Path) -> None:
    """Whatever it fails with; what was open and is away just then is waited for."""

    async def use(site: Site) -> tuple[list[list[str]], set[float]]:
        await site.until_complete()
        mistakes, loaded = [], {site.reload.note.loaded_s}
        for closed in (UNUSABLE, ValueError("a defect")):
            site.outputs["files"].closed = [closed]
            site.outputs["lake"].closed = []
            opened = site.outputs["lake"].opened
            site.change(BOTH)
            # Opened for the new collector, which fails at the other output, and for the one that goes on.
            await site.until(lambda opened=opened: site.outputs["lake"].opened == opened + 2)  # type: ignore[misc]
            mistakes.append(site.reload.note.mistakes)
            loaded.add(site.reload.note.loaded_s)
        return mistakes, loaded

    ((unusable, defect), loaded), outcome, lines = run(tmp_path, use)

    # What `status` says was read, and when, is what the run goes on with.
    assert len(loaded) == 1
    assert unusable == ["the table is not ours"]
    assert "ValueError" in defect[0]
    assert sum(ALL_AS_BEFORE in line for line in lines) == 2
    assert (outcome.exit_code, [one.feed for one in outcome.progress.feeds] != []) == (0, True)


@pytest.mark.parametrize("away", [AWAY, UNUSABLE], ids=["away", "unusable"])
def test_what_was_open_and_is_away_is_waited_for(tmp_path: Path, away: CollectorError) -> None:
    """A full disk ends no run that was well before its configuration changed, whatever its name is."""

    async def use(site: Site) -> list[tuple[str, ...]]:
        await site.until_complete()
        site.outputs["lake"].closed = [UNUSABLE, away, away]
        site.change(BOTH)
        await site.until(lambda: site.outputs["lake"].opened == 2)
        return site.had

    had, outcome, lines = run(tmp_path, use)

    assert had == [("lake", "files"), ("lake",), ("lake",), ("lake",)]
    assert outcome.exit_code == 0
    assert sum(away.what in line for line in lines) >= 2


def test_a_stop_while_it_is_waited_for_ends_the_run(tmp_path: Path) -> None:
    """With the account of what was collected."""

    async def use(site: Site) -> int:
        await site.until_complete()
        site.outputs["lake"].closed = [UNUSABLE, *[AWAY] * 10_000]
        site.change(BOTH)
        await site.until(lambda: len(site.had) > 3)
        return site.running.tenants[0].truth().record_count

    count, outcome, _ = run(tmp_path, use)

    assert (outcome.exit_code, outcome.has_started) == (0, True)
    assert sum(feed.records_delivered for feed in outcome.progress.feeds) == count


@guarantee(31)
def test_a_mended_configuration_is_taken_up_while_outputs_are_waited_for(tmp_path: Path) -> None:
    """At once, when it is asked for: the next try to open what is away may be long in coming."""

    async def use(site: Site) -> list[tuple[str, ...]]:
        await site.until_complete()
        site.outputs["lake"].closed = [UNUSABLE, *[AWAY] * 10_000]
        site.change(BOTH)
        await site.until(lambda: site.had == [("lake", "files"), ("lake",)])
        site.change(FILES)
        await site.until(lambda: site.outputs["files"].opened == 1)
        return site.had

    had, outcome, lines = run(tmp_path, use, reopen_s=NEVER_S)

    assert had == [("lake", "files"), ("lake",), ("files",)]
    assert outcome.exit_code == 0
    assert any("outputs.lake" in line for line in lines)


@guarantee(31)
def test_a_saved_file_is_read_while_outputs_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while the run collects, where it watches its configuration."""
    monkeypatch.setattr(m365watch.runtime.config_reload, "LOOK_EVERY_S", 0.02)

    async def use(site: Site) -> None:
        site.file.write_text("first")
        await site.until_complete()
        site.outputs["lake"].closed = [UNUSABLE, *[AWAY] * 10_000]
        site.change(BOTH)
        await site.until(lambda: site.had == [("lake", "files"), ("lake",)])
        site.says = site.settings(FILES)
        site.file.write_text("another")
        await site.until(lambda: site.outputs["files"].opened == 1)

    _, outcome, _ = run(tmp_path, use, reopen_s=NEVER_S, watches=True)

    assert outcome.exit_code == 0


def test_mistakes_are_told_while_outputs_are_waited_for(tmp_path: Path) -> None:
    """They end no waiting; what the file says without them counts, be it no more than before."""

    async def use(site: Site) -> tuple[list[str], list[str]]:
        await site.until_complete()
        site.outputs["lake"].closed = [UNUSABLE, *[AWAY] * 10_000]
        site.change(BOTH)
        await site.until(lambda: len(site.had) > 1)
        site.mistake = SettingsRefused(["inputs: is missing"], where="m365watch.json")
        site.reload.ask()
        await site.until(lambda: site.reload.note.mistakes == ["inputs: is missing"])
        told = site.reload.note.mistakes
        site.mistake = None
        site.change(LAKE)
        await site.until(lambda: not site.reload.note.mistakes)
        site.outputs["lake"].closed = []
        await site.until(lambda: site.outputs["lake"].opened == 2)
        return told, site.reload.note.mistakes

    (told, left), outcome, _ = run(tmp_path, use)

    assert (told, left, outcome.exit_code) == (["inputs: is missing"], [], 0)
