"""A collector in a process of its own whose outputs are changed under it while records come."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from forked import Forked
from patience import PATIENCE_S
from promises import guarantee

from commands import FLAWLESS, Ended, collecting, command, ended
from m365watch.common.clock import SystemClock
from m365watch.ledger.lock import LOCK_FILE, holder_of
from m365watch_simulator.service.identities import derive_identities
from m365watch_simulator.service.server import RunningSimulator, SimulationSettings, simulator_running
from m365watch_simulator.service.truth import Verdict
from place import LAKE, Place, assert_discreet

pytestmark = pytest.mark.slow

NAMES = ("office365", "office365_2", "office365_3")
AT_ONCE = {"rotate_megabytes": 1, "rotate_secs": 1}
FILES = {"type": "files", "config": {"directory": "out", **AT_ONCE}}
PACKED = {"type": "files", "config": {"directory": "out", "compression": "gzip", **AT_ONCE}}
BROKEN = {"type": "files", "config": {"directory": "m365watch.json/out"}}
"""Below a file nothing can be written."""


@dataclass(slots=True)
class Scene:
    """Three tenants that answer slowly, so that something is always in flight, and a configuration."""

    place: Place
    running: RunningSimulator

    @property
    def file(self) -> Path:
        return self.place.folder / "m365watch.json"

    def save(self, tenants: int, outputs: Mapping[str, Any]) -> None:
        """Put a configuration with so many tenants in place of the old one, at once."""
        document = self.running.configuration(outputs=outputs)
        document["inputs"] = {name: document["inputs"][name] for name in NAMES[:tenants]}
        document["globals"]["watch_configuration"] = False
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(document))
        new.chmod(0o600)
        new.replace(self.file)

    def held(self, output: str, tenant: int) -> list[bytes]:
        """What the output holds of the tenant."""
        tenant_id = self.running.tenants[tenant].identity.tenant_id.encode()
        return [record for record in self.place.holdings().get(output, []) if tenant_id in record]

    def verdict(self, output: str, tenant: int) -> Verdict:
        return self.running.tenants[tenant].truth().judge(self.held(output, tenant))

    async def until_complete(self, output: str, *tenants: int) -> None:
        """Wait until the output holds all that these tenants have."""
        counts = {tenant: self.running.tenants[tenant].truth().record_count for tenant in tenants}
        await until(lambda: all(len(self.held(output, one)) >= count for one, count in counts.items()))

    async def refusal(self) -> dict[str, Any]:
        """What `status` says of the configuration, once it has mistakes."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                told = await command("status", "--config", str(self.file), "--json")
                found = json.loads(told.out)["configuration"]
                assert isinstance(found, dict)
                if found["mistakes"]:
                    return found


@asynccontextmanager
async def scene_in(folder: Path) -> AsyncIterator[Scene]:
    settings = SimulationSettings(
        seed=8,
        tenants=derive_identities(8, count=3),
        days=1,
        records_per_day=60,
        page_size=5,
        latency_s=0.02,
        live=False,
    )
    async with simulator_running(settings, clock=SystemClock()) as running:
        yield Scene(Place(folder), running)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.05)


async def told(process: Any, words: str) -> None:
    """Read what the collector says, up to a line with these words."""
    async with asyncio.timeout(PATIENCE_S):
        while words.encode() not in (line := await process.stderr.readline()):
            assert line, f"it ended before it said {words!r}"
            assert b"Traceback" not in line


@asynccontextmanager
async def held_by(lock: Path, pid: int) -> AsyncIterator[None]:
    """Within the block the ledger belongs to that process, at every look."""
    looks: list[str | None] = []

    async def look() -> None:
        while True:
            looks.append(holder_of(lock))
            await asyncio.sleep(0.005)

    looking = asyncio.create_task(look())
    try:
        yield
    finally:
        looking.cancel()
    assert len(looks) > 1
    assert all(one is not None and f"pid {pid} " in one for one in looks)


