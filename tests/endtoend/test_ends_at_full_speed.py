from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from patience import STOPPED_WITHIN_S
from promises import guarantee

from benchmarks.service import Service, service_running
from place import LAKE
from speedway import Speedway, digests_served

RECORDS = 25_000
KILLS = 30
STOPS = 8
NEVER_STARTED = {143, -signal.SIGTERM}
"""Exit codes of a collector that was told to end before it had begun: its own, or the system's."""
FILES = {
    "type": "files",
    "config": {"directory": "out", "compression": "none", "rotate_megabytes": 64, "rotate_secs": 1},
}


@dataclass(frozen=True, slots=True)
class Served:
    """The service, and the digest of every record that it serves."""

    service: Service
    digests: set[bytes]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    file = tmp_path_factory.mktemp("served") / "digests"
    with service_running(RECORDS, digests=file) as service:
        yield Served(service, digests_served(file))


def check_kept(way: Speedway, digests: set[bytes], *, all_of_them: bool) -> None:
    """Each output has records that were served, each once; at the end all of them."""
    for held in (way.in_files(), way.in_lake()):
        distinct = set(held)
        assert len(held) == len(distinct), "a record is there twice"
        assert distinct <= digests, "a record is not the one that was served"
        assert not all_of_them or len(distinct) == len(digests), "a record is missing"


class Places:
    """Folders one after the other, so that each end that counts is that of a collector with work left.

    A folder that has every record is judged, and another takes its place: however fast the machine is, no end
    that counts meets a collector at rest, and there need not be more records than a few ends leave over.
    """

    def __init__(self, folder: Path, served: Served, *, has_detections: bool) -> None:
        self._folder, self._served = folder, served
        self._has_detections = has_detections
        self._taken = 0
        self.way = self._take_another()

    def _take_another(self) -> Speedway:
        self._taken += 1
        folder = self._folder / str(self._taken)
        folder.mkdir()
        outputs = {"files": FILES, "lake": LAKE}
        return Speedway(folder, self._served.service, outputs, has_detections=self._has_detections)

    async def had_work(self) -> bool:
        """Whether the collector that has just ended had not done all; if it had, the next one begins anew."""
        if self.way.count_in_lake() < RECORDS:
            return True
        await self.judge()
        self.way = self._take_another()
        return False

    async def judge(self) -> None:
        """Let a collector finish: all is there."""
        assert await self.way.catch_up() == 0, self.way.said
        check_kept(self.way, self._served.digests, all_of_them=True)


def moments(seed: int) -> Iterator[tuple[str, float]]:
    """What is to be met, and after how many seconds of it: starts and stops, and thrice as often the work."""
    chance = random.Random(seed)
    spans = {"start": 0.3, "stop": 0.1, "work": 0.3, "work with upkeep": 0.3, "writing": 0.03}
    while True:
        for aim in chance.sample(list(spans), len(spans)):
            yield aim, chance.uniform(0.0, spans[aim])


async def kill_at(way: Speedway, aim: str, after_s: float) -> list[str]:
    """Start a collector and kill it; what was met, which is nothing if it had stopped before."""
    process = await way.start()
    if aim == "start":
        await asyncio.sleep(after_s)
        return await way.kill(process)
    await way.until_started(process)
    if aim == "stop":
        await asyncio.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        await asyncio.sleep(after_s)
        if process.returncode is not None:
            return []
        met = await way.kill(process, is_stopping=True)
        return [*met, "stopping"] if met else []
    if aim == "writing":
        # However long a busy machine lets it list and fetch before.
        await way.until_written()
    if aim in ("work", "writing"):
        await asyncio.sleep(after_s)
        return await way.kill(process)
    upkeep = await way.keep_lake()
    await asyncio.sleep(after_s)
    met = await way.kill(process)
    if upkeep.returncode is None:
        upkeep.kill()
        met.append("upkeep of the lake")
    await upkeep.wait()
    return met


def kill_again_and_again(folder: Path, served: Served, *, seed: int) -> Counter[str]:
    """Kill `KILLS` collectors one after the other, let the next one finish, and judge; what was met.

    If none of them was writing, go on until one is, thrice as long at most.
    """

    async def kill() -> Counter[str]:
        # Of files and lake alone: `test_kills.py` kills beside detections.
        places = Places(folder, served, has_detections=False)
        met: Counter[str] = Counter()
        kills = 0
        for aim, after_s in moments(seed):
            found = await kill_at(places.way, aim, after_s)
            if not found or not await places.had_work():
                continue
            met.update(found)
            kills += 1
            if kills == KILLS // 2:
                check_kept(places.way, served.digests, all_of_them=False)
            was_writing = met["writing files"] + met["writing the lake"] > 0
            if kills >= (KILLS if was_writing else 3 * KILLS):
                break
        await places.judge()
        return met

    return asyncio.run(kill())


@guarantee(13, 16)
@pytest.mark.slow
def test_thirty_kills_at_full_speed_cost_nothing(served: Served, tmp_path: Path) -> None:
    """Whatever they meet: each record is once in files and once in the lake, byte for byte."""
    met = kill_again_and_again(tmp_path, served, seed=1)

    sys.stdout.write(
        f"\n{KILLS} kills or more, by what was under way (often several): {dict(met.most_common())}\n"
    )
    assert met["starting"] > 0
    assert met["stopping"] > 0
    assert met["writing files"] + met["writing the lake"] > 0


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 12))
def test_many_kills_at_full_speed_cost_nothing(seed: int, served: Served, tmp_path: Path) -> None:
    """The same, for as long as somebody likes to wait."""
    kill_again_and_again(tmp_path, served, seed=seed)


@guarantee(12, 28)
@pytest.mark.slow
def test_stops_at_full_speed_are_orderly_and_cost_nothing(served: Served, tmp_path: Path) -> None:
    """SIGTERM at any moment: over in good time, with 0 once it had started; nothing is lost or doubled."""

    async def stop() -> None:
        chance = random.Random(2)
        places = Places(tmp_path, served, has_detections=True)
        stops = 0
        while stops < STOPS:
            way = places.way
            process = await way.start()
            if stops % 5:
                await way.until_started(process)
            await asyncio.sleep(chance.uniform(0.0, 0.4))
            had_started = way.has_started
            code, took_s = await way.stop(process)
            assert took_s < STOPPED_WITHIN_S
            assert code == 0 or (not had_started and code in NEVER_STARTED), way.said
            assert "Traceback" not in way.said
            stops += await places.had_work()
        await places.judge()

    asyncio.run(stop())
