"""A link opens the board in a browser, and SQL is asked there."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from browsing import AXE, THEMES, VIOLATIONS, WIDTHS, InBrowser, Shown, _browser, in_browser, served
from chromium import chromium
from collected_week import CLOCK
from m365watch.board.access.one_time_links import OpenLinks, link_to
from m365watch.config.loader import load_settings

pytestmark = pytest.mark.slow

__all__ = ["_browser", "in_browser"]


@pytest.mark.slow
def test_a_link_leads_to_its_page_and_leaves_a_clean_address(collected: Path) -> None:
    """The code is not in the history; a second browser is told what to do, and can paste another link."""
    links = OpenLinks(load_settings(collected, environment={}, for_reading=True).state_directory)

    async def act() -> None:
        async with served(collected) as url, chromium() as browser:
            link = link_to(url, links.create(CLOCK.now()), page="/trail")
            async with browser.tab() as tab:
                await tab.call("Page.navigate", url=link)
                await tab.until("location.pathname === '/trail'")
                await tab.settled()
                assert await tab.run("location.href") == f"{url}/trail"
                assert await tab.run("document.querySelector('.who b').innerText") == "local user"
                past = await tab.call("Page.getNavigationHistory")
                assert not [one for one in past["entries"] if "#" in one["url"]]
                assert tab.complaints == []
            async with browser.tab() as tab:
                await tab.call("Page.navigate", url=link)
                await tab.until("document.body?.innerText.includes('was used already')")
                for width, theme in zip(WIDTHS, THEMES, strict=True):
                    await tab.look(width, theme=theme)
                    await tab.run(AXE.read_text())
                    assert await tab.run(VIOLATIONS) == []
                    assert await tab.run("document.documentElement.scrollWidth <= innerWidth")
                other = json.dumps(link_to(url, links.create(CLOCK.now())))
                await tab.run(f"document.getElementById('code').value = {other}")
                await tab.click(".door-form button")
                await tab.until("location.pathname === '/trail'")

    asyncio.run(act())


@pytest.mark.slow
def test_sql_runs_when_somebody_says_so(in_browser: InBrowser) -> None:
    """A link fills the editor; Run answers, and the address has the SQL, to be kept and to be exported."""

    async def act(page: Shown) -> None:
        tab = page.tab
        await tab.open(f"{page.url}/sql?sql=SELECT+40%2B2+AS+n")
        assert "not run yet" in await tab.run("document.getElementById('panel-answer').innerText")
        assert await tab.run("document.getElementById('sql').value") == "SELECT 40+2 AS n"
        await tab.click("[data-ask] .go")
        await tab.until("document.querySelector('#panel-answer td')?.innerText === '42'")
        await tab.run("document.getElementById('sql').value = 'SELECT 7*9 AS n'")
        await tab.click("[data-ask] .go")
        await tab.until("document.querySelector('#panel-answer td')?.innerText === '63'")
        assert await tab.run("new URL(location.href).searchParams.get('sql')") == "SELECT 7*9 AS n"
        await tab.press("r")
        await tab.until("document.querySelector('#panel-answer td')?.innerText === '63'")
        assert not [one for one in tab.requests if "/panel/sql" in one and "SELECT" in one]

    in_browser(act)
