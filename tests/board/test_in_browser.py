"""The pages in a browser: they work, complain of nothing, ask nobody else, and can be read by everybody."""

from __future__ import annotations

import asyncio
import os
from itertools import product
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from promises import guarantee

from browsing import (
    AXE,
    FEWER_ROWS,
    THEMES,
    VIOLATIONS,
    WIDTHS,
    InBrowser,
    Shown,
    _browser,
    browsing,
    in_browser,
)
from chromium import ANSWER_S, LOOK_S
from collected_week import CLOCK
from m365watch.board.pages.page_registry import PAGES
from m365watch.board.query.time_range import read_range
from m365watch.detection.alerts.triage import AlertsAsked, list_alerts
from m365watch.detection.detection_output import FILE_NAME

__all__ = ["_browser", "in_browser"]
PICTURES = os.environ.get("M365WATCH_PICTURES", "")
"""A folder for a picture of every page, at both widths, in both themes; empty: none are kept.

Where they are taken all rows of all tables are looked through.
"""
LOOKS = [*product(WIDTHS, THEMES)] if PICTURES else [*zip(WIDTHS, THEMES, strict=True)]
"""Each width and each theme once is enough: no colour hangs on the width, and no size on the theme."""
FIRST_LOAD_BYTES_MAX = 200_000


def keep_picture(name: str, picture: bytes) -> None:
    (Path(PICTURES) / f"{name}.png").write_bytes(picture)


@guarantee(45)
@pytest.mark.slow
def test_every_page_can_be_read_by_everybody(in_browser: InBrowser, collected: Path) -> None:
    """At both widths and in both themes: contrast, names, focus, no column out of sight, and no complaint."""
    axe = AXE.read_text()
    worst = list_alerts(next(collected.parent.rglob(FILE_NAME)), AlertsAsked())[0]

    async def act(page: Shown) -> None:
        found = []
        for one in PAGES:
            query = f"range=7d&alert={worst.alert.id}" if one.name == "alert" else "range=7d"
            await page.tab.look(WIDTHS[0], theme=THEMES[0])
            await page.tab.open(f"{page.url}/{one.name}?{query}")
            for width, theme in LOOKS:
                await page.tab.look(width, theme=theme)
                if PICTURES:
                    keep_picture(f"{one.name}-{width}-{theme}", await page.tab.picture())
                place = f"{one.name} {width} {theme}"
                assert await page.tab.run("document.documentElement.scrollWidth <= innerWidth"), place
                if width == WIDTHS[0] or one.name != "search":  # hits are read record by record
                    assert await page.tab.run(OUT_OF_SIGHT) == [], place
                assert await page.tab.run(CUT) == [], place
            await page.tab.run(axe if PICTURES else f"{FEWER_ROWS}; {axe}")
            for width, theme in reversed(LOOKS):
                await page.tab.look(width, theme=theme)
                found += [f"{one.name} {width} {theme}: {said}" for said in await page.tab.run(VIOLATIONS)]
        assert found == []

    in_browser(act)


OUT_OF_SIGHT = """
[...document.querySelectorAll(".scroll, .matrix")]
  .filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.ariaLabel)
"""
CUT = """
[...document.querySelectorAll(".tone > .value")]
  .filter((one) => getComputedStyle(one).display !== "inline"
    && one.getBoundingClientRect().right > one.parentElement.getBoundingClientRect().right)
  .concat([...document.querySelectorAll("td.whole > *")]
    .filter((one) => one.clientHeight && one.scrollHeight > one.clientHeight + 2)
    .filter((one) => one.textContent.length < 33))
  .map((one) => one.textContent)
"""
"""Values of which nothing is left, and names of a usual length that are cut."""


@pytest.mark.slow
def test_a_chart_is_brushed_to_a_time(in_browser: InBrowser) -> None:
    """Dragging over a chart leads to a URL with that time; the value that is clicked narrows it further."""

    async def act(page: Shown) -> None:
        await page.tab.look(1280)
        await page.tab.open(f"{page.url}/overview")
        place = await page.tab.run(
            "(({x, y, width, height}) => [x, y, width, height])"
            "(document.querySelector('#panel-activity .u-over').getBoundingClientRect())"
        )
        x, y, width, height = place
        await page.tab.drag((x + width * 0.5, y + height / 2), (x + width * 0.75, y + height / 2))
        await page.tab.until("location.search.includes('from=')")
        await page.tab.settled()

        asked = parse_qs(urlsplit(await page.tab.run("location.href")).query)
        assert set(asked) == {"from", "to"}
        counted = read_range({name: text for name, [text] in asked.items()}, now=CLOCK.now())
        assert {name: [text] for name, text in counted.query().items()} == asked
        await page.tab.click("#panel-shares a.value")
        await page.tab.until("document.querySelectorAll('.chip').length === 1")
        await page.tab.settled()

    in_browser(act)


