"""A whole run: how it ends, what it says, and what it leaves behind."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from patience import PATIENCE_S
from promises import guarantee
from structlog.testing import capture_logs

from m365watch.common.clock import SystemClock, system_random
from m365watch.common.errors import LedgerHeld, LedgerUnusable, OutputUnavailable, OutputUnusable
from m365watch.common.model import Batch, ContentType, Receipt
from m365watch.config.loader import parse_settings
from m365watch.config.models.settings import Settings
from m365watch.health.collector_status import read_status, waiting_blobs
from m365watch.ledger.sqlite_ledger import LEDGER_FILE
from m365watch.outputs.console.console_output import ConsoleOutput
from m365watch.outputs.files.files_output import FilesOutput
from m365watch.registry.output_specs import OutputSettings
from m365watch.runtime.collector import Collector, Outcome
from m365watch.sources.feed_errors import Trouble
from m365watch_simulator.service.scenario import Scenario, load_scenario
from m365watch_simulator.service.server import RunningSimulator, SimulationSettings, simulator_running
from m365watch_simulator.service.truth import Verdict
from m365watch_testing.outputs import FakeOutput

Result = TypeVar("Result")

LAKE = {"lake": {"type": "lake", "config": {"directory": "lake"}}}
BOTH = {**LAKE, "files": {"type": "files", "config": {"directory": "out"}}}
FLAWLESS = Verdict([], [], [])
UNUSABLE = OutputUnusable("the table is not ours", fix="name another", where="output lake")


class Site:
    """A simulated tenant, a folder, and fake outputs that live as long as it does."""

    def __init__(self, folder: Path, running: RunningSimulator) -> None:
        self.folder = folder
        self.running = running
        self.outputs: dict[str, FakeOutput] = {"lake": FakeOutput("lake"), "files": FakeOutput("files")}
        self.told: list[Trouble] = []
        self.stop = asyncio.Event()

    def settings(self, outputs: dict[str, Any]) -> Settings:
        document = self.running.configuration(outputs=outputs)
        return parse_settings(document, path=self.folder / "m365watch.json", environment={})

    def collector(self, outputs: dict[str, Any] = LAKE) -> Collector:
        return Collector(
            self.settings(outputs),
            clock=SystemClock(),
            random=system_random(1),
            on_change=self.told.append,
            build_output=self.output,
        )

    def output(self, settings: OutputSettings) -> FakeOutput:
        return self.outputs[settings.name]

    async def collect(self, outputs: dict[str, Any] = LAKE) -> Outcome:
        """A run with `--once`."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.collector(outputs).run(once=True, stop=self.stop)

    def verdict(self, output: str = "lake") -> Verdict:
        """What is missing, repeated or altered in what `output` holds."""
        return self.running.tenants[0].truth().judge(self.outputs[output].disk.records)


def run(
    folder: Path, use: Callable[[Site], Awaitable[Result]], *, scenario: Scenario | None = None
) -> Result:
    settings = SimulationSettings(seed=3, days=1, records_per_day=60, live=False, scenario=scenario)

    async def main() -> Result:
        async with simulator_running(settings, clock=SystemClock()) as running:
            return await use(Site(folder, running))

    return asyncio.run(main())


# Ends.


@pytest.mark.slow
def test_a_run_that_had_everything_is_done(tmp_path: Path) -> None:
    """Exit code 0, nothing to say, and every record at every output; the figures agree."""

    async def use(site: Site) -> tuple[Outcome, int, list[Verdict], Settings]:
        outcome = await site.collect(BOTH)
        count = site.running.tenants[0].truth().record_count
        return outcome, count, [site.verdict(name) for name in BOTH], site.settings(BOTH)

    outcome, count, verdicts, settings = run(tmp_path, use)

    assert (outcome.exit_code, outcome.waiting, outcome.problems) == (0, (), ())
    assert verdicts == [FLAWLESS, FLAWLESS]
    assert outcome.progress.caught_up
    assert sum(feed.records_delivered for feed in outcome.progress.feeds) == count > 5
    status = read_status(settings, now=SystemClock().now())
    assert {one.feed: one.blobs_delivered for one in status.feeds} == {
        one.feed: one.blobs_delivered for one in outcome.progress.feeds
    }
    assert waiting_blobs(settings) == []


def test_a_second_run_delivers_nothing_again(tmp_path: Path) -> None:
    """What the ledger knows as delivered is listed and left alone."""

    async def use(site: Site) -> tuple[int, int, int]:
        await site.collect()
        before = len(site.outputs["lake"].batches)
        outcome = await site.collect()
        return outcome.exit_code, before, len(site.outputs["lake"].batches)

    exit_code, before, after = run(tmp_path, use)

    assert exit_code == 0
    assert before == after > 0


