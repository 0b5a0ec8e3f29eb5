"""`Collector.validate`: what would keep a run from working is found without collecting."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S

from m365watch.common.clock import SystemClock, system_random
from m365watch.common.errors import (
    CollectorError,
    CredentialsRefused,
    LedgerHeld,
    OutputUnavailable,
    OutputUnusable,
)
from m365watch.config.loader import parse_settings
from m365watch.ledger.sqlite_ledger import SqliteLedger
from m365watch.registry.output_specs import OutputSettings
from m365watch.runtime.collector import Collector
from m365watch_simulator.service.server import RunningSimulator, SimulationSettings, simulator_running
from m365watch_testing.outputs import FakeOutput

OUTPUTS = {name: {"type": "files", "config": {"directory": name}} for name in ("one", "two")}
UNUSABLE = OutputUnusable("the certificate has expired", fix="get a new one", where="output one")


class Away(FakeOutput):
    """Its receiver is out of reach, which keeps no run from starting."""

    trouble = OutputUnavailable("the connection was refused", where="output one")


class Unusable(FakeOutput):
    async def open(self, *, last_batch: int, position: str, newest_batch: int | None = None) -> int:
        raise UNUSABLE


def validate(
    folder: Path,
    *,
    change: Callable[[dict[str, Any]], None] = lambda _document: None,
    outputs: dict[str, FakeOutput] | None = None,
    around: Callable[[Path], Awaitable[None]] | None = None,
) -> tuple[tuple[CollectorError, ...], dict[str, FakeOutput]]:
    """What was found, and the outputs afterwards."""
    made = outputs or {name: FakeOutput(name) for name in OUTPUTS}

    def build(settings: OutputSettings) -> FakeOutput:
        return made[settings.name]

    async def use(running: RunningSimulator) -> tuple[CollectorError, ...]:
        document = running.configuration(outputs=OUTPUTS)
        change(document)
        settings = parse_settings(document, path=folder / "c.json", environment={})
        if around is not None:
            await around(settings.state_directory)
        collector = Collector(settings, clock=SystemClock(), random=system_random(1), build_output=build)
        async with asyncio.timeout(PATIENCE_S):
            return await collector.validate()

    async def main() -> tuple[CollectorError, ...]:
        settings = SimulationSettings(seed=3, days=1, records_per_day=60, live=False)
        async with simulator_running(settings, clock=SystemClock()) as running:
            return await use(running)

    return asyncio.run(main()), made


def test_what_works_is_found_without_collecting(tmp_path: Path) -> None:
    """Each tenant's token and subscriptions, each output opened and closed again; no record is fetched."""
    found, outputs = validate(tmp_path)

    assert found == ()
    assert [output.batches for output in outputs.values()] == [[], []]


def test_every_problem_is_found_in_one_go(tmp_path: Path) -> None:
    """An output that cannot start does not hide a secret that has expired."""

    def spoil(document: dict[str, Any]) -> None:
        (given,) = document["inputs"].values()
        given["credentials"]["client_secret"] = "quite-another"

    outputs = {"one": Unusable("one"), "two": FakeOutput("two")}
    found, _ = validate(tmp_path, change=spoil, outputs=outputs)

    assert found[0] is UNUSABLE
    assert [type(error) for error in found[1:]] == [CredentialsRefused]
    assert "quite-another" not in str(found[1])


def test_a_ledger_that_another_process_holds_is_told(tmp_path: Path) -> None:
    """The settings of a running collector are not tried on its own ledger."""
    held: list[SqliteLedger] = []

    async def hold(state: Path) -> None:
        held.append(SqliteLedger(state, outputs=frozenset(OUTPUTS), now=SystemClock().now()))

    try:
        with pytest.raises(LedgerHeld):
            validate(tmp_path, around=hold)
    finally:
        held[0].close()


def test_a_receiver_out_of_reach_is_named(tmp_path: Path) -> None:
    """A run would start and wait for it; who validates wants to know."""
    problems, _ = validate(tmp_path, outputs={"one": Away("one"), "two": FakeOutput("two")})

    assert problems == (Away.trouble,)
