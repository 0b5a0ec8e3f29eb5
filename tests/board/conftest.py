from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from asking import board_of, sources_of
from m365watch.app import Collector
from m365watch.board.serving import Board
from m365watch.board.sources import Sources
from m365watch.clock import SystemClock, system_random
from m365watch.config.load import load_settings
from m365watch.simulator.server import SimulationSettings, simulator_running


@pytest.fixture(scope="session")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a collector that has run over some days of a tenant, attacks included."""
    folder = tmp_path_factory.mktemp("board")

    async def collect() -> Path:
        simulated = SimulationSettings(seed=5, days=4, records_per_day=400, live=False)
        async with simulator_running(simulated, clock=SystemClock()) as running:
            document = running.configuration(outputs={"lake": {"type": "lake"}})
            path = folder / "m365watch.json"
            path.write_text(json.dumps(document))
            path.chmod(0o600)
            settings = load_settings(path, environment={})
            collector = Collector(settings, clock=SystemClock(), random=system_random(1))
            outcome = await collector.run(once=True, stop=asyncio.Event())
            assert outcome.exit_code == 0
            return path

    return asyncio.run(collect())


@pytest.fixture
def sources(collected: Path) -> Iterator[Sources]:
    """Where the pages come from."""
    found = sources_of(collected)
    yield found
    assert found.facts is not None
    found.facts.close()


@pytest.fixture
def board(sources: Sources) -> Board:
    """The pages over the lake."""
    return board_of(sources)