def test_a_feed_that_needs_a_person_is_the_runs_problem(tmp_path: Path) -> None:
    """Exit code 1, one sentence for the tenant, told while it happened, kept for `status`."""

    async def use(site: Site) -> tuple[Outcome, list[Trouble], list[str | None]]:
        outcome = await site.collect()
        return (
            outcome,
            site.told,
            [feed.fix for feed in read_status(site.settings(LAKE), now=SystemClock().now()).feeds],
        )

    outcome, told, fixes = run(tmp_path, use, scenario=load_scenario("no-roles"))

    assert outcome.exit_code == 1
    assert [trouble.text for trouble in told] == list(outcome.problems)
    assert len(told) == 1
    assert not outcome.progress.caught_up
    assert None not in fixes


def test_an_output_that_fails_is_the_runs_problem(tmp_path: Path) -> None:
    """Exit code 1 and its sentence; what it lacks comes with the next run."""

    async def use(site: Site) -> tuple[Outcome, int, Verdict]:
        site.outputs["lake"].fail(UNUSABLE)
        outcome = await site.collect()
        mended = await site.collect()
        return outcome, mended.exit_code, site.verdict()

    outcome, mended, verdict = run(tmp_path, use)

    assert (outcome.exit_code, outcome.problems) == (1, (str(UNUSABLE),))
    assert (mended, verdict) == (0, FLAWLESS)


def test_once_gives_an_output_up_after_its_patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk that stays full ends the run, said once."""
    monkeypatch.setattr("m365watch.runtime.collector.PATIENCE_ONCE_S", 0.05)

    async def use(site: Site) -> Outcome:
        site.outputs["lake"].disk.is_full = True
        return await site.collect()

    outcome = run(tmp_path, use)

    assert outcome.exit_code == 1
    assert len(outcome.problems) == 1
    assert "the disk is full" in outcome.problems[0]


def test_a_defect_in_an_output_fails_the_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named without its words, the ledger is let go, and the next run makes good."""
    monkeypatch.setattr("m365watch.runtime.collector.PATIENCE_ONCE_S", 0.05)

    class Defective(FakeOutput):
        async def deliver(self, batch: Batch) -> Receipt:
            raise KeyError("defect")

    async def use(site: Site) -> tuple[Outcome, int]:
        site.outputs["lake"] = Defective("lake")
        failed = await site.collect()
        site.outputs["lake"] = FakeOutput("lake")
        return failed, (await site.collect()).exit_code

    failed, exit_code = run(tmp_path, use)

    assert (failed.exit_code, exit_code) == (1, 0)
    assert "output lake: unexpected KeyError in " in failed.problems[0]
    assert "defect" not in failed.problems[0]


def test_progress_can_be_asked_for_at_any_time(tmp_path: Path) -> None:
    """Before a run, during it, and after it."""

    async def use(site: Site) -> list[int]:
        collector = site.collector()
        seen = [len(collector.progress().feeds)]
        running = asyncio.create_task(collector.run(once=True, stop=site.stop))
        while not site.outputs["lake"].disk.durable:
            await asyncio.sleep(0.01)
        assert sum(feed.blobs_listed for feed in collector.progress().feeds) > 0
        await running
        return [*seen, len(collector.progress().feeds)]

    assert run(tmp_path, use) == [0, len(ContentType)]


@pytest.mark.parametrize("is_early", [True, False])
def test_a_stop_before_the_start_is_told_from_one_right_after_it(is_early: bool, tmp_path: Path) -> None:
    """Who had said that it had started ends like any other that is told to stop."""

    async def use(site: Site) -> Outcome:
        def hear(_logger: object, _level: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
            if ": started;" in line["event"]:
                site.stop.set()
            return line

        if is_early:
            site.stop.set()
        with capture_logs(processors=[hear]):
            return await site.collector().run(once=False, stop=site.stop)

    outcome = run(tmp_path, use)

    assert (outcome.exit_code, outcome.has_started) == (0, not is_early)


def test_what_cannot_come_again_is_forgotten_while_collecting(tmp_path: Path) -> None:
    """The ledger is kept small by the hour, and nothing is stopped for it."""

    async def use(site: Site) -> tuple[int, int]:
        await site.collect()
        ledger = site.folder / "state" / LEDGER_FILE
        with closing(sqlite3.connect(ledger)) as connection, connection:
            connection.execute("UPDATE blob SET created_us = 0 WHERE key <= 3")
        collector = Collector(
            site.settings(LAKE), clock=HourglassClock(), random=system_random(1), build_output=site.output
        )
        running = asyncio.create_task(collector.run(once=False, stop=site.stop))
        async with asyncio.timeout(PATIENCE_S):
            while count_old(ledger):
                await asyncio.sleep(0.02)
        site.stop.set()
        return (await running).exit_code, count_old(ledger)

    assert run(tmp_path, use) == (0, 0)


class HourglassClock(SystemClock):
    """An hour of waiting is over in a quarter of a second; the time of day is the machine's."""

    factor = 14_400.0

    def monotonic_s(self) -> float:
        return super().monotonic_s() * self.factor

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(seconds / self.factor, 0.005))