HEADING_GAP = """
document.querySelector("#help .keys + h2").getBoundingClientRect().top
  - document.querySelector("#help .keys").getBoundingClientRect().bottom
"""


@pytest.mark.slow
def test_the_keyboard_leads_everywhere(in_browser: InBrowser) -> None:
    """Help, theme, time, pages and filters are reached without a pointer."""

    async def act(page: Shown) -> None:
        await page.tab.look(1280)
        await page.tab.open(f"{page.url}/overview?user=ann%40contoso.example")
        await page.tab.press("?")
        assert await page.tab.run("document.getElementById('help').open")
        assert await page.tab.run(HEADING_GAP) >= 12
        await page.tab.press("Escape")
        await page.tab.run("document.getElementById('help').close()")
        await page.tab.press("t")
        assert await page.tab.run("document.documentElement.dataset.theme") == "dark"
        await page.tab.press("x")
        await page.tab.until("!location.search.includes('user')")
        await page.tab.settled()
        await page.tab.press("[")
        await page.tab.until("location.search.includes('range=3d')")
        await page.tab.settled()
        assert await page.tab.run("document.documentElement.dataset.theme") == "dark"
        await page.tab.open(f"{page.url}/overview?from=2024-11-20T21:00Z&to=2024-11-21T05:00Z")
        await page.tab.press("[")
        await page.tab.until("new URLSearchParams(location.search).get('from') === '2024-11-20T23:00Z'")
        await page.tab.settled()
        await page.tab.press("]")
        await page.tab.until("new URLSearchParams(location.search).get('to') === '2024-11-21T05:00Z'")
        await page.tab.settled()
        await page.tab.press("g")
        await page.tab.press("2")
        await page.tab.until("location.pathname === '/sign-ins'")
        await page.tab.settled()
        await page.tab.press("g")
        await page.tab.press("0")
        await page.tab.until("location.pathname === '/health'")
        await page.tab.settled()
        await page.tab.press("g")
        await page.tab.press("t")
        await page.tab.until("location.pathname === '/trail'")
        await page.tab.settled()
        assert await page.tab.run("document.documentElement.dataset.theme") == "dark"

    in_browser(act)


@pytest.mark.slow
def test_no_key_of_the_page_acts_behind_a_dialog(in_browser: InBrowser) -> None:
    """The reason that somebody types is not lost by an x, and the change looked at not by a g and a digit."""
    keys = ("x", "r", "t", "[", "g", "1")
    see = "[location.pathname + location.search, document.documentElement.dataset.theme, window.stays]"

    async def act(page: Shown) -> None:
        for url, dialog in (
            ("/alerts?user=nobody%40contoso.example&severity=high", "dialog.reason"),
            ("/collectors?user=nobody%40contoso.example", "dialog.change"),
        ):
            await page.tab.open(page.url + url)
            await page.tab.run(f"window.stays = 1, document.querySelector('{dialog}').showModal()")
            await page.tab.run("document.querySelector('dialog[open] button').focus()")
            before = await page.tab.run(see)
            for key in keys:
                await page.tab.press(key)

            assert before[0] == url
            assert await page.tab.run(see) == before
            await page.tab.run(f"document.querySelector('{dialog}').close()")
            await page.tab.press("x")
            await page.tab.until("!location.search.includes('user=') && document.readyState === 'complete'")

    in_browser(act)


@pytest.mark.slow
def test_x_takes_filters_out_and_leaves_what_the_page_is_about(in_browser: InBrowser) -> None:
    """The editor of an input stays that input's; without a filter, what is typed into it stays too."""
    about = "instance=inputs.office365"

    async def act(page: Shown) -> None:
        await page.tab.open(f"{page.url}/instance?{about}&user=ann%40contoso.example&by=chosen")
        await page.tab.press("x")
        await page.tab.until("!location.search.includes('user=')")
        await page.tab.settled()
        assert about in await page.tab.run("location.search")
        await page.tab.run("window.stays = 1")
        await page.tab.press("x")
        await page.tab.until("document.getElementById('toasts').textContent === 'No filter is set'")
        assert await page.tab.run("window.stays") == 1

    in_browser(act)


