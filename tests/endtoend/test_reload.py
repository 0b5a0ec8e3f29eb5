"""A collector in a process of its own whose configuration is changed under it."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from forked import Forked
from patience import PATIENCE_S
from promises import guarantee

from commands import Ended, command, ended, start
from m365watch.common.clock import SystemClock
from m365watch_simulator.service.identities import derive_identities
from m365watch_simulator.service.server import RunningSimulator, SimulationSettings, simulator_running
from place import LAKE, Place, assert_discreet

pytestmark = pytest.mark.slow

AGAIN = "correct what is named; the file is read again once it is saved"
NAMES = ("office365", "office365_2", "office365_3")


@dataclass(slots=True)
class Scene:
    """Three tenants, and a configuration that names some of them."""

    place: Place
    running: RunningSimulator

    @property
    def file(self) -> Path:
        return self.place.folder / "m365watch.json"

    def save(self, *names: str, edit: Callable[[dict[str, Any]], object] = lambda _: None) -> None:
        """Put the configuration with these inputs in place of the old one, at once."""
        document = self.running.configuration(outputs={"lake": LAKE})
        document["inputs"] = {name: document["inputs"][name] for name in names}
        edit(document)
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(document))
        new.chmod(0o600)
        new.replace(self.file)

    def is_complete(self, *numbers: int) -> bool:
        """Whether the lake holds every record of these tenants, once, and of no other."""
        held = self.place.holdings().get("lake", [])
        truths = [self.running.tenants[number].truth() for number in numbers]
        served = {text for truth in truths for texts in truth.texts.values() for text in texts}
        return len(held) == sum(truth.record_count for truth in truths) and set(held) <= served


@asynccontextmanager
async def scene_in(folder: Path) -> AsyncIterator[Scene]:
    settings = SimulationSettings(
        seed=8, tenants=derive_identities(8, count=3), days=1, records_per_day=40, live=False
    )
    async with simulator_running(settings, clock=SystemClock()) as running:
        yield Scene(Place(folder), running)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.05)


async def states(scene: Scene) -> dict[str, str]:
    """Each input's state, as `m365watch tenants` has it; of one without input, its tenant's."""
    told = await command("tenants", "--config", str(scene.file), "--json")
    assert told.exit_code == 0
    return {(one["inputs"] or [one["tenant"]])[0]: one["state"] for one in json.loads(told.out)["tenants"]}


async def until_states(scene: Scene, expected: dict[str, str]) -> None:
    """Return once the inputs are in these states."""
    async with asyncio.timeout(PATIENCE_S):
        while await states(scene) != expected:
            await asyncio.sleep(0.05)


async def said_until(process: Forked, words: str) -> str:
    """What the collector says, up to a line with these words."""
    assert process.stderr is not None
    said = ""
    async with asyncio.timeout(PATIENCE_S):
        while words not in said:
            line = await process.stderr.readline()
            assert line, f"it ended before it said {words!r}: {said}"
            said += line.decode()
    return said


@guarantee(31)
@pytest.mark.slow
def test_tenants_come_and_go_without_a_restart(tmp_path: Path) -> None:
    """By the file alone, and by SIGHUP; a broken file changes nothing; each record arrives once."""

    def break_it(document: dict[str, Any]) -> None:
        document["inputs"]["office365"]["services"] = {"exchnge": {}}
        document["globals"]["debug"] = "perhaps"

    async def use() -> Ended:
        async with scene_in(tmp_path) as scene:
            first = scene.running.tenants[0].identity.tenant_id
            scene.save(NAMES[0])
            process = await start("run", "--config", str(scene.file))
            await until(lambda: scene.is_complete(0))
            scene.save(*NAMES[:2])
            await until(lambda: scene.is_complete(0, 1))
            scene.save(*NAMES, edit=break_it)
            process.send_signal(signal.SIGHUP)
            said = await said_until(process, AGAIN)
            assert scene.is_complete(0, 1)
            scene.save(NAMES[1])
            process.send_signal(signal.SIGHUP)
            await until_states(scene, {NAMES[1]: "running", first: "stopped"})
            scene.save(*NAMES)
            process.send_signal(signal.SIGHUP)
            await until(lambda: scene.is_complete(0, 1, 2))
            await until_states(scene, dict.fromkeys(NAMES, "running"))
            process.send_signal(signal.SIGTERM)
            run = await ended(process)
            run = replace(run, err=said + run.err)
            secrets = [tenant.identity.client_secret for tenant in scene.running.tenants]
            assert_discreet(run.out + run.err, secrets=secrets, records=[])
            return run

    run = asyncio.run(use())

    assert run.exit_code == 0
    assert [line.partition("m365watch.json: ")[2] for line in run.complaints] == [
        'globals.debug: "perhaps" (text) is neither true nor false; give true or false, or remove the key',
        'inputs.office365.services.exchnge: unknown key; did you mean "exchange"?',
        f"nothing is changed, and all goes on as it was; {AGAIN}",
    ]


@pytest.mark.slow
def test_a_terminal_that_is_closed_ends_a_run_in_order(tmp_path: Path) -> None:
    """SIGHUP means that there; nobody is left with a collector that runs on unseen."""

    async def use() -> int | None:
        async with scene_in(tmp_path) as scene:
            scene.save(NAMES[0])
            master, slave = pty.openpty()
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "m365watch.cli.main", "run", "--config", str(scene.file)),
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env=os.environ | {"TERM": "dumb"},
                start_new_session=True,
            )
            os.close(slave)
            loop = asyncio.get_running_loop()
            loop.add_reader(master, os.read, master, 65_536)
            await until(lambda: scene.is_complete(0))
            loop.remove_reader(master)
            os.close(master)
            process.send_signal(signal.SIGHUP)
            async with asyncio.timeout(PATIENCE_S):
                await process.wait()
            return process.returncode

    assert asyncio.run(use()) == 0