def count_old(ledger: Path) -> int:
    with closing(sqlite3.connect(ledger)) as connection:
        return int(connection.execute("SELECT count(*) FROM blob WHERE created_us = 0").fetchone()[0])


# Starts.


def test_two_collectors_do_not_share_a_ledger(tmp_path: Path) -> None:
    """The second one is refused, and the first one goes on."""

    async def use(site: Site) -> int:
        first = asyncio.create_task(site.collector().run(once=False, stop=site.stop))
        while not site.outputs["lake"].batches:
            await asyncio.sleep(0.01)
        with pytest.raises(LedgerHeld):
            await site.collector().run(once=True, stop=asyncio.Event())
        site.stop.set()
        return (await first).exit_code

    assert run(tmp_path, use) == 0


def test_an_output_that_cannot_start_starts_nothing(tmp_path: Path) -> None:
    """The outputs opened before it are closed, the ledger is let go, and no request was sent."""
    closed = []

    class Closing(FakeOutput):
        async def close(self) -> None:
            closed.append(self.name)

    class Unusable(FakeOutput):
        async def open(self, *, last_batch: int, position: str, newest_batch: int | None = None) -> int:
            raise UNUSABLE

    async def use(site: Site) -> int:
        site.outputs = {"lake": Closing("lake"), "files": Unusable("files")}
        with pytest.raises(OutputUnusable):
            await site.collect(BOTH)
        assert site.collector().progress().feeds == []
        site.outputs = {"lake": FakeOutput("lake"), "files": FakeOutput("files")}
        return (await site.collect(BOTH)).exit_code

    assert run(tmp_path, use) == 0
    assert closed == ["lake"]


def test_there_is_no_status_before_the_first_run(tmp_path: Path) -> None:
    """Reading it makes no ledger."""

    async def use(site: Site) -> None:
        for read in (partial(read_status, now=SystemClock().now()), waiting_blobs):
            with pytest.raises(LedgerUnusable):
                read(site.settings(LAKE))

    run(tmp_path, use)

    assert list(tmp_path.iterdir()) == []


def test_outputs_are_built_from_their_settings(tmp_path: Path) -> None:
    """Without a builder of the caller's own, each type of output is the product's."""

    async def use(site: Site) -> list[str]:
        settings = site.settings({**BOTH, "screen": {"type": "console", "config": {}}})
        collector = Collector(settings, clock=SystemClock(), random=system_random(1))
        built = [collector._build_output(one) for one in settings.outputs]
        assert {type(one) for one in built} > {FilesOutput, ConsoleOutput}
        return [one.name for one in built]

    assert run(tmp_path, use) == ["lake", "files", "screen"]


# Stops.


async def begun(site: Site) -> asyncio.Task[Outcome]:
    """A run, once its output holds a batch that it cannot make durable."""
    site.outputs["lake"].hold()
    running = asyncio.create_task(site.collector().run(once=False, stop=site.stop))
    while not site.outputs["lake"].batches:
        await asyncio.sleep(0.01)
    return running


def test_what_was_fetched_is_delivered_before_a_stop_ends(tmp_path: Path) -> None:
    """Exit code 0; a next run has only the rest to do, and all is there once."""

    async def use(site: Site) -> tuple[int, int, Verdict]:
        running = await begun(site)
        site.stop.set()
        await asyncio.sleep(0.05)
        site.outputs["lake"].release()
        outcome = await running
        held = len(site.outputs["lake"].disk.records)
        site.stop.clear()
        await site.collect()
        return outcome.exit_code, held, site.verdict()

    exit_code, held, verdict = run(tmp_path, use)

    assert (exit_code, verdict) == (0, FLAWLESS)
    assert held > 0


