"""The search in a browser: by the keyboard, part by part, and readable by everybody in all of its states."""

from __future__ import annotations

import json

import pytest

from browsing import AXE, VIOLATIONS, InBrowser, Shown, _browser, in_browser

pytestmark = pytest.mark.slow

__all__ = ["_browser", "in_browser"]
OLDER = """
(() => {
  const box = document.querySelector("[data-hits]");
  const times = [...box.querySelectorAll("td[data-value]")].map((cell) => Number(cell.dataset.value));
  const begin = Math.max(...times);
  box.dataset.more = `/search/part${location.search}&before=${Math.floor(begin / 86400) * 86400}&shown=0`;
  box.dispatchEvent(new CustomEvent("htmx:afterSwap", {bubbles: true, detail: {target: box.parentElement}}));
  return box.querySelectorAll("tbody > tr").length;
})()
"""
"""The panel as it is when only its newest day has been searched: the script goes on from there."""


def typed(text: str) -> str:
    """A script that types into the filter, at its end."""
    return (
        "(() => { const field = document.getElementById('filter'); field.focus();"
        f" field.value = {json.dumps(text)}; field.setSelectionRange(999, 999);"
        " field.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


@pytest.mark.slow
def test_a_search_by_the_keyboard(in_browser: InBrowser) -> None:
    """A completion is chosen by keys, older parts are added, a row opens its record, the search is kept."""

    async def act(page: Shown) -> None:
        tab = page.tab
        await tab.look(1280)
        await tab.open(f"{page.url}/search?range=30d")
        await tab.run(typed("workload:Azure"))
        await tab.until("!document.getElementById('filter-choices').hidden")
        await tab.press("ArrowDown")
        await tab.press("Enter")
        assert await tab.run("document.getElementById('filter').value") == "workload:AzureActiveDirectory "
        await tab.run("document.querySelector('[data-filter]').requestSubmit()")
        await tab.until("location.search.includes('q=workload')")
        await tab.settled()

        before = await tab.run(OLDER)
        await tab.until(f"document.querySelectorAll('.hits tbody > tr').length > {before}")
        await tab.until("document.querySelector('[data-stop]').hidden")
        await tab.run("document.querySelector('.hits tbody > tr > td:last-child').click()")
        await tab.until("document.querySelector('tr.under') !== null")
        await tab.run("document.getElementById('saved').open = true")
        await tab.run("document.getElementById('keep-name').value = 'Directory'")
        await tab.run("document.querySelector('[data-keep]').requestSubmit()")
        await tab.until("document.querySelector('.saved')?.innerText.includes('Directory')")
        await tab.run("document.querySelector('.syntax').open = true")
        await tab.run(AXE.read_text())
        found = await tab.run(VIOLATIONS.replace("run(document", "run('.searching'"))
        await tab.open(f"{page.url}/search?q=usr:x")
        assert await tab.run("document.getElementById('filter').ariaInvalid") == "true"
        assert found == []

    in_browser(act)


READ = """
(() => {
  const under = document.querySelector("tr.under");
  const rows = [...under.querySelectorAll(".fields tr")];
  return {
    high: Math.min(...rows.map((row) => row.getBoundingClientRect().height)),
    boxed: under.closest(".scroll").scrollHeight - under.closest(".scroll").clientHeight,
    wide: document.documentElement.scrollWidth - innerWidth,
  };
})()
"""


@pytest.mark.slow
def test_a_record_that_is_opened_in_a_search_can_be_read(in_browser: InBrowser) -> None:
    """Its fields are lines of the page, not of a box of some lines; on a phone each hit is a card."""

    async def act(page: Shown) -> None:
        tab = page.tab
        for width in (1280, 390):
            await tab.look(width)
            await tab.open(f"{page.url}/search?range=30d&q=op:UserLoggedIn")
            await tab.run("document.querySelector(\".hits a[href^='/record?']\").click()")
            await tab.until("document.querySelector('tr.under .fields tr') !== null")
            found = await tab.run(READ)
            assert 20 < found["high"] < 30, width
            assert found["boxed"] <= 1, width
            assert found["wide"] <= 0, width
        first = "document.querySelector('.hits tbody > tr > td:nth-child(4)')"
        assert await tab.run(f"{first}.dataset.of") == "Who"
        assert await tab.run(f"{first}.getBoundingClientRect().right <= innerWidth")

    in_browser(act)
