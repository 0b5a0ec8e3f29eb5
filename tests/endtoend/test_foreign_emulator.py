"""The collector leans on nothing that only the simulator does."""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path
from typing import Any

import pytest
from promises import guarantee
from structlog.testing import capture_logs

from emulator.content import make_store
from emulator.faults import Fault
from emulator.server import CLIENT, NEW, OLD, SECRET, TENANT, Emulator, Manner, emulator_running
from hurry import PATIENCE_HURRIED_S, HurriedClock, run_hurried
from m365watch.runtime.collector_run import Outcome
from place import BOTH, Place, assert_discreet

FLAWLESS = {"missing": 0, "duplicates": 0, "altered": 0}


def document_for(emulator: Emulator) -> dict[str, Any]:
    """The configuration of another tenant: only `cloud` tells that it is no cloud of Microsoft's."""
    office365 = {
        "id": "4711",
        "cloud": {"login_url": emulator.url, "management_url": emulator.url},
        "credentials": {"tenant_id": TENANT, "client_id": CLIENT, "client_secret": SECRET},
    }
    return {"inputs": {"office365": office365}, "outputs": BOTH}


@guarantee(1, 24)
@pytest.mark.slow
@pytest.mark.parametrize("manner", [OLD, NEW], ids=["v1", "v2"])
def test_another_service_is_collected_without_loss(manner: Manner, tmp_path: Path) -> None:
    """Other ids, pages, timings, headers and faults: missing 0, duplicates 0, altered 0."""
    place = Place(tmp_path)
    clock = HurriedClock()
    store = make_store(seed=9, now=clock.now())

    async def run(emulator: Emulator) -> list[Outcome]:
        outcomes = []
        for emulator.released in (False, True):
            collector = place.collector(document_for(emulator), clock)
            async with asyncio.timeout(PATIENCE_HURRIED_S):
                outcomes.append(await collector.run(once=True, stop=asyncio.Event()))
        return outcomes

    with capture_logs() as said, emulator_running(store, manner, now=clock.now) as emulator:
        outcomes = run_hurried(run(emulator))

    assert [(outcome.exit_code, outcome.problems) for outcome in outcomes] == [(0, ()), (0, ())]
    assert {name: store.faults_in(held) for name, held in place.holdings().items()} == {
        "files": FLAWLESS,
        "lake": FLAWLESS,
    }
    assert store.record_count > 900
    assert emulator.odd == []
    assert set(emulator.faults.met) == set(Fault)
    assert_discreet(str(said), secrets=[SECRET], records=place.holdings()["files"])


def test_the_emulator_shares_nothing_with_the_simulator() -> None:
    """It is written from the contract alone, or it would prove nothing."""
    modules = list(Path(__file__).with_name("emulator").glob("*.py"))
    imports = [
        alias.name if isinstance(node, ast.Import) else node.module or ""
        for module in modules
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    ]

    assert [name for name in imports if name.startswith("m365watch")] == []
