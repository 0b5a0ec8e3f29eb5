"""Devo at the end of the wire, and everything that can happen to it and to the collector on the way."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from forked import Forked
from patience import STOPPED_WITHIN_S
from promises import guarantee

from commands import FLAWLESS, Ended, command, ended
from devo_scene import LARGE, DevoScene, devo_scene_in, until
from m365watch_simulator.service.server import SimulationSettings
from m365watch_simulator.service.truth import Verdict
from m365watch_testing.devo_server import Faults
from place import LAKE

pytestmark = pytest.mark.slow

BUSY_S = 2.0
"""How long a collector that is to be killed gets at most, from its first line on."""
GZIP: dict[str, Any] = {"threshold_for_using_gzip_in_transport_layer": -1.0}


def small() -> SimulationSettings:
    return SimulationSettings(seed=5, days=6, records_per_day=50, page_size=20, live=False)


def large() -> SimulationSettings:
    """Some 25 MB in batches that are closed because nothing more came in time, slow enough to be met."""
    return SimulationSettings(
        seed=5, days=6, records_per_day=15, page_size=9, scenario=LARGE, live=False, latency_s=0.04
    )


def judge(scene: DevoScene) -> tuple[Verdict, Verdict]:
    """How Devo's records and the lake's compare with what was served."""
    truth = scene.scene.truth
    return truth.judge(scene.received_records()), truth.judge(scene.in_lake())


async def stop(process: Forked) -> tuple[Ended, float]:
    """End the collector in order; how, and after how many seconds."""
    process.send_signal(signal.SIGTERM)
    told_s = monotonic()
    return await ended(process), monotonic() - told_s


async def start_until_received(scene: DevoScene, more: int) -> Forked:
    """A collector, started, once Devo has so many lines more or it was at work for its time."""
    before = len(scene.devo.lines)
    wanted = before + more
    process = await scene.start("--quiet")
    await until(lambda: len(scene.devo.lines) > before, process)
    with suppress(TimeoutError):
        async with asyncio.timeout(BUSY_S):
            await until(lambda: len(scene.devo.lines) >= wanted, process)
    return process


async def kill_when_received(scene: DevoScene, more: int) -> Counter[bytes]:
    """Kill a collector once Devo has so many lines more; what was unacknowledged then."""
    process = await start_until_received(scene, more)
    process.kill()
    await process.communicate()
    assert process.returncode == -signal.SIGKILL
    batches = scene.unacknowledged()
    assert not scene.scene.truth.judge(scene.in_lake()).repeated
    return Counter(record for batch in batches for part in batch.parts for record in part.records)


def cut_some(number: int) -> Faults:
    """Two of three connections are cut while there are few, by a reset or by a close."""
    if number % 3 == 2 or number > 8:
        return Faults()
    return Faults(close_after_bytes=400_000 * (1 + number % 4), closes_by_reset=number % 2 == 0)


@guarantee(21)
@pytest.mark.slow
@pytest.mark.parametrize(("compressed", "cut"), [(True, False), (False, True)], ids=["gzip", "cut"])
def test_a_killed_collector_repeats_what_was_unacknowledged_and_nothing_else(
    tmp_path: Path, *, compressed: bool, cut: bool
) -> None:
    """Nothing is missing at Devo or in the lake, which has each record once.

    Devo has a record again only after a kill at which it was not acknowledged, or a connection that broke.
    """

    async def run() -> None:
        chance = random.Random(2 * compressed + cut)
        faults = cut_some if cut else None
        async with devo_scene_in(tmp_path, large(), faults=faults) as scene:
            scene.configure({"devo": scene.output(**(GZIP if compressed else {})), "lake": LAKE})
            with scene.devo:
                allowed = Counter[bytes]()
                for _ in range(3):
                    allowed += await kill_when_received(scene, chance.randrange(1, 150))
                last = await scene.run_once()
                found = Counter(scene.received_records())
                devo, lake = judge(scene)
            assert last.exit_code == 0, last.err
            assert lake == FLAWLESS
            assert (devo.missing, devo.altered) == ([], [])
            repeated = Counter({record: times - 1 for record, times in found.items() if times > 1})
            broken = sum(one.over and not one.ended for one in scene.devo.connections) if cut else 0
            excess = {record for record in repeated if repeated[record] > allowed[record] + broken}
            assert not excess
            assert repeated or compressed, "some kill fell between the sending and its acknowledgement"
            assert scene.unacknowledged() == []

    asyncio.run(run())


@pytest.mark.slow
def test_what_devo_lacks_waits_on_disk_and_is_not_fetched_again(tmp_path: Path) -> None:
    """Devo is away from the start, with Devo's own waits between two tries.

    The lake gets everything, a stop waits for nothing, `status` and `blobs` say what waits, and the next
    run delivers it from the queue: once.
    """

    async def run() -> None:
        async with devo_scene_in(tmp_path, small()) as scene:
            scene.configure({"devo": scene.output(quick=False), "lake": LAKE})
            process = await scene.start("--quiet")
            await until(lambda: len(scene.in_lake()) >= scene.scene.truth.record_count, process)
            await until(scene.is_alike_elsewhere, process)
            stopped, took_s = await stop(process)
            assert (stopped.exit_code, took_s < STOPPED_WITHIN_S) == (0, True), stopped.err
            told = [line for line in stopped.complaints if "the connection was refused" in line]
            assert [line[:6] == "error:" for line in told] == [False, True], "once, and at the end of the run"
            await check_told_as_queued(scene)
            before = scene.fetches
            with scene.devo:
                last = await scene.run_once()
                devo, lake = judge(scene)
            assert (last.exit_code, scene.fetches) == (0, before)
            assert (devo, lake) == (FLAWLESS, FLAWLESS)
            assert scene.unacknowledged() == []

    asyncio.run(run())


async def check_told_as_queued(scene: DevoScene) -> None:
    """`status` and `blobs` say that everything waits for Devo on disk."""
    status, named = await asyncio.gather(
        command("status", "--config", scene.file, "--json"),
        command("blobs", "--config", scene.file, "--json", "--state", "queued", "--limit", "500"),
    )
    document = json.loads(status.out)
    blobs = document["totals"]["blobs"]["listed"]
    outputs = {one["name"]: one for one in document["outputs"]}
    devo = outputs["devo"]
    assert (devo["blobs_missing"], devo["blobs_queued"]) == (blobs, blobs)
    assert "the connection was refused" in devo["last_error"]
    queued = json.loads(named.out)["blobs"]
    assert [one["missing_outputs"] for one in queued] == [["devo"]] * blobs


@pytest.mark.slow
def test_what_finds_the_queue_full_is_fetched_again_for_devo_alone(tmp_path: Path) -> None:
    """Devo is away and its queue is full: it is left out, and has everything once after it came back.

    First in the same run, which is stopped under way, then in the next.
    """

    async def run() -> None:
        async with devo_scene_in(tmp_path, large()) as scene:
            outputs = {"devo": scene.output(retention_secs=1), "lake": LAKE}
            scene.configure(outputs, overall={"queue_max_size_in_mb": 1})
            process = await scene.start("--quiet")
            await until(lambda: len(scene.in_lake()) >= scene.scene.truth.record_count, process)
            status = json.loads((await command("status", "--config", scene.file, "--json")).out)
            waits = next(one for one in status["outputs"] if one["name"] == "devo")
            assert 0 < waits["blobs_queued"] < waits["blobs_missing"] == status["totals"]["blobs"]["listed"]
            before = scene.fetches
            with scene.devo:
                await until(lambda: scene.fetches > before, process)
                stopped, took_s = await stop(process)
                assert (stopped.exit_code, took_s < STOPPED_WITHIN_S) == (0, True), stopped.err
                last = await scene.run_once()
                devo, lake = judge(scene)
            assert last.exit_code == 0, last.err
            assert "its queue on disk has no room" in stopped.err
            assert (devo, lake) == (FLAWLESS, FLAWLESS)
            assert scene.unacknowledged() == []

    asyncio.run(run())


@guarantee(21)
@pytest.mark.slow
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_a_stop_under_way_loses_and_repeats_nothing(tmp_path: Path, *, compressed: bool) -> None:
    """SIGTERM in the middle of sending: exit code 0 in good time, and each record once."""

    async def run() -> None:
        async with devo_scene_in(tmp_path, large()) as scene:
            scene.configure({"devo": scene.output(**(GZIP if compressed else {})), "lake": LAKE})
            with scene.devo:
                process = await scene.start("--quiet")
                await until(lambda: scene.has_records, process)
                stopped, took_s = await stop(process)
                assert (stopped.exit_code, took_s < STOPPED_WITHIN_S) == (0, True), stopped.err
                assert len(scene.received_records()) < scene.scene.truth.record_count, "in the middle"
                last = await scene.run_once()
                devo, lake = judge(scene)
            assert last.exit_code == 0, last.err
            assert (devo, lake) == (FLAWLESS, FLAWLESS)

    asyncio.run(run())
