"""An analyst's shift in a browser: the intruder is found by clicks, and alerts are worked on by keys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from promises import guarantee

from browsing import AXE, FEWER_ROWS, VIOLATIONS, InBrowser, Shown, _browser, in_browser
from collected_week import TRUTH
from m365watch.detection.alerts.stored_alert import AlertState
from m365watch.detection.alerts.triage import AlertsAsked, find_alert, list_alerts, set_states
from m365watch.detection.detection_output import FILE_NAME

pytestmark = pytest.mark.slow

__all__ = ["_browser", "in_browser"]
CLICKS_MAX = 4
TAKEOVER = "Mailbox takeover (BEC)"
WIDTHS = (1280, 390)
RELOAD = """
new Promise((done) => {
  const queue = document.querySelector("#panel-queue .panel-body");
  queue.addEventListener("htmx:afterSettle", () => done(1), {once: true});
  htmx.trigger(queue, "again");
})
"""
"""The queue loaded anew, as new records make it."""


class Analyst:
    """Clicks on what can be seen, and counts."""

    def __init__(self, page: Shown) -> None:
        self.tab = page.tab
        self.clicks = 0

    async def click(self, words: str, within: str) -> None:
        """On the first link below `within` that has these words."""
        self.clicks += 1
        await self.tab.run(
            f"[...document.querySelectorAll({json.dumps(within + ' a')})]"
            f".find((link) => link.innerText.includes({json.dumps(words)})).click()"
        )

    async def arrive(self, path: str) -> None:
        """Wait until the page of that path is there."""
        await self.tab.until(f"location.pathname === {json.dumps(path)}")
        await self.tab.settled()


@guarantee(45)
@pytest.mark.slow
def test_the_takeover_is_found_in_four_clicks(in_browser: InBrowser, collected: Path) -> None:
    """From the overview to a record of the intruder's, at its victim: alert, person, record.

    However many mailboxes were taken over by now: the way leads to the first that is to be read.
    """
    attacks = json.loads((collected.parent / TRUTH).read_bytes())
    takeovers = [one for one in attacks if one["story"] == "inbox_rule_forwarding"]

    async def act(page: Shown) -> None:
        analyst, tab = Analyst(page), page.tab
        await tab.look(1280)
        await tab.open(f"{page.url}/overview")
        await analyst.click(TAKEOVER, "#panel-alerts")
        await analyst.arrive("/alert")
        evidence = await tab.run("document.querySelector('#panel-evidence').textContent")
        await analyst.click("@", ".case .ways")
        await analyst.arrive("/investigate")
        victim = await tab.run("new URLSearchParams(location.search).get('user')")
        assert await tab.run("document.querySelectorAll('.lanes .mark').length") > 0
        await analyst.click(":", "#panel-records td:first-child")
        await tab.until("!!document.querySelector('.under .record')")

        assert analyst.clicks <= CLICKS_MAX
        records = [
            one_id for one in takeovers if one["entities"]["user"] == [victim] for one_id in one["record_ids"]
        ]
        assert any(one in evidence for one in records)

    in_browser(act)


@pytest.mark.slow
def test_alerts_are_worked_on_by_keys(in_browser: InBrowser, collected: Path) -> None:
    """Two are selected and closed with a reason; x selects here; a board started anew is no hindrance."""

    async def act(page: Shown) -> None:
        tab = page.tab
        await tab.look(1280)
        await tab.open(f"{page.url}/alerts?range=7d&severity=informational")
        ids = await tab.run("[...document.querySelectorAll('.waiting')].map((row) => row.dataset.alert)")
        for key in ("j", "x", "j", "x"):
            await tab.press(key)
        assert await tab.run("document.querySelector('[data-chosen]').textContent") == "2 selected"
        assert await tab.run("location.search.includes('severity')")
        await tab.press("c")
        await tab.run(RELOAD)
        assert await tab.run("document.querySelector('dialog.reason').open")
        await tab.run("document.querySelector('.reason textarea').value = 'a drill'")
        await tab.press("Enter")
        await tab.until(f"!document.querySelector('.waiting[data-alert=\"{ids[0]}\"]')")
        await tab.press("j")
        await tab.press("Enter")
        await tab.until("location.pathname === '/alert'")
        await tab.settled()
        # As after a restart of the board: the page's token is one of a board before.
        await tab.run("document.querySelector('meta[name=csrf-token]').content = 'old'")
        await tab.press("a")
        await tab.until("!!document.querySelector('.case .state.acknowledged')")
        assert all("403" in one for one in tab.complaints)
        tab.complaints.clear()
        await tab.press("b")
        await tab.until("location.pathname === '/alerts'")
        await tab.settled()
        closed = [find_alert(path, one) for one in ids[:2]]
        assert {(one.state, one.reason, one.changed_by) for one in closed} == {
            (AlertState.CLOSED, "a drill", "local user")
        }

    path = next(collected.parent.rglob(FILE_NAME))
    try:
        in_browser(act)
    finally:
        set_states(path, _changed(path), AlertState.OPEN, reason="", by="", at_ms=0)


def _changed(path: Path) -> list[str]:
    states = frozenset({AlertState.CLOSED, AlertState.ACKNOWLEDGED})
    return [one.alert.id for one in list_alerts(path, AlertsAsked(states=states))]


@pytest.mark.slow
def test_an_investigation_can_be_read_by_everybody(in_browser: InBrowser, collected: Path) -> None:
    """With somebody named: contrast, names and sideways scrolling, at both widths and in both themes."""
    attacks = json.loads((collected.parent / TRUTH).read_bytes())
    [victim] = [one["entities"]["user"] for one in attacks if one["story"] == "inbox_rule_forwarding"][-1]

    async def act(page: Shown) -> None:
        for width, theme in zip(WIDTHS, ("dark", "light"), strict=True):
            await page.tab.look(width, theme=theme)
            await page.tab.open(f"{page.url}/investigate?user={victim}&by={theme}")
            assert await page.tab.run("document.documentElement.scrollWidth <= innerWidth")
            await page.tab.click("#panel-records td a")
            await page.tab.until("!!document.querySelector('.under .record')")
            await page.tab.run(f"{FEWER_ROWS}; {AXE.read_text()}")
            assert await page.tab.run(VIOLATIONS) == []

    in_browser(act)