@guarantee(31)
@pytest.mark.slow
def test_outputs_come_and_go_without_a_restart(tmp_path: Path) -> None:
    """Added, broken, changed, removed, in one process: each has what came while it was there, once."""

    async def use() -> tuple[Ended, dict[str, Any], dict[str, Verdict], int]:
        async with scene_in(tmp_path) as scene:
            scene.save(1, {"lake": LAKE})
            process = await collecting(scene.file)
            async with held_by(tmp_path / "state" / LOCK_FILE, process.pid):
                # In the middle of the first tenant, which goes on beside it; the second has both outputs.
                await until(lambda: bool(scene.held("lake", 0)))
                scene.save(2, {"lake": LAKE, "files": FILES})
                process.send_signal(signal.SIGHUP)
                await told(process, "goes on; tenants: 2, feeds: 10, outputs: detections, files, lake")
                await scene.until_complete("lake", 0, 1)
                await scene.until_complete("files", 1)
                scene.save(3, {"lake": LAKE, "files": FILES, "broken": BROKEN})
                process.send_signal(signal.SIGHUP)
                await told(process, "nothing is changed, and all goes on as it was; ")
                await told(process, "goes on; tenants: 2, feeds: 10, outputs: detections, files, lake")
                refused = await scene.refusal()
                scene.save(3, {"lake": LAKE, "packed": PACKED | {"enabled": False}})
                process.send_signal(signal.SIGHUP)
                await told(process, "goes on; tenants: 3, feeds: 15, outputs: detections, lake")
                await scene.until_complete("lake", 0, 1, 2)
            process.send_signal(signal.SIGTERM)
            run = await ended(process)
            secrets = [tenant.identity.client_secret for tenant in scene.running.tenants]
            assert_discreet(run.out + run.err, secrets=secrets, records=[])
            verdicts = {
                f"{output} {tenant}": scene.verdict(output, tenant)
                for output in ("lake", "files")
                for tenant in range(3)
            }
            return run, refused, verdicts, len(scene.held("files", 2))

    run, refused, verdicts, of_the_third = asyncio.run(use())
    early = verdicts.pop("files 0")

    assert run.exit_code == 0
    assert (early.repeated, early.altered) == ([], [])
    assert len(verdicts.pop("files 2").missing) > 0 == of_the_third
    assert verdicts == dict.fromkeys(("lake 0", "lake 1", "lake 2", "files 1"), FLAWLESS)
    assert "this run" not in run.err, "nothing was there before it"
    [mistake] = refused["mistakes"]
    assert "m365watch.json/out" in mistake
    assert refused["needs_restart"] == []


@guarantee(31)
@pytest.mark.slow
@pytest.mark.parametrize("words", ["what is in flight is finished first", "goes on; tenants"])
def test_a_kill_in_the_change_of_outputs_is_made_good(words: str, tmp_path: Path) -> None:
    """Before the old collector has ended, and as the new one begins: nothing is lost, and nothing doubled."""

    async def use() -> tuple[Ended, Verdict, Verdict, Verdict]:
        async with scene_in(tmp_path) as scene:
            scene.save(1, {"lake": LAKE})
            process: Forked | asyncio.subprocess.Process = await collecting(scene.file)
            await until(lambda: bool(scene.held("lake", 0)))
            scene.save(2, {"lake": LAKE, "files": FILES})
            process.send_signal(signal.SIGHUP)
            await told(process, words)
            os.kill(process.pid, signal.SIGKILL)
            await process.communicate()
            between = scene.verdict("lake", 0)
            assert (between.repeated, between.altered) == ([], [])
            run = await command("run", "--config", str(scene.file), "--once")
            return run, scene.verdict("lake", 0), scene.verdict("lake", 1), scene.verdict("files", 1)

    run, *verdicts = asyncio.run(use())

    assert run.exit_code == 0
    assert verdicts == [FLAWLESS] * 3