def test_a_stop_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An output that hangs is left; what it lacks stays known and comes with the next run."""
    monkeypatch.setattr("m365watch.runtime.collector_run.STOP_S", 0.05)

    async def use(site: Site) -> tuple[Outcome, int, Verdict]:
        running = await begun(site)
        site.stop.set()
        outcome = await asyncio.wait_for(running, PATIENCE_S)
        held = len(site.outputs["lake"].disk.records)
        site.outputs["lake"].release()
        site.stop.clear()
        await site.collect()
        return outcome, held, site.verdict()

    outcome, held, verdict = run(tmp_path, use)

    assert (outcome.exit_code, held, verdict) == (0, 0, FLAWLESS)
    assert sum(feed.blobs_waiting for feed in outcome.progress.feeds) > 0


def test_an_output_that_fails_during_a_stop_is_told(tmp_path: Path) -> None:
    """Nothing is lost by it, and yet it is no clean end."""

    class Failing(FakeOutput):
        async def deliver(self, batch: Batch) -> Receipt:
            await super().deliver(batch)
            raise UNUSABLE

    async def use(site: Site) -> Outcome:
        site.outputs["lake"] = Failing("lake")
        running = await begun(site)
        site.stop.set()
        await asyncio.sleep(0.05)
        site.outputs["lake"].release()
        return await running

    outcome = run(tmp_path, use)

    assert (outcome.exit_code, outcome.problems) == (1, (str(UNUSABLE),))


def test_an_output_that_waits_is_told_at_a_stop_and_fails_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run without `--once` that is stopped ends well; its present trouble is in the outcome."""
    monkeypatch.setattr("m365watch.runtime.collector_run.STOP_S", 0.05)
    full = OutputUnavailable("the disk is full", where="output lake", after_s=60.0)

    async def use(site: Site) -> Outcome:
        site.outputs["lake"].fail(full, times=9)
        running = asyncio.create_task(site.collector().run(once=False, stop=site.stop))
        while not site.outputs["lake"].batches:
            await asyncio.sleep(0.01)
        site.stop.set()
        return await running

    outcome = run(tmp_path, use)

    assert (outcome.exit_code, outcome.problems) == (0, (str(full),))


def test_what_waits_for_an_output_that_is_removed_waits_until_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said at every start; whoever removes the folder gives it up."""
    monkeypatch.setattr("m365watch.runtime.collector.PATIENCE_ONCE_S", 0.05)

    async def use(site: Site) -> tuple[list[int], list[str]]:
        files = site.outputs["files"]
        files.waits_on_disk = True
        files.fail(OutputUnavailable("the receiver is away", where="output files"), times=100)
        exits = [(await site.collect(BOTH)).exit_code]
        with capture_logs() as lines:
            exits.append((await site.collect(LAKE)).exit_code)
        site.outputs = {"lake": FakeOutput("lake", site.outputs["lake"].disk), "files": FakeOutput("files")}
        site.outputs["files"].waits_on_disk = True
        exits.append((await site.collect(BOTH)).exit_code)
        assert site.verdict("files") == site.verdict("lake") == Verdict([], [], [])
        return exits, [line["event"] for line in lines if line["log_level"] == "warning"]

    exits, warnings = run(tmp_path, use)

    assert exits == [1, 3, 0]
    assert "bring the output back under this name" in warnings[0]


def test_a_queue_that_this_ledger_never_numbered_is_refused_and_left_alone(tmp_path: Path) -> None:
    """It belongs to another ledger, or this one was put back by hand: what waits may exist nowhere else."""

    async def use(site: Site) -> tuple[list[str], list[Path]]:
        await site.collect(BOTH)
        folder = tmp_path / "state" / "queues" / "files"
        folder.mkdir(parents=True)
        (folder / "00000000000000009007.batch").write_bytes(b"of another ledger")
        with pytest.raises(OutputUnusable) as refused:
            await site.collect(BOTH)
        return [refused.value.what, refused.value.fix], sorted(folder.iterdir())

    [what, fix], left = run(tmp_path, use)

    assert what == "its queue on disk has batches that this ledger has never numbered"
    assert fix.startswith("put back the ledger that belongs to it")
    assert [path.name for path in left] == ["00000000000000009007.batch"]


@guarantee(14)
def test_what_waits_in_a_queue_outlives_the_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wire cannot be asked what it has, but its queue can: that is delivered, and not fetched again."""
    monkeypatch.setattr("m365watch.runtime.collector.PATIENCE_ONCE_S", 0.05)
    queue = tmp_path / "state" / "queues" / "lake"

    async def use(site: Site) -> tuple[list[int], int, list[str]]:
        site.outputs["lake"].fail(OutputUnavailable("nobody answers", where="output lake"), times=1000)
        exits = [(await site.collect(BOTH)).exit_code]
        queued = len(list(queue.iterdir()))
        for path in (tmp_path / "state").glob(f"{LEDGER_FILE}*"):
            path.unlink()
        # Neither can be asked; what the other had already it gets again, into a new disk here.
        site.outputs = {"lake": FakeOutput("lake"), "files": FakeOutput("files")}
        with capture_logs() as lines:
            exits.append((await site.collect(BOTH)).exit_code)
        assert site.verdict("lake") == site.verdict("files") == FLAWLESS
        return exits, queued, [line["event"] for line in lines if line["log_level"] == "warning"]

    exits, queued, told = run(tmp_path, use)

    assert exits == [1, 0]
    assert queued > 0
    assert list(queue.iterdir()) == []
    assert any("output files, lake: cannot be asked what it has" in line for line in told)
