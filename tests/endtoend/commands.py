"""The command line in processes of its own, and a simulator for it to meet."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forked import PIPE, Forked, fork
from patience import PATIENCE_S

from m365watch.common.clock import SystemClock
from m365watch_simulator.service.scenario import Behaviour, Scenario
from m365watch_simulator.service.server import RunningSimulator, SimulationSettings, simulator_running
from m365watch_simulator.service.truth import Truth, Verdict
from place import BOTH, Place, assert_discreet

LIMIT_S = PATIENCE_S
Process = Forked | asyncio.subprocess.Process
_COMPLAINT = re.compile(r"error: |\d\d:\d\d:\d\d (warning|error) ")
_OF_A_BUSY_MACHINE = "of this run dropped, because it took none at the end"
"""Of notices, and no record: an output has 2 s for the last of them."""
FLAWLESS = Verdict([], [], [])


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that has ended."""

    exit_code: int
    out: str
    err: str

    @property
    def complaints(self) -> list[str]:
        """The lines that tell what went wrong, but for what is wrong with the machine."""
        told = (line for line in self.err.splitlines() if _COMPLAINT.match(line))
        return [line for line in told if _OF_A_BUSY_MACHINE not in line]


async def start(*arguments: str) -> Forked:
    """A command of m365watch, started."""
    environment = os.environ | {"NO_COLOR": "1", "COLUMNS": "200"}
    return await fork("m365watch.cli.main", *arguments, stdout=PIPE, stderr=PIPE, environment=environment)


async def start_afresh(*arguments: str) -> asyncio.subprocess.Process:
    """The same by a Python that has imported nothing, as a shell does it."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "m365watch.cli.main",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"NO_COLOR": "1", "COLUMNS": "200"},
    )


async def ended(process: Process) -> Ended:
    """What the command said and left with; a traceback is never right."""
    async with asyncio.timeout(LIMIT_S):
        out, err = await process.communicate()
    assert process.returncode is not None
    assert b"Traceback" not in err
    return Ended(process.returncode, out.decode(), err.decode())


async def command(*arguments: str) -> Ended:
    """A command of m365watch, run to its end."""
    return await ended(await start(*arguments))


async def collecting(file: Path) -> Process:
    """A collector that has started with the configuration `file`: whoever asks now finds its lock held."""
    running = await start("run", "--config", str(file))
    assert running.stderr is not None
    async with asyncio.timeout(LIMIT_S):
        while b"started;" not in (line := await running.stderr.readline()):
            assert line, "it ended before it had started"
    return running


@dataclass(frozen=True, slots=True)
class Scene:
    """A simulator that answers, and a place with a configuration that collects from it."""

    place: Place
    running: RunningSimulator

    @property
    def file(self) -> Path:
        return self.place.folder / "m365watch.json"

    @property
    def truth(self) -> Truth:
        return self.running.tenants[0].truth()

    def configure(
        self, outputs: Mapping[str, Any] = BOTH, *, credentials: Mapping[str, str] | None = None
    ) -> None:
        """Write the configuration, with `credentials` that differ from the right ones."""
        document = self.running.configuration(outputs=outputs)
        document["inputs"]["office365"]["credentials"] |= credentials or {}
        self.file.write_text(json.dumps(document))
        self.file.chmod(0o600)

    async def run_once(self) -> Ended:
        """`m365watch run --once`, which tells no secret whatever happens."""
        run = await command("run", "--config", str(self.file), "--once")
        self.check_discreet(run)
        return run

    async def validate(self) -> Ended:
        """`m365watch run --validate`, as discreet."""
        run = await command("run", "--config", str(self.file), "--validate")
        self.check_discreet(run)
        return run

    def check_discreet(self, run: Ended) -> None:
        secret = self.running.tenants[0].identity.client_secret
        assert_discreet(run.out + run.err, secrets=[secret], records=self.truth.records())

    def check_complete(self) -> None:
        """Every output holds every record, once, byte for byte."""
        verdicts = {name: self.truth.judge(held) for name, held in self.place.holdings().items()}
        assert verdicts == dict.fromkeys(verdicts, FLAWLESS) != {}


@asynccontextmanager
async def scene_in(
    folder: Path, *, latency_s: float = 0.0, records_per_day: int = 80, cuts_blobs: bool = True
) -> AsyncIterator[Scene]:
    """A tenant that publishes nothing more; six days, so that a weekend makes little difference.

    Where it cuts blobs, a listing names what its window begins inside of too: more or less of them from one
    second to the next, under names that nobody has seen before.
    """
    settings = SimulationSettings(
        seed=5,
        days=6,
        records_per_day=records_per_day,
        page_size=20,
        latency_s=latency_s,
        live=False,
        scenario=Scenario(behaviour=Behaviour(cut_blobs=cuts_blobs)),
    )
    async with simulator_running(settings, clock=SystemClock()) as running:
        scene = Scene(Place(folder), running)
        scene.configure()
        yield scene