@pytest.mark.slow
def test_a_panel_whose_answer_does_not_come_says_so_and_comes_back(in_browser: InBrowser) -> None:
    """No grey lines for ever: why, a way to try again, and what was there before stays in sight."""
    says = "(document.querySelector('#panel-people .why')?.innerText ?? '')"
    there = "document.querySelector('#panel-people .panel-body a')"
    again = "htmx.trigger(document.querySelector('#panel-people .panel-body'), 'again'), 1"

    async def act(page: Shown) -> None:
        await page.tab.call("Network.setBlockedURLs", urls=["*/panel/overview/people*"])
        await page.tab.open(f"{page.url}/overview")
        await page.tab.until(f"{says} === 'The board does not answer.'")
        assert await page.tab.run(f"!!document.querySelector('#panel-people .again') && !{there}")
        await page.tab.call("Network.setBlockedURLs", urls=[])
        await page.tab.run("dispatchEvent(new Event('online')), 1")
        await page.tab.until(f"!!{there} && !{says}")

        await page.tab.call("Network.setBlockedURLs", urls=["*/panel/overview/people*"])
        await page.tab.run(again)
        await page.tab.until(f"!!{there} && {says} === 'Not loaded anew: The board does not answer.'")
        await page.tab.call("Network.setBlockedURLs", urls=[])
        await page.tab.run("document.querySelector('#panel-people .again')?.click(), 1")
        await page.tab.until(f"!!{there} && !{says}")

        await page.tab.run(f"htmx.config.timeout = 1, {again}")
        await page.tab.until(f"{says} === 'Not loaded anew: No answer came within a minute.'")
        page.tab.complaints.clear()

    in_browser(act)


OPEN_PAGES = 8
"""More than the six connections that a browser has to a host."""


@pytest.mark.slow
def test_many_pages_are_open_at_once(collected: Path) -> None:
    """They share the connection by which they are told what is new; where its page goes, another has one."""

    async def act(page: Shown) -> None:
        await page.tab.open(f"{page.url}/overview")
        for number in range(OPEN_PAGES):
            await page.tab.run(
                f"(window.others ??= []).push(open('/health?range={('24h', '7d')[number % 2]}')), 1"
            )
        await page.tab.until(EVERY_PAGE_IS_TOLD)
        [first], waiting = await page.tab.run(CONNECTED)
        await page.tab.run("dispatchEvent(new PageTransitionEvent('pagehide')), 1")
        await page.tab.until(f"{CONNECTED}.then(([[next]]) => next && next !== {first!r})")

        assert waiting == OPEN_PAGES

    with browsing(collected) as do:
        do(act)


@pytest.mark.slow
def test_a_page_that_there_is_no_room_for_asks_by_itself(collected: Path) -> None:
    """One session has four connections for news; a fifth page is told, and asks again."""

    async def act(page: Shown) -> None:
        await page.tab.open(f"{page.url}/health")
        await page.tab.until("document.querySelector('.live-words').innerText !== 'connecting'")
        await page.tab.run("window.kept = [1, 2, 3].map((one) => new EventSource(`/live?of=${one}`)), 1")
        await page.tab.until("kept.every((one) => one.readyState === EventSource.OPEN)")
        await page.tab.run(
            "document.querySelector('#live').dataset.liveUrl = '/live?of=5',"
            " dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true})), 1"
        )
        await page.tab.until("document.querySelector('#live').title.includes('asks each minute')")

        assert await page.tab.run("document.querySelector('#live').dataset.state") != "lost"

    with browsing(collected) as do:
        do(act)


@pytest.mark.slow
def test_new_alerts_are_told_by_a_toast(in_browser: InBrowser) -> None:
    """By the name of the one that came; by their number after a time in which nobody could be told."""
    told = (
        "new BroadcastChannel(document.querySelector('#live').dataset.liveUrl).postMessage({news:"
        " {records: 1, alerts: %s, new: %s, feeds: 1, unread: ''}}), 1"
    )
    toasts = (
        "[...document.querySelectorAll('.toast')].map((one) => [one.innerText, one.pathname + one.search])"
    )

    async def act(page: Shown) -> None:
        await page.tab.open(f"{page.url}/health")
        await page.tab.until("document.querySelector('.live-words').innerText !== 'connecting'")
        await page.tab.run(told % (100_000, "null"))
        await page.tab.until("document.querySelectorAll('.toast').length === 1")
        await page.tab.run(told % (100_000, "{id: 'abcd', title: 'An intruder'}"))
        await page.tab.until("document.querySelectorAll('.toast').length === 2")

        assert await page.tab.run(toasts) == [
            ["New alerts wait", "/alerts"],
            ["New alert: An intruder", "/alert?alert=abcd"],
        ]

    in_browser(act)


