"""A tenant added to a running collector from the page, in a browser, and taken out again by one click."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from patience import PATIENCE_S

from browsing import AXE, VIOLATIONS, _browser, shown
from chromium import Tab
from configured import YAML
from m365watch.common.clock import SystemClock, system_random
from m365watch.config.loader import load_settings
from m365watch.runtime.collector import Collector
from m365watch.runtime.config_reload import Reload
from m365watch_simulator.service.identities import derive_identities
from m365watch_simulator.service.server import RunningSimulator, SimulationSettings, simulator_running

pytestmark = pytest.mark.slow

__all__ = ["_browser"]
LOOK_S = 0.05
SIMULATED = SimulationSettings(
    seed=8, tenants=derive_identities(8, count=2), days=1, records_per_day=40, live=False
)
OPEN = "document.querySelector('dialog.change').open"
REVIEW = "document.querySelector('form.editor').requestSubmit()"
TITLE = "document.getElementById('change-title').textContent"
STANDS = "document.getElementById('panel-standing').textContent"
CHOOSE_FILE = """((given) => {
  given.items.add(new File(["certificate"], "tenant.cer"));
  document.querySelector("[data-upload]").files = given.files;
})(new DataTransfer())"""
TRIED = "['yes', 'no'].includes(document.querySelector('.trial-says').dataset.broken)"


@asynccontextmanager
async def collecting(folder: Path) -> AsyncIterator[tuple[Path, RunningSimulator]]:
    """A collector that runs with the first of two tenants, and its configuration."""
    clock = SystemClock()
    async with simulator_running(SIMULATED, clock=clock) as running:
        document = running.configuration(outputs={"lake": {"type": "lake"}})
        del document["inputs"]["office365_2"]
        file = folder / "m365watch.json"
        file.write_text(json.dumps(document, indent=2))
        file.chmod(0o600)
        settings = load_settings(file, environment={})
        reload = Reload([file], lambda _: load_settings(file, environment={}), clock)
        stop = asyncio.Event()
        collector = Collector(settings, clock=clock, random=system_random(1), reload=reload)
        run = asyncio.create_task(collector.run(once=False, stop=stop))
        try:
            await until(lambda: tenants_in(folder) == {running.tenants[0].identity.tenant_id})
            yield file, running
        finally:
            stop.set()
            await run


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await asyncio.to_thread(holds):
            await asyncio.sleep(LOOK_S)


def tenants_in(folder: Path) -> set[str]:
    """Those whose records are in the lake."""
    lake = folder / "lake" / "audit"
    if not (lake / "_delta_log").exists():
        return set()
    return set(DeltaTable(lake).to_pyarrow_dataset().to_table(columns=["tenant_id"])["tenant_id"].to_pylist())


async def put(tab: Tab, text: str) -> None:
    """What somebody types into the editor."""
    await tab.run(
        f"((box) => {{ box.value = {json.dumps(text)}; box.dispatchEvent(new Event('input'"
        ", {bubbles: true})); })(document.getElementById('instance-text'))"
    )


async def can_be_read(tab: Tab) -> list[Any]:
    assert await tab.run("document.documentElement.scrollWidth <= innerWidth")
    await tab.run(AXE.read_text())
    found: list[Any] = await tab.run(VIOLATIONS)
    return found


@pytest.mark.slow
def test_a_tenant_is_added_and_its_records_arrive(tmp_path: Path) -> None:
    """Typed, judged, tried, held against what came in between, put in, collected, undone by one click."""

    async def act() -> None:
        async with collecting(tmp_path) as (file, running), shown(file, SystemClock()) as page:
            tab, before = page.tab, file.read_text() + "\n"
            new = running.configuration()["inputs"]["office365_2"]
            await tab.look(1280)
            await tab.open(f"{page.url}/instance?instance=inputs")
            await tab.until("document.querySelectorAll('.mistake .at-line').length === 3")
            assert await tab.run("document.querySelector('form.editor button.main').disabled")
            await put(tab, "{")
            await tab.until("document.querySelectorAll('.mistake').length === 1")
            [said] = await tab.run("[...document.querySelectorAll('.mistake')].map((one) => one.textContent)")
            assert said.count("line 1") == 1
            assert await can_be_read(tab) == []

            base = await tab.run("document.querySelector('form.editor').dataset.base")
            await put(tab, json.dumps(new, indent=2))
            await tab.until("!document.querySelector('.mistake')")
            assert not await tab.run("document.querySelector('form.editor button.main').disabled")
            await tab.click("[data-try-typed]")
            await tab.until(TRIED)
            assert await tab.run("document.querySelector('.trial-says').dataset.broken") == "no"
            file.write_text(before)
            await tab.run(REVIEW)
            await tab.until(f"{OPEN} && {TITLE}.includes('changed meanwhile')")
            assert "Load" not in await tab.run("document.querySelector('dialog.change').textContent")
            await tab.click("[data-change-apply]")
            await tab.until(f"!{OPEN} && document.querySelector('form.editor').dataset.base !== '{base}'")
            await tab.run(REVIEW)
            await tab.until(OPEN)
            assert "within seconds" in await tab.run("document.querySelector('dialog .then').textContent")
            difference = await tab.run("document.querySelector('.difference').textContent")
            assert new["credentials"]["tenant_id"] in difference
            assert new["credentials"]["client_secret"] not in difference
            assert await can_be_read(tab) == []
            await tab.click("[data-change-apply]")
            await tab.until("location.pathname === '/collectors'")
            await tab.settled()
            await until(lambda: tenants_in(tmp_path) == {one.identity.tenant_id for one in running.tenants})

            await tab.look(390, theme="light")
            await tab.open(f"{page.url}/collectors")
            assert await tab.run("document.querySelectorAll('.instances .instance').length") == 3
            assert await can_be_read(tab) == []
            await tab.click("[data-at-once]")
            await until(lambda: file.read_text() == before)
            await tab.until("document.querySelectorAll('.past li').length === 2")
            assert [one for one in tab.complaints if "409" not in one] == []

    asyncio.run(act())


@pytest.mark.slow
def test_an_open_page_goes_with_what_becomes_of_the_file(tmp_path: Path) -> None:
    """Refused, and taken up again: the page says so by itself, although no record and no alert has come."""

    async def act() -> None:
        async with collecting(tmp_path) as (file, _), shown(file, SystemClock()) as page:
            tab, right = page.tab, file.read_text()
            document = json.loads(right)
            document["outputs"]["bad"] = {"type": "lake", "config": {"no_such_key": 1}}
            await tab.look(1280)
            await tab.open(f"{page.url}/collectors")
            await tab.until(f"{STANDS}.includes('in use') && document.getElementById('live').dataset.state")
            file.write_text(json.dumps(document))
            await tab.until(f"{STANDS}.includes('refused')")
            file.write_text(right)
            await tab.until(f"{STANDS}.includes('in use')")

    asyncio.run(act())


@pytest.mark.slow
def test_a_certificate_is_uploaded_from_the_editor(tmp_path: Path) -> None:
    """The text names the file that the state directory has, and the file is its owner's alone."""
    file = tmp_path / "m365watch.yaml"
    file.write_text(YAML)
    file.chmod(0o600)

    async def act() -> None:
        async with shown(file, SystemClock()) as page:
            tab = page.tab
            await tab.look(1280)
            await tab.open(f"{page.url}/instance?instance=inputs")
            await tab.until("document.querySelectorAll('.mistake').length === 3")
            await tab.run(CHOOSE_FILE)
            await tab.click("[data-upload-all]")
            await tab.until("document.getElementById('instance-text').value.includes('/uploads/inputs.')")
            [kept] = (tmp_path / "state" / "uploads").glob("*/*")
            assert (kept.read_text(), kept.stat().st_mode & 0o777) == ("certificate", 0o600)
            assert str(kept) in await tab.run("document.getElementById('instance-text').value")
            await tab.look(390)
            assert await can_be_read(tab) == []

    asyncio.run(act())
