from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from forked import PIPE, Forked, fork
from patience import PATIENCE_S
from promises import guarantee

from doomed import Moment
from m365watch.common.model import ContentType
from m365watch_simulator.service.scenario import Answer, Call, Rule, Scenario
from m365watch_simulator.service.server import RunningSimulator, SimulationSettings, simulator_running
from m365watch_simulator.service.truth import Truth, Verdict
from m365watch_testing.clock import START, ShiftedClock
from place import LAKE, Place

DOOMED = Path(__file__).with_name("doomed.py")
FLAWLESS = Verdict([], [], [])
LARGE = Scenario(rules=(Rule(on=(Call.CONTENT,), answer=Answer.HUGE_RECORD, size_bytes=270_000),))
"""Every blob has 0.27 MB, so that some 15 fill a batch of `doomed.py` and a run has several."""


def files(compression: str) -> dict[str, Any]:
    """Files that are published as soon as can be, so that kills meet that too."""
    rotation = {"rotate_megabytes": 1, "rotate_secs": 1}
    return {"type": "files", "config": {"directory": "out", "compression": compression, **rotation}}


Kill = Callable[["Crime"], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Crime:
    """One collector that is killed again and again, and the simulator that it collects from."""

    place: Place
    running: RunningSimulator
    shift_s: float

    @property
    def truth(self) -> Truth:
        return self.running.tenants[0].truth()

    async def start(self, moment: Moment) -> Forked:
        """A collector's process, once its modules are loaded."""
        words = (str(self.place.folder), str(self.shift_s), moment.text())
        process = await fork(DOOMED, *words, stdout=PIPE)
        assert process.stdout is not None
        await process.stdout.readline()
        return process

    async def kill_at(self, moment: Moment) -> int:
        """Let a collector end itself at `moment`; its exit code."""
        process = await self.start(moment)
        async with asyncio.timeout(PATIENCE_S):
            await process.communicate()
        assert process.returncode is not None
        return process.returncode

    def judge(self) -> dict[str, Verdict]:
        truth = self.truth
        return {name: truth.judge(records) for name, records in self.place.holdings().items()}

    def check_in_between(self) -> None:
        """What readers find at any moment: whole records, each once."""
        for verdict in self.judge().values():
            assert (verdict.repeated, verdict.altered) == ([], [])

    async def finish(self) -> None:
        """Start once more, kill nobody, and compare byte for byte."""
        process = await self.start(Moment("nobody", 0, durable=True))
        async with asyncio.timeout(PATIENCE_S):
            await process.communicate()
        assert process.returncode == 0
        verdicts = self.judge()
        assert verdicts == dict.fromkeys(verdicts, FLAWLESS) != {}
        assert self.truth.record_count > 100


def commit(folder: Path, outputs: Mapping[str, Any], kill: Kill) -> None:
    """Run `kill` against a tenant whose blobs are large, then finish."""

    async def run() -> None:
        clock = ShiftedClock.set_to(START)
        settings = SimulationSettings(
            seed=5, days=2, records_per_day=120, page_size=9, scenario=LARGE, live=False, latency_s=0.01
        )
        async with simulator_running(settings, clock=clock) as running:
            for content_type in ContentType:
                running.tenants[0].subscriptions.start(content_type, clock.now())
            document = running.configuration(outputs=outputs)
            (folder / "m365watch.json").write_text(json.dumps(document))
            crime = Crime(Place(folder), running, clock.shift_s)
            await kill(crime)
            await crime.finish()

    asyncio.run(run())


@guarantee(13)
@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("files", files("none")),
        pytest.param("files", files("gzip"), marks=pytest.mark.slow),
        pytest.param("files", files("zstd"), marks=pytest.mark.slow),
        pytest.param("lake", LAKE, marks=pytest.mark.slow),
    ],
    ids=["none", "gzip", "zstd", "lake"],
)
def test_a_kill_around_a_write_is_made_good(name: str, output: dict[str, Any], tmp_path: Path) -> None:
    """Before an output's write or between it and the ledger's commit: exactly once after the restart."""

    async def kill(crime: Crime) -> None:
        for delivery, durable in ((1, False), (1, True), (2, True), (2, False), (1, True)):
            assert await crime.kill_at(Moment(name, delivery, durable=durable)) == -signal.SIGKILL
            crime.check_in_between()

    commit(tmp_path, {name: output}, kill)


@pytest.mark.slow
@pytest.mark.parametrize("durable", [False, True], ids=["unwritten", "written"])
@pytest.mark.parametrize("last", ["files", "lake"])
def test_a_kill_between_two_commits_is_made_good(last: str, durable: bool, tmp_path: Path) -> None:
    """One output's share of a batch is committed and the other's is not: each gets what it lacks."""

    async def kill(crime: Crime) -> None:
        for delivery in (1, 2):
            moment = Moment(last, delivery, durable=durable, others_committed=True)
            assert await crime.kill_at(moment) == -signal.SIGKILL
            crime.check_in_between()

    commit(tmp_path, {"files": files("gzip"), "lake": LAKE}, kill)