@pytest.mark.slow
def test_a_refused_connection_for_news_is_tried_again(in_browser: InBrowser) -> None:
    """A proxy's 502 while the board was begun anew ended all news until the page was loaded again."""

    async def act(page: Shown) -> None:
        await page.tab.open(f"{page.url}/health")
        await page.tab.run("dispatchEvent(new PageTransitionEvent('pagehide')), 1")
        await page.tab.run(
            "document.querySelector('#live').dataset.liveUrl = '/not/there',"
            " dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true})), 1"
        )
        await page.tab.until("document.querySelector('#live').dataset.state === 'lost'")
        async with asyncio.timeout(ANSWER_S):
            while sum(one.endswith("/not/there") for one in page.tab.requests) < 2:
                await asyncio.sleep(LOOK_S)
        page.tab.complaints.clear()

    in_browser(act)


EVERY_PAGE_IS_TOLD = """
others.every(({document: page}) => page.readyState === "complete" && !page.querySelector(".skeleton")
  && !["", "connecting"].includes(page.querySelector("#live .live-words")?.textContent ?? ""))
"""
CONNECTED = """
navigator.locks.query().then(({held, pending}) => [held.map((one) => one.clientId), pending.length])
"""


def test_a_table_is_sorted_by_its_headings(in_browser: InBrowser) -> None:
    """Numbers sort as numbers, the largest first; a second click turns it round."""

    async def act(page: Shown) -> None:
        await page.tab.look(1280)
        await page.tab.open(f"{page.url}/overview")
        rows = "[...document.querySelectorAll('#panel-admin tbody tr')]"
        read = f"{rows}.map((row) => Number(row.cells[1].dataset.value))"
        click = "document.querySelectorAll('#panel-admin [data-sort]')[1].click()"
        await page.tab.run(click)
        down = await page.tab.run(read)
        await page.tab.run(click)

        assert down == sorted(down, reverse=True)
        assert await page.tab.run(read) == sorted(down)

    in_browser(act)


@pytest.mark.slow
def test_what_is_loaded_anew_stays_as_somebody_left_it(in_browser: InBrowser) -> None:
    """A table's order, where it was scrolled to, and the keyboard's place: news come every half minute."""
    panel = "document.querySelector('#panel-rules')"
    again = f"htmx.trigger({panel}.querySelector('.panel-body'), 'again')"
    see = (
        f"[{panel}.querySelector('.scroll').scrollTop, {panel}.querySelector('th[aria-sort]')?.ariaSort,"
        f" {panel}.querySelector('tbody tr').innerText, document.activeElement.innerText]"
    )

    async def act(page: Shown) -> None:
        await page.tab.look(1280)
        await page.tab.open(f"{page.url}/exchange?range=7d")
        await page.tab.run(
            f"{panel}.querySelectorAll('[data-sort]')[1].click(),"
            "document.styleSheets[0].insertRule('#panel-rules .scroll { max-height: 4rem }'),"
            f"{panel}.querySelectorAll('tbody a')[2].focus(), {panel}.querySelector('.scroll').scrollTop = 20"
        )
        before = await page.tab.run(see)
        await page.tab.run(
            f"{panel}.querySelector('tbody').dataset.old = 1, {again}, 1",
        )
        await page.tab.until(
            f"!{panel}.querySelector('tbody').dataset.old && !{panel}.querySelector('.skeleton')"
        )

        assert before[:2] == [20, "ascending"]
        assert await page.tab.run(see) == before

    in_browser(act)


@pytest.mark.slow
def test_a_first_look_is_small(in_browser: InBrowser) -> None:
    """Everything that a browser fetches for the overview, as it comes over the wire."""

    async def act(page: Shown) -> None:
        await page.tab.look(1280)
        await page.tab.open(f"{page.url}/overview")

        sizes = await page.tab.run(
            "[...performance.getEntriesByType('resource'), ...performance.getEntriesByType('navigation')]"
            ".reduce((sum, one) => sum + (one.transferSize || 0), 0)"
        )

        assert 20_000 < sizes < FIRST_LOAD_BYTES_MAX

    in_browser(act)
